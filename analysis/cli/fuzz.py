"""`cwkit fuzz`: draw programs, play them, judge them, and keep what no engine may show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from analysis.cli import terminal
from analysis.cli.options import RUNS, RunsOption
from analysis.cli.publishing import publish as publish_it
from analysis.cli.publishing import say
from analysis.cli.terminal import one_line
from analysis.wording import number, times
from workloads.engines import trust
from workloads.errors import PlanError, RunError
from workloads.files import json_text, visible

if TYPE_CHECKING:
    from properties.hunter import Hunted, Kept, KnownBug, Progress
    from workloads.schedules import Program

MOST_PROCESSES, MOST_MINUTES = 64, 7 * 24 * 60.0
SHOWN_PAIRS, PRINTED_EACH_S = 5, 5.0


def fuzz_command(
    context: typer.Context,
    engine: Annotated[
        str,
        typer.Option(
            help="NAME, NAME@VERSION or FILE.py:CLASS (default: libsql; with --replay that on "
            "which each was found)"
        ),
    ] = "",
    begin: Annotated[
        str, typer.Option(help="BEGIN modes to mix, MODE[,MODE] (default: all it promises)")
    ] = "",
    minutes: Annotated[float, typer.Option(help="how long to hunt")] = 10.0,
    programs: Annotated[
        int | None,
        typer.Option(help="end after so many drawn programs, whatever the time"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of all that is drawn")] = 0,
    processes: Annotated[
        int | None, typer.Option("-j", help="processes that hunt (default: one a core)")
    ] = None,
    without: Annotated[
        str,
        typer.Option(help="features that are not drawn, FEATURE[,FEATURE]; a wrong one lists all"),
    ] = "",
    replay: Annotated[
        Path | None, typer.Option(help="play the findings of this hunt, or one of them, again")
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(help="keep what this hunt did and found for the reports to come, in a file"),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(help="folder of that file (default: analysis/published/hunts)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one document for a program")] = False,
    runs: RunsOption = RUNS,
) -> None:
    _refuse_publishing(publish, published, replay)
    _refuse_together(context, "publish", ("published", "runs"))
    _refuse_together(context, "replay", ("engine", "begin", "as_json", "runs"))
    if publish is not None:
        _publish(publish, published)
        return
    trust(*filter(None, [engine]))
    modes = tuple(dict.fromkeys(part.strip() for part in begin.split(",") if part.strip()))
    if begin and not modes:
        raise PlanError(f"--begin {begin}: names no mode. Without it, all that are promised are.")
    console, waiting = terminal.console(), terminal.console(stderr=True)
    if replay is not None:
        raise typer.Exit(_replay(replay, engine, modes, as_json, console))
    engine = engine or "libsql"
    _in_bounds(minutes, programs, processes)
    from properties.hunter import checked_features, checked_modes, hunt_all

    modes = checked_modes(engine, modes)
    off = checked_features(tuple(part.strip() for part in without.split(",") if part.strip()))
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-fuzz-{engine.rpartition('/')[2]}".replace(":", "-")
    with _Live(waiting) as live:
        hunted = hunt_all(
            runs / name,
            engine,
            modes,
            seed=seed,
            minutes=minutes,
            programs=programs,
            processes=processes or len(os.sched_getaffinity(0)),
            without=off,
            on_progress=live,
        )
    if as_json:
        print(json_text(hunt_document(hunted)))
    else:
        tell(hunted, engine, modes, console)
    if hunted.ended == "interrupted":
        raise typer.Exit(130)
    raise typer.Exit(1 if hunted.progress.findings or hunted.died else 0)


def _in_bounds(minutes: float, programs: int | None, processes: int | None) -> None:
    if not 0 < minutes <= MOST_MINUTES:
        raise PlanError(f"--minutes: above 0 and at most {MOST_MINUTES:g}, not {minutes:g}.")
    if programs is not None and programs < 1:
        raise PlanError(f"--programs: at least 1, not {programs}.")
    if processes is not None and not 1 <= processes <= MOST_PROCESSES:
        raise PlanError(f"-j: from 1 to {MOST_PROCESSES} processes, not {processes}.")


def _refuse_publishing(publish: Path | None, published: Path | None, replay: Path | None) -> None:
    if published is not None and publish is None:
        raise PlanError(f"--published {published}: is where --publish writes to. Give both.")
    if published is not None and published.exists() and not published.is_dir():
        raise PlanError(f"--published {published}: is no folder.")
    if publish is not None and replay is not None:
        raise PlanError("--publish and --replay: one at a time.")


def _refuse_together(context: typer.Context, one: str, takes: tuple[str, ...]) -> None:
    """Refuse an option that one of those without a hunt would pass over in silence."""
    options = {option.name: option.opts[-1] for option in context.command.params}
    if context.params.get(one) is None:
        return
    for name, option in options.items():
        source = context.get_parameter_source(name or "")
        if source is not None and source.name == "COMMANDLINE" and name not in (one, *takes):
            raise PlanError(f"{option}: is of a hunt, and {options[one]} hunts nothing.")


def _publish(folder: Path, published: Path | None) -> None:
    from analysis.report import HUNTS, publish_hunt

    publish_it(
        folder, published or HUNTS, publish_hunt,
        lambda hunt: f"{times(hunt.programs, 'program')}, {times(len(hunt.findings), 'finding')}"
        f"{'' if hunt.ended == 'done' else f', {hunt.ended}'}",
    )  # fmt: skip
    say("`cwkit report` tells it on its page hunts.md (--only-write: without measuring).")


class _Live:
    """The hunt's progress: a line that changes on a terminal, one in some seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.console, self.at = console, -PRINTED_EACH_S
        self.live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> _Live:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, progress: Progress) -> None:
        line = progress_line(progress)
        if self.live:
            self.live.update(one_line(line))
        elif progress.elapsed_s - self.at >= PRINTED_EACH_S:
            self.at = progress.elapsed_s
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress_line(progress: Progress) -> str:
    """How far a hunt is: programs a second, findings, pairs of operations that have met."""
    rate = progress.programs / progress.elapsed_s if progress.elapsed_s else 0.0
    kinds = len({kind for pair in progress.pairs for kind in pair})
    return (
        f"{progress.elapsed_s:.0f} s: {progress.programs:,} programs, {number(rate)} a second; "
        f"{times(len(progress.findings), 'finding')}; {len(progress.pairs):,} of "
        f"{kinds * (kinds + 1) // 2:,} pairs of operations met"
    )


