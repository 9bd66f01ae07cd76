"""One application with an embedded replica, in a process of its own: it gets ready while all is
well, and does one thing when it is told to. A hang is this process's, which is then killed.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workloads.engines import Session, Settings, find_engine
from workloads.processes import die_with_parent

MARK = "cwkit:"
"""Our lines begin with this: the binding logs to standard output."""

COUNT = "SELECT count(*) FROM item"
WRITE = "INSERT INTO item VALUES (?, 7, x'00')"
REPLICA, FILE = "libsql-replica", "libsql"

Action = Callable[[], str]
"""Returns what was seen, "" for nothing."""


def _session(path: Path, begin: str) -> Session:
    # "never": what a call does is seen by itself, without a sync of the kit's before it.
    return find_engine(REPLICA).connect(str(path), begin=begin, settings=Settings(sync="never"))


def in_rows(rows: int) -> str:
    return f"{rows} row{'s' * (rows != 1)}"


def _rows(session: Any) -> str:
    return in_rows(session.rows(COUNT)[0][0])


def _read(path: Path, key: int) -> Action:
    session = _session(path, "readonly")
    _rows(session)
    return lambda: _rows(session)


def _transaction(path: Path, key: int) -> Action:
    session = _session(path, "readonly")

    def act() -> str:
        session.begin()
        seen = _rows(session)
        session.commit()
        return seen

    act()
    return act


def _begin(path: Path, key: int) -> Action:
    session = _session(path, "deferred")
    _rows(session)
    return lambda: str(session.begin() or "")


def _write(path: Path, key: int) -> Action:
    session = _session(path, "deferred")
    _rows(session)
    return lambda: str(session.run(WRITE, (key,)) or "")


def _sync(path: Path, key: int) -> Action:
    session: Any = _session(path, "readonly")

    def act() -> str:
        session.sync()
        return f"{_rows(session)} afterwards"

    act()
    return act


def _closed_replica(path: Path) -> Path:
    """A replica of its own that was opened, synced and closed: the application is down."""
    own = path.with_name(f"app-{time.monotonic_ns()}.db")
    shutil.copy(path, own)
    engine: Any = find_engine(REPLICA)
    connection = engine.bare(str(own))
    connection.sync()
    connection.execute(COUNT).fetchall()
    connection.close()
    return own


def _count_of(connection: Any) -> str:
    return in_rows(connection.execute(COUNT).fetchall()[0][0])


def _restart(path: Path, key: int) -> Action:
    own, engine = _closed_replica(path), find_engine(REPLICA)
    return lambda: _count_of(engine.bare(str(own)))  # type: ignore[attr-defined]


def _restart_alone(path: Path, key: int) -> Action:
    own, engine = _closed_replica(path), find_engine(FILE)
    return lambda: _count_of(engine.bare(f"{own}-bare"))  # type: ignore[attr-defined]


ACTIONS: dict[str, Callable[[Path, int], Action]] = {
    "read": _read,
    "read transaction": _transaction,
    "BEGIN": _begin,
    "write": _write,
    "sync": _sync,
    "restart": _restart,
    "restart alone": _restart_alone,
}
"""read : a SELECT in autocommit. read transaction : BEGIN READONLY, a SELECT, COMMIT. BEGIN :
plain. write : an INSERT in autocommit. restart : the application was down and opens its replica
again. restart alone : it opens the replica's file as a plain one, without the primary's address.
"""


def say(**what: Any) -> None:
    print(MARK + json.dumps(what), flush=True)


def main(argv: Sequence[str]) -> int:
    """ACTION PATH KEY: get ready, wait for a line, act, and say what came of it."""
    die_with_parent()
    act = ACTIONS[argv[0]](Path(argv[1]), int(argv[2]))
    say(ready=True)
    sys.stdin.readline()
    begun = time.monotonic_ns()
    try:
        seen, outcome = act(), "works"
    except BaseException as error:  # a panic of the binding's is no Exception
        seen, outcome = f"{type(error).__name__}: {error}", "fails"
    say(outcome=outcome, ms=(time.monotonic_ns() - begun) / 1e6, said=seen)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
