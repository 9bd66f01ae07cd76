"""`cwkit claims`: the article's claims with their verdicts, and what a claim needs, measured."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analysis.cli import terminal
from analysis.cli.options import RUNS, JsonOption, RunsOption, check_share, command_line
from analysis.cli.progress import CellCounter
from workloads.errors import PlanError, RunError
from workloads.files import json_text

if TYPE_CHECKING:
    from analysis.claims import Claim
    from analysis.report import Entry


def claims_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="measure these, by name or number; without: list"),
    ] = None,
    quick: Annotated[bool, typer.Option(help="fewer and shorter blocks")] = False,
    seed: Annotated[int, typer.Option(help="seeds the draws and the order of the arms")] = 1,
    into: Annotated[
        Path | None,
        typer.Option(help="a folder of earlier runs: go on there; without NAME: tell its verdicts"),
    ] = None,
    foreign_limit: Annotated[
        float | None,
        typer.Option(
            callback=check_share,
            help="share of the CPU time that others may use in a block (default: 0.05)",
        ),
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    from analysis.claims import find_claim
    from analysis.counting import FOREIGN_LIMIT
    from analysis.report import SUITE_FILE

    wanted = list(dict.fromkeys(find_claim(name) for name in names or ()))
    if not 0 <= seed < 2**63:
        raise PlanError(f"--seed {seed}: a whole number from 0 to 2**63 - 1.")
    if into is not None and not (into / SUITE_FILE).is_file():
        raise RunError(
            f"{into}: holds no report's runs (it has no {SUITE_FILE}). `cwkit list` shows the "
            "folders; leave --into out to begin a new one."
        )
    results, waiting = terminal.console(), terminal.console(stderr=True)
    if not wanted:
        list_claims(into or newest_report(runs), results, waiting, as_json=as_json)
        return
    kind = f"claims-s{seed}"
    folder = into or runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}"
    limit = FOREIGN_LIMIT if foreign_limit is None else foreign_limit
    try:
        measure(folder, wanted, quick, seed, limit, waiting)
    except KeyboardInterrupt:
        again = shlex.join(["cwkit", "claims", *(names or ()), "--into", str(folder)])
        waiting.print(f"interrupted: what was measured is kept; go on with {again}",
                      soft_wrap=True)  # fmt: skip
        raise typer.Exit(130) from None
    from analysis.report import told_claims

    told = told_claims(folder, wanted)
    if as_json:
        print(json_text(_document(folder, told)))
        return
    for number, entry in enumerate(told):
        show_claim(entry, results, first=not number)
    results.print()
    results.print(f"The runs are in {folder}", soft_wrap=True)


def measure(
    folder: Path,
    wanted: Sequence[Claim],
    quick: bool,
    seed: int,
    foreign_limit: float,
    waiting: Console,
) -> None:
    """Measure what these claims need, with the cells counted on the way."""
    from analysis.report import cells_of, designs, measure_claims

    needed = cells_of(wanted, quick=quick, seed=seed)
    counter = CellCounter([one for one in designs(quick, seed) if one.name in needed], waiting)
    with counter:
        measure_claims(
            folder,
            wanted,
            quick=quick,
            seed=seed,
            command=command_line(),
            on_cell=counter.of,
            notify=lambda line: waiting.print(line, soft_wrap=True),
            foreign_limit=foreign_limit,
        )


def newest_report(runs: Path) -> Path | None:
    """The newest folder of a report among the runs, None where there is none."""
    from analysis.report import SUITE_FILE

    found = sorted(path.parent for path in runs.glob(f"*/{SUITE_FILE}") if path.is_file())
    whole = [path for path in found if "-report-" in path.name]
    return next(reversed(whole or found), None)


def list_claims(
    folder: Path | None, results: Console, waiting: Console, *, as_json: bool = False
) -> None:
    """Every claim with its verdict, in a line."""
    from analysis.report import told_claims

    if folder is not None:
        waiting.print(f"reading {folder}", soft_wrap=True)
    told = told_claims(folder)
    if as_json:
        print(json_text(_document(folder, told)))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("", "name", "claim", "verdict", "from"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("", "name"))
    for entry in told:
        table.add_row(
            str(entry.of.number),
            entry.of.name,
            entry.claim,
            entry.verdict,
            ", ".join(f"{need.kind} {need.name}" for need in entry.of.needs),
        )
    results.print(table)
    where = f"The verdicts are from {folder}. " if folder else "There is no report yet. "
    results.print(
        f"{where}`cwkit claims NAME` measures what a claim needs and tells its numbers.",
        soft_wrap=True,
    )


def _document(folder: Path | None, told: Sequence[Entry]) -> dict[str, Any]:
    from analysis.cli.documents import document

    claims = [
        {
            "number": entry.of.number,
            "name": entry.of.name,
            "claim": entry.claim,
            "verdict": entry.verdict,
            "seen": str(entry.found.number),
            "confirms": entry.confirms,
            "source": entry.of.source,
            "needs": [{"kind": need.kind, "name": need.name} for need in entry.of.needs],
        }
        for entry in told
    ]
    return document("claims", folder=folder, claims=claims)


def show_claim(entry: Entry, results: Console, *, first: bool) -> None:
    """A claim with its verdict, its numbers, and what it rests on."""
    if not first:
        results.print()
    lines = [
        f"{entry.of.number} {entry.of.name}: {entry.claim}",
        f"  verdict: {entry.verdict}",
        f"  seen: {entry.found.number}",
        f"  what would confirm it: {entry.confirms}",
        f"  source: {entry.of.source}",
    ]
    sweeps = [need.command for need in entry.of.needs if need.command.startswith("cwkit sweep")]
    if sweeps:
        lines.append(f"  sweeps are not run here: {'; '.join(sweeps)}")
    for line in lines:
        results.print(line, soft_wrap=True)
