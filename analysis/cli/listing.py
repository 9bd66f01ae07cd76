"""`cwkit list`: the runs, sweeps, reports and campaigns there are; or the workloads or the sweeps.

A room is imported only when a folder of its kind is found, because the list is typed often.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from analysis import counting
from analysis.cli import terminal
from analysis.cli.campaigns import (
    CRASH,
    FAULTS,
    HUNT,
    SOAK,
    of_a_crash,
    of_a_hunt,
    of_a_soak,
    of_faults,
)
from analysis.cli.options import RUNS, ForeignLimitOption, JsonOption, RunsOption
from analysis.wording import times
from workloads import records
from workloads.errors import PlanError, RunError
from workloads.files import json_text

if TYPE_CHECKING:
    from workloads.experiments import Experiment
    from workloads.records import Manifest, RecordedPlan
    from workloads.scenarios import Scenario, Shape


TROUBLES = {
    "recording": "could not record",
    "full": "full disk",
    "io": "I/O errors",
    "limit": "a limit was met",
    "commits": "COMMITs refused",
    "failed": "many attempts failed",
}
"""The text of each kind of trouble (workloads.runs.trouble) in a table's cell."""


def list_command(
    scenarios: Annotated[bool, typer.Option(help="the workloads instead, with parameters")] = False,
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="the sweeps that come with the kit instead")
    ] = False,
    as_json: JsonOption = False,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    runs: RunsOption = RUNS,
) -> None:
    if as_json and scenarios and sweeps:
        raise PlanError("--json: one document at a time. Give --scenarios or --sweeps.")
    if scenarios:
        list_scenarios(terminal.console(), as_json=as_json)
    if sweeps:
        list_sweeps(terminal.console(), as_json=as_json)
    if not scenarios and not sweeps:
        list_runs(runs, terminal.console(), as_json=as_json, foreign_limit=foreign_limit)


def list_runs(
    runs: Path,
    console: Console,
    *,
    as_json: bool = False,
    foreign_limit: float = counting.FOREIGN_LIMIT,
) -> None:
    """One entry for each run, sweep and report; a folder that cannot be read says why.

    foreign_limit : share of the machine's CPU time that others may use before a run is doubtful.
    """
    if not os.path.isdir(runs):
        raise RunError(f"{runs}: there are no runs yet. `cwkit run` makes one.")
    saved = records.names_of(runs)
    found = [
        entry for folder in records.folders_in(runs) if (entry := _entry(folder, foreign_limit))
    ]
    if not found:
        raise RunError(f"{runs}: holds no run. `cwkit run` makes one.")
    if as_json:
        from analysis.cli.documents import document

        rows = [
            {**entry._asdict(), "folder": runs / entry.name, "saved": saved.get(entry.name, [])}
            for entry in found
        ]
        print(json_text(document("list", folder=runs, runs=rows)))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", overflow="fold", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("result", overflow="fold")
    for entry in found:
        names = "".join(f" ({name})" for name in saved.get(entry.name, []))
        doubt = f", doubtful: {entry.doubtful}" if entry.doubtful else ""
        table.add_row(f"{entry.name}{names}", entry.what, f"{entry.result}{doubt}")
    console.print(table)


def list_sweeps(console: Console, *, as_json: bool = False) -> None:
    """Each sweep that comes with the kit: its name, the minutes it takes and its question."""
    from workloads.experiments import shipped_sweep, sweep_names

    if as_json:
        from analysis.cli.documents import document

        rows = [
            {"name": sweep.name, "minutes": sweep.minutes, "question": sweep.question}
            for sweep in map(shipped_sweep, sweep_names())
        ]
        print(json_text(document("sweeps", sweeps=rows)))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep", no_wrap=True)
    table.add_column("minutes", justify="right")
    table.add_column("question", overflow="fold")
    for sweep in map(shipped_sweep, sweep_names()):
        table.add_row(sweep.name, str(sweep.minutes), sweep.question)
    console.print(table)
    console.print("minutes: on two cores. Run one: cwkit sweep NAME", markup=False)


class Entry(NamedTuple):
    """A folder in the list. kind : run, sweep, experiment, advice, report, search, hunt,
    crash, faults, soak or unreadable.
    doubtful : why no number of a run is to be quoted; None where nothing is known against it.
    """

    name: str
    kind: str
    what: str
    result: str
    doubtful: str | None = None


def _entry(folder: Path, foreign_limit: float) -> Entry | None:
    """A folder's line; None where it is not one of ours."""
    try:
        for note, describe in KINDS.items():
            if (folder / note).exists():
                what, result, *manifest = describe(folder)
                kind = "run" if note == records.MANIFEST else re.split("[ :]", what)[0]
                doubts = [counting.contamination(one, foreign_limit) for one in manifest]
                return Entry(folder.name, kind, what, result, "".join(doubts) or None)
    except (ValueError, OSError) as error:
        return Entry(folder.name, "unreadable", "unreadable", str(error))
    return None


