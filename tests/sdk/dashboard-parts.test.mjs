// The dashboard's own logic, without a browser: lanes, sampling, words for causes, warnings.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { page } from './modules.mjs';

const { lanesOf } = await page('dashboard/lanes.js');
const { Sampler } = await page('dashboard/sampler.js');
const { CAUSES, sentence, why } = await page('dashboard/causes.js');
const { attentionOf } = await page('dashboard/attention.js');
const { groupsOf } = await page('dashboard/failures.js');
const { duration, written } = await page('dashboard/format.js');
const { address, readRoute } = await page('dashboard/router.js');

/** An event of the log, as far as lanes need it. */
const event = (at, cause, [platform, device, session], [from, to], [userFrom, userTo], more = {}) => ({
  id: `${at}-${session}`,
  user: 'u',
  at,
  cause,
  version: at,
  state: { from: userFrom, to: userTo },
  terminal: { platform, device, session, from, to },
  status: { state: userTo, custom: null },
  by: null,
  evidence: {},
  ...more,
});
const phone = (session) => ['ios', 'phone', session];
const tab = (session) => ['web', 'tab', session];
const shape = (lane) => lane.pieces.map(({ from, to, state }) => `${from}-${to} ${state}`);

describe('lanes', () => {
  test('a device has the state that the log says, and the user has the best state', () => {
    const events = [
      event(10, 'login', phone('a'), [null, 'Online'], ['Offline', 'Online']),
      event(20, 'login', tab('b'), [null, 'Online'], ['Online', 'Online']),
      event(30, 'close', phone('a'), ['Online', 'PushOnline'], ['Online', 'Online']),
      event(40, 'silence', tab('b'), ['Online', null], ['Online', 'PushOnline']),
    ];
    const now = { state: 'PushOnline', terminals: [{ platform: 'ios', device: 'phone', session: 'a', state: 'PushOnline' }] };
    const [user, ios, web] = lanesOf(events, now, 0, 50);
    assert.deepEqual(shape(user), ['0-10 Offline', '10-40 Online', '40-50 PushOnline']);
    assert.deepEqual(shape(ios), ['0-10 Offline', '10-30 Online', '30-50 PushOnline']);
    assert.deepEqual(shape(web), ['0-20 Offline', '20-40 Online', '40-50 Offline']);
    assert.deepEqual(
      user.events.map(({ at }) => at),
      [10, 40],
      'what did not change the user is no mark in the user’s lane',
    );
  });

  test('without an event the present state also holds before it', () => {
    const now = { state: 'Online', terminals: [{ platform: 'ios', device: 'phone', session: 'a', state: 'Online' }] };
    assert.deepEqual(lanesOf([], now, 0, 50).map(shape), [['0-50 Online'], ['0-50 Online']]);
    const ended = [event(25, 'logout', tab('b'), ['Online', null], ['Online', 'Online'])];
    assert.deepEqual(lanesOf(ended, now, 0, 50).map(shape), [['0-50 Online'], ['0-50 Online'], ['0-25 Online', '25-50 Offline']]);
    assert.deepEqual(lanesOf(ended, now, 0, 20).map(shape)[2], ['0-20 Online'], 'what comes later is not shown, but known');
  });

  test('shared tabs are one device; a login that replaces a session leaves no lane behind', () => {
    const now = { state: 'Offline', terminals: [] };
    const tabs = [
      event(10, 'login', tab('a'), [null, 'Online'], ['Offline', 'Online']),
      event(20, 'login', tab('b'), [null, 'Online'], ['Online', 'Online']),
      event(30, 'close', tab('a'), ['Online', null], ['Online', 'Online']),
      event(40, 'close', tab('b'), ['Online', null], ['Online', 'Offline']),
    ];
    assert.deepEqual(shape(lanesOf(tabs, now, 0, 50)[1]), ['0-10 Offline', '10-40 Online', '40-50 Offline']);
    const replaced = [
      event(10, 'login', phone('a'), [null, 'Online'], ['Offline', 'Online']),
      event(20, 'login', phone('b'), ['Online', 'Online'], ['Online', 'Online']),
      event(30, 'logout', phone('b'), ['Online', null], ['Online', 'Offline']),
    ];
    assert.deepEqual(shape(lanesOf(replaced, now, 0, 50)[1]), ['0-10 Offline', '10-30 Online', '30-50 Offline']);
    assert.deepEqual(shape(lanesOf(replaced.slice(1), now, 15, 50)[1]), ['15-30 Online', '30-50 Offline']);
  });
});

