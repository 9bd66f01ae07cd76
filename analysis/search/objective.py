"""Whether an open loop at some rate meets an objective, such as "p99 < 10ms and abort-rate < 1%".

Latency counts from the moment a transaction was due, not from when a worker had time for it: a
closed loop that stalls stops asking, and reports the stall once where users would have met it a
thousand times (coordinated omission; Tene 2013). Who was due and never served counts too, as worse
than any limit. Nothing here starts a run: `load_of` reads one, analysis.search.search makes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis import wording
from analysis.counting import (
    GRACE_NS,
    SERVED,
    SMALL,
    Arrivals,
    NotDrawn,
    arrivals_of,
    merged,
    piece_rows,
    steady_state,
)
from analysis.statistics import Series
from workloads.errors import PlanError, shortened
from workloads.records import COMMITTED, CONFLICT, UNKNOWN, Run, WorkerRecord

UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
STATISTICS = (*SHARES, "max", "mean", "abort-rate")
FORM = re.compile(r"([a-z0-9.-]+)\s*<=?\s*([0-9]*\.?[0-9]+)\s*([a-zµ%]*)")

LONGEST_NS = 86_400 * UNITS_NS["s"]
"""No limit is longer: no run lasts longer."""

MEANS = 20
"""How long a transaction may be under way at the window's end without counting as not served: as
long as the objective lets it, so many times a mean's limit, GRACE_NS where no objective says it."""


