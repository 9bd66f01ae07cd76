"""The generator's own cost: its loop in C and its loop in Python, each against the bare driver.

    python tools/bench/bench_generator.py [BLOCKS]

A transaction is BEGIN, one read by key, one update by key, COMMIT, one process, no contention. All
sides run in turn, in blocks of a few milliseconds, so that the machine's drift meets each of them.
A figure is CPU time, so that the machine's other work is not in it: the median over blocks, with a
95 % bootstrap interval. The targets are ratios of two sides. An absolute target is missed on a slow
day and met on a fast one. On SQLite's files a program in C does the same, for comparison.
"""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workloads.engines import (  # noqa: E402
    Loop,
    Settings,
    can_loop_in_c,
    choose_loop,
    find_engine,
)
from workloads.records import attempts as rec  # noqa: E402
from workloads.runs import Plan, context_of  # noqa: E402
from workloads.runs import control as control_block  # noqa: E402
from workloads.runs.control import ControlBlock  # noqa: E402
from workloads.runs.worker import _loop  # noqa: E402
from workloads.scenarios import Draw, Shape, WorkerContext  # noqa: E402

ROWS = 10_000
LOOPS: tuple[Loop, ...] = ("C", "Python")
NO_CHECKPOINT = Settings(wal_autocheckpoint=0)
BLOCK = 500
SELECT, UPDATE = "SELECT v FROM t WHERE id = ?", "UPDATE t SET v = ? WHERE id = ?"
MODES = {
    "libsql": "immediate",
    "sqlite": "immediate",
    "sqlite-concurrent": "concurrent",
    "turso": "concurrent",
    "null": "immediate",
}
BY_PYTHON = {"libsql": 1.3, "sqlite": 1.3, "sqlite-concurrent": 1.3, "turso": 1.3, "null": 3.5}
"""The loop in Python may take so many times what the bare driver takes. On `null`, which has none,
it is what a fixed Python loop takes."""
BY_C = {"libsql": 1.07, "sqlite": 1.07, "sqlite-concurrent": 1.07, "turso": 1.07, "null": 1.3}
"""The same for the loop in C.

Missed is a target only where the whole interval is beyond it.
"""
BEYOND_US = {"libsql": 2.0, "sqlite": 1.2, "sqlite-concurrent": 1.2}
"""Microseconds that the loop in C may take beyond the bare driver. They are told, and no target: on
a slow day everything takes twice as many."""


class OneRow:
    """The smallest scenario: one row read and updated."""

    name: ClassVar[str] = "one-row"
    story: ClassVar[str] = "one row read and updated by its key"
    kinds: ClassVar[tuple[str, ...]] = ("update",)
    Params: ClassVar[type[Shape]] = Shape

    def __init__(self, keys: list[int]) -> None:
        self.draws = [Draw(0, (key,)) for key in keys]

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        left: list[Draw] = []

        def draw() -> Draw:
            if not left:
                left.extend(self.draws)
            return left.pop()

        return draw

    def bodies(self, context: WorkerContext) -> tuple[Callable[[Any], int], ...]:
        assert context.session is not None
        rows, run = context.session.rows, context.session.run

        def update(args: tuple[int]) -> int:
            value = rows(SELECT, args)[0][0]
            run(UPDATE, (value + 1, args[0]))
            return 0

        return (update,)

    def acknowledged(self, context: WorkerContext) -> None:
        return None


def keys() -> list[int]:
    return [int(key) for key in np.random.default_rng(1).integers(0, ROWS, BLOCK)]


def create(session: Any) -> None:
    session.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, pad TEXT)")
    session.run("BEGIN")
    for key in range(ROWS):
        session.run("INSERT INTO t VALUES (?, 0, ?)", (key, "x" * 90))
    session.run("COMMIT")


