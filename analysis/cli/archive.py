"""`cwkit archive`: a run's, sweep's or report's folder as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import RUNS, RunsOption
from workloads import records
from workloads.errors import FolderUnwritable, PlanError
from workloads.files import visible


def archive_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RUN|FOLDER", help="its folder, name or a part of it"),
    ] = None,
    unpack: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="the other way: put the folder of this file to the runs"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the file (default: RUN.tar.gz, here)")] = None,
    runs: RunsOption = RUNS,
) -> None:
    if (name is None) == (unpack is None):
        raise PlanError("archive: give a run to make a file of, or --unpack FILE.")
    if unpack is not None and out is not None:
        raise PlanError("--unpack and --out: the folder goes to --runs. Leave --out out.")
    try:
        if unpack is not None:
            made = records.unpack(unpack, runs)
        else:
            folder = records.find_run(str(name), runs)
            out = out or Path(f"{folder.absolute().name}{records.ARCHIVE_SUFFIX}")
            made = records.pack(folder, out)
    except OSError as error:
        where = error.filename or out or runs
        raise FolderUnwritable(f"{where}: cannot be written ({error.strerror}).") from error
    print(visible(f"{made.path}: {made.files:,} files, {made.bytes:,} bytes"))
