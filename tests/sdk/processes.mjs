// Processes of the tests' own, as Linux shows them under /proc.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A program that runs $PROGRAM, and ends it and its children with this process. */
export const TIED = fileURLToPath(new URL('tied', import.meta.url));

/** An X server of our own, for a browser that has no other way to run without a screen. */
export async function startDisplay() {
  const xvfb = ['Xvfb', '-displayfd', '3', '-screen', '0', '1280x800x24', '-nolisten', 'tcp'];
  const server = spawn('setpriv', ['--pdeathsig', 'TERM', ...xvfb], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const exited = new Promise((done) => server.once('close', done));
  const number = await new Promise((resolve, reject) => {
    server.stdio[3].once('data', (chunk) => resolve(String(chunk).trim()));
    server.once('error', reject);
    server.once('close', () => reject(new Error('there is no Xvfb')));
  });
  return {
    name: `:${number}`,
    stop() {
      server.kill();
      return exited;
    },
  };
}

/** All that descend from a process: [{pid, command}]. */
export function descendants(ancestor) {
  const found = [{ pid: ancestor }];
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).flatMap(look);
  for (const { pid } of found) found.push(...all.filter(({ parent }) => parent === pid));
  return found.slice(1);
}

/** The port that a process, or one that descends from it, listens on; null while there is none. */
export function listeningPort(ancestor) {
  const sockets = new Set(descendants(ancestor).flatMap(({ pid }) => openFiles(pid)));
  const lines = readFileSync('/proc/net/tcp', 'latin1').trim().split('\n').slice(1).map((line) => line.trim().split(/\s+/));
  const LISTEN = '0A';
  const [, local] = lines.find(([, , , state, , , , , , inode]) => state === LISTEN && sockets.has(`socket:[${inode}]`)) ?? [];
  return local ? parseInt(local.split(':')[1], 16) : null;
}

// A process may end while it is looked at.
function look(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
    return [{ pid, parent: Number(parent), command }];
  } catch {
    return [];
  }
}

function openFiles(pid) {
  try {
    const directory = `/proc/${pid}/fd`;
    return readdirSync(directory).map((name) => readlinkSync(`${directory}/${name}`));
  } catch {
    return [];
  }
}