test('each second shows at most the limit, and the dropped rows are spread evenly', () => {
  const sampler = new Sampler(50);
  const shown = [];
  let came = 0;
  for (let now = 0; now < 5000; now += 100) {
    const batch = Array.from({ length: now % 1000 === 0 ? 200 : 3 }, () => came++);
    for (const it of sampler.take(batch, now)) shown.push({ it, now });
  }
  for (let from = 0; from < 4000; from += 50) {
    const inSecond = shown.filter(({ now }) => now >= from && now < from + 1000).length;
    assert.ok(inSecond <= 50, `${inSecond} from ${from} on`);
  }
  assert.ok(shown.length > 200);
  const [first] = [
    new Sampler(50).take(
      Array.from({ length: 200 }, (_, i) => i),
      0,
    ),
  ];
  assert.deepEqual([first[0], first[1], first[49]], [0, 4, 196]);
  assert.deepEqual(new Sampler(50).take([1, 2, 3], 0), [1, 2, 3], 'few are all shown');
});

test('each cause has a sentence with its evidence', () => {
  const of = (cause, to, more) => event(100_000, cause, phone('a'), ['Online', to], ['Online', to ?? 'Offline'], more);
  assert.equal(sentence(of('silence', null, { evidence: { last_heard: 39_900 } })), 'Offline: nothing heard for 60 s');
  assert.equal(
    sentence(of('silence', 'PushOnline', { at: 500_000, evidence: { last_heard: 99_500 } })),
    'PushOnline: nothing heard for 6 min 40 s',
  );
  assert.equal(
    sentence(of('close', 'PushOnline', { evidence: { close_code: 1001 } })),
    'PushOnline: the client closed the connection: page left or app closed (1001)',
  );
  assert.equal(
    why(of('kicked', null, { by: { kind: 'login', platform: 'web', device: 'd9' } })),
    'kicked by the newer login of Web d9',
  );
  assert.equal(
    why(of('kicked', null, { by: { kind: 'own', platform: 'web', device: 'd9' } })),
    'ended by the same user, on Web d9',
  );
  assert.equal(why(of('kicked', null, { by: { kind: 'admin', message: 'bye' } })), 'kicked by the back end: “bye”');
  assert.equal(why(of('login', 'Online', { kicked: [{ platform: 'ios', device: 'x' }] })), 'logged in, and kicked iOS x');
  const seen = (hidden, blocked) => why(of('visibility', 'Online', { visibility: { hidden, hidden_since: null, blocked } }));
  assert.equal(seen(true, []), 'who may see the user was changed: hidden from everybody else, no viewer blocked');
  assert.equal(seen(false, ['a', 'b']), 'who may see the user was changed: not hidden, 2 blocked (a, b)');
  assert.match(seen(false, ['a', 'b', 'c', 'd']), /4 blocked \(a, b, c, …\)/);
  const causes = [
    'login',
    'resume',
    'logout',
    'close',
    'silence',
    'background',
    'exit',
    'expired',
    'kicked',
    'token_expired',
    'node_lost',
    'custom',
    'visibility',
    'idle',
    'active',
    'recovered',
  ];
  assert.deepEqual(CAUSES, causes);
  for (const cause of causes) {
    assert.doesNotMatch(why(of(cause, null)), /why_|undefined|\{/, cause);
  }
});

test('failures of one kind are merged, with the first and the last time', () => {
  const failure = (at, error, attempts = 1, events = 1) => ({ at, error, attempts, events });
  assert.deepEqual(groupsOf([]), []);
  assert.deepEqual(groupsOf([
    failure(10, 'status 500: request 1', 1, 100),
    failure(20, 'no answer within 5s'),
    failure(30, 'status 500: request 2', 2, 7),
  ]), [
    { kind: 'status 500', error: 'status 500: request 2', requests: 2, events: 100, attempts: 2, first: 10, last: 30 },
    { kind: 'no answer within 5s', error: 'no answer within 5s', requests: 1, events: 1, attempts: 1, first: 20, last: 20 },
  ]);
});

test('durations are formatted for people and for configurations', () => {
  assert.deepEqual([400, 60_000, 60_900, 400_000, 7 * 86_400_000, 90_061_000].map(duration), [
    '400 ms',
    '60 s',
    '60 s',
    '6 min 40 s',
    '7 d',
    '25 h 1 min',
  ]);
  assert.deepEqual(['60s', '400s', '7d', '1500ms', 'kick_old'].map(written), ['60 s', '6 min 40 s', '7 d', '1 s', 'kick_old']);
});

test('a URL can hold any user id', () => {
  for (const user of ['a/b', '<img src=x>', 'a?b#c%', '王小明', '%zz']) {
    const route = readRoute(address('users', { range: 'day', none: '' }, user));
    assert.deepEqual(
      [route.screen, route.user, route.query.get('range'), route.query.has('none')],
      ['users', user, 'day', false],
    );
  }
  assert.equal(readRoute('#/users/%zz').user, '%zz', 'typed by hand');
});

describe('what needs attention', () => {
  const counts = (at, more = {}) => ({
    at,
    uptime_ms: at,
    refusals: 0,
    refusals_by_reason: {},
    closes_by_reason: {},
    slow_consumers: 0,
    stalls: 0,
    accept_errors: 0,
    store: { state: 'up', commits: 0, commit_us: 0, slow_commits: 0, failures: 0, damaged_rows: 0 },
    webhook: { state: 'up', accepted: 0, dead: 0, dead_waiting: 0 },
    outbox: { depth: 0, bytes: 0, age_ms: 0 },
    nodes: [{ id: 'n', state: 'up' }],
    ...more,
  });
  const before = Array.from({ length: 120 }, (_, i) => counts(i * 5000));
  const keys = (more, points = before) => attentionOf(counts(600_000, more), points).map(({ key }) => key);

  test('nothing when everything works', () => assert.deepEqual(keys({}), []));
  test('the webhook', () => {
    assert.deepEqual(keys({ webhook: { state: 'down', accepted: 0, dead: 0, dead_waiting: 0 }, outbox: { depth: 3, bytes: 9, age_ms: 9000 } }), [
      'attention_webhook_down',
    ]);
    assert.deepEqual(keys({ outbox: { depth: 3, bytes: 9, age_ms: 90_000 } }), ['attention_backlog']);
    const webhook = { state: 'up', accepted: 0, dead: 0, dead_waiting: 2 };
    const damaged = { state: 'up', commits: 0, commit_us: 0, slow_commits: 0, failures: 0, damaged_rows: 2 };
    assert.deepEqual(keys({ store: damaged }), ['attention_damaged']);
    assert.deepEqual(keys({ webhook }), ['attention_dead']);
    assert.deepEqual(keys({ webhook }, []), ['attention_dead'], 'after a restart as well');
    assert.deepEqual(keys({ webhook: { ...webhook, dead: 2, dead_waiting: 0 } }), [], 'all were seen to');
  });
  test('the store', () => {
    assert.deepEqual(keys({ store: { state: 'failing', commits: 0, commit_us: 0, slow_commits: 0, failures: 1, damaged_rows: 0 } }), [
      'attention_store_failing',
    ]);
    assert.deepEqual(keys({ store: { state: 'up', commits: 10, commit_us: 2_000_000, slow_commits: 9, failures: 0, damaged_rows: 0 } }), [
      'attention_store_slow',
    ]);
    assert.deepEqual(keys({ store: { state: 'up', commits: 10, commit_us: 20_000, slow_commits: 0, failures: 0, damaged_rows: 0 } }), []);
  });
  test('refusals that rise, but not a steady rate', () => {
    assert.deepEqual(keys({ refusals: 300, refusals_by_reason: { invalid_token: 280, kicked: 20 } }), ['attention_refusals']);
    assert.match(
      attentionOf(counts(600_000, { refusals: 300, refusals_by_reason: { kicked: 20, invalid_token: 280 } }), before)[0].values
        .reason,
      /token not accepted/,
    );
    const steady = Array.from({ length: 120 }, (_, i) => counts(i * 5000, { refusals: i * 25 }));
    assert.deepEqual(keys({ refusals: 3000 }, steady), []);
    assert.deepEqual(keys({ refusals: 20 }), [], 'few are none');
  });
  test('a disk that is nearly full, and open files near their limit', () => {
    const GiB = 1024 ** 3;
    const ofNode = (more) => keys({ nodes: [{ id: 'n', state: 'up', ...more }] });
    const disk = (free, total) => ofNode({ disk: { free_bytes: free * GiB, total_bytes: total * GiB }, open_files: null });
    assert.deepEqual(ofNode({ disk: null, open_files: null }), []);
    assert.deepEqual(disk(50, 1000), [], 'a large disk has enough');
    assert.deepEqual(disk(1, 4), [], 'so has a small one');
    assert.deepEqual(disk(1, 100), ['attention_disk']);
    const low = { state: 'up', commits: 0, commit_us: 0, slow_commits: 0, failures: 0, damaged_rows: 0, disk_low: true };
    const full = { id: 'n', state: 'up', disk: { free_bytes: GiB / 8, total_bytes: 100 * GiB }, open_files: null };
    assert.deepEqual(keys({ store: low, nodes: [full] }), ['attention_disk_low'], 'said once');
    assert.match(attentionOf(counts(600_000, { store: low, nodes: [full] }), before)[0].values.free, /128/);
    assert.deepEqual(keys({ store: low }), ['attention_disk_low'], 'also where the disk was not measured');
    assert.deepEqual(ofNode({ open_files: { used: 900, limit: 1000 } }), ['attention_files']);
    assert.deepEqual(ofNode({ open_files: { used: 800, limit: 1000 } }), []);
    assert.deepEqual(ofNode({ open_files: { used: 800, limit: null } }), [], 'no limit');
  });
  test('errors first, and no difference across a restart of the hub', () => {
    assert.deepEqual(keys({ stalls: 1, webhook: { state: 'failing', accepted: 0, dead: 0, dead_waiting: 0 } }), [
      'attention_webhook_failing',
      'attention_stalls',
    ]);
    assert.deepEqual(
      keys(
        { uptime_ms: 1000, stalls: 0 },
        before.map((it) => ({ ...it, stalls: 9 })),
      ),
      [],
    );
  });
});