def bare(session: Any, mode: str) -> Callable[[], None]:
    """The same transactions by the driver's own calls, nothing recorded."""
    connection = getattr(session, "_connection", None)
    if connection is None:
        return fixed_loop
    execute, drawn = connection.execute, keys()
    begin = f"BEGIN {mode.upper()}"

    def block() -> None:
        for key in drawn:
            execute(begin)
            value = execute(SELECT, (key,)).fetchall()[0][0]
            execute(UPDATE, (value + 1, key))
            execute("COMMIT")

    return block


def fixed_loop() -> None:
    """Pure Python of a fixed size for each transaction: the yardstick where there is no driver."""
    total = 0
    for number in range(BLOCK):
        for step in range(10):
            total += number ^ step


def kit(session: Any, engine: str, mode: str, folder: Path, loop: Loop) -> Callable[[], None]:
    """The worker's own loop over the same connection, recording every attempt."""
    plan = Plan(database=engine, writers=1, begin=mode, transactions=BLOCK, loop=loop)
    control = ControlBlock(folder / f"{loop}.control", 1, create=True)
    control.numbers[control_block.STATE] = control_block.GO
    control.numbers[control_block.STOP_NS] = 2**62
    recorder = rec.AttemptRecorder(folder, LOOPS.index(loop))
    choose_loop(loop)
    if hasattr(session, "_connection"):  # whose session has a part of the loop, too
        session = type(session)(session._connection, mode, NO_CHECKPOINT)
    scenario: Any = OneRow(keys())
    context = context_of(plan, 0)
    context.session = session

    def block() -> None:
        choose_loop(loop)
        _loop(plan, context, scenario, recorder, control)
        recorder.offset = 0  # the same rows again: their pages are warm, as in a long run

    return block


def timed(block: Callable[[], None], session: Any) -> float:
    """Microseconds of CPU a transaction; the log is copied back between blocks, outside the time.

    Left to the engine, the checkpoint of every thousandth page falls into one side's block or the
    other's, and is all that the comparison shows.
    """
    begun = time.process_time_ns()
    block()
    taken = (time.process_time_ns() - begun) / 1e3 / BLOCK
    if session.pragmas.get("journal_mode") == "wal":
        session.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return taken


def interleaved(sides: dict[str, Callable[[], float]], blocks: int) -> dict[str, np.ndarray]:
    """Each side once in each block, in an order that changes. Arrays of shape (blocks,), us."""
    order = np.random.default_rng(0)
    names = list(sides)
    for name in names:
        sides[name]()  # warm-up
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(blocks):
        for name in order.permutation(names):
            taken[name].append(sides[name]())
    return {name: np.array(values) for name, values in taken.items()}


