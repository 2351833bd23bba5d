// The elements in three browsers: what they show, what they send, and axe-core's opinion of them.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { HOSTILE, client } from './dashboard.mjs';
import { until } from './embed.mjs';
import { engines } from './engines.mjs';
import { startHub } from './hub.mjs';
import { startSite } from './site.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const LONG = '汉'.repeat(42) + 'ab'; // 128 bytes
const IDS = [HOSTILE, `"'><b>&amp;`, '\u202eright\u202c \u05d0\u05d1', LONG, '__proto__', 'a,b'];

let hub;
let site;
let bob;

/** A page with the SDK and the elements, by script tags. */
const page = (body, { attributes = '', lang = 'en' } = {}) => `<!doctype html><html lang="${lang}"><meta charset="utf-8"><title>Elements</title>
  <meta name="viewport" content="width=device-width"><script src="/counter.js"></script><script src="/static/presence.js"></script>
  <script src="/static/elements.js" ${attributes}></script><main><h1>Elements</h1>${body}</main>`;

/** Sets a user's watch list, and other things that the back end may do. */
async function put(path, body, method = 'PUT') {
  const answer = await fetch(`${hub.origin}/v1/users/${path}`, { method, headers: { 'X-API-Key': hub.adminKey }, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
}

before(async () => {
  const pages = {};
  site = await startSite(() => hub, { pages });
  hub = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]), 'login.policy': 'multi' });
  const given = (user) => `data-hub="${hub.origin.replace('http', 'ws')}/ws" data-token-url="/token/${user}"`;
  const all = '<presence-self></presence-self><p>Bob: <presence-dot user="bob"></presence-dot></p><presence-kicked></presence-kicked>';
  Object.assign(pages, { '/plain': page('', {}) });
  for (const engine of engines) {
    const me = `me-${engine.name}`;
    pages[`/${engine.name}`] = page(all, { attributes: given(me) });
    await put(`${me}/watch-list`, { users: ['bob', 'carol', 'dave'] });
  }
  bob = await client(hub, 'bob', 'mac');
  await client(hub, 'carol', 'ios', 'phone').then((it) => it.lost());
});

after(async () => {
  await hub?.stop();
  await site?.stop();
});

test('elements.js has at most 4 KiB compressed', () => {
  const size = gzipSync(readFileSync(new URL('../../static/elements.js', import.meta.url)), { level: 9 }).length;
  assert.ok(size <= 4 * 1024, `${size} bytes`);
});

test('on a server, elements.mjs does nothing', async () => {
  const { default: elements } = await import('../../static/elements.mjs');
  assert.equal(elements.client, null);
  assert.equal(elements.nameOf('alice'), 'alice');
});

/** The text of an element's part; null, if it has no such part. */
const text = (page, element, part) => page.evaluate(
  (element, part) => document.querySelector(element).shadowRoot.querySelector(`[part=${part}]`)?.textContent ?? null,
  element, part
);
const shows = (page, element, part, wanted) => until(`${element}: ${wanted}`, async () => (await text(page, element, part)) === wanted);
/** The rows of the list: names, words and custom statuses. */
const rows = (page) => page.evaluate(() => {
  const items = document.querySelector('presence-list').shadowRoot.querySelectorAll('[part=item]');
  return [...items].map((row) => [...row.querySelectorAll('[part=name], [part=word], [part=custom]')].map((it) => it.textContent));
});
/** The messages of these types that the page has sent so far. */
const sent = (page, ...types) => page.evaluate((types) => sent.filter(({ type }) => types.includes(type)), types);
/** Puts elements on the page, and gives it a client of this user. */
const place = (page, user, body) => page.evaluate((user, hub, elements) => {
  for (const [tag, attributes, users] of elements) {
    const it = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
    if (users) it.users = users;
    document.querySelector('main').append(it);
  }
  const getToken = () => fetch(`/token/${user}`).then((answer) => answer.text());
  PresenceElements.client = new PresenceHub.PresenceClient({ url: `${hub.replace('http', 'ws')}/ws`, user, getToken });
}, user, hub.origin, body);
const connected = (page) => until('connected', () => page.evaluate(() => PresenceElements.client.state === 'connected'));

