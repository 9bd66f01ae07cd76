"""`cwkit search`: the highest rate of an open loop that meets an objective, and the curve to it.

With --json it prints one document, which is always kept in the folder as `answer.json`:

    {"cwkit": 1, "document": "search", "command": ..., "folder": ..., "objective": "p99 < 10ms",
     "status": 0,                      0 found, 1 not met at any rate (or a check did not hold)
     "rate_per_s": 5120.0 | null,      the highest rate that meets it
     "capacity_per_s": 8300.0,         what a closed loop reaches, the median of "capacity_runs"
     "step": 1.05, "repeats": 3, "plan": {...},
     "probes": [{"rate_per_s", "duration_s", "met": true, "met_runs": 2, "runs": [names],
                 "served_per_s", "abort_rate",
                 "statistics": {"p50": [low, value, high], ...},   ns; null is not known
                 "why": [...], "broken": [...]}],
     "notes": [...]}

"infinite" stands for a latency of transactions that were never served.
"""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analysis import counting, search
from analysis.cli import terminal
from analysis.cli.options import (
    RUNS,
    DatabasesOption,
    ForeignLimitOption,
    JsonOption,
    LoadOption,
    PostgresOption,
    RunsOption,
    command_line,
    load_files,
    must_be_used,
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
from analysis.cli.progress import Live
from analysis.wording import duration, interval, number, percent, times
from workloads import runs as running
from workloads.errors import FolderUnwritable, PlanError
from workloads.files import FORMAT_VERSION, json_text, visible, write_json

if TYPE_CHECKING:
    from analysis.search import Found, Probe, Search

CURVE = "latency-against-rate.svg"
NOT_SEARCHED = (
    *("checkpointers", "checkpoint", "checkpoint_engine", "checkpoint_pause_ms", "transactions"),
    *(
        "stages",
        "rate",
        "read_rate",
        "retry",
        "journal_mode",
        "cache_size",
        "page_bytes",
        "mmap_bytes",
    ),
    *("pin", "deadline_s", "cold_start"),
)
"""Fields of a plan that a search sets itself, or leaves as they are."""

OTHERS = ("into", "load", "as_json", "runs", "databases", "quiet")
"""Options that are none of the search itself."""

HELPS = {
    "writers": "processes that write, at the rate",
    "readers": "processes that only read: beside the writers, or at the rate without",
    "duration_s": "measured part of each run, s",
    "synchronous": "PRAGMA: off, normal, full, extra (default: normal)",
}


@plan_options(without=NOT_SEARCHED, defaults={"duration_s": 5, "warmup_s": 1}, helps=HELPS)
def search_command(
    context: typer.Context,
    slo: Annotated[
        str, typer.Option(help='the objective: "p99 < 10ms", several joined by `and`')
    ] = "",
    *,
    plan: dict[str, Any],
    schema: SchemaOption = None,
    tx: TxOption = None,
    from_db: FromOption = None,
    check: CheckOption = None,
    define: DefineOption = None,
    scale: ScaleOption = None,
    repeats: Annotated[int, typer.Option(help="runs at each rate; more than half decide")] = 3,
    step: Annotated[float, typer.Option(help="between neighbouring rates")] = search.STEP,
    longest: Annotated[
        float,
        typer.Option(help="the longest that a run may be made to have enough transactions, s"),
    ] = search.LONGEST_S,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    into: Annotated[
        Path | None, typer.Option(help="go on with the search in this folder (default: a new one)")
    ] = None,
    load: LoadOption = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
    postgres: PostgresOption = None,
) -> None:
    if into is not None and (into / search.SEARCH).is_file() and not typed_options(context, OTHERS):
        asked = search.read_search(into)
        load_files(load or (), [asked.plan])
    else:
        plan = with_sql(
            plan, schema=schema, tx=tx, check=check, define=define, scale=scale, from_db=from_db
        )
        asked = _search(slo, repeats, step, longest, foreign_limit, **plan)
        load_files(load or (), [])
    must_be_used(postgres, asked.plan)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-search-{asked.plan.scenario.rpartition(':')[2]}"
    folder = into or runs / name.lower()
    begun = search.begin(asked, folder)
    waiting = terminal.console(stderr=True)
    try:
        with Live(waiting) as live:
            found = search.run_search(
                folder,
                command=command_line(),
                databases=databases,
                begun=begun,
                on_progress=live if waiting.is_terminal else None,
                notify=lambda line: waiting.print(line, soft_wrap=True),
            )
    except KeyboardInterrupt:
        _warn(f"cwkit: the search goes on with `cwkit search --into {folder}`.")
        raise
    except search.Undecided as error:
        _warn(f"cwkit: {error}")
        raise typer.Exit(3) from error
    ended = 1 if found.broken or found.answer.rate is None else 0
    document = _document(found, ended)
    _keep(found, document)
    if as_json:
        print(json_text(document))
    else:
        show_found(found, terminal.console())
    raise typer.Exit(ended)


def _warn(line: str) -> None:
    print(visible(line), file=sys.stderr)


def _search(
    slo: str, repeats: int, step: float, longest: float, foreign_limit: float, **plan: Any
) -> Search:
    """The search that was typed. Raises PlanError and its kin."""
    if not slo:
        raise PlanError('Search for what? Give --slo "p99 < 10ms", or --into FOLDER to go on.')
    search.parse_objectives(slo)
    if not 1 <= repeats <= search.MOST_REPEATS or repeats % 2 == 0:
        raise PlanError(
            f"--repeats {repeats}: an odd number up to {search.MOST_REPEATS}, so that more than "
            "half can agree."
        )
    if not 1.01 <= step <= 2:
        raise PlanError(f"--step {step:g}: from 1.01 (1 % between rates) to 2.")
    if not 0 < longest <= 3600:
        raise PlanError(f"--longest {longest:g}: seconds, from more than 0 to 3600.")
    return search.Search(running.make_plan(**plan), slo, repeats, step, longest, foreign_limit)


# --- the answer -------------------------------------------------------------------------------


def _statistics(found: Found) -> list[str]:
    """The columns: p50, what the objective limits, and p99."""
    limited = [objective.statistic for objective in found.search.objectives]
    return [*dict.fromkeys(["p50", *(s for s in limited if s != "abort-rate"), "p99"])]


def show_found(found: Found, console: Console) -> None:
    """The table of rates, and the answer."""
    statistics = _statistics(found)
    limited = {objective.statistic for objective in found.search.objectives}
    table = Table(box=None, pad_edge=False)
    for heading in ("due / s", "served / s", *statistics, "abort rate", "met"):
        table.add_column(heading, justify="right" if heading != "met" else "left", overflow="fold")
    for probe in found.probes.values():
        table.add_row(
            f"{probe.rate:,g}",
            number(probe.served_per_s),
            *(_statistic_text(probe, name, name in limited) for name in statistics),
            percent(probe.abort_rate),
            f"{'yes' if probe.met else 'no'} ({probe.met_runs} of {len(probe.runs)})",
        )
    console.print(table)
    for line in _answer(found):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _statistic_text(probe: Probe, name: str, bounds: bool) -> str:
    low, value, high = probe.statistic(name)
    if math.isinf(value):
        return "never"
    if not bounds or math.isnan(low) or math.isinf(high):
        return duration(value)
    return f"{duration(value)} {interval(low, high, duration)}"


def _answer(found: Found) -> list[str]:
    asked, rate = found.search, found.answer.rate
    loop = (
        f"closed loop: {number(found.capacity)} tx/s, median of "
        f"{times(len(found.capacity_runs), 'run')}"
    )
    if rate is None:
        lines = [f"No rate that was tried meets {asked.objective} ({loop})."]
    else:
        sentence = (
            f"{asked.objective}: met up to {rate:,g} transactions a second, to "
            f"{percent(asked.step - 1)} ({loop}). Latency is from the moment a transaction "
            "was due; intervals are within the runs of a rate."
        )
        lines = [sentence]
    lines += found.answer.notes
    lines += [f"BROKEN  {line}" for line in found.broken]
    return [*lines, f"The curve is {found.folder / CURVE}."]


def _document(found: Found, ended: int) -> dict[str, Any]:
    def plain(value: float) -> float | str | None:
        return None if math.isnan(value) else "infinite" if math.isinf(value) else float(value)

    return {
        "cwkit": FORMAT_VERSION,
        "document": "search",
        "command": command_line(),
        "folder": found.folder.name,
        "objective": found.search.objective,
        "status": ended,
        "rate_per_s": found.answer.rate,
        "capacity_per_s": found.capacity,
        "capacity_runs": list(found.capacity_runs),
        "step": found.search.step,
        "repeats": found.search.repeats,
        "plan": found.search.plan.model_dump(mode="json"),
        "probes": [
            {
                "rate_per_s": probe.rate,
                "duration_s": probe.duration_s,
                "met": probe.met,
                "met_runs": probe.met_runs,
                "runs": probe.runs,
                "served_per_s": plain(probe.served_per_s),
                "abort_rate": plain(probe.abort_rate),
                "statistics": {
                    name: [plain(value) for value in probe.statistic(name)]
                    for name in _statistics(found)
                },
                "why": probe.why,
                "broken": probe.broken,
            }
            for probe in found.probes.values()
        ],
        "notes": list(found.answer.notes),
    }


def _keep(found: Found, document: dict[str, Any]) -> None:
    """The document and the curve, in the search's folder."""
    from analysis.charts import Curve, latency_against_rate  # matplotlib: slow to import

    limits = {o.statistic: o.limit for o in found.search.objectives}
    curves = []
    for name in (s for s in _statistics(found) if s in search.SHARES):
        points = [(probe, probe.statistic(name)) for probe in found.probes.values()]
        low, value, high = zip(*(each for _, each in points), strict=True)
        curves.append(
            Curve(
                name,
                [probe.rate for probe, _ in points],
                value,
                low,
                high,
                limits.get(name, math.nan),
                [probe.met for probe, _ in points],
            )
        )
    try:
        write_json(found.folder / search.DOCUMENT, document)
        latency_against_rate(curves, found.answer.rate, found.folder / CURVE)
    except OSError as error:
        raise FolderUnwritable(
            f"{error.filename or found.folder}: cannot be written ({error.strerror}). The runs are "
            f"kept: `cwkit search --into {found.folder}` tells it again."
        ) from error
