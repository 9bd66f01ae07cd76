"""A large run is shown, exported, compared, reported and checked in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.synthetic import (
    ARMS,
    drawn_run,
    made_experiment,
    write_long_concurrent_run,
    write_long_open_loop,
    write_long_run,
)
from workloads.records import read_manifest, read_run, write_manifest

LARGE_ROWS, SOME_ROWS, JUDGED_ROWS = 24_000_000, 1_200_000, 500_000
LARGE_BYTES = 500_000_000
"""For a run of ten minutes at 40,000 attempts a second, which has 1.5 GB of rows."""

BYTES_A_ROW = 16
"""Above what the same command needs for a tiny run. The rows alone have 64, and read whole with all
their columns they took 200."""

AT_ONCE_BYTES, EXPORTING_BYTES, JUDGING_BYTES = 40_000_000, 160_000_000, 110_000_000
"""What a command may hold beside, whatever the size of the run: some pieces of its rows; of an
export the columns of a group of rows, as they are and as they are written; of the conflicts a
quarter of a million attempts with what they touched."""

CHILD = """
import re, sys
from pathlib import Path
{work}
# Not ru_maxrss, which begins with the parent's peak across fork and exec.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024,
      file=sys.stderr)
"""

COMMAND = """
from analysis.cli.entry import main
try:
    main()
except SystemExit as ended:
    assert ended.code in (0, 1, 3), ended.code
"""

CHECK = """
from workloads.records import read_run
from workloads.runs import context_of, make_plan
from workloads.scenarios import find_scenario
from workloads.scenarios.scenario import RunLog
class Empty:
    def rows(self, sql, params=()):
        return []
