"""What the commands print: live progress, runs, engines, scenarios."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table

from analysis.cli.run_summary import summary_lines
from analysis.cli.terminal import console as console
from analysis.cli.terminal import one_line
from analysis.wording import times
from workloads.engines import MODES, Probe, engine_names, found
from workloads.engines import REGISTRY as ENGINES
from workloads.experiments import Design, Experiment, OnCell
from workloads.files import json_text
from workloads.records import Run
from workloads.runs import Progress, per_s
from workloads.scenarios import Scenario, Shape


class Live:
    """Progress of a run: one line that changes on a terminal, a line a second elsewhere."""

    def __init__(self, console: Console, prefix: str = "") -> None:
        self.console, self.prefix = console, prefix
        self.live = RichLive(console=console, transient=True) if console.is_terminal else None
        self.said_at, self.said = 0.0, ""

    def __enter__(self) -> Live:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, progress: Progress) -> None:
        words = f"{self.prefix}{progress_words(progress)}"
        if self.live:
            self.live.update(one_line(words))
            return
        now = time.monotonic()
        if now - self.said_at >= 1.0 or progress.phase != self.said:
            self.said_at, self.said = now, progress.phase
            self.console.print(words, markup=False, highlight=False, soft_wrap=True)


class CellCounter:
    """Progress of a set of experiments: a line for each finished cell, and the one that runs."""

    def __init__(self, designs: Sequence[Design], console: Console) -> None:
        self.cells = sum(design.blocks * len(design.arms) for design in designs)
        self.seen = 0
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
            where = f"{experiment_name}, b{block:02d} of {times(experiment.blocks, 'block')}, {arm}"
            if state == "running":
                self.seen = max(self.seen + 1, 1)
                self.live.prefix = f"[{self.seen}/{self.cells}] {where}: "
                self.committed = None
                return
            cell = experiment.cells[block, arm]
            told = f"{state}: {cell.words}" if cell.words else self._rate()
            minutes = (time.monotonic() - self.begun) / 60
            self.console.print(
                f"[{self.seen}/{self.cells}, {minutes:.1f} min] {where}: {told}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

        return on_cell

    def _rate(self) -> str:
        if self.committed is None:
            return "done"
        rate = per_s(self.committed.committed, self.committed.elapsed_s)
        return "done" if rate is None else f"{rate:,.0f} commits/s"

    def __call__(self, progress: Progress) -> None:
        if progress.phase == "measuring":
            self.committed = progress
        if self.console.is_terminal or progress.left_s > 5:
            self.live(progress)


def progress_words(progress: Progress) -> str:
    """One line: the phase, throughput, conflicts and time left."""
    if progress.phase in ("loading", "checking"):
        told = progress.told()
        return f"{progress.phase} the database, {progress.elapsed_s:.0f} s{told and f': {told}'}"
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


def show_run(run: Run, console: Console) -> None:
    """A run in words and tables."""
    for line in summary_lines(run):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_scenario(cls: type[Scenario], defaults: Shape, console: Console) -> None:
    """A scenario from its own registry entry: its story and its parameters with defaults."""
    console.print(f"{cls.name}: {cls.story}", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, field in cls.Params.model_fields.items():
        table.add_row(f"  {name}", str(getattr(defaults, name)), field.description or "")
    console.print(table)


def show_engines(names: list[str], as_json: bool, console: Console, waiting: Console) -> None:
    """Probe engines and print their answers; each refusal in the engine's own words.

    waiting : where it is said which engine is being asked.
    """
    from workloads.engines import probe, to_dict

    wanted = names or [name for name in engine_names() if not name.startswith("faulty-")]
    for name in wanted:
        found(name, ENGINES, "engine", "`cwkit engines` lists them")
    probes = []
    for name in wanted:
        waiting.print(f"asking {name} …")
        probes.append(probe(name))
    if as_json:
        print(json_text([to_dict(one) for one in probes]))
        return
    console.print(engines_table(probes))
    console.print(LEGEND, soft_wrap=True)
    for line in engine_notes(probes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def engines_table(probes: list[Probe]) -> Table:
    """Engine, version, who may open its files, and each BEGIN mode; LEGEND explains the words."""
    table = Table(box=None, pad_edge=False)
    for heading in ("engine", "version", "procs", *MODES):
        table.add_column(heading, overflow="fold", no_wrap=heading == "engine")
    for probe in probes:
        if probe.missing or probe.identity is None:
            table.add_row(probe.engine, "not here")
            continue
        several = {True: "several", False: "one", None: "-"}[probe.several_processes]
        table.add_row(
            probe.engine,
            "-" if probe.engine == "null" else probe.identity.version,
            several,
            *(_mode(probe, mode) for mode in MODES),
        )
    return table


LEGEND = (
    "accepted: it begins. 1 writer: accepted, one write transaction at a time. overlap: accepted, "
    "two write transactions were open at once and both committed. refused: in its own words below."
)


def _mode(probe: Probe, mode: str) -> str:
    answer = probe.modes.get(mode)
    if answer is None:
        return "not asked"
    if not answer.accepted:
        return "refused"
    if answer.overlaps is None:
        return "accepted"
    return "overlap" if answer.overlaps else "1 writer"


def engine_notes(probes: list[Probe]) -> list[str]:
    """Below the table: bindings, source ids, the engines' own words, promises with sources."""
    from workloads.engines import find_engine

    lines: list[str] = []
    for probe in probes:
        lines.append("")
        if probe.missing or probe.identity is None:
            lines.append(f"{probe.engine}: {probe.missing}")
            continue
        identity: Any = probe.identity
        lines.append(f"{probe.engine}: {identity.binding}; source id {identity.source_id or '-'}")
        for mode, answer in probe.modes.items():
            if answer.words:
                lines.append(f"  BEGIN {mode.upper()}: {answer.words}")
            if answer.upgrade:
                lines.append(
                    f"  BEGIN {mode.upper()}: a write after a read, beside another writer and with "
                    f"a busy timeout, is {answer.upgrade}"
                )
        if probe.processes_words:
            lines.append(f"  a second process: {probe.processes_words}")
        promises = find_engine(probe.engine).promises
        told: dict[tuple[str, str], list[str]] = {}
        for mode, promise in promises.items():
            told.setdefault((promise.level, promise.source), []).append(mode)
        for (level, source), modes in told.items():
            lines.append(f"  promises {level} for {', '.join(modes)} ({source})")
    return lines
