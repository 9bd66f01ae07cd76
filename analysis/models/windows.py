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

A run may have 24 million attempts, so they are taken slice by slice: some attempts that are over,
with everybody who was under way at some time of theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from workloads.engines import find_engine
from workloads.errors import NotTrusted, RunError, UnknownName
from workloads.records import BUSY, COMMITTED, CONFLICT, PIECE_ROWS, UPGRADE, Run
from workloads.runs import Plan, file_of
from workloads.scenarios import Footprint, Scenario, find_scenario

MOST_ROWS = 1 << 24
"""Most rows of a database that are looked at one by one: arrays of 128 MiB each."""


class NoAnswer(RunError):
    """A run of which a model's question has no answer. why : the reason, without the run's name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.why = why


class NotLoaded(NoAnswer):
    """The answer needs a file of the user's that nobody but the folder has named."""


AT_ONCE = 1 << 18
"""Attempts of all writers that are in memory together, where their windows are short."""

LEAST_ROWS = 256
"""Attempts of one writer that are read at once, where there are very many writers."""

NEVER_NS = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Windows:
    """Some attempts that may be refused and are not `unknown`: arrays of one length.

    worker    : index into run.role("writer"). txn : of that worker.
    first     : the transaction's first try. refused : another transaction was the reason.
    opens_ns, closes_ns, latest_ns : see above.
    """

    worker: np.ndarray
    txn: np.ndarray
    first: np.ndarray
    refused: np.ndarray
    opens_ns: np.ndarray
    closes_ns: np.ndarray
    latest_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.refused)

    def columns(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def at(self, where: Any) -> Windows:
        """Those at some places: a slice, an array of places or one of bools."""
        return Windows(*(column[where] for column in self.columns()))

    @classmethod
    def joined(cls, parts: Sequence[Windows]) -> Windows:
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.columns() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True, eq=False)
class Slice:
    """Some attempts, and with them all others that were under way at some time of theirs.

    every : all of these, worker by worker, each worker's in the order they were made.
    asked : places of those that the slice is about. Each attempt of a run is asked about in one.
    """

    every: Windows
    asked: np.ndarray

    def about(self) -> Windows:
        """The attempts that the slice is about."""
        return self.every.at(self.asked)

    def others(self) -> np.ndarray:
        """For each asked one: commits of other writers between opens_ns and closes_ns.

        All commits that may have written count, those of the warm-up too.
        """
        return self._between(self.every.closes_ns)

    def others_latest(self) -> np.ndarray:
        """The same until latest_ns, each commit being counted when COMMIT returned."""
        return self._between(self.every.latest_ns)

    def _between(self, ends: np.ndarray) -> np.ndarray:
        every, asked = self.every, self.asked
        low, high, who = every.opens_ns[asked], ends[asked], every.worker[asked]
        committed = ~every.refused
        times, whose = ends[committed], every.worker[committed]
        found = _counted(np.sort(times), low, high)
        for worker in np.unique(who):
            mine = who == worker
            found[mine] -= _counted(np.sort(times[whose == worker]), low[mine], high[mine])
        return found

    def overlapping(self) -> np.ndarray:
        """For each asked one: refused attempts of others that share some time with it."""
        every, asked = self.every, self.asked
        low, high, who = every.opens_ns[asked], every.closes_ns[asked], every.worker[asked]
        lost = every.at(every.refused)
        found = _shared(lost, low, high)
        for worker in np.unique(who):
            mine = who == worker
            found[mine] -= _shared(lost.at(lost.worker == worker), low[mine], high[mine])
        return found


