"""A folder of several runs on one screen: `cwkit show FOLDER`, and the end of `cwkit sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from analysis import counting, models, report
from analysis.cli.campaigns import show_campaign
from analysis.cli.listing import list_runs, progress_of
from analysis.wording import Table as Data
from workloads import experiments
from workloads.errors import RunError
from workloads.files import json_text

if TYPE_CHECKING:
    from analysis.counting import Measured


def show_folder(
    folder: Path,
    console: Console,
    *,
    as_json: bool = False,
    foreign_limit: float = counting.FOREIGN_LIMIT,
) -> bool:
    """Show the folder of an advice, a sweep, an experiment, a report, a hunt or a crash campaign;
    False where it is none.
    """
    if (folder / report.ADVISE_NOTE).exists():
        from analysis.cli.advise import show_advice_in  # here: it has the options of a plan

        show_advice_in(folder, console, as_json=as_json, foreign_limit=foreign_limit)
        return True
    if (folder / experiments.NOTE).exists():
        measured = counting.gather(experiments.read_experiment(folder), foreign_limit)
        show_experiment(measured, console, as_json=as_json)
        return True
    if (folder / report.SUITE_FILE).exists():
        list_runs(folder, console, as_json=as_json, foreign_limit=foreign_limit)
        return True
    return show_campaign(folder, console, as_json=as_json)


def show_experiment(measured: Measured, console: Console, *, as_json: bool = False) -> None:
    """The table of an experiment's arms, its control, what failed, what was left out."""

    def print_line(line: str = "") -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    experiment = measured.experiment
    if as_json:
        from analysis.cli.documents import experiment_document  # here: help needs no numpy

        print(json_text(experiment_document(measured)))
        return
    states = {key: cell.state for key, cell in experiment.cells.items()}
    print_line(f"{experiment.design.name}: {experiment.design.question}")
    print_line(f"{progress_of(experiment)}; seed {experiment.design.seed}; {experiment.folder}")
    print_line()
    if factors := models.factors_of(measured):
        print_line(models.factors_sentence(factors))
        print_line()
    table = report.arms_table(measured)
    print_table(table, console)
    print_line()
    if (experiment.folder / report.CELLS_CSV).exists():
        print_line(f"Every cell is in {experiment.folder / report.CELLS_CSV}.")
    for line in [
        table.note,
        report.control_sentence(measured),
        *report.doubt_lines(measured),
        *report.failure_lines(measured, states),
        *_left_out(experiment.folder),
    ]:
        print_line(line)


def _left_out(folder: Path) -> list[str]:
    try:
        return report.skip_lines(experiments.skipped_in(folder))
    except RunError as error:
        return [f"What the sweep's rules leave out is not known: {error}"]


def print_table(table: Data, console: Console) -> None:
    """A table on the terminal: text flush left, numbers flush right.

    If the terminal is too narrow, the columns "between" are left out before anything is folded.
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
