// The folder as an npm package: packed, installed elsewhere, and used from there.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { publint } from 'publint';

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

test('what it says of itself is right', async () => {
  const { messages } = await publint({ pkgDir: folder, strict: true, level: 'warning' });
  assert.deepEqual(messages, []);
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  const cargo = await readFile(new URL('../../Cargo.toml', import.meta.url), 'utf8');
  assert.equal(version, cargo.match(/^version = "(.*)"/m)[1], 'it bears the version of the hub');
});

test('is required and imported, and is the same either way', async () => {
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
