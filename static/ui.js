// What both pages need to show things. Everything that comes from outside becomes text, never markup.

import { locale, named, t } from './i18n.js';

/** @type {Record<string, string>} */
const SHAPES = { Online: '●', PushOnline: '◐', Offline: '○' };

/**
 * An element: `el('td', { class: 'num', data: { user } }, 'text', child)`; `on` holds listeners.
 *
 * @param {string} tag
 * @param {{ data?: Record<string, any>, on?: Record<string, (event: Event) => void>, [attribute: string]: any }} [how]
 * @param {(Node | string | null | undefined)[]} children what is null is left out
 */
export function el(tag, { data = {}, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== false) element.setAttribute(name, value);
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  Object.assign(element.dataset, data);
  for (const child of children) if (child != null) element.append(child);
  return element;
}

/** An element of the page, which its script knows. @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** A state by shape and word, so that nobody needs to see its colour. @param {string} state */
export function badge(state) {
  return el('span', { class: 'badge', data: { state } }, `${SHAPES[state] ?? '?'} ${t(state)}`);
}

/** That a user or a device is there, but nobody is at it: by shape and word, like a state. @param {'user_away' | 'device_idle'} word */
export const absence = (word) => el('span', { class: 'absence', data: { absence: word } }, `☾ ${t(word)}`);

/** What a user is: the state, and whether the user is away. @param {{ state: string, away?: boolean }} status */
export const presenceBadge = ({ state, away }) =>
  away ? el('span', { class: 'states' }, badge(state), ' ', absence('user_away')) : badge(state);

/** @param {string} platform */
export const platformName = (platform) => named('platform_', platform);

/** A text from outside, kept apart from the direction of what stands around it. @param {unknown} text */
export const foreign = (text) => el('bdi', {}, String(text ?? ''));

/** A moment, shown by its distance from now; `keepTime` moves it on. @param {?number} [at] */
export function moment(at) {
  if (at == null) return el('span', {}, t('never'));
  const element = el('time', { datetime: new Date(at).toISOString(), title: new Date(at).toLocaleString(locale()), data: { at } });
  element.textContent = distance(at);
  return element;
}

/** @param {number} at */
export const clock = (at) => new Date(at).toLocaleTimeString(locale(), { hour12: false });

/** @param {number} [value] */
export const number = (value) => new Intl.NumberFormat(locale()).format(value ?? 0);

/** In seconds. @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60]];

let now = Date.now;

/** Shows all moments by their distance from now. @param {() => number} [ofHub] the time at the hub, if its clock is known */
export function keepTime(ofHub = Date.now) {
  now = ofHub;
  setInterval(() => {
    for (const it of document.querySelectorAll('time[data-at]')) it.textContent = distance(Number(it.getAttribute('data-at')));
  }, 1000);
}

/** @param {number} at */
function distance(at) {
  const seconds = Math.min(0, Math.round((at - now()) / 1000));
  const [unit, size] = UNITS.find(([, size]) => -seconds >= size) ?? ['second', 1];
  return new Intl.RelativeTimeFormat(locale(), { numeric: 'auto', style: 'narrow' }).format(Math.trunc(seconds / size), unit);
}

/** The key of `#key=…`, which is taken out of the address bar and kept for this tab. @param {string} name */
export function keptKey(name) {
  const given = new URLSearchParams(location.hash.slice(1)).get('key');
  if (given) {
    keepKey(name, given);
    history.replaceState(null, '', location.pathname + location.search);
  }
  return given ?? sessionStorage.getItem(`presence-hub ${name}`) ?? '';
}

/** @param {string} name @param {string} key */
export function keepKey(name, key) {
  if (key) sessionStorage.setItem(`presence-hub ${name}`, key);
  else sessionStorage.removeItem(`presence-hub ${name}`);
}
