// Which devices may be logged in together. Every answer is the hub's own rule, asked for pair by pair.

import { named, t } from '../../i18n.js';
import { el, platformName } from '../../ui.js';
import { ApiError, get, withQuery } from '../api.js';
import { written } from '../format.js';
import { PLATFORMS, heading, mark, outcome } from '../parts.js';
import { address, remember } from '../router.js';
import { isAdmin } from '../session.js';
/** @import { Config, Explained, Platform, Victims } from '../shapes.d.ts' */

/** What there may be of one platform, and in all. */
const MOST = 100;
/** From the strictest on. */
const PRESETS = /** @type {const} */ (['single', 'dual', 'triple', 'multi']);
const WINDOWS = [
  ['liveness', 'web_ping'],
  ['liveness', 'web_silence'],
  ['liveness', 'native_ping'],
  ['liveness', 'native_silence'],
  ['liveness', 'web_close_grace'],
  ['liveness', 'background'],
  ['liveness', 'exit'],
  ['liveness', 'push_online_ttl'],
];

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const stop = new AbortController();
  const title = t('screen_policy');
  const name = el('span', { class: 'policy-name', id: 'policy-name' });
  const matrix = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('policy_table') });
  const problem = outcome();
  const settings = el('dl', { class: 'facts-grid', id: 'policy-windows' });

  const load = () =>
    show().catch((error) => {
      if (!(error instanceof ApiError)) throw error;
      if (stop.signal.aborted) return;
      if (error.isOwn) problem.tell(t('failed', { message: error.message }), true);
      else setTimeout(load, 1000);
    });

  async function show() {
    const { signal } = stop;
    const rows = await Promise.all(
      PLATFORMS.map((existing) => Promise.all(PLATFORMS.map((login) => explain(login, existing, signal)))),
    );
    const most = await Promise.all(PLATFORMS.map((platform) => explain(platform, `${platform}:${MOST}`, signal)));
    name.replaceChildren(...policyName(rows[0][0].policy));
    matrix.replaceChildren(matrixOf(rows, most));
    if (!isAdmin()) return settings.replaceWith(el('p', { class: 'hint' }, t('needs_admin')));
    /** @type {Config} */
    const config = await get('config', signal);
    const setting = (/** @type {string} */ key, /** @type {string} */ word, /** @type {string} */ value) =>
      el('div', { class: 'fact', data: { setting: key } }, el('dt', {}, word, ' ', el('code', {}, key)), el('dd', {}, value));
    settings.replaceChildren(
      ...WINDOWS.map(([section, key]) => setting(`${section}.${key}`, t(`window_${key}`), written(config[section]?.[key]))),
      ...['on_conflict', 'web_tabs', 'miniprogram_as_web'].map((key) =>
        setting(`login.${key}`, t(`login_${key}`), named('setting_', String(config.login?.[key]))),
      ),
    );
  }

  load();
  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('policy_lead')),
      el(
        'section',
        { class: 'card' },
        el('div', { class: 'title' }, el('h2', {}, t('policy_table')), name),
        el('p', { class: 'hint' }, t('policy_table_hint')),
        problem.element,
        matrix,
        el(
          'p',
          { class: 'hint matrix-legend', 'aria-hidden': 'true' },
          Object.entries(SIGNS)
            .map(([verdict, sign]) => `${sign} ${t(`cell_${verdict}`)}`)
            .join('   '),
        ),
      ),
      simulator(query, stop.signal),
      el('section', { class: 'card' }, el('h2', {}, t('windows')), settings),
    ),
    close: () => stop.abort(),
  };
}

/** @type {Record<string, string>} */
const SIGNS = { kicked: '✕', stays: '✓', rejected: '■' };

/** A sign and a word, of which a narrow table shows the sign alone. @param {string} verdict */
const verdictWord = (verdict) => [SIGNS[verdict], ' ', el('span', { class: 'word' }, t(`cell_${verdict}`))];

/** The name in the configuration, and in words. @param {string} policy */
const policyName = (policy) => [el('code', {}, policy), ' ', el('span', {}, policyWord(policy))];

/** @param {string} policy */
const policyWord = (policy) => named('policy_name_', policy);

/** @param {string} login @param {string} existing @param {AbortSignal} signal @returns {Promise<Explained>} */
const explain = (login, existing, signal) => get(withQuery('policy/explain', { login, existing }), signal);

/** @param {Explained[][]} rows by who is there, then by who comes @param {Explained[]} most a hundred of each, and one more */
function matrixOf(rows, most) {
  return el(
    'table',
    { class: 'matrix' },
    el(
      'thead',
      {},
      el(
        'tr',
        {},
        el('th', { scope: 'col', class: 'corner' }, t('policy_corner')),
        ...PLATFORMS.map((name) => el('th', { scope: 'col' }, platformName(name))),
      ),
    ),
    el(
      'tbody',
      {},
      ...rows.map((row, i) =>
        el(
          'tr',
          {},
          el('th', { scope: 'row' }, platformName(PLATFORMS[i])),
          ...row.map(({ kicked, rejected }, j) => {
            const verdict = kicked.length ? 'kicked' : rejected ? 'rejected' : 'stays';
            const room = i === j && !most[i].rejected ? MOST + 1 - most[i].kicked.reduce((sum, { count }) => sum + count, 0) : 0;
            return el(
              'td',
              { class: `verdict ${verdict}`, data: { pair: `${PLATFORMS[i]} ${PLATFORMS[j]}`, verdict } },
              ...verdictWord(verdict),
              room > 1 ? el('span', { class: 'hint' }, t('cell_room', { count: room })) : null,
            );
          }),
        ),
      ),
    ),
  );
}

