"""The options of one's own SQL (run, search, advise): its files become texts of the plan."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workloads.errors import PlanError

SchemaOption = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="FILE.sql",
        help="own SQL: statements that make and fill the tables; pgbench: its own tables",
    ),
]
TxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tx",
        metavar="FILE[@WEIGHT][:reader]",
        help="own SQL: a transaction in pgbench's script language, or tpcb-like, simple-update, "
        "select-only; again for each",
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FILE.db",
        help="own SQL: run on a copy of this database, log included; it is never touched",
    ),
]
CheckOption = Annotated[
    str | None,
    typer.Option(
        "--check",
        metavar="FILE.sql",
        help="own SQL: queries that must answer no row when the run is over",
    ),
]
DefineOption = Annotated[
    list[str] | None,
    typer.Option("--define", metavar="NAME=VALUE", help="own SQL: a variable; again for each"),
]
ScaleOption = Annotated[
    int | None, typer.Option("--scale", help="own SQL: of pgbench's tables, and :scale")
]


def with_sql(
    plan: dict[str, Any],
    *,
    schema: str | None,
    tx: list[str] | None,
    check: str | None,
    define: list[str] | None,
    scale: int | None,
    from_db: str | None,
) -> dict[str, Any]:
    """The plan's values with one's own SQL in them; as they are where none was given."""
    from workloads.scenarios import with_texts

    given: dict[str, Any] = {
        "schema_sql": schema,
        "tx": tx,
        "check_sql": check,
        "define": define,
        "scale": scale,
    }
    given["from_db"] = from_db
    given = {name: value for name, value in given.items() if value not in (None, [], ())}
    if not given:
        return plan
    options = {"schema_sql": "--schema", "check_sql": "--check", "from_db": "--from"}
    for name, option in options.items():
        if given.get(name) == "":
            raise PlanError(f"{option}: the name of its file is empty. Give one, or leave it out.")
    named = ", ".join(options.get(name, f"--{name}") for name in given)
    if plan.get("scenario", "bank") not in ("bank", "sql"):
        raise PlanError(f"{named}: this is for --scenario sql, and {plan['scenario']} was given.")
    if "tx" not in given and ("schema_sql" in given or "from_db" in given):
        raise PlanError(f"{named}: no script was given. Say what is to be run: --tx FILE.sql")
    given["tx"] = tx or ["tpcb-like"]
    return plan | {"scenario": "sql", "params": with_texts(plan.get("params", {}) | given)}
