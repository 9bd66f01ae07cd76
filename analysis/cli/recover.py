"""`cwkit recover`: finish runs whose process was killed, and clear what killed processes left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from analysis.cli import terminal
from analysis.cli.options import RUNS, DatabasesOption, LoadOption, PostgresOption, RunsOption
from analysis.cli.progress import Live
from analysis.cli.show import show_run
from analysis.wording import times
from workloads import experiments, records
from workloads import runs as running
from workloads.engines import clear_elsewhere, trust
from workloads.errors import PlanError
from workloads.files import usual_places, visible

if TYPE_CHECKING:
    from workloads.experiments import Cleared
    from workloads.records import Manifest


BROKEN, UNDECIDED = 1, 3


def recover_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RUN|FOLDER", help="a run, or a folder of a sweep's or report's"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="all that killed processes have left")
    ] = False,
    load: LoadOption = None,
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
    postgres: PostgresOption = None,
) -> None:
    if (name is None) != everything:
        raise PlanError("recover: give a run, or --all for everything that was left.")
    trust(*load or ())
    console = terminal.console()
    folder = records.find_run(name, runs) if name is not None else None
    with Live(terminal.console(stderr=True)) as live:
        if folder is not None and (folder / records.MANIFEST).exists():
            made = running.recover(folder, on_progress=live)
            found = [made.run.manifest] if made.run is not None else []
        else:
            hunts = [path.parent for path in runs.glob("*/hunt.json")]  # findings in the making
            places = [*usual_places(), *hunts, *([databases] if databases else [])]
            done = experiments.recover_all(
                [folder or runs],
                [] if folder else places,
                notify=lambda line: _print_lines(console, line),
                on_progress=live,
            )
            made, found = None, [one.run.manifest for one in done.runs if one.run is not None]
    if made is None:
        if folder is None and not done.failed:
            for line in clear_elsewhere():
                _print_lines(console, line)
        _print_lines(console, _summary(done))
        raise typer.Exit(BROKEN if done.failed else _status(found))
    if made.run is not None:
        from analysis.cli.documents import keep_numbers  # here: help needs no numpy

        keep_numbers(made.run)
        show_run(made.run, console)
    _print_lines(console, f"{folder}: {_whole(made.what) or experiments.sentence(made)}")
    raise typer.Exit(_status(found))


def _status(found: Sequence[Manifest]) -> int:
    if any(manifest.broken for manifest in found):
        return BROKEN
    return UNDECIDED if any(manifest.unmade for manifest in found) else 0


def _whole(what: str) -> str:
    return "is over, and nothing was left to be done." if what == "whole" else ""


def _summary(done: Cleared) -> str:
    """The result of `--all`, and the things that it could not do."""
    if not done.runs and not done.folders and not done.failed:
        return "Nothing was left."
    finished = sum(one.run is not None for one in done.runs)
    removed = len(done.runs) - finished
    cleared = times(len(done.folders), "folder")
    counts = f"{times(finished, 'run')} finished, {removed} removed, {cleared} cleared."
    return "\n".join([counts, *(f"Not done: {why}" for why in done.failed)])


def _print_lines(console: Console, text: str) -> None:
    console.print(visible(text, keep="\n"), markup=False, highlight=False, soft_wrap=True)