run = read_run(Path(sys.argv[1]))
plan = make_plan(scenario=sys.argv[2], database="sqlite", writers=len(run.workers))
scenario = find_scenario(plan.scenario)(plan.shape())
log = RunLog(scenario, run.workers, lambda worker: context_of(plan, worker.worker))
assert scenario.check(Empty(), log)
"""

SEARCH = """
from analysis.search import parse_objectives
from analysis.search.objective import judge, load_of
from workloads.records import read_run
judged = judge(load_of(read_run(Path(sys.argv[1]))), parse_objectives("p99 < 10ms and mean < 1s"))
assert judged.latencies_ns.size
"""


def peak_bytes(work: str, *argv: object) -> int:
    """The most memory that a process of its own had resident."""
    command = [sys.executable, "-c", CHILD.format(work=work), *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


def shown(run: Path, tmp: Path) -> int:
    return peak_bytes(COMMAND, "show", run)


def exported(run: Path, tmp: Path) -> int:
    return peak_bytes(COMMAND, "export", run, "--out", tmp / "out.parquet")


def compared(run: Path, tmp: Path) -> int:
    other = write_long_run(tmp / "other", 1, writers=len(read_run(run).workers), name="other")
    return peak_bytes(COMMAND, "compare", other, run, "--measure", "p99", "--vary",
                      "duration-s")  # fmt: skip


def reported(run: Path, tmp: Path) -> int:
    """A report over one experiment with the run in one of its cells."""
    writers = read_run(run).workers
    concurrent = writers[0].begin == "concurrent"
    # Of experiments on skew the conflicts are predicted, and the rows behind them named.
    name, label = ("skew", "branch concurrent") if concurrent else ("headline", "libsql immediate")
    keys = ("zipfian:0.99", "uniform") if concurrent else ("uniform",)
    arms = {
        f"{label} {spec}": {**ARMS[label], "scenario": "register", "params": {"keys": spec},
                            "writers": len(writers)}
        for spec in keys
    }  # fmt: skip
    folder = made_experiment(tmp / "rep" / name, arms,
                             lambda _, block: drawn_run([block], writers=4),
                             blocks=1)  # fmt: skip
    (cell,) = (
        path for path in folder.iterdir() if path.is_dir() and keys[0].split(":")[0] in path.name
    )
    for path in run.iterdir():
        if path.name != "manifest.json":
            (cell / path.name).unlink(missing_ok=True)
            (cell / path.name).hardlink_to(path)
    manifest = read_manifest(run)
    manifest.run = cell.name
    write_manifest(cell, manifest)
    suite = {"cwkit": 1, "quick": False, "seed": 412, "command": "cwkit report --seed 412",
             "started": "2026-11-22T12:00:00+00:00", "probes": []}  # fmt: skip
    (tmp / "rep" / "campaign.json").write_text(json.dumps(suite), encoding="utf-8")
    return peak_bytes(COMMAND, "report", "--only-write", "--into", tmp / "rep",
                      "--out", tmp / "out.md", "--figures", tmp / "figures")  # fmt: skip


def checked(scenario: str) -> Callable[[Path, Path], int]:
    return lambda run, tmp: peak_bytes(CHECK, run, scenario)


TASKS: dict[str, Callable[[Path, Path], int]] = {
    "show": shown,
    "export": exported,
    "compare": compared,
    "report": reported,
    "check bank": checked("bank"),
    "check register": checked("register"),
    "check counter": checked("counter"),
    "check ingest": checked("ingest"),
    "check queue": checked("queue"),
    "check acked": checked("acked"),
}


def exported_due(run: Path, tmp: Path) -> int:
    return peak_bytes(COMMAND, "export", run, "--what", "due", "--out", tmp / "out.parquet")


def sought(run: Path, tmp: Path) -> int:
    """What `cwkit search` asks of a run of one of its rates."""
    return peak_bytes(SEARCH, run)


OPEN_LOOP: dict[str, Callable[[Path, Path], int]] = {
    "show": shown,
    "export": exported_due,
    "search": sought,
    "report": reported,
}


def conflicts(run: Path, tmp: Path) -> int:
    """What could have been refused, and over which rows it was."""
    return peak_bytes(COMMAND, "conflicts", run)


CONCURRENT: dict[str, Callable[[Path, Path], int]] = {
    "show": shown,
    "conflicts": conflicts,
    "report": reported,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_long_run(tmp_path_factory.mktemp("tiny") / "tiny", 1, writers=1, name="tiny")


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("some") / "some"
    return write_long_run(folder, SOME_ROWS, writers=1, name="some")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_long_run(tmp_path_factory.mktemp("large") / "large", LARGE_ROWS, name="large")


@pytest.fixture(scope="module")
def open_loops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("open")
    write_long_open_loop(folder / "tiny", 1000, writers=1, name="tiny")
    return folder / "tiny", write_long_open_loop(folder / "some", SOME_ROWS, writers=1, name="some")


@pytest.mark.parametrize(
    "task",
    [
        *("export", "check bank"),
        # An open loop's run is shown by the quick test below, with the same and more.
        *(pytest.param(task, marks=pytest.mark.slow) for task in ("show", "compare", "report")),
    ],
)
def test_memory_grows_by_few_bytes_a_row(task: str, tiny: Path, some: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "some").mkdir()
    base = TASKS[task](tiny, tmp_path / "tiny")
    more = TASKS[task](some, tmp_path / "some") - base
    allowed = BYTES_A_ROW * SOME_ROWS + (EXPORTING_BYTES if task == "export" else AT_ONCE_BYTES)
    assert more < allowed, f"{more:,} bytes more than {base:,}, allowed {allowed:,}"


@pytest.mark.parametrize(
    "task",
    [
        "show",
        *(pytest.param(task, marks=pytest.mark.slow) for task in ("export", "search", "report")),
    ],
)
def test_memory_grows_by_few_bytes_a_row_of_an_open_loop(
    task: str, open_loops: tuple[Path, Path], tmp_path: Path
) -> None:
    peaks = []
    for run in open_loops:
        (tmp_path / run.name).mkdir()
        peaks.append(OPEN_LOOP[task](run, tmp_path / run.name))
    base, most = peaks
    allowed = BYTES_A_ROW * SOME_ROWS + (EXPORTING_BYTES if task == "export" else AT_ONCE_BYTES)
    assert most - base < allowed, f"{most - base:,} bytes more than {base:,}, allowed {allowed:,}"


@pytest.fixture(scope="module")
def concurrent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("concurrent")
    write_long_concurrent_run(folder / "tiny", 1000, name="tiny")
    return folder / "tiny", write_long_concurrent_run(folder / "some", JUDGED_ROWS, name="some")


@pytest.mark.parametrize(
    "task",
    ["conflicts", *(pytest.param(task, marks=pytest.mark.slow) for task in ("show", "report"))],
)
def test_memory_grows_by_few_bytes_a_row_under_begin_concurrent(
    task: str, concurrent: tuple[Path, Path], tmp_path: Path
) -> None:
    peaks = []
    for run in concurrent:
        (tmp_path / run.name).mkdir()
        peaks.append(CONCURRENT[task](run, tmp_path / run.name))
    base, most = peaks
    allowed = BYTES_A_ROW * JUDGED_ROWS + JUDGING_BYTES
    assert most - base < allowed, f"{most - base:,} bytes more than {base:,}, allowed {allowed:,}"


@pytest.fixture(scope="module")
def large_concurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large-concurrent") / "large"
    return write_long_concurrent_run(folder, LARGE_ROWS, name="large")


@pytest.mark.slow
@pytest.mark.parametrize("task", CONCURRENT)
def test_24_million_attempts_under_begin_concurrent_fit_into_500_megabytes(
    task: str, large_concurrent: Path, tmp_path: Path
) -> None:
    peak = CONCURRENT[task](large_concurrent, tmp_path)
    assert peak < LARGE_BYTES, f"{peak:,}"


@pytest.mark.slow
@pytest.mark.parametrize("task", OPEN_LOOP)
def test_24_million_attempts_of_an_open_loop_fit_into_500_megabytes(
    task: str, large_open_loop: Path, tmp_path: Path
) -> None:
    peak = OPEN_LOOP[task](large_open_loop, tmp_path)
    assert peak < LARGE_BYTES, f"{peak:,}"


@pytest.fixture(scope="module")
def large_open_loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large-open") / "large"
    return write_long_open_loop(folder, LARGE_ROWS, name="large")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_24_million_attempts_fit_into_500_megabytes(task: str, large: Path, tmp_path: Path) -> None:
    peak = TASKS[task](large, tmp_path)
    assert peak < LARGE_BYTES, f"{peak:,}"
