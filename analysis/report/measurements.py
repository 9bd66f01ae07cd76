"""The experiments of `make report`: a fixed set, each with the question it answers.

The set is data, so that the report can print it and a reader can see what was left out. On two
cores it takes about six minutes. `--quick` asks most of the questions with fewer and shorter
blocks, and every interval shows it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.report import replica
from analysis.report.suite_file import SUITE_FILE, Suite, read_suite, write_suite
from workloads import records as rec
from workloads.engines import engine_names, probe, to_dict
from workloads.errors import FolderUnwritable
from workloads.experiments import Design, Experiment, OnCell, run_experiment
from workloads.files import inside, resolved
from workloads.processes import end, python, read_open, start, wait
from workloads.replica import measure as measure_served
from workloads.replica import read_manifest
from workloads.runs import OnProgress

ROOT = Path(__file__).resolve().parents[2]
ISOLATION_LIMIT_S = 120

# Three systems that write to one database of libSQL's, and two others. BRANCH is SQLite's branch
# begin-concurrent.
LIBSQL = {"database": "libsql", "write_engine": "libsql", "begin": "immediate"}
BRANCH = {"database": "libsql", "write_engine": "sqlite-concurrent", "begin": "immediate"}
CONCURRENT = {"database": "libsql", "write_engine": "sqlite-concurrent", "begin": "concurrent"}
TURSO = {"database": "turso", "begin": "concurrent"}
NULL = {"database": "null", "begin": "immediate"}

ROWS = 50_000
"""Rows of the throughput experiments: some 1,700 pages, so that uniform keys seldom share one."""


def designs(quick: bool, seed: int) -> list[Design]:
    """The experiments of a report, in the order they run."""
    short = {"duration_s": 0.3, "warmup_s": 0.1} if quick else {"duration_s": 0.6, "warmup_s": 0.1}
    few = 1 if quick else 2
    rows = ROWS // 2 if quick else ROWS

    def update(think_us: float = 200, **more: Any) -> dict[str, Any]:
        """One read and one update of one row, with work between them."""
        params = {"rows": rows, "mix": "read-modify-write=100", "think_us": think_us}
        return {"scenario": "register", "params": params | more, "writers": 4, **short}

    def systems(name: str, plan: dict[str, Any], *more: str) -> dict[str, dict[str, Any]]:
        """An arm for each system: libSQL's, BEGIN CONCURRENT, and those in `more`."""
        every = {
            "libsql immediate": LIBSQL,
            "branch concurrent": CONCURRENT,
            "branch immediate": BRANCH,
            "turso concurrent": TURSO,
        }
        chosen = ("libsql immediate", "branch concurrent", *more)
        return {f"{system} {name}".strip(): every[system] | plan for system in chosen}

    writers = {n: update() | {"writers": n} for n in ((4,) if quick else (1, 2, 4, 8))}
    asleep = update(1000, think="sleep", rows=10_000)
    # The work sleeps: Turso's writers are threads of one process, where work that spins would never
    # overlap, and transactions that never overlap are never refused.
    four = {
        keys: update(1000, think="sleep", keys=keys, operations=4)
        for keys in (
            ("uniform", "zipfian:0.99")
            if quick
            else ("uniform", "zipfian:0.8", "zipfian:0.99", "zipfian:1.2")
        )
    }
    ycsb_b = {"scenario": "register", "params": {"rows": rows, "mix": "B"}, "writers": 4} | short
    one_read = {
        "scenario": "register",
        "params": {"rows": 1000, "mix": "C"},
        "writers": 0,
        "readers": 1,
    } | short

    made = [
        _acked(quick),
        _mission(quick),
        Design(
            "headline",
            "What does BEGIN CONCURRENT do for four writers with 200 us of work in a transaction?",
            {
                "libsql immediate": LIBSQL | update(),
                "libsql immediate again": LIBSQL | update(),
                "branch immediate": BRANCH | update(),
                "branch concurrent": CONCURRENT | update(),
            },
            blocks=2 if quick else 10,
            baseline="libsql immediate",
        ),
        Design(
            "writers",
            "How does throughput grow with the number of writers?",
            {arm: v for n, plan in writers.items() for arm, v in systems(f"w{n}", plan).items()},
            blocks=few,
            baseline="libsql immediate w1",
        ),
        # Many blocks: without work the ratios scatter, and a loss must be provable.
        Design(
            "no-work",
            "And with no work in it: does BEGIN CONCURRENT pay at all?",
            systems("t0", update(0), "branch immediate"),
            blocks=1 if quick else 7,
            baseline="libsql immediate t0",
        ),
        Design(
            "think",
            "And with 1 ms of work in it?",
            systems("t1000", update(1000), "branch immediate"),
            blocks=2,
            baseline="libsql immediate t1000",
        ),
        Design(
            "skew",
            "What share of transactions is refused when the keys are skewed (1 ms asleep inside)?",
            {f"branch concurrent {keys}": CONCURRENT | plan for keys, plan in four.items()}
            | (
                {}
                if quick
                else {f"turso concurrent {keys}": TURSO | plan for keys, plan in four.items()}
            ),
            blocks=1,
        ),
        Design(
            "hot",
            "And where all writers meet on one page (ten counters)?",
            {
                "branch immediate": BRANCH | {"scenario": "counter", "writers": 4} | short,
                "branch concurrent": CONCURRENT | {"scenario": "counter", "writers": 4} | short,
            },
            blocks=1 if quick else 6,
            baseline="branch immediate",
        ),
        Design(
            "mvcc",
            "Page-level or row-level: who overlaps work that waits (1 ms asleep)?",
            systems("", asleep, "turso concurrent"),
            blocks=1 if quick else 2,
            baseline="libsql immediate",
        ),
        Design(
            "read-mostly",
            "What is left of it when 95 % of the operations read (YCSB B)?",
            {
                # Deferred, the tuned baseline: a read must not queue for the write lock.
                "libsql deferred": LIBSQL | ycsb_b | {"begin": "deferred"},
                "branch concurrent": CONCURRENT | ycsb_b,
            },
            blocks=1 if quick else 6,
            baseline="libsql deferred",
        ),
        Design(
            "read",
            "How long does one read of one row by its key take, with nobody else there?",
            {
                "libsql": {"database": "libsql"} | one_read,
            }
            | (
                {}
                if quick
                else {
                    "sqlite": {"database": "sqlite"} | one_read,
                    "turso": TURSO | {"read_begin": "concurrent"} | one_read,
                }
            ),
            blocks=1,
            baseline="libsql",
        ),
        Design(
            "floor",
            "How fast is the generator alone, on an engine that does nothing?",
            {"null read": NULL | one_read}
            | {f"null w{n}": NULL | plan for n, plan in writers.items()}
            | (
                {}
                if quick
                else {"null read-mostly": NULL | ycsb_b, "null asleep": NULL | asleep}
                | {f"null t{us}": NULL | update(us) for us in (0, 1000)}
                | {"null four": NULL | four["uniform"]}
            ),
            blocks=1,
        ),
    ]
    # Quick: one number of writers shows no growth, and a minute has no room for sleeping work.
    left_out = ("writers", "mvcc", "think", "hot") if quick else ()
    made = [design for design in made if design.name not in left_out]
    return [_seeded(design, seed) for design in made]


