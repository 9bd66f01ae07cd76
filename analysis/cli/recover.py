"""`cwkit recover`: finish runs whose process was killed, and clear what killed processes left.

Also what every other command says of them before it begins, in one line.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analysis import wording as words
from analysis.cli import show
from analysis.cli.command import RUNS, DatabasesOption, LoadOption, RunsOption, app
from workloads.engines import trust
from workloads.errors import PlanError
from workloads.experiments import Cleared, recover_all, sentence
from workloads.files import LeftOver, clear_stages, left_over, usual_places, visible
from workloads.records import MANIFEST, Manifest, find_run
from workloads.runs import recover

BROKEN, UNDECIDED = 1, 3


@app.command("recover")
def recover_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RUN|FOLDER", help="a run, or a folder of a sweep's or report's"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="all that killed processes have left")
    ] = False,
    load: LoadOption = None,
    runs: RunsOption = RUNS,
    databases: DatabasesOption = None,
) -> None:
    """Finish what was killed: count it, read its history, check its database, clear the rest."""
    if (name is None) != everything:
        raise PlanError("recover: give a run, or --all for everything that was left.")
    trust(*load or ())
    console = show.console()
    folder = find_run(name, runs) if name is not None else None
    with show.Live(show.console(stderr=True)) as live:
        if folder is not None and (folder / MANIFEST).exists():
            made = recover(folder, on_progress=live)
            found = [made.run.manifest] if made.run is not None else []
        else:
            places = [*usual_places(), *([databases] if databases else [])]
            done = recover_all(
                [folder or runs],
                [] if folder else places,
                say=lambda said: _say(console, said),
                on_progress=live,
            )
            made, found = None, [one.run.manifest for one in done.runs if one.run is not None]
    if made is None:
        _say(console, _told(done))
        raise typer.Exit(BROKEN if done.failed else _status(found))
    if made.run is not None:
        show.show_run(made.run, console)
    _say(console, f"{folder}: {_whole(made.what) or sentence(made)}")
    raise typer.Exit(_status(found))


def _status(found: Sequence[Manifest]) -> int:
    if any(manifest.broken for manifest in found):
        return BROKEN
    return UNDECIDED if any(manifest.unmade for manifest in found) else 0


def _whole(what: str) -> str:
    return "is over, and nothing was left to be done." if what == "whole" else ""


def _told(done: Cleared) -> str:
    """What `--all` came to, and what it could not do."""
    if not done.runs and not done.folders and not done.failed:
        return "Nothing was left."
    finished = sum(one.run is not None for one in done.runs)
    removed = len(done.runs) - finished
    cleared = words.times(len(done.folders), "folder")
    said = f"{words.times(finished, 'run')} finished, {removed} removed, {cleared} cleared."
    return "\n".join([said, *(f"Not done: {why}" for why in done.failed)])


def _say(console: Console, said: str) -> None:
    console.print(visible(said, keep="\n"), markup=False, highlight=False, soft_wrap=True)


# --- what the next command says -----------------------------------------------------------------


def name_left_over(argv: Sequence[str]) -> None:
    """One line on standard error where killed processes have left temporary folders.

    Those of stages, on which schedules were played, are removed: nobody need be asked.
    """
    clear_stages()
    if argv[:1] in ([], ["recover"]) or "--help" in argv:
        return
    places = [Path(tempfile.gettempdir()), *_databases(argv)]
    if left := left_over(*places):
        print(f"cwkit: {_named(left)}", file=sys.stderr)


def _databases(argv: Sequence[str]) -> list[Path]:
    option = "--databases"
    after = [Path(b) for a, b in itertools.pairwise(argv) if a == option]
    return after + [Path(a.partition("=")[2]) for a in argv if a.startswith(f"{option}=")]


def _named(left: Sequence[LeftOver]) -> str:
    shown = []
    for one in left[:3]:
        run = one.owner.run if one.owner is not None else ""
        shown.append(f"{one.path} (of {run})" if run else f"{one.path}")
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return visible(
        f"left by processes that were killed: {', '.join(shown)}{more}. `cwkit recover --all` "
        "finishes their runs and clears them."
    )
