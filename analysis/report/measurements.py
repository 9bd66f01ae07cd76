"""The experiments of `make report`: a fixed set, each with the question it answers.

The set is data, so that the report can print it and a reader can see what was left out. On two
quiet cores it takes at most nine minutes (`planned_s`), and the claims' trials a minute. `--quick`
asks some of the questions with fewer and shorter blocks, in at most 90 s, and every interval shows
it.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from analysis.claims import trial_folder, trials_of_claims
from analysis.counting import FOREIGN_LIMIT, SpareRule, gather
from analysis.report.suite_file import SUITE_FILE, Suite, read_suite, write_suite
from analysis.statistics import FEWEST_BLOCKS
from workloads import records as rec
from workloads.engines import engine_names, probe_all, to_dict
from workloads.errors import FolderUnwritable
from workloads.experiments import MOST_SPARES, Design, Experiment, OnCell, run_experiment
from workloads.files import inside, resolved
from workloads.processes import end, python, read_open, start, wait
from workloads.runs import OnProgress
from workloads.trials import find_trial, read_manifest
from workloads.trials import measure as measure_trial

ROOT = Path(__file__).resolve().parents[2]
ISOLATION_LIMIT_S = 120
SPARE_S = 60.0
"""How much time of a report may go into runs that are made again, s."""

HEADLINE, OFFERED = "headline", "offered"

# Three systems that write to one database of libSQL's, and two others. BRANCH is SQLite's branch
# begin-concurrent.
LIBSQL = {"database": "libsql", "write_engine": "libsql", "begin": "immediate"}
BRANCH = {"database": "libsql", "write_engine": "sqlite-concurrent", "begin": "immediate"}
CONCURRENT = {"database": "libsql", "write_engine": "sqlite-concurrent", "begin": "concurrent"}
TURSO = {"database": "turso", "begin": "concurrent"}
NULL = {"database": "null", "begin": "immediate"}

ROWS = 50_000
"""Rows of the throughput experiments: some 1,700 pages, so that uniform keys seldom share one."""

CLAIMED = 10
"""Blocks of what is claimed. Fewer are shown, and told as too few."""

SHARES = {"a quarter": 0.25, "half": 0.5, "three quarters": 0.75}
"""Rates of the open loop, as shares of what BEGIN IMMEDIATE of the same library can do."""

DEFERRED = {"begin": "deferred"}


def designs(quick: bool, seed: int) -> list[Design]:
    """The experiments of a report, in the order they run, without the open loop.

    That one, `offered`, asks for rates that `headline` has to measure first.
    """
    made = [
        _acked(quick),
        _mission(quick),
        *_by_work(quick),
        _plain(quick),
        *_by_place(quick),
        *_by_reading(quick),
        _floor(quick),
    ]
    if not quick:
        made += [_fairness(), _writers(), *_beside(), _cache()]
    rank = {name: n for n, name in enumerate(ORDER)}
    return [_seeded(one, seed) for one in sorted(made, key=lambda one: rank[one.name])]


ORDER = (
    *("acked", "mission", "headline", "offered", "fairness", "plain", "no-work", "think", "hot"),
    *("writers", "skew", "skew-turso", "read-mostly", "cache", "mvcc", "read", "floor"),
)
"""The order of the experiments. The headline is early: `offered` takes its rates from it."""


def _window(quick: bool, duration_s: float = 0.5) -> dict[str, Any]:
    """A short run. Blocks, not long windows, make an interval narrow."""
    return {"duration_s": 0.3 if quick else duration_s, "warmup_s": 0.1}


def _update(
    quick: bool, think_us: float = 200, duration_s: float = 0.5, **more: Any
) -> dict[str, Any]:
    """Four writers; one read and one update of one row, with work between them."""
    params = {"rows": ROWS // 2 if quick else ROWS, "mix": "read-modify-write=100"}
    return {
        "scenario": "register",
        "params": params | {"think_us": think_us} | more,
        "writers": 4,
    } | _window(quick, duration_s)


def _by_work(quick: bool) -> list[Design]:
    """The headline, and the same with other amounts of work inside the transaction."""

    def three(name: str, plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            f"libsql immediate {name}": LIBSQL | plan,
            f"branch immediate {name}": BRANCH | plan,
            f"branch concurrent {name}": CONCURRENT | plan,
        }

    usual = _update(quick, duration_s=0.6)
    headline = Design(
        "headline",
        "What does BEGIN CONCURRENT do for four writers with 200 us of work in a transaction?",
        {
            "libsql immediate": LIBSQL | usual,
            "branch immediate": BRANCH | usual,
            "branch immediate again": BRANCH | usual,
            "branch concurrent": CONCURRENT | usual,
        },
        blocks=FEWEST_BLOCKS if quick else CLAIMED,
        baseline="branch immediate",
    )
    none = three("t0", _update(quick, 0, 0.4))
    if quick:
        none = {arm: plan for arm, plan in none.items() if plan["write_engine"] != "libsql"}
    no_work = Design(
        "no-work",
        "And with no work in it: does BEGIN CONCURRENT pay at all?",
        none,
        blocks=2 if quick else CLAIMED,
        baseline="branch immediate t0",
    )
    think = Design(
        "think",
        "And with 1 ms of work in it?",
        three("t1000", _update(quick, 1000)),
        blocks=CLAIMED,
        baseline="branch immediate t1000",
    )
    return [headline, no_work] if quick else [headline, no_work, think]


def offered(quick: bool, seed: int, most_per_s: float) -> Design:
    """The open loop: the same load offered to both modes, whatever they can do.

    most_per_s : what the branch's BEGIN IMMEDIATE committed a second in a closed loop. The shares
    of it are rounded to two digits, which a reader can ask for again.
    """
    usual = _update(quick)
    shares = {"half": SHARES["half"]} if quick else SHARES
    arms = {
        f"{system}, {name}": values | usual | _at_rate(float(f"{share * most_per_s:.2g}"), quick)
        for name, share in shares.items()
        for system, values in {"branch immediate": BRANCH, "branch concurrent": CONCURRENT}.items()
    }
    return Design(
        "offered",
        "And where transactions come at their own pace: how long does each wait, and who is "
        "refused, at a quarter, half and three quarters of what BEGIN IMMEDIATE can do?",
        arms,
        blocks=1 if quick else CLAIMED,
        seed=seed,
        baseline=next(iter(arms)),
    )


def _at_rate(per_s: float, quick: bool) -> dict[str, float]:
    """A window in which enough are due for the 99th percentile of each run, within bounds."""
    if quick:
        return {"rate": per_s, "duration_s": 0.5}
    return {"rate": per_s, "duration_s": round(min(max(DUE / per_s, 0.6), 2.0), 2)}


DUE = 1200
"""Transactions due in a window of the open loop: a p99 needs a thousand, and chance draws them."""


def _fairness() -> Design:
    """Long windows: a writer that waits for seconds is seen to wait, and not cut off."""
    long = _update(False, duration_s=20.0)
    return Design(
        "fairness",
        "Who gets to write, and how long does the longest wait, over 20 s?",
        {
            "libsql immediate": LIBSQL | long,
            "branch immediate": BRANCH | long,
            "branch concurrent": CONCURRENT | long,
        },
        blocks=1,
        baseline="branch immediate",
    )


def _plain(quick: bool) -> Design:
    usual = _update(quick, duration_s=0.4)
    return Design(
        "plain",
        "What becomes of a plain BEGIN that reads first and then writes?",
        {"libsql immediate": LIBSQL | usual, "libsql deferred": LIBSQL | usual | DEFERRED},
        blocks=2 if quick else CLAIMED,
        baseline="libsql immediate",
    )


def _by_place(quick: bool) -> list[Design]:
    """Where the writers meet: all on one page, or by keys that are skewed."""
    counter = {"scenario": "counter", "writers": 4} | _window(quick, 0.4)
    hot = Design(
        "hot",
        "And where all writers meet on one page (ten counters)?",
        {"branch immediate": BRANCH | counter, "branch concurrent": CONCURRENT | counter},
        blocks=2 if quick else CLAIMED,
        baseline="branch immediate",
    )
    keys = ("uniform", "zipfian:0.99") if quick else SKEWS
    skew = Design(
        "skew",
        SKEW_QUESTION,
        {f"branch concurrent {k}": CONCURRENT | _four(quick, k) for k in keys},
        blocks=1 if quick else CLAIMED,
    )
    return [hot, skew]


SKEWS = ("uniform", "zipfian:0.8", "zipfian:0.99", "zipfian:1.2")
SKEW_QUESTION = "What share of transactions is refused when the keys are skewed (1 ms asleep)?"


def _four(quick: bool, keys: str) -> dict[str, Any]:
    """Four operations, and work that sleeps.

    Turso's writers are threads of one process, where work that spins would never overlap, and
    transactions that never overlap are never refused.
    """
    return _update(quick, 1000, 0.4, think="sleep", keys=keys, operations=4)


def _asleep() -> dict[str, Any]:
    return _update(False, 1000, think="sleep", rows=10_000)


def _ycsb_b(quick: bool) -> dict[str, Any]:
    rows = ROWS // 2 if quick else ROWS
    plan = {"scenario": "register", "params": {"rows": rows, "mix": "B"}, "writers": 4}
    return plan | _window(quick, 0.4)


def _one_read(quick: bool) -> dict[str, Any]:
    plan = {"scenario": "register", "params": {"rows": 1000, "mix": "C"}}
    return plan | {"writers": 0, "readers": 1} | _window(quick, 0.4)


def _writers() -> Design:
    """Fewer blocks: twelve arms show a curve, and the headline claims what four writers do."""
    usual = _update(False, duration_s=0.4)
    return Design(
        "writers",
        "How does throughput grow with the number of writers?",
        {
            f"{system} w{n}": values | usual | {"writers": n}
            for n in WRITERS
            for system, values in {
                "libsql immediate": LIBSQL,
                "branch immediate": BRANCH,
                "branch concurrent": CONCURRENT,
            }.items()
        },
        blocks=4,
        baseline="branch immediate w1",
    )


WRITERS = (1, 2, 4, 8)


def _beside() -> list[Design]:
    """Turso beside it: rows instead of pages. Few blocks, for nothing is claimed of it."""
    asleep = _asleep()
    mvcc = Design(
        "mvcc",
        "Page-level or row-level: who overlaps work that waits (1 ms asleep)?",
        {
            "libsql immediate": LIBSQL | asleep,
            "branch immediate": BRANCH | asleep,
            "branch concurrent": CONCURRENT | asleep,
            "turso concurrent": TURSO | asleep,
        },
        blocks=2,
        baseline="branch immediate",
    )
    skew = Design(
        "skew-turso",
        SKEW_QUESTION,
        {f"turso concurrent {keys}": TURSO | _four(False, keys) for keys in SKEWS},
        blocks=1,
    )
    return [mvcc, skew]


def _by_reading(quick: bool) -> list[Design]:
    """Where most operations read, or all."""
    ycsb, one = _ycsb_b(quick), _one_read(quick)
    mostly = Design(
        "read-mostly",
        "What is left of it when 95 % of the operations read (YCSB B)?",
        {
            # Deferred, the tuned baseline: a read must not queue for the write lock.
            "libsql deferred": LIBSQL | ycsb | DEFERRED,
            "branch deferred": BRANCH | ycsb | DEFERRED,
            "branch concurrent": CONCURRENT | ycsb,
        },
        blocks=1 if quick else CLAIMED,
        baseline="branch deferred",
    )
    alone = {"libsql": {"database": "libsql"} | one}
    if not quick:
        alone |= {
            "branch": {"database": "libsql", "read_engine": "sqlite-concurrent"} | one,
            "sqlite": {"database": "sqlite"} | one,
            "turso": TURSO | {"read_begin": "concurrent"} | one,
        }
    read = Design(
        "read",
        "How long does one read of one row by its key take, with nobody else there?",
        alone,
        blocks=1,
        baseline="libsql",
    )
    return [mostly, read]


def _cache() -> Design:
    """Data that are in memory, on the disk alone, and larger than SQLite's own cache.

    Without a warm-up: where the data are on the disk, it would be the warm-up that reads them.
    """
    usual = _update(False) | {"warmup_s": 0.0}
    places: dict[str, dict[str, Any]] = {
        "fits": {},
        "cold": {"cache": "cold"},
        "larger": {"cache_size": SMALL_CACHE_PAGES},
    }
    return Design(
        "cache",
        "Does it matter where the data are: in memory, on the disk, or too many for the cache?",
        {
            f"{system} {name}": values | usual | how
            for name, how in places.items()
            for system, values in {
                "branch immediate": BRANCH,
                "branch concurrent": CONCURRENT,
            }.items()
        },
        blocks=3,
        baseline="branch immediate fits",
    )


SMALL_CACHE_PAGES = 100
"""SQLite's cache_size where the data are larger: a seventeenth of them."""


