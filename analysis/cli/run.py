"""`cwkit run`: one plan, carried out once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from analysis import counting
from analysis.cli import terminal
from analysis.cli.options import (
    RUNS,
    DatabasesOption,
    ForeignLimitOption,
    JsonOption,
    PostgresOption,
    RunsOption,
    SaveOption,
    command_line,
    must_be_used,
    plan_options,
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
from analysis.cli.progress import Live
from analysis.cli.saving import check_saving, save_if_well
from analysis.cli.show import show_run
from workloads import runs as running


@plan_options()
def run_command(
    plan: dict[str, Any],
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
    postgres: PostgresOption = None,
    schema: SchemaOption = None,
    tx: TxOption = None,
    from_db: FromOption = None,
    check: CheckOption = None,
    define: DefineOption = None,
    scale: ScaleOption = None,
    keep_database: Annotated[bool, typer.Option(help="keep it in the run's folder")] = False,
    save: SaveOption = None,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    as_json: JsonOption = False,
) -> None:
    check_saving(save, runs)
    plan = with_sql(
        plan, schema=schema, tx=tx, check=check, define=define, scale=scale, from_db=from_db
    )
    asked = running.make_plan(**plan)
    must_be_used(postgres, asked)
    with Live(terminal.console(stderr=True)) as live:
        made = running.run(
            asked,
            runs,
            command=command_line(),
            databases=databases,
            keep_database=keep_database,
            on_progress=live,
        )
    from analysis.cli.documents import keep_numbers  # here: no help needs what it imports

    keep_numbers(made, foreign_limit)
    show_run(made, terminal.console(), as_json=as_json, foreign_limit=foreign_limit)
    save_if_well(save, made.folder, runs, well=made.manifest.ok)
    if made.manifest.ended == "interrupted":
        raise typer.Exit(130)
    if made.manifest.ended.startswith(running.SERVER_ENDED):
        raise typer.Exit(2)
    if made.manifest.ok and any(not one.fired for one in made.manifest.faults):
        raise typer.Exit(3)  # nothing was tested
    raise typer.Exit(0 if made.manifest.ok else 1)
