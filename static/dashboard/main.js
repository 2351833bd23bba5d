// The dashboard: logs in, shows the screen that the address names, and says how the link to the hub is.

import { locale, speak, t } from '../i18n.js';
import { byId, clock, el, keepTime } from '../ui.js';
import { ApiError, link } from './api.js';
import { icon } from './icons.js';
import { live } from './live.js';
import { address, readRoute } from './router.js';
import { begin, logIn, logInAgain, logOut, roleWord, tellProblem, userName } from './session.js';
import * as audit from './screens/audit.js';
import * as feed from './screens/feed.js';
import * as overview from './screens/overview.js';
import * as policy from './screens/policy.js';
import * as refusals from './screens/refusals.js';
import * as sessions from './screens/sessions.js';
import * as system from './screens/system.js';
import * as user from './screens/user.js';
import * as users from './screens/users.js';
import * as webhooks from './screens/webhooks.js';

/** @typedef {{ title: string, element: HTMLElement, close(): void }} Screen a title is a text, of whatever origin */

/** Those of the navigation. @type {Record<string, { open(route: import('./router.js').Route): Screen }>} */
const SCREENS = { overview, users, sessions, feed, refusals, policy, webhooks, audit, system };
const THEMES = ['auto', 'light', 'dark'];

let isIn = false;
/** Whether the key is shown again just now. */
let isEntering = false;
/** Whether it is known who looks. */
let isReady = false;
/** @type {?Screen} */
let shown = null;
/** What `shown` shows. */
let place = '';

async function start(isGiven = new URLSearchParams(location.hash.slice(1)).has('key')) {
  try {
    await begin();
    isIn = true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (!error.isRefused) {
      setTimeout(start, 1000, isGiven);
      return;
    }
    // Who comes without a key has done nothing wrong.
    if (error.status !== 401 || isGiven) tellProblem(error);
  }
  isReady = true;
  show();
}

/** Shows the screen of the address, or the form where the hub wants a key. @param {{ again?: boolean }} [how] */
function show({ again = false } = {}) {
  byId('key-form').hidden = isIn || !isReady;
  byId('screens').hidden = !isIn;
  byId('logout').hidden = !isIn || userName() !== null;
  byId('who').hidden = !isIn || userName() === null;
  byId('who').textContent = t('signed_in_as', { user: userName() ?? '', role: roleWord() });
  if (!isIn) {
    close();
    document.title = t('dash_title');
    return;
  }
  const route = readRoute(location.hash);
  const next = location.hash;
  const sameScreen = readRoute(place).screen === route.screen && shown !== null;
  close();
  const isUser = route.screen === 'users' && route.user !== null;
  const { open } = isUser ? user : SCREENS[screenOf(route)];
  shown = open(route);
  place = next;
  byId('screen').replaceChildren(shown.element);
  document.title = `${shown.title} · ${t('dash_title')}`;
  tellPlace();
  live.watch(['overview', 'system'].includes(screenOf(route)));
  if (!again && !sameScreen) {
    scrollTo(0, 0);
    if (document.activeElement !== document.body) byId('content').focus({ preventScroll: true });
  }
}

/** What an unknown address shows is the overview. @param {import('./router.js').Route} route */
const screenOf = ({ screen }) => (screen in SCREENS ? screen : 'overview');

function tellPlace() {
  const here = screenOf(readRoute(location.hash));
  for (const it of byId('screens').querySelectorAll('a')) {
    if (it.dataset.screen !== here) it.removeAttribute('aria-current');
    else {
      it.setAttribute('aria-current', 'page');
      it.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    }
  }
}

function close() {
  shown?.close();
  shown = null;
  if (!isIn) live.stop();
  byId('screen').replaceChildren();
}

