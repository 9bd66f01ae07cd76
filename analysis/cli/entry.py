"""The command line: every capability of the kit is one command, and bad input is one sentence.

Results go to standard output, and what is for people who wait (progress) to standard error.
Exit status: 0 it is well; 1 something is not (an invariant broke, a worker died, a disk filled,
many attempts failed, a level is violated); 2 the input cannot be used, and nothing was written; 3
cannot be decided; 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

import analysis.cli.compare
import analysis.cli.export
import analysis.cli.models
import analysis.cli.recover
import analysis.cli.search
import analysis.cli.sweep
from analysis.cli import listing, show
from analysis.cli.command import RUNS, DatabasesOption, RunsOption, app, command_line, settings_of
from analysis.cli.terminal import guarded
from workloads.engines import trust
from workloads.errors import (
    EngineMissing,
    FolderUnwritable,
    PlanError,
    RunError,
    RunFailed,
    UnknownName,
    shortened,
)
from workloads.experiments import read_experiment, unwritable
from workloads.files import visible
from workloads.records import find_run
from workloads.runs import PlanErrors, make_plan, run, shape_of
from workloads.scenarios import find_scenario, scenario_names

__all__ = ["app", "main"]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Console entry: turns whatever the user could mend into one sentence and status 2."""
    signal.signal(signal.SIGTERM, _terminated)
    with guarded():
        try:
            analysis.cli.recover.name_left_over(sys.argv[1:])
            app()
        except (PlanError, UnknownName, EngineMissing, RunError, RunFailed) as error:
            # Each of several mistakes is a line of ours, and the text in it was made visible.
            ours = "\n" if isinstance(error, PlanErrors) else ""
            for sentence in visible(_by_option(error), keep=ours).splitlines():
                print(f"cwkit: {sentence}", file=sys.stderr)
            for line in getattr(error, "said", "").splitlines():
                print(f"  | {visible(line)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("cwkit: interrupted.", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            sys.exit(0)
        except OSError as error:
            if error.errno in DISK_FULL:
                print(
                    f"cwkit: the disk is full ({error.strerror}); what was written by then is "
                    "kept. Free some space; `cwkit recover --all` finishes what was cut short.",
                    file=sys.stderr,
                )
                sys.exit(1)
            if error.filename is None:
                raise
            where = visible(shortened(str(error.filename)))
            print(f"cwkit: {where}: {error.strerror}. Give another path.", file=sys.stderr)
            sys.exit(2)


def _by_option(error: Exception) -> str:
    """What is wrong, by the name of the option: the plan calls --duration `duration_s`."""
    said, field = str(error), getattr(error, "field", "")
    if not field or not any(option in sys.argv for option in ("run", "search")):
        return said
    name = field.removesuffix("_s").removeprefix("retry.")
    name = {"base_us": "retry_base_us", "cap_us": "retry_cap_us", "policy": "retry"}.get(name, name)
    option = f"--{name.replace('_', '-')}"
    if not any(word.partition("=")[0] == option for word in sys.argv):
        return said  # given in another way, such as --set
    return said.replace(f"{field}: ", f"{option}: ", 1)


def _terminated(number: int, frame: Any) -> None:
    """A `kill` ends a run as Ctrl-C does: with what it had, and with its processes reaped."""
    raise KeyboardInterrupt


@app.command("run")
def run_command(
    scenario: Annotated[str, typer.Option(help="a name, or path.py:Name")] = "bank",
    database: Annotated[str, typer.Option(help="engine that creates and checks it")] = "libsql",
    writers: Annotated[int, typer.Option(help="processes that write")] = 4,
    write_engine: Annotated[str, typer.Option(help="their engine (default: --database)")] = "",
    begin: Annotated[
        str, typer.Option(help="their BEGIN: deferred, immediate, exclusive, concurrent")
    ] = "immediate",
    readers: Annotated[
        int | None, typer.Option(help="processes that only read (default: 0, or the scenario's)")
    ] = None,
    read_engine: Annotated[str, typer.Option(help="their engine (default: --database)")] = "",
    read_begin: Annotated[str, typer.Option(help="their BEGIN mode")] = "deferred",
    checkpointers: Annotated[int, typer.Option(help="processes that only checkpoint")] = 0,
    checkpoint: Annotated[str, typer.Option(help="passive, full, restart or truncate")] = "passive",
    checkpoint_engine: Annotated[str, typer.Option(help="their engine")] = "",
    checkpoint_pause_ms: Annotated[float, typer.Option(help="mean pause between two")] = 0,
    duration: Annotated[
        float | None, typer.Option(help="measured part, s (default: 10, or the scenario's own)")
    ] = None,
    warmup: Annotated[
        float | None, typer.Option(help="excluded part before it, s (default: 1, or its own)")
    ] = None,
    transactions: Annotated[int, typer.Option(help="of each worker; 0: by duration")] = 0,
    rate: Annotated[float, typer.Option(help="open loop: writes started a second; 0: closed")] = 0,
    read_rate: Annotated[float, typer.Option(help="the same for the readers")] = 0,
    retry: Annotated[
        str, typer.Option(help="after a conflict: none, immediate, exponential")
    ] = "exponential",
    retry_base_us: Annotated[float, typer.Option(help="exponential: first wait at most, us")] = 100,
    retry_cap_us: Annotated[float, typer.Option(help="exponential: any wait at most, us")] = 50_000,
    most_tries: Annotated[int, typer.Option(help="give a transaction up after; 0: never")] = 0,
    rows: Annotated[int | None, typer.Option(help="rows loaded (default: the scenario's)")] = None,
    record_bytes: Annotated[int | None, typer.Option(help="payload of a row, bytes")] = None,
    operations: Annotated[int | None, typer.Option(help="operations a transaction")] = None,
    think_us: Annotated[float | None, typer.Option(help="work in a transaction, us")] = None,
    think: Annotated[str | None, typer.Option(help="how: spin (CPU time) or sleep")] = None,
    keys: Annotated[
        str | None, typer.Option(help="uniform, zipfian:THETA, hotspot:X:Y, latest")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of the scenario; `cwkit list --scenarios`"),
    ] = None,
    journal_mode: Annotated[str | None, typer.Option(help="PRAGMA (default: wal)")] = None,
    synchronous: Annotated[
        str | None,
        typer.Option(help="PRAGMA: off, normal, full, extra (default: normal, or its own)"),
    ] = None,
    busy_timeout_ms: Annotated[int, typer.Option(help="PRAGMA")] = 2000,
    cache_size: Annotated[int, typer.Option(help="PRAGMA: pages, or KiB if negative")] = -16000,
    page_bytes: Annotated[int, typer.Option(help="PRAGMA page_size of the new database")] = 4096,
    wal_autocheckpoint: Annotated[int, typer.Option(help="PRAGMA: pages; 0: none")] = 1000,
    mmap_bytes: Annotated[int, typer.Option(help="PRAGMA mmap_size")] = 0,
    seed: Annotated[int, typer.Option(help="draws the same transactions again")] = 0,
    pin: Annotated[bool, typer.Option(help="one CPU for each worker, in turn")] = False,
    deadline: Annotated[float, typer.Option(help="wait so long for a worker that hangs, s")] = 15,
    load_limit: Annotated[float, typer.Option(help="loading it may take so long, s")] = 900,
    check_limit: Annotated[float, typer.Option(help="checking it may take so long, s")] = 900,
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
    keep_database: Annotated[bool, typer.Option(help="keep it in the run's folder")] = False,
) -> None:
    """Hammer one database with many processes, and check what is left of it."""
    given = {
        "rows": rows,
        "record_bytes": record_bytes,
        "operations": operations,
        "think_us": think_us,
        "think": think,
        "keys": keys,
    }
    params = {name: value for name, value in given.items() if value is not None}
    trust(scenario, database, write_engine, read_engine, checkpoint_engine)
    plan = make_plan(
        scenario=scenario,
        params=params | settings_of(set_ or []),
        database=database,
        writers=writers,
        write_engine=write_engine,
        begin=begin,
        readers=readers,
        read_engine=read_engine,
        read_begin=read_begin,
        checkpointers=checkpointers,
        checkpoint=checkpoint,
        checkpoint_engine=checkpoint_engine,
        checkpoint_pause_ms=checkpoint_pause_ms,
        duration_s=duration,
        warmup_s=warmup,
        transactions=transactions,
        rate=rate,
        read_rate=read_rate,
        retry={
            "policy": retry,
            "base_us": retry_base_us,
            "cap_us": retry_cap_us,
            "most_tries": most_tries,
        },
        journal_mode=journal_mode,
        synchronous=synchronous,
        busy_timeout_ms=busy_timeout_ms,
        cache_size=cache_size,
        page_bytes=page_bytes,
        wal_autocheckpoint=wal_autocheckpoint,
        mmap_bytes=mmap_bytes,
        seed=seed,
        pin=pin,
        deadline_s=deadline,
        load_limit_s=load_limit,
        check_limit_s=check_limit,
    )
    with show.Live(show.console(stderr=True)) as live:
        made = run(
            plan,
            runs,
            command=command_line(),
            databases=databases,
            keep_database=keep_database,
            on_progress=live,
        )
    show.show_run(made, show.console())
    if made.manifest.ended == "interrupted":
        raise typer.Exit(130)
    raise typer.Exit(0 if made.manifest.ok else 1)


@app.command("engines")
def engines_command(
    names: Annotated[list[str] | None, typer.Argument(help="engines (default: all)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False,
) -> None:
    """Ask each engine what it is, which BEGIN modes it accepts, and who may open its files."""
    trust(*names or ())
    show.show_engines(names or [], as_json, show.console(), show.console(stderr=True))


@app.command("list")
def list_command(
    scenarios: Annotated[bool, typer.Option(help="the workloads instead, with parameters")] = False,
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="the sweeps that come with the kit instead")
    ] = False,
    runs: RunsOption = RUNS,
) -> None:
    """The runs, sweeps and reports there are, newest last; or the workloads or sweeps to run."""
    console = show.console()
    if scenarios:
        for name in scenario_names():
            show.show_scenario(find_scenario(name), shape_of(name, {}), console)
    if sweeps:
        listing.list_sweeps(console)
    if not scenarios and not sweeps:
        listing.list_runs(runs, console)


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="its folder, name or a part of it")],
    runs: RunsOption = RUNS,
) -> None:
    """One run: throughput, conflicts, latency, fairness, checks; or a sweep's table."""
    from workloads.records import read_run

    folder = find_run(name, runs)
    if not listing.show_folder(folder, show.console()):
        show.show_run(read_run(folder), show.console())


