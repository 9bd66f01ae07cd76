"""A model of refused transactions: predicted from what they touch, held against what was seen.

P = 1 - exp(-m * sum over p of r_p * w_p), where m is the number of others' commits within the
transaction's window (analysis.models.windows), r_p the chance that it touches p, and w_p the
chance that one of those commits wrote p. p runs over leaf pages on an engine that validates pages
(what it read counts), over rows on one that validates rows (only what it writes counts). The
chances come from the scenario and its key distribution, the rows of a page from the loaded file;
nothing is fitted. The windows are the run's own, and `whole` also takes its splits and its
refusals as they were: the model explains what was seen, and does not foretell it.

Three forms are computed, from coarse to fine:

mean    : the formula as it stands, with the mean m. One number for all transactions.
windows : its mean over the attempts, each with its own m. Windows are very uneven: a process that
          was preempted meets hundreds of commits, most meet none, and the mean of a curve that
          bends is not the curve at the mean.
whole   : besides, the mean over what a transaction may touch (a hot row is refused often and cold
          ones never, which the product hides where m is large); on pages, the splits that the run
          made, each of which writes the page above the leaf, which all its transactions read; on
          rows, those that a transaction holds which is refused later itself.

All take every attempt for a fresh draw. A retry is none: it touches the hot row again that it was
just refused over. First tries are therefore counted and predicted apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from analysis import wording
from analysis.counting import Measured
from analysis.models.windows import NoAnswer, RunWindows, scenario_of, unit_of
from analysis.statistics import abort_rate, median_of_blocks
from analysis.wording import Table, number, percent, whole
from workloads.engines import leaf_of_rows
from workloads.errors import RunError
from workloads.records import COMMITTED, Run, Tree, Trees, read_run
from workloads.scenarios import Footprint, NoFootprint

FORMS = ("mean", "windows", "whole")
SAMPLES = 4096
"""Sets of rows drawn for the form `whole`; by a fixed seed, so that it is always the same."""


class Chances(NamedTuple):
    """Chances that one draw of a transaction touches a place: a leaf page in key order, or a row.

    touched, written : float arrays, shape (places,). Rows that are added lie on the last page; on
        an engine that validates rows nobody else has them, so they are in neither.
    idle    : chance that a draw touches nothing that anybody else could have: those rows.
    operations : draws a transaction.
    """

    touched: np.ndarray
    written: np.ndarray
    idle: float
    operations: int

    def of_transaction(self) -> tuple[np.ndarray, np.ndarray, float]:
        """(r, w, share): for a transaction that writes the chance to touch each place, for any
        commit of these kinds the chance to write it, and the share of transactions that write.

        Draws are independent, and at least one of them writes:
        P(touches p and writes) = 1 - P(not p) - P(writes nothing) + P(neither).
        """
        k, t, w = self.operations, self.touched, self.written
        reading = t - w
        writing = w.sum() + self.idle
        nothing = (1 - writing) ** k
        share = 1 - nothing
        both = 1 - (1 - t) ** k - nothing + np.maximum(1 - writing - reading, 0) ** k
        return both / share, 1 - (1 - w) ** k, float(share)

    def overlap(self) -> float:
        """Sum over p of r_p * w_p: places that another's commit shares with a transaction."""
        r, w, _ = self.of_transaction()
        return float((r * w).sum())


def chances(footprint: Footprint, unit: str, layout: Trees, name: str = "the run") -> Chances:
    """The footprint by page or by row.

    layout : of the loaded file, as the manifest has it; only looked at for pages.
    Raises NoAnswer where the file's pages are not known.
    """
    if unit == "row":
        return Chances(footprint.writes, footprint.writes, footprint.appends, footprint.operations)
    tree = layout.get(f"table {footprint.table}")
    if not isinstance(tree, Tree):
        why = layout.get("why", "the run was made before layouts were kept")
        raise NoAnswer(name, f"where the rows of {footprint.table} lay is not known: {why}.")
    try:
        leaf = np.unique(leaf_of_rows(tree), return_inverse=True)[1]
    except ValueError as error:
        raise NoAnswer(name, f"{error}.") from error
    if len(leaf) != len(footprint.writes):
        raise NoAnswer(
            name,
            f"{footprint.table} was loaded with {len(leaf):,} rows, not {len(footprint.writes):,}.",
        )
    pages = int(leaf.max()) + 1
    written = np.bincount(leaf, footprint.writes, pages)
    touched = written + np.bincount(leaf, footprint.reads, pages)
    last = leaf[-1]
    written[last] += footprint.appends
    touched[last] += footprint.appends
    return Chances(touched, written, 0.0, footprint.operations)


