"""The two hot loops make the same of the same transactions: their rows differ in times only.

A script says what each BEGIN, body and COMMIT does. Thousands of drawn scripts are played through
both loops, with everything that may happen in one: refusals, errors, retries, full files of rows,
the end of the run, a broken invariant, Ctrl-C, odd results and odd draws.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import records as rec
from workloads.engines import (
    AUTOCOMMIT,
    Loop,
    NotRecorded,
    Refusal,
    Settings,
    find_engine,
    hot_path,
    trust,
    usual_loop,
)
from workloads.engines.libsql import _checked, as_they_are
from workloads.engines.testing import REAL, usable
from workloads.errors import PlanError
from workloads.files import ROOT
from workloads.runs import control as control_block
from workloads.runs.conduct import run
from workloads.runs.control import ControlBlock
from workloads.runs.hot_path import Parts, Tries, c_tries, python_tries
from workloads.runs.job import context_of
from workloads.runs.plan import Plan, make_plan
from workloads.runs.worker import _connected, _context_with, _loop
from workloads.scenarios import Draw, InvariantBroken, find_scenario

C = hot_path.load()
needs_c = pytest.mark.skipif(C is None, reason="the hot loop in C is not built: make setup")
LOOPS: tuple[Loop, ...] = ("C", "Python")
SCRIPTS = 500


@pytest.fixture(autouse=True)
def _this_process_chooses_anew() -> Iterator[None]:
    yield
    hot_path._chosen = None


# --- scripts ----------------------------------------------------------------------------------


class Locked(Exception):
    """The refusal of the scripted engine."""


class Odd(IntEnum):
    ONE = 1


def twice_the_kind() -> Any:
    return iter((0, "drawn by an iterator"))


DRAWS: list[Callable[[], Any]] = [
    *[lambda: Draw(0, "a")] * 20,
    *[lambda: Draw(1, ("b", 2))] * 5,
    lambda: (1, None),
    lambda: [0, "a list"],
    twice_the_kind,
    lambda: Draw(True, "a bool"),
    lambda: Draw(Odd.ONE, "an enumeration"),
]
LAST_DRAWS: list[Callable[[], Any]] = [
    lambda: Draw(-1, "the last kind, which no row can hold"),
    lambda: Draw(7, "no such kind"),
    lambda: Draw(10**30, "no such kind"),
    lambda: ("0", "no number"),
    lambda: (0, 1, 2),
    lambda: (0,),
    lambda: None,
    lambda: 1 / 0,
]
"""A worker ends with these."""

RESULTS = [None, 0, 1, -5, 2**63 - 1, -(2**63), True, False, "", np.int64(9), np.int32(-1), Odd.ONE]
LAST_RESULTS: list[Any] = [2**63, 1.5, "text", [1], -(10**40)]


class Script:
    """What happens in a run, by a seed; session and scenario in one. `seen` is what a loop did."""

    pragmas: Any = {}

    def __init__(self, seed: int) -> None:
        self.seed, self.chance, self.seen = seed, random.Random(seed), list[Any]()
        self.calm = self.chance.choice((0.5, 0.8, 0.95, 0.999))
        self.control: Any = None

    def odd(self, *these: Callable[[], Any]) -> Any:
        if self.chance.random() < self.calm:
            return None
        return self.chance.choice(these)()

    def may_end(self) -> None:
        """Once in a while the run ends here, for all its workers."""
        if self.chance.random() < 0.002:
            self.control.stop()

    # The session.

    def begin(self) -> None:
        self.seen.append("begin")
        self.may_end()
        if self.chance.random() < 0.002:
            raise NotRecorded(28, "no room")
        self.odd(lambda: self.fail(Locked("locked")), lambda: self.fail(OSError("begin")))

    def commit(self) -> None:
        self.seen.append("commit")
        self.may_end()
        self.odd(lambda: self.fail(Locked("stale")), lambda: self.fail(OSError("é commit")))

    def rollback(self) -> None:
        self.seen.append("rollback")

    def fail(self, error: BaseException) -> None:
        raise error

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        self.seen.append(("refusal", repr(error), phase, (within_ns or 0) >= 0))
        outcome = rec.CONFLICT if isinstance(error, Locked) else rec.FAILED
        if isinstance(error, MemoryError):
            outcome = rec.UNKNOWN
        return Refusal(outcome, rec.BUSY, str(error), self.chance.random() < 0.5)

    # The scenario.

    def draw(self, context: Any) -> Callable[[], Any]:
        def draw() -> Any:
            drawn = DRAWS[self.chance.randrange(len(DRAWS))]
            if self.chance.random() < 0.001:
                drawn = self.chance.choice(LAST_DRAWS)
            return drawn()

        return draw

    def bodies(self, context: Any) -> Any:
        return (functools.partial(self.body, 0), functools.partial(self.body, 1))

    def body(self, kind: int, args: Any) -> Any:
        self.seen.append((kind, repr(args)))
        self.may_end()
        self.odd(
            lambda: self.fail(Locked("page")),
            lambda: self.fail(OSError("a statement")),
            lambda: self.fail(MemoryError("lost")),
        )
        if self.chance.random() < 0.002:
            self.fail(self.chance.choice((InvariantBroken("no", a=1), TypeError("mine"))))
        if self.chance.random() < 0.001:
            os.kill(os.getpid(), signal.SIGINT)  # the handler is run by Python, in here
        if self.chance.random() < 0.001:
            return self.chance.choice(LAST_RESULTS)
        return self.chance.choice(RESULTS)

    def acknowledged(self, context: Any) -> Any:
        if self.seed % 3 == 0:
            return None

        def hook(drawn: Any, result: Any) -> None:
            self.seen.append((type(drawn).__name__, repr(result), type(result).__name__))
            if self.chance.random() < 0.001:
                raise RuntimeError("the hook failed")

        return hook


class InMemory(rec.AttemptRecorder):
    """Rows and messages of a script, in memory: thousands are played."""

    def roll(self) -> tuple[memoryview, int, int]:
        self.segment += 1
        segment = np.zeros(self.rows, rec.ATTEMPT)
        self.segments = [*getattr(self, "segments", []), segment]
        self.buffer, self.offset = segment.view("u1").data, 0
        self.limit = self.rows * rec.ROW_BYTES
        return self.buffer, self.offset, self.limit

    def message(self, text: str) -> int:
        return self._messages.setdefault(text, len(self._messages) + 1)


class Played(NamedTuple):
    """What came of a script, without any time."""

    ended: Any
    seen: list[Any]
    rows: list[Any]
    messages: list[str]


def plan_of(script: Script) -> Plan:
    chance = random.Random(script.seed)
    return Plan(
        database="null",
        writers=1,
        transactions=chance.choice((1, 7, 8, 40, 120)),
        rate=chance.choice((0, 0, 0, 300_000)),
        retry={
            "policy": chance.choice(("none", "immediate", "exponential")),
            "base_us": 1,
            "cap_us": 2,
            "most_tries": chance.choice((0, 1, 3)),
        },
    )


def control_in(folder: Path) -> ControlBlock:
    return ControlBlock(folder / "control", 1, create=True)


def play(script: Script, control: ControlBlock, maker: Any = None, loop: Any = _loop) -> Played:
    """Play a script through a worker's loop. maker : makes its tries."""
    plan = plan_of(script)
    script.control = control
    start_ns = time.monotonic_ns()
    control.numbers[control_block.STATE] = control_block.GO
    control.numbers[control_block.START_NS] = start_ns
    control.numbers[control_block.STOP_NS] = 2**62
    # A few rows a file, so that files fill up in the middle of anything.
    recorder = InMemory(Path(), 0, rows=random.Random(script.seed).choice((1, 3, 64)))
    context = context_of(plan, 0)
    session: Any = script
    context.session, context.stopping = session, control.stopping
    ended: Any
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("workloads.runs.worker.tries_of", maker)
            ended = loop(plan, context, session, recorder, control)
    except BaseException as error:
        ended = [type(error).__name__, str(error)]
    rows = timeless(recorder.segments, start_ns if plan.rate else 0)
    return Played(ended, script.seen, rows, list(recorder._messages))


