"""Arms of an experiment against each other, block by block.

Every block holds every arm once, in an order of its own, so that what the machine does to one block
it does to both sides of a ratio: runs made one after the other scattered by 10 to 23 % on the
machine this was written on, ratios within a block by 2 to 5 %. `Measured` is an experiment,
counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis import wording as words
from analysis.counting.conditions import in_words, unasked
from analysis.counting.tally import Count, Tally, count, pooled
from analysis.statistics import Estimate, Ratio, median_of_blocks, ratio_over_blocks, seed_of
from workloads.errors import RunError
from workloads.experiments import Experiment
from workloads.records import FindingEntry, Machine, Manifest
from workloads.runs import Plan

FOREIGN_LIMIT = 0.05
"""Share of the machine's CPU time that others may use in the measured window (foreign programs,
or the host as steal) before a cell is contaminated and its block dropped."""


def contamination(manifest: Manifest, limit: float = FOREIGN_LIMIT) -> str:
    """Why a run may not be used for a rate, "" if it may: others used more of the machine's CPU
    time than `limit`, a share in [0, 1].
    """
    foreign = manifest.foreign
    for share, who in (
        (foreign.cpu_share, "other programs"),
        (foreign.steal_share, "the host"),
    ):
        if share > limit:
            return f"{who} used {words.percent(share)} of the machine's CPU time"
    return ""


@dataclass(frozen=True)
class CountedCell:
    """One arm in one block, counted. counted and manifest are None where there is no run.

    state   : "done", "failed", "refused" or "missing", as in the experiment's folder.
    failure : why it has no run, or what went wrong in it; "" where all is well.
    """

    block: int
    arm: str
    state: str
    failure: str
    counted: Count | None = None
    manifest: Manifest | None = field(default=None, repr=False)
    folder: Path | None = None
    foreign_limit: float = FOREIGN_LIMIT

    @property
    def run(self) -> str:
        """The run's name, "" without a run."""
        return self.manifest.run if self.manifest else ""

    @property
    def contaminated(self) -> str:
        """Why the cell may not be used for a rate, "" if it may."""
        return contamination(self.manifest, self.foreign_limit) if self.manifest else ""

    @property
    def crowded(self) -> str:
        """Why the cell may be compared with no other, "" if it may."""
        if self.manifest and self.manifest.conduct.oversubscribed:
            return "made beside more work than the machine has CPUs for (oversubscribed)"
        return ""

    @property
    def place(self) -> tuple[str, int]:
        """The machine's id and how many of its CPUs the run could use; ("", 0) of older runs."""
        machine = self.manifest.machine if self.manifest else Machine()
        return (machine.id, machine.cores or 0) if machine.id else ("", 0)

    @property
    def steady(self) -> str:
        """Whether it was, or why its window is the plan's (analysis.counting.steady); ""
        without a run.
        """
        return self.counted.steady.state if self.counted and self.counted.steady else ""

    @property
    def unmet(self) -> str:
        """That the rate of an open loop was not met, "" where it was or where there was none."""
        for role, tally in (self.counted.roles if self.counted else {}).items():
            if (due := tally.due) is not None and not due.met:
                many = words.times(due.many, "transaction")
                return (
                    f"of {many} of {role}s that were due {words.whole(due.served)} "
                    f"({words.percent(due.share)}) were served in the window"
                )
        return ""

    @property
    def broken(self) -> list[FindingEntry]:
        """Checks of this run that did not hold."""
        return self.manifest.broken if self.manifest else []

    @property
    def usable(self) -> bool:
        """For a rate: it ran to its end, its checks held, and nobody else used the machine."""
        return self.counted is not None and self.state == "done" and not self.contaminated


Measure = Callable[[Count], float]


def throughput(role: str = "writer") -> Measure:
    """Committed transactions a second of a role; 0 where the role committed nothing."""
    return lambda counted: counted.roles[role].per_s if role in counted.roles else math.nan


