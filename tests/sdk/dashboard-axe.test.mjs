// Checks every screen of the dashboard for accessibility with axe-core, in both themes and both languages.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { SCREENS, barriers, client, dashboard, go, overflow } from './dashboard.mjs';
import { startHub } from './hub.mjs';

let browser;
let hub;
let clients;

before(async () => {
  hub = await startHub({ 'login.policy': 'multi' });
  browser = await startBrowser();
  clients = await Promise.all([client(hub, 'alice', 'ios', 'phone'), client(hub, 'alice', 'web'), client(hub, 'bob', 'mac')]);
  clients[2].subscribe('alice', () => {});
  await clients[0].lost();
  await clients[2].setStatus('away');
});

after(async () => {
  await Promise.all(clients?.map((it) => it.logout()) ?? []);
  await browser?.stop();
  await hub?.stop();
});

for (const colorScheme of ['light', 'dark']) {
  for (const [locale, width] of [
    ['en', 1280],
    ['zh', 1280],
    ['en', 390],
  ]) {
    describe(`${colorScheme}, ${locale}, ${width} px`, () => {
      test('every screen', async () => {
        const page = await dashboard(browser, hub, '#/overview', { colorScheme, locale, viewport: { width, height: 900 } });
        assert.equal(await page.getAttribute('html', 'lang'), locale === 'zh' ? 'zh-CN' : 'en');
        for (const address of [...SCREENS.map((screen) => `#/${screen}`), '#/users/alice']) {
          await go(page, address);
          await page
            .locator('#screen')
            .getByText(/alice|[●○✓]|refused|拒绝/)
            .first()
            .waitFor();
          if (address === '#/users/alice') await page.locator('hub-timeline .mark').first().waitFor();
          assert.deepEqual(await barriers(page), [], address);
          const tooWide = await overflow(page);
          assert.ok(tooWide <= 0, `${address} is ${tooWide} px too wide`);
        }
        await page.click('#kick-all');
        assert.deepEqual(await barriers(page), [], 'the dialog');
        await page.click('#confirm-no');
        await page.click('#logout');
        await page.locator('#key-form').waitFor();
        assert.deepEqual(await barriers(page), [], 'the form');
      });
    });
  }
}
