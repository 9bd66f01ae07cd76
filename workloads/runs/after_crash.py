"""Opens a database as a crash left it, in a process of its own, and says what is in it.

`python -m workloads.runs.after_crash JOB.json` writes one line of JSON, however the database looks:
what cannot be read is told by the engine's own words, and what the scenario's code raised on what
it was given as that. The engine may take the process down or hang in it; whoever started it tells
that from its end.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.engines import AUTOCOMMIT, Engine, Session, Settings, find_engine, trust, usual_mode
from workloads.processes import die_with_parent
from workloads.runs.content import KIT_TABLE, content_of
from workloads.scenarios import find_scenario, tells_postings

AFTER_CRASH = (255, 0)
"""The posting by which a database is written on: of a writer that no run has."""

MOST_TOLD = 20
OPEN, LOOK, KEYS = "open", "look", "keys"
"""What may be asked: to read what it holds, all of it (opened twice, written on), and of a new one
whether the engine checks foreign keys."""


@dataclass(frozen=True, slots=True)
class Task:
    """A database to be looked at. foreign : whether `PRAGMA foreign_key_check` is asked."""

    engine: Engine
    path: str
    begin: str
    settings: Settings
    scenario: Any
    foreign: bool = True

    @property
    def postings(self) -> bool:
        """Whether the scenario tells its transactions apart."""
        return tells_postings(self.scenario)


class Heard:
    """A session whose errors can be told from those of the code that it is handed to."""

    def __init__(self, real: Session) -> None:
        self._real = real
        self.raised: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self._listening(found) if callable(found) else found

    def _listening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def listening(*args: Any, **named: Any) -> Any:
            try:
                return call(*args, **named)
            except BaseException as error:
                self.raised = error
                raise

        return listening


class ScenarioWrong(Exception):
    """The scenario's own code raised something: a sentence with its place."""


def look(task: Task) -> dict[str, Any]:
    """Open, check and read it, open it again, write on, and read it once more.

    Each step that fails is told under its name, and the later ones are left out.
    """
    return _told(task, (
        ("first", lambda: _read(task)),
        ("second", lambda: _read(task)),
        ("writing", lambda: _write_on(task)),
        ("third", lambda: _read(task, wrote=True)),
    ))  # fmt: skip


def opened(task: Task) -> dict[str, Any]:
    """The first of these steps alone."""
    return _told(task, (("first", lambda: _read(task)),))


def keys(task: Task) -> dict[str, Any]:
    """Why foreign keys cannot be asked for, as `no_foreign`; {} where they can. In a new database.

    An engine may take the PRAGMA and answer nothing, whatever there is.
    """
    mode = usual_mode(task.engine, "writer")
    session = task.engine.connect(task.path, begin=mode, settings=task.settings)
    try:
        try:
            session.run("PRAGMA foreign_keys = off")
            session.run("CREATE TABLE parent(id INTEGER PRIMARY KEY)")
            session.run("CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent(id))")
            session.run("INSERT INTO child(id, p) VALUES (1, 2)")
            found = session.rows("PRAGMA foreign_key_check")
        except Exception as error:
            return {"no_foreign": f"{type(error).__name__}: {error}"[:300]}
    finally:
        session.close()
    if found:
        return {}
    return {"no_foreign": "PRAGMA foreign_key_check finds no row that refers to none"}


def _told(task: Task, steps: Sequence[tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, step in steps:
        try:
            found = step()
        except ScenarioWrong as error:
            told["failed"], told["by"] = [name, str(error)[:500]], "scenario"
            break
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            told["failed"] = [name, f"{type(error).__name__}: {error}"[:500]]
            break
        if found is not None:
            told[name] = found
    return told


def _read(task: Task, wrote: bool = False) -> dict[str, Any]:
    reads = usual_mode(task.engine, "reader")
    session = task.engine.connect(task.path, begin=reads, settings=task.settings)
    try:
        told: dict[str, Any] = {"integrity": _integrity(session)}
        if task.foreign:
            told |= _foreign(session)
        session.begin()
        if task.postings:
            book = _by_scenario(task.scenario.read, session)
            told |= {"whole": sorted(book.whole), "wrong": book.wrong[:MOST_TOLD]}
        else:
            told |= {"content": content_of(session), "wrong": _broken(task, session)}
            if wrote:
                told["written"] = session.rows(f"SELECT count(*) FROM {KIT_TABLE}")[0][0]
        session.rollback()
    finally:
        session.close()
    return told


def _broken(task: Task, session: Session) -> list[str]:
    """What the scenario says of its own: sentences."""
    holds = getattr(task.scenario, "holds", None)
    return [] if holds is None else [str(one) for one in _by_scenario(holds, session)][:MOST_TOLD]


def _by_scenario(call: Callable[..., Any], session: Session, *args: Any) -> Any:
    """What a scenario's method answers. Its own exceptions become ScenarioWrong, and the engine's
    stay: those, and what was raised from them.
    """
    heard = Heard(session)
    try:
        return call(heard, *args)
    except Exception as error:
        if _comes_from(error, heard.raised):
            raise heard.raised or error from None
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(at.filename).name}:{at.lineno}"
        raise ScenarioWrong(f"{place}: {type(error).__name__}: {error}") from error


def _comes_from(error: BaseException | None, raised: BaseException | None) -> bool:
    seen = 0
    while error is not None and raised is not None and seen < 20:
        if error is raised:
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _integrity(session: Session) -> list[str]:
    """What the engine's own check says, [] where all is well."""
    if own := getattr(session, "integrity", None):
        answer = own()
        return [] if answer is None or answer[0] else [str(answer[1])]
    rows = [str(row[0]) for row in session.rows("PRAGMA integrity_check")]
    return [] if rows == ["ok"] else rows[:MOST_TOLD]


def _foreign(session: Session) -> dict[str, Any]:
    """What refers to no row, as sentences, and whether the engine keeps such rows out."""
    try:
        rows = session.rows("PRAGMA foreign_key_check")
    except Exception as error:
        return {"foreign": [], "no_foreign": f"{type(error).__name__}: {error}"[:300]}
    told = [f"row {row[1]} of {row[0]} refers to no row of {row[2]}" for row in rows[:MOST_TOLD]]
    if not told:
        return {"foreign": []}
    asked = session.rows("PRAGMA foreign_keys")
    return {"foreign": sorted(told), "enforced": bool(asked and asked[0][0])}


def _write_on(task: Task) -> None:
    mode = usual_mode(task.engine, "writer") if task.begin == AUTOCOMMIT else task.begin
    session = task.engine.connect(task.path, begin=mode, settings=task.settings)
    try:
        if not task.postings:  # by itself: not every mode takes it in a transaction
            session.run(f"CREATE TABLE {KIT_TABLE}(id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        session.begin()
        if task.postings:
            _by_scenario(task.scenario.post, session, AFTER_CRASH)
        else:
            session.run(f"INSERT INTO {KIT_TABLE}(id, n) VALUES (?, ?)", AFTER_CRASH)
        session.commit()
    finally:
        session.close()


def main(argv: Sequence[str]) -> int:
    die_with_parent()
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    trust(*job["trusted"])
    cls = find_scenario(job["scenario"])
    task = Task(
        find_engine(job["engine"]),
        job["database"],
        job["begin"],
        Settings(**job["settings"]),
        cls(cls.Params(**job["params"])),
        job.get("foreign", True),
    )
    told = {OPEN: opened, LOOK: look, KEYS: keys}[job.get("what", LOOK)](task)
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
