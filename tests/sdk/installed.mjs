// The package as its users have it: packed, and installed in a temporary directory.

import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const folder = fileURLToPath(new URL('../../static', import.meta.url));

/** Installs the package in `place`, beside these packages of the tests. */
export async function install(...beside) {
  const place = await mkdtemp(join(tmpdir(), 'presence-hub-package-'));
  const { stdout } = await run('npm', ['pack', folder, '--silent'], { cwd: place });
  await writeFile(join(place, 'package.json'), '{"private":true,"type":"module"}');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', `./${stdout.trim()}`], { cwd: place });
  for (const name of beside) {
    const link = join(place, 'node_modules', name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(fileURLToPath(new URL(`node_modules/${name}`, import.meta.url)), link);
  }
  return { place, remove: () => rm(place, { recursive: true, force: true }) };
}
