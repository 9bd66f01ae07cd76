"""The adapter contract: what every engine's session must do, as named checks with their sentences.

A check gets a `Desk` with an empty database and raises `Broken` with what is right and what it saw.
The same checks are the tests of `pytest properties --engine X` and the first thing that
`cwkit fuzz` asks. An engine's own traps, and how its adapter walks around them, are tested beside
the adapters (workloads/engines/test_engine_traps.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from properties.conformance.desk import (
    IMPATIENT,
    Broken,
    Desk,
    NotAsked,
    Traced,
    described,
    holds,
    is_a_drivers,
    let_go,
    raised,
    same,
    shown,
)
from properties.conformance.desk import Call as Call
from properties.conformance.holder import holding
from workloads.engines import Engine, Refusal
from workloads.records import BEGIN, COMMIT, CONFLICT, FAILED, NO_CONFLICT, STATEMENT

LOWEST, HIGHEST = -(2**63), 2**63 - 1
INTEGERS = (LOWEST, LOWEST + 1, -(2**53) - 1, -(2**31) - 1, -(2**31), 0, 2**31 - 1, 2**31,
            2**53 + 1, HIGHEST - 1, HIGHEST)  # fmt: skip

WAIT_MS = 10_000
"""A busy timeout that is never waited for: whoever holds the lock lets go in a moment."""

TABLE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)"
UNIQUE = "INSERT INTO t(id, v) VALUES (1, 0)"
ALL = "SELECT id, v FROM t ORDER BY id"

ORDINARY = {
    "a key that is there": (UNIQUE, ("unique", "duplicate", "primary key")),
    "CHECK": ("INSERT INTO c(id, v) VALUES (1, -1)", ("check",)),
    "NOT NULL": ("INSERT INTO c(id, v) VALUES (1, NULL)", ("null",)),
    "no SQL": ("SELEKT 1", ("syntax", "selekt", "parse")),
    "no such table": ("SELECT * FROM nowhere", ("nowhere",)),
    "no such column": ("SELECT nothing FROM t", ("nothing",)),
}
"""Errors in which nobody else has a part: a statement, and words of which one is in its text."""

CHECKED = "CREATE TABLE c(id INTEGER PRIMARY KEY, v INTEGER NOT NULL CHECK (v >= 0))"
OF_OTHERS = ("locked", "busy", "conflict", "snapshot", "serializ")


class Check(NamedTuple):
    """One sentence of the contract. slow : it waits, or has a process of its own."""

    name: str
    sentence: str
    run: Callable[[Desk], None]
    slow: bool = False


class Outcome(NamedTuple):
    """What a check came to.

    state : "kept", "broken", or "not asked" (seen : the engine's words). calls : of its sessions.
    """

    check: str
    state: str
    right: str = ""
    seen: str = ""
    calls: tuple[Call, ...] = ()


CHECKS: list[Check] = []


def check(name: str, sentence: str, *, slow: bool = False) -> Callable[[Any], Any]:
    def listed(run: Callable[[Desk], None]) -> Callable[[Desk], None]:
        CHECKS.append(Check(name, sentence, run, slow))
        return run

    return listed


def named(name: str) -> Check:
    return next(one for one in CHECKS if one.name == name)


def asked(one: Check, name: str, engine: Engine, mode: str, path: Path) -> Outcome:
    """Hold an engine in a mode to one check, in this process, on a database at this path.

    The database has no tables. Its sessions are closed again.
    """
    desk = Desk(name, engine, mode, path)
    try:
        one.run(desk)
        return Outcome(one.name, "kept")
    except NotAsked as words:
        return Outcome(one.name, "not asked", seen=str(words))
    except Broken as broken:
        return Outcome(one.name, "broken", broken.right, broken.seen, tuple(desk.calls))
    except BaseException as error:  # a panic of a Rust binding is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return Outcome(one.name, "broken", "no error", described(error), tuple(desk.calls))
    finally:
        desk.close()


def _pair(desk: Desk) -> tuple[Traced, Traced]:
    """Two sessions; table t has the row (1, 0)."""
    first, second = desk.two(TABLE)
    first.run(UNIQUE)
    return first, second


# --- values -------------------------------------------------------------------------------------


@check("integers", "an integer of 64 bits is stored, bound and read back as it is")
def _integers(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    for at, value in enumerate(INTEGERS):
        same(a.rows("SELECT ?, ?", (value, 7)), [(value, 7)], "bound alone:")
        a.run("INSERT INTO t(id, v) VALUES (?, ?)", (at, value))
        same(b.rows("SELECT v FROM t WHERE id = ?", (at,)), [(value,)])
        a.run(f"UPDATE t SET v = {value if value > LOWEST else f'{LOWEST + 1} - 1'}")
        same(a.rows("SELECT v FROM t WHERE id = ?", (at,)), [(value,)], "written as a literal:")


@check("integers-compared", "integers of 64 bits are compared and ordered exactly")
def _compared(desk: Desk) -> None:
    a, _ = desk.two(TABLE)
    for at, value in enumerate(INTEGERS):
        a.run("INSERT INTO t(id, v) VALUES (?, ?)", (at, value))
    for at, value in enumerate(INTEGERS):
        same(a.rows("SELECT id FROM t WHERE v = ?", (value,)), [(at,)], f"= {value}:")
        below = [(n,) for n in range(at)]
        same(a.rows("SELECT id FROM t WHERE v < ? ORDER BY v", (value,)), below, f"< {value}:")
    same(a.rows("SELECT min(v), max(v) FROM t"), [(LOWEST, HIGHEST)])


@check("integers-summed", "integers of 64 bits are added up exactly")
def _summed(desk: Desk) -> None:
    a, _ = desk.two(TABLE)
    a.run("INSERT INTO t(id, v) VALUES (?, ?), (?, ?)", (1, 2**62, 2, 2**62 - 1))
    same(a.rows("SELECT sum(v) FROM t"), [(HIGHEST,)])
    a.run("UPDATE t SET v = v + ? WHERE id = ?", (2**62 - 1, 1))
    same(a.rows("SELECT v FROM t WHERE id = 1"), [(HIGHEST,)])


@check("integers-beyond", "an integer beyond 64 bits is refused, and nothing is stored")
def _beyond(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    for value in (2**63, LOWEST - 1):
        for call in (a.run, a.rows):
            raised(f"{value}", call, "INSERT INTO t(v) VALUES (?)", (value,))
    same(b.rows(ALL), [])


VALUES: dict[str, tuple[Any, ...]] = {
    "INTEGER": (None, 0),
    "REAL": (None, 1.5, -2.5e300),
    "TEXT": ("", None, "Zürich, 'quoted' -- ? ; %s", "漢字 \U0001f600 \u0301", "x" * 100_000),
    "BLOB": (b"", b"a\0b", bytes(range(256)), None, b"y" * 100_000),
}


@check("values", "NULL, a float, a text and a blob of any content come back as they were bound")
def _values(desk: Desk) -> None:
    a, b = desk.two(*(f"CREATE TABLE v{kind}(id INTEGER PRIMARY KEY, v {kind})" for kind in VALUES))
    for kind, values in VALUES.items():
        for at, value in enumerate(values):
            a.run(f"INSERT INTO v{kind}(id, v) VALUES (?, ?)", (at, value))
            same(b.rows(f"SELECT v FROM v{kind} WHERE id = ?", (at,)), [(value,)])
            if value is not None:
                ids = b.rows(f"SELECT id FROM v{kind} WHERE v = ?", (value,))
                same(ids, [(at,)], f"rows where v = {shown(value)}:")
    a.run("UPDATE vTEXT SET v = ?", (None,))
    same(b.rows("SELECT count(*), count(v) FROM vTEXT"), [(len(VALUES["TEXT"]), 0)])


@check("text-with-nul", "a text with a NUL character arrives whole or is refused, and is never cut")
def _nul(desk: Desk) -> None:
    a, b = desk.two("CREATE TABLE x(id INTEGER PRIMARY KEY, v TEXT)")
    text = "before\0after"
    try:
        a.run("INSERT INTO x(id, v) VALUES (?, ?)", (1, text))
    except Exception as error:
        holds(is_a_drivers(error), "an error of the driver's", described(error))
        same(b.rows("SELECT id, v FROM x"), [])
        return
    same(b.rows("SELECT id, v FROM x"), [(1, text)])


@check("numbered-parameters", "numbered parameters take the values of their numbers")
def _numbered(desk: Desk) -> None:
    a, _ = desk.two(TABLE)
    a.run("INSERT INTO t(id, v) VALUES (?2, ?1)", (7, 1))
    a.run("INSERT INTO t(id, v) VALUES (?1, ?1)", (2,))
    same(a.rows(ALL), [(1, 7), (2, 2)])


@check("named-parameters", "named parameters take their values by name, or are refused")
def _named(desk: Desk) -> None:
    a, _ = desk.two("CREATE TABLE x(k TEXT, v TEXT)")
    try:
        a.run("INSERT INTO x(k, v) VALUES (:b, :a)", {"a": "one", "b": "two"})
    except Exception as error:
        holds(is_a_drivers(error), "an error of the driver's", described(error))
        same(a.rows("SELECT k, v FROM x"), [], "after a refusal:")
        raise NotAsked(f"it takes no names: {error}") from error
    same(a.rows("SELECT k, v FROM x"), [("two", "one")])


@check("parameter-count", "too few or too many parameters raise, and the statement does nothing")
def _count(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    for params in ((), (1,), (1, 2, 3)):
        for call in (a.run, a.rows):
            raised(
                f"{len(params)} of 2 parameters",
                call,
                "INSERT INTO t(id, v) VALUES (?, ?)",
                params,
            )
            same(b.rows(ALL), [])


@check("two-statements", "of two statements in one text both are run or none, and never one alone")
def _two_statements(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    with contextlib.suppress(Exception):
        a.run("INSERT INTO t(id, v) VALUES (1, 1); INSERT INTO t(id, v) VALUES (2, 2)")
    holds(b.rows(ALL) in ([], [(1, 1), (2, 2)]), "both rows or none", shown(b.rows(ALL)))


@check("rows", "rows are a list of tuples and all of them, an empty list where there are none")
def _rows(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    a.begin()
    for number in range(500):
        a.run("INSERT INTO t(id, v) VALUES (?, ?)", (number, -number))
    a.commit()
    for session in (a, b, a):
        same(session.rows(ALL), [(number, -number) for number in range(500)])
        same(session.rows("SELECT id, v FROM t WHERE id < ?", (0,)), [])
        same(session.rows("DELETE FROM t WHERE id < ?", (0,)), [])
        same(session.rows("SELECT count(*), max(id) FROM t"), [(500, 499)])


# --- RETURNING and cursors ------------------------------------------------------------------------


@check("returning", "RETURNING changes once and whole, its rows wanted or not, before COMMIT")
def _returning(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    a.begin()
    rows = desk.needs(a, "INSERT INTO t(id, v) VALUES (1, 5), (2, 6) RETURNING id, v")
    same(rows, [(1, 5), (2, 6)])
    a.run("INSERT INTO t(id, v) VALUES (3, 7), (4, 8) RETURNING id")
    a.run("UPDATE t SET v = v + 1 WHERE id > 1 RETURNING v")
    same(a.rows("DELETE FROM t WHERE id = 1 RETURNING v"), [(5,)])
    a.commit()
    same(b.rows(ALL), [(2, 7), (3, 8), (4, 9)])
    same(a.rows("UPDATE t SET v = 0 WHERE id = 99 RETURNING id"), [])
    a.run("INSERT INTO t(id, v) VALUES (5, 1) RETURNING id")
    same(b.rows("SELECT count(*) FROM t"), [(4,)], "after a RETURNING by itself:")


@check("returning-raises", "what a RETURNING meets is raised by its call, rows wanted or not")
def _returning_raises(desk: Desk) -> None:
    a, b = _pair(desk)
    desk.needs(a, "UPDATE t SET v = 0 RETURNING id")
    for call in (a.run, a.rows):
        raised("a key that is there", call, f"{UNIQUE} RETURNING id")
    same(b.rows(ALL), [(1, 0)])


@check("returning-half-read", "a RETURNING that is half read before COMMIT is whole, or refuses it")
def _returning_half(desk: Desk) -> None:
    a, b = desk.two(TABLE)
    a.begin()
    cursor, row = a.half("INSERT INTO t(id, v) VALUES (1, 5), (2, 6), (3, 7) RETURNING id")
    same(tuple(row), (1,))
    try:
        a.commit()
    except Exception as error:
        refusal = a.refusal(error, COMMIT)
        holds(refusal.outcome == FAILED, "FAILED, for nobody else had a part", _words(refusal))
        same(a.in_transaction(), True, "in a transaction after a COMMIT that said so:")
        del cursor
        a.rows(ALL)
        a.commit()
    same(b.rows(ALL), [(1, 5), (2, 6), (3, 7)])


@check("cursor-dropped", "a cursor that is half read and dropped is in nobody's way")
def _dropped(desk: Desk) -> None:
    a, b = _pair(desk)
    a.run("INSERT INTO t(id, v) VALUES (2, 0), (3, 0)")
    for inside in (False, True):
        if inside:
            a.begin()
        cursor, row = a.half(ALL)
        same(tuple(row), (1, 2 * inside), "the first row:")
        del cursor
        a.run("UPDATE t SET v = v + 1")
        if inside:
            a.commit()
        same(b.rows(ALL), [(n, 1 + 2 * inside) for n in (1, 2, 3)])
        b.run("UPDATE t SET v = v + 1")


# --- transactions ---------------------------------------------------------------------------------


@check("in-transaction", "in_transaction is true from BEGIN to its end, and not outside of it")
def _in_transaction(desk: Desk) -> None:
    a, _ = _pair(desk)
    same(a.in_transaction(), False, "before BEGIN:")
    for end in (a.commit, a.rollback):
        a.begin()
        same(a.in_transaction(), True, "after BEGIN:")
        a.run("UPDATE t SET v = v + 1")
        same(a.in_transaction(), True, "after a statement:")
        raised("no such table", a.run, "SELECT * FROM nowhere")
        same(a.in_transaction(), True, "after a statement that failed:")
        if getattr(desk.engine, "aborts", False):
            end = a.rollback
        end()
        same(a.in_transaction(), False, f"after {end.__name__}:")
    raised("no such table", a.run, "SELECT * FROM nowhere")
    same(a.in_transaction(), False, "after a statement that failed by itself:")


@check(
    "failed-statement",
    "a statement that fails does nothing, and the rest of its transaction is kept",
)
def _failed_statement(desk: Desk) -> None:
    if getattr(desk.engine, "aborts", False):
        raise NotAsked("it says of itself that a failed statement leaves nothing but ROLLBACK")
    a, b = _pair(desk)
    a.begin()
    a.run("INSERT INTO t(id, v) VALUES (2, 2)")
    raised("a key again", a.run, "INSERT INTO t(id, v) VALUES (3, 3), (1, 1), (4, 4)")
    a.run("INSERT INTO t(id, v) VALUES (5, 5)")
    for sql in ("SELEKT 1", "SELECT * FROM nowhere"):
        raised(sql, a.run, sql)
    a.run("UPDATE t SET v = 6 WHERE id = 5")
    a.commit()
    for session in (a, b):
        same(session.rows(ALL), [(1, 0), (2, 2), (5, 6)])


@check("rollback", "ROLLBACK undoes all of a transaction, and nothing where there is none")
def _rollback(desk: Desk) -> None:
    a, b = _pair(desk)
    a.rollback()
    a.begin()
    a.run("INSERT INTO t(id, v) VALUES (2, 2)")
    a.run("UPDATE t SET v = 9")
    a.run("DELETE FROM t WHERE id = 1")
    same(a.rows(ALL), [(2, 9)])
    a.rollback()
    for session in (a, b):
        same(session.rows(ALL), [(1, 0)])
    a.rollback()
    a.run("UPDATE t SET v = 3")
    same(b.rows(ALL), [(1, 3)])


@check("isolated-until-commit", "nobody sees a transaction before COMMIT, and all see it after")
def _isolated(desk: Desk) -> None:
    a, b = _pair(desk)
    a.begin()
    a.run("UPDATE t SET v = 1")
    if desk.mode != "exclusive":  # without a write-ahead log that keeps readers out
        same(b.rows(ALL), [(1, 0)], "before COMMIT:")
    a.commit()
    same(b.rows(ALL), [(1, 1)], "after COMMIT:")


@check("seen-at-once", "what one connection commits, the other reads at once, by the same text too")
def _at_once(desk: Desk) -> None:
    a, b = _pair(desk)
    for number in range(1, 7):
        writer, reader = (a, b) if number % 2 else (b, a)
        same(reader.rows(ALL), [(1, number - 1)])
        writer.begin()
        writer.run("UPDATE t SET v = ?", (number,))
        writer.commit()
        same(reader.rows(ALL), [(1, number)])
        reader.begin()
        same(reader.rows(ALL), [(1, number)], "within a transaction:")
        reader.commit()


@check("autocommit", "a statement outside of a transaction commits by itself, or does nothing")
def _autocommit(desk: Desk) -> None:
    a, b = _pair(desk)
    for number, sql in enumerate(("INSERT INTO t(id, v) VALUES (2, 2)", "UPDATE t SET v = 3",
                                  "DELETE FROM t WHERE id = 1")):  # fmt: skip
        a.run(sql)
        same(a.in_transaction(), False, f"after {sql}:")
        right = ([(1, 0), (2, 2)], [(1, 3), (2, 3)], [(2, 3)])[number]
        same(b.rows(ALL), right)
    raised("a key that is there", a.run, "INSERT INTO t(id, v) VALUES (4, 4), (2, 2)")
    same(b.rows(ALL), [(2, 3)], "after one that failed:")
    b.run("UPDATE t SET v = 5")  # nothing of a's holds a lock
    same(a.rows(ALL), [(2, 5)])


@check("begin-twice", "BEGIN within a transaction is refused, and the transaction goes on")
def _begin_twice(desk: Desk) -> None:
    a, b = _pair(desk)
    a.begin()
    a.run("UPDATE t SET v = 1")
    raised("BEGIN within a transaction", a.begin)
    same(a.in_transaction(), True)
    a.run("INSERT INTO t(id, v) VALUES (2, 2)")
    a.commit()
    same(b.rows(ALL), [(1, 1), (2, 2)])


@check("commit-without-begin", "COMMIT without a transaction is refused")
def _commit_alone(desk: Desk) -> None:
    a, _ = _pair(desk)
    raised("COMMIT without BEGIN", a.commit)
    a.begin()
    a.run("UPDATE t SET v = 1")
    a.commit()
    raised("a second COMMIT", a.commit)
    same(a.rows(ALL), [(1, 1)])


@check(
    "failed-commit", "a COMMIT that fails has no effect, is no conflict, and in_transaction is true"
)
def _failed_commit(desk: Desk) -> None:
    a, b = desk.two(
        "PRAGMA foreign_keys = ON",
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE k(id INTEGER PRIMARY KEY, "
        "p INTEGER REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
    )
    a.begin()
    a.run("INSERT INTO k(id, p) VALUES (1, 7)")
    error = raised("COMMIT of a row without its parent", a.commit)
    refusal = a.refusal(error, COMMIT)
    holds(
        (refusal.outcome, refusal.conflict) == (FAILED, NO_CONFLICT),
        "an ordinary failure",
        _words(refusal),
    )
    same(refusal.over, not a.in_transaction(), "whether it says that the transaction is over:")
    if a.in_transaction() and not getattr(desk.engine, "aborts", False):
        a.run("INSERT INTO p(id) VALUES (7)")
        a.commit()
        same(b.rows("SELECT id, p FROM k"), [(1, 7)])
        return
    a.rollback()
    same(b.rows("SELECT id, p FROM k"), [])


# --- refusals -----------------------------------------------------------------------------------


def _words(refusal: Refusal) -> str:
    outcome = {CONFLICT: "conflict", FAILED: "failed"}.get(refusal.outcome, "unknown")
    return f"{outcome} {refusal.conflict}: {refusal.message}"


class Met(NamedTuple):
    """Two transactions wrote one row. loser : the session whose call was refused in a phase."""

    loser: Traced
    other: Traced
    error: BaseException
    refusal: Refusal
    phase: int


def _met(a: Traced, b: Traced) -> Met:
    """Have two transactions write one row. The other one is left open where it got no further.

    NotAsked where both commit.
    """

    def write(session: Traced, value: int) -> None:
        session.run(f"UPDATE t SET v = {value} WHERE id = 1")

    steps: tuple[tuple[Traced, int, Callable[[], None]], ...] = (
        (a, BEGIN, a.begin), (a, STATEMENT, lambda: write(a, 1)),
        (b, BEGIN, b.begin), (b, STATEMENT, lambda: write(b, 2)),
        (a, COMMIT, a.commit), (b, COMMIT, b.commit),
    )  # fmt: skip
    for session, phase, step in steps:
        try:
            step()
        except Exception as error:
            other = b if session is a else a
            return Met(session, other, let_go(error), session.refusal(error, phase), phase)
    raise NotAsked("two transactions that wrote one row both committed")


@check("conflict", "a refusal because of another transaction is a conflict, in the engine's words")
def _conflict(desk: Desk) -> None:
    _, _, error, refusal, _ = _met(*_pair(desk))
    holds(is_a_drivers(error), "an error of the driver's", described(error))
    holds(
        refusal.outcome == CONFLICT and refusal.conflict != NO_CONFLICT,
        "a conflict",
        f"{_words(refusal)} ({described(error)})",
    )
    holds(refusal.message.strip(), "the engine's words", shown(refusal.message))
    holds(refusal.message in str(error), f"words of {described(error)}", shown(refusal.message))


@check(
    "after-a-conflict",
    "after a refusal in_transaction is true to life, and ROLLBACK frees the session",
)
def _after_a_conflict(desk: Desk) -> None:
    loser, other, _, refusal, phase = _met(*_pair(desk))
    same(refusal.over, not loser.in_transaction(), "whether it says that it is over:")
    if phase == BEGIN:
        same(loser.in_transaction(), False, "in a transaction after a refused BEGIN:")
    loser.rollback()
    same(loser.in_transaction(), False, "in a transaction after ROLLBACK:")
    if other.in_transaction():
        other.commit()
    kept = [(1, 1 if other.name < loser.name else 2)]
    same(loser.rows(ALL), kept, "nothing of what was refused:")
    loser.begin()
    loser.run("UPDATE t SET v = 3")
    loser.commit()
    same(other.rows(ALL), [(1, 3)], "the next transaction:")


@check("error-kept", "an error that the application keeps is in the way of no later statement")
def _error_kept(desk: Desk) -> None:
    a, b = _pair(desk)
    kept = []
    for call in (lambda: b.run(UNIQUE), lambda: b.rows("SELECT * FROM nowhere")):
        try:
            call()
        except Exception as error:
            kept.append(error)
    b.run("UPDATE t SET v = 4")
    same(a.rows(ALL), [(1, 4)], "after errors of statements:")
    a.begin()
    a.run("UPDATE t SET v = 1")
    try:
        b.begin()
        b.run("UPDATE t SET v = 2")
    except Exception as error:
        kept.append(error)
    a.rollback()
    b.rollback()
    b.run("UPDATE t SET v = 5")
    same(a.rows(ALL), [(1, 5)], "after a refusal:")
    holds(kept, "errors", "none")


def _to_err(desk: Desk) -> tuple[Traced, dict[str, tuple[str, tuple[str, ...]]]]:
    """A session, and the errors that can be made on it: an engine may have no CHECK."""
    a, _ = _pair(desk)
    try:
        desk.needs(a, CHECKED)
    except NotAsked:
        return a, {what: one for what, one in ORDINARY.items() if " c(" not in one[0]}
    return a, ORDINARY


@check(
    "ordinary-errors", "an error in which nobody has a part is no conflict and names its own cause"
)
def _ordinary(desk: Desk) -> None:
    a, ordinary = _to_err(desk)
    for inside in (False, True):
        for what, (sql, words) in ordinary.items():
            if inside:
                a.begin()
            error = raised(what, a.run, sql)
            refusal = a.refusal(error, STATEMENT)
            holds(
                (refusal.outcome, refusal.conflict) == (FAILED, NO_CONFLICT),
                f"{what} is an ordinary failure",
                _words(refusal),
            )
            text = refusal.message.lower()
            holds(any(word in text for word in words), f"{what} is named", refusal.message)
            holds(not any(word in text for word in OF_OTHERS), "no other cause", refusal.message)
            same(refusal.over, not a.in_transaction(), "whether it says that it is over:")
            if inside:
                a.rollback()


def _its_own(error: BaseException, what: str) -> None:
    own = type(error).__module__ not in ("builtins", "exceptions") and is_a_drivers(error)
    holds(own, f"{what}: a class of the driver's own", described(error))


@check("error-classes", "an error of a statement is of an error class of the driver's own")
def _classes(desk: Desk) -> None:
    a, ordinary = _to_err(desk)
    for what, (sql, _) in ordinary.items():
        _its_own(raised(what, a.run, sql), what)
    with contextlib.suppress(NotAsked):
        _its_own(_met(desk.open(), desk.open()).error, "a conflict")


@check(
    "opening-errors",
    "a database that cannot be opened raises an error of a class of the driver's own",
)
def _opening(desk: Desk) -> None:
    if desk.served:
        raise NotAsked("its databases are a server's")

    def opened() -> None:
        session = desk.open(path=str(desk.path.parent / "nowhere" / "a.db"))
        session.run(TABLE)

    _its_own(raised("a folder that is not there", opened), "a folder that is not there")


# --- connections ----------------------------------------------------------------------------------


@check("use-after-close", "a session that is closed raises at each use, and nothing worse")
def _after_close(desk: Desk) -> None:
    a, b = _pair(desk)
    a.rows(ALL)
    a.close()
    for _ in range(2):
        for call in (lambda: a.rows(ALL), lambda: a.run("UPDATE t SET v = 9"), a.begin, a.commit):
            raised("a closed session", call)
    with contextlib.suppress(Exception):
        same(a.in_transaction(), False, "of a closed session:")
    same(b.rows(ALL), [(1, 0)])


@check("close-twice", "to close a session twice is to close it once")
def _close_twice(desk: Desk) -> None:
    a, b = _pair(desk)
    a.begin()
    a.close()
    a.close()
    b.run("UPDATE t SET v = 1")
    same(b.rows(ALL), [(1, 1)])


@check("close-rolls-back", "to close a session undoes its open transaction and frees its locks")
def _close_rolls_back(desk: Desk) -> None:
    a, b = _pair(desk)
    a.begin()
    a.run("UPDATE t SET v = 1")
    a.rows(ALL)
    a.close()
    if desk.served:  # its server hears of it a moment later
        b = desk.open(settings=replace(IMPATIENT, busy_timeout_ms=WAIT_MS))
    b.begin()
    same(b.rows(ALL), [(1, 0)])
    b.run("UPDATE t SET v = 2")
    b.commit()
    same(desk.open().rows(ALL), [(1, 2)])


@check("schema-of-others", "a text that was run before is right after DDL of another connection")
def _schema(desk: Desk) -> None:
    a, b = desk.open(), desk.open()
    a.run(TABLE)
    a.run(UNIQUE)
    for session in (a, b, a):
        same(session.rows("SELECT * FROM t"), [(1, 0)], "after CREATE TABLE:")
    desk.needs(b, "ALTER TABLE t ADD COLUMN w INTEGER DEFAULT 7")
    same(a.rows("SELECT * FROM t"), [(1, 0, 7)], "after ADD COLUMN:")
    a.run("INSERT INTO t(id, v) VALUES (?, ?)", (2, 0))
    b.run("CREATE INDEX i ON t(v)")
    a.run("INSERT INTO t(id, v) VALUES (?, ?)", (3, 0))
    same(a.rows("SELECT id FROM t WHERE v = ? ORDER BY id", (0,)), [(1,), (2,), (3,)])
    b.run("DROP TABLE t")
    raised("a table that was dropped", a.rows, "SELECT * FROM t")
    b.run("CREATE TABLE t(v INTEGER, id INTEGER PRIMARY KEY)")
    b.run("INSERT INTO t(id, v) VALUES (?, ?)", (5, 6))
    same(a.rows("SELECT * FROM t"), [(6, 5)], "after DROP and CREATE:")
    a.run("INSERT INTO t(id, v) VALUES (?, ?)", (1, 2))
    same(b.rows(ALL), [(1, 2), (5, 6)])


@check("path", "a database whose path has spaces and letters beyond ASCII lies at that path")
def _path(desk: Desk) -> None:
    if desk.served:
        raise NotAsked("its databases are a server's")
    folder = desk.path.parent / "a folder, ümlaut 漢字 %20 'x'"
    folder.mkdir()
    path = str(folder / "da ta ß.db")
    a = desk.open(path=path)
    a.run(TABLE)
    a.run(UNIQUE)
    b = desk.open(path=path)
    same(b.rows(ALL), [(1, 0)])
    a.close()
    b.close()
    holds(Path(path).is_file(), path, shown([one.name for one in folder.iterdir()]))


@check("no-waiting", "with a busy timeout of 0 a lock of another's is a refusal")
def _no_waiting(desk: Desk) -> None:
    if getattr(desk.engine, "waits_s", 0):
        raise NotAsked("it says of itself that it waits, whatever the busy timeout")
    mode = desk.has("immediate", "read-committed")
    desk.mode = mode
    loser, other, error, refusal, _ = _met(*_pair(desk))
    same(refusal.outcome, CONFLICT, f"{described(error)}: the outcome")
    other.rollback()
    loser.rollback()
    loser.run("UPDATE t SET v = 5")
    same(other.rows(ALL), [(1, 5)])


@check("waiting", "within its busy timeout a session waits for a lock, and gets it", slow=True)
def _waiting(desk: Desk) -> None:
    if getattr(desk.engine, "waits_s", 0):
        raise NotAsked("it says of itself that it waits, whatever the busy timeout")
    desk.mode = desk.has("immediate", "read-committed")
    a = desk.open(settings=replace(IMPATIENT, busy_timeout_ms=WAIT_MS))
    a.run(TABLE)
    a.run(UNIQUE)
    with holding(desk.engine_name, desk.engine, desk.mode, desk.path) as let_go:
        let_go()  # it commits a moment after this
        a.begin()
        a.run("UPDATE t SET v = v + 10")
        a.commit()
    same(a.rows(ALL), [(1, 11)])
