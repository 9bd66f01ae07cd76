"""`cwkit show`: one run as sentences and tables, or a sweep's table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from analysis import counting
from analysis.cli import terminal
from analysis.cli.experiment_summary import show_folder
from analysis.cli.options import RUNS, ForeignLimitOption, JsonOption, RunsOption
from workloads import records
from workloads.errors import RunError
from workloads.files import json_text, replace, visible

if TYPE_CHECKING:
    from workloads.records import Run


def show_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="its folder, name or a part of it")],
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page of a run: docs/pages.md")
    ] = None,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    runs: RunsOption = RUNS,
) -> None:
    folder, console = records.find_run(name, runs), terminal.console()
    if html is not None:
        write_page(folder, html, as_json=as_json, foreign_limit=foreign_limit)
        return
    if not show_folder(folder, console, as_json=as_json, foreign_limit=foreign_limit):
        show_run(records.read_run(folder), console, as_json=as_json, foreign_limit=foreign_limit)


def show_run(
    run: Run,
    console: Console,
    *,
    as_json: bool = False,
    foreign_limit: float = counting.FOREIGN_LIMIT,
) -> None:
    """Print a run as sentences and tables, or as its document."""
    from analysis.cli.documents import run_document  # here: no help needs what it imports
    from analysis.cli.run_summary import summary_lines

    if as_json:
        print(json_text(run_document(run, foreign_limit)))
        return

    for line in summary_lines(run, foreign_limit=foreign_limit):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def write_page(folder: Path, file: Path, *, as_json: bool = False, foreign_limit: float) -> None:
    """Write a run's page, and print the run's document, or where the page is and how large.

    Raises RunError where there is no page of what the folder holds, or it cannot be written.
    """
    from analysis.charts import run_page
    from analysis.cli.documents import run_document
    from analysis.cli.run_summary import summary_lines, unfinished

    if not (folder / records.MANIFEST).is_file():
        raise RunError(
            f"{folder}: --html is of one run, and this is none. Name a run of this folder."
        )
    run = records.read_run(folder)
    document = run_document(run, foreign_limit)
    lines = summary_lines(run, foreign_limit=foreign_limit)
    made = run_page(run, document, lines, unfinished(run))
    try:
        replace(file, made, named=True)
    except OSError as error:
        raise RunError(f"{file}: can't be written: {error.strerror}.") from None
    size = len(made.encode()) / 2**20
    print(json_text(document) if as_json else f"{visible(file)}: {size:.1f} MiB")
