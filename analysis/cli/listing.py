"""`cwkit list` and what `cwkit show` says of a folder that holds more than one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from analysis import wording as words
from analysis.cli import terminal
from analysis.cli.options import RUNS, RunsOption
from analysis.counting import Measured, gather
from analysis.report import (
    CAMPAIGN,
    CELLS_CSV,
    arms_table,
    control_words,
    doubt_words,
    failure_words,
    read_campaign,
    skip_words,
)
from analysis.search import SEARCH, read_rate, read_search
from analysis.wording import Table as Data
from workloads.errors import RunError
from workloads.experiments import (
    DONE,
    NOTE,
    SWEEP_NOTE,
    Experiment,
    read_experiment,
    shipped_sweep,
    skipped_in,
    sweep_names,
)
from workloads.records import RecordedPlan, folders_in, read_manifest
from workloads.runs import SHORT, is_going_on, shape_of
from workloads.scenarios import Scenario, Shape, find_scenario, scenario_names


def list_command(
    scenarios: Annotated[bool, typer.Option(help="the workloads instead, with parameters")] = False,
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="the sweeps that come with the kit instead")
    ] = False,
    runs: RunsOption = RUNS,
) -> None:
    if scenarios:
        for name in scenario_names():
            show_scenario(find_scenario(name), shape_of(name, {}), terminal.console())
    if sweeps:
        list_sweeps(terminal.console())
    if not scenarios and not sweeps:
        list_runs(runs, terminal.console())


def list_runs(runs: Path, console: Console) -> None:
    """One entry for each run, sweep and report; a folder that cannot be read says why."""
    if not os.path.isdir(runs):
        raise RunError(f"{runs}: there are no runs yet. `cwkit run` makes one.")
    table = Table(box=None, pad_edge=False)
    table.add_column("name", overflow="fold", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("result", overflow="fold")
    for folder in folders_in(runs):
        if entry := _entry(folder):
            table.add_row(folder.name, *entry)
    if not table.row_count:
        raise RunError(f"{runs}: holds no run. `cwkit run` makes one.")
    console.print(table)


def list_sweeps(console: Console) -> None:
    """Each sweep that comes with the kit: its name, the minutes it takes and its question."""
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep", no_wrap=True)
    table.add_column("minutes", justify="right")
    table.add_column("question", overflow="fold")
    for sweep in map(shipped_sweep, sweep_names()):
        table.add_row(sweep.name, str(sweep.minutes), sweep.question)
    console.print(table)
    console.print("minutes: on two cores. Run one: cwkit sweep NAME", markup=False)


def _entry(folder: Path) -> tuple[str, str] | None:
    """(what, result) of a folder; None where it is none of ours."""
    try:
        if (folder / NOTE).exists():
            return _of_an_experiment(folder)
        if (folder / CAMPAIGN).exists():
            return _of_a_report(folder)
        if (folder / "manifest.json").exists():
            return _of_a_run(folder)
        if (folder / SEARCH).exists():
            return _of_a_search(folder)
    except (ValueError, OSError) as error:
        return "unreadable", str(error)
    return None


def _of_a_search(folder: Path) -> tuple[str, str]:
    search = read_search(folder)
    what = f"search: {search.plan.scenario} on {search.plan.database}, {search.objective}"
    try:
        rate = read_rate(folder)
    except FileNotFoundError:
        return what, f"unfinished: cwkit search --into {folder}"
    return what, "met at no rate" if rate is None else f"met up to {rate:,g} tx/s"


def _of_an_experiment(folder: Path) -> tuple[str, str]:
    experiment = read_experiment(folder)
    kind = "sweep" if (folder / SWEEP_NOTE).exists() else "experiment"
    arms = words.times(len(experiment.arms), "arm")
    return f"{kind} {experiment.name}: {arms}", progress_of(experiment)


def progress_of(experiment: Experiment) -> str:
    """Cells done of how many, and how many have no result."""
    states = [cell.state for cell in experiment.cells.values()]
    said = f"{states.count(DONE)} of {experiment.blocks * len(experiment.arms)} cells"
    bad = {state: states.count(state) for state in dict.fromkeys(states) if state != DONE}
    return ", ".join([said, *(f"{number} {state}" for state, number in bad.items())])


def _of_a_report(folder: Path) -> tuple[str, str]:
    """Of its experiments those that can be read, and how many cannot."""
    read_campaign(folder)
    found: list[Experiment] = []
    unread = []
    for path in sorted(folder.glob(f"*/{NOTE}")):
        try:
            found.append(read_experiment(path.parent))
        except RunError as error:
            unread.append(str(error))
    cells = sum(e.blocks * len(e.arms) for e in found)
    done = sum(cell.state == DONE for e in found for cell in e.cells.values())
    said = f"{done} of {cells} cells"
    if unread:
        said += f"; {words.times(len(unread), 'experiment')} unreadable: {unread[0]}"
    return f"report: {words.times(len(found) + len(unread), 'experiment')}", said


def _of_a_run(folder: Path) -> tuple[str, str]:
    manifest = read_manifest(folder)
    plan = manifest.plan
    said = f"{manifest.scenario.name or plan.scenario} on {plan.database}"
    if plan.writers:
        said += f", {plan.writers} writers{_unless(plan.write_engine, plan)} {plan.begin}"
    if plan.readers:
        said += f", {plan.readers} readers{_unless(plan.read_engine, plan)}"
    if manifest.under_way is not None or manifest.ended == "running":
        if is_going_on(folder, manifest):
            return said, "running"
        return said, f"interrupted: cwkit recover {folder}"
    kinds = dict.fromkeys(one.kind for one in manifest.troubles or ())
    ended = ", ".join(SHORT.get(kind, kind) for kind in kinds) or manifest.ended
    return said, f"ok, {plan.duration_s:g} s" if manifest.ok else f"NOT ok: {ended}"


def _unless(engine: str, plan: RecordedPlan) -> str:
    return "" if engine == plan.database else f" {engine}"


def show_folder(folder: Path, console: Console) -> bool:
    """Show a sweep, an experiment or a report's folder; False where it is none of these."""
    if (folder / NOTE).exists():
        show_experiment(read_experiment(folder), console)
        return True
    if (folder / CAMPAIGN).exists():
        list_runs(folder, console)
        return True
    return False


