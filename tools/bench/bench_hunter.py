"""How many programs a second the bug hunter draws, plays and judges on one core, and how much of
that is the engine's own time.

    python tools/bench/bench_hunter.py [SECONDS]

The floors are those of reference by execution: 100 programs a second on SQLite's begin-concurrent
branch, 40 on Turso. They are held against seconds of CPU time of all processes of the hunter, for
others may use the core, too; how many it is by the clock stands beside it. Counted are stepped
programs. Races are left out: one program in a hundred has one, which takes 0.3 s by intent.

The engine's own time is that of a bare loop, in one process of its own, in turn with the hunter. It
makes what the engine was asked in the same programs and nothing else: connections opened as the
adapter opens them, the tables where they are new, the statements that were not skipped, the
rollbacks after refusals, connections closed, and the questions at the end. Nothing is drawn,
recorded, sent or compared, and where a process was killed its connections are closed. Before each
program, outside of its time, it writes the files of the tables.

ours : CPU time a program of the hunter with all its processes, without the engine's own; at least
that of the process that draws and judges, for Turso's time in the bare loop moves by half with what
else the machine does, and may be more than it was in the hunter. At the floor's rate two thirds of
a program's time are to be the engine's own, so ours may be one third of that time: 3.3 ms on the
branch, 8.3 ms on Turso.
share : of the engine's own time in what a program takes today. It was to be two thirds as well.
SQLite needs 1 ms for a program, and no process that is asked and judged by another one in Python
comes near that, so it is stated and has no target.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil

from properties.hunter.hunt import Hunter
from workloads.engines import find_engine
from workloads.schedules import FAST, Program, Result
from workloads.schedules.opening import Opening

CASES = (
    ("sqlite-concurrent", ("concurrent", "immediate"), 100),
    ("turso", ("concurrent",), 40),
    ("sqlite-latest", ("deferred", "immediate"), None),
    ("libsql", ("deferred", "immediate"), None),
)
"""Engine, modes, and the floor: programs a second."""

MOST_OURS = 1 / 3
"""Of the time that a program may take at the floor's rate."""

CHUNK = 20
"""Programs judged in one go, before the bare loop has its turn."""

Act = tuple[str, str, str]
"""What a driver is asked: "open", "close", "rows", "half" or "rollback"; the session; the SQL."""


class Asked(NamedTuple):
    """What the engine was asked in one program. files : of its tables, before. schema : where the
    program was the first with these tables, the statements that made them.
    """

    files: dict[str, bytes]
    schema: tuple[str, ...]
    opening: Opening
    acts: list[Act]


def asked_in(
    program: Program, results: list[Result], looks: list[list[str]], stage: Any, *, first: bool
) -> Asked:
    """The acts of a program that was played, with the questions at its end. first : as Asked."""
    names = program.sessions or ["A"]
    acts: list[Act] = [("open", name, "") for name in names]
    for step, result in zip(program.steps, results, strict=False):
        verb, session = step.verb, step.session
        if verb in ("reopen", "kill"):
            acts += [(act, name, "") for act in ("close", "open") for name in names]
        elif verb == "close":
            acts += [("close", session, ""), ("open", session, "")]
        elif result.status not in ("skipped", "cannot"):
            sql = {"begin": f"BEGIN {step.text.upper()}".strip(), "commit": "COMMIT"}.get(verb)
            kind = verb if verb in ("half", "fetch", "rollback") else "rows"
            acts.append((kind, session, sql or step.text))
            if result.status in ("conflict", "ended"):
                acts.append(("rollback", session, ""))
    acts += [("close", name, "") for name in names]
    for statements in looks:
        acts.append(("open", "?", ""))
        acts += [("rows", "?", sql) for sql in statements]
        acts.append(("close", "?", ""))
    opening = Opening(stage.engine, "", FAST, stage.first, program.options)
    files = stage.template(program.schema, program.options)
    return Asked(files, program.schema if first else (), opening, acts)


def bare(folder: str) -> None:
    """In the child: make what each message asks, tell the CPU time in s that it took."""
    pipe, number = sys.stdin.buffer, 0
    gc.freeze()  # as in the hunter's processes
    while True:
        try:
            chunk: list[Asked] = pickle.load(pipe)
        except EOFError:
            return
        took = 0.0
        for asked in chunk:
            number += 1
            place = Path(folder) / f"b{number}"
            place.mkdir()
            for name, content in asked.files.items():
                (place / name).write_bytes(content)
            begun = time.process_time()
            if asked.schema:
                tables = place / "tables"
                tables.mkdir()
                _make(str(tables / "a.db"), asked.opening, _tables(asked.schema))
            _make(str(place / "a.db"), asked.opening, asked.acts)
            took += time.process_time() - begun
            shutil.rmtree(place)
        print(took, flush=True)


def _tables(schema: tuple[str, ...]) -> list[Act]:
    return [("open", "A", ""), *(("rows", "A", sql) for sql in schema), ("close", "A", "")]


