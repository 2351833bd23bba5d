// The folder as an npm package: packed, installed and used; linked or copied into a bundle.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { publint } from 'publint';
import { build, preview } from 'vite';
import { startBrowser } from './browser.mjs';

const run = promisify(execFile);
const folder = fileURLToPath(new URL('../../static', import.meta.url));
const tsc = fileURLToPath(new URL('node_modules/typescript/bin/tsc', import.meta.url));
let place;

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'presence-hub-package-'));
  const { stdout } = await run('npm', ['pack', folder, '--silent'], { cwd: place });
  await writeFile(join(place, 'package.json'), '{"private":true}');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', `./${stdout.trim()}`], { cwd: place });
});

after(() => rm(place, { recursive: true, force: true }));

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
  const flags = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', ''];
  const files = ['imported.mts', 'required.cts', 'node_modules/presence-hub/presence.internals.d.ts'];
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
        document.title = new PresenceClient({ url: 'ws://hub/ws' }).platform;`);
      await build({ root, configFile: false, logLevel: 'error' });
      const site = await preview({ root, configFile: false, preview: { host: '127.0.0.1', port: 0 } });
      try {
        const page = await browser.open(site.resolvedUrls.local[0]);
        assert.equal(await page.title(), 'web', how);
      } finally {
        await site.close();
      }
    }
  } finally {
    await browser.stop();
  }
});
