// Damages rows of a hub that is stopped, as a disk would: what is stored does not match its checksum.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { api } from './dashboard.mjs';

const RECORD = "UPDATE users SET record = replace(record, 'version', 'versiom') WHERE user = ?";
const CHANGE = `UPDATE log SET event = replace(event, 'cause', 'cauze') WHERE user = ? AND event LIKE '%"cause":"custom"%'`;
/** Node has no SQLite of its own before version 22; Python has. Each statement changes one row, or the damage is none. */
const EXECUTE = `
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=20)
for statement, user in json.loads(sys.argv[2]):
    changed = database.execute(statement, (user,)).rowcount
    assert changed == 1, f"{changed} rows: {statement} {user}"
database.commit()
database.close()
`;

/** Restarts the hub with damage: the records of `users`, and the one change of the custom status of each of `setters`. */
export async function restartDamaged(hub, { users = [], setters = [] }) {
  // Commits that are in the journal when a hub ends are in the database when the next one does.
  await hub.restart('SIGTERM');
  await api(hub, 'snapshot');
  const statements = [...users.map((user) => [RECORD, user]), ...setters.map((user) => [CHANGE, user])];
  const path = join(hub.directory, 'data', 'presence.db');
  await hub.restart('SIGTERM', () => promisify(execFile)('python3', ['-c', EXECUTE, path, JSON.stringify(statements)]));
}