@dataclass(frozen=True)
class Side:
    """Predicted and observed over some attempts.

    m, m_latest : mean number of others' commits in a window that closes with the median COMMIT,
        and in one that closes when COMMIT returned.
    rates       : share refused in each run.
    predicted   : form -> chance of being refused. latest : `whole` with the later close: the
        model's word lies between predicted["whole"] and it.
    """

    attempts: int
    refused: int
    m: float
    m_latest: float
    predicted: Mapping[str, float]
    latest: float
    rates: tuple[float, ...] = ()

    @property
    def observed(self) -> tuple[float, float, float]:
        """Share refused: low, rate, high. The interval is over runs; of a few runs it is their
        range, and of one run Wilson's, which takes its attempts for independent.
        """
        found = median_of_blocks(self.rates)
        if found.known:
            return found.low, found.value, found.high
        low, rate, high = abort_rate(self.refused, self.attempts)
        if found.blocks > 1:
            low, high = float(found.each.min()), float(found.each.max())
        return low, rate, high

    @property
    def within(self) -> bool:
        """The observed interval and the range from the earlier to the later close share a value."""
        low, _, high = self.observed
        edges = sorted((self.predicted["whole"], self.latest))
        return bool(edges[0] <= high and low <= edges[1])

    def log_ratio(self, form: str = "whole") -> float:
        """ln(predicted / observed); nan where either is 0."""
        seen, predicted = self.observed[1], self.predicted[form]
        return math.log(predicted / seen) if seen > 0 and predicted > 0 else math.nan


@dataclass(frozen=True)
class Prediction:
    """One arm: what the model says and what was seen.

    overlap : sum r_p w_p. splits : leaf pages split, for each commit.
    every, first : all attempts of kinds that may write; of these the first tries.
    busy    : attempts that met a lock, in time or at once; they are in neither.
    """

    name: str
    engine: str
    begin: str
    unit: str
    keys: str
    overlap: float
    splits: float
    every: Side
    first: Side
    busy: int
    runs: tuple[str, ...] = ()


class _Part(NamedTuple):
    """One run's share of a Prediction, as sums over attempts."""

    attempts: int
    refused: int
    others: float
    latest: float
    forms: dict[str, float]
    form_latest: float


def predict(run: Run) -> Prediction:
    """The model for one run. Raises NoAnswer with the reason where it has none."""
    return _pooled(run.name, [run])


def predictions(measured: Measured) -> tuple[list[Prediction], list[str]]:
    """The model for every arm of an experiment, usable blocks pooled, and why arms have none.

    Each run's attempts are read, used and let go.
    """
    made: list[Prediction] = []
    without: dict[str, list[str]] = {}
    for arm in measured.arms.values():
        folders = [cell.folder for cell in arm.usable if cell.folder is not None]
        if not folders:
            continue
        try:
            made.append(_pooled(arm.name, (read_run(folder) for folder in folders)))
        except NoAnswer as error:
            without.setdefault(error.why, []).append(arm.name)
        except RunError as error:
            without.setdefault(str(error), []).append(arm.name)
    return made, [f"{wording.listed(arms)}: {why}" for why, arms in without.items()]


def _pooled(name: str, runs: Any) -> Prediction:
    """All runs of one arm together, each attempt counting once."""
    parts: dict[str, list[_Part]] = {"every": [], "first": []}
    overlaps, splits, busy, names = [], [], 0, []
    label: tuple[str, str, str, str] | None = None
    for run in runs:
        unit = unit_of(run)
        plan, scenario = scenario_of(run)
        footprint = _footprint(run, scenario)
        places = chances(footprint, unit, run.manifest.layout.loaded, run.name)
        found = RunWindows(run, scenario, footprint)
        split = splits_of(run, footprint) if unit == "page" else (0.0, 1)
        for which, met in _met(found).items():
            parts[which].append(_part(met, places, split, footprint.held, unit))
        overlaps.append(places.overlap())
        splits.append(split[0])
        busy += found.busy
        names.append(run.name)
        writer = run.role("writer")[0]
        label = (writer.engine, writer.begin, unit, str(plan.shape().keys))
    if label is None or not any(part.attempts for part in parts["every"]):
        raise NoAnswer(name, "no transaction was finished.")
    engine, begin, unit, keys = label
    return Prediction(
        name=name,
        engine=engine,
        begin=begin,
        unit=unit,
        keys=keys,
        overlap=float(np.mean(overlaps)),
        splits=float(np.mean(splits)),
        every=_side(parts["every"]),
        first=_side(parts["first"]),
        busy=busy,
        runs=tuple(names),
    )


def _footprint(run: Run, scenario: Any) -> Footprint:
    footprint: Callable[[], Footprint] | None = getattr(scenario, "footprint", None)
    if footprint is None:
        raise NoAnswer(
            run.name,
            f"the scenario {scenario.name!r} does not say in chances what it touches "
            "(`footprint`).",
        )
    try:
        return footprint()
    except NoFootprint as error:
        raise NoAnswer(run.name, f"{error}.") from error


