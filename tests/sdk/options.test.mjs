// Wrong options and arguments: the message alone says what to change.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { record, settle, World } from './fake.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');
const url = 'wss://hub.example.com/ws';
const ADDRESS = 'expected an address such as "wss://hub.example.com/ws"';
const PLATFORMS = 'android|ios|ipad|windows|mac|linux|web|miniprogram';
const OPTIONS = 'url|getToken|token|platform|device|app|user|away|adapter|WebSocket|minDelay|maxDelay|timeout|probeTimeout|heartbeat|staleAfter';
const TIME = 'expected text such as "90s" or "5m"';
const MS = 'expected milliseconds, 1 to 99999999';
const jwt = `eyJhbGciOiJIUzI1NiJ9.${'p'.repeat(120)}.${'s'.repeat(43)}`;

const WRONG_OPTIONS = [
  [{}, `option url is null; ${ADDRESS}`],
  [{ url: null }, `option url is null; ${ADDRESS}`],
  [{ url: '' }, `option url is ""; ${ADDRESS}`],
  [{ url: '/ws' }, `option url is "/ws"; ${ADDRESS}`],
  [{ url: 'https://hub.example.com/ws' }, `option url is "https://hub.example.com/ws"; ${ADDRESS}`],
  [{ url: 'ws://hub.example.com/ws here' }, `option url is "ws://hub.example.com/ws here"; ${ADDRESS}`],
  [{ url: { host: 'hub' } }, `option url is [object Object]; ${ADDRESS}`],
  [{ url, getToken: 'T' }, 'option getToken is "T"; expected a function'],
  [{ url, getToken: Promise.resolve('T') }, 'option getToken is [object Promise]; expected a function'],
  [{ url, token: { token: 'T' } }, 'option token is [object Object]; expected a JWT as text'],
  [{ url, token: '' }, 'option token is ""; expected a JWT as text'],
  [{ url, token: '<!doctype html>' }, 'option token is "<!doctype html>"; expected a JWT as text'],
  [{ url, platform: 'fridge' }, `option platform is "fridge"; expected ${PLATFORMS}`],
  [{ url, device: '' }, 'option device is ""; expected text of 1 to 128 bytes'],
  [{ url, device: 42 }, 'option device is 42; expected text of 1 to 128 bytes'],
  [{ url, device: 'ü'.repeat(65) }, `option device is "${'ü'.repeat(65)}"; expected text of 1 to 128 bytes`],
  [{ url, device: 'half a character: \ud83d' }, 'option device is "half a character: \\ud83d"; expected text of 1 to 128 bytes'],
  [{ url, app: ['shop', '4.2'] }, 'option app is shop,4.2; expected text of at most 256 bytes'],
  [{ url, user: 42 }, 'option user is 42; expected text'],
  [{ url, away: true }, 'option away is true; expected { after, hidden } or false'],
  [{ url, away: '5m' }, 'option away is "5m"; expected { after, hidden } or false'],
  [{ url, away: { after: 300_000 } }, `option after is 300000; ${TIME}`],
  [{ url, away: { hidden: '0s' } }, `option hidden is "0s"; ${TIME}`],
  [{ url, away: { hidden: '5 minutes' } }, `option hidden is "5 minutes"; ${TIME}`],
  [{ url, away: { idle: '5m' } }, 'option name is "idle"; expected after|hidden'],
  [{ url, adapter: {} }, 'option WebSocket, or adapter.connectSocket, is undefined; expected a function'],
  [{ url, adapter: 'wx' }, 'option WebSocket, or adapter.connectSocket, is undefined; expected a function'],
  [{ url, adapter: { connectSocket: 'no' } }, 'option WebSocket, or adapter.connectSocket, is "no"; expected a function'],
  [{ url, WebSocket: 'ws' }, 'option WebSocket is "ws"; expected a function'],
  [{ url, minDelay: -1 }, `option minDelay is -1; ${MS}`],
  [{ url, maxDelay: '20s' }, `option maxDelay is "20s"; ${MS}`],
  [{ url, timeout: 0 }, `option timeout is 0; ${MS}`],
  [{ url, probeTimeout: NaN }, `option probeTimeout is NaN; ${MS}`],
  [{ url, heartbeat: Infinity }, `option heartbeat is Infinity; ${MS}`],
  [{ url, staleAfter: 2 ** 31 }, `option staleAfter is 2147483648; ${MS}`],
  [{ url, getTokens: () => 'T' }, `option name is "getTokens"; expected ${OPTIONS}`],
  [undefined, `option url is null; ${ADDRESS}`],
];