def timeless(segments: list[np.ndarray], start_ns: int = 0) -> list[Any]:
    """The rows of a worker, open and unused ones among them, without their times.

    start_ns : of an open loop, whose intended starts are the schedule's. Other times are there or
    not, and in order.
    """
    found = []
    for values in np.concatenate(segments).tolist():
        row = dict(zip(rec.ATTEMPT.names or (), values, strict=True))
        times = [row.pop(f"{name}_ns") for name in ("start", "begun", "worked", "end")]
        there = [at for at in times if at]
        assert there == sorted(there), times
        intended = row.pop("intended_ns")
        row["intended"] = intended - start_ns if intended and start_ns else intended == times[0]
        row["pad"] = any(row["pad"])
        found.append((*row.values(), *[at > 0 for at in times]))
    return found


@pytest.fixture
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def in_c(parts: Parts) -> Tries:
    return c_tries(C, parts)


def differing(folder: Path, seeds: range, maker: Any = in_c) -> Iterator[int]:
    """Scripts of which the loops make something else; printed for a person."""
    control = control_in(folder)
    for seed in seeds:
        other = play(Script(seed), control, maker)
        python = play(Script(seed), control, python_tries)
        if other != python:
            print(f"script {seed}:\n{other}\nin Python:\n{python}")
            yield seed


