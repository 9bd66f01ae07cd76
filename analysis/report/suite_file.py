"""`campaign.json`: the suite that a report's folder holds, read and written here alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, inside, read_versioned, resolved, write_json

if TYPE_CHECKING:
    from workloads.engines import Probe

SUITE_FILE = "campaign.json"
AGAIN = "Run `cwkit report` again."


class Suite(msgspec.Struct, frozen=True):
    """The suite of a report: its experiments, and how they were made. Older files lack some keys.

    name : the folder's, in the file `campaign`. probes : each engine's answers when the runs were
    made. sweeps : sweeps that are reported with the rest, by their path from the folder.
    foreign_limit : share of the machine's CPU time that others may use in a run, None for the rule.
    offered_per_s : transactions a second that the rates of the open loop are shares of, as the
    headline measured it; None where it did not. skipped : experiment -> why it was not run.
    took_s : how long the commands that made it have taken so far, 0 where that was not kept.
    """

    cwkit: int = FORMAT_VERSION
    name: str = msgspec.field(default="", name="campaign")
    quick: bool = False
    seed: int | None = None
    command: str = ""
    started: str = ""
    experiments: list[str] = []
    probes: list[dict[str, Any]] = []
    sweeps: list[str] = []
    foreign_limit: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    offered_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e7)] | None = None
    skipped: dict[str, str] = {}
    took_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0

    def answers(self) -> dict[str, Probe]:
        """The probes by the engine's name. They were checked when the file was read."""
        from workloads.engines import from_dict

        return {probe.engine: probe for probe in map(from_dict, self.probes)}


def read_suite(folder: Path) -> Suite:
    """A report's campaign.json. Raises RunError with the reason."""
    try:
        suite: Suite = read_versioned(Path(folder) / SUITE_FILE, Suite, AGAIN)
        suite.answers()
    except FileNotFoundError:
        raise RunError(f"{folder}: holds no report's runs (it has no {SUITE_FILE}).") from None
    except msgspec.ValidationError as error:
        raise RunError(
            f"{folder}/{SUITE_FILE}: an answer of `probes` cannot be read ({error}). It was cut or "
            f"edited. {AGAIN}"
        ) from error
    return suite


def write_suite(folder: Path, suite: Suite) -> None:
    """Replace campaign.json in one step. Raises OSError."""
    plain: dict[str, Any] = msgspec.to_builtins(suite)
    write_json(folder / SUITE_FILE, {key: plain[key] for key in plain if plain[key] is not None})


def allow_foreign(folder: Path, share: float) -> None:
    """Keep how much of the machine others may use before a run is dropped."""
    write_suite(folder, msgspec.structs.replace(read_suite(folder), foreign_limit=share))


def add_sweeps(folder: Path, sweeps: Sequence[Path]) -> None:
    """Keep that the report shows these sweeps too, by their path from its folder."""
    suite = read_suite(folder)
    there = [str(os.path.relpath(resolved(sweep), resolved(folder))) for sweep in sweeps]
    places = list(dict.fromkeys([*suite.sweeps, *there]))
    write_suite(folder, msgspec.structs.replace(suite, sweeps=places))


def sweep_beside(folder: Path, place: str) -> Path:
    """The folder of a sweep that campaign.json names: one in the report's folder or beside it.

    A sweep that lies elsewhere is read only if the command line names it. Raises RunError.
    """
    parts = PurePosixPath(place).parts
    root = Path(os.path.abspath(folder))
    try:
        if len(parts) == 2 and parts[0] == "..":
            return inside(root.parent, parts[1])
        if len(parts) == 1:
            return inside(root, parts[0])
    except RunError as error:
        raise RunError(f"{folder}/{SUITE_FILE}: {error}") from error
    raise RunError(
        f"{folder}/{SUITE_FILE}: names the sweep {place!r}, which lies neither in this folder nor "
        f"beside it, so it is not read. Name it: `cwkit report --only-write --into {folder} "
        "--sweep FOLDER`."
    )