def _seeded(design: Design, seed: int) -> Design:
    return Design(design.name, design.question, design.arms, design.blocks, seed, design.baseline)


def _mission(quick: bool) -> Design:
    return Design(
        "mission",
        "Do BEGIN CONCURRENT writers and libSQL readers keep one libSQL database whole?",
        {
            "mission": CONCURRENT
            | {"scenario": "bank", "writers": 4, "readers": 4, "read_engine": "libsql"}
            | {"duration_s": 1.0 if quick else 6.0, "warmup_s": 0.2}
        },
        blocks=1,
    )


def _acked(quick: bool) -> Design:
    """The WAL-reset race: libSQL for long enough to show it, the fixed version beside it."""
    racing = {"scenario": "acked", "writers": 1, "checkpointers": 3}
    fixed = {"database": "sqlite-concurrent", "begin": "immediate"}
    return Design(
        "acked",
        "Is every acknowledged commit visible to the next transaction of another process?",
        {
            "libsql": LIBSQL | racing | {"duration_s": 8.0 if quick else 45.0},
            "control": fixed | racing | {"duration_s": 2.0 if quick else 8.0},
        },
        blocks=1,
    )


def measure_suite(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    command: str,
    on_cell: Callable[[str], OnCell],
    on_progress: OnProgress | None = None,
    notify: Callable[[str], None] = print,
) -> list[Experiment]:
    """Probe every engine, run what is missing of every experiment, and keep both in `folder`.

    notify : called with each line for the user who waits.
    Raises RunError where the folder holds another suite's runs, FolderUnwritable where nothing can
    be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnwritable(
            f"{folder}: cannot be written ({error.strerror}). Give another folder with --runs."
        ) from error
    _note(folder, quick=quick, seed=seed, command=command, notify=notify)
    _isolation(folder, quick=quick, notify=notify)
    _served(folder, quick=quick, seed=seed, notify=notify)
    return [
        run_experiment(
            design,
            inside(folder, design.name),
            started_by="report",
            command=command,
            on_cell=on_cell(design.name),
            on_progress=on_progress,
            notify=notify,
        )
        for design in designs(quick, seed)
    ]


def _isolation(folder: Path, *, quick: bool, notify: Callable[[str], None]) -> None:
    """Run the schedules of the isolation matrix once, in a process of its own."""
    path = inside(folder, "isolation.json")
    if path.exists():
        return
    examples = 10 if quick else 100
    notify(
        f"isolation: the literature's schedules and {examples} drawn ones for each engine and mode"
    )
    argv = python("analysis.report.isolation", str(resolved(path)), str(examples))
    with tempfile.TemporaryFile() as errors:
        child = start("isolation", argv, last_words=errors, stdout=subprocess.DEVNULL, within=ROOT)
        try:
            status = wait(child, ISOLATION_LIMIT_S)
        finally:
            end(child.process)
        last = read_open(errors).strip().splitlines()[-1:] or [f"status {status}"]
    if status is None:
        notify(f"isolation: not done after {ISOLATION_LIMIT_S} s; the report goes on without it")
    elif status:
        notify(f"isolation: could not be made ({last[0]}); the report goes on without it")


def _served(folder: Path, *, quick: bool, seed: int, notify: Callable[[str], None]) -> None:
    """Measure embedded replicas and hops beside libSQL's server once, in a process of its own."""
    try:
        path = inside(folder, replica.FOLDER)
        if read_manifest(path).get("ended") == "done":
            return
        notify("served: one client beside libSQL's server, over loopback")
        manifest = measure_served(path, quick=quick, seed=seed)
    except (rec.RunError, OSError) as error:
        notify(f"served: could not be measured ({error}); the report goes on without it")
        return
    if manifest["ended"] != "done":
        notify(f"served: {manifest['failure'].rstrip('.')}; the report goes on without it")


def _note(
    folder: Path, *, quick: bool, seed: int, command: str, notify: Callable[[str], None]
) -> None:
    """Write campaign.json with the engines' answers, once."""
    path = folder / SUITE_FILE
    if path.exists():
        read_suite(folder)
        return
    probes = []
    for name in engine_names():
        if not name.startswith("faulty-"):
            notify(f"asking {name} what it is and what it accepts")
            probes.append(to_dict(probe(name)))
    suite = Suite(
        name=folder.name,
        quick=quick,
        seed=seed,
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        experiments=[design.name for design in designs(quick, seed)],
        probes=probes,
    )
    write_suite(folder, suite)
