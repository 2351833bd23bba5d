// Numbers and times in words, in the language of the page.

import { locale, t } from '../i18n.js';
export { number } from '../ui.js';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A length of time: `400 ms`, `60 s`, `6 min 40 s`, `7 d`. Up to two minutes stay seconds, as windows are written. @param {number} ms */
export function duration(ms) {
  const whole = Math.max(0, ms);
  if (whole < SECOND) return t('unit_ms', { n: Math.round(whole) });
  if (whole < 2 * MINUTE) return t('unit_s', { n: Math.floor(whole / SECOND) });
  /** @type {[number, string, number, string]} */
  const [big, bigName, small, smallName] =
    whole < 2 * HOUR
      ? [MINUTE, 'unit_min', SECOND, 'unit_s']
      : whole < 2 * DAY
        ? [HOUR, 'unit_h', MINUTE, 'unit_min']
        : [DAY, 'unit_d', HOUR, 'unit_h'];
  const rest = Math.floor((whole % big) / small);
  return [t(bigName, { n: Math.floor(whole / big) }), rest ? t(smallName, { n: rest }) : ''].filter(Boolean).join(' ');
}

/** A length as the configuration writes it (`400s`, `7d`, `1500ms`), in words; what is none stays as it is. @param {unknown} text */
export function written(text) {
  const [, count, unit] = /^(\d+)(ms|s|m|min|h|d)$/.exec(String(text)) ?? [];
  /** @type {Record<string, number>} */
  const units = { ms: 1, s: SECOND, m: MINUTE, min: MINUTE, h: HOUR, d: DAY };
  return count ? duration(Number(count) * units[unit]) : String(text ?? '');
}

/** @param {?number} bytes */
export function size(bytes) {
  if (bytes == null) return t('never');
  const power = Math.min(4, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const digits = power && bytes / 1024 ** power < 100 ? 1 : 0;
  return `${new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(bytes / 1024 ** power)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

/** So many in a second: few are shown to a tenth. @param {?number} rate */
export function perSecond(rate) {
  if (rate === null) return t('never');
  return t('per_second', { rate: new Intl.NumberFormat(locale(), { maximumFractionDigits: rate < 10 ? 1 : 0 }).format(rate) });
}

/** Day and time to the second, here, written as logs write them: the same in each language. @param {number} at */
export function exactly(at) {
  const it = new Date(at);
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
  return `${it.getFullYear()}-${two(it.getMonth() + 1)}-${two(it.getDate())} ${two(it.getHours())}:${two(it.getMinutes())}:${two(it.getSeconds())}`;
}
