// Pages of an app that embeds the SDK, on another origin than the hub.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

const FILES = { '/': ['text/html', 'embed.html'], '/presence.js': ['text/javascript', '../../static/presence.js'] };
const WAIT_MS = 30_000;

/** Serves embed.html with the SDK, the tokens of its users, and an empty page at any other path. */
export async function startSite() {
  const visitors = []; // {hub, user, tokens}
  const server = createServer(async ({ url }, response) => {
    const [, visitor, at] = url.match(/^\/token\/(\d+)\/(\d+)$/) ?? [];
    const [type, name] = FILES[url] ?? ['text/html'];
    try {
      const body = visitor ? await token(visitors[visitor], at) : name && (await readFile(new URL(name, import.meta.url)));
      response.writeHead(200, { 'Content-Type': type }).end(body ?? '<!doctype html><title>Elsewhere</title>');
    } catch {
      response.writeHead(500).end(); // its hub has gone
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return {
    origin,
    elsewhere: `${origin}/elsewhere`,
    /**
     * Opens a page that logs in at once. `place` is the hub or a proxy before it; `tokens` says how
     * long they last, the first and any later one; `back` is the client's back-off; `from` is the origin of the page;
     * `state` is what to wait for.
     */
    async open(browser, hub, user, { place = hub, watch = [], tokens = ['1h', '1h'], back = {}, from = origin, state = 'connected' } = {}) {
      const visitor = visitors.push({ hub, user, tokens }) - 1;
      const wanted = { url: `${place.origin.replace('http', 'ws')}/ws`, visitor, watch, back };
      const page = await browser.open(`${from}/#${encodeURIComponent(JSON.stringify(wanted))}`);
      await reaches(page, state);
      return page;
    },
    stop() {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

const token = ({ hub, user, tokens }, at) => hub.tokenFor(user, tokens[at]);

/** Waits until a condition holds, in a page or elsewhere. */
export async function until(what, isSo) {
  let error;
  for (const deadline = Date.now() + WAIT_MS; Date.now() < deadline; ) {
    try {
      const value = await isSo();
      if (value) return value;
      error = null;
    } catch (thrown) {
      error = thrown; // a page that is just being left cannot be asked
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.fail(`never: ${what}${error ? `: ${error.message}` : ''}`);
}

export const reaches = (page, state) =>
  until(state, () => page.evaluate((wanted) => client.state === wanted, state));

/** Waits until this page knows this user in this state. */
export const sees = (page, user, state) =>
  until(`sees ${user} ${state}`, () => page.evaluate((who, wanted) => client.get(who)?.state === wanted, user, state));

/** All that this page has heard of one kind, since it was loaded. */
export const heard = (page, kind) =>
  page.evaluate((wanted) => JSON.parse(JSON.stringify(heard.filter((it) => it.kind === wanted))), kind);

/** The states that the connection has had, with the close code behind each. */
export const states = async (page) =>
  (await heard(page, 'state')).map(({ state, code }) => (code ? `${state} ${code}` : state));

/** The states of this user that the page was told. */
export const told = async (page, user) =>
  (await heard(page, 'status')).filter((status) => status.user === user).map(({ state }) => state);

export const session = (page) => page.evaluate(() => client.session);

/** A request is answered. */
export const lives = (page) => page.evaluate(() => client.query([client.user]).then(() => true));