def tell(hunted: Hunted, engine: str, modes: tuple[str, ...], console: Console) -> None:
    """What a hunt did, and what it found."""
    from properties.hunter import findings_in, known_bug, read_finding

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    progress, found = hunted.progress, findings_in(hunted.folder)
    console.print(pairs_table(progress))
    line("")
    line(f"Hunt {hunted.folder.name}: {engine}, {', '.join(modes)}")
    line(f"  {progress_line(progress)}; {hunted.ended}")
    if progress.drawn:
        line(f"  {progress.drawn:,} programs were drawn; the others were tried to make one smaller")
    for text in _noted(progress, engine):
        line(f"  {text}")
    for name, count in sorted(progress.known.items()):
        line(f"  known, seen {times(count, 'time')}: {name}{_where(known_bug(name))}")
    for died in hunted.died:
        line(f"  a process of the hunt failed: {visible(died)}")
    if len(found) > 1:
        line(f"  {times(len(found), 'finding')}; several may come of one bug")
    for path in sorted(found, key=lambda path: read_finding(path)[0].steps):
        for text in _finding_lines(path, *read_finding(path)):
            line(text)
    if not found:
        line("  nothing new was found" if progress.known else "  nothing was found")


def _noted(progress: Progress, engine: str) -> Iterator[str]:
    """What of a hunt was left out, refused, or not judged."""
    for feature, words in sorted(progress.refused.items()):
        yield f"not drawn, because {engine} refuses it: {feature} ({visible(words)})"
    if progress.unsupported:
        yield f"{times(progress.unsupported, 'statement')} refused as something it has not got"
    if progress.unsure:
        yield (
            f"{times(progress.unsure, 'program')} not judged to the end: a COMMIT that nobody "
            "knows of, or too many states that the commits may have led to"
        )
    for why, count in sorted(progress.not_raced.items()):
        yield f"{times(count, 'race')} not run, because its tables were refused: {visible(why)}"


