"""What is made slice by slice is what is made of a whole run at once: windows, model and blame.

The way with all attempts and all touches in memory is kept here, as the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from analysis.models import attribution, conflicts, windows
from analysis.models.attribution import Blame, BlamedRow, blame
from analysis.models.conflicts import predict
from analysis.models.touches import Drawn
from analysis.models.windows import RunWindows, Slice, scenario_of, unit_of
from analysis.synthetic import drawn_run, made_run, made_worker, optimistic_run, write_folder
from workloads.engines import find_engine, leaf_of_rows
from workloads.records import (
    ATTEMPT,
    BUSY,
    COMMITTED,
    CONFLICT,
    UNKNOWN,
    UPGRADE,
    Run,
    Tree,
    read_run,
)
from workloads.runs import context_of, make_plan
from workloads.runs import run as run_now
from workloads.scenarios import Footprint, NoFootprint

COLUMNS = ("worker", "txn", "first", "refused", "opens_ns", "closes_ns", "latest_ns")


def in_slices(look: RunWindows, at_once: int) -> tuple[dict[str, np.ndarray], int]:
    """What the slices say of all attempts, in the order of the rows, and how many slices."""
    parts: dict[str, list[np.ndarray]] = {}
    many = 0
    for some in look.slices(at_once):
        about = some.about()
        told = {name: getattr(about, name) for name in COLUMNS} | {
            "others": some.others(),
            "others_latest": some.others_latest(),
            "overlapping": some.overlapping(),
        }
        for name, column in told.items():
            parts.setdefault(name, []).append(column)
        many += 1
    columns = {name: np.concatenate(several) for name, several in parts.items()}
    order = np.argsort(columns.get("worker", np.zeros(0)), kind="stable")
    return {name: column[order] for name, column in columns.items()}, many


def differences(run: Run, at_once: int) -> list[str]:
    """Columns that differ from those of the whole run."""
    wanted, look = whole_windows(run), RunWindows(run)
    found, _ = in_slices(look, at_once)
    wrong = [
        name
        for name in (*COLUMNS, "others", "others_latest", "overlapping")
        if len(wanted) and not np.array_equal(found[name], getattr(wanted, name))
    ]
    return wrong + [name for name in ("busy", "commit_us")
                    if getattr(look, name) != getattr(wanted, name)]  # fmt: skip


def closed_loops(rng: np.random.Generator, *, grain: int, sound: bool = True) -> Run:
    """Writers whose attempts follow each other, with times so coarse that many are the same."""
    workers = []
    for number in range(int(rng.integers(1, 6))):
        rows = np.zeros(int(rng.integers(0, 60)), ATTEMPT)
        steps = rng.integers(0, rng.integers(1, 6) + 1, (len(rows), 4)) * grain
        steps[rng.random(len(rows)) < 0.05] *= 20  # preempted
        times = 10**9 + np.cumsum(steps.ravel()).reshape(-1, 4)
        for column, name in enumerate(("start_ns", "begun_ns", "worked_ns", "end_ns")):
            rows[name] = times[:, column]
        rows["intended_ns"] = rows["start_ns"]
        rows["outcome"] = rng.choice([COMMITTED, CONFLICT, UNKNOWN], len(rows), p=[0.6, 0.35, 0.05])
        lost = rows["outcome"] == CONFLICT
        rows["conflict"] = np.where(lost, rng.choice([BUSY, 2, UPGRADE, 2, 2], len(rows)), 0)
        rows["worked_ns"][lost & (rng.random(len(rows)) < 0.3)] = 0
        rows["begun_ns"][lost & (rows["worked_ns"] == 0) & (rng.random(len(rows)) < 0.3)] = 0
        again = np.append(False, lost[:-1])[: len(rows)]
        rows["txn"] = np.maximum(np.cumsum(~again) - 1, 0)
        rows["attempt"] = 1 + again
        if not sound and len(rows):
            rng.shuffle(rows)
        workers.append(made_worker(number, rows, engine="sqlite-concurrent", begin="concurrent"))
    return made_run(workers)


@pytest.fixture
def finely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two rows, so that slices are many."""
    monkeypatch.setattr(windows, "LEAST_ROWS", 2)


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize(
    ("sound", "cases"),
    [
        pytest.param(True, 60, id="closed loops"),
        pytest.param(False, 40, id="rows in no order"),
        pytest.param(True, 5000, id="many closed loops", marks=pytest.mark.slow),
    ],
)
def test_slices_say_of_each_attempt_what_the_whole_run_says(sound: bool, cases: int) -> None:
    rng = np.random.default_rng([28, sound])
    sliced = 0
    for case in range(cases):
        run = closed_loops(rng, grain=int(rng.choice([1, 10, 3_000_000_000])), sound=sound)
        at_once = int(rng.choice([1, 4, 16, 60]))
        assert differences(run, at_once) == [], f"case {case}"
        sliced += sum(1 for _ in RunWindows(run).slices(at_once)) > 3
    assert sliced > cases / 2 if sound else sliced < cases / 5


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("gone", ["who is still under way", "who was under way before"])
def test_a_slice_without_someone_who_was_under_way_is_seen(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above can fail: a slice that holds only those it is about, or no later one."""
    real = windows._sliced

    def poorer(*args: Any) -> Iterator[Slice]:
        for some in real(*args):
            every, asked = some.every, some.asked
            last, first = every.latest_ns[asked].max(), every.opens_ns[asked].min()
            kept = every.opens_ns < last if gone == "who was under way before" else None
            if kept is not None:
                kept = np.isin(np.arange(len(every)), asked) | (every.opens_ns > first)
            else:
                kept = every.latest_ns <= last
            kept[asked] = True
            yield Slice(every.at(kept), np.cumsum(kept)[asked] - 1)

    rng = np.random.default_rng(5)
    runs = [closed_loops(rng, grain=10) for _ in range(40)]
    monkeypatch.setattr(windows, "_sliced", poorer)
    assert sum(bool(differences(run, 4)) for run in runs) > 4


def test_the_median_of_times_is_numpys() -> None:
    rng = np.random.default_rng(3)
    for _ in range(3000):
        times = rng.integers(-3, 8, int(rng.integers(0, 12))) * int(rng.choice([1, 7, 1 << 30]))
        kept = windows._Times(len(times))
        for part in np.array_split(times, 3):
            kept.add(part)
        assert kept.median() == (int(np.median(times)) if len(times) else 0)


RUNS: dict[str, dict[str, Any]] = {
    "by page": {"keys": "zipfian:0.99", "uneven": 0.05},
    "by page, late commits": {"slow_commits": 0.05, "rows": 200, "mix": "read=1,update=1"},
    "by page, four operations": {"keys": "zipfian:1.2", "operations": 4, "retry": True},
    "by row": {"unit": "row", "keys": "zipfian:0.8", "rows": 50},
    "by row, four operations": {"unit": "row", "keys": "zipfian:0.99", "operations": 4},
    "alone": {"writers": 1},
}


def blames_differ(run: Run) -> str:
    """What of the rows behind refusals is another than with all in memory; "" for nothing."""
    _, wanted = whole_blame(run)
    found = blame(run)
    for name in (*attribution.COUNTED, "unit"):
        if getattr(found, name) != getattr(wanted, name):
            return name
    if [row[:2] for row in found.rows] != [row[:2] for row in wanted.rows]:
        return "the order of the rows"
    if [row.refusals for row in found.rows] != pytest.approx(
        [row.refusals for row in wanted.rows], rel=1e-12
    ):
        return "refusals of a row"
    return ""


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("name", RUNS)
def test_blame_and_model_by_slices_are_those_of_the_whole_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, at_once in ((0, 40), (1, 500)):
        monkeypatch.setattr(attribution, "AT_ONCE", at_once)
        monkeypatch.setattr(RunWindows.slices, "__defaults__", (at_once,))
        run = optimistic_run(**RUNS[name], seconds=0.15 if at_once == 40 else 0.3, seed=seed)
        look = RunWindows(run)
        assert sum(1 for _ in look.slices(at_once)) > 1 or look.many <= at_once
        assert blames_differ(run) == ""
        predicted_alike(run)


def predicted_alike(run: Run) -> None:
    unit = unit_of(run)
    _, scenario = scenario_of(run)
    footprint: Footprint = scenario.footprint()  # type: ignore[attr-defined]
    places = conflicts.chances(footprint, unit, run.manifest.layout.loaded)
    split = conflicts.splits_of(run, footprint) if unit == "page" else (0.0, 1)
    whole, found = whole_windows(run, scenario, footprint), predict(run)
    for at, side in ((np.ones(len(whole), bool), found.every), (whole.first, found.first)):
        part = whole_part(whole, at, places, split, footprint.held, unit)
        wanted = conflicts._side([part])
        assert (side.attempts, side.refused) == (wanted.attempts, wanted.refused)
        assert (side.m, side.m_latest) == (wanted.m, wanted.m_latest)
        for form, value in wanted.predicted.items():
            assert side.predicted[form] == pytest.approx(value, rel=1e-12), form
        assert side.latest == pytest.approx(wanted.latest, rel=1e-12)


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("wrong", ["a touch", "a slice's neighbours", "a share of the blame"])
def test_a_wrong_blame_is_seen(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = optimistic_run(unit="row", keys="zipfian:0.99", operations=4, seconds=0.15)
    monkeypatch.setattr(attribution, "AT_ONCE", 64)
    assert blames_differ(run) == ""
    if wrong == "a touch":
        real = Drawn.of
        monkeypatch.setattr(
            Drawn, "of",
            lambda self, some: tuple(column[:-1] for column in real(self, some)),
        )  # fmt: skip
    elif wrong == "a slice's neighbours":
        sliced = windows._sliced
        monkeypatch.setattr(
            windows, "_sliced",
            lambda *args: (Slice(some.about(), np.arange(len(some.asked)))
                           for some in sliced(*args)),
        )  # fmt: skip
    else:
        add = attribution._Guilt.add
        monkeypatch.setattr(
            attribution._Guilt, "add", lambda self, key, parts: add(self, key, parts * 0 + 1)
        )
    assert blames_differ(run)


def test_tables_are_in_the_order_in_which_the_first_writer_met_them() -> None:
    touched = Drawn(optimistic_run(seconds=0.01, writers=2))
    touched.tables = ["b", "a", "c"]  # as slices asked for them
    first, second = touched._writers
    first.bases, second.bases = {"a": 1 << 48}, {"b": 0, "a": 1 << 48, "c": 2 << 48}
    keys = np.array([5, (1 << 48) - 1, (2 << 48) + 7])
    assert touched.ranks(keys).tolist() == [(1 << 48) + 5, -1, (2 << 48) + 7]


@pytest.mark.parametrize("engine", ["sqlite-concurrent", "turso"])
@pytest.mark.usefixtures("finely")
def test_a_real_run_is_judged_alike(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing := find_engine(engine).missing():
        pytest.skip(missing)
    plan = make_plan(
        scenario="register", database=engine, begin="concurrent", writers=3, transactions=300,
        duration_s=60, params={"rows": 50, "mix": "read=1,update=2,insert=1", "operations": 2},
    )  # fmt: skip
    run = run_now(plan, tmp_path)
    monkeypatch.setattr(attribution, "AT_ONCE", 32)
    monkeypatch.setattr(RunWindows.slices, "__defaults__", (32,))
    assert RunWindows(run).in_order
    assert differences(run, 32) == []
    assert blames_differ(run) == ""
    predicted_alike(run)


def test_rows_of_a_run_that_overlap_within_a_worker_are_taken_at_once(tmp_path: Path) -> None:
    """Made-up ones, and edited ones: no order of theirs is relied on."""
    run = read_run(
        write_folder(
            drawn_run(3, abort=0.2, engine="sqlite-concurrent", begin="concurrent"),
            tmp_path / "run",
        )
    )
    look = RunWindows(run)
    assert not look.in_order and look.many
    assert len(list(look.slices(4))) == 1
    assert differences(run, 4) == []


# --- the other side: everything in memory ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Whole:
    """Attempts of all writers: arrays of one length."""

    worker: np.ndarray
    txn: np.ndarray
    first: np.ndarray
    refused: np.ndarray
    opens_ns: np.ndarray
    closes_ns: np.ndarray
    latest_ns: np.ndarray
    others: np.ndarray
    others_latest: np.ndarray
    overlapping: np.ndarray
    busy: int
    commit_us: float

    def __len__(self) -> int:
        return len(self.refused)


def whole_windows(run: Run, scenario: Any = None, footprint: Footprint | None = None) -> Whole:
    """Every attempt of a run that may be refused, with its window.

    scenario  : says which kinds work before their first statement (`late`).
    footprint : says which kinds of transactions may write; without it all of them count.
    """
    writers = run.role("writer")
    first_read = bool(writers) and windows.unit_or_none(run) == "page"
    late = getattr(scenario, "late", ()) if first_read and windows._thinks(run) else ()
    rows = np.concatenate([w.attempts for w in writers])
    worker = np.repeat(np.arange(len(writers)), [len(w.attempts) for w in writers])
    may = np.isin(rows["kind"], footprint.kinds) if footprint else np.ones(len(rows), bool)
    committed = may & (rows["outcome"] == COMMITTED)
    busy = may & (rows["outcome"] == CONFLICT) & np.isin(rows["conflict"], (BUSY, UPGRADE))
    refused = may & (rows["outcome"] == CONFLICT) & ~busy & (rows["begun_ns"] > 0)

    took = (rows["end_ns"] - rows["worked_ns"])[committed]
    commit_ns = int(np.median(took)) if len(took) else 0
    validated = np.minimum(rows["end_ns"], rows["worked_ns"] + commit_ns)
    kept = np.flatnonzero(committed | refused)
    some, who, was = rows[kept], worker[kept], refused[kept]
    slow = np.isin(some["kind"], late) & (some["worked_ns"] > 0)
    opens = np.where(slow, some["worked_ns"], some["begun_ns"])
    closes = np.where(was, some["end_ns"], validated[kept])
    return Whole(
        worker=who,
        txn=some["txn"].astype(np.int64),
        first=some["attempt"] == 1,
        refused=was,
        opens_ns=opens,
        closes_ns=closes,
        latest_ns=some["end_ns"],
        others=_between(validated[committed], worker[committed], opens, closes, who),
        others_latest=_between(
            rows["end_ns"][committed], worker[committed], opens, some["end_ns"], who
        ),
        overlapping=_overlapping(opens, closes, who, was),
        busy=int(busy.sum()),
        commit_us=commit_ns / 1e3,
    )


def _between(
    times: np.ndarray, whose: np.ndarray, low: np.ndarray, high: np.ndarray, who: np.ndarray
) -> np.ndarray:
    """How many of `times`, each of the worker `whose`, lie in (low, high] and are another's."""
    found = _counted(np.sort(times), low, high)
    for worker in np.unique(who):
        mine = who == worker
        found[mine] -= _counted(np.sort(times[whose == worker]), low[mine], high[mine])
    return found


def _counted(times: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    upto = np.searchsorted(times, high, side="right")
    found: np.ndarray = np.maximum(upto - np.searchsorted(times, low, side="right"), 0)
    return found


def _overlapping(
    opens: np.ndarray, closes: np.ndarray, who: np.ndarray, refused: np.ndarray
) -> np.ndarray:
    """Refused attempts of other workers that share some time with each attempt."""

    def shared(begins: np.ndarray, ends: np.ndarray, at: np.ndarray) -> np.ndarray:
        begun = np.searchsorted(np.sort(begins), closes[at], side="left")
        over = np.searchsorted(np.sort(ends), opens[at], side="right")
        found: np.ndarray = begun - over
        return found

    everyone = np.ones(len(who), bool)
    found = shared(opens[refused], closes[refused], everyone)
    for worker in np.unique(who):
        mine = who == worker
        found[mine] -= shared(opens[refused & mine], closes[refused & mine], mine)
    return found


@dataclass(frozen=True, eq=False)
class WholeDrawn:
    """The rows that each transaction of each writer touches, drawn again from the run's seed.

    tables  : names; a row's key is its table's index here << 48, plus its id (which may be -1).
    keys    : int64 arrays, one for each writer: the keys of its transactions one after the other.
    wrote   : bool arrays beside them.
    offsets : int64 arrays, shape (transactions + 1,): where each transaction's keys begin.
    """

    tables: tuple[str, ...]
    keys: Sequence[np.ndarray]
    wrote: Sequence[np.ndarray]
    offsets: Sequence[np.ndarray]

    def of(self, worker: np.ndarray, txn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All touches of some transactions: (index into the arguments, key, wrote)."""
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for number, offsets in enumerate(self.offsets):
            at = np.flatnonzero(worker == number)
            begins, many = offsets[txn[at]], np.diff(offsets)[txn[at]]
            # The places begins[i], begins[i] + 1, … of each, without a loop over transactions.
            skipped = np.repeat(np.cumsum(many) - many, many)
            places = np.repeat(begins, many) + np.arange(many.sum()) - skipped
            parts.append(
                (np.repeat(at, many), self.keys[number][places], self.wrote[number][places])
            )
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]

    def named(self, key: int) -> tuple[str, int]:
        """(table, id) of a key."""
        table = (key + (1 << 47)) >> 48
        return self.tables[table], key - (table << 48)


def drawn(run: Run) -> WholeDrawn:
    plan, scenario = scenario_of(run)
    touches: Any = scenario.touches  # type: ignore[attr-defined]
    tables: dict[str, int] = {}
    keys, wrote, offsets = [], [], []
    for worker in run.role("writer"):
        draw = scenario.draw(context_of(plan, worker.worker))
        some: list[int] = []
        written: list[bool] = []
        ends = [0]
        for _ in range(int(worker.attempts["txn"].max()) + 1 if len(worker.rows) else 0):
            for table, row, write in touches(draw()):
                some.append((tables.setdefault(table, len(tables)) << 48) + row)
                written.append(write)
            ends.append(len(some))
        keys.append(np.array(some, np.int64))
        wrote.append(np.array(written, bool))
        offsets.append(np.array(ends, np.int64))
    return WholeDrawn(tuple(tables), keys, wrote, offsets)


def whole_blame(run: Run) -> tuple[Whole, Blame]:
    """The rows behind refusals, with every touch in memory."""
    unit = unit_of(run)
    _, scenario = scenario_of(run)
    touched = drawn(run)
    try:
        footprint = scenario.footprint() if hasattr(scenario, "footprint") else None
    except NoFootprint:
        footprint = None
    found = whole_windows(run, scenario, footprint)
    index, key, wrote = touched.of(found.worker, found.txn)
    writing = attribution._any(wrote, index, len(found))
    if unit == "row":
        index, key = index[wrote], key[wrote]
    writes = _writes(found, touched)
    seen = _lost_to(found, writes, index, key)
    by_row = attribution._any(seen, index, len(found))
    by_page = np.zeros(len(found), bool)
    if unit == "page" and footprint is not None:
        leaf = _leaf_of_keys(run, touched, footprint.table)
        pages = _Writes(writes.attempt, leaf(writes.key), writes.at_ns, writes.worker)
        on_leaf = leaf(key)
        known = on_leaf >= 0
        hit = _lost_to(found, pages, index[known], on_leaf[known])
        by_page = attribution._any(hit, index[known], len(found)) & ~by_row
    by_hold = np.zeros(len(found), bool)
    if unit == "row":
        holding = _held(found, touched, index, key) & ~seen
        by_hold = attribution._any(holding, index, len(found)) & ~by_row
        seen |= holding & by_hold[index]
    refused = found.refused
    guilty = seen & refused[index]
    return found, Blame(
        unit=unit,
        refused=int(refused.sum()),
        row=int((refused & by_row).sum()),
        page=int((refused & by_page).sum()),
        held=int((refused & by_hold).sum()),
        unexplained=int((refused & ~by_row & ~by_page & ~by_hold).sum()),
        rows=_ranked(touched, index[guilty], key[guilty]),
        committed=int((~refused & writing).sum()),  # one that only reads is never refused
        spared=int((~refused & writing & (by_row | by_page)).sum()),
    )


class _Writes(NamedTuple):
    """Places that committed transactions wrote: arrays of one length."""

    attempt: np.ndarray
    key: np.ndarray
    at_ns: np.ndarray
    worker: np.ndarray


def _writes(found: Whole, touched: WholeDrawn) -> _Writes:
    did = np.flatnonzero(~found.refused)
    at, key, wrote = touched.of(found.worker[did], found.txn[did])
    attempt = did[at[wrote]]
    return _Writes(attempt, key[wrote], found.closes_ns[attempt], found.worker[attempt])


def _lost_to(found: Whole, writes: _Writes, index: np.ndarray, key: np.ndarray) -> np.ndarray:
    """For each touch (attempt `index`, place `key`): has another written it meanwhile?"""
    marks = attribution._Marks(writes.key, writes.at_ns, writes.worker)
    who = found.worker[index]
    upto = marks.others(key, who, found.closes_ns[index])
    before = marks.others(key, who, found.opens_ns[index])
    lost: np.ndarray = upto > before
    return lost


def _held(found: Whole, touched: WholeDrawn, index: np.ndarray, key: np.ndarray) -> np.ndarray:
    """For each touch: was another attempt that writes the same row under way at some time?"""
    everyone = np.arange(len(found))
    at, other, wrote = touched.of(found.worker, found.txn)
    at, other = everyone[at[wrote]], other[wrote]
    who = found.worker[index]
    begun = attribution._Marks(other, found.opens_ns[at], found.worker[at])
    over = attribution._Marks(other, found.closes_ns[at], found.worker[at])
    shared: np.ndarray = begun.others(key, who, found.closes_ns[index]) > over.others(
        key, who, found.opens_ns[index]
    )
    return shared


def _leaf_of_keys(run: Run, touched: WholeDrawn, table: str) -> Any:
    """Key -> leaf page as loaded, -1 where it is not known; new rows lie on the last page."""
    tree = run.manifest.layout.loaded.get(f"table {table}")
    try:
        leaf = leaf_of_rows(tree) if isinstance(tree, Tree) else np.zeros(0, np.int64)
    except ValueError:
        leaf = np.zeros(0, np.int64)
    first = touched.tables.index(table) << 48 if table in touched.tables else 0

    def of(key: np.ndarray) -> np.ndarray:
        if not len(leaf):
            return np.full(len(key), -1)
        row = key - first
        inside = (row >= 0) & (row < 1 << 47)
        return np.where(inside, leaf[np.clip(row, 0, len(leaf) - 1)], -1)

    return of


def _ranked(touched: WholeDrawn, index: np.ndarray, key: np.ndarray) -> tuple[BlamedRow, ...]:
    """Rows by refusals; an attempt with several rows gives each an equal part."""
    if not len(index):
        return ()
    parts = 1 / np.bincount(index)[index]
    keys, which = np.unique(key, return_inverse=True)
    sums = np.bincount(which, parts)
    order = np.lexsort((keys, -np.round(sums, 9)))
    return tuple(BlamedRow(*touched.named(int(keys[at])), refusals=float(sums[at])) for at in order)


def whole_part(
    found: Whole,
    at: np.ndarray,
    places: conflicts.Chances,
    split: tuple[float, int],
    held: float,
    unit: str,
) -> conflicts._Part:
    r, w, share = places.of_transaction()
    overlap = float((r * w).sum())
    m, m_latest = found.others[at].astype(float), found.others_latest[at].astype(float)
    count = len(m)
    if not count:
        return conflicts._Part(0, 0, 0.0, 0.0, dict.fromkeys(conflicts.FORMS, 0.0), 0.0)

    # Where two overlap and share a row, the second to write it is refused. One that is refused
    # itself held only a part of its rows, and half the time it came second.
    more = held / 2 * found.overlapping[at] if unit == "row" else 0.0
    forms = {
        "mean": share * count * float(-np.expm1(-m.mean() * overlap)),
        "windows": share * float(-np.expm1(-m * overlap).sum()),
        "whole": share * count * conflicts._over_rows(places, split, m + more, np.ones(count)),
    }
    latest = share * count * conflicts._over_rows(places, split, m_latest + more, np.ones(count))
    refused = int(found.refused[at].sum())
    return conflicts._Part(count, refused, float(m.sum()), float(m_latest.sum()), forms, latest)
