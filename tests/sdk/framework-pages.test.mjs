// The apps of docs/react.md and docs/vue.md, as printed, built by Vite, on other origins than the hub.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { build, preview } from 'vite';
import { startBrowser } from './browser.mjs';
import { printedBlock, printedFiles } from './docs.mjs';
import { until } from './embed.mjs';
import { startHub, token } from './hub.mjs';
import { install } from './installed.mjs';

/** For each framework: its page in docs/, what the page takes from Vite's template, and the module of the bindings. */
const FRAMEWORKS = {
  React: { guide: 'react.md', main: 'main.jsx', place: 'root', bindings: 'react.mjs' },
  Vue: { guide: 'vue.md', main: 'main.js', place: 'app', bindings: 'vue.mjs' },
};

/** What vite.config.js imports: in place of Vite's own plugins, as much of them as the pages need. */
const PLUGINS = {
  'plugin-react': "export default () => ({ name: 'react', config: () => ({ esbuild: { jsx: 'automatic' } }) });",
  'plugin-vue': `
    import { compileScript, parse } from 'vue/compiler-sfc';
    const compile = (code, filename) => compileScript(parse(code, { filename }).descriptor, { id: filename, inlineTemplate: true }).content;
    export default () => ({ name: 'vue', transform: (code, filename) => (filename.endsWith('.vue') ? compile(code, filename) : undefined) });`,
};

let browser;
let hub;
let installed;
let backEnd; // {address, asked, stop}
const sites = []; // of Vite
const apps = {}; // by framework, {token, backEnd}: the app of step 3 and that of step 5, each {folder, files, origin}

before(async () => {
  installed = await install('react', 'react-dom', 'scheduler', 'vue', 'vite');
  for (const [name, code] of Object.entries(PLUGINS)) {
    const folder = join(installed.place, 'node_modules/@vitejs', name);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'package.json'), '{"type":"module","exports":"./index.js"}');
    await writeFile(join(folder, 'index.js'), code);
  }
  backEnd = await startBackEnd();
  for (const [framework, { guide }] of Object.entries(FRAMEWORKS)) {
    const all = printedFiles(guide);
    const last = Object.fromEntries(all);
    const first = { ...Object.fromEntries(all.toReversed()), 'vite.config.js': last['vite.config.js'] };
    apps[framework] = { token: await serve(`${framework}-token`, first), backEnd: await serve(`${framework}-back-end`, last) };
  }
  const origins = Object.values(apps).flatMap((app) => [app.token.origin, app.backEnd.origin]);
  hub = await startHub({ 'server.allowed_origins': JSON.stringify(origins) });
  for (const [framework, app] of Object.entries(apps)) for (const it of [app.token, app.backEnd]) await buildApp(it, FRAMEWORKS[framework]);
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
  for (const site of sites) await site.close();
  await backEnd?.stop();
  await installed?.remove();
});

