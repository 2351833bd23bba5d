// Why a state changed, in words, from what the log says of it. What clients and operators wrote is in there: text only.

import { named, t } from '../i18n.js';
import { platformName } from '../ui.js';
import { duration } from './format.js';
/** @import { HubEvent, Visibility } from './shapes.d.ts' */

/** All that a log tells of. */
export const CAUSES = [
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

/** "Offline: nothing heard for 60 s": of the device, or of the user. @param {HubEvent} event @param {boolean} [ofUser] */
export function sentence(event, ofUser = false) {
  return t('sentence', { state: t(ofUser ? event.state.to : deviceState(event)), why: why(event) });
}

/** What the device is now; the user, where the change is of no device. @param {HubEvent} event */
export const deviceState = ({ terminal, state }) => (terminal ? (terminal.to ?? 'Offline') : state.to);

/** "nothing heard for 60 s". @param {HubEvent} event */
export function why(event) {
  const { at, cause, by, evidence, kicked = [], status } = event;
  switch (cause) {
    case 'login':
      return kicked.length ? t('why_login_kicked', { others: kicked.map(device).join(', ') }) : t('why_login');
    case 'silence':
      return evidence.last_heard === undefined
        ? t('why_silence')
        : t('why_silence_for', { time: duration(at - evidence.last_heard) });
    case 'node_lost':
      return evidence.last_heard === undefined
        ? t('why_node_lost')
        : t('why_node_lost_for', { time: duration(at - evidence.last_heard) });
    case 'close':
      return evidence.close_code === undefined ? t('why_close') : t('why_close_code', { code: closeCode(evidence.close_code) });
    case 'kicked':
      if (by?.kind === 'login') return t('why_kicked_login', { device: device(by) });
      if (by?.kind === 'own') return t('why_kicked_own', { device: device(by) });
      return by?.message ? t('why_kicked_admin_message', { message: by.message }) : t('why_kicked_admin');
    case 'custom':
      return status.custom == null ? t('why_custom_cleared') : t('why_custom', { custom: status.custom });
    case 'visibility':
      return event.visibility ? t('why_visibility_now', visibilityWords(event.visibility)) : t('why_visibility');
    default:
      return named('why_', cause);
  }
}

/** So many blocked viewers are named in a sentence. */
const NAMED_MAX = 3;

/** @param {Visibility} it */
function visibilityWords({ hidden, blocked }) {
  const others = [...blocked.slice(0, NAMED_MAX), ...(blocked.length > NAMED_MAX ? ['…'] : [])].join(', ');
  return {
    hidden: t(hidden ? 'why_visibility_hidden' : 'why_visibility_shown'),
    blocked: blocked.length ? t('why_visibility_blocked', { count: blocked.length, others }) : t('why_visibility_unblocked'),
  };
}

/** How it is known, beside the cause: pairs of a key and a text or a time. @param {HubEvent} event @returns {[string, string | number][]} */
export function evidenceOf({ evidence, terminal, by }) {
  /** @type {[string, string | number | undefined | null][]} */
  const all = [
    ['last_heard', evidence.last_heard],
    ['deadline', evidence.deadline],
    ['close_code', evidence.close_code === undefined ? null : closeCode(evidence.close_code)],
    ['background', evidence.background ? named('background_', evidence.background) : null],
    ['address', evidence.address],
    ['session', terminal?.session.slice(0, 8)],
    ['by_session', by?.session?.slice(0, 8)],
  ];
  return /** @type {[string, string | number][]} */ (all.filter(([, value]) => value != null));
}

/** "page left or app closed (1001)"; of a code that has no words, the code alone. @param {number} code */
export function closeCode(code) {
  const word = named('close_code_', String(code));
  return word === String(code) ? word : t('with_code', { word, code });
}

/** @param {{ platform?: string, device?: string }} it */
const device = ({ platform, device }) => [platform && platformName(platform), device].filter(Boolean).join(' ');
