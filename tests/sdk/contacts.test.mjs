// The watch list, hiding and blocking in the SDK; the test plays the hub.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { record, settle, status, time, World } from './fake.mjs';

let world;

beforeEach(() => {
  time.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  mock.method(Math, 'random', () => 0.5);
  world = new World();
});

afterEach(() => {
  time.reset();
  mock.restoreAll();
});

const pass = async (ms) => {
  time.tick(ms);
  await settle();
};

const off = (user, version) => status(user, version, 'Offline');
const brief = ({ whole, statuses, added, removed }) =>
  [whole ? 'whole' : 'news', ...statuses.map(({ user, state }) => `${user} ${state}`), ...added.map(({ user, state }) => `+${user} ${state}`), ...removed.map((user) => `-${user}`)].join(', ');

/** A client that follows its watch list, logged in. */
async function following(prepare = () => {}) {
  const client = world.client();
  const told = [];
  const events = record(client);
  const end = client.contacts((news) => told.push(brief(news)));
  prepare(client);
  client.connect();
  await world.login();
  return { client, told, events, end };
}

const asked = () => world.last.sent.filter(({ type, watch_list }) => type === 'subscribe' && watch_list);
const page = (statuses, next = null, count = 9) => world.reply(asked().at(-1).id, { statuses, count, next });
const reconnect = async () => {
  await world.close(1006);
  await pass(20000);
  await world.login();
};

describe('contacts', () => {
  test('all pages are read before the first news, with what was pushed meanwhile', async () => {
    const { client, told } = await following();
    assert.deepEqual(asked().map(({ users, after }) => [users, after]), [[undefined, undefined]]);
    await page([status('ann', 5), status('bob', 5)], 'bob');
    assert.equal(asked()[1].after, 'bob');
    await world.push({ type: 'status', ...off('ann', 6) });
    await world.push({ type: 'status', ...status('zoe', 6) });
    assert.deepEqual(told, []);
    await page([status('eve', 5)]);
    assert.deepEqual(told, ['whole, bob Online, zoe Online, eve Online']);
    assert.equal(client.get('ann').state, 'Offline');
    assert.equal(client.get('nobody'), null);
  });

  test('a page that comes after a removal does not bring the removed user back', async () => {
    const { client, told } = await following();
    await page([status('ann', 5)], 'ann');
    await world.push({ type: 'watch_list', added: [], removed: ['ann', 'bob'] });
    await page([status('bob', 5), status('eve', 5)]);
    assert.deepEqual(told, ['whole, eve Online']);
    assert.deepEqual([client.get('ann'), client.get('bob')], [null, null]);
  });

  test('an empty list is told, too', async () => {
    const { told } = await following();
    await page([], null, 0);
    assert.deepEqual(told, ['whole']);
  });

  test('changes of statuses, and of the list', async () => {
    const { client, told, events } = await following();
    await page([status('ann', 5)]);
    told.length = 0;
    await world.push({ type: 'status', ...off('ann', 6) });
    await world.push({ type: 'status', ...status('ann', 6) });
    await world.push({ type: 'watch_list', added: [off('bob', 3), status('eve', 4)], removed: ['ann'] });
    await world.push({ type: 'status', ...status('bob', 7) });
    assert.deepEqual(told, ['news, ann Offline', 'news, +bob Offline, +eve Online, -ann', 'news, bob Online']);
    assert.equal(client.get('ann'), null);
    assert.deepEqual(events.of('status').map(({ user }) => user), ['me', 'ann', 'ann', 'bob', 'eve', 'bob']);
    await world.push({ type: 'status', ...status('ann', 9) });
    assert.equal(client.get('ann'), null, 'a late status of a removed user');
    assert.equal(told.length, 3);
  });

  test('a reconnect reads the list again; whoever is not named any more is Offline', async () => {
    const { client, told, events } = await following();
    await page([status('ann', 5), status('bob', 5), status('eve', 5)]);
    await world.push({ type: 'watch_list', added: [], removed: ['eve'] });
    told.length = events.length = 0;
    await reconnect();
    assert.equal(client.get('ann').state, 'Online', 'known until the hub says otherwise');
    assert.equal(client.get('eve'), null);
    await page([status('bob', 5), status('eve', 7)]);
    assert.deepEqual(told, ['whole, bob Online, eve Online']);
    assert.deepEqual(events.of('status').map(({ user, state }) => `${user} ${state}`), ['eve Online', 'ann Offline']);
    assert.equal(client.get('ann').state, 'Offline');
    await world.push({ type: 'status', ...status('ann', 8) });
    assert.equal(told.at(-1), 'news, ann Online');
  });

  test('statuses are stale until all pages are read', async () => {
    const { client } = await following();
    await page([]);
    await world.close(1006);
    await pass(20000);
    assert.equal(client.stale, true);
    await world.login();
    await page([status('ann', 1)], 'ann');
    assert.equal(client.stale, true);
    await page([]);
    assert.equal(client.stale, false);
  });

  test('a page that fails: an error, and the list is read again from its begin', async () => {
    const { told, events } = await following();
    await page([status('ann', 5)], 'ann');
    await world.refuse(asked()[1].id, 'unavailable');
    assert.deepEqual(events.of('error').map(({ code }) => code), ['unavailable']);
    await pass(750);
    assert.equal(asked().length, 3);
    assert.equal(asked()[2].after, undefined);
    await page([status('bob', 6)]);
    assert.deepEqual(told, ['whole, ann Online, bob Online']);
  });

  test('a hub that knows no watch lists: an error, once', async () => {
    const { told, events } = await following();
    await world.refuse(asked()[0].id, 'bad_request');
    await pass(20000);
    assert.equal(asked().length, 1);
    assert.deepEqual([told, events.of('error').length], [[], 1]);
  });

  test('a second callback is told all of the list; the last to leave ends it, and keeps who is named', async () => {
    const { client, told, end } = await following((client) => client.subscribe('bob', () => {}));
    const names = world.last.sent.find(({ users }) => users);
    await world.reply(names.id, { statuses: [status('bob', 2)], errors: [] });
    await page([status('ann', 5)]);
    const second = [];
    const endSecond = client.contacts((news) => second.push(brief(news)));
    await settle();
    assert.deepEqual([told, second], [['whole, ann Online'], ['whole, ann Online']]);
    assert.equal(asked().length, 1);
    end();
    await world.push({ type: 'status', ...off('ann', 6) });
    assert.deepEqual([told.length, second.at(-1)], [1, 'news, ann Offline']);
    assert.equal(world.sent('unsubscribe'), undefined);
    endSecond();
    await settle();
    assert.equal(world.sent('unsubscribe').all, true);
    const again = world.last.sent.at(-1);
    assert.deepEqual([again.type, again.users], ['subscribe', ['bob']], 'all: true ended this, too');
    assert.deepEqual([client.get('ann'), client.get('bob').version], [null, 2]);
  });

  test('a log-out ends it, even from a callback', async () => {
    const { client, told } = await following();
    client.contacts(() => client.logout());
    client.contacts(() => assert.fail('after the log-out'));
    await page([status('ann', 5)]);
    assert.deepEqual(told, ['whole, ann Online']);
    client.connect();
    await world.login('s2');
    assert.equal(asked().length, 0);
    assert.equal(client.get('ann'), null);
  });

  test('one\'s own status is no contact, unless one is on the list', async () => {
    const { client, told } = await following((client) => client.subscribe('me', () => {}));
    await page([]);
    await world.push({ type: 'status', ...status('me', 7), custom: 'x' });
    assert.deepEqual(told, ['whole']);
    assert.equal(client.get('me').custom, 'x');
  });
});

