"""`cwkit sweep SWEEP`: run a grid, go on where it was interrupted, and show the result."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from analysis import counting, report
from analysis.cli import terminal
from analysis.cli.experiment_summary import show_experiment
from analysis.cli.options import (
    RUNS,
    DatabasesOption,
    ForeignLimitOption,
    JsonOption,
    PostgresOption,
    RunsOption,
    SaveOption,
    command_line,
    seconds_of,
)
from analysis.cli.saving import check_saving, save_if_well
from analysis.cli.sweep_progress import SweepLive, waiting_time
from analysis.wording import times
from workloads import experiments, records
from workloads.errors import FolderUnwritable, PlanError, nearest

if TYPE_CHECKING:
    from analysis.counting import Measured, SpareRule
    from workloads.experiments import Beside, Cell, Experiment, Sweep

ORDER_SHOWN = 100
"""Arms of the first block that a dry run prints in their order."""

LATELY = 5
"""So many of the newest folders tell how long a cell takes beside its run, before this one can."""


def sweep_command(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="a name of `cwkit list --sweeps`; with .toml or a slash, a file of yours",
        ),
    ],
    into: Annotated[
        Path | None,
        typer.Option(help="its folder (default: the newest unfinished one, else a new one)"),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="begin a new folder")] = False,
    jobs: Annotated[int, typer.Option(help="cells at a time, each on CPUs of its own")] = 1,
    cpus: Annotated[int, typer.Option(help="CPUs of each of them (default: an even part)")] = 0,
    oversubscribe: Annotated[
        bool,
        typer.Option("--oversubscribe", help="use more CPUs than there are; every result says so"),
    ] = False,
    blocks: Annotated[int | None, typer.Option(help="instead of the file's")] = None,
    seed: Annotated[int | None, typer.Option(help="instead of the file's")] = None,
    duration: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="measured part of a cell, s, instead of the file's"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would run and for how long; run nothing")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="run the cells again that have no result")
    ] = False,
    retry_contaminated: Annotated[
        bool,
        typer.Option(
            "--retry-contaminated", help="run again the cells during which others used the machine"
        ),
    ] = False,
    again: Annotated[
        list[str] | None, typer.Option(help="run this arm's finished cells again; `all`: all")
    ] = None,
    spare: Annotated[
        int,
        typer.Option(
            min=0,
            max=experiments.MOST_SPARES,
            help="run a cell again at once, at most so often, where others used the machine or "
            "nobody committed for a while",
        ),
    ] = 0,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="keep its cells for the reports to come, in two files"),
    ] = False,
    published: Annotated[
        Path | None,
        typer.Option(help="folder of those files (default: analysis/published/sweeps)"),
    ] = None,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    save: SaveOption = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
    postgres: PostgresOption = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="on the machines of this dask scheduler")
    ] = None,
) -> None:
    from workloads.cluster import MachinesGone  # here: no other command needs what it imports

    _refuse_publishing(publish, published, dry_run)
    check_saving(save, runs, into)
    if as_json and dry_run:
        raise PlanError("--json and --dry-run: a dry run has no numbers. Leave one of them out.")
    path = experiments.sweep_path(asked)
    duration_s = None if duration is None else seconds_of(duration, "--duration")
    sweep = experiments.read_sweep(path, blocks=blocks, seed=seed, duration_s=duration_s)
    console, waiting = terminal.console(), terminal.console(stderr=True)
    repeat = _repeat(
        sweep, again or [], retry_failed, foreign_limit if retry_contaminated else None
    )
    # An impossible request is refused before anything is written.
    rule = counting.SpareRule(foreign_limit)
    run_cells, at_a_time = _conductor(sweep, dask, jobs, cpus, oversubscribe, spare, rule, waiting)
    folder, fresh = _folder(
        sweep, runs, into, new, finished=bool(retry_failed or retry_contaminated or again)
    )
    if dry_run:
        _dry_run(sweep, folder, fresh, runs, at_a_time, repeat, console)
        return
    experiments.begin(sweep.design, folder)
    experiments.note_sweep(folder, sweep)
    before = experiments.read_experiment(folder)
    _print_lines(waiting, _announced(sweep, before, fresh))
    try:
        with SweepLive(waiting, before, _beside(folder, runs), at_a_time) as live:
            experiment = run_cells(
                sweep.design,
                folder,
                again=repeat,
                command=command_line(),
                databases=databases,
                on_cell=live.on_cell,
                watch=live.watch,
            )
    except (KeyboardInterrupt, MachinesGone) as error:
        if isinstance(error, MachinesGone):
            _print_lines(waiting, [str(error)])
        given: dict[str, object] = {"--jobs": jobs if jobs > 1 else None, "--cpus": cpus or None}
        given["--dask"] = dask
        given |= {"--blocks": blocks, "--seed": seed, "--duration": duration}
        given["--spare"] = spare or None
        given["--foreign-limit"] = None if rule == counting.SpareRule() else foreign_limit
        given |= {"--databases": databases, "--published": published, "--save": save or None}
        more = ["--oversubscribe"] * oversubscribe + ["--publish"] * publish
        _print_lines(waiting, _go_on(asked, folder, given, more))
        raise typer.Exit(1 if isinstance(error, MachinesGone) else 130) from None
    measured = _show_result(experiment, foreign_limit, console, as_json=as_json)
    if publish:
        _publish(measured, published or report.PUBLISHED, waiting)
    failed = any(cell.state == experiments.FAILED for cell in experiment.cells.values())
    save_if_well(save, folder, runs, well=not failed)
    if failed:
        raise typer.Exit(1)


def _conductor(
    sweep: Sweep,
    dask: str | None,
    jobs: int,
    cpus: int,
    over: bool,
    spare: int,
    rule: SpareRule,
    waiting: Console,
) -> tuple[Callable[..., Experiment], int]:
    """The function that runs the cells, and how many at a time. Impossible options are refused."""
    print_line = partial(waiting.print, markup=False, highlight=False, soft_wrap=True)
    if dask is None:
        experiments.slots(jobs, cpus_each=cpus, oversubscribe=over)
        here = partial(experiments.run_experiment, jobs=jobs, cpus_each=cpus, oversubscribe=over)
        again: dict[str, Any] = {"odd": rule, "spares": spare} if spare else {}
        return partial(here, started_by="sweep", notify=print_line, **again), jobs
    if jobs != 1 or cpus:
        raise PlanError(
            "--dask and --jobs or --cpus: a machine of a cluster runs one cell at a time, on the "
            "CPUs that its worker may use."
        )
    if spare:
        raise PlanError("--spare: the cells of a cluster are not run again at once. Leave it out.")
    from workloads.cluster import find_machines, run_on_cluster

    machines = find_machines(sweep.design, dask, oversubscribe=over)
    return partial(run_on_cluster, address=dask, oversubscribe=over, notify=print_line), machines


def _refuse_publishing(publish: bool, published: Path | None, dry_run: bool) -> None:
    if published is not None and not publish:
        raise PlanError(f"--published {published}: is where --publish writes to. Give both.")
    if published is not None and published.exists() and not published.is_dir():
        raise PlanError(f"--published {published}: is no folder.")
    if publish and dry_run:
        raise PlanError("--publish and --dry-run: a dry run has nothing to publish.")


def _publish(measured: Measured, to: Path, waiting: Console) -> None:
    try:
        note, table = report.publish_sweep(measured, to)
    except OSError as error:
        raise FolderUnwritable(
            f"{error.filename or to}: cannot be written ({error.strerror}). The runs are kept; "
            "give another folder with --published."
        ) from error
    _print_lines(waiting, [f"published: {note} and {table.name} beside it"])


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _repeat(
    sweep: Sweep, again: Sequence[str], retry_failed: bool, foreign_limit: float | None
) -> Callable[[Cell], bool]:
    """Which finished cells to run again. Raises PlanError for an arm that does not exist.

    foreign_limit : those too during which others used more of the machine; None for none of them.
    """
    for name in again:
        if name != "all" and name not in sweep.design.arms:
            near = nearest(name, sweep.design.arms, 0)
            raise PlanError(f"--again {name}: there is no such arm. The nearest is {near!r}.")

    def repeat(cell: Cell) -> bool:
        if "all" in again or cell.arm in again or (retry_failed and cell.state != experiments.DONE):
            return True
        return foreign_limit is not None and contaminated(cell, foreign_limit)

    return repeat


def contaminated(cell: Cell, foreign_limit: float) -> bool:
    """Whether a cell was run to its end, but others used the machine meanwhile."""
    if cell.folder is None or cell.state != experiments.DONE:
        return False
    return bool(counting.contamination(records.read_manifest(cell.folder), foreign_limit))


def _folder(
    sweep: Sweep, runs: Path, into: Path | None, new: bool, *, finished: bool
) -> tuple[Path, bool]:
    """The sweep's folder, and whether it is new. finished : it may hold all cells already."""
    if into is not None and new:
        raise PlanError("--into and --new: the one names a folder to go on in, the other begins.")
    folder = into or experiments.choose_folder(sweep, runs, new=new, finished=finished)
    fresh = not (folder / experiments.NOTE).exists()
    experiments.free_or_ours(folder)
    if fresh and finished:
        raise PlanError(
            f"--again and --retry-…: nothing of {sweep.path} was run with these settings in "
            f"{into or runs}, so there is nothing to run again. `cwkit list` shows what there is."
        )
    return folder, fresh


