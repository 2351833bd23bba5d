// The hub's transition log, followed live.

import { setTimeout } from 'node:timers/promises';

const WAIT_MS = 20_000;

/** Follows the log of a hub from now on. */
export async function follow(hub) {
  const ending = new AbortController();
  const headers = { ...authorization(hub), Accept: 'text/event-stream' };
  const answer = await fetch(`${hub.origin}/v1/events`, { headers, signal: ending.signal });
  if (!answer.ok) throw new Error(`no log: HTTP ${answer.status}`);
  const events = [];
  const waiting = new Set();
  const done = read(answer.body, (event) => {
    events.push(event);
    for (const look of waiting) look();
  }).catch((error) => ending.signal.aborted || Promise.reject(error));

  const of = (user) => events.filter((event) => event.user === user);
  return {
    /** This user's events, oldest first. */
    of,
    causes: (user) => of(user).map(({ cause }) => cause),
    /** The first event of this user with this cause, now or later. */
    async until(user, cause) {
      const stopped = new AbortController();
      const late = setTimeout(WAIT_MS, null, { signal: stopped.signal }).then(() => {
        throw new Error(`${user} has no ${cause} but ${JSON.stringify(of(user))}`);
      });
      late.catch(() => {});
      let look;
      const found = new Promise((resolve) => {
        look = () => {
          const event = of(user).find((it) => it.cause === cause);
          if (event) resolve(event);
        };
        waiting.add(look);
        look();
      });
      try {
        return await Promise.race([found, late]);
      } finally {
        waiting.delete(look);
        stopped.abort();
      }
    },
    stop() {
      ending.abort();
      return done;
    },
  };
}

/** A user's transitions, the oldest first. */
export async function history(hub, user) {
  return (await get(hub, `/v1/users/${encodeURIComponent(user)}/history?limit=100`)).events.reverse();
}

/** What the server API answers. */
export async function get(hub, path) {
  const answer = await fetch(`${hub.origin}${path}`, { headers: { ...authorization(hub), Connection: 'close' } });
  if (!answer.ok) throw new Error(`${path}: HTTP ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const authorization = (hub) => ({ Authorization: `Bearer ${hub.adminKey}` });

async function read(body, tell) {
  let rest = '';
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const [, data] = block.match(/^data: ?(.*)$/m) ?? [];
      if (data) tell(JSON.parse(data));
    }
  }
}
