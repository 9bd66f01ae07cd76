"""`cwkit faults`: go through the registry of faults, each a story, for each engine and mode."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from analysis.cli import terminal
from analysis.cli.options import RUNS, JsonOption, RunsOption, command_line, refuse_beside
from analysis.cli.publishing import publish as publish_it
from analysis.cli.publishing import say
from analysis.cli.terminal import one_line
from properties.known_faults import known_fault
from workloads.engines import trust
from workloads.errors import PlanError
from workloads.files import json_text, visible

if TYPE_CHECKING:
    from properties.faults import StoryResult

ERRORS_SHOWN = 2


def faults_command(
    context: typer.Context,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="NAME or FILE.py:CLASS; several times (default: the embedded ones)"),
    ] = None,
    begin: Annotated[
        list[str] | None,
        typer.Option(help="BEGIN mode; several times (default: immediate, and concurrent)"),
    ] = None,
    story: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="tell this one; several times (default: all)"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="each as shortly as it can be")] = False,
    list_: Annotated[bool, typer.Option("--list", help="print the stories, and tell none")] = False,
    seed: Annotated[int, typer.Option(help="of the runs, and of where faults strike")] = 0,
    kills: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="of kill-often, each engine and mode (default: 20)"),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="the campaign's folder; one that has begun goes on")
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(help="keep what this campaign told for the reports to come, in a file"),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(help="folder of that file (default: analysis/published/faults)"),
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    if publish is not None:
        refuse_beside(context, "--publish", {"publish", "published", "quiet"})
        _publish(publish, published)
        return
    if published is not None:
        raise PlanError(f"--published {published}: is where --publish writes to. Give both.")
    if not 0 <= seed < 1 << 53:
        raise PlanError(f"--seed: from 0 to 2^53, not {seed}.")
    from properties.faults import campaign, cases_of, default_engines, find_stories

    console, waiting = terminal.console(), terminal.console(stderr=True)
    stories = find_stories(story or [])
    if list_:
        for one in stories:
            console.print(f"{one.name:<20} {one.sentence}", markup=False, highlight=False)
        return
    trust(*(engine or []))
    cases = cases_of(engine or default_engines(), begin or [])
    folder = into or runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-faults"
    live = _Live(waiting, len(cases) * len(stories))
    interrupted = False
    try:
        campaign(
            folder, cases, stories, seed=seed, quick=quick, kills=kills, command=command_line(),
            on_begun=live.begun, on_told=live.told,
        )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
    results = _of(folder, cases, [one.name for one in stories])
    if as_json:
        print(json_text(document(folder, results, interrupted)))
    else:
        tell(results, folder, console, interrupted)
    if interrupted:
        raise typer.Exit(130)
    raise typer.Exit(_status(results))


def _publish(folder: Path, published: Path | None) -> None:
    from analysis.report import FAULTS, publish_faults

    publish_it(
        folder, published or FAULTS, publish_faults, lambda one: f"{len(one.stories)} stories"
    )
    say("`cwkit report` tells it on its page faults.md (--only-write: without measuring).")


def _of(folder: Path, cases: list[tuple[str, str]], stories: list[str]) -> list[StoryResult]:
    from properties.faults import read_results

    asked = set(cases)
    found = read_results(folder)
    return [one for one in found if (one.engine, one.begin) in asked and one.story in stories]


def _status(results: list[StoryResult]) -> int:
    if any(one.found for one in results):
        return 1
    return 0 if any(one.verdict == "sound" for one in results) else 3


def document(folder: Path, results: list[StoryResult], interrupted: bool) -> dict[str, Any]:
    """The campaign as one document for a program."""
    return {
        "cwkit": 1,
        "document": "faults",
        "folder": str(folder),
        "interrupted": interrupted,
        "verdicts": dict(Counter(one.verdict for one in results)),
        "untested": sum(not one.fired for one in results),
        "stories": [asdict(one) | {"verdict": one.verdict} for one in results],
    }


class _Live:
    """A line for who waits, at each story."""

    def __init__(self, console: Any, of: int) -> None:
        self.console, self.of, self.number, self.since = console, of, 0, time.monotonic()

    def begun(self, story: str, engine: str, begin: str) -> None:
        self.number += 1
        self._say(f"[{self.number}/{self.of}] {story} on {engine} {begin}")

    def told(self, result: StoryResult) -> None:
        self._say(f"  {result.verdict}, {result.seconds:.1f} s")

    def _say(self, line: str) -> None:
        self.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


# --- what it says -----------------------------------------------------------------------------


def tell(results: list[StoryResult], folder: Path, console: Any, interrupted: bool) -> None:
    """A table with a row for each story of each case, and below it what they say."""

    def say(text: str) -> None:
        console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    for engine, begin in dict.fromkeys((one.engine, one.begin) for one in results):
        mine = [one for one in results if (one.engine, one.begin) == (engine, begin)]
        version = next((one.version for one in mine if one.version), "")
        say(f"{engine} {version}, {begin}, seed {mine[0].seed}".replace(" ,", ","))
        console.print(_table(mine))
        for one in mine:
            for sentence, known in [*zip_longest(one.found, one.known, fillvalue="")][:3]:
                say(f"FINDING  {one.story}: {sentence}")
                if (of := known_fault(known)) is not None:
                    say(f"         known: {of.name}{', ' * bool(of.public)}{of.public}")
            if one.found and one.command:
                say(f"         {one.command}")
        console.print()
    counted = Counter(one.verdict for one in results)
    untested = sum(not one.fired for one in results)
    say(
        f"{counted['sound']} of {len(results)} sound, {counted['finding']} with findings, "
        f"{counted['cannot tell']} cannot tell; no fault fired in {untested}: nothing was tested."
    )
    if interrupted:
        say(f"Interrupted. It goes on with the same command and --into {folder}")
    say(f"folder: {folder}")


def _table(results: list[StoryResult]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("story", "verdict", "fired", "acked", "lost", "torn", "doubled", "block ms"):
        table.add_column(name, justify="left" if name in ("story", "verdict") else "right")
    table.add_column("the engine's words, and what else is to be said")
    for one in results:
        words = sorted(one.errors.items(), key=lambda pair: -pair[1])[:ERRORS_SHOWN]
        said = [f'"{text[:70]}" {many}' for text, many in words]
        said += one.told[-1:] if len(one.told) == 1 else one.told[:3]
        said += one.untold[:1]
        block = "" if one.longest_block_ms is None else f"{one.longest_block_ms:,.0f}"
        row = (
            one.story, one.verdict, f"{one.fired:,}", f"{one.acknowledged:,}", str(one.lost),
            str(one.torn), str(one.doubled), block, "; ".join(said),
        )  # fmt: skip
        table.add_row(*(one_line(cell) for cell in row))
    return table