for (const engine of engines) {
  const isLeft = process.env.WITHOUT_ENGINES?.split(' ').includes(engine.name);
  describe(engine.name, { skip: isLeft && 'left out' }, () => {
    let browser;
    const me = `me-${engine.name}`;
    const open = (path = '/plain') => browser.open(site.origin + path);

    before(async () => {
      if (engine.missing) throw new Error(engine.missing);
      browser = await engine.start();
    });
    after(() => browser?.stop());

    test('two script tags show who is online, and one connection is enough', async () => {
      const page = await open(`/${engine.name}`);
      await shows(page, 'presence-dot', 'word', 'Online');
      await shows(page, 'presence-self', 'word', 'Online');
      assert.equal(await page.evaluate(() => document.querySelector('presence-dot').getAttribute('state')), 'Online');
      await bob.logout();
      await shows(page, 'presence-dot', 'word', 'Offline');
      await bob.connect({ force: true });
      await shows(page, 'presence-dot', 'word', 'Online');
      assert.equal(await page.evaluate(() => sockets.length), 1);
      assert.deepEqual((await sent(page, 'subscribe', 'unsubscribe')).map(({ type, users }) => [type, users.sort()]), [['subscribe', ['bob', me]]]);
      await page.close();
    });

    test('a custom status is set, shown and refused', async () => {
      const page = await open(`/${engine.name}`);
      await shows(page, 'presence-self', 'word', 'Online');
      const submit = (value) => page.evaluate((value) => {
        const form = document.querySelector('presence-self').shadowRoot.querySelector('form');
        form[0].value = value;
        form[1].click();
      }, value);
      await submit('at lunch');
      await until('the status is set', () => page.evaluate((me) => PresenceElements.client.get(me)?.custom === 'at lunch', me));
      await submit('汉'.repeat(100));
      await shows(page, 'presence-self', 'error', 'Not saved (> 256 B)');
      await page.evaluate(() => (document.documentElement.lang = 'zh-CN'));
      await shows(page, 'presence-self', 'error', '未保存 (> 256 B)');
      await submit('');
      await shows(page, 'presence-self', 'error', '');
      await page.close();
    });

    test('a kick is told, also after a reload, and taken back', async () => {
      const page = await open(`/${engine.name}`);
      await shows(page, 'presence-self', 'word', 'Online');
      assert.equal(await text(page, 'presence-kicked', 'notice'), null);
      await put(`${me}/kick`, { platform: 'web', message: '<b>bye</b>' }, 'POST');
      await shows(page, 'presence-kicked', 'text', 'This session was ended');
      assert.equal(await text(page, 'presence-kicked', 'message'), '<b>bye</b>');
      await shows(page, 'presence-dot', 'word', 'Unknown');
      await shows(page, 'presence-self', 'word', 'Not connected');
      await page.reload();
      await shows(page, 'presence-kicked', 'text', 'This session was ended');
      await page.evaluate(() => document.querySelector('presence-kicked').shadowRoot.querySelector('button').click());
      await shows(page, 'presence-dot', 'word', 'Online');
      await until('the notice is gone', async () => (await text(page, 'presence-kicked', 'notice')) === null);
      await page.close();
    });

    test('hostile ids stay text', async () => {
      const page = await open();
      await place(page, me, [['presence-list', {}, [...IDS, null, IDS[0]]], ...IDS.map((user) => ['presence-dot', { user }])]);
      await until('all are known', async () => (await rows(page)).every(([, word]) => word === 'Offline'));
      assert.deepEqual((await rows(page)).map(([name]) => name), IDS);
      const made = () => page.evaluate(() => document.querySelector('presence-list').shadowRoot.querySelectorAll('img, b').length + document.images.length);
      assert.deepEqual([await page.evaluate(() => document.title), await made()], ['Elements', 0]);
      await page.evaluate((evil) => (PresenceElements.nameOf = (user) => `${evil} ${user}`), HOSTILE);
      await until('names are shown', async () => (await rows(page))[5][0] === `${HOSTILE} a,b`);
      await page.evaluate(() => PresenceElements.client.logout());
      await page.close();
    });

    test('contacts are those who are not Offline', async () => {
      const page = await open();
      await place(page, me, [['presence-list', { contacts: '' }]]);
      await until('contacts', async () => JSON.stringify(await rows(page)) === JSON.stringify([['bob', 'Online', ''], ['carol', 'Push only', '']]));
      await bob.setStatus('busy');
      await until('a custom status', async () => (await rows(page))[0][2] === 'busy');
      await bob.setStatus(null);
      await put(`${me}/watch-list`, { users: ['dave'] });
      await shows(page, 'presence-list', 'empty', 'Nobody is online');
      await put(`${me}/watch-list`, { users: ['bob', 'carol', 'dave'] });
      await until('contacts', async () => (await rows(page)).length === 2);
      await page.evaluate(() => PresenceElements.client.logout());
      await until('nobody is known after a logout', async () => (await rows(page)).length === 0);
      assert.equal(await text(page, 'presence-list', 'empty'), null);
      await page.close();
    });

    test('words are in the language of the nearest ancestor, through shadow roots', async () => {
      const page = await open();
      const words = () => page.evaluate(() => {
        const dots = [...document.querySelectorAll('.host')].map(({ shadowRoot }) => shadowRoot.querySelector('presence-dot'));
        return dots.map(({ shadowRoot }) => shadowRoot.querySelector('[part=state]').textContent);
      });
      await page.evaluate(() => {
        for (const [outer, inner] of [['zh-CN', ''], ['en', 'zh'], ['zh', 'en']]) {
          const host = document.querySelector('main').appendChild(document.createElement('div'));
          Object.assign(host, { className: 'host', lang: outer }).attachShadow({ mode: 'open' });
          const box = host.shadowRoot.appendChild(document.createElement('div'));
          if (inner) box.lang = inner;
          box.append(document.createElement('presence-dot'));
        }
      });
      await until('words', async () => JSON.stringify(await words()) === JSON.stringify(['未知', '未知', 'Unknown']));
      await page.evaluate(() => (document.querySelector('.host').lang = 'en'));
      await until('a change of the language', async () => (await words())[0] === 'Unknown');
      await page.close();
    });

    test('sends no more than is needed, and leaves nothing behind', async () => {
      const page = await open();
      await place(page, me, [['presence-dot', { user: 'bob' }], ['presence-dot', { user: 'bob', compact: '' }], ['presence-list', { users: 'bob, carol' }]]);
      await until('all are known', async () => (await rows(page))[1]?.[1] === 'Push only');
      assert.equal(await page.evaluate(() => document.querySelectorAll('presence-dot')[1].shadowRoot.querySelector('[role=img]').ariaLabel), 'Online');
      const count = async () => (await sent(page, 'subscribe', 'unsubscribe')).length;
      assert.equal(await count(), 1);
      // Moved, named anew, and without a user.
      await page.evaluate(() => {
        for (const it of document.querySelectorAll('presence-dot')) document.body.append(it);
        document.querySelector('presence-list').users = ['carol', 'bob'];
        document.querySelectorAll('presence-dot')[1].removeAttribute('user');
      });
      await until('the other order', async () => (await rows(page))[0]?.[0] === 'carol');
      assert.equal(await count(), 1);
      // Another account: the last client is logged out, the next one knows nothing of it.
      await page.evaluate(() => (globalThis.last = PresenceElements.client));
      await place(page, `other-${engine.name}`, []);
      await connected(page);
      await until('known again', async () => (await rows(page))[1]?.[1] === 'Online');
      await until('the last socket is closed', () => page.evaluate(() => sockets.length === 2 && sockets[0].readyState === 3));
      assert.equal(await page.evaluate(() => last._watched.size + [...last._listeners.values()].reduce((sum, it) => sum + it.size, 0)), 0);
      // A logout forgets the subscriptions, a login brings them back.
      await page.evaluate(() => PresenceElements.client.logout());
      await until('nothing is known', async () => (await rows(page))[0]?.[1] === 'Unknown');
      await page.evaluate(() => PresenceElements.client.connect());
      await until('known again', async () => (await rows(page))[1]?.[1] === 'Online');
      assert.deepEqual((await sent(page, 'subscribe', 'unsubscribe')).map(({ type, users }) => [type, ...users.sort()]), Array(3).fill(['subscribe', 'bob', 'carol']));
      // In one task of the page's own, which a driver's script need not be.
      await page.evaluate(() => void setTimeout(() => {
        for (const it of document.querySelectorAll('presence-dot, presence-list')) it.remove();
      }, 0));
      await until('unsubscribed', async () => (await count()) === 4);
      assert.equal(await page.evaluate(() => PresenceElements.client._watched.size), 0);
      await page.evaluate(() => PresenceElements.client.logout());
      await page.close();
    });

    for (const scheme of engine.name === 'WebKitGTK' ? [] : ['light', 'dark']) {
      for (const lang of ['en', 'zh']) {
        test(`axe finds nothing: ${scheme}, ${lang}`, async () => {
          const page = await open();
          await page.evaluate((scheme, lang) => {
            document.documentElement.lang = lang;
            document.documentElement.style.colorScheme = scheme;
            document.body.style.background = 'Canvas';
          }, scheme, lang);
          const user = `axe-${engine.name}-${scheme}-${lang}`;
          const list = ['presence-list', { users: `bob,carol,dave,${LONG}` }];
          await place(page, user, [['presence-self', {}], ['presence-dot', { user: 'bob', compact: '' }], list, ['presence-kicked', {}]]);
          await until('all are known', async () => (await rows(page)).filter(([, word]) => !/Unknown|未知/.test(word)).length === 4);
          // Away, as a hub that knows of it says.
          await page.evaluate(() => {
            const { client } = PresenceElements;
            const get = client.get.bind(client);
            client.get = (user) => (user === 'dave' ? { ...get('bob'), user, away: true } : get(user));
            PresenceElements.nameOf = (user) => user.slice(0, 40);
          });
          await until('away', async () => /Away|离开/.test((await rows(page))[2][1]));
          await page.evaluate(AXE);
          const barriers = () => page.evaluate(async () => {
            const { violations } = await axe.run(document, { resultTypes: ['violations'] });
            return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join('; ')}`);
          });
          assert.deepEqual(await barriers(), []);
          if (process.env.SCREENSHOTS) await page.driven.screenshot({ path: `${process.env.SCREENSHOTS}/${engine.name}-${scheme}-${lang}.png` });
          await put(`${user}/kick`, { platform: 'web', message: 'Maintenance' }, 'POST');
          await until('kicked', async () => (await text(page, 'presence-kicked', 'notice')) !== null);
          assert.deepEqual(await barriers(), []);
          if (process.env.SCREENSHOTS) await page.driven.screenshot({ path: `${process.env.SCREENSHOTS}/${engine.name}-${scheme}-${lang}-kicked.png` });
          await page.close();
        });
      }
    }
  });
}
