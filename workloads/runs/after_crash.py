"""Opens a database as a crash left it, in a process of its own, and says what is in it.

`python -m workloads.runs.after_crash JOB.json` writes one line of JSON, however the database looks:
what cannot be read is told by the engine's own words. The engine may take the process down or hang
in it; whoever started it tells that from its end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workloads.engines import Engine, Session, Settings, find_engine, trust, usual_mode
from workloads.processes import die_with_parent
from workloads.scenarios import find_scenario

AFTER_CRASH = (255, 0)
"""The posting by which a database is written on: of a writer that no run has."""


def look(
    engine: Engine, path: str, begin: str, settings: Settings, scenario: Any
) -> dict[str, Any]:
    """Open, check and read it, open it again, write on, and read it once more.

    Each step that fails is told under its name, and the later ones are left out.
    """
    told: dict[str, Any] = {}
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("first", lambda: told.update(first=_read(engine, path, begin, settings, scenario))),
        ("second", lambda: told.update(second=_read(engine, path, begin, settings, scenario))),
        ("writing", lambda: _write_on(engine, path, begin, settings, scenario)),
        ("third", lambda: told.update(third=_read(engine, path, begin, settings, scenario))),
    )
    for name, step in steps:
        try:
            step()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            told["failed"] = [name, f"{type(error).__name__}: {error}"[:500]]
            break
    return told


def _read(
    engine: Engine, path: str, begin: str, settings: Settings, scenario: Any
) -> dict[str, Any]:
    reads = usual_mode(engine, "reader")
    session = engine.connect(path, begin=reads, settings=settings)
    try:
        integrity = _integrity(session)
        session.begin()
        book = scenario.read(session)
        session.rollback()
    finally:
        _close(session)
    return {"integrity": integrity, "whole": sorted(book.whole), "wrong": book.wrong[:20]}


def _integrity(session: Session) -> list[str]:
    """What the engine's own check says, [] where all is well."""
    if own := getattr(session, "integrity", None):
        answer = own()
        return [] if answer is None or answer[0] else [str(answer[1])]
    rows = [str(row[0]) for row in session.rows("PRAGMA integrity_check")]
    return [] if rows == ["ok"] else rows[:20]


def _write_on(engine: Engine, path: str, begin: str, settings: Settings, scenario: Any) -> None:
    session = engine.connect(path, begin=begin, settings=settings)
    try:
        session.begin()
        scenario.post(session, AFTER_CRASH)
        session.commit()
    finally:
        _close(session)


def _close(session: Session) -> None:
    session.close()


def main(argv: Sequence[str]) -> int:
    die_with_parent()
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    trust(*job["trusted"])
    cls = find_scenario(job["scenario"])
    told = look(
        find_engine(job["engine"]),
        job["database"],
        job["begin"],
        Settings(**job["settings"]),
        cls(cls.Params(**job["params"])),
    )
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