def _finding_lines(path: Path, kept: Kept, program: Program) -> Iterator[str]:
    """A finding for people: what is wrong, how often, and where it lies."""
    from properties.hunter import known_bug

    seen, tries = kept.again
    yield ""
    yield visible(f"{kept.judge}: {kept.sentence}{f', {kept.when}' if kept.when else ''}")
    if kept.expected:
        yield visible(f"  right: {kept.expected}")
    if kept.seen:
        yield visible(f"  seen:  {kept.seen}")
    steps = f"{times(len(program.steps), 'step')}, of {kept.drawn_steps} drawn"
    of = f"in {', '.join(kept.modes)}" if kept.check else steps
    yield f"  {of}; {kept.method} shows it in {seen} of {tries} tries"
    if kept.no_script:
        yield visible(f"  no script: {kept.no_script}")
    if kept.known:
        yield f"  it looks like what is known: {visible(kept.known)}{_where(known_bug(kept.known))}"
    yield f"  {path}"


def _where(bug: KnownBug | None) -> str:
    """Where a known deviation has its script, and who else reported it."""
    if bug is None or not bug.script:
        return ""
    public = f", reported as {bug.public}" if bug.public else ""
    return f" (examples/findings/{bug.script}{public})"


def pairs_table(progress: Progress) -> Table:
    """The kinds of operation by how many others each was under way beside.

    Two operations have met where one was taken while a transaction of the other went on.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("operation", "met", "never beside"):
        table.add_column(heading, overflow="fold")
    kinds = sorted({kind for pair in progress.pairs for kind in pair})
    for kind in kinds:
        never = [
            other for other in kinds
            if (min(kind, other), max(kind, other)) not in progress.pairs
        ]  # fmt: skip
        shown = ", ".join(never[:SHOWN_PAIRS])
        more = f" and {len(never) - SHOWN_PAIRS} more" if len(never) > SHOWN_PAIRS else ""
        table.add_row(kind, str(len(kinds) - len(never)), shown + more)
    return table


def hunt_document(hunted: Hunted) -> dict[str, object]:
    """A hunt for a program."""
    progress = hunted.progress
    return {
        "folder": str(hunted.folder),
        "ended": hunted.ended,
        "programs": progress.programs,
        "elapsed_s": progress.elapsed_s,
        "findings": progress.findings,
        "known": dict(progress.known),
        "refused": progress.refused,
        "pairs": len(progress.pairs),
    }


def _replay(
    folder: Path, engine: str, modes: tuple[str, ...], as_json: bool, console: Console
) -> int:
    from properties.hunter import checked_modes, findings_in, opened, replay

    if not findings_in(folder):
        raise RunError(f"{folder}: has no finding. Give the folder of a hunt, or of a finding.")
    if engine:
        checked_modes(engine, modes)
        opened(engine)
    table = Table(box=None, pad_edge=False)
    for heading in ("finding", "on", "is", "what"):
        table.add_column(heading, overflow="fold")
    rows = []
    for one in replay(folder, engine, modes):
        rows.append({"finding": one.folder.name, "engine": one.engine, "state": one.state,
                     "text": one.text})  # fmt: skip
        table.add_row(one.folder.name, visible(one.engine), one.state, visible(one.text))
    if as_json:
        print(json_text({"engine": engine, "findings": rows}))
    else:
        console.print(table)
        if any(row["state"] == "another" for row in rows):
            console.print("another: something else is wrong there.", markup=False)
    return 1 if any(row["state"] != "not there" for row in rows) else 0
