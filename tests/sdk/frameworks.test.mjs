// The bindings for React, Vue and Svelte, each in an app in two browsers, and rendered on a server.

import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compile, compileModule } from 'svelte/compiler';
import { build } from 'vite';
import { client } from './dashboard.mjs';
import { until } from './embed.mjs';
import { engines } from './engines.mjs';
import { startHub } from './hub.mjs';
import { install } from './installed.mjs';
import { startSite } from './site.mjs';

const APPS = { React: ['react.jsx', 'react-server.jsx'], Vue: ['vue.js', 'vue-server.js'], Svelte: ['svelte.svelte.js', 'svelte-server.js'] };

let hub;
let site;
let installed;
let bob;

/** Compiles what Svelte's own plugin would. */
const svelte = {
  name: 'svelte',
  transform(code, filename, { ssr } = {}) {
    const how = { filename, dev: !ssr, generate: ssr ? 'server' : 'client' };
    if (filename.endsWith('.svelte')) return compile(code, how).js;
    if (filename.endsWith('.svelte.js')) return compileModule(code, how).js;
  },
};

/** Builds an app for browsers, or for a server. In development, as StrictMode does nothing in production. */
function bundle(place, name, ssr) {
  const output = { format: 'es', entryFileNames: `${name}.js`, inlineDynamicImports: true };
  return build({
    root: place, configFile: false, logLevel: 'error', plugins: [svelte], define: { 'process.env.NODE_ENV': '"development"' },
    esbuild: { jsx: 'automatic' }, ssr: { noExternal: true }, resolve: { conditions: ssr ? ['module', 'node'] : ['module', 'browser', 'development'] },
    build: { ssr, outDir: 'dist', emptyOutDir: false, minify: false, rollupOptions: { input: join(place, name), output, onwarn() {} } },
  });
}

before(async () => {
  const pages = {};
  installed = await install('react', 'react-dom', 'scheduler', 'vue', 'svelte');
  const { place } = installed;
  await cp(fileURLToPath(new URL('frameworks', import.meta.url)), place, { recursive: true });
  for (const [framework, [page, server]] of Object.entries(APPS)) {
    await bundle(place, page, false);
    await bundle(place, server, true);
    pages[`/${framework}`] = `<!doctype html><meta charset="utf-8"><title>${framework}</title><script src="/counter.js"></script>
      <div id="root"></div><script type="module" src="/${page}.js"></script>`;
  }
  site = await startSite(() => hub, { pages, folder: pathToFileURL(join(place, 'dist/')) });
  hub = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]), 'login.policy': 'multi' });
  bob = await client(hub, 'bob', 'mac');
  await client(hub, 'carol', 'ios', 'phone').then((it) => it.lost());
});

after(async () => {
  await hub?.stop();
  await site?.stop();
  await installed?.remove();
});

for (const [framework, [, server]] of Object.entries(APPS)) {
  test(`${framework} on a server: nothing is connected, and nothing stays subscribed to`, async () => {
    globalThis.WebSocket = class {
      constructor() {
        assert.fail('a connection');
      }
    };
    const { render, clients } = await import(pathToFileURL(join(installed.place, 'dist', `${server}.js`)));
    const html = await render({ account: 'me', users: ['bob', 'carol'], one: null, show: true });
    const parts = ['null disconnected fresh undefined undefined', 'bob:undefined carol:undefined', 'null:undefined'];
    assert.deepEqual([...html.matchAll(/<p id="(?:self|list|one)">(?:<!--.*?-->)*(.*?)(?:<!--.*?-->)*<\/p>/g)].map(([, text]) => text), parts);
    assert.ok(clients.length > 0);
    for (const { state, _watched, _listeners } of clients) {
      assert.equal(state, 'disconnected');
      assert.equal([..._watched.values(), ..._listeners.values()].reduce((sum, { size }) => sum + size, 0), 0);
    }
    delete globalThis.WebSocket;
  });
}

const shows = (page, id, wanted) => until(`#${id}: ${wanted}`, () => page.evaluate((id, wanted) => (document.getElementById(id)?.textContent ?? null) === wanted, id, wanted));
const set = (page, props) => page.evaluate((props) => app.set((globalThis.props = { ...globalThis.props, ...props })), props);
/** The messages about subscriptions, each with its users in order. */
const sent = (page) => page.evaluate(() => sent.filter(({ type }) => !/ping|query/.test(type)).map(({ type, users = [] }) => [type, ...users.sort()].join(' ')));
/** Whom each client watches, and how many listeners it has. */
const held = (page) => page.evaluate(() => clients.map(({ _watched, _listeners }) =>
  `${[..._watched.keys()].sort()} ${[..._listeners.values()].reduce((sum, { size }) => sum + size, 0)}`));
/** Whom the client that is connected watches. */
const watched = (page) => page.evaluate(() => [...current()._watched.keys()].sort().join(' '));
const openSockets = (page) => page.evaluate(() => sockets.filter(({ readyState }) => readyState < 2).length);
/** What the page has sent is answered, so whatever it had to send is sent. */
const settled = (page) => page.evaluate(() => current().query('nobody').then(() => null));

