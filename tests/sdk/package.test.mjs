// The folder as an npm package: packed, installed and used; linked or copied into a bundle.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { publint } from 'publint';
import { build, preview } from 'vite';
import { startBrowser } from './browser.mjs';
import { folder, install } from './installed.mjs';

const run = promisify(execFile);
const tsc = fileURLToPath(new URL('node_modules/typescript/bin/tsc', import.meta.url));
let installed;
let place;

before(async () => {
  installed = await install('react', '@types/react', 'vue', 'svelte');
  ({ place } = installed);
});

after(() => installed?.remove());

test('package.json is correct', async () => {
  const { messages } = await publint({ pkgDir: folder, strict: true, level: 'warning' });
  assert.deepEqual(messages, []);
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  const cargo = await readFile(new URL('../../Cargo.toml', import.meta.url), 'utf8');
  assert.equal(version, cargo.match(/^version = "(.*)"/m)[1], 'it bears the version of the hub');
});

test('require and import give the same module', async () => {
  const script = `
    const required = require('presence-hub');
    import('presence-hub').then((imported) => {
      const same = ['PresenceClient', 'PresenceError'].every((name) => imported[name] === required[name] && imported.default[name] === required[name]);
      console.log(typeof required.PresenceClient, same);
    });`;
  const { stdout } = await run('node', ['-e', script], { cwd: place });
  assert.equal(stdout.trim(), 'function true');
});

test('every subpath can be imported on a server, and nothing is installed with it', async () => {
  const script = `
    const { TestHub } = await import('presence-hub/test');
    const elements = await import('presence-hub/elements');
    const names = await Promise.all(['react', 'vue', 'svelte'].map(async (name) => Object.keys(await import('presence-hub/' + name)).sort().join()));
    console.log(typeof TestHub, elements.default.client, names.join(' '));`;
  const { stdout } = await run('node', ['--input-type=module', '-e', script], { cwd: place });
  const hooks = 'useKicked,usePresence,usePresenceClient,useSelf';
  assert.equal(stdout.trim(), `function null PresenceProvider,${hooks} providePresence,${hooks} providePresence,${hooks}`);
  const bare = await install();
  try {
    const { stdout } = await run('node', ['--input-type=module', '-e', "console.log(typeof (await import('presence-hub/test')).TestHub)"], { cwd: bare.place });
    assert.equal(stdout.trim(), 'function');
    assert.deepEqual(await readdir(join(bare.place, 'node_modules')).then((names) => names.filter((name) => !name.startsWith('.'))), ['presence-hub']);
  } finally {
    await bare.remove();
  }
});

test('has types, for import and for require', async () => {
  await writeFile(join(place, 'imported.mts'), `
    import hub, { PresenceClient, type Status } from 'presence-hub';
    const client = new PresenceClient({ url: 'wss://hub/ws', token: 'T' });
    const status: Status | null = client.get('alice');
    client.on('error', ({ code, close }) => [code.length, close?.toFixed()]);
    export default [status, new hub.PresenceClient({ url: 'wss://hub/ws' })];`);
  await writeFile(join(place, 'required.cts'), `
    import hub = require('presence-hub');
    const client: hub.PresenceClient = new hub.PresenceClient({ url: 'wss://hub/ws' });
    export = client.subscribe(['alice'], ({ user, state }) => user + state);`);
  await writeFile(join(place, 'subpaths.mts'), `
    import elements from 'presence-hub/elements';
    import * as react from 'presence-hub/react';
    import * as vue from 'presence-hub/vue';
    import * as svelte from 'presence-hub/svelte';
    import { TestHub } from 'presence-hub/test';
    elements.client = new TestHub().client('me');
    document.querySelector('presence-list')!.users = ['alice'];
    export const states = [react.usePresence('alice')?.state, vue.usePresence(['alice']).value.get('alice')?.state];
    svelte.usePresence(null).subscribe((status) => status?.state);
    export const root = react.PresenceProvider({ client: elements.client });`);
  const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022', '--types', ''];
  const own = (await readdir(join(place, 'node_modules/presence-hub'))).filter((name) => /\.d\.m?ts$/.test(name));
  const files = ['imported.mts', 'required.cts', 'subpaths.mts', ...own.map((name) => `node_modules/presence-hub/${name}`)];
  await run('node', [tsc, ...flags, ...files], { cwd: place }).catch(({ stdout }) => assert.fail(stdout));
});

test('is bundled for production: installed, linked and copied', async () => {
  const browser = await startBrowser();
  try {
    const name = 'presence-hub';
    await mkdir(join(place, 'linked/node_modules'), { recursive: true });
    await symlink(folder, join(place, 'linked/node_modules', name));
    await cp(folder, join(place, 'copied', name), { recursive: true });
    await mkdir(join(place, 'installed'));
    for (const [how, from] of [['installed', name], ['linked', name], ['copied', `./${name}/presence.mjs`]]) {
      const root = join(place, how);
      await writeFile(join(root, 'index.html'), '<!doctype html><script type="module" src="main.js"></script>');
      await writeFile(join(root, 'main.js'), `
        import { PresenceClient } from '${from}';
        import elements from '${from.replace('presence.mjs', 'elements.mjs').replace(/hub$/, 'hub/elements')}';
        elements.client = null;
        document.title = new PresenceClient({ url: 'ws://hub/ws' }).platform + !!customElements.get('presence-dot');`);
      await build({ root, configFile: false, logLevel: 'error' });
      const site = await preview({ root, configFile: false, preview: { host: '127.0.0.1', port: 0 } });
      try {
        const page = await browser.open(site.resolvedUrls.local[0]);
        assert.equal(await page.title(), 'webtrue', how);
      } finally {
        await site.close();
      }
    }
  } finally {
    await browser.stop();
  }
});
