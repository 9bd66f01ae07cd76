// libsql 0.5.29 for Node: a statement that was refused as busy stays in progress until it is collected
// as garbage. Until then the connection's COMMITs are refused, and what it writes without BEGIN is
// acknowledged and not committed: it is lost when the process ends.
//
//     npm ci && node busy_statement.mjs      exits 1 where that is so, 0 where not
//
// Found by `cwkit fuzz` through libsql_bridge.mjs. The refused COMMIT is reported as
// https://github.com/tursodatabase/libsql-client-ts/issues/352.
import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import Database from "libsql";

function write(path) {
  const [a, b] = [new Database(path), new Database(path)];
  a.exec("BEGIN IMMEDIATE");
  try {
    b.prepare("INSERT INTO t VALUES (0)").run();
  } catch (error) {
    console.log(`refused, as it should be: ${error.code} ${error.message}`);
  }
  a.exec("ROLLBACK"); // nobody holds anything any more, and b is in no transaction
  const done = b.prepare("INSERT INTO t VALUES (1)").run();
  console.log(`b inserted ${done.changes} row, in a transaction: ${b.inTransaction}`);
  try {
    b.exec("BEGIN");
    b.prepare("INSERT INTO t VALUES (2)").run();
    b.exec("COMMIT");
    console.log("b committed another one");
  } catch (error) {
    console.log(`COMMIT of another one: ${error.code} ${error.message}`);
  }
}

const [path] = process.argv.slice(2);
if (path) {
  write(path);
} else {
  const made = join(mkdtempSync(join(tmpdir(), "busy-")), "a.db");
  const first = new Database(made);
  first.exec("PRAGMA journal_mode = wal");
  first.exec("CREATE TABLE t(n INTEGER)");
  spawnSync(process.execPath, [fileURLToPath(import.meta.url), made], { stdio: "inherit" });
  const rows = first.prepare("SELECT n FROM t").raw(true).all();
  console.log(`rows when its process has ended: ${rows.length} of 2`);
  process.exitCode = rows.length === 2 ? 0 : 1;
}
