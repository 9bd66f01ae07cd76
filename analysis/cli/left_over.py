"""Leftovers of killed processes: every command names them in one line before it begins."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workloads.files import LeftOver, clear_stages, left_over, visible

NOT_NOW = {"--help", "-h", "--quiet", "-q"}
"""Options under which nothing is said of what is left."""


def name_left_over(argv: Sequence[str]) -> None:
    """One line on standard error where killed processes have left temporary folders.

    Folders in which schedules were run are removed at once: nobody needs them.
    """
    clear_stages()
    commands = [word for word in argv[:2] if not word.startswith("-")]
    if commands[:1] in ([], ["recover"]) or set(argv) & NOT_NOW:
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
