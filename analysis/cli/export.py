"""`cwkit export`: a run or a sweep as one table for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import RUNS, RunsOption
from workloads.errors import FolderUnwritable, PlanError
from workloads.records import find_run


def export_command(
    name: Annotated[
        str, typer.Argument(metavar="RUN|SWEEP", help="its folder, name or a part of it")
    ],
    format_: Annotated[str, typer.Option("--format", help="parquet or csv")] = "parquet",
    what: Annotated[
        str,
        typer.Option(
            help="attempts, due (all transactions that an open loop was to serve) or cells "
            "(default: attempts of a run, cells of a sweep)"
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="the file (default: RUN-attempts.parquet and so on, here)")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    from analysis.counting import FORMATS, WHATS, export

    whats = ("", *WHATS)
    for option, value, known in (("--format", format_, FORMATS), ("--what", what, whats)):
        if value not in known:
            raise PlanError(f"{option} {value}: give {' or '.join(filter(None, known))}.")
    folder = find_run(name, runs)
    what = what or ("cells" if (folder / "experiment.json").is_file() else "attempts")
    out = out or Path(f"{folder.name}-{what}.{format_}")
    try:
        rows = export(folder, format_, what, out)
    except OSError as error:
        raise FolderUnwritable(
            f"{out}: cannot be written ({error.strerror}). Give another file with --out."
        ) from error
    print(f"{out}: {rows:,} {what}")
