// Every code that the hub can send has a text in both languages. The codes are read from the hub's sources.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { page } from './modules.mjs';

const { en } = await page('words/en.js');
const { zh } = await page('words/zh.js');
const { named } = await page('i18n.js');
const { CAUSES, closeCode } = await page('dashboard/causes.js');
const { PLATFORMS } = await page('dashboard/parts.js');

const source = (name) => readFileSync(new URL(`../../src/${name}`, import.meta.url), 'utf8');
/** The names that a type's `fn name` or `fn reason` gives out: `Self::LoggedOut => "logout"`. */
function namesOf(text, type, least) {
  const from = text.indexOf(`impl ${type} {`);
  const names = [...text.slice(from, text.indexOf('\n}', from)).matchAll(/Self::\w+ => "([a-z0-9_]+)"/g)].map(([, name]) => name);
  assert.ok(from >= 0 && names.length >= least, `${type}: ${names}`);
  return names;
}

const closes = source('wire/close.rs');
const causes = namesOf(source('presence/effect.rs'), 'Cause', 13);
const reasons = namesOf(closes, 'Close', 19);
const errors = namesOf(source('wire/error.rs'), 'ErrorCode', 18);
const kicks = namesOf(source('wire/push.rs'), 'KickReason', 4);
const platforms = namesOf(source('presence/platform.rs'), 'Platform', 8);
const closeCodes = [...closes.matchAll(/^ {4}\w+ = (\d+),$/gm)].map(([, code]) => code);
const actions = readdirSync(new URL('../../src/http/', import.meta.url), { recursive: true })
  .filter((name) => name.endsWith('.rs'))
  .flatMap((name) => [...source(`http/${name}`).matchAll(/(?:AuditAction::of\(|AuditAction \{ action: |let action = )"([^"]+)"/g)])
  .map(([, action]) => action);

const CODES = {
  cause_: causes,
  why_: causes.filter((cause) => cause !== 'kicked'),
  closed_: [...reasons, 'peer', 'lost'],
  refused_: [...errors, 'try_again_later', 'login_timeout', 'origin_not_allowed'],
  kick_reason_: kicks,
  close_code_: [...closeCodes, '1003', '1005', '1006', '1008', '1010', '1011', '1012', '1013', '1014', '1015'],
  platform_: platforms,
  background_: ['hide', 'exit'],
  node_: ['up', 'full', 'draining'],
  webhook_: ['off', 'up', 'failing', 'down'],
  webhook_hint_: ['off', 'up', 'failing', 'down'],
  store_: ['up', 'failing'],
  format_: ['native', 'tencent'],
  policy_name_: ['single', 'dual', 'triple', 'multi', 'custom'],
  setting_: ['kick_old', 'reject_new', 'share', 'replace', 'true', 'false'],
  role_name_: ['viewer', 'api', 'admin', 'tencent'],
  outcome_: ['done', 'failed', 'refused'],
  action_: actions,
};

for (const [prefix, codes] of Object.entries(CODES)) {
  test(`${prefix}…`, () => {
    for (const code of codes) {
      const key = prefix + code.replace(/ /g, '_');
      for (const [name, words] of Object.entries({ en, zh })) {
        assert.ok(words[key], `${name} has no words for ${key}`);
        assert.doesNotMatch(words[key], /[a-z]_[a-z]/, `${name}: ${key} is a code still`);
      }
    }
  });
}

test('the tested codes are all codes in the sources', () => {
  assert.deepEqual([...CAUSES].sort(), [...causes].sort());
  assert.deepEqual([...PLATFORMS].sort(), [...platforms].sort());
  assert.ok(closeCodes.includes('4501') && closeCodes.length === new Set(reasons).size, `${closeCodes}`);
  assert.ok(['kick', 'set custom', 'log in', 'wrong key'].every((action) => actions.includes(action)), `${actions}`);
});

test('Chinese texts contain Chinese, except names', () => {
  const names = /^(platform_(ios|android|ipad|mac|windows|linux)|unit_|never|used_of|with_code|setting_true)/;
  for (const [key, word] of Object.entries(zh)) {
    const said = word.replace(/\{\w+\}/g, '');
    assert.ok(names.test(key) || /\p{Script=Han}/u.test(said) || !/\p{Letter}/u.test(said), `${key}: ${word}`);
  }
  assert.ok(!JSON.stringify(zh).includes('前台运行'), 'a device in the background is Online, too');
});

test('an unknown code is shown unchanged', () => {
  assert.equal(named('closed_', 'some_new_reason'), 'some_new_reason');
  assert.equal(named('action_', 'POST /v1/users/bob/kick'), 'POST /v1/users/bob/kick');
  assert.equal(closeCode(1001), 'page left or app closed (1001)');
  assert.equal(closeCode(3999), '3999');
});