def _floor(quick: bool) -> Design:
    """The generator alone at what the other experiments ask for."""
    numbers = (4,) if quick else WRITERS
    arms = {"null read": NULL | _one_read(quick)}
    arms |= {f"null w{n}": NULL | _update(quick) | {"writers": n} for n in numbers}
    if not quick:
        arms |= {"null read-mostly": NULL | _ycsb_b(quick), "null asleep": NULL | _asleep()}
        arms |= {f"null t{us}": NULL | _update(quick, us) for us in (0, 1000)}
        arms |= {"null four": NULL | _four(quick, "uniform")}
    return Design(
        "floor",
        "How fast is the generator alone, on an engine that does nothing?",
        arms,
        blocks=1,
    )


def _seeded(design: Design, seed: int) -> Design:
    return Design(design.name, design.question, design.arms, design.blocks, seed, design.baseline)


def _mission(quick: bool) -> Design:
    return Design(
        "mission",
        "Do BEGIN CONCURRENT writers and libSQL readers keep one libSQL database whole?",
        {
            "mission": CONCURRENT
            | {"scenario": "bank", "writers": 4, "readers": 4, "read_engine": "libsql"}
            | {"duration_s": 1.0 if quick else 5.0, "warmup_s": 0.2}
        },
        blocks=1,
    )


