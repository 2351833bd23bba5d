// Starts a real hub for a test file, in a temporary directory.

import { execFile, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const BINARY = process.env.PRESENCE_HUB_BIN ?? fileURLToPath(new URL('../../target/debug/presence-hub', import.meta.url));
const START_MS = 20_000;
const SECRET_SETTINGS = /^(auth\.(secrets?|\w+_keys)|webhook\.secrets|tencent\.(secret_key|callback_token))$/;

/**
 * Starts a hub in development mode. `settings` are configuration keys: { 'login.policy': 'dual' }.
 * `dashboard` and `demo` are the links that it prints, with their keys. A given `directory` is kept.
 * `file` is the text of a configuration file with secrets and keys; such a hub is not in development mode.
 */
export async function startHub(settings = {}, { directory, port = 0, file } = {}) {
  const home = directory ?? (await mkdtemp(join(tmpdir(), 'presence-hub-')));
  const configure = (text) => writeFile(join(home, 'config.toml'), text);
  if (file) await configure(file);
  let child;
  let exited;
  let log = '';
  const start = (listen) => {
    const env = environment({ 'server.listen': `127.0.0.1:${listen}`, ...settings });
    // On Linux, the hub ends when an interrupted test ends.
    const [program, ...args] = process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'KILL', BINARY] : [BINARY];
    child = spawn(program, args, { cwd: home, env, stdio: ['ignore', 'pipe', 'pipe'] });
    exited = new Promise((done) => child.once('close', done));
    child.stderr.on('data', (lines) => {
      log += lines;
    });
    return printed(child, file ? address : links);
  };
  const hub = {
    directory: home,
    get pid() {
      return child.pid;
    },
    /** Stops it with this signal, awaits `meanwhile`, and starts it again with the same address and data. */
    async restart(signal, meanwhile) {
      child.kill(signal);
      await exited;
      await meanwhile?.();
      Object.assign(hub, await start(hub.port));
    },
    /** Replaces the configuration file, and waits until the hub has read it. */
    async reload(text) {
      const read = printed(child, (output) => output.includes('configuration reloaded'));
      await configure(text);
      child.kill('SIGHUP');
      await read;
    },
    /** Stops it. Its log must have no secret and no token: the canary of every test. */
    async stop() {
      // The second signal stops it at once, without a drain.
      for (const signal of ['SIGTERM', 'SIGTERM']) child.kill(signal);
      const forced = setTimeout(() => child.kill('SIGKILL'), 3000);
      await exited;
      clearTimeout(forced);
      if (!directory) await rm(home, { recursive: true, force: true });
      const found = secretIn(log, [hub.devKey, hub.adminKey, ...secretsOf(settings), ...quoted(file ?? '')]);
      if (found) throw new Error(`a secret is in the hub's log: ${found}`);
    },
    /** A token with this lifetime, such as '3s'. */
    async tokenFor(user, life) {
      const { stdout } = await promisify(execFile)(BINARY, ['token', '--user', user, '--ttl', life], { cwd: home, env: environment(settings) });
      return stdout.trim();
    },
  };
  try {
    return Object.assign(hub, await start(port));
  } catch (error) {
    await hub.stop();
    throw error;
  }
}

const quoted = (text) => [...text.matchAll(/"([^"\n]{16,})"/g)].map(([, value]) => value);

function secretsOf(settings) {
  const values = Object.entries(settings).filter(([key]) => SECRET_SETTINGS.test(key)).map(([, value]) => value);
  return values.flatMap((value) => (value.startsWith('[') ? quoted(value) : value));
}

/** The first line with one of these secrets, or with a JWT. */
function secretIn(log, secrets) {
  const known = secrets.filter(Boolean);
  return log.split('\n').find((line) => line.includes('eyJ') || known.some((secret) => line.includes(secret)));
}

function environment(settings) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('PRESENCE_HUB__'));
  const all = { 'store.path': 'data', ...settings };
  const set = Object.entries(all).map(([key, value]) => [`PRESENCE_HUB__${key.replace('.', '__').toUpperCase()}`, value]);
  return Object.fromEntries([...own, ...set]);
}