@dataclass(frozen=True, eq=False)
class Measured:
    """An experiment, counted: its arms (name -> plan as data) and a Cell for each block and arm.

    axes, points : of a sweep's grid, as in `workloads.experiments.experiment.Design`; {} for other
    experiments.
    """

    name: str
    question: str
    seed: int
    arms: Mapping[str, Mapping[str, Any]]
    cells: Mapping[tuple[int, str], CountedCell]
    baseline: str = ""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _pools: dict[tuple[str, str], Tally | None] = field(default_factory=dict, repr=False)
    _odd: dict[tuple[int, str, str], str] = field(default_factory=dict, repr=False)

    def of(self, arm: str) -> list[CountedCell]:
        return [cell for (_, name), cell in sorted(self.cells.items()) if name == arm]

    @cached_property
    def places(self) -> Counter[tuple[str, int]]:
        """How many usable cells each machine made (`CountedCell.place`), the one with most of them
        first.

        What is told of an arm alone is told of that one: what two machines do has no median.
        """
        found = Counter(cell.place for _, cell in sorted(self.cells.items()) if cell.usable)
        return Counter(dict(found.most_common()))

    @property
    def home(self) -> tuple[str, int] | None:
        """The machine that made the most cells, None where none is usable."""
        return next(iter(self.places), None)

    def usable(self, arm: str) -> list[CountedCell]:
        """The arm's cells that were run on that one machine and not contaminated, by block."""
        return [cell for cell in self.of(arm) if cell.usable and cell.place == self.home]

    def dropped(self, *arms: str, anywhere: bool = False) -> tuple[str, ...]:
        """Why blocks are missing for these arms, one sentence each.

        anywhere : blocks of other machines are not missing, as in a ratio.
        """
        out = []
        for cell in (c for arm in arms for c in self.of(arm)):
            why = cell.failure or cell.contaminated
            if not why and not anywhere and cell.usable and cell.place != self.home:
                why = "made on another machine than most, and not pooled with those"
            if why:
                out.append(f"block {cell.block}, {cell.arm}: {why}")
        return tuple(dict.fromkeys(out))

    def tally(self, arm: str, role: str = "writer") -> Tally | None:
        """All usable blocks of an arm together; None where there is none."""
        if (arm, role) not in self._pools:
            counts = [c.counted for c in self.usable(arm) if c.counted is not None]
            parts = [counted.roles[role] for counted in counts if role in counted.roles]
            self._pools[arm, role] = pooled(parts) if parts else None
        return self._pools[arm, role]

    def values(self, arm: str, measure: Measure) -> dict[int, float]:
        """Block -> value, usable cells only."""
        found = {c.block: measure(c.counted) for c in self.usable(arm) if c.counted is not None}
        return {block: value for block, value in found.items() if not math.isnan(value)}

    def estimate(self, arm: str, measure: Measure | None = None) -> Estimate:
        """An arm's median over its usable blocks (default: writers' throughput)."""
        found = self.values(arm, measure or throughput())
        seed = seed_of(self.seed, self.name, arm)
        return median_of_blocks(list(found.values()), seed=seed, dropped=self.dropped(arm))

    def ratio(
        self, over: str, under: str, measure: Measure | None = None, *, neither: float = math.nan
    ) -> Ratio:
        """Median over blocks of over / under, on whichever machine each block was run.

        A block counts only if both its cells are usable and it is not `odd`. 0 / 0 counts as
        `neither`, or drops the block; something / 0 is infinite and stays.
        """
        measure = measure or throughput()
        dropped = list(self.dropped(over, under, anywhere=True))
        values: tuple[dict[int, float], dict[int, float]] = ({}, {})
        for block in sorted({block for block, _ in self.cells}):
            if why := self.odd(block, over, under):
                dropped.append(why)
                continue
            for arm, of_arm in zip((over, under), values, strict=True):
                cell = self.cells.get((block, arm))
                if cell is not None and cell.usable and cell.counted is not None:
                    of_arm[block] = measure(cell.counted)
        known = [
            {b: value for b, value in each.items() if not math.isnan(value)} for each in values
        ]
        return ratio_over_blocks(
            *known,
            over=over,
            under=under,
            seed=seed_of(self.seed, self.name, over, under),
            dropped=dropped,
            neither=neither,
        )

    def odd(self, block: int, over: str, under: str) -> str:
        """Why the two runs of a block give no ratio though each is usable alone, "" if they do.

        They must be alike in all but what the plans of the arms ask for
        (analysis.counting.conditions), and neither may be `CountedCell.crowded`. What is not
        usable at all is in `dropped`.
        """
        key = (block, over, under)
        if key not in self._odd:
            top, bottom = (self.cells.get((block, arm)) for arm in (over, under))
            why = ""
            if top is not None and bottom is not None and top.usable and bottom.usable:
                if crowded := [cell for cell in (top, bottom) if cell.crowded]:
                    why = f"block {block}, {crowded[0].arm}: {crowded[0].crowded}"
                elif (
                    bottom.manifest
                    and top.manifest
                    and (odd := unasked(bottom.manifest, top.manifest))
                ):
                    why = f"block {block}: {over} and {under} {in_words(odd)}"
            self._odd[key] = why
        return self._odd[key]

    def plan(self, arm: str) -> dict[str, Any]:
        """What an arm was asked to do, whole: its first run's plan, `params` with the defaults.

        Without any run it is what the experiment says of the arm, defaults of Plan filled in.
        """
        for cell in self.of(arm):
            if cell.manifest:
                plan, params = cell.manifest.plan, cell.manifest.scenario.params
                return {**plan.model_dump(mode="json"), "params": dict(params)}
        asked = Plan(**self.arms[arm])
        try:
            params = asked.shape().model_dump()
        except ValueError:  # a scenario or a parameter that this checkout does not have
            params = dict(asked.params)
        return {**asked.model_dump(mode="json"), "params": params}

    def twins(self) -> list[tuple[str, str]]:
        """Pairs of arms that ask for exactly the same: A/A controls. The seed may differ."""
        names = list(self.arms)
        same = {name: {**self.arms[name], "seed": None} for name in names}
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if same[a] == same[b]]

    def steadiness(self, *arms: str) -> Counter[str]:
        """How many of these arms' runs (all arms where none is named) were in which state."""
        cells = (cell for arm in arms or tuple(self.arms) for cell in self.of(arm))
        return Counter(cell.steady for cell in cells if cell.steady)

    def runs(self, *arms: str) -> tuple[str, ...]:
        """Names of the usable runs behind these arms (all arms where none is named)."""
        found = (cell for arm in arms or tuple(self.arms) for cell in self.of(arm))
        return tuple(cell.run for cell in found if cell.usable)

    def unlike(self, over: str, under: str) -> str:
        """Why two arms must not be compared, "" if they may: both ran, and in no block alike.

        Their plans ask for the same durability; what each connection read back tells what it got.
        """
        both = [
            block
            for block in sorted({block for block, _ in self.cells})
            if all(
                (cell := self.cells.get((block, arm))) is not None and cell.usable
                for arm in (over, under)
            )
        ]
        whys = [self.odd(block, over, under) for block in both]
        return f"Not compared: {whys[0]}." if whys and all(whys) else ""


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
    grid = Measured(
        name=experiment.name,
        question=experiment.question,
        seed=int(experiment.seed),
        arms=dict(experiment.arms),
        cells=cells,
        baseline=experiment.baseline or "",
        axes=experiment.axes,
        points=experiment.points,
    )
    wanted = {*only, *(arm for pair in grid.twins() for arm in pair)} if only else set(grid.arms)
    for (block, arm), cell in experiment.cells.items():
        if arm not in wanted:
            continue
        found = CountedCell(block, arm, cell.state, cell.words, foreign_limit=foreign_limit)
        if cell.folder is not None:
            try:
                run = cell.read()
                found = replace(
                    found, counted=count(run), manifest=run.manifest, folder=cell.folder
                )
            except (RunError, KeyError, TypeError) as error:
                found = replace(found, state="failed", failure=f"{cell.words} {error}".strip())
        cells[block, arm] = found
    for block, arms in enumerate(experiment.order):
        for arm in arms:
            if arm in wanted and (block, arm) not in cells:
                cells[block, arm] = CountedCell(
                    block, arm, "missing", "not run: the experiment was cut"
                )
    return grid