def _shared(lost: Windows, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    begun = np.searchsorted(np.sort(lost.opens_ns), high, side="left")
    found: np.ndarray = begun - np.searchsorted(np.sort(lost.closes_ns), low, side="right")
    return found


def _counted(times: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    upto = np.searchsorted(times, high, side="right")
    found: np.ndarray = np.maximum(upto - np.searchsorted(times, low, side="right"), 0)
    return found


def unit_of(run: Run) -> str:
    """The unit that the writers' engine validates: "page" or "row".

    Raises NoAnswer where its engine does not say, or the writers did not BEGIN CONCURRENT.
    """
    writers = run.role("writer")
    if not writers:
        raise NoAnswer(run.name, "it has no writers.")
    if len({writer.begin for writer in writers}) > 1:
        raise NoAnswer(
            run.name, "its writers begin in several modes; the model is of BEGIN CONCURRENT alone."
        )
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


class RunWindows:
    """Every attempt of a run that may be refused, with its window, slice by slice.

    many : how many they are. in_order : each worker's attempts follow one another, as those of a
        worker always do.
    busy : attempts left out because a lock was held, waited for or not (`upgrade`): no model of
        ours has them.
    commit_us : the median COMMIT that `closes_ns` is made with.
    """

    def __init__(self, run: Run, scenario: Any = None, footprint: Footprint | None = None) -> None:
        """All rows are looked at once.

        scenario  : says which kinds work before their first statement (`late`).
        footprint : says which kinds of transactions may write; without it all of them count.
        """
        self.writers = run.role("writer")
        first_read = bool(self.writers) and unit_or_none(run) == "page"
        self._late = getattr(scenario, "late", ()) if first_read and _thinks(run) else ()
        self._kinds = footprint.kinds if footprint else None
        self.many = self.busy = 0
        took = _Times(sum(len(worker.rows) for worker in self.writers))
        self.in_order = True
        for worker in self.writers:
            last = np.zeros(1, np.int64), np.zeros(1, np.int64)
            for rows in worker.rows.pieces():
                committed, busy, refused = self._which(rows)
                took.add((rows["end_ns"] - rows["worked_ns"])[committed])
                self.busy += int(busy.sum())
                last = self._follow(rows[committed | refused], *last)
        self._commit_ns = took.median()
        self.in_order &= self._commit_ns >= 0
        self.commit_us = self._commit_ns / 1e3

    def _which(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(committed, busy, refused): which of some rows are."""
        kinds = self._kinds
        may = np.ones(len(rows), bool) if kinds is None else np.isin(rows["kind"], kinds)
        lost = may & (rows["outcome"] == CONFLICT)
        busy = lost & np.isin(rows["conflict"], (BUSY, UPGRADE))
        return may & (rows["outcome"] == COMMITTED), busy, lost & ~busy & (rows["begun_ns"] > 0)

    def _follow(
        self, rows: np.ndarray, over: np.ndarray, txn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See whether a worker's rows follow each other. over, txn : of the last before them."""
        self.many += len(rows)
        opens, ends = self._opens(rows), rows["end_ns"]
        overs, txns = np.append(over, ends), np.append(txn, rows["txn"].astype(np.int64))
        # Then a window closes between the two, whatever the median COMMIT will be.
        latest = np.where(rows["outcome"] == COMMITTED, np.minimum(rows["worked_ns"], ends), ends)
        self.in_order &= bool(
            (opens >= overs[:-1]).all() and (latest >= opens).all() and (np.diff(txns) >= 0).all()
        )
        return overs[-1:], txns[-1:]

    def _opens(self, rows: np.ndarray) -> np.ndarray:
        slow = np.isin(rows["kind"], self._late) & (rows["worked_ns"] > 0)
        return np.where(slow, rows["worked_ns"], rows["begun_ns"])

    def _pieces(self, number: int, most: int) -> Iterator[Windows]:
        """One writer's attempts, some at a time, never none."""
        for rows in self.writers[number].rows.pieces(most):
            committed, _, refused = self._which(rows)
            if not (kept := committed | refused).any():
                continue
            some, was, ends = rows[kept], refused[kept], rows["end_ns"][kept]
            yield Windows(
                worker=np.full(len(some), number),
                txn=some["txn"].astype(np.int64),
                first=some["attempt"] == 1,
                refused=was,
                opens_ns=self._opens(some),
                closes_ns=np.where(
                    was, ends, np.minimum(ends, some["worked_ns"] + self._commit_ns)
                ),
                latest_ns=ends,
            )

    def slices(self, at_once: int = AT_ONCE) -> Iterator[Slice]:
        """All of them. at_once : so many are in memory together, where their windows are short.

        A small run has one slice, and so has one whose rows are in no order that a worker makes.
        """
        most = min(max(at_once // (len(self.writers) + 1), LEAST_ROWS), PIECE_ROWS)
        streams = {number: self._pieces(number, most) for number in range(len(self.writers))}
        if self.in_order and self.many > at_once:
            yield from _sliced(streams, most)
        elif parts := [part for stream in streams.values() for part in stream]:
            every = Windows.joined(parts)
            yield Slice(every, np.arange(len(every)))


def _sliced(live: dict[int, Iterator[Windows]], most: int) -> Iterator[Slice]:
    """Slices of several writers' attempts, of which each follows the one before."""
    kept: dict[int, Windows] = {}
    done = dict.fromkeys(live, 0)  # of those that are kept, so many were asked about
    waits = set(live)
    while live:
        for number in sorted(waits):
            piece = next(live[number], None)
            if piece is None:
                del live[number]
            else:
                kept[number] = Windows.joined([kept[number], piece] if number in kept else [piece])
        # Whatever is not read yet opens at `bound` or later: who was over before met none of it.
        bound = min((kept[number].opens_ns[-1] for number in live), default=NEVER_NS)
        every, asked, low, many = [], [], bound, 0
        for number in sorted(kept):
            mine = kept[number]
            upto = int(np.searchsorted(mine.latest_ns, bound))
            if upto < len(mine):
                low = min(low, mine.opens_ns[upto])
            asked.append(np.arange(many + done[number], many + upto))
            every.append(mine.at(slice(int(np.searchsorted(mine.opens_ns, bound)))))
            many += len(every[-1])
            done[number] = upto
        if sum(map(len, asked)):
            yield Slice(Windows.joined(every), np.concatenate(asked))
        for number, mine in list(kept.items()):
            # Those that were over before the windows yet to be asked about opened.
            gone = int(np.searchsorted(mine.latest_ns, low))
            kept[number] = mine.at(slice(gone, None))
            done[number] -= gone
        waits = {
            number
            for number in live
            if kept[number].opens_ns[-1] == bound or len(kept[number]) - done[number] < most // 2
        }


class _Times:
    """Up to so many times of which the median is asked for, 4 bytes each if most are short."""

    LONG = (1 << 32) - 1

    def __init__(self, most: int) -> None:
        self._short = np.empty(most, np.uint32)
        self._other: list[np.ndarray] = []  # 4.3 seconds and longer, or less than none
        self._many = 0

    def add(self, times: np.ndarray) -> None:
        odd = (times < 0) | (times >= self.LONG)
        if odd.any():
            self._other.append(times[odd])
            times = times[~odd]
        self._short[self._many : self._many + len(times)] = times
        self._many += len(times)

    def median(self) -> int:
        """As of numpy.median, without its fraction; 0 of none."""
        odd = np.sort(np.concatenate([np.zeros(0, np.int64), *self._other]))
        below = int(np.searchsorted(odd, 0))
        many = self._many + len(odd)
        if not many:
            return 0
        short = self._short[: self._many]
        middle = {(many - 1) // 2, many // 2}
        inner = [at - below for at in middle if 0 <= at - below < len(short)]
        if inner:
            short.partition(inner)
        picked = []
        for at in sorted(middle):
            if 0 <= at - below < len(short):
                picked.append(int(short[at - below]))
            else:
                picked.append(int(odd[at if at < below else at - len(short)]))
        return int(np.median(np.array(picked, np.int64)))


def unit_or_none(run: Run) -> str:
    try:
        return unit_of(run)
    except NoAnswer:
        return ""


def _thinks(run: Run) -> bool:
    return bool(run.manifest.scenario.params.get("think_us"))
