"""Arms of an experiment against each other, block by block.

Every block holds every arm once, in an order of its own, so that what the machine does to one block
it does to both sides of a ratio: runs made one after the other scattered by 10 to 23 % on the
machine this was written on, ratios within a block by 2 to 5 %. `Measured` is an experiment,
counted, and `Arm` is one of its arms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from analysis import wording
from analysis.counting.cells import CountedCell, Measure, throughput
from analysis.counting.conditions import confounders_between, why_not_alike
from analysis.counting.foreign import FOREIGN_LIMIT
from analysis.counting.tally import Count, Tally, count, pooled
from analysis.statistics import (
    Estimate,
    Ratio,
    median_of_blocks,
    ratio_over_blocks,
)
from workloads.errors import RunError
from workloads.experiments import Cell, Experiment
from workloads.records import Manifest
from workloads.runs import Plan

WRITING = ("write_engine", "begin", "seed", "database", "read_engine", "read_begin")
"""Fields in which two arms may differ and still be the same work written in another way."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm of an experiment, counted: its plan, its cells and their results.

    `Measured.arms` makes each arm once. A result that is asked for again is not computed again.
    """

    measured: Measured = field(repr=False)
    name: str

    def __str__(self) -> str:
        return self.name

    # --- its plan ---

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The arm's whole plan: that of its first run, `params` with the defaults.

        Without any run it is the experiment's plan of the arm, with the defaults of Plan.
        """
        for cell in self.cells:
            if cell.manifest:
                plan, params = cell.manifest.plan, cell.manifest.scenario.params
                return {**plan.model_dump(mode="json"), "params": dict(params)}
        asked = Plan(**self.measured.experiment.design.arms[self.name])
        try:
            params = asked.shape().recorded()
        except ValueError:  # a scenario or a parameter that this checkout does not have
            params = dict(asked.params)
        return {**asked.model_dump(mode="json"), "params": params}

    def field(self, key: str) -> Any:
        """A field of the plan, or of its scenario's params; None where it has neither."""
        return self.plan[key] if key in self.plan else self.plan["params"].get(key)

    @property
    def writers(self) -> int:
        return int(self.plan["writers"])

    @property
    def role(self) -> str:
        """Whose throughput counts: the writers', or the readers' where the arm has no writer."""
        return "writer" if self.writers else "reader"

    @property
    def engine(self) -> str:
        """The writers' engine, or the readers' where the arm has no writer."""
        found: str = self.plan["write_engine" if self.writers else "read_engine"]
        return found

    @property
    def begin(self) -> str:
        """The writers' BEGIN mode, or the readers' where the arm has no writer."""
        found: str = self.plan["begin" if self.writers else "read_begin"]
        return found

    @property
    def system(self) -> tuple[str, str]:
        """(engine, BEGIN mode)."""
        return self.engine, self.begin

    @property
    def label(self) -> str:
        """How the arm writes, or how it reads where nothing writes, for a person.

        Where that is the same for several systems of a sweep, which differ in their network, say,
        it is the system's name.
        """
        system = self.point.get("system")
        if system is not None and self.plain_label in self.measured.shared_labels:
            return str(system)
        return self.plain_label

    @cached_property
    def plain_label(self) -> str:
        """The same, whatever other systems there are."""
        database = self.plan["database"]
        return wording.arm_label(
            {"database": database, "write_engine": self.engine, "begin": self.begin}
        )

    @property
    def point(self) -> Mapping[str, Any]:
        """The arm's value on each axis of a sweep's grid; {} in other experiments."""
        return self.measured.points.get(self.name, {})

    def alike(self, other: Arm, *but: str) -> bool:
        """Both arms ask for the same work. How it is written, and the fields `but`, may differ."""
        plans = [{**arm.plan, **arm.plan["params"], "params": None} for arm in (self, other)]
        skip = {*WRITING, *but}
        return all(plans[0].get(key) == plans[1].get(key) for key in plans[0] if key not in skip)

    # --- its cells ---

    @cached_property
    def cells(self) -> tuple[CountedCell, ...]:
        """The arm's cells, by block."""
        found = sorted(self.measured.cells.items())
        return tuple(cell for (_, name), cell in found if name == self.name)

    @cached_property
    def usable(self) -> tuple[CountedCell, ...]:
        """The cells that were run on the machine of most cells and not contaminated, by block."""
        home = self.measured.home
        return tuple(cell for cell in self.cells if cell.usable and cell.place == home)

    @cached_property
    def dropped(self) -> tuple[str, ...]:
        """Why blocks are missing, one sentence each."""
        return tuple(self._dropped(anywhere=False))

    @cached_property
    def dropped_anywhere(self) -> tuple[str, ...]:
        """The same, but cells that another machine ran are accepted too.

        Ratios accept them, because both cells of a block ran on that machine.
        """
        return tuple(self._dropped(anywhere=True))

    def _dropped(self, *, anywhere: bool) -> dict[str, None]:
        out: dict[str, None] = {}
        for cell in self.cells:
            why = cell.failure or cell.contaminated
            if not why and not anywhere and cell.usable and cell.place != self.measured.home:
                why = "made on another machine than most, and not pooled with those"
            if why:
                out[f"block {cell.block}, {cell.arm}: {why}"] = None
        return out

    @cached_property
    def shown(self) -> Arm:
        """The arm whose numbers are shown: this one, or where it has no usable cell and doubtful
        ones, the same with these (`Measured.doubtful`).
        """
        return self if self.usable or not self.doubtful else self.measured.doubtful.arms[self.name]

    @cached_property
    def doubtful(self) -> str:
        """Why all numbers that the arm has are doubtful, "" where it has usable ones or none."""
        if self.usable:
            return ""
        dirty = (cell for cell in self.cells if cell.counted is not None and cell.state == "done")
        return next((cell.contaminated for cell in dirty if cell.contaminated), "")

    # --- its results ---

    def tally(self, role: str = "writer") -> Tally | None:
        """All usable blocks together; None where there is none."""
        if role not in self._tallies:
            self._tallies[role] = pooled(parts) if (parts := self._parts(role)) else None
        return self._tallies[role]

    @cached_property
    def _tallies(self) -> dict[str, Tally | None]:
        return {}

    def _parts(self, role: str) -> list[Tally]:
        counts = [cell.counted for cell in self.usable if cell.counted is not None]
        return [counted.roles[role] for counted in counts if role in counted.roles]

    def values(self, measure: Measure) -> dict[int, float]:
        """Block -> value, usable cells only."""
        found = {c.block: measure(c.counted) for c in self.usable if c.counted is not None}
        return {block: value for block, value in found.items() if not math.isnan(value)}

    def estimate(self, measure: Measure | None = None) -> Estimate:
        """The level over the usable blocks (default: of the writers' throughput)."""
        found = list(self.values(measure or throughput()).values())
        return median_of_blocks(found, dropped=self.dropped)

    def refused(self, role: str = "writer", *, first: bool = False) -> Estimate:
        """The share of finished attempts that was refused, over the usable blocks.

        first : of the transactions' first tries alone. A transaction that was refused is tried
        again while what refused it is near: most of a high rate of all attempts is such tries.
        """

        def rate(counted: Count) -> float:
            if role not in counted.roles:
                return math.nan
            tally = counted.roles[role]
            return tally.first_refused() if first else tally.abort_rate[1]

        return self.estimate(rate)

    def percentiles(self, role: str = "writer") -> np.ndarray:
        """p50, p90, p99, p99.9 and maximum of whole transactions, ns, shape (5, 4): low, value,
        high, and what is certain of the value where it is infinite (`Tally.whole`).

        A percentile is the level of the blocks' own, and its interval is over blocks, nan where
        these are too few. Where a block has too few transactions for its own, it is that of all
        blocks' together, without an interval. The maximum is that of all.
        """
        if role not in self._percentiles:
            parts = self._parts(role)
            self._percentiles[role] = _over_blocks(parts) if parts else np.full((5, 4), np.nan)
        return self._percentiles[role]

    @cached_property
    def _percentiles(self) -> dict[str, np.ndarray]:
        return {}