def _make(path: str, opening: Opening, acts: list[Act]) -> None:
    opening = opening._replace(path=path)
    sessions: dict[str, Any] = {}
    cursors: dict[str, Any] = {}
    for act, name, sql in acts:
        try:
            if act == "rows":
                sessions[name].rows(sql)
            elif act == "open":
                sessions[name] = opening.connect()
            elif act == "rollback":
                sessions[name].rollback()
            elif act == "half":
                cursors[name] = sessions[name].cursor(sql)
                cursors[name].fetchone()
            elif act == "fetch":
                cursors.pop(name).fetchall()
            else:
                cursors.pop(name, None)
                sessions.pop(name).close()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException:  # refused, as it was in the hunt
            continue


class BareLoop:
    """The bare loop in its process."""

    def __init__(self, folder: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--bare", folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __call__(self, chunk: list[Asked]) -> float:
        """CPU time in s."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(pickle.dumps(chunk))
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        assert told, "the bare loop died"
        return float(told)

    def close(self) -> None:
        self.process.communicate(timeout=20)


def cpu_s(but: int) -> float:
    """CPU time of this process and all that it has started and waited for, but one of them."""
    times = [psutil.Process().cpu_times()]
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.pid != but:
                times.append(child.cpu_times())
    return sum(one.user + one.system for one in times) + sum(
        one.children_user + one.children_system for one in times
    )


@dataclass
class Measured:
    """Programs a second of the clock, and per program CPU time in ms: of the hunter with all its
    processes, of its first process alone, of the bare loop.
    """

    per_s: float
    hunter_ms: float
    first_ms: float
    engine_ms: float

    @property
    def per_cpu_s(self) -> float:
        return 1e3 / self.hunter_ms

    @property
    def ours_ms(self) -> float:
        """What is not the engine's: at least all of the first process, which opens no database."""
        return max(self.hunter_ms - self.engine_ms, self.first_ms)


def measured(engine: str, modes: tuple[str, ...], seconds: float) -> Measured:
    """A chunk of programs by the hunter, then by the bare loop, then the next chunk."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=memory()))
        hunter = stack.enter_context(contextlib.closing(Hunter(engine, modes, 1, ("race",))))
        loop = stack.enter_context(contextlib.closing(BareLoop(folder)))
        looks, made_tables = list[list[str]](), list[Any]()
        _listen(hunter.stage, "look", looks)
        _listen(hunter.stage, "_made", made_tables)
        wall = used = first_s = engine_s = 0.0
        index, begun = 0, time.perf_counter()
        while index < 2 * CHUNK or time.perf_counter() - begun < seconds:
            chunk, before, start = list[Asked](), cpu_s(loop.process.pid), time.perf_counter()
            own = time.process_time()
            made = []
            for index in range(index, index + CHUNK):  # noqa: B020
                looks.clear()
                made_tables.clear()
                hunter.judged(hunter.program(index))
                made.append((hunter.last, list(looks), bool(made_tables)))
            index += 1
            took, own = time.perf_counter() - start, time.process_time() - own
            spent = cpu_s(loop.process.pid) - before
            for played, seen, first in made:
                if played is not None and not played.over:
                    program, results = played.program, played.results
                    chunk.append(asked_in(program, results, seen, hunter.stage, first=first))
            bare_s = loop(chunk) * CHUNK / max(len(chunk), 1)
            if index > CHUNK:  # the first turn warms both
                wall, used, first_s = wall + took, used + spent, first_s + own
                engine_s += bare_s
        count = index - CHUNK
    times_ms = (spent_s / count * 1e3 for spent_s in (used, first_s, engine_s))
    return Measured(count / wall, *times_ms)


def _listen(stage: Any, name: str, heard: list[Any]) -> None:
    """Keep the first argument of each call of a method."""
    method = getattr(stage, name)

    def called(first: Any) -> Any:
        heard.append(first)
        return method(first)

    setattr(stage, name, called)


def memory() -> str | None:
    """Where the bare loop's databases lie: where the hunter's lie."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def main(seconds: float) -> int:
    """Measure each case, print a table; 1 where a target is missed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("programs drawn, played and judged a second on one core; engine, ours: CPU ms a program")
    print(f"{'engine':19}{'modes':22}{'judged/s':>9}{'floor':>7}{'by clock':>10}"
          f"{'engine':>8}{'ours':>7}{'target':>8}{'share':>7}")  # fmt: skip
    missed = 0
    for name, modes, floor in CASES:
        if why := find_engine(name).missing():
            print(f"{name:19}{why}")
            continue
        found = measured(name, modes, seconds)
        ours = found.ours_ms
        least = most = "-"
        if floor is not None:
            budget = 1e3 * MOST_OURS / floor
            least, most = f"{floor}", f"{budget:.1f}"
            missed += (found.per_cpu_s < floor) + (ours > budget)
        print(
            f"{name:19}{','.join(modes):22}{found.per_cpu_s:9.0f}{least:>7}{found.per_s:10.0f}{found.engine_ms:8.2f}"
            f"{ours:7.2f}{most:>8}{1 - ours / found.hunter_ms:7.2f}",
            flush=True,
        )
    print(f"{missed} missed" if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(*sys.argv[2:])
        sys.exit()
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 8))