/** @param {URLSearchParams} query @param {AbortSignal} signal */
function simulator(query, signal) {
  /** @type {Map<string, number>} */
  const there = new Map();
  for (const part of (query.get('existing') ?? 'ios,mac,web').split(',')) {
    const [platform, count = '1'] = part.split(':');
    if (PLATFORMS.includes(/** @type {Platform} */ (platform)))
      there.set(platform, Math.min(MOST, Math.max(0, Number(count) || 0)));
  }
  let login = query.get('login') ?? 'android';
  if (!PLATFORMS.includes(/** @type {Platform} */ (login))) login = 'android';
  const result = el('div', { class: 'results', 'aria-live': 'polite', id: 'simulated' });
  const problem = outcome();
  let asking = 0;

  const steppers = PLATFORMS.map((platform) => {
    const input = /** @type {HTMLInputElement} */ (
      el('input', {
        type: 'number',
        min: '0',
        max: String(MOST),
        inputmode: 'numeric',
        'aria-label': platformName(platform),
        data: { existing: platform },
      })
    );
    input.value = String(there.get(platform) ?? 0);
    const set = (/** @type {number} */ count) => {
      const sum = [...there].reduce((sum, [other, count]) => (other === platform ? sum : sum + count), 0);
      there.set(platform, Math.max(0, Math.min(MOST - sum, count || 0)));
      input.value = String(there.get(platform));
      ask();
    };
    input.addEventListener('change', () => set(Math.round(Number(input.value))));
    const step = (/** @type {number} */ by, /** @type {string} */ sign, /** @type {string} */ word) =>
      el(
        'button',
        {
          type: 'button',
          class: 'small',
          'aria-label': t(word, { platform: platformName(platform) }),
          on: { click: () => set((there.get(platform) ?? 0) + by) },
        },
        sign,
      );
    return el(
      'div',
      { class: 'stepper' },
      el('span', { class: 'name' }, platformName(platform)),
      step(-1, '−', 'one_less'),
      input,
      step(1, '+', 'one_more'),
    );
  });
  const radios = PLATFORMS.map((platform) => {
    const input = /** @type {HTMLInputElement} */ (el('input', { type: 'radio', name: 'login', value: platform }));
    input.checked = platform === login;
    input.addEventListener('change', () => {
      login = platform;
      ask();
    });
    return el('label', { class: 'chip' }, input, el('span', {}, platformName(platform)));
  });

  async function ask() {
    const mine = ++asking;
    const existing = PLATFORMS.map((platform) => /** @type {const} */ ([platform, there.get(platform) ?? 0]))
      .filter(([, count]) => count > 0)
      .map(([platform, count]) => (count > 1 ? `${platform}:${count}` : platform))
      .join(',');
    remember(address('policy', { existing: existing || 'none', login }));
    try {
      const answer = await explain(login, existing, signal);
      if (mine !== asking) return;
      problem.tell('');
      result.replaceChildren(...answers(answer));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (signal.aborted || mine !== asking) return;
      problem.tell(t('failed', { message: error.message }), true);
      if (!error.isOwn) setTimeout(() => mine === asking && ask(), 1000);
    }
  }

  /** @param {Explained} answer */
  function answers({ policy, kicked, rejected, presets }) {
    const inForce = el(
      'div',
      { class: 'result in-force', data: { policy: 'in-force' } },
      el('h3', {}, t('in_force', { policy }), ' ', el('span', {}, policyWord(policy))),
      rejected ? mark('bad', t('login_rejected', { login: platformName(login) })) : verdict(kicked),
    );
    return [
      inForce,
      ...PRESETS.map((name) =>
        el('div', { class: 'result', data: { policy: name } }, el('h3', {}, ...policyName(name)), verdict(presets[name])),
      ),
    ];
  }

  /** @param {Victims} victims */
  const verdict = (victims) =>
    victims.length
      ? el(
          'p',
          { class: 'victims' },
          ...victims.map(({ platform, count }) =>
            el('span', { class: 'victim', data: { platform, count } }, '✕ ', platformName(platform), count > 1 ? ` × ${count}` : ''),
          ),
        )
      : mark('good', t('nobody_kicked'));

  // The address stays as it came until something is changed.
  const came = location.hash;
  ask().then(
    () => {},
    () => {},
  );
  remember(came);
  const form = el(
    'form',
    { class: 'simulator' },
    el('fieldset', {}, el('legend', {}, t('logged_in')), el('div', { class: 'steppers' }, ...steppers)),
    el('fieldset', {}, el('legend', {}, t('comes')), el('div', { class: 'chips' }, ...radios)),
  );
  form.addEventListener('submit', (event) => event.preventDefault());
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, t('simulator')),
    el('p', { class: 'hint' }, t('simulator_hint')),
    form,
    problem.element,
    result,
  );
}
