"""The battery of the trial `compatibility`: statements whose answers are compared.

Each item is played on a database of its own kind of state: what it makes, it drops. `since` is the
first SQLite that knows it, for an item that an older one refuses by rights; `adds` marks what
libSQL has added to SQLite, `binding`
what the driver decides and not the library.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Item(NamedTuple):
    """statements : each a text, or a text with its parameters. The answers of all of them count."""

    about: str
    statements: tuple[Any, ...]
    since: tuple[int, ...] = ()
    adds: bool = False
    binding: bool = False

    @property
    def of(self) -> str:
        """Whose a difference is: the binding's where values are handed over, else the library's."""
        handed = self.binding or any(isinstance(each, tuple) for each in self.statements)
        return "binding" if handed else "library"


def _each(about: str, *statements: Any, **more: Any) -> Item:
    return Item(about, statements, **more)


T = "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c)"
THREE = "INSERT INTO t VALUES (1, 'x', 1.5), (2, 'y', NULL), (3, 'z', x'00ff')"

STATEMENTS = (
    _each("literals of every type", "SELECT 1, -1, 1.5, 'text', x'00ff', NULL, 1e300, 0.1 + 0.2"),
    _each("large integers", f"SELECT {2**63 - 1}, -{2**63}, {2**63}"),
    _each("integer overflow becomes a real", "SELECT 9223372036854775807 + 1"),
    _each("division by zero", "SELECT 1 / 0, 1 % 0, 1.0 / 0"),
    _each("typeof", "SELECT typeof(1), typeof('1'), typeof(1.0), typeof(x''), typeof(NULL)"),
    _each("affinity", T, "INSERT INTO t VALUES ('7', 7, '7')", "SELECT a, b, c, typeof(c) FROM t"),
    _each("a text in an integer key", T, "INSERT INTO t VALUES ('x', 1, 1)"),
    _each("CAST", "SELECT CAST('12abc' AS INTEGER), CAST(1.9 AS INTEGER), CAST(x'3132' AS TEXT)"),
    _each("a text with accents", "SELECT upper('äöü'), lower('ÄÖÜ'), length('äöü'), 'ß' LIKE 'ẞ'"),
    _each("an emoji", "SELECT '🦆', length('🦆'), hex('🦆'), unicode('🦆')"),
    _each(
        "a NUL in a text",
        "SELECT 'a' || char(0) || 'b'",
        "SELECT length('a' || char(0) || 'b')",
        binding=True,
    ),
    _each("collations", "SELECT 'a' = 'A' COLLATE NOCASE, 'a ' = 'a' COLLATE RTRIM"),
    _each("LIKE, GLOB", "SELECT 'abc' LIKE 'A%', 'abc' GLOB 'A*', 'a_c' LIKE 'a\\_c' ESCAPE '\\'"),
    _each("NULL in comparisons", "SELECT NULL = NULL, NULL IS NULL, 1 IN (NULL), NOT NULL"),
    _each("ORDER BY over types", T, THREE, "SELECT c FROM t ORDER BY c", "SELECT max(c) FROM t"),
    _each(
        "aggregates", T, THREE, "SELECT count(*), sum(a), avg(a), total(a), group_concat(b) FROM t"
    ),
    _each("sum overflows", f"SELECT sum(x) FROM (SELECT {2**63 - 1} AS x UNION ALL SELECT 1)"),
    _each("window functions", T, THREE, "SELECT a, row_number() OVER (ORDER BY b DESC) FROM t"),
    _each(
        "recursive CTE",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        "WHERE i < 5) SELECT sum(i) FROM n",
    ),
    _each(
        "UPSERT",
        T,
        THREE,
        "INSERT INTO t VALUES (1, 'n', 0) ON CONFLICT(a) DO UPDATE SET b = "
        "excluded.b RETURNING a, b",
        "SELECT * FROM t",
    ),
    _each(
        "RETURNING", T, "INSERT INTO t VALUES (1, 'x', 2) RETURNING *", "DELETE FROM t RETURNING b"
    ),
    _each(
        "INSERT OR",
        T,
        THREE,
        "INSERT OR IGNORE INTO t VALUES (1, 'n', 0)",
        "INSERT OR REPLACE INTO t VALUES (2, 'n', 0)",
        "SELECT * FROM t",
    ),
    _each(
        "UPDATE FROM",
        T,
        THREE,
        "UPDATE t SET b = q.b FROM (SELECT 'q' AS b) AS q WHERE a = 1",
        "SELECT b FROM t",
    ),
    _each("last_insert_rowid, changes", T, THREE, "SELECT last_insert_rowid(), changes()"),
    _each(
        "AUTOINCREMENT",
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO t DEFAULT VALUES",
        "DELETE FROM t",
        "INSERT INTO t DEFAULT VALUES",
        "SELECT a FROM t",
        "SELECT * FROM sqlite_sequence WHERE name = 't'",
    ),
    _each(
        "WITHOUT ROWID",
        "CREATE TABLE t(a TEXT PRIMARY KEY, b) WITHOUT ROWID",
        "INSERT INTO t VALUES ('k', 1)",
        "SELECT rowid FROM t",
    ),
    _each("STRICT", "CREATE TABLE t(a INT, b TEXT) STRICT", "INSERT INTO t VALUES ('x', 1)"),
    _each(
        "generated columns",
        "CREATE TABLE t(a INT, b INT AS (a * 2) STORED)",
        "INSERT INTO t(a) VALUES (4)",
        "SELECT * FROM t",
    ),
    _each("CHECK", "CREATE TABLE t(a CHECK (a > 0))", "INSERT INTO t VALUES (-1)"),
    _each("NOT NULL", "CREATE TABLE t(a NOT NULL)", "INSERT INTO t VALUES (NULL)"),
    _each(
        "UNIQUE", "CREATE TABLE t(a UNIQUE)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)"
    ),
    _each(
        "foreign keys are off",
        "CREATE TABLE p(a INTEGER PRIMARY KEY)",
        "CREATE TABLE t(a REFERENCES p)",
        "INSERT INTO t VALUES (9)",
        "PRAGMA foreign_keys",
    ),
    _each(
        "foreign keys, switched on",
        "PRAGMA foreign_keys = ON",
        "CREATE TABLE p(a INTEGER PRIMARY KEY)",
        "CREATE TABLE t(a REFERENCES p)",
        "INSERT INTO t VALUES (9)",
        "PRAGMA foreign_keys = OFF",
    ),
    _each(
        "triggers",
        T,
        "CREATE TABLE p(n)",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO p VALUES (new.a); END",
        THREE,
        "SELECT count(*) FROM p",
    ),
    _each(
        "a trigger that raises",
        T,
        "CREATE TRIGGER g BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'not today'); END",
        THREE,
    ),
    _each("views", T, THREE, "CREATE VIEW v AS SELECT a FROM t", "SELECT * FROM v", "DROP VIEW v"),
    _each(
        "ALTER TABLE",
        T,
        "ALTER TABLE t RENAME COLUMN b TO d",
        "ALTER TABLE t ADD COLUMN e DEFAULT 5",
        "ALTER TABLE t DROP COLUMN c",
        "SELECT sql FROM sqlite_schema WHERE name = 't'",
    ),
    _each(
        "partial and expression indexes",
        T,
        "CREATE INDEX i ON t(lower(b)) WHERE a > 1",
        THREE,
        "SELECT a FROM t WHERE lower(b) = 'y' AND a > 1",
    ),
    _each(
        "savepoints",
        T,
        "BEGIN",
        "SAVEPOINT s",
        THREE,
        "ROLLBACK TO s",
        "RELEASE s",
        "COMMIT",
        "SELECT count(*) FROM t",
    ),
    _each("COMMIT without BEGIN", "COMMIT"),
    _each("ROLLBACK without BEGIN", "ROLLBACK"),
    _each("BEGIN twice", "BEGIN", "BEGIN", "ROLLBACK"),
    _each(
        "a temporary table",
        "CREATE TEMP TABLE m(a)",
        "INSERT INTO m VALUES (1)",
        "SELECT * FROM m",
        "DROP TABLE m",
    ),
    _each("ATTACH", "ATTACH ':memory:' AS other", "CREATE TABLE other.m(a)", "DETACH other"),
    _each("a syntax error", "SELEC 1"),
    _each("no such table", "SELECT * FROM nobody"),
    _each("no such column", "SELECT nobody"),
    _each("no such function", "SELECT nobody(1)"),
    _each("several statements at once", "SELECT 1; SELECT 2", binding=True),
    _each("an empty statement", "", binding=True),
    _each("a comment alone", "-- nothing", binding=True),
    _each("JSON", "SELECT json_extract('{\"a\": [1, 2.5, null]}', '$.a[1]'), '{\"a\": 7}' ->> 'a'"),
    _each(
        "dates",
        "SELECT date(0, 'unixepoch'), strftime('%Y-%m', '2024-02-29'), julianday('2000-01-01')",
    ),
    _each("printf", "SELECT printf('%05d|%.2f|%s|%q', 42, 3.14159, 'a', \"'\")"),
    _each("math functions", "SELECT round(sqrt(2), 6), round(pi(), 6), ceil(1.2), mod(7, 3)"),
    _each("soundex", "SELECT soundex('Robert')"),
    _each(
        "FTS5",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('a quick fox')",
        "SELECT x FROM f WHERE f MATCH 'quick'",
        "DROP TABLE f",
    ),
    _each("R*Tree", "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)", "DROP TABLE r"),
    _each("dbstat", "SELECT count(*) > 0 FROM dbstat"),
    _each("EXPLAIN QUERY PLAN", T, "EXPLAIN QUERY PLAN SELECT * FROM t WHERE a = 1"),
    _each(
        "PRAGMA user_version",
        "PRAGMA user_version = 7",
        "PRAGMA user_version",
        "PRAGMA user_version = 0",
    ),
    _each("PRAGMA table_info", T, "PRAGMA table_info(t)"),
    _each("PRAGMA integrity_check", "PRAGMA integrity_check"),
    _each("PRAGMA cache_size", "PRAGMA cache_size = -4000", "PRAGMA cache_size"),
    _each(
        "sqlite_schema", T, "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name = 't'"
    ),
    _each("VACUUM", "VACUUM"),
    _each("unhex", "SELECT unhex('00ff')", since=(3, 41)),
    _each("octet_length", "SELECT octet_length('ä')", since=(3, 43)),
    _each(
        "concat, string_agg", "SELECT concat('a', NULL, 'b'), concat_ws('-', 1, 2)", since=(3, 44)
    ),
    _each(
        "ORDER BY in an aggregate",
        T,
        THREE,
        "SELECT group_concat(b ORDER BY a DESC) FROM t",
        since=(3, 44),
    ),
    _each("jsonb", "SELECT json(jsonb('[1, 2]'))", since=(3, 45)),
    _each("a statement with NULL", ("SELECT ?, typeof(?)", (None, None))),
    _each("integers as parameters", ("SELECT ?, ?, ?", (0, 2**31, -(2**31)))),
    _each("an integer above 2**53", ("SELECT ?", (2**53 + 1,))),
    _each("the largest integer", ("SELECT ?, typeof(?)", (2**63 - 1, 2**63 - 1))),
    _each("an integer that does not fit", ("SELECT ?", (2**63,))),
    _each("a real as a parameter", ("SELECT ?, ?", (0.1, 1e308))),
    _each("infinity", ("SELECT ?, typeof(?)", (float("inf"), float("inf")))),
    _each("not a number", ("SELECT ?, typeof(?)", (float("nan"), float("nan")))),
    _each("True", ("SELECT ?, typeof(?)", (True, True))),
    _each("bytes", ("SELECT ?, typeof(?), length(?)", (b"\x00\xff", b"\x00", b""))),
    _each("an empty text and empty bytes", ("SELECT ?, ?, typeof(?)", ("", b"", b""))),
    _each("a text with NUL as a parameter", ("SELECT length(?), hex(?)", ("a\0b", "a\0b"))),
    _each("a long text", ("SELECT length(?)", ("x" * 100_000,))),
    _each("too few parameters", ("SELECT ?, ?", (1,))),
    _each("too many parameters", ("SELECT ?", (1, 2))),
    _each("numbered parameters", ("SELECT ?2, ?1", (1, 2))),
    _each("a list as a parameter", ("SELECT ?", ([1],))),
    _each("RANDOM ROWID", "CREATE TABLE t(a) RANDOM ROWID", adds=True),
    _each("ALTER COLUMN", T, "ALTER TABLE t ALTER COLUMN b TO b TEXT DEFAULT 'n'", adds=True),
    _each(
        "vectors", "SELECT vector_distance_cos(vector('[1,2]'), vector('[1,2]')) < 0.001", adds=True
    ),
)

DROPS = (
    *("DROP VIEW IF EXISTS v", "DROP TABLE IF EXISTS t", "DROP TABLE IF EXISTS p"),
    *("DROP TABLE IF EXISTS f", "DROP TABLE IF EXISTS r"),
)

FILE = (
    "CREATE TABLE plain(a INTEGER PRIMARY KEY, b TEXT, c REAL, d BLOB, e)",
    (
        "INSERT INTO plain WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        "WHERE i < 500) SELECT i, 'text ' || i, i / 3.0, zeroblob(i % 90), "
        "CASE i % 3 WHEN 0 THEN NULL ELSE i END FROM n"
    ),
    "CREATE TABLE keyed(a TEXT PRIMARY KEY, b) WITHOUT ROWID",
    "INSERT INTO keyed SELECT b, a FROM plain WHERE a % 7 = 0",
    "CREATE TABLE strict_one(a INT, b TEXT) STRICT",
    "INSERT INTO strict_one SELECT a, b FROM plain WHERE a < 20",
    "CREATE TABLE counted(a INTEGER PRIMARY KEY AUTOINCREMENT, b INT AS (a * 2) STORED)",
    "INSERT INTO counted(a) VALUES (NULL), (NULL), (NULL)",
    "CREATE TABLE child(a REFERENCES plain(a) ON DELETE CASCADE)",
    "INSERT INTO child VALUES (1), (2)",
    "CREATE INDEX by_text ON plain(b COLLATE NOCASE, c DESC)",
    "CREATE INDEX partial ON plain(e) WHERE e IS NOT NULL",
    "CREATE INDEX by_expression ON plain(length(d))",
    "CREATE VIEW seen AS SELECT a, b FROM plain WHERE a < 10",
    "CREATE TRIGGER guard AFTER DELETE ON plain BEGIN INSERT INTO child VALUES (old.a); END",
    "DELETE FROM plain WHERE a % 11 = 0",
    "PRAGMA user_version = 42",
)
"""The statements that make a file to be carried to another library."""

CHANGES = (
    "UPDATE plain SET b = 'carried ' || a WHERE a % 5 = 0",
    "INSERT INTO plain(b) VALUES ('new'), ('newer')",
    "DELETE FROM keyed WHERE b < 100",
    "INSERT INTO counted(a) VALUES (NULL)",
    "CREATE TABLE made_there(a)",
)
"""What the other one does to it before it is carried back."""

TABLES = ("plain", "keyed", "strict_one", "counted", "child", "seen")