@needs_c
@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("scripts", [SCRIPTS, pytest.param(2000, marks=pytest.mark.slow)])
def test_both_loops_make_the_same_of_every_script(tmp_path: Path, scripts: int) -> None:
    assert list(differing(tmp_path, range(scripts))) == []


@pytest.mark.usefixtures("_interruptible")
def test_the_scripts_have_everything_in_them(tmp_path: Path) -> None:
    control = control_in(tmp_path)
    played = [play(Script(seed), control, python_tries) for seed in range(SCRIPTS)]
    ends = str([one.ended for one in played])
    for end in ("NotRecorded", "InvariantBroken", "scenario failed", "the hook failed", "unpack",
                "integer", "out of range", "{}"):  # fmt: skip
        assert end in ends, end
    rows = [row for one in played for row in one.rows]
    names = [name for name in rec.ATTEMPT.names or () if not name.endswith("_ns")]
    by_name = {name: {row[at] for row in rows} for at, name in enumerate(names)}
    assert by_name["outcome"] >= {rec.COMMITTED, rec.CONFLICT, rec.FAILED, rec.UNKNOWN}
    assert by_name["phase"] == {0, rec.BEGIN, rec.STATEMENT, rec.COMMIT}
    assert max(by_name["attempt"]) > 3 and max(by_name["txn"]) > 100
    assert any("KeyboardInterrupt" in str(one.seen) for one in played)


# Wrong loops, each of which a comparison has to find: what stands in hot_path.c, and what instead.
WRONG = {
    "a result": ("row->result = number;", "row->result = number + (number == 1);"),
    "an outcome": ("&row->outcome, COMMITTED,", "&row->outcome, 3,"),
    "a try's number": ("row->attempt = (uint16_t)tries;", "row->attempt = 1;"),
    "an intended start": ("intended = self->intended;", "intended = now_ns();"),
    "a start": ("&row->start_ns, start,", "&row->start_ns, start + (tries > 1 ? 1 << 30 : 0),"),
    "a time of the try before": ("begun = worked = 0;", "begun = begun;"),
    "a phase": ("phase = STATEMENT;", ""),
    "the end of the run": ("if (is_over(self, start)) {", "if (0) {"),
    "the hook's draw": ("worked, end, result, drawn);", "worked, end, result, pair);"),
    "the hook's result": ("if (!(value = or_zero(result)))", "if (!(value = Py_NewRef(result)))"),
    "who is tried again": (
        "PyObject_CallOneArg(body,",
        "PyObject_CallOneArg(tries > 1 ? PyTuple_GET_ITEM(self->bodies, 0) : body,",
    ),
    "an odd kind": ("if (overflow || number < 0 || number > UINT8_MAX ||", "if (0 &&"),
}


