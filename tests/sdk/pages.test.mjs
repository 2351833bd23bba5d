// Checks of the pages' files, without a browser.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { page } from './modules.mjs';

const folder = new URL('../../static/', import.meta.url);
const read = (name) => readFileSync(new URL(name, folder), 'utf8');
const files = readdirSync(folder, { recursive: true });
const { en } = await page('words/en.js');
const { zh } = await page('words/zh.js');

test('both languages have the same keys and the same placeholders', () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  const values = (word) => [...word.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const key of Object.keys(en)) assert.deepEqual(values(zh[key]), values(en[key]), key);
});

test('every used key exists, and every key is used', () => {
  const all = files.filter((name) => /\.(html|js)$/.test(name) && !name.startsWith('words')).map(read).join('\n');
  for (const [, ...keys] of all.matchAll(/data-i18n(?:-hint|-label)?="(\w+)"|\bt\('(\w+)'|\b(?:title|empty): '(\w+)'|\bfact\('(\w+)'/g)) {
    for (const key of keys) if (key && key !== 'login') assert.ok(key in en, key);
  }
  // Keys that are built from a prefix.
  const made = [...all.matchAll(/`(\w+_)\$\{|\bnamed\('(\w+_)'/g)].map(([, one, other]) => one ?? other);
  const isMade = (key) => /^(Online|PushOnline|Offline)$/.test(key) || made.some((prefix) => key.startsWith(prefix));
  for (const key of Object.keys(en)) assert.ok(isMade(key) || new RegExp(`["'\`]${key}["'\`]`).test(all), `${key} is never used`);
});

test('no inline script or style, and no markup from strings', () => {
  for (const name of files.filter((file) => file.endsWith('.html'))) {
    assert.doesNotMatch(read(name), /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/i, name);
  }
  for (const name of files.filter((file) => /\.m?js$/.test(file))) {
    assert.doesNotMatch(read(name), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/, name);
    assert.doesNotMatch(read(name), /setAttribute\('style'/, name);
  }
});

test('nothing is loaded from another host', () => {
  for (const name of files.filter((file) => /\.(html|css|js)$/.test(file))) {
    assert.doesNotMatch(read(name), /(?:src|href|from|import|url)[=(\s]*["'(]?https?:/i, name);
  }
});
