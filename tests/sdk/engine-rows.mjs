// Tabs, browsers and networks in real engines, and how the page and the hub react to
// them. Each row runs in each engine, with two of its browsers: `one` and `other`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import WebSocket from 'ws';
import { heard, lives, reaches, sees, session, states, told, until } from './embed.mjs';
import { startProxy } from './hub.mjs';
import { get, history } from './log.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');
const clients = [];

export const rows = {
  async 'another user comes and goes'({ usual, one, other, open, name }) {
    const bob = name('bob');
    const alice = await open(one, 'alice', { watch: [bob] });
    await sees(alice, bob, 'Offline');
    const page = await open(other, 'bob', { watch: [name('alice')] });
    await Promise.all([sees(alice, bob, 'Online'), sees(page, name('alice'), 'Online')]);
    await page.evaluate(() => void client.logout());
    await sees(alice, bob, 'Offline');
    assert.deepEqual(await told(alice, bob), ['Offline', 'Online', 'Offline']);
    assert.deepEqual(await log(usual, bob), ['login Online', 'logout Offline']);
  },

  async 'a page whose origin is not allowed gets the setting to add'({ site, one, open }) {
    const from = site.origin.replace('127.0.0.1', 'localhost');
    const page = await open(one, 'stranger', { from, state: 'connecting' });
    const error = await page.evaluate(() => new Promise((done) => client.on('error', ({ code, message }) => done([code, message]))));
    assert.equal(error[0], 'unreachable');
    assert.ok(error[1].includes(`server.allowed_origins has "${from}"`), error[1]);
  },

  async 'a reload resumes the session and is not visible to watchers'({ patient, one, other, open, name }) {
    const carol = name('carol');
    const watcher = await open(other, 'watcher', { hub: patient, watch: [carol] });
    const page = await open(one, 'carol', { hub: patient });
    await sees(watcher, carol, 'Online');
    const before = await session(page);
    for (const time of [1, 2]) {
      await page.reload();
      await reaches(page, 'connected');
      assert.deepEqual(await logins(page), [[before, true]], `reload ${time}`);
    }
    assert.deepEqual(await told(watcher, carol), ['Offline', 'Online']);
    assert.deepEqual(await log(patient, carol), ['login Online']);
  },

  async 'a closed tab is Offline within 2 s'({ usual, one, other, open, name }) {
    const dave = name('dave');
    const watcher = await open(other, 'watcher', { watch: [dave] });
    const page = await open(one, 'dave');
    await sees(watcher, dave, 'Online');
    const started = Date.now();
    await page.close();
    await sees(watcher, dave, 'Offline');
    assert.deepEqual(await told(watcher, dave), ['Offline', 'Online', 'Offline']);
    assertGoodbye(await log(usual, dave), ['login Online', 'close Offline']);
    // Counted from its Close, because a busy machine takes long to close a tab.
    const { at, evidence } = (await history(usual, dave)).at(-1);
    assert.ok(evidence.last_heard >= started && at - evidence.last_heard < 2000, `${at - evidence.last_heard} ms`);
  },

  async 'a long absence: Offline, then a new session'({ usual, engine, site, one, other, open, name }) {
    const erin = name('erin');
    const watcher = await open(other, 'watcher', { watch: [erin] });
    const page = await open(one, 'erin', { watch: [name('watcher')] });
    await sees(watcher, erin, 'Online');
    const before = await session(page);
    await page.goTo(site.elsewhere);
    await sees(watcher, erin, 'Offline');
    await page.back();
    await Promise.all([sees(watcher, erin, 'Online'), reaches(page, 'connected')]);
    if (engine.restores) assert.equal((await heard(page, 'pageshow')).at(-1).persisted, true);
    const [now, resumed] = (await logins(page)).at(-1);
    assert.deepEqual([now === before, resumed], [false, false]);
    await sees(page, name('watcher'), 'Online');
    assertGoodbye(await log(usual, erin), ['login Online', 'close Offline', 'login Online']);
  },

  async 'away for a moment, and back: the same session, seen by nobody'({ patient, engine, site, one, other, open, name }) {
    const frank = name('frank');
    const watcher = await open(other, 'watcher', { hub: patient, watch: [frank] });
    const page = await open(one, 'frank', { hub: patient });
    await sees(watcher, frank, 'Online');
    const before = await session(page);
    await page.goTo(site.elsewhere);
    await page.back();
    await reaches(page, 'connected');
    if (engine.restores) assert.equal((await heard(page, 'pageshow')).at(-1).persisted, true);
    assert.deepEqual((await logins(page)).at(-1), [before, true]);
    assert.deepEqual(await told(watcher, frank), ['Offline', 'Online']);
    assert.deepEqual(await log(patient, frank), ['login Online']);
  },

  async 'two tabs of a browser are one device, Online until the last is closed'({ usual, one, other, open, name }) {
    const gina = name('gina');
    const watcher = await open(other, 'watcher', { watch: [gina] });
    const first = await open(one, 'gina');
    const second = await open(one, 'gina');
    const both = await second.evaluate(() => client.sessions());
    assert.equal(both.length, 2);
    assert.equal(new Set(both.map(({ device }) => device)).size, 1);
    await first.close();
    await until('one is left', async () => (await get(usual, `/v1/users/${gina}`)).terminals.length === 1);
    await lives(second);
    assert.deepEqual(await heard(second, 'kicked'), []);
    await second.close();
    await sees(watcher, gina, 'Offline');
    assert.deepEqual(await told(watcher, gina), ['Offline', 'Online', 'Offline']);
    assertGoodbye(await log(usual, gina), ['login Online', 'login Online', 'close Online', 'close Offline']);
  },

  async 'a duplicated tab goes on with the session, the first with one of its own'(it) {
    const hugo = it.name('hugo');
    const first = await it.open(it.one, 'hugo');
    const original = await session(first);
    const copy = await first.duplicate();
    await reaches(copy, 'connected');
    await until('a session of its own', async () => (await logins(first)).length === 2);
    it.assertSideBySide = async () => {
      assert.deepEqual(await logins(copy), [[original, true]]);
      const [, [own, resumed]] = await logins(first);
      assert.equal(resumed, false);
      assert.deepEqual(await states(first), ['connecting', 'connected', 'connecting 4007', 'connected']);
      const sessions = await copy.evaluate(() => client.sessions());
      assert.deepEqual(sessions.map(({ session }) => session).sort(), [original, own].sort());
      assert.deepEqual(await log(it.usual, hugo), ['login Online', 'login Online']);
      assert.deepEqual([...(await heard(first, 'kicked')), ...(await heard(copy, 'kicked'))], []);
    };
    await it.assertSideBySide();
  },

  async 'kicked by another browser, it stays away through a reload, until "use here instead"'({ usual, one, other, open, name }) {
    const ines = name('ines');
    const here = await open(one, 'ines');
    const there = await open(other, 'ines');
    await reaches(here, 'disconnected');
    const [{ reason, by }] = await heard(here, 'kicked');
    assert.equal(reason, 'login_elsewhere');
    assert.deepEqual(by, await there.evaluate(() => ({ platform: client.platform, device: client.device })));
    assert.deepEqual(await states(here), ['connecting', 'connected', 'disconnected 4501']);

    await here.reload();
    await until('it says so again', async () => (await heard(here, 'kicked')).length === 1);
    assert.deepEqual(await states(here), [], 'it did not even try');
    assert.deepEqual(await states(there), ['connecting', 'connected']);

    await here.evaluate(() => void client.loginHere());
    await Promise.all([reaches(here, 'connected'), reaches(there, 'disconnected')]);
    assert.equal((await heard(there, 'kicked'))[0].reason, 'login_elsewhere');
    assert.deepEqual(await log(usual, ines), ['login Online', 'kicked Online', 'login Online', 'kicked Online', 'login Online']);
  },

  async 'an expiring token is renewed without any visible change'({ brisk, one, other, open, name }) {
    const [jane, kate] = [name('jane'), name('kate')];
    const watcher = await open(other, 'watcher', { hub: brisk, watch: [jane, kate] });
    const page = await open(one, 'jane', { hub: brisk, tokens: ['4s', '1h'] });
    // This one expires later, and is not renewed.
    await clientOf(brisk, kate, { getToken: null, token: await brisk.tokenFor(kate, '4s') }).connect();
    await sees(watcher, kate, 'Online');
    await sees(watcher, kate, 'Offline');
    assert.deepEqual(await log(brisk, kate), ['login Online', 'token_expired Offline']);

    await lives(page);
    assert.deepEqual((await heard(page, 'token')).map(({ expired }) => expired), [false, true]);
    assert.deepEqual(await states(page), ['connecting', 'connected']);
    assert.deepEqual(await told(watcher, jane), ['Offline', 'Online']);
    assert.deepEqual(await log(brisk, jane), ['login Online']);
  },

  async 'a frozen page stays Online, and is up to date after it thaws'({ brisk, one, other, open, name }) {
    const [lena, mary] = [name('lena'), name('mary')];
    const watcher = await open(one, 'watcher', { hub: brisk, watch: [lena] });
    // Some engines cut a page off as it thaws: it must not wait for the back-off.
    const back = { minDelay: 60_000, maxDelay: 60_000 };
    const page = await open(other, 'lena', { hub: brisk, watch: [mary], back });
    await Promise.all([sees(watcher, lena, 'Online'), sees(page, mary, 'Offline')]);
    const before = await session(page);
    await other.freeze(page);
    const since = Date.now();
    let frozen;
    try {
      // Meanwhile other clients lose their network one after another, and are detected by silence.
      for (const round of [1, 2, 3]) await cutOff(brisk, name(`cut-${round}`));
      await clientOf(brisk, mary).connect();
      assert.equal((await get(brisk, `/v1/users/${lena}`)).state, 'Online');
      frozen = Date.now() - since;
    } finally {
      await other.thaw(page);
    }
    await Promise.all([sees(page, mary, 'Online'), reaches(page, 'connected')]);
    await lives(page);
    const stood = await until('it runs again', () => page.evaluate(() => still.longest > 1000 && still.longest));
    assert.ok(stood > frozen - 1000, `it stood still for ${stood} of ${frozen} ms`);
    assert.equal(await session(page), before);
    assert.deepEqual(await told(watcher, lena), ['Offline', 'Online']);
    assert.deepEqual(await log(brisk, lena), ['login Online']);
  },

  async 'the hub is stopped, then killed: all clients reconnect, and no user goes Offline'({ startHub, one, other, open, name }) {
    const hub = await startHub({ 'server.drain': '1s' });
    const proxy = await startProxy(hub.port);
    try {
      const users = ['nina', 'olga', 'pia'].map(name);
      const options = { hub, place: proxy, watch: users };
      const pages = [await open(one, 'nina', options), await open(one, 'olga', options), await open(other, 'pia', options)];
      for (const page of pages) for (const user of users) await sees(page, user, 'Online');
      const before = await Promise.all(pages.map(session));
      for (const [times, signal] of [[1, 'SIGTERM'], [2, 'SIGKILL']]) {
        await hub.restart(signal);
        await until('all are back', async () => {
          const counts = await Promise.all(pages.map(async (page) => (await logins(page)).length));
          return counts.every((count) => count > times);
        });
        await Promise.all(pages.map((page) => reaches(page, 'connected')));
        assert.deepEqual(await Promise.all(pages.map(session)), before, signal);
      }
      for (const page of pages) {
        const [, ...since] = await states(page);
        assert.deepEqual(since, ['connected', 'connecting 1001', 'connected', 'connecting 1006', 'connected']);
        // Before they came, some were Offline.
        for (const user of users) assert.ok((await told(page, user)).lastIndexOf('Offline') <= 0, user);
      }
      const { events } = await get(hub, '/v1/events?limit=1000');
      assert.deepEqual(events.map(({ user, cause }) => [user, cause]), users.map((user) => [user, 'login']));
    } finally {
      await proxy.stop();
      await hub.stop();
    }
  },

  async '15 s without network need no reconnect'({ usual, short, name }) {
    const { page } = short;
    await short.healed;
    await hearsNews(page, name('rita-friend'));
    await lives(page);
    assert.deepEqual(await states(page), ['connecting', 'connected']);
    assert.equal((await logins(page)).length, 1);
    assert.deepEqual(await log(usual, name('rita')), ['login Online']);
  },

  async '70 s without network are detected after 60 s, and the client recovers'({ usual, long, name }) {
    const { page } = long;
    const tess = name('tess');
    await long.healed;
    await until('it is back', async () => (await logins(page)).length === 2);
    assert.deepEqual(await log(usual, tess), ['login Online', 'silence Offline', 'login Online']);
    const [, silence, back] = await history(usual, tess);
    const lasted = silence.at - silence.evidence.last_heard;
    assert.ok(lasted >= 60_000 && lasted < 62_000, `${lasted} ms of silence`);
    assert.ok(back.at >= long.healedAt, 'back after the hole');
    // The hub's Close was delayed by the outage, and a reset may overtake it.
    const [, , lost] = await states(page);
    assert.ok(['connecting 4002', 'connecting 1006'].includes(lost), lost);
    await hearsNews(page, name('tess-friend'));
  },

  async 'tabs that shared a session keep living side by side'({ assertSideBySide }) {
    await assertSideBySide();
  },
};

