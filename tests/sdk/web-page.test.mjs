// The page of docs/web-page.md, as printed, on another origin than the hub.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { printedBlock, printedFile } from './docs.mjs';
import { advance, startHub, token } from './hub.mjs';

const PAGE = 'web-page.md';
const TOKEN_LINE = /^ *token: .*,\n/m;

let browser;
let hub;
let site; // {origin, served}, `served` maps paths to texts

before(async () => {
  site = await startSite();
  hub = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]) });
  browser = await startBrowser();
  const dots = dotsOf(hub);
  assert.match(dots, TOKEN_LINE);
  site.served['/dots.html'] = dots;
  site.served['/app.html'] = dots.replace(TOKEN_LINE, printedBlock(PAGE, 'js', 'getToken'));
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
  site?.stop();
});

/** A server for static files on a port of its own: another origin. */
async function startSite() {
  const served = {};
  const server = createServer(({ url }, response) => {
    const text = served[new URL(url, 'http://localhost').pathname];
    response.writeHead(text ? 200 : 404, { 'Content-Type': 'text/html; charset=utf-8' }).end(text);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { served, origin: `http://localhost:${server.address().port}`, stop: () => server.close() };
}

/** The page, as printed, for the hub on this port. */
const dotsOf = ({ port }) => printedFile(PAGE, 'dots.html').replaceAll('127.0.0.1:7800', `127.0.0.1:${port}`);

const openDots = async (user, beside) => browser.open(`${site.origin}/dots.html#${await token(hub, user)}`, { beside });

const sees = (page, text) => page.getByText(text, { exact: true }).waitFor();

test('two_users_see_each_other_come_and_go', async () => {
  const alice = await openDots('alice');
  await sees(alice, 'alice: Online');
  await sees(alice, 'bob: Offline');
  const bob = await openDots('bob', alice);
  await sees(bob, 'alice: Online');
  await sees(alice, 'bob: Online');
  await bob.close();
  await sees(alice, 'bob: Offline');
});

test('a_kicked_page_says_so_and_can_be_used_again', async () => {
  const first = await openDots('alice');
  await sees(first, 'alice: Online');
  const second = await openDots('alice'); // another browser profile: another device
  await sees(first, 'You are logged in on another device.');
  await first.getByRole('button', { name: 'Use here instead' }).click();
  await sees(first, 'The connection is connected.');
  await sees(second, 'You are logged in on another device.');
});

test('an_expired_token_is_named_and_use_here_can_be_tried_again', async () => {
  const own = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]) });
  try {
    site.served['/expiring.html'] = dotsOf(own);
    const page = await browser.open(`${site.origin}/expiring.html#${await own.tokenFor('alice', '1h')}`);
    await sees(page, 'alice: Online');
    await fetch(`${own.origin}/v1/users/alice/kick`, { method: 'POST', headers: { 'X-API-Key': own.adminKey }, body: '{"platform":"web"}' });
    await sees(page, 'This session was ended.');
    await advance(own, '2h');
    const here = page.getByRole('button', { name: 'Use here instead' });
    await here.click();
    await sees(page, 'the token has expired: use a new token, or option getToken');
    await here.waitFor();
  } finally {
    await own.stop();
  }
});

test('a_phone_is_push_online_and_offline_seven_days_later', async () => {
  const own = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]) });
  try {
    site.served['/week.html'] = dotsOf(own);
    const bob = await browser.open(`${site.origin}/week.html#${await own.tokenFor('bob', '365d')}`);
    const phone = await browser.demo(own, { user: 'alice', platform: 'android' });
    await sees(bob, 'alice: Online');
    await phone.close();
    await sees(bob, 'alice: PushOnline');
    await advance(own, '7d');
    await sees(bob, 'alice: Offline');
    await sees(bob, 'bob: Online');
  } finally {
    await own.stop();
  }
});

test('statuses_are_faded_while_the_hub_is_away', async () => {
  const alice = await openDots('alice');
  await sees(alice, 'alice: Online');
  await hub.restart('SIGKILL', () => alice.locator('.stale').waitFor());
  await alice.locator('#dots:not(.stale)').waitFor();
  await sees(alice, 'alice: Online');
});

test('the_token_of_a_back_end_replaces_the_one_in_the_link', async () => {
  const app = await browser.open(`${site.origin}/app.html`);
  await sees(app, 'no token: 404');
  site.served['/presence-token'] = await token(hub, 'bob');
  await sees(app, 'bob: Online');
});

test('a_link_without_a_token_says_what_is_missing', async () => {
  const another = await startBrowser();
  const page = await another.open(`${site.origin}/dots.html`);
  await sees(page, 'Uncaught TypeError: PresenceClient: option token is ""; expected a JWT as text');
  await assert.rejects(another.stop(), /errors in the pages/);
});

test('an_origin_that_is_not_allowed_is_named_on_the_page', async () => {
  const other = await startSite();
  try {
    other.served['/dots.html'] = site.served['/dots.html'];
    const page = await browser.open(`${other.origin}/dots.html#${await token(hub, 'alice')}`);
    await page.getByText(`that server.allowed_origins has "${other.origin}"`).waitFor();
  } finally {
    other.stop();
  }
});
