// Chromium, and the two pages as their users see them.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-quic',
];

export async function startBrowser() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  const complaints = [];

  /** A page in a browser profile of its own, which is `like` this, or in that of `beside`. */
  async function open(url, { beside, ...like } = {}) {
    const context = beside?.context() ?? (await browser.newContext({ locale: 'en-US', ...like }));
    context.setDefaultTimeout(10_000);
    // A hub compresses each file when it is first asked for it, which takes a debug build long on a busy machine.
    context.setDefaultNavigationTimeout(30_000);
    const page = await context.newPage();
    page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error}`));
    page.on('console', (message) => {
      if (/Content Security Policy/.test(message.text())) complaints.push(message.text());
    });
    await page.goto(url);
    return page;
  }

  return {
    open,
    /** The demo, logged in. `place` is the hub or a proxy before it. */
    async demo(hub, fields, { place = hub, beside, state = 'connected' } = {}) {
      const query = new URLSearchParams({ auto: '1', ...fields });
      const page = await open(`${place.origin}/static/demo.html?${query}#key=${encodeURIComponent(hub.devKey)}`, { beside });
      await connection(page, state);
      return page;
    },
    async stop() {
      await browser.close();
      assert.deepEqual(complaints, [], 'errors in the pages');
    },
  };
}

export const connection = (page, state) => page.locator(`#state[data-state="${state}"]`).waitFor();

/** Waits until the demo shows this user in this state. */
export const sees = (page, user, state) => page.locator(`#watched [data-user="${user}"][data-state="${state}"]`).waitFor();

/** The states of this user that the demo has been told, the oldest first. */
export async function told(page, user) {
  const lines = await page.locator(`#log [data-kind="status"][data-user="${user}"]`).all();
  return (await Promise.all(lines.map((line) => line.getAttribute('data-state')))).reverse();
}

export const logged = (page, kind) => page.locator(`#log [data-kind="${kind}"]`);