/** Returns tokens, like the programs in docs/back-end. `asked` has the user of each. */
async function startBackEnd() {
  const asked = [];
  const server = createServer(async ({ url }, response) => {
    const { pathname, searchParams } = new URL(url, 'http://localhost');
    const user = pathname === '/presence-token' && searchParams.get('user');
    if (user) asked.push(user);
    response.writeHead(user ? 200 : 404).end(user ? await token(hub, user) : '');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { asked, address: `127.0.0.1:${server.address().port}`, stop };
}

/** Serves an app that is built later, as its vite.config.js says. */
async function serve(name, files) {
  const folder = join(installed.place, name);
  await mkdir(join(folder, 'dist'), { recursive: true });
  const config = files['vite.config.js'];
  assert.match(config, /127\.0\.0\.1:3000/);
  await writeFile(join(folder, 'vite.config.js'), config.replace('127.0.0.1:3000', backEnd.address));
  const site = await preview({ root: folder, logLevel: 'error', preview: { host: '127.0.0.1', port: 0 } });
  sites.push(site);
  return { folder, files, origin: `http://127.0.0.1:${site.httpServer.address().port}` };
}

/** Builds an app. In development, as StrictMode does nothing in production. */
async function buildApp({ folder, files }, { main, place }) {
  const html = `<!doctype html><meta charset="utf-8"><title>App</title><div id="${place}"></div><script type="module" src="/src/${main}"></script>`;
  await mkdir(join(folder, 'src'));
  await writeFile(join(folder, 'index.html'), html);
  for (const [name, text] of Object.entries(files)) {
    if (name !== 'vite.config.js') await writeFile(join(folder, name), text.replace('127.0.0.1:7800', `127.0.0.1:${hub.port}`));
  }
  await build({ root: folder, logLevel: 'error', define: { 'process.env.NODE_ENV': '"development"' }, build: { minify: false } });
}

/** What a page shows, line by line, with its dots. */
const lines = (page) => page.evaluate(() => [...document.querySelectorAll('p:not([role]), li')].map((it) => {
  const { content } = getComputedStyle(it, '::before');
  return (content === 'none' ? '' : JSON.parse(content)) + it.textContent;
}));
const shows = (page, ...wanted) => until(`the page shows ${wanted}`, async () => {
  const seen = await lines(page);
  return wanted.every((line) => seen.includes(line));
});
const click = (page, name) => page.getByRole('button', { name, exact: true }).click();
const notice = (page) => page.getByRole('alert').getByText('You are logged in on another device.');

for (const [framework, { guide, place, bindings }] of Object.entries(FRAMEWORKS)) {
  describe(`docs/${guide}`, () => {
    const open = async (user, beside) => browser.open(`${apps[framework].token.origin}/#${await token(hub, user)}`, { beside });

    test('two users see each other come and go, as printed', async () => {
      const alice = await open('alice');
      await shows(alice, 'The connection is connected.', '● alice: Online', '○ bob: Offline');
      const bob = await open('bob', alice);
      const printed = printedBlock(guide, 'text', 'alice').trim().split('\n');
      for (const page of [alice, bob]) {
        await shows(page, ...printed);
        assert.deepEqual(await lines(page), printed);
      }
      await bob.close();
      await shows(alice, '● alice: Online', '○ bob: Offline');
      await alice.close();
    });

    test('a kicked page shows the notice, and can be used again', async () => {
      const first = await open('alice');
      await shows(first, '● alice: Online');
      const second = await open('alice'); // another browser profile: another device
      await notice(first).waitFor();
      await click(first, 'Use here instead');
      await notice(second).waitFor();
      await notice(first).waitFor({ state: 'detached' });
      await shows(first, 'The connection is connected.', '● alice: Online');
      await first.close();
      await second.close();
    });

    test('statuses are faded while the hub is away', async () => {
      const alice = await open('alice');
      await shows(alice, '● alice: Online');
      const opacity = () => alice.evaluate(() => getComputedStyle(document.querySelector('ul')).opacity);
      await hub.restart('SIGKILL', () => until('faded', async () => (await opacity()) === '0.5'));
      await until('as before', async () => (await opacity()) === '1');
      await shows(alice, 'The connection is connected.', '● alice: Online');
      await alice.close();
    });

    test('with the back end, users log in and out', async () => {
      const bob = await open('bob');
      await shows(bob, '○ alice: Offline', '● bob: Online');
      const asked = backEnd.asked.length;
      const app = await browser.open(apps[framework].backEnd.origin);
      await shows(app, 'The connection is disconnected.', '○ alice: unknown', '○ bob: unknown');
      await click(app, 'Log in as alice');
      await shows(app, '● alice: Online', '● bob: Online');
      await shows(bob, '● alice: Online');
      await click(app, 'Log out alice');
      await shows(app, 'The connection is disconnected.', '○ alice: unknown', '○ bob: unknown');
      await shows(bob, '○ alice: Offline');
      await click(app, 'Log in as bob');
      await notice(bob).waitFor();
      await shows(app, '○ alice: Offline', '● bob: Online');
      assert.deepEqual(backEnd.asked.slice(asked), ['alice', 'bob'], 'one login each, also in StrictMode');
      await app.close();
      await bob.close();
    });

    test('the messages among the usual mistakes are those of the package', async () => {
      const text = await readFile(new URL(`../../docs/${guide}`, import.meta.url), 'utf8');
      const [, thrown] = (await readFile(new URL(`../../static/${bindings}`, import.meta.url), 'utf8')).match(/new Error\('presence-hub\/\w+: (.+)'\)/);
      assert.ok(text.includes(`\`${thrown}\``));
      const another = await startBrowser();
      const page = await another.open(apps[framework].token.origin);
      assert.equal(await page.locator(`#${place}`).textContent(), '', 'a blank page');
      await assert.rejects(another.stop(), ({ actual: [error] }) => error.includes(text.match(/the console says `(option token .+?)`/)[1]));
    });
  });
}
