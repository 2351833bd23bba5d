// Who looks: the hub trades a key for a cookie that no script can read, and says what the key may do. Behind a proxy
// with single sign-on no key is needed: the proxy names the user in each request.

import { t } from '../i18n.js';
import { byId } from '../ui.js';
import { ApiError, act, get } from './api.js';
import { live } from './live.js';

/** @type {?import('./shapes.d.ts').Session} */
let session = null;
/** Kept as long as this page: a hub that was restarted knows no cookie any more. Never stored. */
let usedKey = '';
/** Whoever logs out in one tab does so in all: no other may log in again by itself. */
const tabs = new BroadcastChannel('presence-hub session');
tabs.addEventListener('message', () => (usedKey = ''));

/** Whether kicks, retries and the like are allowed. */
export const mayAct = () => session !== null && session.role !== 'viewer';

/** Whether the configuration is shown. */
export const isAdmin = () => session?.role === 'admin';

/** A name for the key, as the hub's log of actions has it; the user, if a proxy named one. */
export const keyName = () => session?.user ?? session?.key ?? '';

/** The user whom a proxy named. Only the proxy can log such a user out. */
export const userName = () => session?.user ?? null;

/** The role's word. */
export const roleWord = () => t(isAdmin() ? 'role_admin' : 'role_viewer');

/** By the key in the address, which is taken out of it, or by the cookie of before. Throws where there is neither. */
export async function begin() {
  const key = new URLSearchParams(location.hash.slice(1)).get('key');
  if (key !== null) {
    history.replaceState(null, '', '#/overview');
    usedKey = key;
  }
  try {
    if (usedKey) await logIn(usedKey);
    else session = await get('admin/session');
  } catch (error) {
    if (error instanceof ApiError && error.isRefused) usedKey = '';
    throw error;
  }
}

/** @param {string} key */
export async function logIn(key) {
  session = await act('POST', 'admin/session', { key });
  usedKey = key;
}

/**
 * Shows the hub the key of this page again. A session's time is kept: what has expired is over.
 *
 * @returns {Promise<'in' | 'out' | 'away'>}
 */
export async function logInAgain() {
  if (!usedKey || (session?.expires ?? 0) <= live.now()) return 'out';
  try {
    await logIn(usedKey);
    return 'in';
  } catch (error) {
    if (error instanceof ApiError && !error.isRefused) return 'away';
    usedKey = '';
    return 'out';
  }
}

export async function logOut() {
  session = null;
  usedKey = '';
  tabs.postMessage('log out');
  await act('DELETE', 'admin/session');
}

/** The form's answer to what went wrong. @param {unknown} error */
export function tellProblem(error) {
  const problem = byId('key-problem');
  problem.hidden = !error;
  if (!(error instanceof ApiError)) return;
  if (error.status === 429) problem.textContent = t('key_slow', { seconds: error.retryAfter ?? 12 });
  else if (error.status === 401) problem.textContent = t('key_wrong');
  else if (error.code === 'no_role') problem.textContent = t('proxy_no_role');
  else if (error.status === 403) problem.textContent = t('key_api');
  else problem.textContent = t('failed', { message: error.message });
}