describe('unwatched', () => {
  test('ends the subscriptions of these users, until they are subscribed to again', async () => {
    const client = world.client();
    const [seen, unwatched] = [[], []];
    client.subscribe(['ann', 'bob'], ({ user, version }) => seen.push(`${user} ${version}`));
    client.on('unwatched', ({ users }) => unwatched.push(...users));
    client.connect();
    await world.login();
    await world.reply(world.sent('subscribe').id, { statuses: [status('ann', 1), status('bob', 1)], errors: [] });
    await world.push({ type: 'unwatched', users: ['bob'] });
    assert.deepEqual(unwatched, ['bob']);
    assert.equal(client.get('bob'), null);
    await world.push({ type: 'status', ...status('bob', 2) });
    assert.deepEqual(seen, ['ann 1', 'bob 1']);
    client.subscribe('bob', ({ version }) => seen.push(`again ${version}`));
    await settle();
    assert.deepEqual(world.sent('subscribe').users, ['bob']);
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 3)], errors: [] });
    assert.deepEqual(seen, ['ann 1', 'bob 1', 'again 3']);
    await reconnect();
    assert.deepEqual(world.sent('subscribe').users, ['ann', 'bob']);
  });
});

describe('hide and block', () => {
  test('what is sent, and what it resolves with', async () => {
    const { client } = await following();
    for (const [act, sent, ok, result] of [
      [() => client.hide(), { type: 'set', hidden: true }, { status: { ...status('me', 2), hidden: true } }, { ...status('me', 2), hidden: true }],
      [() => client.hide(false), { type: 'set', hidden: false }, { status: status('me', 3) }, status('me', 3)],
      [() => client.block(['ann', 'bob', 'ann']), { type: 'block', users: ['ann', 'bob'] }, { count: 2 }, 2],
      [() => client.unblock('ann'), { type: 'unblock', users: ['ann'] }, { count: 1 }, 1],
      [() => client.blocked(), { type: 'blocked' }, { users: ['bob'] }, ['bob']],
    ]) {
      const answer = act();
      await settle();
      const { id, ...rest } = world.last.sent.at(-1);
      assert.deepEqual(rest, sent);
      await world.reply(id, ok);
      assert.deepEqual(await answer, result);
    }
    assert.equal(client.get('me').version, 3);
  });

  test('wrong arguments, and what the hub refuses, reject', async () => {
    const { client } = await following();
    await assert.rejects(client.hide('yes'), /hidden is "yes"; expected true or false/);
    await assert.rejects(client.block([{}]), TypeError);
    const refused = assert.rejects(client.block('ann'), { code: 'forbidden' });
    await settle();
    await world.refuse(world.sent('block').id, 'forbidden');
    await refused;
  });
});
