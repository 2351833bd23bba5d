// The dashboard in a browser, and sessions of every kind for it to show.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after } from 'node:test';
import { WebSocket } from 'ws';
import { token } from './hub.mjs';

const require = createRequire(import.meta.url);
const { PresenceClient } = require('../../static/presence.js');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const HOSTILE = '<img src=x onerror="document.title=\'owned\'">';
export const VIEWER_KEY = 'a-key-that-only-looks';
export const SCREENS = [
  'overview', 'users', 'sessions', 'feed', 'refusals', 'policy', 'webhooks', 'audit', 'system',
];

/** The dashboard, logged in, on the screen of this address (`#/users/alice`). */
export async function dashboard(browser, hub, address = '#/overview', { key = hub.adminKey, ...how } = {}) {
  const page = await browser.open(`${hub.origin}/static/#key=${encodeURIComponent(key)}`, how);
  await page.locator('#screens').waitFor();
  await go(page, address);
  return page;
}

/** Goes to an address. When it returns, the page no longer shows the screen before. */
export async function go(page, address) {
  await page.evaluate(
    (hash) =>
      new Promise((shown) => {
        if (location.hash === hash) return shown();
        // The page listened first, so it has shown the new screen by then.
        addEventListener('hashchange', () => shown(), { once: true });
        location.hash = hash;
      }),
    address,
  );
  await page.locator('#screen h1').waitFor();
}

/** What axe-core finds. It is put in by the test's own way, which no policy of the page stands against. */
export async function barriers(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join('; ')}`,
  );
}

/** By how many pixels the page is wider than its window. */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

/** A count of the overview, once it is so. */
export const count = (page, name, value) => page.locator(`[data-count="${name}"] [data-value="${value}"]`).waitFor();

/** The clients of this process. */
const clients = new Set();

// A failed test leaves its clients connected, and they would reconnect for ever.
after(() => {
  for (const it of clients) it.lost();
});

/** The SDK in Node, logged in. `lost()` ends its connection without a close; `closed` is the close that it received. */
export async function client(hub, user, platform = 'web', device = 'd1', { app, url = `ws://127.0.0.1:${hub.port}/ws` } = {}) {
  const sockets = [];
  class Socket extends WebSocket {
    constructor(...how) {
      super(...how);
      sockets.push(this);
    }
  }
  const it = new PresenceClient({ url, platform, device, app, WebSocket: Socket, getToken: () => token(hub, user) });
  it.on('error', () => {});
  clients.add(it);
  it.told = new Promise((done) => it.on('kicked', done));
  it.lost = () => {
    for (const socket of sockets) socket.terminate();
    return it.logout();
  };
  await it.connect({ force: true });
  return it;
}

/** As if the network of this client's connection were cut. */
export async function cut(hub, { user, session }) {
  const answer = await fetch(`${hub.origin}/dev/ignore`, {
    method: 'POST',
    headers: { 'X-Dev-Key': hub.devKey },
    body: JSON.stringify({ user, session }),
  });
  if (!answer.ok) throw new Error(`not cut: HTTP ${answer.status}`);
}

/** A call of the server API by the admin key. */
export async function api(hub, path, body) {
  const answer = await fetch(`${hub.origin}/v1/${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { 'X-API-Key': hub.adminKey },
    body: body && JSON.stringify(body),
  });
  return answer.json();
}