def bounds(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the median: percentile bootstrap over blocks."""
    draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)


def interval(values: np.ndarray) -> str:
    """Median [95 % interval]."""
    low, high = bounds(values)
    return f"{np.median(values):6.2f} [{low:.2f}, {high:.2f}]"


class COfSqlite:
    """A C program in a process of its own, over a database of its own, fed one block at a time."""

    def __init__(self, folder: Path) -> None:
        program = folder / "c_loop"
        source = str(Path(__file__).with_name("c_loop.c"))
        subprocess.run(["cc", "-O2", "-o", str(program), source, "-ldl"], check=True, timeout=60)
        library = ctypes.util.find_library("sqlite3") or "libsqlite3.so.0"
        made = (
            "import sys; sys.path.insert(0, sys.argv[2]);"
            "from tools.bench.bench_generator import *;"
            "s = find_engine('sqlite').connect(sys.argv[1], begin='immediate',"
            " settings=NO_CHECKPOINT); create(s); s.close()"
        )
        database = str(folder / "c.db")
        subprocess.run([sys.executable, "-c", made, database, str(ROOT)], check=True, timeout=60)
        self.process = subprocess.Popen(
            [str(program), library, database, str(ROWS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{BLOCK}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / 1e3 / BLOCK

    def close(self) -> None:
        self.process.communicate(timeout=20)


def measure(engine: str, blocks: int) -> bool:
    """One engine, in this process: prints its rows. The parent starts a process an engine.

    Returns whether its target is met; so is that of an engine that is not here.
    """
    adapter = find_engine(engine)
    if (reason := adapter.missing()) is not None:
        print(f"{engine}: {reason}")
        return True
    mode = MODES[engine]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        session = adapter.connect(str(folder / "a.db"), begin=mode, settings=NO_CHECKPOINT)
        if adapter.file_format != "none":
            create(session)
        theirs = bare(session, mode)
        sides: dict[str, Callable[[], float]] = {"bare": lambda: timed(theirs, session)}
        for loop in LOOPS if can_loop_in_c() else LOOPS[1:]:
            block = kit(session, engine, mode, folder, loop)
            sides[loop] = partial(timed, block, session)
        c = None
        if engine in ("sqlite", "libsql"):
            try:
                c = COfSqlite(folder)
                sides["program"] = c
            except (OSError, subprocess.SubprocessError) as error:
                print(f"  no C compiler, so no C program: {error}", file=sys.stderr)
        taken = interleaved(sides, blocks)
        if c is not None:
            c.close()
        session.close()
    report(engine, mode, taken)
    return min([meets(engine, loop, taken) for loop in LOOPS])  # all are told


def meets(engine: str, loop: Loop, taken: dict[str, np.ndarray]) -> bool:
    """Whether a loop is within its target; a sentence where it is not, or is not there."""
    if loop not in taken:
        print(f"{engine:18} the loop in C is not built (make setup)")
        return True
    target = {"C": BY_C, "Python": BY_PYTHON}[loop][engine]
    low, _ = bounds(taken[loop] / taken["bare"])
    if low > target:
        print(f"{engine:18} MISSED: the ratio of the loop in {loop} is above {target:g}")
    beyond, _ = bounds(taken[loop] - taken["bare"])
    if loop == "C" and beyond > (wanted := BEYOND_US.get(engine, np.inf)):
        print(f"{engine:18} more than the {wanted:g} us beyond the driver that were wanted")
    return low <= target


def report(engine: str, mode: str, taken: dict[str, np.ndarray]) -> None:
    theirs = taken["bare"]
    yardstick = "fixed Python loop" if engine == "null" else "bare driver"
    print(f"{engine:18} {mode:10} {yardstick:17} {interval(theirs)} us a transaction")
    for loop in LOOPS:
        if loop in taken:
            ours = taken[loop]
            beyond = (
                "" if engine == "null" else f"   beyond the driver {interval(ours - theirs)} us"
            )
            print(
                f"{'':18} {'':10} {f'loop in {loop}':17} {interval(ours)} us{beyond}   "
                f"ratio {interval(ours / theirs)}"
            )
    if "program" in taken:
        note = "" if engine == "sqlite" else " (on the system's SQLite, not on libSQL's)"
        program, ours = taken["program"], taken[next(loop for loop in LOOPS if loop in taken)]
        print(
            f"{'':18} {'':10} {'C program':17} {interval(program)} us   the rest of a transaction "
            f"is Python's and the loop's: {interval(1 - program / ours)}{note}"
        )
    print(json.dumps({"engine": engine, "us": {k: round(float(np.median(v)), 3)
                                               for k, v in taken.items()}}))  # fmt: skip


def main(argv: list[str]) -> int:
    if argv and argv[0] in MODES:
        return 0 if measure(argv[0], int(argv[1])) else 1
    blocks = int(argv[0]) if argv else 60
    print(
        f"BEGIN, read, update, COMMIT; {blocks} blocks of {BLOCK} transactions a side, in turn",
        flush=True,
    )
    missed = []
    for engine in MODES:
        command = [sys.executable, __file__, engine, str(blocks)]
        if subprocess.run(command, check=False, timeout=600).returncode:
            missed.append(engine)
    print(f"missed, or broken: {', '.join(missed)}" if missed else "every target met", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
