"""`cwkit conflicts` and `cwkit scaling`: the models of runs and experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from analysis import counting
from analysis.cli import terminal
from analysis.cli.options import RUNS, ForeignLimitOption, LoadOption, RunsOption, load_files
from analysis.wording import Table
from workloads import records
from workloads import runs as running
from workloads.errors import FolderUnwritable, RunError
from workloads.files import made as temporary_made
from workloads.files import replace

if TYPE_CHECKING:
    from workloads.records import RecordedPlan

SvgOption = Annotated[Path | None, typer.Option(help="draw the chart into this file (SVG, PNG)")]
NO_LIMIT = 1 << 62


def conflicts_command(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN|FOLDER…", help="runs, or experiments' folders")
    ],
    svg: SvgOption = None,
    load: LoadOption = None,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    runs: RunsOption = RUNS,
) -> None:
    from analysis.cli.run_summary import arms_refusals, conflicts, refusals
    from analysis.models import (
        NoAnswer,
        NotLoaded,
        error_table,
        predict,
        prediction_table,
        predictions,
    )
    from workloads.experiments import read_experiment

    folders = [records.find_run(name, runs) for name in names]
    if load:
        load_files(load, [plan for folder in folders for plan in _plans(folder)])
    console = terminal.console()
    made, without, shown = [], [], False
    for folder in folders:
        if (folder / "experiment.json").is_file():
            measured = counting.gather(read_experiment(folder), foreign_limit)
            for part in arms_refusals(measured):
                console.print(part)
                shown = True
            several, why = predictions(measured)
            made += several
            without += why
            continue
        run = records.read_run(folder)
        running.must_be_over(folder, run.manifest)
        behind = conflicts(run, NO_LIMIT)
        for part in (*refusals(run), *behind):
            console.print(part)
            shown = True
        try:
            made.append(predict(run))
        except NotLoaded as error:
            without += [] if behind else [str(error)]  # or it is shown there
        except NoAnswer as error:
            without.append(str(error))
    if made:
        console.print()
        _print(prediction_table(made), console)
        if len(made) > 1:
            console.print()
            _print(error_table(made), console)
    if without and not made and not shown:
        raise RunError(" ".join(without))
    for reason in without:
        console.print()
        console.print(f"Not predicted: {reason}")
    if made and svg is not None:
        from analysis.charts import predicted_against_observed  # matplotlib: slow to import

        _draw(predicted_against_observed, made, svg)


def _plans(folder: Path) -> list[RecordedPlan]:
    """The plans of a run, or of each arm of an experiment."""
    from workloads.experiments import read_experiment

    if (folder / "experiment.json").is_file():
        return [
            records.RecordedPlan(**values)
            for values in read_experiment(folder).design.arms.values()
        ]
    return [records.read_manifest(folder).plan]


def scaling_command(
    name: Annotated[str, typer.Argument(metavar="FOLDER", help="an experiment's folder")],
    svg: SvgOption = None,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    runs: RunsOption = RUNS,
) -> None:
    from analysis.models import scaling_table, scalings
    from workloads.experiments import read_experiment

    console = terminal.console()
    experiment = read_experiment(records.find_run(name, runs))
    found = scalings(counting.gather(experiment, foreign_limit))
    if not found:
        raise RunError(
            f"{name}: no arms that differ in the number of writers only, so there is nothing to "
            "fit. An experiment with several numbers of writers has them."
        )
    _print(scaling_table(found), console)
    if found and svg is not None:
        from analysis.charts import scaling_law  # matplotlib: slow to import

        _draw(scaling_law, found, svg)


def _print(table: Table, console: Console) -> None:
    from analysis.cli.run_summary import plain_table

    console.print(plain_table(table))
    if table.note:
        console.print()
        console.print(table.note)


def _draw(chart: Callable[[Any, Path], None], what: Sequence[Any], path: Path) -> None:
    try:
        with temporary_made("chart") as folder:
            drawn = folder / f"chart{path.suffix}"
            chart(what, drawn)
            replace(path, drawn.read_bytes(), named=True)
    except (OSError, ValueError) as error:
        raise FolderUnwritable(f"{path}: the chart cannot be written there ({error}).") from error
