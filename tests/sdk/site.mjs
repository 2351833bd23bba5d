// A site of somebody else, on another origin than the hub: its pages, the files of static/, and the tokens of its users.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { token } from './hub.mjs';

const STATIC = new URL('../../static/', import.meta.url);
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css' };

/** A script that keeps in `sockets` what a page's WebSockets are, and in `sent` the messages that they send. */
const COUNTER = `
  globalThis.sockets = [];
  globalThis.sent = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(...how) {
      super(...how);
      sockets.push(this);
    }
    send(text) {
      sent.push(JSON.parse(text));
      super.send(text);
    }
  };`;

/**
 * Serves `pages` (HTML by path), `/static/…`, `/counter.js`, `/token/USER` for `hub()`, and the files in `folder` (a URL). `asked`
 * has the user of each token that was asked for.
 */
export async function startSite(hub, { pages = {}, folder } = {}) {
  const asked = [];
  const answer = async (path) => {
    if (path in pages) return ['.html', pages[path]];
    if (path === '/counter.js') return ['.js', COUNTER];
    const [, user] = path.match(/^\/token\/(.+)$/) ?? [];
    if (user) {
      asked.push(user);
      return ['', await token(hub(), user)];
    }
    const [, name] = path.match(/^\/static\/(.+)$/) ?? [];
    return [extname(path), await readFile(name ? new URL(name, STATIC) : new URL(`.${path}`, folder))];
  };
  const server = createServer(async ({ url }, response) => {
    try {
      const [extension, body] = await answer(decodeURIComponent(new URL(url, 'http://site').pathname));
      response.writeHead(200, { 'Content-Type': `${TYPES[extension] ?? 'text/plain'}; charset=utf-8` }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    asked,
    origin: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}