for (const engine of engines.slice(0, 2)) {
  for (const framework of Object.keys(APPS)) {
    describe(`${framework} in ${engine.name}`, { skip: process.env.WITHOUT_ENGINES?.split(' ').includes(engine.name) && 'left out' }, () => {
      let browser;
      let page;
      const name = (user) => `${user}-${framework}-${engine.name}`;
      const me = name('me');
      const open = async () => {
        page = await browser.open(`${site.origin}/${framework}?hub=${hub.origin.replace('http', 'ws')}`);
        await until('the app is loaded', () => page.evaluate(() => typeof app === 'object' && !!app.mount()));
        return page;
      };
      /** The app, logged in. */
      const ready = async (props = {}) => {
        await open();
        await set(page, { account: me, users: ['bob', 'carol'], one: 'bob', show: true, ...props });
        await shows(page, 'self', `${me} connected fresh Online null`);
        await shows(page, 'list', 'bob:Online carol:PushOnline');
        await settled(page);
      };

      before(async () => {
        if (engine.missing) throw new Error(engine.missing);
        browser = await engine.start();
      });
      after(() => browser?.stop());

      test('mounting twice makes one connection, one token, one login and one subscription', async () => {
        const asked = site.asked.length;
        await ready();
        if (framework === 'React') assert.equal(await page.evaluate(() => mounts), 2, 'StrictMode mounts twice');
        assert.deepEqual(await sent(page), ['login', `subscribe bob carol ${me}`]);
        assert.equal(await openSockets(page), 1);
        assert.equal(site.asked.length - asked, 1);
        await shows(page, 'one', 'bob:Online');
        await bob.setStatus(me);
        await bob.logout();
        await shows(page, 'one', 'bob:Offline');
        await bob.connect({ force: true });
        await shows(page, 'list', 'bob:Online carol:PushOnline');
        assert.deepEqual((await sent(page)).length, 2);
      });

      test('a new list at every render sends nothing', async () => {
        for (let times = 0; times < 20; times += 1) await set(page, {});
        await settled(page);
        assert.equal((await sent(page)).length, 2);
      });

      test('only what changed is subscribed to', async () => {
        await set(page, { one: null });
        await shows(page, 'one', 'null:undefined');
        await set(page, { users: ['carol', null, 'bob'] });
        await shows(page, 'list', 'carol:PushOnline null:undefined bob:Online');
        await settled(page);
        assert.equal((await sent(page)).length, 2);
        await set(page, { users: ['bob'], one: 'dave' });
        await shows(page, 'one', 'dave:Offline');
        await settled(page);
        assert.deepEqual((await sent(page)).slice(2), ['unsubscribe carol', 'subscribe dave']);
        await set(page, { show: false });
        await until('nobody is left', async () => (await watched(page)) === me);
        await settled(page);
        assert.deepEqual((await sent(page)).slice(4), ['unsubscribe bob dave']);
      });

      test('an own status is set by the client, and shown', async () => {
        await page.evaluate(() => document.getElementById('set').click());
        await shows(page, 'self', `${me} connected fresh Online busy`);
      });

      test('unmounted during a request, nothing stays subscribed to', async () => {
        const before = (await sent(page)).length;
        const last = await page.evaluate(async () => {
          const subscribes = () => sent.filter(({ type }) => type === 'subscribe').length;
          const count = subscribes();
          app.set({ ...props, show: true, users: ['erin'], one: null });
          while (subscribes() === count) await new Promise((done) => setTimeout(done, 0));
          const isAnswered = current().get('erin');
          app.set({ ...props, show: false });
          return isAnswered;
        });
        assert.equal(last, null, 'it was not answered yet');
        await until('nobody is left', async () => (await watched(page)) === me);
        await settled(page);
        assert.deepEqual((await sent(page)).slice(before), ['subscribe erin', 'unsubscribe erin']);
      });

      test('another account is another client, and no account is none', async () => {
        await set(page, { show: true, users: ['bob'], one: null });
        await shows(page, 'list', 'bob:Online');
        const other = name('other');
        await set(page, { account: other });
        await shows(page, 'self', `${other} connected fresh Online null`);
        await shows(page, 'list', 'bob:Online');
        await until('one connection', async () => (await openSockets(page)) === 1);
        assert.deepEqual((await sent(page)).slice(-3).sort(), ['login', 'logout', `subscribe bob ${other}`]);
        await set(page, { account: null });
        await shows(page, 'self', 'null disconnected fresh undefined undefined');
        await shows(page, 'list', 'bob:undefined');
        await until('no connection', async () => (await openSockets(page)) === 0);
        // A client keeps the four listeners that keep its notice.
        for (const it of await held(page)) assert.match(it, /^ [04]$/);
        await page.close();
      });

      test('a kick is told, and taken back', async () => {
        await ready();
        const answer = await fetch(`${hub.origin}/v1/users/${me}/kick`, { method: 'POST', headers: { 'X-API-Key': hub.adminKey }, body: '{"platform":"web"}' });
        assert.ok(answer.ok);
        await until('a notice', () => page.evaluate(() => document.getElementById('kicked')?.textContent.startsWith('admin')));
        await shows(page, 'self', `${me} disconnected stale Online null`);
        await page.evaluate(() => document.getElementById('here').click());
        await shows(page, 'self', `${me} connected fresh Online null`);
        await shows(page, 'kicked', null);
        await shows(page, 'list', 'bob:Online carol:PushOnline');
        assert.deepEqual(await sent(page), Array(2).fill(['login', `subscribe bob carol ${me}`]).flat());
        await page.close();
      });

      test('unmounted while it logs in, no connection is left', async () => {
        await open();
        await page.evaluate(async (props) => {
          app.set(props);
          while (!sockets.length) await new Promise((done) => setTimeout(done, 0));
          app.unmount();
        }, { account: me, users: ['bob'], one: null, show: true });
        await until('no connection', async () => (await openSockets(page)) === 0 && (await page.evaluate(() => clients.every(({ state }) => state === 'disconnected'))));
        assert.ok((await sent(page)).every((message) => message === 'login' || message === 'logout'));
        for (const it of await held(page)) assert.match(it, /^ [04]$/);
        await page.close();
      });
    });
  }
}
