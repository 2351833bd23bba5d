// What an operator should look at now, by the counts alone.

import { named } from '../i18n.js';
import { duration, number, size } from './format.js';
/** @import { Point, Stats } from './shapes.d.ts' */

/** @typedef {{ level: 'bad' | 'warn', key: string, values: Record<string, string>, screen: string }} Attention */

const LATELY_MS = 60_000;
const BACKLOG_AGE_MS = 60_000;
const SLOW_COMMIT_MS = 100;
/** A disk is nearly full that has less than both of these free. */
const DISK_LOW_BYTES = 2 * 1024 ** 3;
const DISK_LOW_PART = 0.1;
const FILES_HIGH_PART = 0.85;
/** A spike is so many in a second and so many times what was before. */
const SPIKE = { perSecond: 1, times: 4 };

/**
 * @param {Stats} stats
 * @param {Point[]} points the earliest first
 * @returns {Attention[]} the worst first
 */
export function attentionOf(stats, points) {
  /** @type {Attention[]} */
  const all = [];
  /** @param {Attention['level']} level @param {string} key @param {string} screen @param {Record<string, string>} [values] */
  const tell = (level, key, screen, values = {}) => all.push({ level, key, screen, values });
  // After a restart, what was before says nothing.
  const own = points.filter(({ at, uptime_ms }) => uptime_ms <= stats.uptime_ms && at <= stats.at);
  const lately = own.find(({ at }) => at >= stats.at - LATELY_MS);
  const grown = (/** @type {(point: Point) => number} */ count, from = lately) => (from ? count(stats) - count(from) : 0);

  const { webhook, outbox, store } = stats;
  if (webhook.state === 'down')
    tell('bad', 'attention_webhook_down', 'webhooks', { age: duration(outbox.age_ms), count: number(outbox.depth) });
  if (webhook.state === 'failing') tell('bad', 'attention_webhook_failing', 'webhooks', { count: number(outbox.depth) });
  if (webhook.state === 'up' && outbox.age_ms > BACKLOG_AGE_MS)
    tell('warn', 'attention_backlog', 'webhooks', { age: duration(outbox.age_ms), count: number(outbox.depth) });
  if (webhook.dead_waiting > 0) tell('warn', 'attention_dead', 'webhooks', { count: number(webhook.dead_waiting) });

  const commits = grown(({ store }) => store.commits);
  const took = commits > 0 ? grown(({ store }) => store.commit_us) / commits / 1000 : 0;
  if (store.state === 'failing') tell('bad', 'attention_store_failing', 'system');
  else if (grown(({ store }) => store.failures) > 0)
    tell('bad', 'attention_store_failed', 'system', { count: number(grown(({ store }) => store.failures)) });
  if (store.damaged_rows > 0) tell('bad', 'attention_damaged', 'system', { count: number(store.damaged_rows) });
  if (store.disk_low) tell('bad', 'attention_disk_low', 'system', { free: size(stats.nodes[0]?.disk?.free_bytes ?? null) });
  if (took > SLOW_COMMIT_MS) tell('warn', 'attention_store_slow', 'system', { ms: number(Math.round(took)) });

  const refused = spike(stats, own, ({ refusals }) => refusals);
  if (refused !== null)
    tell('warn', 'attention_refusals', 'refusals', {
      rate: number(Math.round(refused)),
      reason: named('refused_', most(stats.refusals_by_reason, lately?.refusals_by_reason)),
    });
  const lost = spike(stats, own, ({ closes_by_reason }) => (closes_by_reason.lost ?? 0) + (closes_by_reason.silence ?? 0));
  if (lost !== null) tell('warn', 'attention_lost', 'feed', { rate: number(Math.round(lost)) });

  if (grown(({ slow_consumers }) => slow_consumers, own[0]) > 0)
    tell('warn', 'attention_slow_consumers', 'overview', {
      count: number(grown(({ slow_consumers }) => slow_consumers, own[0])),
    });
  if (grown(({ stalls }) => stalls, own[0]) > 0)
    tell('warn', 'attention_stalls', 'system', { count: number(grown(({ stalls }) => stalls, own[0])) });
  if (grown(({ accept_errors }) => accept_errors) > 0)
    tell('bad', 'attention_accept', 'system', { count: number(grown(({ accept_errors }) => accept_errors)) });
  for (const { id, state, disk, open_files: files } of stats.nodes) {
    // `disk_low` says it already, and what follows from it.
    if (!store.disk_low && disk && disk.free_bytes < Math.min(DISK_LOW_BYTES, disk.total_bytes * DISK_LOW_PART))
      tell('bad', 'attention_disk', 'system', { free: size(disk.free_bytes) });
    if (files?.limit && files.used > files.limit * FILES_HIGH_PART)
      tell('warn', 'attention_files', 'system', { used: number(files.used), limit: number(files.limit) });
    if (state !== 'up') tell(state === 'draining' ? 'warn' : 'bad', `attention_node_${state}`, 'system', { node: id.slice(0, 8) });
  }
  return all.sort((a, b) => Number(b.level === 'bad') - Number(a.level === 'bad'));
}

/**
 * The rate of the last minute, where it stands out from the minutes before; else null.
 *
 * @param {Stats} stats
 * @param {Point[]} points
 * @param {(point: Point) => number} count
 */
function spike(stats, points, count) {
  const first = points[0];
  const lately = points.find(({ at }) => at >= stats.at - LATELY_MS);
  if (!first || !lately || stats.at <= lately.at) return null;
  const now = ((count(stats) - count(lately)) * 1000) / Math.max(stats.at - lately.at, 10_000);
  const before = lately.at > first.at ? ((count(lately) - count(first)) * 1000) / (lately.at - first.at) : 0;
  return now >= SPIKE.perSecond && now >= before * SPIKE.times ? now : null;
}

/** What grew most. @param {Record<string, number>} now @param {Record<string, number>} [before] */
function most(now, before = {}) {
  const grown = Object.entries(now).map(([name, count]) => /** @type {const} */ ([name, count - (before[name] ?? 0)]));
  return grown.sort(([, a], [, b]) => b - a)[0]?.[0] ?? '?';
}
