"""`cwkit run`: one plan, carried out once."""

from __future__ import annotations

from typing import Annotated

import typer

from analysis.cli import terminal
from analysis.cli.options import RUNS, DatabasesOption, RunsOption, command_line, settings_of
from analysis.cli.progress import Live
from analysis.cli.show import show_run
from workloads.engines import trust
from workloads.runs import make_plan, run


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
    with Live(terminal.console(stderr=True)) as live:
        made = run(
            plan,
            runs,
            command=command_line(),
            databases=databases,
            keep_database=keep_database,
            on_progress=live,
        )
    show_run(made, terminal.console())
    if made.manifest.ended == "interrupted":
        raise typer.Exit(130)
    raise typer.Exit(0 if made.manifest.ok else 1)
