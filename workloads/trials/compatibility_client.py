"""One library, in a process of its own: it plays the battery, or makes, reads, changes a file."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from workloads.engines import find_engine
from workloads.processes import die_with_parent
from workloads.trials.battery import CHANGES, DROPS, FILE, STATEMENTS, TABLES

MARK = "cwkit:"
LONGEST = 200


def shown(value: Any) -> str:
    """A value with its type, short."""
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def answered(connection: Any, statement: Any) -> str:
    """What a statement answers: its rows, or its error in the library's words."""
    sql, params = statement if isinstance(statement, tuple) else (statement, ())
    try:
        rows = connection.execute(sql, params).fetchall() or []
    except BaseException as error:  # a panic of the binding's is no Exception
        return f"error: {' '.join(str(error).split())}"
    return "; ".join(", ".join(map(shown, row)) for row in rows) or "no rows"


def battery(connection: Any) -> list[list[str]]:
    """Item for item, the answers of its statements."""
    found = []
    for item in STATEMENTS:
        found.append([answered(connection, each) for each in item.statements])
        if getattr(connection, "in_transaction", False):
            answered(connection, "ROLLBACK")
        for drop in DROPS:
            answered(connection, drop)
    return found


def made(connection: Any) -> list[list[str]]:
    return [[answered(connection, sql) for sql in FILE], *read(connection)]


def read(connection: Any) -> list[list[str]]:
    """Whether the file is whole, and what is in it: each table's rows as a digest."""
    found = [
        answered(connection, "PRAGMA integrity_check"),
        answered(connection, "PRAGMA user_version"),
    ]
    for table in TABLES:
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        told = repr([tuple(map(shown, row)) for row in rows])
        found.append(f"{table}: {len(rows)} rows, {hashlib.sha256(told.encode()).hexdigest()[:12]}")
    return [found]


def changed(connection: Any) -> list[list[str]]:
    return [[answered(connection, sql) for sql in CHANGES], *read(connection)]


def extended(connection: Any) -> list[list[str]]:
    """A file with what libSQL has added to the format's schema."""
    texts = ("CREATE TABLE plain(a)", "INSERT INTO plain VALUES (1)",
             "CREATE TABLE own(a) RANDOM ROWID", "INSERT INTO own VALUES (1)")  # fmt: skip
    return [[answered(connection, sql) for sql in texts]]


def looked_at(connection: Any) -> list[list[str]]:
    return [[answered(connection, "SELECT * FROM plain")]]


ACTIONS: dict[str, Callable[[Any], list[list[str]]]] = {
    "battery": battery,
    "make": made,
    "read": read,
    "change": changed,
    "extend": extended,
    "look": looked_at,
}


def main(argv: Sequence[str]) -> int:
    """ENGINE ACTION PATH JOURNAL: do it, and print what came of it."""
    die_with_parent()
    name, action, path, journal = argv
    engine: Any = find_engine(name)
    connection = engine.bare(path)
    if journal:
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
    print(MARK + json.dumps(ACTIONS[action](connection)), flush=True)
    connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