/** Waits until `find` finds something in the hub's further output, and returns it. */
function printed(child, find) {
  return new Promise((resolve, reject) => {
    let output = '';
    const end = (settle, value) => {
      clearTimeout(timer);
      for (const stream of [child.stdout, child.stderr]) stream.off('data', read);
      child.off('error', failed).off('close', closed);
      for (const stream of [child.stdout, child.stderr]) stream.resume(); // or the hub would wait for a reader
      settle(value);
    };
    const read = (chunk) => {
      output += chunk;
      const found = find(output);
      if (found) end(resolve, found);
    };
    const failed = (error) => end(reject, error);
    const closed = (code) => failed(new Error(`the hub ended with ${code}:\n${output}`));
    const timer = setTimeout(() => failed(new Error(`the hub did not print in time what was waited for:\n${output}`)), START_MS);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', read);
    child.once('error', failed).once('close', closed);
  });
}

/** The links that a hub in development mode prints. */
function links(output) {
  const [demo] = output.match(/http:\/\/\S+\/static\/demo\.html#key=\S+(?=\s)/) ?? [];
  const [dashboard] = output.match(/http:\/\/\S+\/static\/#key=\S+(?=\s)/) ?? [];
  if (!demo || !dashboard) return null;
  const { origin, port } = new URL(demo);
  const key = (link) => decodeURIComponent(new URL(link).hash.slice('#key='.length));
  return { demo, dashboard, origin, port: Number(port), devKey: key(demo), adminKey: key(dashboard) };
}

/** Where a hub listens. */
function address(output) {
  const [, port] = output.match(/listening address=127\.0\.0\.1:(\d+)/) ?? [];
  return port && { origin: `http://127.0.0.1:${port}`, port: Number(port) };
}

/** A TCP proxy to the hub that can be made to fail without closing its clients' connections. */
export async function startProxy(port) {
  const pairs = new Set();
  let refusing = false;
  const server = createServer((near) => {
    if (refusing) return near.destroy();
    const far = connect(port, '127.0.0.1');
    const pair = [near, far];
    pairs.add(pair);
    near.pipe(far).pipe(near);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    /** A black hole: no bytes pass in either direction, and no side is told. */
    cut() {
      for (const pair of pairs) for (const socket of pair) socket.unpipe().pause();
    },
    /** Delivers the delayed bytes, as when a network returns. */
    heal() {
      for (const [near, far] of pairs) near.pipe(far).pipe(near);
    },
    /** Closes all connections, and accepts no new ones. */
    refuse() {
      refusing = true;
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
    accept() {
      refusing = false;
    },
    stop() {
      for (const pair of pairs) for (const socket of pair) socket.destroy();
      return new Promise((done) => server.close(done));
    },
  };
}

/** A token as the app's back end signs it (HS256). */
export function signToken(secret, user) {
  const base64 = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const iat = Math.floor(Date.now() / 1000);
  const signed = `${base64({ alg: 'HS256' })}.${base64({ sub: user, iat, exp: iat + 24 * 3600 })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Moves the clock of a hub in development mode forward: '2h'. */
export async function advance(hub, by) {
  const answer = await fetch(`${hub.origin}/dev/clock`, {
    method: 'POST',
    headers: { 'X-Dev-Key': hub.devKey },
    body: JSON.stringify({ advance: by }),
  });
  if (!answer.ok) throw new Error(`clock not moved: HTTP ${answer.status} ${await answer.text()}`);
}

/** A development token. */
export async function token(hub, user) {
  const answer = await fetch(`${hub.origin}/dev/token`, {
    method: 'POST',
    // An idle connection is closed after a while, on a busy machine just when it is used again.
    headers: { 'Content-Type': 'application/json', 'X-Dev-Key': hub.devKey, Connection: 'close' },
    body: JSON.stringify({ user }),
  });
  if (!answer.ok) throw new Error(`no token: HTTP ${answer.status} ${await answer.text()}`);
  return (await answer.json()).token;
}