def built(folder: Path, source: str) -> ModuleType:
    """A module made of other source, by the compiler call of the set-up."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (folder / "wrong.c").write_text(source)
    made = folder / "wrong.so"
    command = [compiler, "-shared", "-fPIC", "-O1", f"-I{sysconfig.get_path('include')}"]
    subprocess.run([*command, str(folder / "wrong.c"), "-o", str(made)], check=True, timeout=60)
    spec = importlib.util.spec_from_file_location(hot_path.MODULE_NAME, made)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_c
@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("what", WRONG)
def test_a_loop_that_is_wrong_in_one_thing_is_found(tmp_path: Path, what: str) -> None:
    source = hot_path.SOURCE.read_text()
    right, wrong = WRONG[what]
    assert source.count(right) == 1
    module = built(tmp_path, source.replace(right, wrong))
    try:
        found = next(differing(tmp_path, range(SCRIPTS), lambda parts: c_tries(module, parts)), -1)
    except AssertionError:  # times that run backwards
        return
    assert found >= 0


# --- waits, signals, memory -------------------------------------------------------------------


def parts_of(control: ControlBlock, **these: Any) -> Parts:
    """Transactions that are nothing, made of what is written in C where nothing else is said."""
    nothing = Parts(
        begin=int,
        commit=int,
        draw=itertools.repeat((0, ())).__next__,
        bodies=(len,),
        due=None,
        acknowledged=None,
        stopping=control.stopping,
        numbers=control.numbers,
        state=control_block.STATE,
        stop=control_block.STOP,
        stop_ns=2**62,
        most=-1,
    )
    return nothing._replace(**these)


def run_one(made: Tries, rows: int = 100, txn: int = 0, tries: int = 1) -> tuple[bool, np.ndarray]:
    segment = np.zeros(rows, rec.ATTEMPT)
    return made.run(segment.view("u1").data, 0, segment.nbytes, txn, tries), segment


@pytest.fixture(params=LOOPS)
def maker(request: pytest.FixtureRequest) -> Callable[[Parts], Tries]:
    if request.param == "C" and C is None:
        pytest.skip("the hot loop in C is not built: make setup")
    return {"C": in_c, "Python": python_tries}[request.param]


@pytest.fixture
def control(tmp_path: Path) -> ControlBlock:
    return control_in(tmp_path)


def test_an_open_loop_waits_for_its_arrivals_and_never_begins_before(
    maker: Callable[[Parts], Tries], control: ControlBlock
) -> None:
    begin_ns = time.monotonic_ns() + 2_000_000
    arrivals = [begin_ns + number * 300_000 for number in range(50)]
    made = maker(parts_of(control, due=iter(arrivals).__next__, most=50))
    is_over, rows = run_one(made)
    assert is_over and rows["intended_ns"][:50].tolist() == arrivals
    assert (rows["start_ns"][:50] >= arrivals).all() and not rows["start_ns"][50:].any()


@pytest.mark.parametrize("how", ["stopped by another", "by its duration"])
def test_the_run_ends_in_a_wait_for_an_arrival(
    maker: Callable[[Parts], Tries], control: ControlBlock, how: str
) -> None:
    def stopping() -> bool:  # asked in the wait
        if how == "stopped by another":
            control.stop()
        return control.stopping()

    stop_ns = time.monotonic_ns() + (20_000_000 if how == "by its duration" else 10**12)
    far = time.monotonic_ns() + 10**13
    made = maker(parts_of(control, due=lambda: far, stopping=stopping, stop_ns=stop_ns))
    is_over, rows = run_one(made)
    assert is_over and not rows["start_ns"].any()


@pytest.mark.usefixtures("_interruptible")
@needs_c
def test_ctrl_c_ends_a_loop_in_which_everything_is_c(control: ControlBlock) -> None:
    made: Any = in_c(parts_of(control))
    segment = np.zeros(1 << 21, rec.ATTEMPT)  # half a second of transactions, and no Python
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            made.run(segment.view("u1").data, 0, segment.nbytes, 0, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert made.phase == 0 and 0 < made.txn < len(segment)
    assert (segment["outcome"][: made.txn] == rec.COMMITTED).all()
    assert not segment["start_ns"][made.txn :].any()


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_in_a_body_leaves_its_row_open(
    maker: Callable[[Parts], Tries], control: ControlBlock
) -> None:
    def body(args: Any) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    made = maker(parts_of(control, bodies=(body,)))
    segment = np.zeros(3, rec.ATTEMPT)
    with pytest.raises(KeyboardInterrupt):
        made.run(segment.view("u1").data, 0, segment.nbytes, 5, 1)
    assert (made.phase, made.txn, made.tries) == (rec.STATEMENT, 5, 1)
    assert segment["start_ns"][0] > 0 and segment["outcome"][0] == rec.OPEN
    assert made.start <= made.begun <= made.end and made.worked == 0


MANY = 1_000_000


def blocks_kept(task: Callable[[], None]) -> int:
    """Blocks of memory that a task leaves behind, the second time that it is done."""
    task()
    gc.collect()
    before = sys.getallocatedblocks()
    task()
    gc.collect()
    return sys.getallocatedblocks() - before


@needs_c
def test_a_million_transactions_keep_nothing(control: ControlBlock) -> None:
    session = find_engine("null").connect("")
    drawn, result = Draw(0, (object(), "text")), 2**40
    given: list[Any] = [drawn, drawn.args, result, session]
    hooked: list[int] = []
    intended = 2**41
    parts = parts_of(
        control,
        begin=session.begin,
        commit=session.commit,
        draw=lambda: drawn,
        bodies=(lambda args: session.rows("", args) and result,),
        acknowledged=lambda drawn, result: None if hooked else hooked.append(result),
        due=lambda: intended,
        numbers=control.numbers,
    )
    segment = np.zeros(1 << 15, rec.ATTEMPT)
    buffer = segment.view("u1").data

    def task() -> None:
        made, txn = in_c(parts), 0
        while txn < MANY // 2:
            made.run(buffer, 0, segment.nbytes, txn, 1)
            txn = made.txn

    counts = [sys.getrefcount(one) for one in given]
    assert blocks_kept(task) < 200
    assert hooked == [result] and segment["result"].tolist() == [result] * len(segment)
    hooked.clear()
    assert [sys.getrefcount(one) for one in given] == counts


@needs_c
@pytest.mark.usefixtures("_interruptible")
def test_what_goes_wrong_keeps_nothing(control: ControlBlock) -> None:
    def task() -> None:
        for seed in range(300):
            play(Script(seed), control, in_c)

    assert blocks_kept(task) < 1000  # one lost for each script would be more than 300 ... times 40


@needs_c
def test_the_loop_in_c_refuses_rows_that_are_none(control: ControlBlock) -> None:
    made, segment = in_c(parts_of(control)), np.zeros(2, rec.ATTEMPT)
    rows = segment.view("u1").data
    for offset, limit, txn, tries in [
        (0, 0, 0, 1), (-64, 64, 0, 1), (0, 192, 0, 1), (0, 100, 0, 1), (3, 67, 0, 1),
        (0, 64, -1, 1), (0, 64, 0, 0), (0, 64, 0, 65_536), (0, 64, 0, 2),
    ]:  # fmt: skip
        with pytest.raises(ValueError):
            made.run(rows, offset, limit, txn, tries)
    with pytest.raises((BufferError, TypeError)):
        made.run(bytes(64), 0, 64, 0, 1)
    nested: Tries = in_c(parts_of(control, begin=lambda: nested.run(rows, 0, 64, 0, 1)))
    with pytest.raises(RuntimeError, match="already"):
        nested.run(rows, 0, 64, 0, 1)
    with pytest.raises(ValueError):
        in_c(parts_of(control, state=10**6))
    assert C is not None and rec.OPEN_PART.format + rec.CLOSE_PART.format[1:] == C.LAYOUT


# --- real engines, real processes --------------------------------------------------------------


def in_this_process(
    folder: Path, engine_name: str, scenario_name: str, loop: Loop, mode: str = ""
) -> Any:
    """The rows of one writer without their times, and the tables that it left."""
    engine = usable(engine_name)
    overlaps = engine_name in ("sqlite-concurrent", "turso")
    mode = mode or ("concurrent" if overlaps else "immediate")
    folder.mkdir()
    plan = Plan(database=engine_name, scenario=scenario_name, writers=1, begin=mode, loop=loop,
                params={"rows": 20}, transactions=150, seed=3)  # fmt: skip
    hot_path.choose_loop(loop)
    scenario = find_scenario(scenario_name)(plan.shape())
    session = _connected(engine, str(folder / "a.db"), "writer", mode, Settings())
    try:
        for statement in scenario.schema():
            session.run(statement)
        scenario.load(session, np.random.default_rng(99))
        control = control_in(folder)
        control.numbers[control_block.STATE] = control_block.GO
        control.numbers[control_block.STOP_NS] = 2**62
        job: Any = SimpleNamespace(plan=plan, scenario=scenario, folder=folder)
        context = _context_with(job, 0, session, control, engine.file_format)
        recorder = rec.AttemptRecorder(folder, 0, rows=64)
        assert _loop(plan, context, scenario, recorder, control) == {}
        tables = re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", " ".join(scenario.schema()))
        assert tables
        left = [session.rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables]
        segments = [np.load(rec.segment_path(folder, 0, n)) for n in range(recorder.segment + 1)]
        return timeless(segments), left
    finally:
        session.close()


@needs_c
@pytest.mark.parametrize("scenario", ["bank", "acked", "append", "queue"])
@pytest.mark.parametrize("engine", REAL)
def test_one_writer_leaves_the_same_by_both_loops(
    tmp_path: Path, engine: str, scenario: str
) -> None:
    made = [in_this_process(tmp_path / loop, engine, scenario, loop) for loop in LOOPS]
    assert made[0] == made[1]
    assert sum(row[6] == rec.COMMITTED for row in made[0][0]) == 150


@needs_c
@pytest.mark.parametrize("engine", REAL)
def test_statements_that_commit_by_themselves_leave_the_same_by_both_loops(
    tmp_path: Path, engine: str
) -> None:
    made = [in_this_process(tmp_path / loop, engine, "request", loop, AUTOCOMMIT) for loop in LOOPS]
    assert made[0] == made[1]
    (table,) = made[0][1]
    assert sum(row[1] for row in table) == 150


KILLED = """
import os, signal
from workloads.scenarios.counter import Counter