describe('wrong options', () => {
  for (const [options, message] of WRONG_OPTIONS) {
    test(message.slice(0, 60), () => {
      assert.throws(() => new PresenceClient(options), { name: 'TypeError', message: `PresenceClient: ${message}` });
    });
  }

  test('a long value is cut, so that no error contains a whole token', () => {
    assert.throws(() => new PresenceClient({ url, getToken: jwt }), ({ message }) => message.includes(jwt.slice(0, 100)) && !message.includes(jwt.slice(-43)));
  });

  test('null and undefined count as absent', () => {
    const options = { url, token: null, getToken: undefined, platform: null, device: undefined, app: null, user: null, away: null, timeout: null, adapter: null };
    assert.equal(new PresenceClient(options).platform, 'web');
  });

  test('the longest texts, the shortest and longest times, and every platform are accepted', () => {
    for (const platform of PLATFORMS.split('|')) {
      new PresenceClient({ url, platform, device: 'ü'.repeat(64), away: { after: '9999h', hidden: '1s' }, app: '语'.repeat(85), token: ` ${jwt}\n`, minDelay: 1, maxDelay: 99_999_999, timeout: 1.5 });
    }
    for (const right of ['ws://localhost:7800/ws', 'WSS://münchen.example/ws?a=b', 'ws://[::1]:1/']) new PresenceClient({ url: right });
  });
});

test('wrong arguments throw errors that name them', async () => {
  const client = new World().client();
  const events = 'state|session|status|stale|kicked|superseded|tokenExpiring|unwatched|error';
  const wrong = [
    [() => client.subscribe('bob'), 'callback is undefined; expected a function'],
    [() => client.subscribe({ user: 'bob' }, () => {}), 'users is [object Object]; expected user ids'],
    [() => client.subscribe(new Set(['bob']), () => {}), 'users is [object Set]; expected user ids'],
    [() => client.on('disconnected', () => {}), `event is "disconnected"; expected ${events}`],
    [() => client.on('error'), 'listener is undefined; expected a function'],
  ];
  for (const [call, message] of wrong) assert.throws(call, { name: 'TypeError', message: `PresenceClient: ${message}` });
  await assert.rejects(client.setStatus(5), { name: 'TypeError', message: 'PresenceClient: custom is 5; expected text of at most 256 bytes' });
  await assert.rejects(client.setStatus('half a character: \ud83d'), { name: 'TypeError' });
  await assert.rejects(client.query([{}]), { name: 'TypeError', message: 'PresenceClient: users is [object Object]; expected user ids' });
  await assert.rejects(client.refresh({ token: 'T' }), { name: 'TypeError', message: 'PresenceClient: token is [object Object]; expected a JWT as text' });
});

test('a host without WebSocket is an error that says which option to set', async () => {
  const { WebSocket } = globalThis;
  delete globalThis.WebSocket;
  try {
    const client = new PresenceClient({ url, token: 'T', device: 'd1' });
    const events = record(client);
    client.connect();
    await settle();
    const [{ code, message }] = events.of('error');
    assert.deepEqual([code, message], ['transport', 'PresenceClient: option WebSocket, or adapter.connectSocket, is undefined; expected a function']);
    await client.destroy();
  } finally {
    if (WebSocket) globalThis.WebSocket = WebSocket;
  }
});