def _beside(folder: Path, runs: Path) -> Beside:
    others = sorted(runs.glob("*/experiment.json"), reverse=True)[:LATELY]
    return experiments.beside([folder, *(path.parent for path in others)])


def _announced(sweep: Sweep, before: Experiment, fresh: bool) -> list[str]:
    """Lines on what begins or goes on, and on arms that are known to be missing."""
    cells = times(sweep.cells, "cell")
    design = sweep.design
    lines = [f"{design.name}: {design.question}"]
    what = f"{cells}: {times(len(design.arms), 'arm')} in {times(design.blocks, 'block')}"
    if fresh:
        lines.append(f"{what}, in {before.folder}")
    else:
        lines.append(f"goes on in {before.folder}: {len(before.cells)} of {cells} are done")
    return lines + _missing(sweep)


def _missing(sweep: Sweep) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for arm, why in sweep.missing.items():
        by_reason.setdefault(why, []).append(arm)
    return [f"missing, {times(len(arms), 'arm')}: {why}" for why, arms in by_reason.items()]


def _dry_run(
    sweep: Sweep,
    folder: Path,
    fresh: bool,
    runs: Path,
    jobs: int,
    repeat: Callable[[Cell], bool],
    console: Console,
) -> None:
    """Print the cells that would be run, in which order, and for how long."""
    done = {}
    design = sweep.design
    if not fresh:
        experiments.asked_alike(design, folder)
        done = {k: c for k, c in experiments.read_experiment(folder).cells.items() if not repeat(c)}
    order = design.order()
    left = [(b, arm) for b, arms in enumerate(order) for arm in arms if (b, arm) not in done]
    extra = _beside(folder, runs)
    seconds = sum(extra.seconds(dict(design.arms[arm])) for _, arm in left) / jobs
    _print_lines(console, [f"{design.name}: {design.question}"])
    shown = experiments.shown
    _print_lines(
        console, [f"  {axis}: {', '.join(map(shown, v))}" for axis, v in design.axes.items()]
    )
    arms = f"{times(len(design.arms), 'arm')} in {times(design.blocks, 'block')}"
    cells = times(sweep.cells, "cell")
    lines = [f"{arms}: {cells}, seed {design.seed}, baseline {design.baseline}"]
    if not fresh:
        lines.append(f"{times(len(done), 'cell')} done in {folder}, {len(left)} left")
    lines += _missing(sweep) + report.skip_lines(sweep.skipped)
    lines.append("b00, in this order:")
    lines += [f"  {arm}" for arm in order[0][:ORDER_SHOWN]]
    if (more := len(order[0]) - ORDER_SHOWN) > 0:
        lines.append(f"  … and {more} more")
    side = f", {jobs} at a time" if jobs > 1 else ""
    lines.append(f"time: about {waiting_time(seconds)}{side}, {_of_what(extra)}")
    _print_lines(console, lines)


