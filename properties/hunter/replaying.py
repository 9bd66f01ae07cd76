"""A hunt's findings played again, on the same engine or on another version of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from properties.conformance import CHECKS, held_to, named
from properties.hunter.folder import Kept, findings_in, read_finding
from properties.hunter.hunt import Hunter
from workloads.schedules import CannotPlay


class Replayed(NamedTuple):
    """What a finding is on an engine.

    state : "there", "not there", "another" or "cannot be played". text : the engine's words, or
    what else is wrong there.
    """

    folder: Path
    kept: Kept
    state: str
    text: str = ""


def replay(folder: Path, engine: str, modes: tuple[str, ...] = ()) -> Iterator[Replayed]:
    """Play each finding of a folder on an engine. Raises RunError, EngineMissing."""
    found = [(path, *read_finding(path)) for path in findings_in(folder)]
    for path, kept, program in found:
        if kept.check:
            yield _asked(path, kept, engine, modes or tuple(kept.modes))
            continue
        hunter = Hunter(engine, modes or tuple(kept.modes), kept.seed)
        with contextlib.closing(hunter):
            try:
                hunter.stage.renew(program.schema, program.options)
            except CannotPlay as refusal:
                yield Replayed(path, kept, "cannot be played", str(refusal))
                continue
            made = hunter.judged(program)
            if made is None:
                yield Replayed(path, kept, "not there")
                continue
            wrong = made[0].wrong
            state = "there" if wrong.judge == kept.judge else "another"
            yield Replayed(path, kept, state, f"{wrong.judge}: {wrong.sentence}, {wrong.seen}")


def _asked(path: Path, kept: Kept, engine: str, modes: tuple[str, ...]) -> Replayed:
    """A sentence of the contract, asked again."""
    if kept.check not in {one.name for one in CHECKS}:
        return Replayed(path, kept, "cannot be played", f"there is no check {kept.check!r} now")
    outcomes = [outcome for _, outcome in held_to(engine, modes, [named(kept.check)])]
    for state, called in (("broken", "there"), ("not asked", "cannot be played")):
        for one in outcomes:
            if one.state == state:
                return Replayed(path, kept, called, f"{kept.judge}: {kept.sentence}, {one.seen}")
    return Replayed(path, kept, "not there")


__all__ = ["Replayed", "replay"]