def _over_blocks(parts: Sequence[Tally]) -> np.ndarray:
    """Percentiles of several runs, as of `Arm.percentiles`."""
    each = np.stack([part.whole() for part in parts])
    out = np.full((5, 4), np.nan)
    out[-1, [1, 3]] = each[:, -1].max(axis=0)
    together: np.ndarray | None = None
    for at in range(4):
        if np.isnan(each[:, at]).any():
            together = pooled(parts).whole() if together is None else together
            out[at, [1, 3]] = together[at]
            continue
        found = median_of_blocks(each[:, at, 0])
        out[at] = found.low, found.value, found.high, median_of_blocks(each[:, at, 1]).value
    return out


@dataclass(frozen=True, eq=False)
class Measured:
    """An experiment, counted: its arms, and a CountedCell for each block and arm.

    name : the experiment's own, or what a report calls it where two have the same.
    """

    experiment: Experiment
    cells: Mapping[tuple[int, str], CountedCell]
    name: str
    _confounders: dict[tuple[int, str, str], str] = field(default_factory=dict, repr=False)

    @property
    def question(self) -> str:
        return self.experiment.design.question

    @property
    def seed(self) -> int:
        return int(self.experiment.design.seed)

    @property
    def axes(self) -> Mapping[str, Sequence[Any]]:
        """A sweep's grid: axis -> its values in order; {} in other experiments."""
        return self.experiment.design.axes

    @property
    def points(self) -> Mapping[str, Mapping[str, Any]]:
        """A sweep's grid: arm -> axis -> value; {} in other experiments."""
        return self.experiment.design.points

    @cached_property
    def arms(self) -> Mapping[str, Arm]:
        """Name -> arm, in the experiment's order."""
        return {name: Arm(self, name) for name in self.experiment.design.arms}

    @property
    def baseline(self) -> Arm | None:
        """The arm that ratios are taken against."""
        return self.arms.get(self.experiment.design.baseline)

    @cached_property
    def shared_labels(self) -> frozenset[str]:
        """Labels that several systems of a sweep would have."""
        named: dict[str, set[str]] = {}
        for arm in self.arms.values():
            if "system" in arm.point:
                named.setdefault(arm.plain_label, set()).add(str(arm.point["system"]))
        return frozenset(label for label, systems in named.items() if len(systems) > 1)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks that have cells."""
        return tuple(sorted({block for block, _ in self.cells}))

    @cached_property
    def role(self) -> str:
        """Whose throughput counts: the writers', or the readers' where nobody writes."""
        return "writer" if any(arm.writers for arm in self.arms.values()) else "reader"

    @cached_property
    def places(self) -> Counter[tuple[str, int]]:
        """Usable cells of each machine (`CountedCell.place`), the machine with the most first.

        Absolute numbers come from that machine; numbers of two machines are never pooled.
        """
        found = Counter(cell.place for _, cell in sorted(self.cells.items()) if cell.usable)
        return Counter(dict(found.most_common()))

    @cached_property
    def doubtful(self) -> Measured:
        """The same experiment with its contaminated cells: to show numbers, not to claim any."""
        cells = {key: replace(cell, foreign_limit=1.0) for key, cell in self.cells.items()}
        return replace(self, cells=cells, _confounders={})

    @property
    def home(self) -> tuple[str, int] | None:
        """The machine that made the most cells, None where none is usable."""
        return next(iter(self.places), None)

    def arms_of(self, engine: str, begin: str | None = None, **want: Any) -> list[Arm]:
        """Arms of this engine and BEGIN mode whose plan or params hold `want`.

        An arm without writers is found by its readers' engine, and not where a mode is asked for.
        """
        return [
            arm
            for arm in self.arms.values()
            if arm.engine == engine
            and (not begin or (arm.writers and arm.begin == begin))
            and all(arm.field(key) == value for key, value in want.items())
        ]

    def ratio(
        self,
        candidate: Arm,
        baseline: Arm,
        measure: Measure | None = None,
        *,
        neither: float = math.nan,
    ) -> Ratio:
        """Candidate / baseline over blocks, on whichever machine each block was run.

        A block counts only if both its cells are usable and no `confounder` is found. 0 / 0 counts
        as `neither`, or drops the block; something / 0 is infinite and stays.
        """
        measure = measure or throughput()
        both = (candidate, baseline)
        dropped = list(dict.fromkeys(why for arm in both for why in arm.dropped_anywhere))
        values: tuple[dict[int, float], dict[int, float]] = ({}, {})
        for block in self.blocks:
            if why := self.confounder(block, candidate, baseline):
                dropped.append(why)
                continue
            for arm, of_arm in zip(both, values, strict=True):
                cell = self.cells.get((block, arm.name))
                if cell is not None and cell.usable and cell.counted is not None:
                    of_arm[block] = measure(cell.counted)
        known = [
            {b: value for b, value in each.items() if not math.isnan(value)} for each in values
        ]
        return ratio_over_blocks(
            *known,
            candidate=candidate.name,
            baseline=baseline.name,
            dropped=dropped,
            neither=neither,
        )

    def confounder(self, block: int, candidate: Arm, baseline: Arm) -> str:
        """Why the two runs of a block give no ratio though each is usable alone, "" if they do.

        They must be alike in all but what the plans of the arms ask for
        (analysis.counting.conditions), and neither may be `CountedCell.crowded`. Cells that are
        not usable at all are in `Arm.dropped`.
        """
        key = (block, candidate.name, baseline.name)
        if key not in self._confounders:
            top, bottom = (self.cells.get((block, arm.name)) for arm in (candidate, baseline))
            why = ""
            if top is not None and bottom is not None and top.usable and bottom.usable:
                if crowded := [cell for cell in (top, bottom) if cell.crowded]:
                    why = f"block {block}, {crowded[0].arm}: {crowded[0].crowded}"
                elif (
                    bottom.manifest
                    and top.manifest
                    and (confounders := confounders_between(bottom.manifest, top.manifest))
                ):
                    why = f"block {block}: {candidate} and {baseline} {why_not_alike(confounders)}"
            self._confounders[key] = why
        return self._confounders[key]

    @cached_property
    def twins(self) -> tuple[tuple[Arm, Arm], ...]:
        """Pairs of arms that ask for exactly the same: A/A controls. The seed may differ."""
        return tuple((self.arms[a], self.arms[b]) for a, b in twins_of(self.experiment.design.arms))

    @property
    def repeated(self) -> set[str]:
        """Names of the arms that repeat an earlier one as its A/A control."""
        return {again.name for _, again in self.twins}

    def runs(self, *arms: Arm) -> tuple[str, ...]:
        """Names of the usable runs behind these arms (all arms where none is named)."""
        cells = (cell for arm in arms or self.arms.values() for cell in arm.cells)
        return tuple(cell.run for cell in cells if cell.usable)

    def not_compared(self, candidate: Arm, baseline: Arm) -> str:
        """Why two arms must not be compared, "" if they may: both ran, and in no block alike.

        Their plans ask for the same durability; what each connection read back tells what it got.
        """
        both = [
            block
            for block in self.blocks
            if all(
                (cell := self.cells.get((block, arm.name))) is not None and cell.usable
                for arm in (candidate, baseline)
            )
        ]
        whys = [self.confounder(block, candidate, baseline) for block in both]
        return f"Not compared: {whys[0]}." if whys and all(whys) else ""


def twins_of(asked: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of names of arms that ask for exactly the same, but for the seed."""
    names = list(asked)
    same = {name: {**asked[name], "seed": None} for name in names}
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if same[a] == same[b]]


