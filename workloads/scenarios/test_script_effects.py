"""Whether a script may be run twice is read from it: each form of a write, and its opposite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from workloads.scenarios import Access, Twice, effects_of
from workloads.scenarios.script_effects import ScriptEffects
from workloads.scenarios.sql import Sql, SqlShape

SCHEMA = """schema.sql
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT, state TEXT);
CREATE TABLE u(a INT, b INT, n INT, PRIMARY KEY(a, b));
CREATE TABLE plain(n INT);
CREATE TABLE watched(n INT);
CREATE TRIGGER sees AFTER UPDATE ON watched BEGIN INSERT INTO plain VALUES (1); END;
"""

STATEMENTS = {
    "UPDATE t SET n = :x WHERE id = 1": (Twice.SAME, "sets t to what it is then"),
    "UPDATE t SET n = n + 1 WHERE id = 1": (Twice.AGAIN, "t.n from its own old value"),
    "UPDATE t SET n = max(n, :x)": (Twice.SAME, "what it is then"),
    "UPDATE t SET n = max(n, :x) + 1": (Twice.AGAIN, "own old value"),
    "UPDATE t SET n = n + 1, state = 'b' WHERE state = 'a'": (Twice.SAME, "asks for state"),
    "UPDATE t SET n = n - 1 WHERE n >= 1": (Twice.AGAIN, "own old value"),
    "UPDATE t SET n = n + 1 WHERE n = :x OR id = 1": (Twice.AGAIN, "own old value"),
    "UPDATE t SET n = 1 WHERE id = (SELECT min(id) FROM t WHERE n = 0)": (Twice.AGAIN, "a query"),
    "UPDATE t SET n = 1 WHERE id IN (SELECT n FROM plain)": (Twice.UNKNOWN, "a query"),
    "UPDATE t SET state = CURRENT_TIMESTAMP": (Twice.UNKNOWN, "CURRENT_TIMESTAMP"),
    "UPDATE t SET n = u.n FROM u WHERE u.a = t.id": (Twice.UNKNOWN, "another table"),
    "WITH q AS (SELECT 1 AS n) INSERT INTO t(n) SELECT n FROM q": (Twice.UNKNOWN, "with WITH"),
    "SAVEPOINT s;\nDELETE FROM t WHERE id = 1;\nRELEASE s": (Twice.SAME, "nothing left"),
    "UPDATE watched SET n = 1": (Twice.UNKNOWN, "trigger sees"),
    "INSERT INTO plain VALUES (:x)": (Twice.AGAIN, "no unique key"),
    "INSERT INTO t(n) VALUES (:x)": (Twice.AGAIN, "its id is not given"),
    "INSERT INTO t(id, n) VALUES (NULL, :x)": (Twice.AGAIN, "comes from NULL"),
    "INSERT INTO t(id, n) VALUES (random(), :x)": (Twice.AGAIN, "comes from RANDOM"),
    "INSERT INTO t VALUES (:x, 'k', 1, 'new')": (Twice.REFUSED, "inserts t(id) itself"),
    "INSERT INTO main.t(k, n) VALUES (:x, 1)": (Twice.REFUSED, "inserts t(k) itself"),
    "INSERT OR IGNORE INTO t(k, n) VALUES (:x, 1)": (Twice.SAME, "passes over"),
    "REPLACE INTO t(k, n) VALUES (:x, 1)": (Twice.SAME, "replaces"),
    "INSERT INTO plain SELECT n FROM t": (Twice.AGAIN, "no unique key"),
    "INSERT INTO t DEFAULT VALUES": (Twice.AGAIN, "defaults"),
    "INSERT INTO u VALUES (1, :x, 1) ON CONFLICT(a, b) DO UPDATE SET n = u.n + 1": (
        Twice.AGAIN,
        "finds u(a, b) the second time, and then computes u.n from its own old value",
    ),
    "INSERT INTO u VALUES (1, :x, 1) ON CONFLICT(a, b) DO UPDATE SET n = excluded.n": (
        Twice.SAME,
        "finds u(a, b)",
    ),
    "DELETE FROM t WHERE id = :x": (Twice.SAME, "nothing left to delete"),
    "DELETE FROM t WHERE id = (SELECT max(id) FROM t)": (Twice.AGAIN, "a query"),
    "UPDATE nowhere SET n = 1": (Twice.UNKNOWN, "no such table"),
    "SELECT n FROM t": (Twice.SAME, "it writes nothing"),
}


def read(*scripts: str, schema: str = SCHEMA, **more: Any) -> list[ScriptEffects]:
    tx = tuple(f"s{at}.sql\n{text}" for at, text in enumerate(scripts))
    return effects_of(Sql(SqlShape(tx=tx, schema_sql=schema, **more)))


def test_each_form_of_a_write_is_told_from_its_opposite() -> None:
    texts = [f"\\set x 5\nBEGIN;\n{sql};\nEND;" for sql in STATEMENTS]
    for one, (sql, (twice, why)) in zip(read(*texts), STATEMENTS.items(), strict=True):
        assert (one.twice, why in one.why) == (twice, True), f"{sql}: {one.twice}, {one.why}"


def test_what_is_read_from_what_the_script_changes_is_another_the_second_time() -> None:
    add = "BEGIN;\nSELECT {0} AS v FROM {1} WHERE id = 1 \\gset\n\\set w :v + 1\n"
    add += "UPDATE t SET n = :w WHERE id = 1;\nEND;"
    own, other, elsewhere = read(
        add.format("n", "t"), add.format("id", "t"), add.format("n", "(SELECT 1 AS id, n FROM u)")
    )
    assert own.twice == Twice.AGAIN and "line 4" in own.why and ":w" in own.why
    assert other.twice == elsewhere.twice == Twice.SAME
    assert own.shape == Access.READS_THEN_WRITES


def test_a_key_of_ones_own_guards_the_whole_transaction_unless_a_branch_passes_it() -> None:
    add = "UPDATE plain SET n = n + 1;\n"
    key = "INSERT INTO t(k) VALUES (:x);\n"
    guarded, in_a_branch, two = read(
        f"\\set x 5\nBEGIN;\n{add}{key}END;",
        f"\\set x 5\nBEGIN;\n{add}\\if :x > 4\n{key}\\endif\nEND;",
        f"\\set x 5\nBEGIN;\n{add}END;\nBEGIN;\n{key}END;",
    )
    assert (guarded.twice, guarded.shape) == (Twice.REFUSED, Access.WRITES_FIRST)
    assert in_a_branch.twice == two.twice == Twice.AGAIN
    assert guarded.writes == ("plain", "t") and not two.whole


def test_the_tables_of_ones_own_database_are_read_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine(id INTEGER PRIMARY KEY, n INT)")
    connection.close()
    before = path.read_bytes()
    (one,) = read("\\set x 1\nBEGIN; INSERT INTO mine VALUES (:x, 1); END;", schema="",
                  from_db=str(path))  # fmt: skip
    assert one.twice == Twice.REFUSED and one.writes == ("mine",)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["mine.db"]


@pytest.mark.parametrize("script", ["tpcb-like", "simple-update"])
def test_pgbenchs_own_are_not_to_be_run_twice(script: str) -> None:
    (one,) = effects_of(Sql(SqlShape(tx=(script,))))
    assert one.twice == Twice.AGAIN and "pgbench_accounts.abalance" in one.why
