"""The sweeps that come with the kit, each called by its name: the files of the folder shipped/."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from workloads.errors import UnknownName, nearest, shortened

SHIPPED = Path(__file__).with_name("shipped")
FORMER = Path("experiments")
"""Where the shipped sweeps were: `experiments/landscape.toml` still means `landscape`."""

_MINUTES = re.compile(r"About (\d+) minutes? on two cores\.")


class ShippedSweep(NamedTuple):
    """A sweep that comes with the kit. minutes : its time on two cores, from its file."""

    name: str
    question: str
    minutes: int
    path: Path


def sweep_names() -> list[str]:
    """The names of the shipped sweeps, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def shipped_sweep(name: str) -> ShippedSweep:
    """A shipped sweep, by its exact name."""
    path = SHIPPED / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    comment = text.partition("\n\n")[0].replace("\n# ", " ")
    minutes = _MINUTES.search(comment)
    assert minutes, f"{path} does not say how many minutes it takes"
    return ShippedSweep(name, tomllib.loads(text)["question"], int(minutes.group(1)), path)


def sweep_path(given: str) -> Path:
    """The file of a sweep that was asked for by a shipped sweep's name or by a path.

    A path ends in .toml or has a slash. Everything else is a name, even where the current folder
    has a file that is called so: the same command means the same sweep in every folder.
    Raises UnknownName with the nearest name.
    """
    path = Path(given)
    if given.endswith(".toml") or "/" in given:
        if path.parent == FORMER and path.stem in sweep_names() and not path.exists():
            return SHIPPED / path.name
        return path
    if given in (known := sweep_names()):
        return SHIPPED / f"{given}.toml"
    near = nearest(given, known)
    hint = f"Did you mean {near!r}? " if near else ""
    raise UnknownName(
        f"There is no sweep {shortened(given)}. {hint}`cwkit list --sweeps` shows them. A file of "
        "yours is meant where the name ends in .toml or has a slash, such as ./mine."
    )
