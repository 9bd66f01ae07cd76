"""`--save NAME`: the name is looked at before anything runs, and given where all is well."""

from __future__ import annotations

from pathlib import Path

from analysis.cli import terminal
from workloads import records
from workloads.errors import PlanError
from workloads.files import resolved


def check_saving(name: str | None, runs: Path, into: Path | None = None) -> None:
    """Raises PlanError where what is made cannot be saved under this name; None saves nothing.

    into : the folder that is made, where the user names it: names lead to folders in `runs`.
    """
    if name is None:
        return
    records.check_name(name, runs)
    if into is not None and resolved(into).parent != resolved(runs):
        raise PlanError(
            f"--save {name}: a name leads to a folder in {runs}, and {into} is not there. Give "
            "another --runs, or leave --save out."
        )


def save_if_well(name: str | None, folder: Path, runs: Path, *, well: bool) -> None:
    """Save a folder under a name, and say so; one that is not well is not saved."""
    if name is None:
        return
    say = terminal.console(stderr=True).print
    if well:
        records.save_as(name, folder, runs)
        say(f"saved as {name}")
    else:
        say(f"not saved as {name}, for it is not well")
