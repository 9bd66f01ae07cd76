"""`cwkit advise`: which BEGIN for one's own transactions, measured on every engine that accepts it.

The runs are an experiment like any other: its cells are kept, an interrupted one goes on, and
`cwkit show` tells it again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analysis import counting, report
from analysis.cli import terminal
from analysis.cli.options import (
    RUNS,
    DatabasesOption,
    ForeignLimitOption,
    JsonOption,
    LoadOption,
    PostgresOption,
    RunsOption,
    SaveOption,
    command_line,
    load_files,
    plan_options,
    typed_options,
)
from analysis.cli.own_sql import (
    CheckOption,
    DefineOption,
    FromOption,
    ScaleOption,
    SchemaOption,
    TxOption,
    with_sql,
)
from analysis.cli.saving import check_saving, save_if_well
from analysis.cli.sweep import contaminated
from analysis.cli.sweep_progress import SweepLive, waiting_time
from analysis.wording import Table as Data
from analysis.wording import listed, times
from workloads import experiments
from workloads.engines import find_engine, trust
from workloads.errors import PlanError, shortened
from workloads.files import json_text
from workloads.records import RecordedPlan

if TYPE_CHECKING:
    from analysis.report import AdviceFacts, Asked
    from workloads.experiments import Experiment

SET_BY_ADVISE = (
    *("scenario", "begin", "writers", "duration_s", "rate", "stages", "transactions", "autocommit"),
    *("cold_start", "write_engine", "read_engine", "checkpoint_engine", "read_begin", "pin"),
    "journal_mode",
)
"""Fields of a plan that are an advice's own, or that it sets itself."""

HELPS = {"database": "the application's engine now, against which the others are held"}


@plan_options(without=SET_BY_ADVISE, defaults={"warmup_s": 0.3}, helps=HELPS)
def advise_command(
    context: typer.Context,
    *,
    schema: SchemaOption = None,
    tx: TxOption = None,
    from_db: FromOption = None,
    check: CheckOption = None,
    define: DefineOption = None,
    scale: ScaleOption = None,
    engines: Annotated[
        str, typer.Option(metavar="A,B", help="ask and measure only these, in all their modes")
    ] = "",
    writers: Annotated[
        list[str] | None,
        typer.Option(help="processes that write; 2,8 or again for each number (default: 4)"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="also in an open loop with so many writes a second")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="about how long it all may take (default: 180 a load)"),
    ] = None,
    blocks: Annotated[
        int, typer.Option(help="times that every way is run; with fewer than 6 nothing is claimed")
    ] = 8,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    into: Annotated[
        Path | None, typer.Option(help="go on with the advice in this folder (default: a new one)")
    ] = None,
    retry_contaminated: Annotated[
        bool,
        typer.Option(
            "--retry-contaminated", help="run again the runs during which others used the machine"
        ),
    ] = False,
    load: LoadOption = None,
    save: SaveOption = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
    postgres: PostgresOption = None,
    plan: dict[str, Any],
) -> None:
    waiting = terminal.console(stderr=True)
    check_saving(save, runs, into)
    resumed = into is not None and (into / report.ADVISE_NOTE).is_file()
    if resumed and into is not None and not typed_options(context, KEPT_OPTIONS):
        experiment = experiments.read_experiment(into)
        report.must_be_advice(experiment)
        asked = report.Asked(experiment.design, report.read_note(into))
        load_files(load or (), [RecordedPlan(**values) for values in asked.design.arms.values()])
    else:
        names = [name.strip() for name in engines.split(",") if name.strip()]
        trust(*names)
        load_files(load or (), [])
        _must_be_asked(postgres, [str(plan["database"]), *names])
        asked = report.ask(
            _plan(plan, tx, schema=schema, check=check, define=define, scale=scale,
                  from_db=from_db),
            engines=names,
            writers=_numbers(writers or []),
            rate=rate or 0,
            seconds=seconds,
            blocks=blocks,
            foreign_limit=foreign_limit,
            notify=lambda name: waiting.print(f"asking {name} …"),
        )  # fmt: skip
    folder = into or experiments.folder_of(asked.design, runs)
    facts = _measure(asked, folder, runs, databases, waiting, retry=retry_contaminated)
    show_advice(facts, terminal.console(), as_json=as_json)
    states = [cell.state for cell in facts.measured.cells.values()]
    well = not facts.broken and experiments.FAILED not in states
    save_if_well(save, folder, runs, well=well)
    raise typer.Exit(0 if well else 1)