class Objective(NamedTuple):
    """A limit for one statistic. limit : ns, or a share in [0, 1] for the abort rate."""

    statistic: str
    limit: float
    text: str

    @property
    def samples(self) -> int:
        """Transactions that it takes to say anything of it: 10 / (1 - p)."""
        if self.statistic in SHARES:
            return math.ceil(10 / (1 - SHARES[self.statistic]) - 1e-6)
        return 100

    @property
    def grace_ns(self) -> int:
        """How long before the window's end a transaction is too late to be judged by it."""
        if self.statistic == "abort-rate":
            return GRACE_NS
        return int(self.limit * (MEANS if self.statistic == "mean" else 1))

    def value_text(self, value: float) -> str:
        """A value of the statistic with its unit."""
        if math.isinf(value):
            return "never"
        return wording.percent(value) if self.statistic == "abort-rate" else wording.duration(value)


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives of --slo, joined by "and". Raises PlanError that says what is wrong.

    >>> [objective[:2] for objective in parse_objectives("p99 < 10ms and abort-rate < 1%")]
    [('p99', 10000000.0), ('abort-rate', 0.01)]
    """
    made = []
    for part in re.split(r"\s+and\s+|\s*,\s*", text.strip()):
        match = FORM.fullmatch(part.strip().lower())
        if match is None:
            raise PlanError(
                f'--slo {text!r}: {part!r} is no objective. Give "p99 < 10ms", several joined by '
                f"`and`; there are {', '.join(STATISTICS)}, in {', '.join(UNITS_NS)} or %."
            )
        statistic, number, unit = match.groups()
        if statistic not in STATISTICS:
            raise PlanError(
                f"--slo {text!r}: there is no {statistic!r}. There are {', '.join(STATISTICS)}."
            )
        share = statistic == "abort-rate"
        if (share and unit not in ("%", "")) or (not share and unit not in UNITS_NS):
            known = "%" if share else ", ".join(UNITS_NS)
            raise PlanError(f"--slo {text!r}: {part!r} needs a unit: {known}.")
        limit = float(number) * (UNITS_NS[unit] if not share else 0.01 if unit else 1.0)
        if limit <= 0 or (share and limit > 1):
            raise PlanError(f"--slo {text!r}: {part!r} can never be met, or always is.")
        if not share and limit > LONGEST_NS:
            raise PlanError(
                f"--slo: {shortened(part)} allows more than a day. Give a shorter time."
            )
        made.append(Objective(statistic, limit, part.strip()))
    return tuple(made)


@dataclass(frozen=True)
class Load:
    """A load: when each transaction was due and when it was done; times in ns on the run's clock.

    pieces : gives (due, done) in turn, in the order of `due`: int64 arrays of one length, the
        intended starts, and the ends of the COMMITs that succeeded; 0 where none did. May be asked
        for again.
    first, stop : the measured window. refused, finished : attempts of it, for the abort rate.
    """

    pieces: Callable[[], Iterator[tuple[np.ndarray, ...]]]
    first: int
    stop: int
    refused: int = 0
    finished: int = 0

    @classmethod
    def of(cls, due: np.ndarray, done: np.ndarray, *more: int, **counts: int) -> Load:
        """A load that is in memory."""
        return cls(lambda: iter([(due, done)]), *more, **counts)

    @property
    def due(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(due for due, _ in self.pieces())])

    @property
    def done(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(done for _, done in self.pieces())])


class Figure(NamedTuple):
    """One statistic of a load: its value, and whether it meets its limit. None: too few samples."""

    value: float
    met: bool | None


@dataclass(frozen=True)
class Judgement:
    """A load judged by its objectives.

    met        : every objective was met, at the rate that was asked for; None: cannot be told.
    why        : what was not met, in words.
    due_per_s, served_per_s : transactions a second that were due in the window, and those of them
        that were committed in time for the window's end.
    served     : share of those due. latencies_ns : floats, in the order of time; infinite for who
        was never served.
    figures    : text of the objective -> Figure.
    """

    met: bool | None
    why: tuple[str, ...]
    due_per_s: float
    served_per_s: float
    served: float
    latencies_ns: Series
    abort_rate: float
    figures: dict[str, Figure]


def judge(load: Load, objectives: Sequence[Objective]) -> Judgement:
    """Does this load meet every objective, at the rate that was asked for?

    Transactions due in the window count, but for those so near its end that they may still be
    within the limit. At least SERVED of them must have been committed when it closed. A queue that
    grows shows late: each latency objective must hold for the second half of the window alone, too,
    where that has enough samples. Whoever was due and not served by then is beyond every limit.
    """
    end = load.stop - max(objective.grace_ns for objective in objectives)
    many = in_time = early = 0
    for due, done in load.pieces():
        counted = (due >= load.first) & (due < end)
        many += int(counted.sum())
        in_time += int((counted & (done > 0) & (done <= load.stop)).sum())
        early += int((counted & (due < load.first + (end - load.first) // 2)).sum())
    latencies, late = _latencies(load, end, many), _latencies(load, end, many, early)
    seconds = max(end - load.first, 0) / 1e9
    served = in_time / many if many else math.nan
    abort_rate = load.refused / load.finished if load.finished else math.nan
    figures, why = {}, []
    if many and served < SERVED:
        why.append(f"only {wording.percent(served)} of the transactions due were served in time")
    for objective in objectives:
        figure = _figure(objective, latencies, load)
        figures[objective.text] = figure
        if figure.met is False:
            why.append(f"{objective.statistic} was {objective.value_text(figure.value)}")
        elif figure.met and objective.statistic != "abort-rate":
            half = _figure(objective, late, load)
            if half.met is False:
                grown = objective.value_text(half.value)
                why.append(f"{objective.statistic} grew to {grown} in the second half")
    unknown = any(figure.met is None for figure in figures.values())
    return Judgement(
        met=False if why else None if unknown or not many else True,
        why=tuple(why),
        due_per_s=many / seconds if seconds else math.nan,
        served_per_s=in_time / seconds if seconds else math.nan,
        served=served,
        latencies_ns=latencies,
        abort_rate=abort_rate,
        figures=figures,
    )


def _latencies(load: Load, end: int, many: int, early: int = 0) -> Series:
    """The latencies of the `many` transactions that were due from the window's first moment to
    `end`, floats in the order of time, but for the first `early`.
    """

    def pieces() -> Iterator[np.ndarray]:
        left = early
        for due, done in load.pieces():
            counted = (due >= load.first) & (due < end)
            due, done = due[counted][left:], done[counted][left:]
            left -= min(left, int(counted.sum()))
            yield np.where(done > 0, done - due, np.inf)

    def values() -> np.ndarray:
        found = np.empty(many - early)
        at = 0
        for part in pieces():
            found[at : at + len(part)] = part
            at += len(part)
        return found

    return Series(many - early, values, pieces)


def _figure(objective: Objective, latencies: Series, load: Load) -> Figure:
    rate = objective.statistic == "abort-rate"
    if (load.finished if rate else latencies.size) < objective.samples:
        return Figure(math.nan, None)
    if rate:
        value = load.refused / load.finished
        return Figure(value, value < objective.limit)
    value = statistic(objective.statistic, latencies)
    return Figure(value, value < objective.limit)


def statistic(name: str, latencies_ns: ArrayLike | Series) -> float:
    """A statistic of latencies of which some may be infinite: percentiles are values by rank."""
    series = Series.of(latencies_ns)
    if not series.size:
        return math.nan
    values = series.values()
    if name == "mean":
        return float(values.mean())
    if name == "max":
        return float(values.max())
    return float(np.quantile(values, SHARES[name], method="inverted_cdf", overwrite_input=True))


def load_of(run: Run, role: str = "writer") -> Load:
    """The load of one run of an open loop: its arrivals, and how each ended.

    The arrivals are drawn again from the seed, as the workers drew them: a worker that fell behind
    has no row for what it never came to. Raises RunError where the run is no open loop, or its
    rows are not those that its seed draws.
    """
    if not run.role(role):
        raise NotDrawn(run.name, f"it has no {role}s.")
    _, stop = run.window_ns
    first = steady_state(run).window_ns[0]
    arrivals = [(worker, arrivals_of(run, worker)) for worker in run.role(role)]
    refused = finished = 0
    for worker, asked in arrivals:
        for rows in worker.rows.pieces():
            inside = rows[
                (rows["txn"] < asked.size) & (rows["end_ns"] >= first) & (rows["end_ns"] <= stop)
            ]
            refused += int((inside["outcome"] == CONFLICT).sum())
            finished += int((inside["outcome"] != UNKNOWN).sum())
    if sum(asked.size for _, asked in arrivals) <= SMALL:
        kept = list(_loads(arrivals))
        return Load(lambda: iter(kept), first, stop, refused, finished)
    return Load(lambda: _loads(arrivals), first, stop, refused, finished)


def _loads(
    arrivals: Sequence[tuple[WorkerRecord, Arrivals]],
) -> Iterator[tuple[np.ndarray, ...]]:
    """(due, done) of several workers together, in the order of `due`; see `Load`."""
    most = piece_rows(len(arrivals))
    return merged([_load(worker, asked, most) for worker, asked in arrivals])


def _load(
    worker: WorkerRecord, arrivals: Arrivals, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first, due, rows, _ in arrivals.beside(worker, most):
        at = rows["txn"].astype(np.int64) - first
        committed = (at < due.size) & (rows["outcome"] == COMMITTED)
        done = np.zeros(due.size, np.int64)
        done[at[committed]] = rows["end_ns"][committed]
        yield due, done
