// The pages as files: what needs no browser.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const folder = new URL('../../static/', import.meta.url);
const read = (name) => readFileSync(new URL(name, folder), 'utf8');
const files = readdirSync(folder);
// A data: address, as the folder does not say that its .js files are modules.
const { en, zh } = await import(`data:text/javascript,${encodeURIComponent(read('i18n.js'))}`);

test('both languages have the same keys, and fill in the same values', () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  const values = (word) => [...word.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const key of Object.keys(en)) assert.deepEqual(values(zh[key]), values(en[key]), key);
});

test('every word that is asked for exists, and every word is asked for', () => {
  const all = files.filter((name) => /\.(html|js)$/.test(name) && name !== 'i18n.js').map(read).join('\n');
  for (const [, key] of all.matchAll(/data-i18n(?:-hint|-label)?="(\w+)"|\bt\('(\w+)'/g)) if (key) assert.ok(key in en, key);
  const made = /^(state|notice|log)_|^(Online|PushOnline|Offline)$/; // put together from a prefix
  for (const key of Object.keys(en)) assert.ok(made.test(key) || new RegExp(`["'\`]${key}["'\`]`).test(all), `${key} is never used`);
});

test('no inline script or style, no markup made of text', () => {
  for (const name of files.filter((file) => file.endsWith('.html'))) {
    assert.doesNotMatch(read(name), /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/i, name);
  }
  for (const name of files.filter((file) => /\.m?js$/.test(file))) {
    assert.doesNotMatch(read(name), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/, name);
  }
});
