"""A sweep while it runs: cells done, running and failed, time left, the best and the worst arm."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live as RichLive

from analysis import counting
from analysis.cli.progress import progress_line
from analysis.cli.terminal import one_line
from analysis.wording import number, times
from workloads import experiments
from workloads.errors import RunError

if TYPE_CHECKING:
    from workloads.experiments import Beside, Experiment
    from workloads.runs import Progress

RUNNING_SHOWN = 8
"""Cells that run now and have a line of their own."""

SHOW_S = 0.5
"""Between two changes on the screen, s."""


class SweepLive:
    """On a terminal a few lines that change; elsewhere a line for each finished cell.

    `on_cell` and `watch` are for `workloads.experiments.run_experiment`. guess : the time that a
    cell takes beside its run, as far as it is known before. The times of this sweep's finished
    cells replace it.
    """

    def __init__(self, console: Console, experiment: Experiment, guess: Beside, jobs: int) -> None:
        self.console, self.experiment, self.jobs = console, experiment, jobs
        self.ran, self.shown_at = 0, 0.0
        self.cost = self._costs(guess)
        self.running: dict[tuple[int, str], Progress | None] = {}
        self.rates: dict[str, list[float]] = {}
        self.live = (
            RichLive(console=console, transient=True, auto_refresh=False)
            if console.is_terminal
            else None
        )
        for cell in experiment.cells.values() if self.live else ():
            self._rate(cell)  # for the best and the worst, which only a screen shows

    def __enter__(self) -> SweepLive:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    # -- called by the conductor ----------------------------------------------------------------

    def on_cell(self, experiment: Experiment, block: int, arm: str, state: str) -> None:
        self.experiment = experiment
        if state == "running":
            self.running[block, arm] = None
            self._show()
            return
        self.running.pop((block, arm), None)
        if (block, arm) not in experiment.cells:  # its machine was lost; it will be run again
            self._show()
            return
        self.ran += 1
        cell = experiment.cells[block, arm]
        rate = self._rate(cell)
        if self.ran in (1, 8) or self.ran % 20 == 0:
            self.cost = self._costs(experiments.beside([experiment.folder]))
        result = f"{number(rate)} committed/s" if rate is not None else "done"
        if cell.state != experiments.DONE:
            result = f"{cell.state}: {cell.reason}"
        line = (
            f"[{len(experiment.cells)}/{self._cells()}, {self._time_left()} left] "
            f"b{block:02d} of {times(experiment.design.blocks, 'block')}, {arm}: {result}"
        )
        if not self.live or cell.state != experiments.DONE:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._show()

    def watch(self, block: int, arm: str, progress: Progress) -> None:
        self.running[block, arm] = progress
        # Seldom: what is shown takes CPU time that a cell could have had.
        if time.monotonic() - self.shown_at >= SHOW_S:
            self._show()

    # -- shown ----------------------------------------------------------------------------------

    def _show(self) -> None:
        if self.live:
            self.shown_at = time.monotonic()
            self.live.update(Group(*map(one_line, self.lines())), refresh=True)

    def lines(self) -> list[str]:
        """The lines on the terminal now."""
        states = [cell.state for cell in self.experiment.cells.values()]
        done = experiments.DONE
        bad = {state: states.count(state) for state in dict.fromkeys(states) if state != done}
        counts = [f"{len(states)} of {self._cells()} cells done"]
        counts += [f"{many} {state}" for state, many in bad.items()]
        counts += [f"{len(self.running)} running", f"{self._time_left()} left"]
        lines = [f"{self.experiment.design.name}: {', '.join(counts)}"]
        for (block, arm), progress in list(self.running.items())[:RUNNING_SHOWN]:
            how = progress_line(progress) if progress else "starting"
            lines.append(f"  b{block:02d}, {arm}: {how}")
        medians = {arm: statistics.median(rates) for arm, rates in self.rates.items() if rates}
        if medians:
            best = max(medians, key=lambda arm: medians[arm])
            worst = min(medians, key=lambda arm: medians[arm])
            lines.append(f"  best so far: {best}, {number(medians[best])} committed/s")
            if worst != best:
                lines.append(f"  worst so far: {worst}, {number(medians[worst])} committed/s")
        return lines

    def _rate(self, cell: Any) -> float | None:
        """The writers' throughput of a finished cell (the readers' where nobody writes)."""
        if cell.state != experiments.DONE:
            return None
        try:
            roles = counting.count(cell.read()).roles
        except (RunError, KeyError, TypeError):
            return None
        if role := next((role for role in ("writer", "reader") if role in roles), None):
            self.rates.setdefault(cell.arm, []).append(roles[role].per_s)
            return roles[role].per_s
        return None

    def _cells(self) -> int:
        return self.experiment.design.cells

    def left_s(self) -> float:
        """The time that the cells still to be run will take, s."""
        return sum(self.cost[arm] for _, arm in self.experiment.left()) / self.jobs

    def _costs(self, guess: Beside) -> dict[str, float]:
        """The time of a cell of each arm, s: that of its own finished cells, else the guess."""
        costs = {arm: guess.seconds(values) for arm, values in self.experiment.design.arms.items()}
        for arm in costs:
            took = [cell.took_s for cell in self.experiment.arm(arm) if cell.took_s]
            if took:
                costs[arm] = statistics.median(took)
        return costs

    def _time_left(self) -> str:
        return waiting_time(self.left_s())


def waiting_time(seconds: float) -> str:
    """A time as a person waits for it.

    >>> waiting_time(8.2), waiting_time(100), waiting_time(7300)
    ('8 s', '1.7 min', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