def _of_what(extra: Beside) -> str:
    beside = f"{extra.fixed_s:.2g} s"
    beside += f" and {extra.each_s:.2g} s a worker" if extra.each_s else ""
    if extra.cells:
        return f"with {beside} beside each run, as {times(extra.cells, 'cell')} took before"
    return f"if each cell takes {beside} beside its run, which is an assumption: none was run yet"


def _go_on(asked: str, folder: Path, given: dict[str, object], more: list[str]) -> list[str]:
    """How much of an interrupted sweep is kept, and the command that goes on."""
    experiment = experiments.read_experiment(folder)
    typed = ["cwkit", "sweep", asked, "--into", str(folder), *more]
    for option, value in given.items():
        typed += [option, experiments.shown(value)] if value is not None else []
    cells = experiment.design.blocks * len(experiment.design.arms)
    kept = f"{len(experiment.cells)} of {times(cells, 'cell')}"
    return [f"interrupted: {kept} are kept; go on with", shlex.join(typed)]


def _show_result(
    experiment: Experiment, foreign_limit: float, console: Console, *, as_json: bool
) -> Measured:
    """Write cells.csv, and print the table with what failed."""
    measured = counting.gather(experiment, foreign_limit)
    states = {key: cell.state for key, cell in experiment.cells.items()}
    path = experiment.folder / report.CELLS_CSV
    try:
        counting.write_csv(counting.cells_table(measured, states), path)
    except OSError as error:
        raise experiments.unwritable(experiment.folder, error) from error
    show_experiment(measured, console, as_json=as_json)
    return measured
