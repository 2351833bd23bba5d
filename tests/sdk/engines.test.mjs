// The SDK in three unmodified browser engines.

import { after, before, describe, test } from 'node:test';
import { startSite } from './embed.mjs';
import { destroyClients, rows, startHole } from './engine-rows.mjs';
import { engines } from './engines.mjs';
import { startHub } from './hub.mjs';

const ROW_MS = 120_000;
// A page may take long to reconnect on a busy machine.
const patience = { 'liveness.web_close_grace': '30s' };
const shared = {};
const running = [];

before(async () => {
  const [site] = await startAll(running, startSite());
  const start = (settings) => startHub({ 'server.allowed_origins': JSON.stringify([site.origin]), ...settings });
  const [usual, brisk, patient] = await startAll(
    running,
    start(),
    start({ ...patience, 'liveness.web_ping': '500ms', 'liveness.web_silence': '1500ms', 'auth.leeway': '0s' }),
    start(patience)
  );
  Object.assign(shared, { site, usual, brisk, patient, startHub: start });
});

after(async () => {
  destroyClients();
  await stopAll(running);
});

// All at once, because the longest network outage takes most of the time.
describe('the engines', { concurrency: engines.length }, () => {
  for (const engine of engines) {
    describe(engine.name, { concurrency: 1, skip: left(engine) }, () => {
      const running = [];
      const it = { engine, name: (user) => `${engine.name}-${user}` };

      before(async () => {
        if (engine.missing) throw new Error(engine.missing);
        const { site, usual } = shared;
        const open = (browser, user, { hub = usual, ...options } = {}) => site.open(browser, hub, it.name(user), options);
        const [one] = await startAll(running, engine.start());
        Object.assign(it, shared, { open, one });
        [it.short, it.long, it.other] = await startAll(
          running, startHole(it, 'rita', 15_000), startHole(it, 'tess', 70_000), engine.start()
        );
      });
      after(() => stopAll(running));

      for (const [name, row] of Object.entries(rows)) test(name, { timeout: ROW_MS }, () => row(it));
    });
  }
});

/** Skips engines that are not installed: WITHOUT_ENGINES="Firefox WebKitGTK". */
function left(engine) {
  return process.env.WITHOUT_ENGINES?.split(' ').includes(engine.name) && 'left out';
}

/** Starts all concurrently. If one fails to start, the started ones are stopped. */
async function startAll(running, ...starting) {
  const results = await Promise.allSettled(starting);
  const started = results.filter(({ status }) => status === 'fulfilled').map(({ value }) => value);
  running.push(...started);
  if (started.length < results.length) throw results.find(({ status }) => status === 'rejected').reason;
  return started;
}

const stopAll = (running) => Promise.all(running.map((it) => it.stop()));
