// Who may see a user, and whom the user watches: shown on the user's page, and changed there after a question.

import { t } from '../i18n.js';
import { el, moment, number } from '../ui.js';
import { ApiError, act, get, userPath } from './api.js';
import { confirm, mark, once, userLink } from './parts.js';
import { repeat } from './poll.js';
import { mayAct } from './session.js';
/** @import { Visibility, WatchList } from './shapes.d.ts' */

const EVERY_MS = 5000;
/** So many users of a list are shown at once; more are folded away. */
const SHOWN_MAX = 50;

/**
 * @param {string} user
 * @param {{ tell: (text: string, isBad?: boolean) => void }} told
 */
export function visibilityOf(user, told) {
  /** @type {?Visibility} */
  let now = null;
  const hidden = el('div', { id: 'user-hidden' });
  const hide = el('button', { id: 'hide-user', type: 'button', hidden: '', on: { click: () => setHidden(!now?.hidden) } });
  const blocked = people({
    ...{ title: 'blocked_viewers', hint: 'blocked_viewers_hint', empty: 'blocked_none', action: 'unblock', label: 'unblock_of' },
    remove: (viewer) => setBlocked(viewer, false),
  });
  const block = adding('block_viewer', 'block', (viewer) => setBlocked(viewer, true));
  const listed = people({
    ...{ title: 'watch_list', hint: 'watch_list_hint', empty: 'watch_list_none', action: 'watch_remove', label: 'watch_remove_of' },
    remove: (other) => setWatched(other, false),
  });
  const add = adding('watch_add_user', 'watch_add', (other) => setWatched(other, true));
  const show = once();

  const asking = repeat(
    EVERY_MS,
    async (signal) => {
      /** @type {[?Visibility, WatchList]} */
      const [seen, list] = await Promise.all([seenOf(user, signal), get(userPath(user, '/watch-list'), signal)]);
      now = seen;
      hide.hidden = block.hidden = seen === null || !mayAct();
      show(hidden, seen, (seen) => [hiddenFact(seen)]);
      show(hide, seen?.hidden, (isHidden) => [document.createTextNode(t(isHidden ? 'show_user' : 'hide_user'))]);
      blocked.show(seen?.blocked ?? []);
      listed.show(list.users);
    },
    (error) => error.isOwn && told.tell(t('failed', { message: error.message }), true),
  );

  /** Asks, and then changes it. @param {string} what @param {object} names @param {() => Promise<unknown>} change */
  async function order(what, names, change) {
    const answer = await confirm({ title: t(`confirm_${what}`, names), hint: t(`confirm_${what}_hint`, names), action: t(what) });
    if (answer === null) return;
    try {
      await change();
      told.tell(t('changed'));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      told.tell(t('failed', { message: error.message }), true);
    }
    asking.now();
  }

  /** @param {boolean} isHidden */
  const setHidden = (isHidden) =>
    order(isHidden ? 'hide_user' : 'show_user', { user }, () => act('PUT', userPath(user, '/visibility'), { hidden: isHidden }));

  /** The call replaces all who are blocked, so it begins with those of this moment. @param {string} viewer @param {boolean} isBlocked */
  const setBlocked = (viewer, isBlocked) =>
    order(isBlocked ? 'block' : 'unblock', { user, other: viewer }, async () => {
      /** @type {Visibility} */
      const { blocked } = await get(userPath(user, '/visibility'));
      const others = blocked.filter((it) => it !== viewer);
      await act('PUT', userPath(user, '/visibility'), { blocked: isBlocked ? [...others, viewer] : others });
    });

  /** @param {string} other @param {boolean} isWatched */
  const setWatched = (other, isWatched) =>
    order(isWatched ? 'watch_add' : 'watch_remove', { user, other }, () =>
      act('PATCH', userPath(user, '/watch-list'), isWatched ? { add: [other] } : { remove: [other] }),
    );

  return {
    element: el(
      'section',
      { class: 'card', id: 'user-visibility' },
      el('div', { class: 'title' }, el('h2', {}, t('who_sees')), hide),
      hidden,
      el('div', { class: 'two' }, el('div', {}, blocked.element, block), el('div', {}, listed.element, mayAct() ? add : null)),
    ),
    end: asking.end,
  };
}

/** Null where the user's record is damaged. @param {string} user @param {AbortSignal} signal @returns {Promise<?Visibility>} */
async function seenOf(user, signal) {
  try {
    return await get(userPath(user, '/visibility'), signal);
  } catch (error) {
    if (error instanceof ApiError && error.isDamage) return null;
    throw error;
  }
}

/** @param {?Visibility} seen */
function hiddenFact(seen) {
  if (seen === null) return el('p', {}, mark('bad', t('damaged')));
  const { hidden, hidden_since } = seen;
  return hidden
    ? el('p', {}, mark('warn', t('hidden')), ' ', el('span', { class: 'hint' }, t('hidden_hint')), ' ', moment(hidden_since))
    : el('p', {}, mark('quiet', t('not_hidden')), ' ', el('span', { class: 'hint' }, t('not_hidden_hint')));
}

/**
 * Users under a title with their count, each with a button for who may act.
 *
 * @param {{ title: string, hint: string, empty: string, action: string, label: string, remove: (user: string) => void }} how
 */
function people({ title, hint, empty, action, label, remove }) {
  const count = el('span', { class: 'hint num' });
  const place = el('div', { class: 'members', data: { list: title } });
  const show = once();
  const item = (/** @type {string} */ user) => {
    const button = el('button', { class: 'small', type: 'button', 'aria-label': t(label, { other: user }), on: { click: () => remove(user) } }, t(action));
    return el('li', { data: { user } }, userLink(user), mayAct() ? button : null);
  };
  const list = (/** @type {string[]} */ users) => el('ul', {}, ...users.map(item));
  return {
    element: el('div', {}, el('div', { class: 'title' }, el('h3', {}, t(title)), count), el('p', { class: 'hint' }, t(hint)), place),
    /** @param {string[]} users */
    show(users) {
      count.textContent = number(users.length);
      show(place, users, () => {
        const [first, more] = [users.slice(0, SHOWN_MAX), users.slice(SHOWN_MAX)];
        if (!users.length) return [el('p', { class: 'hint none' }, t(empty))];
        const folded = el('details', {}, el('summary', {}, t('damaged_more', { count: number(more.length) })));
        // Thousands of rows are made when somebody wants to see them.
        folded.addEventListener('toggle', () => folded.children.length > 1 || folded.append(list(more)), { once: true });
        return more.length ? [list(first), folded] : [list(first)];
      });
    },
  };
}

/** A field for a user's id, with a button. @param {string} label @param {string} action @param {(user: string) => void} add */
function adding(label, action, add) {
  const input = /** @type {HTMLInputElement} */ (
    el('input', { required: '', maxlength: '128', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', id: label })
  );
  const form = el(
    'form',
    { class: 'filters' },
    el('label', {}, el('span', {}, t(label)), input),
    el('button', {}, t(action)),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    add(input.value.trim());
    input.value = '';
  });
  return form;
}
