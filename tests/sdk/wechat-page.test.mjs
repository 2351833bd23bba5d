// The mini-program of docs/wechat.md, as printed, in the simulated WeChat.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import vm from 'node:vm';
import { printedFile } from './docs.mjs';
import { until } from './embed.mjs';
import { startHub, token } from './hub.mjs';
import { follow } from './log.mjs';
import { Phone } from './phone.mjs';
import { makeWx, weChat } from './wx.mjs';

const HUB = 'wss://hub.example.com/ws';
const PAGES = JSON.parse(printedFile('wechat.md', 'app.json')).pages;

let hub;
let log;
const phones = [];

before(async () => {
  hub = await startHub({ 'liveness.background': '2s' });
  log = await follow(hub);
});

after(async () => {
  for (const phone of phones) phone.stop();
  await log?.stop();
  await hub?.stop();
});

/** Starts the mini-program on a phone of its own. */
async function start(user, { statusCode = 200 } = {}) {
  const phone = new Phone();
  phones.push(phone);
  const it = { user, opened: [], asked: [], statusCode };
  const jwt = await token(hub, user);
  const globals = (program) => ({
    wx: {
      ...makeWx(program),
      request(option) {
        it.asked.push(option);
        setImmediate(() => option.success({ statusCode: it.statusCode, data: jwt }));
      },
      reLaunch: ({ url }) => it.opened.push(url),
    },
    App: (app) => (it.app = app),
    Page: (page) => (it.page = page),
    getApp: () => it.app,
    console: { warn: (text) => (it.warned = text) },
  });
  it.program = phone.launch({ ...weChat, globals });
  it.program.globals.wx.setStorageSync('login', 'the login of the app');
  run(it, 'app.js');
  it.app.onLaunch();
  return it;
}

/** Runs a printed file, whose hub is the one of this test. */
function run(it, name) {
  const text = printedFile('wechat.md', name).replace(HUB, `${hub.origin.replace('http', 'ws')}/ws`);
  const require = (path) => {
    assert.equal(path, './utils/presence.js');
    return it.program.require();
  };
  vm.runInContext(`(function (require) { 'use strict'; ${text}\n})`, it.program.context, { filename: name })(require);
}

/** Opens a page: `setData` as WeChat understands it. */
function open(it, name) {
  assert.ok(PAGES.includes(name), `app.json has ${name}`);
  run(it, `${name}.js`);
  const { page } = it;
  page.setData = (changes) => {
    for (const [path, value] of Object.entries(changes)) {
      const [, index, field] = path.match(/^contacts\[(\d+)\]\.(\w+)$/) ?? [];
      if (field) page.data.contacts[index][field] = value;
      else page.data[path] = value;
    }
  };
  page.onLoad?.();
  return page;
}

const states = (page) => Object.fromEntries(page.data.contacts.map(({ user, state }) => [user, state]));

test('a_page_shows_users_come_and_go', async () => {
  const alice = await start('alice');
  const page = open(alice, 'pages/contacts/contacts');
  assert.deepEqual(states(page), { alice: 'unknown', bob: 'unknown' });
  await until('alice', () => states(page).alice === 'Online' && states(page).bob === 'Offline');
  assert.equal(alice.asked[0].header.Authorization, 'Bearer the login of the app');
  const bob = await start('bob');
  await until('bob', () => states(page).bob === 'Online');
  bob.program.hide(3);
  const left = await log.until('bob', 'background');
  assert.equal(left.terminal.platform, 'miniprogram');
  await until('bob left', () => states(page).bob === 'Offline');
  page.onUnload();
  await until('the subscription ended', () => alice.app.presence.get('bob') === null);
});

test('a_kicked_mini_program_offers_to_be_used_here', async () => {
  const first = await start('carol');
  await log.until('carol', 'login');
  const second = await start('carol');
  await until('kicked', () => first.opened.length);
  assert.deepEqual(first.opened, ['/pages/kicked/kicked']);
  open(first, 'pages/kicked/kicked').here();
  await until('the other is kicked', () => second.opened.length);
  assert.deepEqual(first.opened, ['/pages/kicked/kicked', '/pages/contacts/contacts']);
});

test('a_back_end_without_a_token_is_reported', async () => {
  const it = await start('dave', { statusCode: 401 });
  await until('a warning', () => it.warned);
  assert.equal(it.warned, 'no token: 401');
});