def show_experiment(
    experiment: Experiment, console: Console, *, measured: Measured | None = None
) -> None:
    """The table of an experiment's arms, its control, what failed, what was left out.

    measured : the experiment counted, where that was done already.
    """

    def say(line: str = "") -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    measured = measured or gather(experiment)
    states = {key: cell.state for key, cell in experiment.cells.items()}
    say(f"{experiment.name}: {experiment.question}")
    say(f"{progress_of(experiment)}; seed {experiment.seed}; {experiment.folder}")
    say()
    table = arms_table(measured)
    print_table(table, console)
    say()
    if (experiment.folder / CELLS_CSV).exists():
        say(f"Every cell is in {experiment.folder / CELLS_CSV}.")
    for line in [
        table.note,
        control_words(measured),
        *doubt_words(measured),
        *failure_words(measured, states),
        *_left_out(experiment.folder),
    ]:
        say(line)


def _left_out(folder: Path) -> list[str]:
    try:
        return skip_words(skipped_in(folder))
    except RunError as error:
        return [f"What the sweep's rules leave out is not known: {error}"]


def print_table(table: Data, console: Console) -> None:
    """A table on the terminal: words to the left, numbers to the right.

    Where it is too narrow the columns "between" are left out before anything is folded.
    """
    columns = [list(column) for column in zip(table.head, *table.rows, strict=True)]
    widths = [max(map(len, column)) + 2 for column in columns]
    if sum(widths) - 2 > console.width:
        columns = [column for column in columns if column[0] != "between"]
    made = Table(box=None, pad_edge=False)
    for number, (heading, *cells) in enumerate(columns):
        numbers = number > 0 and any(cell[:1].isdigit() for cell in cells)
        made.add_column(heading, justify="right" if numbers else "left", no_wrap=number > 0)
    for row in zip(*(column[1:] for column in columns), strict=True):
        made.add_row(*row)
    console.print(made)


def show_scenario(cls: type[Scenario], defaults: Shape, console: Console) -> None:
    """A scenario from its own registry entry: its story and its parameters with defaults."""
    console.print(f"{cls.name}: {cls.story}", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, field in cls.Params.model_fields.items():
        table.add_row(f"  {name}", str(getattr(defaults, name)), field.description or "")
    console.print(table)