class Killed(Counter):
    name = "killed"
    def bodies(self, context):
        real = super().bodies(context)
        calls = []
        def body(args):
            calls.append(0)
            result = real[0](args)
            if len(calls) == 25:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return (body,) * len(self.kinds)
    def check(self, session, log):
        return []
"""


@needs_c
def test_a_killed_worker_leaves_the_same_by_both_loops(tmp_path: Path) -> None:
    path = tmp_path / "killed.py"
    path.write_text(KILLED)
    trust(path)
    made = []
    for loop in LOOPS:
        plan = make_plan(scenario=f"{path}:Killed", database="sqlite", writers=1, loop=loop,
                         transactions=100, duration_s=30, warmup_s=0)  # fmt: skip
        ended = run(plan, tmp_path / loop)
        (worker,) = ended.workers
        assert (worker.entry.loop, worker.entry.state) == (loop, "died")
        made.append(timeless([worker.attempts]))
    assert made[0] == made[1]
    assert [row[6] for row in made[0]] == [rec.COMMITTED] * 24 + [rec.UNKNOWN]


# --- which loop a run has ----------------------------------------------------------------------


def test_the_environment_chooses_where_no_plan_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CWKIT_LOOP", "Python")
    assert Plan().loop == "Python" and hot_path.loop_in_use() == "Python"
    hot_path.choose_loop("C")
    assert hot_path.loop_in_use() == ("Python" if C is None else "C")
    monkeypatch.setenv("CWKIT_LOOP", "fortran")
    with pytest.raises(PlanError, match="CWKIT_LOOP='fortran': give C or Python"):
        usual_loop()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in the place of .build/hot-path."""
    monkeypatch.setattr(hot_path, "BUILD", tmp_path)
    monkeypatch.delenv("CWKIT_LOOP", raising=False)
    for cached in (hot_path.can_loop_in_c, hot_path.load):
        cached.cache_clear()
    yield tmp_path
    for cached in (hot_path.can_loop_in_c, hot_path.load):
        cached.cache_clear()