def theta(keys: str) -> float | None:
    """The skew of a key distribution: zipfian's theta, 0 for uniform, None for others.

    >>> theta("zipfian:0.99"), theta("uniform"), theta("hotspot:80:20")
    (0.99, 0.0, None)
    """
    name, _, rest = str(keys).partition(":")
    if name == "uniform":
        return 0.0
    try:
        return float(rest or 0.99) if name == "zipfian" else None
    except ValueError:
        return None


def gather(
    experiment: Experiment, foreign_limit: float = FOREIGN_LIMIT, only: Collection[str] = ()
) -> Measured:
    """Count every cell of an experiment. A run that cannot be read is a failure with its words.

    foreign_limit : share of the machine's CPU time, in [0, 1], that others may use before a cell
    counts as contaminated. only : arms to count, beside the experiment's A/A controls; () for all.
    Each run's attempts are read, counted and let go: an experiment's attempts need not fit into
    memory together.
    """
    cells: dict[tuple[int, str], CountedCell] = {}
    controls = [arm for pair in twins_of(experiment.design.arms) for arm in pair]
    wanted = {*only, *controls} if only else set(experiment.design.arms)
    for (block, arm), cell in experiment.cells.items():
        if arm not in wanted:
            continue
        found = CountedCell(block, arm, cell.state, cell.reason, foreign_limit=foreign_limit)
        if cell.folder is not None:
            try:
                counted, manifest = count_cell(cell)
                found = replace(found, counted=counted, manifest=manifest, folder=cell.folder)
            except (RunError, KeyError, TypeError) as error:
                found = replace(found, state="failed", failure=f"{cell.reason} {error}".strip())
        cells[block, arm] = found
    for block, arms in enumerate(experiment.order):
        for arm in arms:
            if arm in wanted and (block, arm) not in cells:
                cells[block, arm] = CountedCell(
                    block, arm, "missing", "not run: the experiment was cut"
                )
    return Measured(experiment, cells, experiment.design.name)


def count_cell(cell: Cell) -> tuple[Count, Manifest]:
    """Count the run of a cell. Raises RunError where it cannot be read."""
    run = cell.read()
    return count(run), run.manifest