@app.command("check")
def check_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER|RUN…", help="histories: EDN, JSON, ours")
    ],
    model: Annotated[
        str | None, typer.Option(help="list-append or rw-register (default: what the file holds)")
    ] = None,
    level: Annotated[
        str, typer.Option(help="the isolation level that must hold")
    ] = "strict-serializable",
    as_json: Annotated[bool, typer.Option("--json", help="one line for each history")] = False,
    svg: Annotated[Path | None, typer.Option(help="draw the first cycle into this file")] = None,
    sequential_keys: Annotated[
        bool, typer.Option(help="rw-register: each key alone is sequentially consistent")
    ] = False,
    linearizable_keys: Annotated[
        bool, typer.Option(help="rw-register: each key alone is linearizable")
    ] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Judge recorded histories: 0 valid, 1 violated, 2 bad input, 3 cannot be decided."""
    from analysis.cli.check import run_check

    found = [path if os.path.exists(path) else _run_or_path(path, runs) for path in paths]
    raise typer.Exit(
        run_check(
            found,
            model,
            level,
            as_json,
            svg,
            sequential_keys=sequential_keys,
            linearizable_keys=linearizable_keys,
        )
    )


def _run_or_path(path: Path, runs: Path) -> Path:
    """A run of that name, or the path as it is, for the checker to say what is wrong with it."""
    try:
        return find_run(str(path), runs)
    except RunError:
        return path


@app.command("report")
def report_command(
    quick: Annotated[bool, typer.Option(help="under a minute: fewer and shorter blocks")] = False,
    seed: Annotated[int, typer.Option(help="of the draws and of the order of the arms")] = 1,
    into: Annotated[
        Path | None, typer.Option(help="go on with the runs in this folder (default: a new one)")
    ] = None,
    only_write: Annotated[
        bool, typer.Option(help="run nothing: write the report of --into again")
    ] = False,
    sweeps: Annotated[
        list[Path] | None,
        typer.Option("--sweep", help="a sweep's folder, to be told with the rest; may be repeated"),
    ] = None,
    foreign_limit: Annotated[
        float | None,
        typer.Option(help="share of the CPU time that others may use in a run (default: 0.05)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the report (default: REPORT.md; --quick: with its runs)")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="its charts and tables (default: analysis/published; --quick: likewise)"),
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Run the report's experiments and write REPORT.md. --into goes on with an interrupted one."""
    from analysis.report import (
        CAMPAIGN,
        allow_foreign,
        designs,
        measure_suite,
        read_campaign,
        tell_sweeps,
        write_report,
    )

    console, waiting = show.console(), show.console(stderr=True)
    if foreign_limit is not None and not 0 <= foreign_limit <= 1:
        raise PlanError(f"--foreign-limit {foreign_limit:g}: a share from 0 to 1, such as 0.2.")
    if into is not None and not (into / CAMPAIGN).is_file():
        raise RunError(
            f"{into}: no report was begun there (it has no {CAMPAIGN}), so none can go on. "
            "Leave --into out to begin one; `cwkit list` shows the folders."
        )
    if only_write and into is None:
        raise PlanError("--only-write needs --into FOLDER: `cwkit list` shows the folders.")
    for sweep in sweeps or []:
        if not read_experiment(sweep).points:
            raise RunError(f"{sweep}: is no sweep's folder. `cwkit sweep NAME` makes one.")
    if not 0 <= seed < 2**63:
        raise PlanError(f"--seed {seed}: a whole number from 0 to 2**63 - 1.")
    kind = "quick" if quick else "report"
    folder = into or runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-s{seed}"
    if not only_write:
        counter = show.CellCounter(designs(quick, seed), waiting)
        with counter:
            measure_suite(
                folder,
                quick=quick,
                seed=seed,
                command=command_line(),
                on_cell=counter.of,
                on_progress=counter,
                say=lambda words: waiting.print(words, markup=False, highlight=False),
            )
    try:
        if foreign_limit is not None:
            allow_foreign(folder, foreign_limit)
        if sweeps:
            tell_sweeps(folder, sweeps)
    except OSError as error:
        raise unwritable(folder, error) from error
    # A minute's report is no replacement for the committed one: it stays with its runs.
    beside = read_campaign(folder).quick
    out = out or (folder / "REPORT.md" if beside else Path("REPORT.md"))
    figures = figures or (folder / "published" if beside else Path("analysis/published"))
    try:
        write_report(folder, out, figures, sweeps or ())
    except OSError as error:
        raise FolderUnwritable(
            f"{error.filename}: cannot be written ({error.strerror}). The runs are kept: `cwkit "
            f"report --only-write --into {folder} --out FILE --figures FOLDER` writes it elsewhere."
        ) from error
    console.print(f"{out} tells it; the runs are in {folder}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