@pytest.mark.usefixtures("elsewhere")
def test_without_a_build_runs_have_the_loop_in_python() -> None:
    assert Plan().loop == "Python" and hot_path.load() is None
    with pytest.raises(PlanError, match="not built here"):
        make_plan(database="sqlite", loop="C")


def test_a_damaged_build_is_the_loop_in_python_and_no_traceback(elsewhere: Path) -> None:
    hot_path.module_path().write_bytes(b"cut short")
    hot_path.choose_loop("C")
    assert hot_path.loop_in_use() == "Python"


@needs_c
def test_a_build_of_other_source_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hot_path.module_path().is_file()
    changed = tmp_path / "hot_path.c"
    changed.write_text(hot_path.SOURCE.read_text() + "\n")
    monkeypatch.setattr(hot_path, "SOURCE", changed)
    assert not hot_path.module_path().exists()


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/build_hot_path.py with its target moved to an empty place."""
    path = ROOT / "tools" / "setup" / "build_hot_path.py"
    spec = importlib.util.spec_from_file_location("build_hot_path", path)
    assert spec and spec.loader
    monkeypatch.syspath_prepend(path.parent)  # it imports the modules beside it
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", tmp_path)
    return module


def test_the_build_lies_where_it_is_looked_for_and_the_older_one_goes(
    builder: ModuleType, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    older = elsewhere / f"{hot_path.MODULE_NAME}-0123456789abcdef.so"
    older.touch()
    assert builder.main() == 0
    assert list(elsewhere.iterdir()) == [hot_path.module_path()]
    assert hot_path.load() is not None


def test_without_a_compiler_the_build_is_one_sentence(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert builder.main() == 1
    why = (tmp_path / "why-missing.txt").read_text()
    assert "no-such-compiler" in why or "headers" in why
    assert why.count("\n") == 1


# --- the parameter check -----------------------------------------------------------------------


class Text(str):
    __slots__ = ()


class Real(float):
    __slots__ = ()


class Liar:
    """Says of itself that it is an int."""

    __class__ = int  # type: ignore[assignment]


PARAMETERS = st.one_of(
    st.integers(),
    st.integers(-(2**31) - 2, -(2**31) + 2),
    st.integers(2**31 - 2, 2**31 + 2),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30]),
    st.booleans(),
    st.none(),
    st.floats(),
    st.text(),
    st.text(st.sampled_from("a\0é€𝄞")),
    st.binary(),
    st.binary().map(bytearray),
    st.integers(-5, 5).map(np.int64),
    st.floats().map(np.float64),
    st.floats(width=32).map(np.float32),
    st.text().map(np.str_),
    st.text().map(Text),
    st.floats().map(Real),
    st.binary().map(np.bytes_),
    st.decimals(),
    st.fractions(),
    st.dates(),
    st.sampled_from([Odd.ONE, object(), (), [], {}, int, ..., 1j]),
)


@needs_c
@settings(max_examples=200)
@given(st.lists(PARAMETERS, max_size=4), st.integers(0, 4) | st.none())
def test_both_parameter_checks_agree(values: list[Any], known: int | None) -> None:
    assert C is not None
    params = tuple(values)
    for count in dict.fromkeys((known, len(params))):
        counts = {} if count is None else {"?": count}
        agreed = C.as_they_are(counts, "?", params)
        assert agreed == as_they_are(counts, "?", params)
        if agreed:
            assert _checked(counts, "?", params) == "?"


VALUES: list[Any] = [
    *(0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63, 10**30, True, False, None),
    *(1.5, float("nan"), "", "text", "é", "a\0", "\0", "é\0€", "€\0", "𝄞", "𝄞\0"),
    *(b"", b"\0", bytearray(b"\0"), memoryview(b"a"), Text("a"), Real(1), Odd.ONE, Decimal(1)),
    *(np.int64(1), np.float64(1), np.float32(1), np.str_("a"), np.bytes_(b"a")),
    *(object(), (), [], {}, ..., 1j, int),
]


@needs_c
def test_both_parameter_checks_agree_on_every_three_values() -> None:
    assert C is not None
    arrived = 0
    for params in itertools.product(VALUES, repeat=3):
        agreed = C.as_they_are({"?": 3}, "?", params)
        assert agreed == as_they_are({"?": 3}, "?", params), params
        arrived += agreed
    assert 0 < arrived < len(VALUES) ** 3


@needs_c
def test_a_parameter_that_lies_is_left_to_python() -> None:
    assert C is not None
    for odd in (Liar(),):
        assert C.as_they_are({"?": 1}, "?", (odd,)) is False
    assert C.as_they_are({"?": 1}, "?", [1]) is False
    with pytest.raises(TypeError):
        C.as_they_are({"?": 1}, [], (1,))


@needs_c
@pytest.mark.parametrize("loop", LOOPS)
def test_what_libsql_would_bind_otherwise_is_refused_by_both(tmp_path: Path, loop: Loop) -> None:
    hot_path.choose_loop(loop)
    session = usable("libsql").connect(str(tmp_path / "a.db"))
    try:
        value: Any
        for value in (1, -(2**31), 2**31, 2**63 - 1, -(2**63), 1.5, "é", b"\0", None, True):
            assert session.rows("SELECT ?", (value,)) == [(value,)], value
        refused: Any = ((2**63, OverflowError), ("a\0b", ValueError), (1j, TypeError))
        for value, error in refused:
            with pytest.raises(error):
                session.rows("SELECT ?, ?", (2**40, value))
        with pytest.raises(ValueError, match="takes 1 parameters and was given 2"):
            session.rows("SELECT ?", (1, 2))
    finally:
        session.close()
