"""`cwkit export`: a run or a sweep as one table, or a run in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import RUNS, RunsOption, check_share
from workloads.errors import FolderUnwritable, PlanError
from workloads.files import visible
from workloads.records import find_run


def export_command(
    name: Annotated[
        str, typer.Argument(metavar="RUN|SWEEP", help="its folder, name or a part of it")
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="parquet or csv; of one run also trace (Perfetto), hdr (HdrHistogram log) or "
            "openmetrics (Prometheus)",
        ),
    ] = "parquet",
    what: Annotated[
        str,
        typer.Option(
            help="attempts, due (all transactions that an open loop was to serve), series (a row a "
            "second) or cells "
            "(default: attempts of a run, cells of a sweep)"
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="the file (default: RUN-attempts.parquet and so on, here)")
    ] = None,
    foreign_limit: Annotated[
        float | None,
        typer.Option(
            "--foreign-limit",
            callback=check_share,
            help="of cells: the share of the machine's CPU time that others may use before one is "
            "contaminated (default: 0.05)",
        ),
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    from analysis.counting import FOREIGN_LIMIT, FORMATS, LINES, WHATS, export, export_run

    whats = ("", *WHATS)
    for option, value, known in (
        ("--format", format_, (*FORMATS, *LINES)),
        ("--what", what, whats),
    ):
        if value not in known:
            raise PlanError(f"{option} {value}: give {' or '.join(filter(None, known))}.")
    folder = find_run(name, runs)
    if format_ in LINES and what:
        raise PlanError(f"--what and --format {format_}: this format is of a whole run.")
    made = ENDINGS.get(format_, "")
    what = what or ("cells" if (folder / "experiment.json").is_file() else "attempts")
    if foreign_limit is not None and (made or what != "cells"):
        raise PlanError(
            "--foreign-limit: only an export of a sweep's cells says which of them are doubtful. "
            "Give --what cells, or leave it out."
        )
    limit = FOREIGN_LIMIT if foreign_limit is None else foreign_limit
    out = out or Path(f"{folder.name}{made}" if made else f"{folder.name}-{what}.{format_}")
    try:
        if made:
            rows = export_run(folder, format_, out)
        else:
            rows = export(folder, format_, what, out, limit)
    except OSError as error:
        raise FolderUnwritable(
            f"{out}: cannot be written ({error.strerror}). Give another file with --out."
        ) from error
    print(visible(f"{out}: {rows:,} {CONTENTS.get(format_, what)}"))


ENDINGS = {"trace": ".trace.json", "hdr": ".hlog", "openmetrics": ".prom"}
CONTENTS = {"trace": "events", "hdr": "intervals", "openmetrics": "samples"}
