"""`--publish` of the commands that hunt or try something for long: kept for the reports to come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from analysis.cli import terminal
from workloads.errors import FolderUnwritable
from workloads.files import visible

P = TypeVar("P")


def publish(
    folder: Path, to: Path, how: Callable[[Path, Path], tuple[Path, P]], told: Callable[[P], str]
) -> None:
    """Write what `folder` holds into the folder `to` by `how`, and say so.

    told : (what was published) -> what it has, for the sentence. Raises FolderUnwritable.
    """
    try:
        path, one = how(folder, to)
    except OSError as error:
        raise FolderUnwritable(
            f"{error.filename or to}: cannot be written ({error.strerror}). Nothing is lost: "
            "give another folder with --published."
        ) from error
    say(f"published: {path} ({told(one)})")


def say(text: str) -> None:
    """A line that may hold anybody's words."""
    terminal.console().print(visible(text), markup=False, highlight=False, soft_wrap=True)
