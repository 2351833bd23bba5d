// The OpenAPI description is valid, and the hub's answers match it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv from 'ajv/dist/2020.js';
import WebSocket from 'ws';

import { startHub } from './hub.mjs';

const SECRET = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';

let hub;
let description;
let receiver;
const sockets = [];

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${hub.adminKey}` };
  const answer = await fetch(`${hub.origin}${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

async function login(user, platform) {
  const answer = await fetch(`${hub.origin}/dev/token`, {
    method: 'POST',
    headers: { 'x-dev-key': hub.devKey },
    body: JSON.stringify({ user }),
  });
  const { token } = await answer.json();
  const socket = new WebSocket(`${hub.origin.replace('http', 'ws')}/ws`);
  sockets.push(socket);
  await once(socket, 'open');
  socket.send(JSON.stringify({ type: 'login', id: 1, token, platform, device: platform, app: 'a test' }));
  const [reply] = await once(socket, 'message');
  assert.ok(JSON.parse(reply).ok, String(reply));
}

before(async () => {
  receiver = createServer((request, response) => request.resume().on('end', () => response.end()));
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  const url = `http://127.0.0.1:${receiver.address().port}/`;
  hub = await startHub({ 'webhook.url': url, 'webhook.secrets': `["${SECRET}"]` });
  description = await (await fetch(`${hub.origin}/openapi.json`)).json();
  await login('ana', 'ios');
  await login('ana', 'web');
  await login('bo', 'miniprogram');
});

after(async () => {
  for (const socket of sockets) socket.terminate();
  await hub?.stop();
  receiver?.close();
});

test('the OpenAPI description is valid', async () => {
  const result = await new Validator().validate(structuredClone(description));
  assert.ok(result.valid, JSON.stringify(result.errors, null, 2));
});

test('generated clients get good names', () => {
  const calls = Object.values(description.paths).flatMap((methods) => Object.values(methods));
  const names = calls.map((call) => call.operationId);
  for (const name of names) assert.match(name, /^[a-z]+([A-Z][a-z]+)+$/);
  assert.equal(new Set(names).size, names.length);
  for (const name of ['getUser', 'listUsers', 'kickUser', 'getStatuses', 'listEvents', 'getSnapshot']) assert.ok(names.includes(name), name);
  for (const { operationId, tags } of calls) assert.equal(tags?.length, 1, operationId);
  assert.equal(description.components.schemas.BTreeMap, undefined);
});

const CALLS = [
  ['post', '/v1/status', '/v1/status', 200, { users: ['ana', 'nobody', ' '], detail: true }],
  ['post', '/v1/status', '/v1/status', 400, { users: [] }],
  ['get', '/v1/users', '/v1/users?prefix=a', 200],
  ['get', '/v1/users/{user}', '/v1/users/bo', 200],
  ['get', '/v1/users/{user}/history', '/v1/users/ana/history', 200],
  ['put', '/v1/users/{user}/custom', '/v1/users/ana/custom', 200, { custom: 'busy' }],
  ['put', '/v1/users/{user}/custom', '/v1/users/nobody/custom', 409, { custom: 'busy' }],
  ['get', '/v1/policy/explain', '/v1/policy/explain?login=ios&existing=web,android:2', 200],
  ['get', '/v1/sessions', '/v1/sessions', 200],
  ['get', '/v1/snapshot', '/v1/snapshot?limit=1', 200],
  ['get', '/v1/events', '/v1/events', 200],
  ['get', '/v1/events', '/v1/events?after=1', 410],
  ['get', '/v1/users/{user}/watchers', '/v1/users/ana/watchers', 200],
  ['get', '/v1/stats', '/v1/stats', 200],
  ['get', '/v1/stats/series', '/v1/stats/series?minutes=60', 200],
  ['get', '/v1/figures', '/v1/figures?days=400', 200],
  ['get', '/v1/nodes', '/v1/nodes', 200],
  ['get', '/v1/refusals', '/v1/refusals?user=ana&limit=5', 200],
  ['get', '/v1/config', '/v1/config', 200],
  ['get', '/v1/config/defaults', '/v1/config/defaults', 200],
  ['get', '/v1/audit', '/v1/audit?limit=10', 200],
  ['get', '/v1/addresses', '/v1/addresses', 200],
  ['post', '/v1/admin/session', '/v1/admin/session', 401, { key: 'not-a-key-of-this-hub' }],
  ['get', '/v1/admin/session', '/v1/admin/session', 200],
  ['delete', '/v1/admin/session', '/v1/admin/session', 200],
  ['get', '/v1/webhooks', '/v1/webhooks', 200],
  ['post', '/v1/webhooks/test', '/v1/webhooks/test', 200],
  ['get', '/v1/webhooks/dead', '/v1/webhooks/dead', 200],
  ['post', '/v1/webhooks/dead/retry', '/v1/webhooks/dead/retry', 200, { all: true }],
  ['post', '/v1/webhooks/dead/drop', '/v1/webhooks/dead/drop', 200, { ids: ['1'] }],
  ['put', '/v1/users/{user}/visibility', '/v1/users/bo/visibility', 200, { hidden: true, blocked: ['mallory'] }],
  ['get', '/v1/users/{user}/visibility', '/v1/users/bo/visibility', 200],
  ['get', '/v1/users/{user}/history', '/v1/users/bo/history', 200],
  ['put', '/v1/users/{user}/watch-list', '/v1/users/bo/watch-list', 200, { users: ['cy', 'dan'] }],
  ['patch', '/v1/users/{user}/watch-list', '/v1/users/bo/watch-list', 200, { remove: ['cy'] }],
  ['get', '/v1/users/{user}/watch-list', '/v1/users/bo/watch-list', 200],
  ['post', '/v1/users/{user}/kick', '/v1/users/bo/kick', 200, { all: true, message: 'bye' }],
  ['delete', '/v1/users/{user}', '/v1/users/bo', 200],
];

test('answers match the description', async () => {
  // Whole numbers are described by their size, which no format of JSON Schema is.
  const ajv = new Ajv({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: 'description', components: description.components });
  for (const [method, template, path, status, body] of CALLS) {
    const answer = await call(method.toUpperCase(), path, body);
    assert.equal(answer.status, status, `${path}: ${JSON.stringify(answer.body)}`);
    const described = description.paths[template]?.[method]?.responses?.[status];
    assert.ok(described, `${method} ${template} ${status} is not described`);
    const schema = JSON.parse(JSON.stringify(described.content['application/json'].schema).replaceAll('"#/', '"description#/'));
    const isAsDescribed = ajv.compile(schema);
    assert.ok(isAsDescribed(answer.body), `${path}: ${ajv.errorsText(isAsDescribed.errors)}\n${JSON.stringify(answer.body)}`);
  }
  const described = Object.entries(description.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
  const called = new Set(CALLS.map(([method, template]) => `${method} ${template}`));
  assert.deepEqual(described.filter((one) => !called.has(one)), [], 'every call is held against its description');
});
