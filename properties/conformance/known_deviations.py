"""Deviations from a promise that were found once: each report looks for them again and prints them.

Each has the smallest schedule that shows it. A property leaves known deviations out, because it
would find nothing else any more. It asks `left_out`, which runs that schedule on the installed
engine: one that is mended is tested in full from then on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from properties.conformance.book import asked_once
from properties.conformance.classics import CLASSICS
from properties.conformance.contract import Outcome
from properties.conformance.judge import complaint, judge, promised, run_schedule
from properties.conformance.targets import DEFAULT_ENGINES
from workloads.engines import Identity, find_engine
from workloads.schedules import FAST, EngineDied, Schedule, Schema, SessionError, pasted

TWO_FILES = Schema("list", 3, 2, ("attached",))
LARGEST_PAGE = Schema("list", page_bytes=65536)
SPREAD = Schema("list", features=("spread",))
MAPPED = replace(FAST, mmap_bytes=1 << 20)


class Known(NamedTuple):
    """A deviation from a promise that was found once and is looked for at every report.

    modes : the BEGIN modes that it concerns. engines : those that show it; the schedule passes on
    every other. concerns : whether it shows, or may, on schedules like this one. keeps : the level
    that such schedules keep all the same, None where nobody can know it. versions : those
    on which it must show, () for all; another one may have mended it.
    """

    name: str
    sentence: str
    schedule: Schedule
    modes: tuple[str, ...]
    engines: tuple[str, ...]
    concerns: Callable[[Schedule], bool]
    keeps: str | None = None
    versions: tuple[str, ...] = ()


def _attached(schedule: Schedule) -> bool:
    return "attached" in schedule.schema.features


KNOWN = (
    Known(
        "read skew between attached files",
        "each attached file has a snapshot of its own, taken when it is first read, so a "
        "transaction over two files sees one before and one after another's commit",
        replace(CLASSICS["G-single"].schedule, schema=TWO_FILES),
        ("deferred", "concurrent"),
        ("libsql", "sqlite", "sqlite-concurrent", "sqlite-latest"),
        _attached,
    ),
    Known(
        "write skew between attached files",
        "two transactions that each read both files and write one of them both commit",
        replace(CLASSICS["G2-item"].schedule, schema=TWO_FILES),
        ("deferred", "concurrent"),
        ("libsql", "sqlite", "sqlite-concurrent", "sqlite-latest"),
        _attached,
    ),
    Known(
        "no COMMIT at the largest page size",
        "with page_size 65536 the COMMIT of a BEGIN CONCURRENT that wrote is answered with "
        "SQLITE_CORRUPT, also where nobody else writes; the file is not harmed",
        Schedule(("append 0 1", "begin; r 0; append 0 2; commit"), "01111", LARGEST_PAGE),
        ("concurrent",),
        ("sqlite-concurrent",),
        lambda schedule: schedule.schema.page_bytes == LARGEST_PAGE.page_bytes,
        versions=("3.54.0",),
    ),
    Known(
        "write skew under mmap_size",
        "with mmap_size above 0 a BEGIN CONCURRENT forgets the pages that it read through the map "
        "(getPageMMap does not mark them as read), so COMMIT does not look whether another "
        "transaction wrote them: write skew, as under snapshot isolation",
        replace(CLASSICS["G2-item"].schedule, schema=SPREAD, settings=MAPPED),
        ("concurrent",),
        ("sqlite-concurrent",),
        lambda schedule: schedule.settings.mmap_bytes > 0,
        "snapshot-isolation",
        ("3.54.0",),
    ),
)


@asked_once
def again(engine: str, mode: str, known: Known) -> tuple[bool | None, str]:
    """Whether the engine still shows it, and the complaint in full.

    None and the engine's own words where it refuses what the schedule needs, or dies of it.
    """
    try:
        run = run_schedule(engine, mode, known.schedule)
    except (SessionError, EngineDied) as error:
        return None, error.message if isinstance(error, SessionError) else error.first
    judged = judge(run, promised(find_engine(engine), mode))
    return bool(judged.wrong), complaint(judged) if judged.wrong else ""


def left_out(sessions: Iterable[tuple[str, str]], schedule: Schedule) -> Known | None:
    """The known deviation that sessions (engine, mode) may show on this schedule, or None."""
    for engine, mode in dict.fromkeys(sessions):
        for known in KNOWN:
            if mode in known.modes and known.concerns(schedule) and again(engine, mode, known)[0]:
                return known
    return None


def known_findings(engines: Iterable[str] = DEFAULT_ENGINES) -> list[dict[str, Any]]:
    """Each known deviation on each engine and mode it concerns, run again now; JSON-able.

    A row has name, sentence, engine, mode, seen (bool; None where the engine refuses what the
    schedule needs, with its words), text (the complaint in full), schedule.
    """
    found: list[dict[str, Any]] = []
    for name in engines:
        engine = find_engine(name)
        for known in KNOWN:
            for mode in known.modes:
                if mode not in engine.promises or engine.missing() is not None:
                    continue
                seen, text = again(name, mode, known)
                row = {"name": known.name, "sentence": known.sentence, "engine": name}
                row |= {"mode": mode, "schedule": pasted(known.schedule)}
                message, text = (text, "") if seen is None else ("", text)
                found.append({**row, "words": message, "seen": seen, "text": text})
    return found


class KnownBreach(NamedTuple):
    """A sentence of the adapter contract that an engine is known not to keep.

    check : the name of the check (properties.conformance.contract). versions : a pattern of the
    binding and version of those that break it. seen : a pattern of what the check sees there.
    script : of examples/findings, "" for none.
    """

    check: str
    versions: str
    seen: str
    sentence: str
    script: str = ""


OF_LIBSQL = r"^libsql(-experimental)? [\d.]+(,| \d)"
"""Python's bindings. Node's package has the name of one of them."""

OF_NODE = r"^libsql 0\.5\.\d+ of Node "
NODE_S_REPORT = "https://github.com/tursodatabase/libsql-client-ts/issues/352"

BREACHES = (
    KnownBreach(
        "error-classes",
        OF_LIBSQL,
        r"^ValueError: ",
        "each error of libSQL's binding is Python's own ValueError, also that of a conflict",
    ),
    KnownBreach(
        "opening-errors",
        OF_LIBSQL,
        r"^ValueError: ",
        "each error of libSQL's binding is Python's own ValueError, also where it cannot open",
    ),
    KnownBreach(
        "text-with-nul",
        OF_NODE,
        r"^\[\(1, 'before'\)\]$",
        "Node's package of libSQL cuts a text at its NUL",
    ),
    KnownBreach(
        "parameter-count",
        OF_NODE,
        r"^it returned ",
        "Node's package of libSQL binds NULL for a missing parameter and ignores one too many",
    ),
    KnownBreach(
        "two-statements",
        OF_NODE,
        r"^\[\(1, 1\)\]$",
        "Node's package of libSQL runs the first of two statements and drops the second",
    ),
    KnownBreach(
        "after-a-conflict",
        OF_NODE,
        r"SQL statements in progress",
        "a statement that was refused as busy stays in progress in Node's package of libSQL, so "
        f"that the next COMMIT is refused ({NODE_S_REPORT})",
    ),
    KnownBreach(
        "error-kept",
        OF_NODE,
        r"^\[\(1, 4\)\]$",
        "after a statement that was refused as busy, Node's package of libSQL acknowledges writes "
        "without BEGIN that are never committed (examples/bridges/busy_statement.mjs)",
    ),
    KnownBreach(
        "failed-commit",
        r"over HTTP",
        r"no transaction is active",
        "libSQL's server rolls a transaction back when its COMMIT fails, and the binding says that "
        "it is open until the next statement, which commits by itself",
    ),
    KnownBreach(
        "schema-of-others",
        r"over HTTP",
        r"^\[\(1, 0\)\]$",
        "the first read of a text after another connection's ADD COLUMN has the old columns alone "
        "on libSQL's server",
    ),
    KnownBreach(
        "error-kept",
        r"^pyturso 0\.8\.",
        r"^\[\(1, 4\)\]$",
        "a write that is acknowledged after a refused BEGIN is lost where the application keeps "
        "the error: it holds the cursor of BEGIN, and the write is never committed",
        "turso-kept-error-loses-a-write",
    ),
    KnownBreach(
        "begin-twice",
        r"^psycopg ",
        r"^it returned",
        "PostgreSQL answers BEGIN within a transaction by a warning "
        "(https://www.postgresql.org/docs/current/sql-begin.html)",
    ),
    KnownBreach(
        "commit-without-begin",
        r"^psycopg ",
        r"^it returned",
        "PostgreSQL answers COMMIT outside of a transaction by a warning "
        "(https://www.postgresql.org/docs/current/sql-commit.html)",
    ),
    KnownBreach(
        "schema-of-others",
        r"^psycopg ",
        r"cached plan must not change result type",
        "PostgreSQL refuses a prepared statement whose columns have changed "
        "(https://www.postgresql.org/docs/current/sql-prepare.html)",
    ),
)


def known_breach(identity: Identity, outcome: Outcome) -> KnownBreach | None:
    """The known breach that a broken check is on this version, None for none."""
    for one in known_breaches(identity):
        if one.check == outcome.check and re.search(one.seen, outcome.seen):
            return one
    return None


def known_breaches(identity: Identity) -> list[KnownBreach]:
    """The sentences of the contract that this version is known to break."""
    who = f"{identity.binding} {identity.version}"
    return [one for one in BREACHES if re.search(one.versions, who)]