def splits_of(run: Run, footprint: Footprint) -> tuple[float, int]:
    """(leaf pages that were split, for each commit of the writers; pages above the leaves).

    The table's leaves after the run less those before it; (0, 1) where either is not known. A
    split writes the page above, of which a loaded table has one for some 400 leaves.
    """
    layout = run.manifest.layout
    before, after = (
        trees.get(f"table {footprint.table}") for trees in (layout.loaded, layout.left)
    )
    if not isinstance(before, Tree) or not isinstance(after, Tree):
        return 0.0, 1
    pieces = (rows for w in run.role("writer") for rows in w.rows.pieces())
    commits = sum(int((rows["outcome"] == COMMITTED).sum()) for rows in pieces)
    above = max(before.interior - 1, 1)  # without the root, where there are two levels
    return max(after.leaves - before.leaves, 0) / max(commits, 1), above


class _Met:
    """What some attempts met, counted: how many others' commits, and refused ones, at how many.

    early, late : others' commits until closes_ns, and until latest_ns.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.early, self.late = _Counts(), _Counts()

    def add(
        self, refused: np.ndarray, early: np.ndarray, late: np.ndarray, overlapping: np.ndarray
    ) -> None:
        self.refused += int(refused.sum())
        self.early.add(early, overlapping)
        self.late.add(late, overlapping)


class _Counts:
    """Pairs of small whole numbers, each with how many attempts it was seen at."""

    def __init__(self) -> None:
        self._codes, self._times = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0

    def add(self, others: np.ndarray, overlapping: np.ndarray) -> None:
        codes, times = np.unique((others << 32) + overlapping, return_counts=True)
        self._parts.append((codes, times))
        self._waiting += len(codes)
        if self._waiting > max(len(self._codes), 1 << 16):
            self._merge()

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(others, overlapping, times), each pair once."""
        self._merge()
        others = (self._codes + (1 << 31)) >> 32
        return others, self._codes - (others << 32), self._times

    def _merge(self) -> None:
        several = [(self._codes, self._times), *self._parts]
        codes, times = (np.concatenate(column) for column in zip(*several, strict=True))
        self._codes, which = np.unique(codes, return_inverse=True)
        self._times = np.zeros(len(self._codes), np.int64)
        np.add.at(self._times, which, times)
        self._parts, self._waiting = [], 0


def _met(found: RunWindows) -> dict[str, _Met]:
    """What all attempts met, and what the first tries did."""
    met = {"every": _Met(), "first": _Met()}
    for some in found.slices():
        about = some.about()
        columns = about.refused, some.others(), some.others_latest(), some.overlapping()
        met["every"].add(*columns)
        met["first"].add(*(column[about.first] for column in columns))
    return met


def _part(
    met: _Met,
    places: Chances,
    split: tuple[float, int],
    held: float,
    unit: str,
) -> _Part:
    _, _, share = places.of_transaction()
    overlap = places.overlap()
    others, overlapping, times = met.early.columns()
    count = int(times.sum())
    if not count:
        return _Part(0, 0, 0.0, 0.0, dict.fromkeys(FORMS, 0.0), 0.0)

    def in_full(m: np.ndarray, overlapping: np.ndarray, times: np.ndarray) -> float:
        # Where two overlap and share a row, the second to write it is refused. One that is refused
        # itself held only a part of its rows, and half the time it came second.
        more = held / 2 * overlapping if unit == "row" else 0.0
        return share * count * _over_rows(places, split, m + more, times)

    total = int((others * times).sum())
    forms = {
        "mean": share * count * float(-np.expm1(-total / count * overlap)),
        "windows": share * float((times * -np.expm1(-others.astype(float) * overlap)).sum()),
        "whole": in_full(others, overlapping, times),
    }
    late = met.late.columns()
    return _Part(
        count, met.refused, float(total), float((late[0] * late[2]).sum()), forms, in_full(*late)
    )