/** Leaves a page that watches a friend without network, silently, in real time and beside everything else. */
export async function startHole({ usual, one, open, name }, user, ms) {
  const proxy = await startProxy(usual.port);
  const hole = { stop: () => (clearTimeout(hole.timer), proxy.stop()) };
  try {
    const friend = clientOf(usual, name(`${user}-friend`));
    await friend.connect();
    hole.page = await open(one, user, { place: proxy, watch: [name(`${user}-friend`)] });
    await sees(hole.page, name(`${user}-friend`), 'Online');
    proxy.cut();
    hole.healed = new Promise((done) => {
      hole.timer = setTimeout(() => {
        hole.healedAt = Date.now();
        done(proxy.heal());
      }, ms);
    });
    await friend.setStatus('meanwhile');
    return hole;
  } catch (error) {
    await hole.stop();
    throw error;
  }
}

export function destroyClients() {
  for (const client of clients) client.destroy();
}

/** A user's transitions as the hub has them, the oldest first: cause, the user's state, the close code. */
async function log(hub, user) {
  const line = ({ cause, state, evidence }) => [cause, state.to, evidence.close_code].filter(Boolean).join(' ');
  return (await history(hub, user)).map(line);
}

/** The log is this one, where every `close` came by a Close frame: the SDK's has no code, an engine's own 1001. */
function assertGoodbye(lines, expected) {
  assert.deepEqual(lines.map((line) => line.replace(/^(close \w+) (1001|1005)$/, '$1')), expected);
}

/** The sessions that this page has had since it was loaded, and whether they were resumed. */
const logins = async (page) => (await heard(page, 'session')).map(({ session, resumed }) => [session, resumed]);

/** What this user set while the page had no network has come. */
const hearsNews = (page, user) =>
  until('it hears of meanwhile', () => page.evaluate((who) => client.get(who).custom === 'meanwhile', user));

/** A client in Node. */
function clientOf(hub, user, options) {
  const url = `${hub.origin.replace('http', 'ws')}/ws`;
  const client = new PresenceClient({ url, device: 'd1', WebSocket, getToken: () => hub.tokenFor(user, '1h'), ...options });
  clients.push(client);
  return client;
}

/** Cuts a client's network, and waits until the hub has detected it. */
async function cutOff(hub, user) {
  const proxy = await startProxy(hub.port);
  try {
    await clientOf(hub, user, { url: `${proxy.origin.replace('http', 'ws')}/ws` }).connect();
    proxy.cut();
    await until(`${user} is missed`, async () => (await get(hub, `/v1/users/${user}`)).state === 'Offline');
    assert.deepEqual(await log(hub, user), ['login Online', 'silence Offline']);
  } finally {
    await proxy.stop();
  }
}
