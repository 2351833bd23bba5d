// Which language the pages speak, and who puts the words there.

import { en } from './words/en.js';
import { zh } from './words/zh.js';

const STORED = 'presence-hub language';

/** Where a word is put, by the attribute that names it. @type {[string, (it: Element, word: string) => void][]} */
const PLACES = [
  ['data-i18n', (it, word) => (it.textContent = word)],
  ['data-i18n-hint', (it, word) => it.setAttribute('placeholder', word)],
  ['data-i18n-label', (it, word) => it.setAttribute('aria-label', word)],
];
/** @type {Record<string, string>} */
let words = en;

/**
 * The word for `key`; what is filled in is text from outside, so the result is for textContent only.
 *
 * @param {string} key
 * @param {Record<string, any>} [values]
 */
export function t(key, values = {}) {
  const word = words[key] ?? key;
  return word.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/**
 * The word for a code of the hub's: `named('closed_', 'lost')`. A code that has none is shown as it is.
 *
 * @param {string} prefix
 * @param {string} code
 */
export const named = (prefix, code) => words[prefix + code.replace(/ /g, '_')] ?? code;

export const locale = () => (words === zh ? 'zh-CN' : 'en');

/**
 * Fills the page's [data-i18n] elements and its language menu, now and at each change of the language.
 *
 * @param {HTMLSelectElement} menu
 * @param {() => void} onChange
 */
export function speak(menu, onChange) {
  /** @param {string} name */
  const choose = (name) => {
    words = name === 'zh' ? zh : en;
    menu.value = name;
    document.documentElement.lang = locale();
    for (const [part, put] of PLACES) {
      for (const it of document.querySelectorAll(`[${part}]`)) put(it, t(it.getAttribute(part) ?? ''));
    }
    onChange();
  };
  menu.addEventListener('change', () => {
    try {
      localStorage.setItem(STORED, menu.value);
    } catch {
      // Refused: the choice lasts as long as the page.
    }
    choose(menu.value);
  });
  let stored = null;
  try {
    stored = localStorage.getItem(STORED);
  } catch {
    // Refused: the browser's language it is.
  }
  choose(stored ?? (navigator.language.startsWith('zh') ? 'zh' : 'en'));
}