function tellLink() {
  const { awaySince } = link;
  byId('away').hidden = awaySince === null;
  byId('away').textContent = awaySince === null ? '' : t('away', { at: clock(awaySince) });
  byId('screen').classList.toggle('stale', awaySince !== null);
  byId('link').dataset.link = awaySince === null ? 'up' : 'away';
  byId('link').textContent =
    !isIn && awaySince === null ? '' : `${awaySince === null ? '●' : '○'} ${t(awaySince === null ? 'link_up' : 'link_away')}`;
  if (link.isDenied && isIn) denied();
}

/** The cookie is not taken any more. The form comes where the key isn't either. */
async function denied() {
  if (isEntering) return;
  isEntering = true;
  let how = await logInAgain();
  for (; how === 'away'; how = await logInAgain()) await new Promise((done) => setTimeout(done, 1000));
  isEntering = false;
  if (how === 'in') return show({ again: true });
  isIn = false;
  byId('key-problem').hidden = false;
  byId('key-problem').textContent = t('session_ended');
  show();
}

function tellAttention() {
  const badge = byId('screens').querySelector('.attention');
  if (!badge) return;
  const count = live.attention().length;
  badge.hidden = count === 0;
  badge.textContent = String(count);
  badge.setAttribute('aria-label', t('attention_count', { count }));
}

// ---- the frame

function frame() {
  byId('screens').replaceChildren(
    ...Object.keys(SCREENS).map((screen) =>
      el(
        'a',
        { href: address(screen), data: { screen } },
        icon(screen),
        el('span', {}, t(`screen_${screen}`)),
        screen === 'overview' ? el('span', { class: 'attention', role: 'img', hidden: '' }) : null,
      ),
    ),
  );
  tellPlace();
  tool('demo-link', 'demo', t('nav_demo'));
  tool('logout', 'logout', t('log_out', { role: roleWord() }));
  showTheme();
  tellLink();
  tellAttention();
}

/** @param {string} id @param {string} picture @param {string} word */
function tool(id, picture, word) {
  byId(id).replaceChildren(icon(picture));
  byId(id).setAttribute('aria-label', word);
  byId(id).title = word;
}

function showTheme() {
  tool('theme', 'theme', t(`theme_${theme()}`));
}

function theme() {
  return document.documentElement.dataset.theme ?? 'auto';
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('presence-hub theme', next);
  } catch {
    // Refused: the choice lasts as long as the page.
  }
  showTheme();
}

// ---- begin

addEventListener('hashchange', () => {
  // A link with a key, opened where the dashboard is open already.
  if (new URLSearchParams(location.hash.slice(1)).has('key')) start();
  else show();
});
link.addEventListener('change', tellLink);
live.addEventListener('change', tellAttention);
// Filters change the address without an event, so a click on the navigation may name the address that is there: the
// screen is shown anew all the same, as the navigation names it, without a filter.
byId('screens').addEventListener('click', (/** @type {MouseEvent} */ event) => {
  const chosen = event.target instanceof Element ? event.target.closest('a') : null;
  if (chosen && chosen.hash === location.hash && !event.ctrlKey && !event.metaKey && !event.shiftKey) show();
});
byId('theme').addEventListener('click', nextTheme);
byId('skip').addEventListener('click', (/** @type {Event} */ event) => {
  event.preventDefault();
  byId('content').focus();
});
byId('key-form').addEventListener('submit', async (/** @type {Event} */ event) => {
  event.preventDefault();
  byId('key-use').disabled = true;
  try {
    await logIn(byId('key').value.trim());
    byId('key').value = '';
    isIn = true;
    tellProblem(null);
    show();
    frame();
    byId('content').focus();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    tellProblem(error);
    byId('key').focus();
  } finally {
    byId('key-use').disabled = false;
  }
});
byId('logout').addEventListener('click', async () => {
  isIn = false;
  show();
  await logOut().catch(() => {}); // away: the form is shown all the same, and the cookie ends by itself
});

speak(byId('language'), () => {
  frame();
  if (isReady) show({ again: true });
});
keepTime(() => live.now());
start().then(frame);
