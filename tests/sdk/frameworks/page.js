// What the apps of all frameworks share: clients, and the page's handle to the app.

import { PresenceClient } from 'presence-hub';

const hub = new URLSearchParams(globalThis.location?.search).get('hub') ?? 'ws://hub';

/** All clients that were made, the oldest first. */
export const clients = (globalThis.clients = []);
/** The one in use: StrictMode makes another one, which is never connected. */
globalThis.current = () => clients.findLast(({ state }) => state !== 'disconnected');

/** A client of this account; null without one. */
export function clientOf(account) {
  if (!account) return null;
  const getToken = () => fetch(`/token/${account}`).then((answer) => answer.text());
  const client = new PresenceClient({ url: `${hub}/ws`, user: account, getToken });
  clients.push(client);
  return client;
}

export const ofSelf = ({ user, connection, stale, status }) => `${user} ${connection} ${stale ? 'stale' : 'fresh'} ${status?.state} ${status?.custom}`;
export const ofList = (users, statuses) => users.map((user) => `${user}:${statuses.get(user)?.state}`).join(' ');
export const ofOne = (user, status) => `${user}:${status?.state}`;

/** `mount(place)` answers with `set(props)` and `unmount()`. */
export function start(mount) {
  globalThis.app = { mount: () => Object.assign(app, mount(document.getElementById('root'))) };
}
