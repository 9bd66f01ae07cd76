"""Findings that are known: counted by name, not told again, and kept from hiding others.

Each says by what it is recognised, and which features of the grammar it needs. Three programs of
four are drawn without those features, so that most of a hunt looks for something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from properties.hunter.judges import Found
from workloads.schedules import ALL, Program, first_word, kind_of


class KnownBug(NamedTuple):
    """A finding that is known.

    versions : a pattern of the binding and version of those that show it. fits : whether a finding
    in a program is this. needs : features without which it does not show. script : of
    examples/findings, "" for none. public : the address of somebody else's report, "" for none.
    """

    name: str
    sentence: str
    versions: str
    fits: Callable[[Found, Program], bool]
    needs: tuple[str, ...] = ()
    script: str = ""
    public: str = ""


def _schema(program: Program) -> str:
    """Its tables, and how its connections are opened."""
    return str(replace(program, steps=()))


def _kinds(program: Program) -> set[str]:
    return {kind_of(step) for step in program.steps}


def _upsert_breaks_a_foreign_key(found: Found, program: Program) -> bool:
    schema = _schema(program)
    trigger = "AFTER UPDATE" in schema and "BEGIN DELETE FROM" in schema
    upsert = any("on conflict" in kind for kind in _kinds(program))
    about = "FOREIGN KEY" in f"{found.wrong.sentence} {found.wrong.seen} {found.wrong.expected}"
    return "ON DELETE SET NULL" in schema and trigger and upsert and about


def _column_by_an_old_schema(found: Found, program: Program) -> bool:
    altered = {"alter table add", "alter table drop"} & _kinds(program)
    said = re.search(r"no such column|duplicate column name", found.wrong.seen)
    return found.wrong.judge == "error" and bool(altered and said)


def _page_that_nothing_uses(found: Found, program: Program) -> bool:
    return found.wrong.judge == "integrity" and "never used" in found.wrong.seen


def _beside_a_cursor(program: Program, verbs: tuple[str, ...], *, begun: bool) -> bool:
    """Whether a session does one of these while a query of its own is half read, that it opened
    outside a transaction. begun : whether it may have begun one since.
    """
    half, inside = set[str](), set[str]()
    for step in program.steps:
        name = program.owner(step.session)
        reads = step.verb == "sql" and first_word(step.text) in ("select", "pragma")
        if step.verb in verbs and not reads and name in half and (begun or name not in inside):
            return True
        if step.verb == "half" and name not in inside:
            half.add(name)
        elif step.verb in ("fetch", "close"):
            half.discard(name)
        elif step.session == ALL:
            half.clear()
            inside.clear()
        if step.verb == "begin":
            inside.add(name)
        elif step.verb in ("commit", "rollback", "close"):
            inside.discard(name)
    return False


OF_ROWS = ("rows", "rows kept", "error", "constraint", "foreign key", "needless refusal",
           "lost update", "integrity")  # fmt: skip


def _write_beside_a_cursor(found: Found, program: Program) -> bool:
    alone = _beside_a_cursor(program, ("sql", "auto"), begun=False)
    gone = found.wrong.judge == "abort" and "should exist in txs map" in found.wrong.seen
    return (found.wrong.judge in OF_ROWS or gone) and alone


def _begin_beside_a_cursor(found: Found, program: Program) -> bool:
    judges = ("transaction state", *OF_ROWS)
    return found.wrong.judge in judges and _beside_a_cursor(program, ("begin",), begun=True)


def _autoincrement_panics(found: Found, program: Program) -> bool:
    gone = re.search(r"should exist in txs map|while rolling back savepoint", found.wrong.seen)
    return found.wrong.judge == "abort" and bool(gone) and "AUTOINCREMENT" in _schema(program)


def _indexes_change_places(found: Found, program: Program) -> bool:
    alters = any(kind.startswith("alter table") for kind in _kinds(program))
    two = any("UNIQUE" in sql and "PRIMARY KEY (" in sql for sql in program.schema)
    return found.wrong.judge in OF_ROWS and alters and two


def _keys_of_two_transactions(found: Found, program: Program) -> bool:
    about = "FOREIGN KEY" in f"{found.wrong.sentence} {found.wrong.seen} {found.wrong.expected}"
    keyed = "REFERENCES" in _schema(program) and "begin concurrent" in _kinds(program)
    return keyed and (about or found.wrong.judge == "foreign key")


def _refused_and_done(found: Found, program: Program) -> bool:
    races = [step.text for step in program.steps if step.verb == "race"]
    return found.wrong.judge == "acknowledged" and any("autocommit" in text for text in races)


def _largest_page(found: Found, program: Program) -> bool:
    return found.wrong.judge == "corrupt" and "page_size = 65536" in _schema(program)


def _mmap(found: Found, program: Program) -> bool:
    return found.wrong.judge == "serializable" and "mmap_size" in _schema(program)


def _trigger_recursion(found: Found, program: Program) -> bool:
    recursive = ("recursive_triggers", "1") in program.options
    triggers = sum(sql.startswith("CREATE TRIGGER") for sql in program.schema)
    return found.wrong.judge in OF_ROWS and recursive and triggers > 1


TURSO = r"pyturso 0\.8\.3"

KNOWN: tuple[KnownBug, ...] = (
    KnownBug(
        "a write beside an open cursor",
        "a statement outside a transaction that runs while a query of the same connection is half "
        "read is acknowledged and not committed: other connections do not see it, and it is gone "
        "when the connection is closed",
        TURSO,
        _write_beside_a_cursor,
        needs=("half-read",),
        script="turso-write-beside-a-cursor",
        public="https://github.com/tursodatabase/turso/issues/7345",
    ),
    KnownBug(
        "a cursor of before BEGIN ends the transaction",
        "where a query was half read before BEGIN, to drop its cursor ends the transaction: the "
        "statements that follow stand alone",
        TURSO,
        _begin_beside_a_cursor,
        needs=("half-read",),
        script="turso-cursor-ends-the-transaction",
    ),
    KnownBug(
        "a refused write that is done",
        "a write without BEGIN raises `database is locked` and is committed all the same, where "
        "other threads write at the same moment",
        TURSO,
        _refused_and_done,
        needs=("race autocommit",),
        script="turso-refused-write-is-done",
        public="https://github.com/tursodatabase/turso/issues/5422",
    ),
    KnownBug(
        "indexes that change places",
        "ALTER TABLE on a table with a UNIQUE column and a PRIMARY KEY behind its columns lets "
        "the two indexes change places when the file is opened again: integrity_check says so, "
        "and neither constraint holds",
        TURSO,
        _indexes_change_places,
        needs=("add column",),
        script="turso-indexes-change-places",
        public="https://github.com/tursodatabase/turso/issues/8704",
    ),
    KnownBug(
        "a foreign key and two transactions",
        "two transactions, one of which deletes the row that the other one refers to, both commit",
        TURSO,
        _keys_of_two_transactions,
        needs=("foreign",),
        script="turso-foreign-key-of-two-transactions",
        public="https://github.com/tursodatabase/turso/issues/5955",
    ),
    KnownBug(
        "AUTOINCREMENT beside another transaction",
        "an INSERT into a table with AUTOINCREMENT takes the process down where another "
        "transaction has begun in another mode",
        TURSO,
        _autoincrement_panics,
        needs=("autoincrement",),
        script="turso-autoincrement-abort",
    ),
    KnownBug(
        "a column by an old schema",
        "a connection that has read the schema before another one changed it is told that a column "
        "that it drops is not there, or that one that it adds is there",
        r"sqlite|apsw|libsql",
        _column_by_an_old_schema,
        script="drop-column-by-an-old-schema",
    ),
    KnownBug(
        "a failed statement that keeps its effect",
        "a statement that fails because its triggers nest too deep keeps what it changed within a "
        "transaction",
        r"sqlite|apsw|libsql",
        _trigger_recursion,
        script="trigger-recursion-keeps-a-failed-update",
    ),
    KnownBug(
        "write skew under mmap_size",
        "with mmap_size a BEGIN CONCURRENT forgets which pages it read from the mapped file, so "
        "that two transactions that read what the other one writes both commit",
        r"begin-concurrent branch",
        _mmap,
        script="begin-concurrent-write-skew-under-mmap",
    ),
    KnownBug(
        "no COMMIT at the largest page size",
        "with pages of 65,536 bytes COMMIT of a BEGIN CONCURRENT that wrote says that the database "
        "is malformed",
        r"begin-concurrent branch",
        _largest_page,
        script="begin-concurrent-at-the-largest-page-size",
    ),
    KnownBug(
        "a page that nothing uses",
        "a BEGIN CONCURRENT with ANALYZE leaves a page behind that nothing uses",
        r"begin-concurrent branch",
        _page_that_nothing_uses,
        script="begin-concurrent-leaks-a-page",
    ),
    KnownBug(
        "an upsert breaks a foreign key",
        "INSERT ... ON CONFLICT DO UPDATE stores a row whose parent does not exist, where the key "
        "has ON DELETE SET NULL and a trigger AFTER UPDATE deletes from the parent's table; one "
        "session is enough",
        r".",  # SQLite 3.40.1 to 3.54.1, and with it what is held against it
        _upsert_breaks_a_foreign_key,
        script="upsert-breaks-a-foreign-key",
    ),
)


def of_engine(binding: str) -> tuple[KnownBug, ...]:
    """Those that this version may show."""
    return tuple(one for one in KNOWN if re.search(one.versions, binding))


def known_bug(name: str) -> KnownBug | None:
    """The known deviation of this name."""
    return next((one for one in KNOWN if one.name == name), None)


def looks_like(found: Found, program: Program, binding: str) -> str:
    """The name of a known finding in any version of the same package, "" for none."""
    family = [one for one in KNOWN if re.search(one.versions.split(" ")[0], binding)]
    return recognised(found, program, tuple(family))


def recognised(found: Found, program: Program, among: tuple[KnownBug, ...]) -> str:
    """The name of the known finding that this is, "" for none."""
    return next((one.name for one in among if one.fits(found, program)), "")