def _acked(quick: bool) -> Design:
    """The WAL-reset race on each library, under ordinary conditions, and with the cure.

    A run ends at its first loss. The controls are short here, those of the sweep `acked` are long.
    """
    racing = {"scenario": "acked", "begin": "immediate", "writers": 1, "checkpointers": 3}
    normal, full = {"synchronous": "normal"}, {"synchronous": "full"}
    ordinary = racing | {"writers": 4, "checkpointers": 0} | normal
    one = racing | {"checkpointers": 1, "wal_autocheckpoint": 0}
    # FULL takes the writers' lock first, as RESTART and TRUNCATE do: no log begins again meanwhile.
    locked = racing | {"checkpoint": "full", "wal_autocheckpoint": 0}
    # engine, plan, seconds, and of a quick report: 0 leaves the arm out.
    tried = {
        "libsql": ("libsql", racing, 16, 3.5),
        "sqlite": ("sqlite", racing, 6, 1.2),
        "control": ("sqlite-concurrent", racing, 4, 0),
        "control latest": ("sqlite-latest", racing, 4, 1),
        "libsql normal": ("libsql", racing | normal, 3, 0),
        "libsql full": ("libsql", racing | full, 3, 0),
        "libsql ordinary": ("libsql", ordinary, 5, 1),
        "libsql one checkpointer": ("libsql", one, 8, 0),
        "libsql full checkpoints": ("libsql", locked, 4, 1),
    }
    return Design(
        "acked",
        "Is every acknowledged commit visible to the next transaction of another process?",
        {
            arm: {"database": engine, **plan, "duration_s": seconds_quick if quick else seconds}
            for arm, (engine, plan, seconds, seconds_quick) in tried.items()
            if not quick or seconds_quick
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
    foreign_limit: float = FOREIGN_LIMIT,
) -> list[Experiment]:
    """Probe every engine, run what is missing of every experiment, and keep both in `folder`.

    foreign_limit : share of the machine's CPU time that others may use before a run is made again.
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
    clock = _Clock(folder)
    try:
        _note(folder, quick=quick, seed=seed, command=command, notify=notify)
        clock.keep()
        _isolation(folder, quick=quick, notify=notify)
        _trials(folder, quick=quick, seed=seed, notify=notify)
        clock.keep()
        return _measured(
            folder,
            quick=quick,
            seed=seed,
            command=command,
            on_cell=on_cell,
            on_progress=on_progress,
            notify=notify,
            rule=SpareRule(foreign_limit, SPARE_S),
            clock=clock,
        )
    finally:
        clock.keep()


class _Clock:
    """The time that the commands of a report have taken, kept in campaign.json as it passes: one
    that is killed loses what passed since its last experiment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.at = folder, time.monotonic()

    def keep(self) -> None:
        """Add the time since the last call."""
        with contextlib.suppress(rec.RunError, OSError):  # no report's folder: told by others
            suite, now = read_suite(self.folder), time.monotonic()
            took = round(suite.took_s + now - self.at, 3)
            write_suite(self.folder, msgspec.structs.replace(suite, took_s=took))
            self.at = now


def _measured(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    command: str,
    on_cell: Callable[[str], OnCell],
    on_progress: OnProgress | None,
    notify: Callable[[str], None],
    rule: SpareRule,
    clock: _Clock,
) -> list[Experiment]:
    """Run what is missing of every experiment, the open loop behind the headline."""
    made: list[Experiment] = []
    todo = designs(quick, seed)
    while todo:
        design = todo.pop(0)
        made.append(
            run_experiment(
                design,
                inside(folder, design.name),
                started_by="report",
                command=command,
                on_cell=on_cell(design.name),
                on_progress=on_progress,
                notify=notify,
                odd=rule,
                spares=MOST_SPARES,
            )
        )
        clock.keep()
        if design.name == HEADLINE and (
            most := _most_per_s(folder, made[-1], notify, rule.foreign_limit)
        ):
            todo.insert(0, offered(quick, seed, most))
    return made


SITTING = "sitting-"
"""Folders of later sittings, within the report's: sitting-2 and so on."""

MOST_SITTINGS = 20


def of_sitting(quick: bool, seed: int, sitting: int, offered_per_s: float | None) -> list[Design]:
    """What is measured in each later sitting: the experiments of which the report claims something.

    seed : the report's; each sitting draws its own transactions, in an order of its own.
    """
    fewest = FEWEST_BLOCKS if quick else CLAIMED
    own = seed + sitting - 1
    made = [*designs(quick, own), *([offered(quick, own, offered_per_s)] if offered_per_s else [])]
    return [design for design in made if design.blocks >= fewest]


def begun_sitting(folder: Path, sitting: int) -> bool:
    """Whether a sitting has begun: it goes on at once."""
    return os.path.lexists(inside(folder, f"{SITTING}{sitting}") / SUITE_FILE)


def over_at(folder: Path, sitting: int) -> datetime | None:
    """When a sitting was over, or as far as it came; None where nobody knows."""
    place = folder if sitting == 1 else inside(folder, f"{SITTING}{sitting}")
    suite = read_suite(place)
    try:
        begun = datetime.fromisoformat(suite.started)
        return begun.astimezone(UTC) + timedelta(seconds=suite.took_s)
    except (ValueError, OverflowError):
        return None


def measure_sitting(
    folder: Path,
    sitting: int,
    *,
    command: str,
    on_cell: Callable[[str], OnCell],
    on_progress: OnProgress | None = None,
    notify: Callable[[str], None] = print,
    foreign_limit: float = FOREIGN_LIMIT,
    dask: str | None = None,
) -> None:
    """Measure a later sitting of a report, or what is missing of it, in a folder within its own.

    dask : the scheduler of the machines that run its cells, each block whole on one of them.
    Raises as `measure_suite` does, and as `run_on_cluster`.
    """
    first = read_suite(folder)
    quick, seed = first.quick, first.seed or 0
    place = inside(folder, f"{SITTING}{sitting}")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnwritable(f"{place}: cannot be written ({error.strerror}).") from error
    todo = of_sitting(quick, seed, sitting, first.offered_per_s)
    clock = _Clock(place)
    try:
        if not (place / SUITE_FILE).exists():
            started = datetime.now(UTC).isoformat(timespec="seconds")
            names = [design.name for design in todo]
            suite = Suite(
                name=place.name,
                quick=quick,
                seed=seed + sitting - 1,
                command=command,
                started=started,
                experiments=names,
                offered_per_s=first.offered_per_s,
            )
            write_suite(place, suite)
        read_suite(place)
        for design in todo:
            where = inside(place, design.name)
            told: dict[str, Any] = {"command": command, "on_cell": on_cell(design.name)}
            if dask is None:
                run_experiment(
                    design,
                    where,
                    started_by="report",
                    on_progress=on_progress,
                    notify=notify,
                    odd=SpareRule(foreign_limit, SPARE_S),
                    spares=MOST_SPARES,
                    **told,
                )
            else:
                from workloads.cluster import run_on_cluster  # here: nothing else needs it

                run_on_cluster(design, where, dask, notify=notify, **told)
            clock.keep()
    finally:
        clock.keep()


def planned(quick: bool, seed: int) -> list[Design]:
    """All experiments of a report. The rates of the open loop are not known yet, only its cells."""
    return [*designs(quick, seed), offered(quick, seed, 1.0)]


def _most_per_s(
    folder: Path,
    headline: Experiment,
    notify: Callable[[str], None],
    foreign_limit: float = FOREIGN_LIMIT,
) -> float:
    """What the studied library's BEGIN IMMEDIATE committed a second in the headline, by the median
    over its blocks; kept in campaign.json, so that whoever goes on asks for the same rates.

    0 where the headline has no such result. The file says so, and so does `notify`.
    """
    suite = read_suite(folder)
    if suite.offered_per_s:
        return suite.offered_per_s
    design = headline.design
    names = [a for a, plan in design.arms.items() if all(plan.get(k) == BRANCH[k] for k in BRANCH)]
    found = math.nan
    if names:
        counted = gather(headline, foreign_limit, only=names[:1])
        found = counted.arms[names[0]].estimate().value
    most = float(f"{found:.3g}") if found > 0 else 0.0
    why = (
        ""
        if most
        else "the headline has no usable run of its library's BEGIN IMMEDIATE to take rates of"
    )
    if why:
        notify(f"offered: not run, for {why}")
    skipped = {name: suite.skipped[name] for name in suite.skipped if name != OFFERED}
    write_suite(
        folder,
        msgspec.structs.replace(
            suite, offered_per_s=most or None, skipped=skipped | ({OFFERED: why} if why else {})
        ),
    )
    return most


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


def _trials(folder: Path, *, quick: bool, seed: int, notify: Callable[[str], None]) -> None:
    """Measure the trials of the claims, each once and in a process of its own.

    A quick report has those whose times count: the others wait for seconds, or play a long battery.
    """
    for name in trials_of_claims():
        timed = find_trial(name).timed
        if quick and not timed:
            continue
        # Who waits for a hang waits shortly here; `cwkit claims` waits longer for the same.
        trial(folder, name, quick=quick or not timed, seed=seed, notify=notify)


def trial(
    folder: Path, name: str, *, quick: bool, seed: int, notify: Callable[[str], None]
) -> None:
    """Measure a trial in a report's folder, once. What fails is told and stops nothing."""
    try:
        path = trial_folder(folder, name)
        if path.is_dir() and read_manifest(path).get("ended") == "done":
            return
        notify(f"{name}: {find_trial(name).story}")
        manifest = measure_trial(name, path, quick=quick, seed=seed)
    except (rec.RunError, OSError) as error:
        notify(f"{name}: could not be measured ({error}); the report goes on without it")
        return
    if manifest["ended"] != "done":
        notify(f"{name}: {manifest['failure'].rstrip('.')}; the report goes on without it")


def _note(
    folder: Path, *, quick: bool, seed: int, command: str, notify: Callable[[str], None]
) -> None:
    """Write campaign.json with the engines' answers, once."""
    path = folder / SUITE_FILE
    if path.exists():
        read_suite(folder)
        return
    asked = probe_all(
        [name for name in engine_names() if not name.startswith("faulty-")],
        notify=lambda name: notify(f"asking {name} what it is and what it accepts"),
    )
    suite = Suite(
        name=folder.name,
        quick=quick,
        seed=seed,
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        experiments=[design.name for design in planned(quick, seed)],
        probes=[to_dict(found) for found in asked.values()],
    )
    write_suite(folder, suite)
