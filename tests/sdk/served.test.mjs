// What the hub serves to pages of other origins: script tags, and modules with an import map. No build.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { client } from './dashboard.mjs';
import { startHub } from './hub.mjs';
import { startSite } from './site.mjs';

const STATIC = new URL('../../static/', import.meta.url);
const head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Elsewhere</title>';

let hub;
let site;
let browser;

before(async () => {
  const pages = {};
  site = await startSite(() => hub, { pages, folder: new URL('node_modules/vue/dist/', import.meta.url) });
  hub = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]), 'login.policy': 'multi' });
  const from = `${hub.origin}/static`;
  pages['/scripts'] = `${head}<script src="${from}/presence.js"></script><script src="${from}/elements.js" data-token-url="/token/ann"></script>
    <presence-dot user="bob"></presence-dot>`;
  const imports = {
    vue: '/vue.esm-browser.prod.js',
    'presence-hub': `${from}/presence.mjs`,
    'presence-hub/elements': `${from}/elements.mjs`,
    'presence-hub/vue': `${from}/vue.mjs`,
  };
  pages['/modules'] = `${head}<script type="importmap">${JSON.stringify({ imports })}</script><presence-dot user="bob"></presence-dot><div id="app"></div>
    <script type="module">
      import { createApp } from 'vue';
      import { PresenceClient } from 'presence-hub';
      import elements from 'presence-hub/elements';
      import { providePresence, usePresence } from 'presence-hub/vue';
      const client = new PresenceClient({ url: '${hub.origin.replace('http', 'ws')}/ws', getToken: () => fetch('/token/ann').then((answer) => answer.text()) });
      const Bob = { setup: () => ({ bob: usePresence('bob') }), template: '<p>{{ bob?.state }}</p>' };
      createApp({ components: { Bob }, setup: () => providePresence(client), template: '<Bob />' }).mount('#app');
      elements.client = client;
    </script>`;
  await client(hub, 'bob', 'mac');
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
  await site?.stop();
});

test('two script tags from the hub find the hub', async () => {
  const page = await browser.open(`${site.origin}/scripts`);
  await page.locator('presence-dot[state=Online]').getByText('Online').waitFor();
});

test('modules from the hub work with an import map', async () => {
  const page = await browser.open(`${site.origin}/modules`);
  await page.locator('presence-dot[state=Online]').waitFor();
  await page.locator('p').getByText('Online').waitFor();
});

test('the hub serves every module of the package that a page may import to all origins', async () => {
  const { exports } = JSON.parse(await readFile(new URL('package.json', STATIC), 'utf8'));
  const files = JSON.stringify(exports).match(/[\w.]+\.m?js(?=")/g).filter((name) => !/\.d\.|^test\.mjs/.test(name));
  assert.ok(files.length > 6);
  for (const name of new Set([...files, 'bindings.mjs'])) {
    const { status, headers } = await fetch(`${hub.origin}/static/${name}`, { headers: { Connection: 'close' } });
    assert.deepEqual([status, headers.get('access-control-allow-origin')], [200, '*'], name);
  }
});
