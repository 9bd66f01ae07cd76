"""When a transaction could be refused, and what others committed meanwhile: exact, from the rows.

An attempt is vulnerable from its snapshot to its validation. SQLite's begin-concurrent takes the
snapshot at the first read and validates inside COMMIT, once it holds the write lock; Turso takes it
at BEGIN and validates each write as it is made. The rows of a run have the end of BEGIN, the end of
the body and the end of COMMIT, so:

- a window opens when BEGIN returned (for a transaction that works before its first statement, on
  an engine whose snapshot is the first read's: when its body had returned, since it opened its
  snapshot just before);
- the window of a refused attempt closes when the refusal was there;
- that of a committed one closes when it was validated, which no row says: after the body, and no
  later than COMMIT returned. `closes_ns` takes the run's median COMMIT after the body, since what
  is longer than that is mostly a checkpoint or a process that was preempted with its commit done;
  `latest_ns` takes the end. Waiting for the write lock lies between the two: between the two
  counts of others' commits, then, lies the true one.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workloads.engines import find_engine
from workloads.errors import NotTrusted, RunError, UnknownName
from workloads.records import BUSY, COMMITTED, CONFLICT, UPGRADE, Run, WorkerRecord
from workloads.runs import Plan, context_of, file_of
from workloads.scenarios import Footprint, Scenario, find_scenario

MOST_ROWS = 1 << 24
"""Most rows of a database that are looked at one by one: arrays of 128 MiB each."""

MOST_TOUCHES = 50_000_000
"""Rows that all transactions of a run touch, drawn again: a minute, and 400 MiB."""


class NoAnswer(RunError):
    """A run of which a model's question has no answer. why : the reason, without the run's name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.why = why


class NotLoaded(NoAnswer):
    """The answer needs a file of the user's that nobody but the folder has named."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Attempts that may be refused and are not `unknown`, of all writers: arrays of one length.

    worker    : index into run.role("writer"). txn : of that worker.
    first     : the transaction's first try. refused : another transaction was the reason.
    opens_ns, closes_ns, latest_ns : see above.
    others    : commits of other writers between opens_ns and closes_ns. others_latest : until
        latest_ns. All commits that may have written count, those of the warm-up too.
    overlapping : refused attempts of others that were under way at some time of this one.
    busy      : attempts left out because a lock was held, waited for or not (`upgrade`): no model
        of ours has them.
    commit_us : the median COMMIT that `closes_ns` is made with.
    """

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


def unit_of(run: Run) -> str:
    """The unit that the writers' engine validates: "page" or "row".

    Raises NoAnswer where its engine does not say, or the writers did not BEGIN CONCURRENT.
    """
    writers = run.role("writer")
    if not writers:
        raise NoAnswer(run.name, "it has no writers.")
    engine, begin = writers[0].engine, writers[0].begin
    if begin != "concurrent":
        why = (
            "waits for the one write lock, where BEGIN CONCURRENT is refused"
            if begin != "deferred"
            else "is refused for the one write lock, whatever else a transaction touches"
        )
        raise NoAnswer(
            run.name, f"BEGIN {begin.upper()} {why}; the model is of BEGIN CONCURRENT's refusals."
        )
    unit = unit_of_engine(run, engine)
    if not unit:
        raise NoAnswer(
            run.name,
            f"the engine {engine!r} does not say what a commit is refused over "
            '(`unit`: "page" or "row").',
        )
    return unit


def unit_of_engine(run: Run, engine: str) -> str:
    """The unit that an engine validates: by the run's manifest, or by our adapter for an older one.

    Raises NoAnswer where there is no such engine any more, or none that may be loaded.
    """
    entry = run.manifest.engines.get(engine)
    if entry and entry.has("unit"):
        return entry.unit
    try:
        return str(getattr(find_engine(engine), "unit", ""))
    except UnknownName as error:
        raise NoAnswer(run.name, str(error)) from error


def scenario_of(run: Run) -> tuple[Plan, Scenario]:
    """The plan and the scenario of a run, made again. Raises NoAnswer where they are not ours."""
    try:
        plan = Plan(**run.manifest.plan.data())
        shape = plan.shape()
        if shape.rows > MOST_ROWS:
            raise NoAnswer(run.name, f"its {shape.rows:,} rows are more than are looked at.")
        return plan, find_scenario(plan.scenario)(shape)
    except NoAnswer:
        raise
    except NotTrusted as error:
        command = shlex.join(["cwkit", "conflicts", run.name, "--load", file_of(plan.scenario)])
        raise NotLoaded(
            run.name,
            "what its transactions touched is not drawn again, so that the rows behind refusals "
            f"are not named and nothing is predicted: its scenario {plan.scenario!r} is a file, "
            f"and none is loaded only because a folder names it. To have it loaded: {command}",
        ) from error
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise NoAnswer(run.name, f"its workload cannot be made again ({reason}).") from error


def windows(run: Run, scenario: Any = None, footprint: Footprint | None = None) -> Windows:
    """Every attempt of a run that may be refused, with its window.

    scenario  : says which kinds work before their first statement (`late`).
    footprint : says which kinds of transactions may write; without it all of them count.
    """
    writers = run.role("writer")
    first_read = bool(writers) and unit_or_none(run) == "page"
    late = getattr(scenario, "late", ()) if first_read and _thinks(run) else ()
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
    return Windows(
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


def unit_or_none(run: Run) -> str:
    try:
        return unit_of(run)
    except NoAnswer:
        return ""


def _thinks(run: Run) -> bool:
    return bool(run.manifest.scenario.params.get("think_us"))


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
class Drawn:
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


def drawn(run: Run) -> Drawn:
    """Draw every writer's transactions again.

    Raises NoAnswer where the scenario does not say what a draw touches.
    """
    plan, scenario = scenario_of(run)
    touches: Any = getattr(scenario, "touches", None)
    if touches is None:
        raise NoAnswer(
            run.name,
            f"the scenario {plan.scenario!r} does not say which rows a transaction touches "
            "(`touches`).",
        )
    touched = transactions(run) * plan.shape().operations
    if touched > MOST_TOUCHES:
        raise NoAnswer(run.name, f"its transactions' {touched:,} operations are not drawn again.")
    tables: dict[str, int] = {}
    keys, wrote, offsets = [], [], []
    for worker in run.role("writer"):
        if worker.worker >= len(plan.roles()):
            raise NoAnswer(run.name, f"its plan has no worker {worker.worker}: it was edited.")
        draw = scenario.draw(context_of(plan, worker.worker))
        some: list[int] = []
        written: list[bool] = []
        ends = [0]
        for _ in range(_most_txn(worker) + 1):
            for table, row, write in touches(draw()):
                some.append((tables.setdefault(table, len(tables)) << 48) + row)
                written.append(write)
            ends.append(len(some))
        keys.append(np.array(some, np.int64))
        wrote.append(np.array(written, bool))
        offsets.append(np.array(ends, np.int64))
    return Drawn(tuple(tables), keys, wrote, offsets)


def transactions(run: Run) -> int:
    """How many transactions `drawn` has to draw again."""
    return sum(_most_txn(w) + 1 for w in run.role("writer"))


def _most_txn(worker: WorkerRecord) -> int:
    """The greatest number of a worker's transactions; -1 where it made none."""
    return max(int(rows["txn"].max()) if len(rows) else -1 for rows in worker.rows.pieces())
