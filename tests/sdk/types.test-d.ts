// Uses the SDK's types rightly, and, under each @ts-expect-error, wrongly. It is compiled, never run.

import { PresenceClient, PresenceError, type Options, type Status } from '../../static/presence.js';
import elements from '../../static/elements.mjs';
import * as react from '../../static/react.mjs';
import * as svelte from '../../static/svelte.mjs';
import { TestHub } from '../../static/test.mjs';
import * as vue from '../../static/vue.mjs';
import sdk, { PresenceClient as Imported } from '../../static/presence.mjs';

declare const Taro: { connectSocket(option: { url: string }): Promise<WechatMiniprogram.SocketTask> };

const options: Options = { url: 'wss://hub.example.com/ws', getToken: async ({ expired }) => (expired ? 'new' : 'old') };
const client = new PresenceClient(options);
new PresenceClient({ url: 'wss://hub.example.com/ws', token: 'T', platform: 'ios', device: 'd1', app: 'test', user: 'alice' });
new PresenceClient({ ...options, minDelay: 500, maxDelay: 20000, timeout: 10000, heartbeat: 20000, staleAfter: 5000 });
for (const away of [false, { after: '10m' }, { after: '5m', hidden: '1m' }] as const) new PresenceClient({ ...options, away });
for (const adapter of [window, wx, my, Taro]) new PresenceClient({ ...options, adapter });
new PresenceClient({ ...options, WebSocket });
new sdk.PresenceClient(options) satisfies Imported;
// @ts-expect-error: the hub's address is required
new PresenceClient({ token: 'T' });
// @ts-expect-error: no such platform
new PresenceClient({ ...options, platform: 'fridge' });
// @ts-expect-error: there is no default to switch on
new PresenceClient({ ...options, away: true });
// @ts-expect-error: a misspelt option
new PresenceClient({ ...options, getTokens: () => 'T' });
// @ts-expect-error: a token is text
new PresenceClient({ ...options, getToken: () => 5 });
// @ts-expect-error: a host has sockets
new PresenceClient({ ...options, adapter: { connectSocket: 'no' } });

async function answers(): Promise<[string, boolean, string | null, number | null]> {
  const { session, resumed, kicked, status } = await client.connect({ force: true });
  for (const { platform, device } of kicked) console.log(platform === 'web', device);
  await client.loginHere();
  const { statuses, errors } = await client.query(['alice', 'bob']);
  for (const { user, code } of errors) console.log(user, code === 'forbidden');
  const mine: Status = await client.setStatus(null);
  const [terminal] = await client.sessions();
  if (terminal?.activity === 'idle' && mine.away) console.log(terminal.active_at);
  if (terminal && !terminal.current) await client.kick(terminal.session);
  const deadline = await client.background('exit');
  await client.foreground();
  await client.refresh('T');
  const nothing: void = await client.logout();
  await client.destroy();
  return [session, resumed, (mine ?? status ?? statuses[0]).custom, deadline ?? nothing ?? null];
}

// @ts-expect-error: one reason of two
client.background('sleep');
// @ts-expect-error: text or null
client.setStatus(5);
// @ts-expect-error: a session's id
client.kick({ session: 's1' });
// @ts-expect-error: a promise
client.sessions().length;

const end: () => void = client.subscribe('alice', ({ user, state, platforms, since, version }) => {
  if (state === 'PushOnline') console.log(user, platforms.join(), since ?? 0, version + 1);
  // @ts-expect-error: no such state
  if (state === 'Away') end();
});
client.subscribe(['alice', 'bob'], console.log);
// @ts-expect-error: somebody has to be told
client.subscribe('alice');
// @ts-expect-error: users have text for names
client.subscribe([5], console.log);

const known: Status | null = client.get('alice');
// @ts-expect-error: nothing may be known
known.state;
const { state, user, session, platform, device } = client;
if (state === 'connected') console.log(user?.length, session?.length, platform === 'miniprogram', device.length);
// @ts-expect-error: read only
client.state = 'connected';

