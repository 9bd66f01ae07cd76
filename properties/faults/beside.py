"""Stories of what else is done to a database while others write: held, copied back, changed, wrong.

What is done beside the workers is done by programs of this folder, each a process of its own with
the engine that is asked, so that no two copies of SQLite meet but where that is the story.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from properties.faults.story import Case, StoryResult
from workloads.engines import Settings, find_engine, trust, usual_mode
from workloads.processes import ChildProcess, die_with_parent, end, python, start
from workloads.records import COMMITTED
from workloads.runs import RunUnderWay

LIMIT_S = 30.0
SECOND_S, QUICK_S = 1.5, 0.5


LONGER_S = 8.0
"""Where the machine was so busy that nothing was done beside the writers in the usual time."""


QUIET = 150.0
"""Transactions a second: writers without a pause leave the lock to nobody on a busy machine."""


def _window(case: Case, window_s: float | None = None) -> dict[str, Any]:
    return {"transactions": None, "duration_s": window_s or (QUICK_S if case.quick else SECOND_S)}


def _again_if_nothing(result: StoryResult, tell: Callable[[float | None], None]) -> None:
    """Tell it in the usual time, and where nothing was done, in a longer one."""
    for window_s in (None, LONGER_S):
        tell(window_s)
        if result.fired:
            return


def _command(case: Case, more: str = "") -> str:
    begin = f" --begin {case.begin}" if case.begin else ""
    quick = " --quick" if case.quick else ""
    return f"cwkit faults --engine {case.engine}{begin} --story {more} --seed {case.seed}{quick}"


# --- a long reader, two checkpointers ---------------------------------------------------------


def long_reader(case: Case, result: StoryResult) -> None:
    """A reader keeps its snapshot, so that the log cannot begin again."""
    _again_if_nothing(result, partial(_long_reader, case, result))


def _long_reader(case: Case, result: StoryResult, window_s: float | None) -> None:
    given = _window(case, window_s)
    hold_s = given["duration_s"] / 2
    pages = {"wal_autocheckpoint": 30}
    plain = case.run(case.plan(**given | pages))
    made = case.run(case.plan(readers=1, reader_holds_s=hold_s, **given | pages))
    held = sum(
        int((w.attempts["outcome"] == COMMITTED).sum()) for w in made.workers if w.role == "reader"
    )
    result.add(made, fired=held)
    result.command = (
        f"cwkit run --scenario ledger --database {case.engine} --begin {case.begin} --writers "
        f"{made.manifest.plan.writers} --readers 1 --reader-holds {hold_s:g}s --duration "
        f"{given['duration_s']:g} --warmup 0 --synchronous full --wal-autocheckpoint 30 --seed "
        f"{case.seed}"
    )
    grew = (
        f": the log grew to {made.manifest.wal_bytes_max:,} bytes, and without the reader to "
        f"{plain.manifest.wal_bytes_max:,}"
    )
    grew = grew if made.manifest.wal_bytes_max else ""
    result.told.append(f"{held} snapshots of {hold_s:g} s{grew}")


def two_checkpointers(case: Case, result: StoryResult) -> None:
    """In each mode of a checkpoint."""
    _again_if_nothing(result, partial(_two_checkpointers, case, result))


def _two_checkpointers(case: Case, result: StoryResult, window_s: float | None) -> None:
    given = _window(case, window_s)
    every = ("truncate",) if case.threads else ("passive", "full", "restart", "truncate")
    for mode in every[-1:] if case.quick else every:
        made = case.run(case.plan(checkpointers=2, checkpoint=mode, **given))
        copied = sum(
            int((w.attempts["outcome"] == COMMITTED).sum())
            for w in made.workers
            if w.role == "checkpointer"
        )
        result.add(made, fired=copied)
        result.told.append(f"{mode}: {copied} checkpoints")
        result.command = (
            f"cwkit run --scenario ledger --database {case.engine} --begin {case.begin} --writers "
            f"{made.manifest.plan.writers} --checkpointers 2 --checkpoint {mode} --synchronous "
            f"full --duration {given['duration_s']:g} --warmup 0 --seed {case.seed}"
        )


# --- DDL, VACUUM, ATTACH ----------------------------------------------------------------------

STATEMENTS = {
    "ddl": (
        "CREATE TABLE IF NOT EXISTS beside(n INTEGER, m TEXT)",
        "INSERT INTO beside VALUES (1, 'x')",
        "CREATE INDEX IF NOT EXISTS beside_n ON beside(n)",
        "ALTER TABLE beside ADD COLUMN more TEXT",
        "DROP INDEX IF EXISTS beside_n",
        "DROP TABLE IF EXISTS beside",
    ),
    "vacuum": ("VACUUM",),
    "attach": (
        "ATTACH '{other}' AS other",
        "CREATE TABLE IF NOT EXISTS other.entry(n INTEGER)",
        "INSERT INTO other.entry SELECT count(*) FROM main.entry",
        "DETACH other",
    ),
}


def statements_beside(case: Case, result: StoryResult, kind: str) -> None:
    # Nothing where the program beside had not begun before the run was over.
    usual_s = 1.0 if case.quick else SECOND_S
    _again_if_nothing(result, lambda s: _statements(case, result, kind, s or usual_s))


def _statements(case: Case, result: StoryResult, kind: str, window_s: float) -> None:
    answers: list[dict[str, Any]] = []

    def beside(under_way: RunUnderWay) -> None:
        other = str(under_way.database.with_name("other.db"))
        job = {
            "engine": case.engine, "path": str(under_way.database),
            "statements": [one.format(other=other) for one in STATEMENTS[kind]],
        }  # fmt: skip
        child, output = _started("beside", case, "run", json.dumps(job))
        under_way.over.wait(LIMIT_S)
        (case.place / "stop").touch()
        answers.append(_answer(child, output))
        (case.place / "stop").unlink(missing_ok=True)

    rate = QUIET if case.quick else None
    made = case.run(case.plan(transactions=None, duration_s=window_s, rate=rate), beside=beside)
    told = answers[0] if answers else {}
    result.add(made, fired=int(told.get("done", 0)))
    for words, many in told.get("errors", {}).items():
        result.errors[words] = result.errors.get(words, 0) + int(many)
    refused = sum(told.get("errors", {}).values())
    if not result.fired:
        return
    result.told.append(f"{told.get('done', 0)} statements went through, {refused} were refused")
    if "died" in told:
        result.find(f"the process beside ended: {told['died']}")
    result.command = _command(case, kind)


def one_process(case: Case) -> str:
    """Why nothing can be done from beside, "" where it can."""
    return "its file is open to one process alone" if case.threads else ""


# --- the time of day --------------------------------------------------------------------------


def clock_back(case: Case, result: StoryResult) -> None:
    """A day back, in the middle of the run, for the workers alone."""
    done: list[bool] = []

    def beside(under_way: RunUnderWay) -> None:
        if under_way.wait_until(0.3) and under_way.faults is not None:
            under_way.faults.set_clock(-86_400)
            done.append(True)

    made = case.run(case.plan(**_window(case)), record=True, beside=beside)
    result.add(made, fired=len(done))
    result.told.append("clock_gettime, gettimeofday and time went back a day for the workers")
    result.command = _command(case, "clock-back")


# --- a second copy of SQLite ------------------------------------------------------------------


def second_copy(case: Case, result: StoryResult) -> None:
    """A process that holds the lock for writing opens and closes the file by another library."""
    other = "libsql" if case.engine.startswith("sqlite") else "sqlite"
    if why := find_engine(other).missing():
        result.untold.append(f"there is no other library here: {why}")
        return
    for second in ("", other):
        folder = case.place / f"second-copy-{second or 'none'}"
        folder.mkdir()
        job = {"engine": case.engine, "path": str(folder / "database.db"), "second": second}
        child, output = _started(f"second-{second or 'none'}", case, "hold", json.dumps(job))
        told = _answer(child, output)
        shutil.rmtree(folder, ignore_errors=True)
        if "entered" not in told:
            result.untold.append(f"the program could not: {told}")
            return
        result.runs += 1
        if not second:
            if told["entered"]:
                result.find("another process began to write while the lock was held")
            else:
                result.errors[str(told["words"])] = 1
            continue
        result.fired += 1
        lost = "another process then wrote" if told["entered"] else "nobody else could write"
        result.told.append(
            f"{other} opened and closed the file in the process that held the lock: {lost}"
            + ("; documented: POSIX locks are a process's" if told["entered"] else "")
        )
    result.command = _command(case, "second-copy")


# --- the programs -----------------------------------------------------------------------------


def _started(name: str, case: Case, *argv: str) -> tuple[ChildProcess, Path]:
    output = case.place / f"{name}-answer.json"
    with output.open("wb") as file:
        child = start(
            name,
            python("properties.faults.beside", *argv, str(case.place / "stop")),
            last_words=case.place / f"{name}-stderr.txt",
            stdout=file,
        )
    return child, output


def _answer(child: ChildProcess, output: Path) -> dict[str, Any]:
    until = time.monotonic() + LIMIT_S
    while (status := child.process.poll()) is None and time.monotonic() < until:
        time.sleep(0.005)
    if status is None:
        end(child.process)
        return {"died": f"no answer within {LIMIT_S:g} s"}
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    if status != 0 or not lines:
        return {
            "died": (child.stderr_text().strip().splitlines() or [f"status {status}"])[-1][:200]
        }
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _run_beside(job: dict[str, Any], stop: Path) -> dict[str, Any]:
    """Statements on a connection of its own, round and round until told to stop."""
    engine = find_engine(job["engine"])
    errors: dict[str, int] = {}
    done = 0
    session = engine.connect(
        job["path"], begin=usual_mode(engine, "reader"), settings=Settings(busy_timeout_ms=200)
    )
    while not stop.exists():
        for sql in job["statements"]:
            try:
                session.run(sql)
                done += 1
            except Exception as error:
                words = f"{sql.split()[0]}: {error}"
                errors[words] = errors.get(words, 0) + 1
    session.close()
    return {"done": done, "errors": errors}


def _hold(job: dict[str, Any], stop: Path) -> dict[str, Any]:
    """Hold the lock for writing, have another library open and close the file; who comes?"""
    path = job["path"]
    engine = find_engine(job["engine"])
    settings = Settings(busy_timeout_ms=0)
    session = engine.connect(path, begin="immediate", settings=settings)
    session.run("CREATE TABLE t(n INTEGER)")
    session.begin()
    session.run("INSERT INTO t VALUES (1)")
    if job["second"]:
        second = find_engine(job["second"])
        other = second.connect(path, begin="deferred", settings=settings)
        with contextlib.suppress(Exception):  # it need not understand what it opens and closes
            other.rows("SELECT count(*) FROM t")
        other.close()
    folder = Path(path).parent
    with (folder / "enter.json").open("wb") as file:
        child = start(
            "enter",
            python("properties.faults.beside", "enter", json.dumps(job), str(stop)),
            stdout=file,
            last_words=folder / "enter.txt",
        )
    return _answer(child, folder / "enter.json")


def _enter(job: dict[str, Any], stop: Path) -> dict[str, Any]:
    engine, settings = find_engine(job["engine"]), Settings(busy_timeout_ms=0)
    try:
        session = engine.connect(job["path"], begin="immediate", settings=settings)
        session.begin()
        session.run("INSERT INTO t VALUES (2)")
        session.commit()
    except Exception as error:
        return {"entered": False, "words": str(error)}
    return {"entered": True, "words": ""}


def main(argv: Sequence[str]) -> int:
    die_with_parent()
    what, text, stop = argv
    job = json.loads(text)
    trust(*[name for name in (job["engine"],) if ".py:" in name])
    doing = {"run": _run_beside, "hold": _hold, "enter": _enter}[what]
    print(json.dumps(doing(job, Path(stop))), flush=True)
    os._exit(0)  # nothing of a second copy of SQLite is to be closed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