KEPT_OPTIONS = (
    "retry_contaminated",
    "save",
    "into",
    "load",
    "as_json",
    "runs",
    "databases",
    "quiet",
    "postgres",
)
"""Options that say nothing about what is asked."""


def _must_be_asked(postgres: str | None, names: Sequence[str]) -> None:
    """Raises PlanError for a --postgres that no engine has a use for."""
    if postgres is not None and not any(hasattr(find_engine(one), "forsake") for one in names):
        raise PlanError(
            f"--postgres: {listed(names)} cannot be on another's server. Give --engines "
            f"{names[0]},postgres too, or leave it out."
        )


def _plan(plan: dict[str, Any], tx: list[str] | None, **files: Any) -> dict[str, Any]:
    """The plan without what an advice varies. Raises PlanError where no script is given."""
    if not tx:
        raise PlanError(
            "Advise on what? Give your transactions: --schema schema.sql --tx transfer.sql@9 "
            "--tx report.sql@1:reader, or pgbench's own: --tx tpcb-like."
        )
    if all(text.endswith(":reader") for text in tx):
        raise PlanError(
            f"--tx {shortened(tx[0])}: there are no transactions but the readers', and advice is "
            "on those that may write: give one without :reader."
        )
    given = {name: value for name, value in plan.items() if value is not None}
    return with_sql(given | {"scenario": "sql"}, tx=tx, **files)


def _numbers(given: Sequence[str]) -> list[int]:
    """--writers 2,8: numbers."""
    found = []
    for text in ",".join(given).split(",") if given else []:
        if not re.fullmatch(r"\d{1,4}", text.strip()):
            raise PlanError(
                f"--writers {text.strip() or given[0]}: give numbers, such as 2,8. The modes are "
                "what an advice tries itself."
            )
        found.append(int(text))
    return found


def _measure(
    asked: Asked,
    folder: Path,
    runs: Path,
    databases: Path | None,
    waiting: Console,
    *,
    retry: bool,
) -> AdviceFacts:
    """Run what is still to be run, and count it. Ctrl-C: exit status 130, with the way on."""

    def say(line: str) -> None:
        waiting.print(line, markup=False, highlight=False, soft_wrap=True)

    design = asked.design
    fresh = not (folder / experiments.NOTE).exists()
    experiments.begin(design, folder)
    if fresh or not (folder / report.ADVISE_NOTE).exists():
        report.write_note(folder, asked.note)
    before = experiments.read_experiment(folder)
    guess = experiments.beside([folder, *_lately(runs)])
    try:
        with SweepLive(waiting, before, guess, 1) as live:
            for line in _announced(before, live.left_s(), fresh):
                say(line)
            experiment = experiments.run_experiment(
                design,
                folder,
                again=lambda cell: retry and contaminated(cell, asked.note.foreign_limit),
                started_by="advise",
                command=command_line(),
                databases=databases,
                on_cell=live.on_cell,
                watch=live.watch,
                notify=say,
            )
    except KeyboardInterrupt:
        kept = len(experiments.read_experiment(folder).cells)
        say(f"interrupted: {kept} of {times(design.cells, 'run')} are kept; go on with")
        say(f"cwkit advise --into {folder}")
        raise typer.Exit(130) from None
    note = report.with_scripts(asked.note, design)
    report.write_note(folder, note)
    return report.count_advice(experiment, note)


