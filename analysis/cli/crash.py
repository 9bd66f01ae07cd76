"""`cwkit crash`: record a run's changes to its files, then open the states a crash may leave."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from analysis.cli import terminal
from analysis.cli.options import (
    RUNS,
    JsonOption,
    RunsOption,
    command_line,
    refuse_beside,
    settings_of,
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
from analysis.cli.publishing import publish as publish_it
from analysis.cli.publishing import say
from analysis.wording import times
from workloads.engines import trust
from workloads.errors import PlanError
from workloads.files import json_text, visible, within

if TYPE_CHECKING:
    from properties.crashes import Crashed, Judged

MOST_STATES = 1_000_000
LEVELS = ("full", "normal", "off", "extra")


def crash_command(
    context: typer.Context,
    engine: Annotated[str, typer.Option(help="NAME or FILE.py:CLASS")] = "libsql",
    begin: Annotated[str, typer.Option(help="BEGIN mode of the writers (default: usual)")] = "",
    scenario: Annotated[
        str, typer.Option(help="NAME or FILE.py:CLASS (default: ledger, or sql with --tx)")
    ] = "",
    schema: SchemaOption = None,
    tx: TxOption = None,
    from_db: FromOption = None,
    check: CheckOption = None,
    define: DefineOption = None,
    scale: ScaleOption = None,
    synchronous: Annotated[
        str, typer.Option(metavar="LEVEL", help="full, normal, off or extra")
    ] = "full",
    journal_mode: Annotated[
        str, typer.Option(help="delete, truncate or persist: a rollback journal (default: a log)")
    ] = "",
    page_bytes: Annotated[int, typer.Option(help="of a page of the database, 0: usual")] = 0,
    writers: Annotated[int, typer.Option(help="processes that write")] = 4,
    checkpointers: Annotated[int, typer.Option(help="processes that only checkpoint")] = 0,
    checkpoint: Annotated[
        str, typer.Option(help="theirs: passive, full, restart or truncate")
    ] = "passive",
    checkpoint_pause_ms: Annotated[
        float, typer.Option(help="their mean pause between two, ms")
    ] = 0.0,
    transactions: Annotated[int, typer.Option(help="of each writer")] = 100,
    autocheckpoint: Annotated[
        int, typer.Option(help="PRAGMA wal_autocheckpoint, pages: small, so that it is met")
    ] = 100,
    states: Annotated[int, typer.Option(help="crash states to open and judge")] = 500,
    model: Annotated[
        str, typer.Option(help="kill, strict, prefix, reorder, subset (default: all in turn)")
    ] = "",
    limit: Annotated[
        float, typer.Option(help="how long one state may take to open and check, s")
    ] = 30.0,
    pragma: Annotated[
        str, typer.Option(metavar="NAME=VALUE[,…]", help="of every connection: foreign_keys=on")
    ] = "",
    fault: Annotated[
        list[str] | None,
        typer.Option(help="of the recorded run, as in cwkit run: sync:*:1+:lie"),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="of the scenario")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the run and of the states")] = 0,
    no_reduce: Annotated[
        bool, typer.Option("--no-reduce", help="keep failing states as they were drawn")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="the campaign's folder; one that has begun goes on")
    ] = None,
    look: Annotated[
        Path | None, typer.Option(help="open this kept state again, and nothing else")
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(help="keep what this campaign judged for the reports to come, in a file"),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(help="folder of that file (default: analysis/published/crashes)"),
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    trust(*filter(None, [engine, scenario]))
    if look is not None:
        refuse_beside(context, "--look", {"look", "engine", "scenario", "quiet"})
        raise typer.Exit(_look(look))
    if publish is not None:
        takes = {"publish", "published", "engine", "scenario", "quiet"}
        refuse_beside(context, "--publish", takes)
        _publish(publish, published)
        return
    if published is not None:
        raise PlanError(f"--published {published}: is where --publish writes to. Give both.")
    if not 1 <= states <= MOST_STATES:
        raise PlanError(f"--states: from 1 to {MOST_STATES:,}, not {states:,}.")
    if not 0 < limit <= 3600:
        raise PlanError(f"--limit: above 0 and at most 3,600 s, not {limit:g}.")
    from properties.crashes import MODELS, Asked, crash, resume

    models = tuple(dict.fromkeys(part for part in model.split(",") if part)) or MODELS
    if model and not model.strip(","):
        raise PlanError(f"--model {model}: names none. There are {', '.join(MODELS)}.")
    if wrong := [one for one in models if one not in MODELS]:
        raise PlanError(f"--model {wrong[0]}: there are {', '.join(MODELS)}.")
    console, waiting = terminal.console(), terminal.console(stderr=True)
    folder = into or runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-crash-{_short(engine)}"
    judging = _Judging(waiting)
    if into is not None and (into / "crash.json").exists():
        takes = {"into", "engine", "scenario", "as_json", "quiet", "runs"}
        refuse_beside(context, f"{into}: goes on as it began, and --into", takes)
        crashed = resume(into, on_judged=judging, on_opened=judging.opened)
    else:
        own = {"scenario": scenario, "params": settings_of(set_ or [])}
        own = with_sql(
            {name: value for name, value in own.items() if value},
            schema=schema, tx=tx, check=check, define=define, scale=scale, from_db=from_db,
        )  # fmt: skip
        plan = _plan(
            engine, begin, synchronous, writers, transactions, fault=fault or None, seed=seed,
            checkpointers=checkpointers, checkpoint=checkpoint, pragma=pragma,
            journal_mode=journal_mode or None, page_bytes=page_bytes or None,
            checkpoint_pause_ms=checkpoint_pause_ms, wal_autocheckpoint=autocheckpoint,
            **{"scenario": "ledger"} | own,
        )  # fmt: skip
        asked = Asked(many=states, seed=seed, models=models, limit_s=limit, reduce=not no_reduce)
        with Live(waiting) as live:
            crashed = crash(
                plan, folder, asked, command=command_line(), on_progress=live, on_judged=judging,
                on_opened=judging.opened,
            )  # fmt: skip
    if as_json:
        print(json_text(crashed.data()))
    else:
        tell(crashed.data(), crashed.folder, console)
    raise typer.Exit(_status(crashed))


def _plan(
    engine: str, begin: str, synchronous: str, writers: int, transactions: int, **more: Any
) -> Any:  # fmt: skip
    from workloads.runs import make_plan

    if synchronous not in LEVELS:
        raise PlanError(f"--synchronous {synchronous}: there are {', '.join(LEVELS)}.")
    if writers < 1:
        raise PlanError(f"--writers: at least 1, not {writers}: a crash is of what they wrote.")
    if transactions < 1:
        raise PlanError(f"--transactions: at least 1, not {transactions}.")
    return make_plan(
        database=engine, begin=begin or None, synchronous=synchronous, writers=writers, readers=0,
        transactions=transactions, duration_s=300, warmup_s=0, **more,
    )  # fmt: skip


def _publish(folder: Path, published: Path | None) -> None:
    from analysis.report import CRASHES, publish_crash

    publish_it(folder, published or CRASHES, publish_crash, lambda one: times(one.judged, "state"))
    say("`cwkit report` tells it on its page crashes.md (--only-write: without measuring).")


def _short(engine: str) -> str:
    return engine.rpartition("/")[2].rpartition(":")[2]


def _status(crashed: Crashed) -> int:
    if crashed.campaign.interrupted or crashed.recording.run.manifest.ended == "interrupted":
        return 130
    if crashed.campaign.broken() or (
        crashed.recording.run.manifest.broken and not crashed.plan.fault
    ):
        return 1
    return 3 if crashed.unexplained or not crashed.campaign.judged else 0


class _Judging:
    """A line for who waits: how many states were judged, and how many keep less than promised."""

    def __init__(self, console: Any) -> None:
        self.console, self.at, self.done, self.broken = console, 0.0, 0, 0

    def opened(self, known: int, asked: int) -> None:
        """A moment of the recording was opened, to find the commit order."""
        self._say(f"finding the commit order: {known:,} of {asked:,} moments opened so far")

    def __call__(self, one: Judged, many: int) -> None:
        self.done += 1
        self.broken += bool(one.promised)
        self._say(f"judging: {self.done:,} states of about {many:,}, {self.broken:,} broken")

    def _say(self, line: str) -> None:
        if time.monotonic() - self.at >= 2.0:
            self.at = time.monotonic()
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


# --- what it says -----------------------------------------------------------------------------


def tell(data: dict[str, Any], folder: Path, console: Any) -> None:
    """A table with a row for each model of a crash, and what was kept.

    data : the campaign's document. folder : where it lies.
    """
    from properties.crashes import read_kept, sentence_of
    from properties.known_faults import known_state

    def say(text: str) -> None:
        console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    of = "" if data["scenario"] == "ledger" else f"{data['scenario']} on "
    say(
        f"{of}{data['engine']} {data['version']}, {data['begin']}, "
        f"synchronous {data['synchronous']}{_journal(data)}: "
        f"{times(data['writers'], 'writer')}, {data['acknowledged']:,} acknowledged transactions, "
        f"{data['records']:,} records in the log"
    )
    for one in data["unexplained"]:
        say(f"NOT SEEN  {one}: this engine goes past the library, and no state of it is whole")
    if data["contents"]:
        say(f"It held {times(data['contents'], 'content')} in turn, which its commits made.")
    for one in data["notes"]:
        say(f"note: {one}")
    console.print(_table(data))
    if data["same"]:
        say(f"{times(data['same'], 'state')} more had the bytes of another.")
    if data["interrupted"]:
        say(f"Interrupted. It goes on with: cwkit crash --into {folder}{named_again(data)}")
    for name in data["kept"]:
        path = within(folder, name)
        sentence = sentence_of(read_kept(path))
        say(f"BROKEN  {sentence}")
        if (known := known_state(data["binding"], data["version"], sentence)) is not None:
            say(f"        known: {known.name}{', ' * bool(known.public)}{known.public}")
        say(f"        cwkit crash --look {path}{named_again(data)}")
    if not any(row["broken"] for row in data["models"]):
        say("Nothing that is promised was broken in these states.")
    say(f"folder: {folder}")


def _journal(data: dict[str, Any]) -> str:
    mode = data["journal_mode"]
    return "" if mode == "wal" else f", journal_mode {mode}"


def named_again(data: dict[str, Any]) -> str:
    """The options that name a campaign's own files again: nothing of a folder is run unasked.

    >>> named_again({"engine": "libsql", "scenario": "mine.py:Mine"})
    ' --scenario mine.py:Mine'
    """
    own = {name: data[name] for name in ("engine", "scenario") if ".py:" in data[name]}
    return "".join(f" --{name} {value}" for name, value in own.items())


def _table(data: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("crash", "states", "broken", "lost in", "most lost", "what else it may do"):
        right = name not in ("crash", "what else it may do")
        table.add_column(name, justify="right" if right else "left")
    for row in data["models"]:
        if row["states"]:
            broken = ", ".join(f"{kind} {many}" for kind, many in sorted(row["broken"].items()))
            allowed = ", ".join(f"{kind} {many}" for kind, many in sorted(row["allowed"].items()))
            table.add_row(
                row["model"], f"{row['states']:,}", broken or "0", f"{row['lost_in']:,}",
                f"{row['most_lost']:,}", allowed,
            )  # fmt: skip
    return table


def _look(folder: Path) -> int:
    from properties.crashes import look_again, read_kept
    from workloads.files import made

    kept = read_kept(folder)
    console = terminal.console()
    with made("crash") as place:
        faults = look_again(kept, place)
    for one in faults:
        word = "BROKEN" if one.promised else "allowed"
        console.print(
            visible(f"{word}  {one.kind}: {one.sentence}"),
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    if not faults:
        console.print("ok  nothing is wrong with it now", markup=False, highlight=False)
    return 1 if any(one.promised for one in faults) else 0