def _over_rows(
    places: Chances, split: tuple[float, int], m: np.ndarray, weights: np.ndarray
) -> float:
    """Mean over windows and over sampled sets of places of 1 - (1 - q) ** m, q being the chance
    that one other commit writes a place of the set or splits a page below one that it read.
    """
    rng = np.random.default_rng(20)
    k = places.operations
    reading = np.maximum(places.touched - places.written, 0)
    each = np.concatenate([places.written, reading, [places.idle]])
    edges = np.cumsum(each) / each.sum()
    picked = np.searchsorted(edges, rng.random((SAMPLES, k)), side="right")
    picked = np.minimum(picked, len(each) - 1)
    of = len(places.written)
    writes = (picked < of) | (picked == 2 * of)
    picked = picked[writes.any(axis=1)]
    # Each place once, however often it was drawn: the same ones lie side by side when sorted.
    place = np.sort(np.where(picked == 2 * of, of, picked % of), axis=1)
    new = np.append(np.ones((len(place), 1), bool), place[:, 1:] != place[:, :-1], axis=1)
    by_draw = np.append(places.written, 0.0)[place]
    shared = 1 - (1 - np.minimum((by_draw * new).sum(axis=1), 1)) ** k
    per_commit, above = split
    through = 1 - (1 - 1 / above) ** k
    miss = np.maximum((1 - shared) * (1 - min(per_commit * through, 1)), 1e-300)
    amounts, which = np.unique(np.round(m, 2), return_inverse=True)
    times = np.bincount(which, weights)
    hit = [float(-np.expm1(amount * np.log(miss)).mean()) for amount in amounts]
    return float(np.average(hit, weights=times))


def _side(parts: Sequence[_Part]) -> Side:
    count = sum(part.attempts for part in parts)
    over = max(count, 1)
    return Side(
        attempts=count,
        refused=sum(part.refused for part in parts),
        m=sum(part.others for part in parts) / over,
        m_latest=sum(part.latest for part in parts) / over,
        predicted={form: sum(part.forms[form] for part in parts) / over for form in FORMS},
        latest=sum(part.form_latest for part in parts) / over,
        rates=tuple(part.refused / part.attempts for part in parts if part.attempts),
    )


class Error(NamedTuple):
    """How far a form is off over several arms: factors, 1 is exact.

    median, worst : exp of the median and of the largest |ln(predicted / observed)|.
    bias : exp of the median ln(predicted / observed): above 1 the model says too much.
    """

    arms: int
    median: float
    worst: float
    bias: float

    def text(self) -> str:
        """For a sentence: "off by a factor of 1.08 (median of 8 arms), at worst 1.21"."""
        if not self.arms:
            return "without an arm to compare it with"
        return (
            f"off by a factor of {number(self.median)} (median of "
            f"{wording.times(self.arms, 'arm')}), at worst {number(self.worst)}"
        )


def error_of(made: Sequence[Prediction], form: str = "whole", side: str = "every") -> Error:
    """The fit's error over arms in which anybody was refused and the model says more than 0."""
    logs = np.array([getattr(one, side).log_ratio(form) for one in made])
    logs = logs[np.isfinite(logs)]
    if not len(logs):
        return Error(0, math.nan, math.nan, math.nan)
    off = np.abs(logs)
    return Error(len(logs), *(math.exp(float(x)) for x in (np.median(off), off.max(),
                                                            np.median(logs))))  # fmt: skip


def prediction_table(made: Sequence[Prediction]) -> Table:
    """Predicted beside observed, two lines an arm: all tries, and first tries only."""
    rows = []
    for one in made:
        for tries, side in (("all", one.every), ("first", one.first)):
            low, seen, high = side.observed
            ratio = math.exp(side.log_ratio("whole"))
            rows.append(
                (
                    one.name if tries == "all" else "",
                    f"{tries} {whole(side.attempts)}",
                    number(side.m),
                    f"{number(one.overlap)} {one.unit}s" if tries == "all" else "",
                    percent(side.predicted["mean"]),
                    f"{percent(side.predicted['whole'])} to {percent(side.latest)}",
                    f"{percent(seen)} {wording.interval(low, high, percent)}",
                    number(ratio),
                )
            )
    head = ("arm", "tries", "m", "Σ r·w", "1 − exp(−m Σ r·w)", "whole",
            "observed [95 %, or range of few]", "whole / observed")  # fmt: skip
    return Table(head, rows, _left_out(made))


def _left_out(made: Sequence[Prediction]) -> str:
    busy = sum(one.busy for one in made)
    if not busy:
        return ""
    return f"{wording.times(busy, 'attempt')} that met a lock are in neither side."


def error_table(made: Sequence[Prediction]) -> Table:
    """The fit's error, by form and by which tries are held against it."""
    rows = []
    for side, tries in (("first", "first"), ("every", "all")):
        for form in FORMS:
            error = error_of(made, form, side)
            rows.append(
                (form, tries, *(number(x) for x in (error.median, error.worst, error.bias)),
                 str(error.arms), _within(made, side) if form == "whole" else wording.DASH)
            )  # fmt: skip
    return Table(
        ("form", "tries", "off by a factor, median", "at worst", "predicted / observed, median",
         "arms", "within"),
        rows,
        "Arms in which nobody was refused have no ratio. Within: arms whose observed interval "
        "shares a value with the range of `whole`, which is from the earlier to the later moment "
        "at which a commit can have been validated.",
    )  # fmt: skip


def _within(made: Sequence[Prediction], side: str) -> str:
    return f"{sum(getattr(one, side).within for one in made)} of {len(made)}"
