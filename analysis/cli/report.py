"""`cwkit report`: run the report's experiments, and write REPORT.md from them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import counting, report
from analysis.cli import terminal
from analysis.cli.experiment_summary import print_table
from analysis.cli.options import RUNS, RunsOption, check_share, command_line
from analysis.cli.progress import CellCounter
from analysis.cli.sittings import measure_sittings, refuse_sittings
from workloads import experiments
from workloads.errors import FolderUnwritable, PlanError, RunError


def report_command(
    quick: Annotated[bool, typer.Option(help="in 90 s: fewer and shorter blocks")] = False,
    seed: Annotated[int, typer.Option(help="seeds the draws and the order of the arms")] = 1,
    into: Annotated[
        Path | None, typer.Option(help="go on with the runs in this folder (default: a new one)")
    ] = None,
    only_write: Annotated[
        bool, typer.Option(help="run nothing: write the report of --into again")
    ] = False,
    sweeps: Annotated[
        list[Path] | None,
        typer.Option("--sweep", help="a sweep's folder, to be reported too; may be repeated"),
    ] = None,
    foreign_limit: Annotated[
        float | None,
        typer.Option(
            callback=check_share,
            help="share of the CPU time that others may use in a run (default: 0.05)",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the report (default: REPORT.md; --quick: with its runs)")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            help="its charts, tables and pages (default: analysis/published; --quick: likewise)"
        ),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(
            help="folder of published sweeps, which it tells too (default: "
            "analysis/published/sweeps)"
        ),
    ] = None,
    hunts: Annotated[
        Path | None,
        typer.Option(
            help="folder of published hunts, which it tells too (default: analysis/published/hunts)"
        ),
    ] = None,
    crashes: Annotated[
        Path | None,
        typer.Option(
            help="folder of published crash campaigns (default: analysis/published/crashes)"
        ),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(
            help="folder of published campaigns of faults (default: analysis/published/faults)"
        ),
    ] = None,
    soaks: Annotated[
        Path | None,
        typer.Option(help="folder of published soaks (default: analysis/published/soaks)"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER",
            help="hold it against another report (its runs' folder, or its facts.json): 1 where a "
            "claim is turned round or an interval of a finding's claim is apart",
        ),
    ] = None,
    sittings: Annotated[
        int,
        typer.Option(help="measure what is claimed in so many sittings, each after a wait"),
    ] = 1,
    apart: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="from the end of a sitting to the next (default: 1h; 7 days at most)",
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="later sittings on the machines of this dask scheduler"
        ),
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    from analysis.report import (
        CRASHES,
        FAULTS,
        HUNTS,
        PUBLISHED,
        SOAKS,
        SUITE_FILE,
        add_sweeps,
        allow_foreign,
        measure_suite,
        planned,
        read_suite,
        refuse_other,
        refuse_place,
        write_report,
    )

    results, waiting = terminal.console(), terminal.console(stderr=True)
    if into is not None and not (into / SUITE_FILE).is_file():
        raise RunError(
            f"{into}: no report was begun there (it has no {SUITE_FILE}), so none can go on. "
            "Leave --into out to begin one; `cwkit list` shows the folders."
        )
    if only_write and into is None:
        raise PlanError("--only-write needs --into FOLDER: `cwkit list` shows the folders.")
    if out is not None and out.is_dir():  # known now, and not after minutes of experiments
        raise PlanError(f"--out {out}: is a folder. Give the file that the report is written to.")
    if out is not None:
        refuse_place(out, figures or Path("analysis/published"))
    for sweep in sweeps or []:
        if not experiments.read_experiment(sweep).design.points:
            raise RunError(f"{sweep}: is no sweep's folder. `cwkit sweep NAME` makes one.")
    apart_s = refuse_sittings(sittings, apart, dask, only_write)
    if against is not None:
        refuse_other(against, into)
    if published is not None and not published.is_dir():
        raise PlanError(f"--published {published}: there is no such folder.")
    if hunts is not None and not hunts.is_dir():
        raise PlanError(f"--hunts {hunts}: there is no such folder.")
    if crashes is not None and not crashes.is_dir():
        raise PlanError(f"--crashes {crashes}: there is no such folder.")
    if faults is not None and not faults.is_dir():
        raise PlanError(f"--faults {faults}: there is no such folder.")
    if soaks is not None and not soaks.is_dir():
        raise PlanError(f"--soaks {soaks}: there is no such folder.")
    if not 0 <= seed < 2**63:
        raise PlanError(f"--seed {seed}: a whole number from 0 to 2**63 - 1.")
    kind = "quick" if quick else "report"
    folder = into or runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-s{seed}"
    if not only_write:
        counter = CellCounter(planned(quick, seed), waiting)
        with counter:
            measure_suite(
                folder,
                quick=quick,
                seed=seed,
                command=command_line(),
                on_cell=counter.of,
                on_progress=counter,
                notify=lambda line: waiting.print(line, markup=False, highlight=False),
                **({} if foreign_limit is None else {"foreign_limit": foreign_limit}),
            )
    try:
        if foreign_limit is not None:
            allow_foreign(folder, foreign_limit)
        if sweeps:
            add_sweeps(folder, sweeps)
    except OSError as error:
        raise experiments.unwritable(folder, error) from error
    # A quick report does not replace the committed one: it stays with its runs.
    beside = read_suite(folder).quick
    out = out or (folder / "REPORT.md" if beside else Path("REPORT.md"))
    figures = figures or (folder / "published" if beside else Path("analysis/published"))

    def write() -> Any:
        try:
            return write_report(
                folder, out, figures, sweeps or (), published or PUBLISHED, hunts or HUNTS,
                crashes=crashes or CRASHES, faults=faults or FAULTS, soaks=soaks or SOAKS,
            )  # fmt: skip
        except OSError as error:
            raise FolderUnwritable(
                f"{error.filename or out}: cannot be written ({error.strerror}). The runs are "
                f"kept: `cwkit report --only-write --into {folder} --out FILE --figures FOLDER` "
                "writes it elsewhere."
            ) from error

    facts = write()
    if sittings > 1:
        allowed = read_suite(folder).foreign_limit
        try:
            measure_sittings(
                folder,
                sittings,
                apart_s,
                command=command_line(),
                dask=dask,
                foreign_limit=counting.FOREIGN_LIMIT if allowed is None else allowed,
                console=waiting,
            )
        except KeyboardInterrupt:
            given = {"--sittings": sittings, "--apart": apart, "--dask": dask}
            given["--seed"] = None if seed == 1 else seed
            for line in _go_on(folder, given, quick):
                waiting.print(line, markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        facts = write()
    results.print(f"{out} tells it; the runs are in {folder}", markup=False, highlight=False)
    if against is not None:
        try:
            held = report.against(folder, facts, against, published or PUBLISHED)
        except OSError as error:
            raise experiments.unwritable(folder, error) from error
        for line in held.lines:
            results.print(line, markup=False, highlight=False)
        print_table(held.table, results)
        results.print(f"{held.page} tells it, too", markup=False, highlight=False)
        if not held.agree:
            raise typer.Exit(1)


def _go_on(folder: Path, given: Mapping[str, object], quick: bool) -> list[str]:
    typed = ["cwkit", "report", *["--quick"] * quick, "--into", str(folder)]
    for option, value in given.items():
        typed += [option, str(value)] if value is not None else []
    return ["interrupted: the sittings so far are kept and told; go on with", shlex.join(typed)]