def _of_a_search(folder: Path) -> tuple[str, str]:
    from analysis.search import read_rate, read_search

    search = read_search(folder)
    what = f"search: {search.plan.scenario} on {search.plan.database}, {search.objective}"
    try:
        rate = read_rate(folder)
    except FileNotFoundError:
        return what, f"unfinished: cwkit search --into {folder}"
    return what, "met at no rate" if rate is None else f"met up to {rate:,g} tx/s"


def _of_an_experiment(folder: Path) -> tuple[str, str]:
    from workloads.experiments import SWEEP_NOTE, read_experiment

    experiment = read_experiment(folder)
    kind = "sweep" if (folder / SWEEP_NOTE).exists() else "experiment"
    if (folder / "advise.json").exists():
        return _of_an_advice(folder, experiment), progress_of(experiment)
    arms = times(len(experiment.design.arms), "arm")
    return f"{kind} {experiment.design.name}: {arms}", progress_of(experiment)


def _of_an_advice(folder: Path, experiment: Experiment) -> str:
    """The scripts that it is about, by their plan."""
    from workloads.scenarios import named

    params = next(iter(experiment.design.arms.values())).get("params", {})
    return f"advice: {named(params.get('tx', ()))}"


def progress_of(experiment: Experiment) -> str:
    """How many of the cells are done, and how many have no result."""
    from workloads.experiments import DONE

    states = [cell.state for cell in experiment.cells.values()]
    text = f"{states.count(DONE)} of {experiment.design.cells} cells"
    bad = {state: states.count(state) for state in dict.fromkeys(states) if state != DONE}
    return ", ".join([text, *(f"{number} {state}" for state, number in bad.items())])


def _of_a_report(folder: Path) -> tuple[str, str]:
    """The experiments of a report that can be read, and how many cannot."""
    from analysis.report import read_suite
    from workloads.experiments import DONE, NOTE, read_experiment

    read_suite(folder)
    found: list[Experiment] = []
    unread = []
    for path in sorted(folder.glob(f"*/{NOTE}")):
        try:
            found.append(read_experiment(path.parent))
        except RunError as error:
            unread.append(str(error))
    cells = sum(e.design.cells for e in found)
    done = sum(cell.state == DONE for e in found for cell in e.cells.values())
    result = f"{done} of {cells} cells"
    if unread:
        result += f"; {times(len(unread), 'experiment')} unreadable: {unread[0]}"
    return f"report: {times(len(found) + len(unread), 'experiment')}", result


def _of_a_run(folder: Path) -> tuple[str, str, Manifest]:
    manifest = records.read_manifest(folder)
    plan = manifest.plan
    what = f"{manifest.scenario.name or plan.scenario} on {plan.database}"
    if plan.writers:
        what += f", {plan.writers} writers{_unless(plan.write_engine, plan)} {plan.begin}"
    if plan.readers:
        what += f", {plan.readers} readers{_unless(plan.read_engine, plan)}"
    if manifest.under_way is not None or manifest.ended == "running":
        from workloads.runs import is_going_on

        if is_going_on(folder, manifest):
            return what, "running", manifest
        return what, f"interrupted: cwkit recover {folder}", manifest
    if manifest.ok:
        return what, f"ok, {plan.duration_s:g} s", manifest
    kinds = dict.fromkeys(one.kind for one in manifest.troubles or ())
    ended = ", ".join(TROUBLES.get(kind, kind) for kind in kinds) or manifest.ended
    return what, f"NOT ok: {ended}", manifest


def _unless(engine: str, plan: RecordedPlan) -> str:
    return "" if engine == plan.database else f" {engine}"


def list_scenarios(console: Console, *, as_json: bool = False) -> None:
    """Each workload with its parameters."""
    from workloads.runs import shape_of
    from workloads.scenarios import find_scenario, scenario_names

    if as_json:
        from analysis.cli.documents import document

        rows = []
        for name in scenario_names():
            cls, values = find_scenario(name), shape_of(name, {}).model_dump(mode="json")
            helps = {key: field.description or "" for key, field in cls.Params.model_fields.items()}
            params = [{"name": key, "default": values[key], "help": helps[key]} for key in helps]
            rows.append({"name": cls.name, "story": cls.story, "params": params})
        print(json_text(document("scenarios", scenarios=rows)))
        return

    for name in scenario_names():
        show_scenario(find_scenario(name), shape_of(name, {}), console)


def show_scenario(cls: type[Scenario], defaults: Shape, console: Console) -> None:
    """A scenario from its own registry entry: its story and its parameters with defaults."""
    console.print(f"{cls.name}: {cls.story}", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, field in cls.Params.model_fields.items():
        table.add_row(f"  {name}", str(getattr(defaults, name)), field.description or "")
    console.print(table)


KINDS: dict[str, Callable[[Path], tuple[Any, ...]]] = {
    "experiment.json": _of_an_experiment,
    "campaign.json": _of_a_report,
    "manifest.json": _of_a_run,
    "search.json": _of_a_search,
    HUNT: of_a_hunt,
    CRASH: of_a_crash,
    FAULTS: of_faults,
    SOAK: of_a_soak,
}
"""The file that tells a folder's kind -> what it is, its result and, of a run, its manifest. The
rooms define these names too; to take them from there would import all four rooms."""
