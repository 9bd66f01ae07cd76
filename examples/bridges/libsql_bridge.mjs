// libSQL by Node's package `libsql` as a bridge: `npm ci` in this folder installs it.
// It speaks the protocol of docs/another-language.md: a line in, a line out, until its input ends.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import Database from "libsql";

const about = new URL("node_modules/libsql/package.json", import.meta.url);
const have = JSON.parse(readFileSync(about)).version;
const source = "https://sqlite.org/isolation.html";
const promise = { level: "serializable", source };
let database = null;

function hello() {
  const memory = new Database(":memory:");
  const about = memory.prepare("SELECT sqlite_version() AS v, sqlite_source_id() AS id").get();
  memory.close();
  return {
    protocol: 1,
    binding: `libsql ${have} of Node ${process.version}`,
    version: about.v,
    source_id: about.id,
    file_format: "sqlite",
    modes: ["deferred", "immediate", "exclusive", "concurrent"],
    promises: { deferred: promise, immediate: promise, exclusive: promise },
  };
}

// A parameter as the package takes it: null and text are themselves, an integer is a BigInt.
function taken(sent) {
  if (sent === null || typeof sent === "string") return sent;
  if ("int" in sent) return BigInt(sent.int);
  return "real" in sent ? Number(sent.real) : Buffer.from(sent.blob, "base64");
}

// A value of a row as the protocol has it: with safe integers each integer is a BigInt.
function sent(value) {
  if (typeof value === "bigint") return { int: String(value) };
  if (typeof value === "number") return { real: Object.is(value, -0) ? "-0.0" : String(value) };
  return value instanceof Uint8Array ? { blob: Buffer.from(value).toString("base64") } : value;
}

function run(sql, params = []) {
  const statement = database.prepare(sql);
  const given = params.map(taken);
  if (statement.columns().length === 0) return { changes: statement.run(given).changes };
  const rows = statement.safeIntegers(true).raw(true).all(given);
  return { rows: rows.map((row) => row.map(sent)) };
}

const verbs = {
  hello: () => ({ hello: hello() }),
  open: ({ path, busy_timeout_ms }) => {
    database = new Database(path, { timeout: busy_timeout_ms });
  },
  begin: ({ mode }) => database.exec(`BEGIN ${mode.toUpperCase()}`),
  run: ({ sql, params }) => run(sql, params),
  commit: () => database.exec("COMMIT"),
  rollback: () => database.exec("ROLLBACK"),
  close: () => {
    if (database.inTransaction) database.exec("ROLLBACK"); // close() keeps its locks until collected
    database.close();
    database = null; // asked whether it is in a transaction, a closed one ends the process
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let found;
  try {
    found = verbs[request.do](request) ?? {};
  } catch (error) {
    found = { error: { message: error.message, code: error.rawCode } };
  }
  const in_transaction = database !== null && database.inTransaction;
  process.stdout.write(JSON.stringify({ id: request.id, in_transaction, ...found }) + "\n");
}
