"""A digest of what a database holds: the same for the same, another for each other value."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.engines import find_engine
from workloads.runs.content import KIT_TABLE, Content, content_of

TABLES = (
    "CREATE TABLE plain(a, b)",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID",
    'CREATE TABLE "odd ""name"(a REAL)',
)


def held(path: Path, *statements: str) -> Content:
    session = find_engine("sqlite").connect(str(path))
    try:
        for statement in (*TABLES, *statements):
            session.run(statement)
        return content_of(session)
    finally:
        session.close()


def test_order_rowids_and_the_kits_own_table_make_no_difference(tmp_path: Path) -> None:
    one = held(tmp_path / "a", "INSERT INTO plain VALUES (1, 'x'), (2, 'y')")
    other = held(
        tmp_path / "b", "INSERT INTO plain VALUES (0, 0), (2, 'y'), (1, 'x')",
        "DELETE FROM plain WHERE a = 0", f"CREATE TABLE {KIT_TABLE}(id)",
    )  # fmt: skip
    assert one == other and one["plain"][0] == 2


@pytest.mark.parametrize("value", ["1.0", "'1'", "x'31'", "NULL", "2", "1), (1"])
def test_each_other_value_type_or_row_does(tmp_path: Path, value: str) -> None:
    one = held(tmp_path / "a", "INSERT INTO plain(a) VALUES (1)")
    assert one != held(tmp_path / "b", f"INSERT INTO plain(a) VALUES ({value})")


def test_the_schema_counts_and_so_do_tables_without_rowids_and_with_odd_names(
    tmp_path: Path,
) -> None:
    empty = held(tmp_path / "a")
    assert set(empty) == {"", "plain", "keyed", 'odd "name'}
    for number, statement in enumerate((
        "CREATE INDEX i ON plain(a)", "INSERT INTO keyed VALUES ('a', 1)",
        'INSERT INTO "odd ""name" VALUES (1)',
    )):  # fmt: skip
        assert held(tmp_path / f"{number}", statement) != empty
