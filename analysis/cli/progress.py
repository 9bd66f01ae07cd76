"""Progress of a run, or of a suite of experiments, for people who wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live as RichLive

from analysis.cli.terminal import one_line
from analysis.wording import times
from workloads import runs

if TYPE_CHECKING:
    from workloads.experiments import Design, Experiment, OnCell
    from workloads.runs import Progress


class Live:
    """Progress of a run: one line that changes on a terminal, a line a second elsewhere."""

    def __init__(self, console: Console, prefix: str = "") -> None:
        self.console, self.prefix = console, prefix
        self.live = RichLive(console=console, transient=True) if console.is_terminal else None
        self.printed_at, self.printed_phase = 0.0, ""

    def __enter__(self) -> Live:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, progress: Progress) -> None:
        line = f"{self.prefix}{progress_line(progress)}"
        if self.live:
            self.live.update(one_line(line))
            return
        now = time.monotonic()
        if now - self.printed_at >= 1.0 or progress.phase != self.printed_phase:
            self.printed_at, self.printed_phase = now, progress.phase
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class CellCounter:
    """Progress of a suite of experiments: a line for each finished cell, and the one that runs."""

    def __init__(self, designs: Sequence[Design], console: Console) -> None:
        self.cells = sum(design.cells for design in designs)
        self.seen = 0
        self.again = False
        self.console, self.live = console, Live(console)
        self.begun = time.monotonic()
        self.committed: Progress | None = None

    def __enter__(self) -> CellCounter:
        self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.__exit__(*error)

    def of(self, experiment_name: str) -> OnCell:
        """The cell callback for one experiment."""

        def on_cell(experiment: Experiment, block: int, arm: str, state: str) -> None:
            blocks = times(experiment.design.blocks, "block")
            where = f"{experiment_name}, b{block:02d} of {blocks}, {arm}"
            if state == "running":
                self.seen += not self.again
                self.again = False
                self.live.prefix = f"[{self.seen}/{self.cells}] {where}: "
                self.committed = None
                return
            if (
                block,
                arm,
            ) not in experiment.cells:  # something came between; the conductor says so
                self.again = True
                return
            cell = experiment.cells[block, arm]
            result = f"{state}: {cell.reason}" if cell.reason else self._rate()
            minutes = (time.monotonic() - self.begun) / 60
            self.console.print(
                f"[{self.seen}/{self.cells}, {minutes:.1f} min] {where}: {result}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

        return on_cell

    def _rate(self) -> str:
        if self.committed is None:
            return "done"
        rate = runs.per_s(self.committed.committed, self.committed.elapsed_s)
        return "done" if rate is None else f"{rate:,.0f} commits/s"

    def __call__(self, progress: Progress) -> None:
        if progress.phase == "measuring":
            self.committed = progress
        if self.console.is_terminal or progress.left_s > 5:
            self.live(progress)


def progress_line(progress: Progress) -> str:
    """One line: the phase, throughput, conflicts and time left."""
    if progress.phase in ("loading", "checking"):
        detail = progress.describe()
        return (
            f"{progress.phase} the database, {progress.elapsed_s:.0f} s{detail and f': {detail}'}"
        )
    if progress.phase == "starting":
        return f"starting, {progress.alive} of {progress.workers} workers ready"
    tried = progress.committed + progress.conflicts
    share = progress.conflicts / tried if tried else 0.0
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    rate = "" if progress.rate is None else f"{progress.rate:,.0f} commits/s, "
    return (
        f"{progress.phase}: {rate}{progress.committed:,} committed, "
        f"{progress.conflicts:,} conflicts ({share:.1%}){failed}, "
        f"{progress.alive} processes, {progress.left_s:.0f} s left"
    )