const stop: () => void = client.contacts(({ whole, statuses, added, removed }) => console.log(whole === true, statuses[0]?.state, added[0]?.user, removed[0]?.length));
client.hide().then(({ hidden }) => console.log(hidden === true));
client.block(['bob']).then((count) => client.unblock('bob').then((left) => console.log(count - left)));
client.blocked().then((users) => console.log(users[0]?.length));
client.on('unwatched', ({ users }) => console.log(users[0]?.length));
// @ts-expect-error: not a text
client.hide('yes');

const off: () => void = client.on('state', ({ state, previous, code }) => console.log(state === previous, code === 4003));
client.on('session', ({ ping_ms, silence_ms, now, expires_at }) => console.log(ping_ms + silence_ms + now + expires_at));
client.on('status', ({ last_seen }) => console.log(last_seen));
client.on('kicked', ({ reason, by, at, message }) => console.log(reason === 'session_over', by?.device, at, message));
client.on('stale', (stale: boolean) => console.log(stale === client.stale));
// @ts-expect-error: read only
client.stale = false;
client.on('superseded', (error: PresenceError) => console.log(error.close === 4503));
client.on('tokenExpiring', ({ expires_at }) => console.log(new Date(expires_at)));
client.on('error', ({ code, message, close, devices }) => console.log(code, message, close, devices?.[0]?.platform));
client.off('error', console.log);
// @ts-expect-error: no such event
client.on('disconnected', console.log);
// @ts-expect-error: a status has no code
client.on('status', ({ code }) => console.log(code));
// @ts-expect-error: how a connection ended, if it did
client.on('state', ({ code }) => console.log(code + 1));

// The elements.
elements.client = client;
PresenceElements.nameOf = (user) => user.toUpperCase();
const shown = document.createElement('presence-list');
shown.users = ['alice', 'bob'] as const;
shown.users = null;
// @ts-expect-error: a client, or null
elements.client = {};
// @ts-expect-error: a list
shown.users = 'alice';

// The bindings. One id is a status, a list is a map, and nothing may be known.
declare const maybe: string | null;
const one: Status | null = react.usePresence('alice');
const sure: Status | null = react.usePresence(maybe);
const several: ReadonlyMap<string, Status> = react.usePresence(['alice', maybe]);
react.PresenceProvider({ client: maybe ? client : null });
const { user: own, connection, stale, status: mine } = react.useSelf();
console.log(one?.state, sure?.state, several.size, own?.length, connection === 'connected', stale, mine?.custom);
react.useKicked()?.loginHere().then(({ session }) => session);
// @ts-expect-error: one status has no size
react.usePresence('alice').size;
// @ts-expect-error: ids are text
react.usePresence([5]);
// @ts-expect-error: a client, or null
react.PresenceProvider({ client: 'wss://hub' });
vue.providePresence(() => client);
const inVue: Status | null = vue.usePresence(() => maybe).value;
const mapInVue: ReadonlyMap<string, Status> = vue.usePresence(['alice']).value;
console.log(inVue, mapInVue, vue.useSelf().value.connection, vue.useKicked().value?.reason === 'superseded');
// @ts-expect-error: read only
vue.useSelf().value = null;
svelte.providePresence(client);
svelte.usePresence(['alice']).subscribe((statuses: ReadonlyMap<string, Status>) => statuses.get('alice'));
svelte.usePresenceClient().subscribe((it) => it?.setStatus('x'));

// A hub in memory.
const hub = new TestHub();
hub.client('me', { platform: 'ios' }) satisfies PresenceClient;
hub.set('bob', 'Online').version.toFixed();
hub.set('bob', { state: 'Online', away: true });
hub.kick('me', { reason: 'admin', message: 'bye' });
hub.close().then(() => hub.requests[0]?.type);
// @ts-expect-error: no such state
hub.set('bob', 'Away');
// @ts-expect-error: no such reason
hub.kick('me', { reason: 'bored' });

export { answers, off, stop };