def _lately(runs: Path) -> list[Path]:
    return [path.parent for path in sorted(runs.glob(f"*/{experiments.NOTE}"), reverse=True)[:5]]


def _announced(experiment: Experiment, left_s: float, fresh: bool) -> list[str]:
    design = experiment.design
    plan = design.arms[design.baseline]
    systems = list(dict.fromkeys(str(point["system"]) for point in design.points.values()))
    many = times(len(experiment.left()), "run")
    blocks = times(design.blocks, "block")
    lines = [
        f"{many} of {plan['duration_s']:g} s in {blocks}: about {waiting_time(left_s)}",
        f"ways: {listed(systems)}, and {design.baseline} again as control",
    ]
    if fresh:
        return [*lines, f"in {experiment.folder}"]
    done = f"{len(experiment.cells)} of {times(design.cells, 'run')} are done"
    return [f"goes on in {experiment.folder}: {done}", *lines[:1]]


# --- told ---------------------------------------------------------------------------------------


def show_advice_in(
    folder: Path, console: Console, *, as_json: bool = False, foreign_limit: float = 0
) -> None:
    """`cwkit show` of an advice's folder, finished or not, with the greater of the limits."""
    experiment = experiments.read_experiment(folder)
    note = report.with_scripts(report.read_note(folder), experiment.design)
    note = note.with_limit(max(note.foreign_limit, foreign_limit))
    show_advice(report.count_advice(experiment, note), console, as_json=as_json)


def show_advice(facts: AdviceFacts, console: Console, *, as_json: bool = False) -> None:
    """Checks that broke, the table of what to do, the numbers, what engines refused."""
    if as_json:
        from analysis.cli.documents import advice_document  # here: help needs no numpy

        print(json_text(advice_document(facts)))
        return

    def say(line: str = "") -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    measured = facts.measured
    experiment = measured.experiment
    for line in report.broken_lines(facts):
        say(line)
    if facts.broken:
        say("A check that breaks means wrong data: no speed makes up for it.")
        say()
    done = len(experiment.cells)
    say(f"Advice for {listed([note.name for note in facts.note.scripts])}, in {experiment.folder}")
    plan = experiment.design.arms[experiment.design.baseline]
    say(
        f"{done} of {times(experiment.design.cells, 'run')} of {plan['duration_s']:g} s, "
        f"synchronous {measured.baseline.plan['synchronous'] if measured.baseline else ''}; "
        "the first way is what the others are held against"
    )
    say()
    for line in report.doubtful_lines(facts):
        say(line)
    say(report.in_short(facts))
    say()
    console.print(_rows_table(report.advice_rows(facts)))
    say()
    say(report.TWICE_NOT_SEEN)
    for group in facts.groups:
        say()
        say(report.load_sentence(group))
        console.print(_ways_table(report.ways_table(facts, group)))
    say()
    states = {key: cell.state for key, cell in experiment.cells.items()}
    for line in [
        report.control_sentence(measured),
        *report.doubt_lines(measured, f"cwkit advise --into {experiment.folder}"),
        *report.failure_lines(measured, states),
        *report.asked_lines(facts),
        f"Pages, rows and messages of the refusals: cwkit conflicts {experiment.folder}",
    ]:
        say(line)


def _rows_table(rows: Sequence[Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="dim")
    for heading, share in (("what", 3), ("do", 4), ("why", 6)):
        table.add_column(heading, overflow="fold", ratio=share)
    for row in rows:
        table.add_row(row.case, row.do, row.why)
    return table


def _ways_table(data: Data) -> Table:
    """The numbers: what a way is called is never folded."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for at, heading in enumerate(data.head):
        words = at < 2 or heading == "claimed"
        table.add_column(heading, justify="left" if words else "right", no_wrap=words,
                         overflow="fold")  # fmt: skip
    for row in data.rows:
        table.add_row(*row)
    return table
