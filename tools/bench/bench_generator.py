"""The generator's own cost: the kit's loop against the bare driver, and against C.

    python tools/bench/bench_generator.py [BLOCKS]

A transaction is BEGIN, one read by key, one update by key, COMMIT, one process, no contention. The
two sides of each comparison run in turn, in blocks of a few milliseconds, so that the machine's
drift meets both; a figure is the median over blocks with a 95 % bootstrap interval. The targets are
ratios of the two sides. An absolute target is missed on a slow day and met on a fast one.
"""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workloads.engines import Settings, find_engine  # noqa: E402
from workloads.records import attempts as rec  # noqa: E402
from workloads.runs import Plan, context_of  # noqa: E402
from workloads.runs import control as control_block  # noqa: E402
from workloads.runs.control import ControlBlock  # noqa: E402
from workloads.runs.worker import _loop  # noqa: E402
from workloads.scenarios import Draw, Shape, WorkerContext  # noqa: E402

ROWS = 10_000
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
TARGETS = {"libsql": 1.3, "sqlite": 1.3, "sqlite-concurrent": 1.3, "turso": 1.3, "null": 3.5}
"""The kit's loop may take so many times the bare driver's; on `null` the fixed Python loop's.

Missed is a target only where the whole interval is beyond it.
Measured: 1.05 to 1.14 on SQLite's family, 1.03 to 1.07 on Turso, 2.4 to 2.6 on `null`, on a quiet
machine and on one whose other processes made both sides twice as slow. A loop that costs twice what
it costs today, beside the same driver, gives 1.2 to 1.3.
"""


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


def kit(session: Any, engine: str, mode: str, folder: Path) -> Callable[[], None]:
    """The worker's own loop over the same session, recording every attempt."""
    plan = Plan(database=engine, writers=1, begin=mode, transactions=BLOCK)
    control = ControlBlock(folder / f"{engine}.control", 1, create=True)
    control.numbers[control_block.STATE] = control_block.GO
    control.numbers[control_block.STOP_NS] = 2**62
    recorder = rec.AttemptRecorder(folder, list(MODES).index(engine))
    scenario: Any = OneRow(keys())
    context = context_of(plan, 0)
    context.session = session

    def block() -> None:
        _loop(plan, context, scenario, recorder, control)
        recorder.offset = 0  # the same rows again: their pages are warm, as in a long run

    return block


def timed(block: Callable[[], None], session: Any) -> float:
    """Microseconds a transaction; the log is copied back between blocks, outside the time.

    Left to the engine, the checkpoint of every thousandth page falls into one side's block or the
    other's, and is all that the comparison shows.
    """
    begun = time.perf_counter_ns()
    block()
    taken = (time.perf_counter_ns() - begun) / 1e3 / BLOCK
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
    """The C loop in a process of its own, over a database of its own, fed one block at a time."""

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
        ours = kit(session, engine, mode, folder)
        theirs = bare(session, mode)
        sides: dict[str, Callable[[], float]] = {
            "kit": lambda: timed(ours, session),
            "bare": lambda: timed(theirs, session),
        }
        c = None
        if engine in ("sqlite", "libsql"):
            try:
                c = COfSqlite(folder)
                sides["C"] = c
            except (OSError, subprocess.SubprocessError) as error:
                print(f"  no C compiler, so no C loop: {error}", file=sys.stderr)
        taken = interleaved(sides, blocks)
        if c is not None:
            c.close()
        session.close()
    report(engine, mode, taken)
    low, _ = bounds(taken["kit"] / taken["bare"])
    if low > TARGETS[engine]:
        print(f"{engine:18} MISSED: the ratio is above {TARGETS[engine]:g}")
    return low <= TARGETS[engine]


def report(engine: str, mode: str, taken: dict[str, np.ndarray]) -> None:
    ours, theirs = taken["kit"], taken["bare"]
    if engine == "null":
        print(
            f"{engine:18} whole loop, no database: {interval(ours)} us a transaction   "
            f"fixed Python loop {interval(theirs)} us   ratio {interval(ours / theirs)}"
        )
    else:
        print(
            f"{engine:18} {mode:10} bare {interval(theirs)} us   kit {interval(ours)} us   "
            f"beyond the driver {interval(ours - theirs)} us   ratio {interval(ours / theirs)}"
        )
    if "C" in taken:
        note = "" if engine == "sqlite" else " (C on the system's SQLite, not on libSQL's)"
        share = 1 - taken["C"] / ours
        print(
            f"{'':18} C loop {interval(taken['C'])} us   kit's rate is "
            f"{interval(taken['C'] / ours)} of C's   "
            f"Python's share of a transaction {interval(share)}{note}"
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
