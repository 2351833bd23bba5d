// The types: of the SDK, of the pages, of those who use the SDK, and of the simulated hosts.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const COMPILER = fileURLToPath(new URL('./node_modules/typescript/bin/tsc', import.meta.url));
const STATIC = fileURLToPath(new URL('../../static/', import.meta.url));

function tsc(...args) {
  return new Promise((done) => {
    const cwd = fileURLToPath(new URL('.', import.meta.url));
    execFile(process.execPath, [COMPILER, ...args], { cwd, maxBuffer: 1 << 24 }, (error, stdout, stderr) => done({ error, output: stdout + stderr }));
  });
}

describe('TypeScript, strict', { concurrency: true }, () => {
  for (const config of ['tsconfig.json', 'tsconfig.hosts.json']) {
    test(config, async () => {
      const { error, output } = await tsc('--project', config);
      assert.ok(!error, `\n${output || error}`);
    });
  }

  test('every source file is checked', async () => {
    const { output } = await tsc('--project', 'tsconfig.json', '--listFilesOnly');
    const checked = output.split('\n').filter((path) => path.startsWith(STATIC)).map((path) => path.slice(STATIC.length));
    const sources = readdirSync(STATIC, { recursive: true }).filter((path) => /\.(m?js|d\.m?ts)$/.test(path));
    assert.deepEqual(checked.sort(), sources.sort());
  });
});
