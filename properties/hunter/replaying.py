"""A hunt's findings played again, on the same engine or on another version of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from properties.conformance import CHECKS, held_to, named
from properties.hunter.folder import Kept, findings_in, read_finding
from properties.hunter.hunt import Hunter
from workloads.engines import find_engine, modes_of, reference_library
from workloads.schedules import CannotPlay, Death


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
    mine = modes_of(find_engine(engine))
    for path, kept, program in found:
        in_modes = modes or tuple(mode for mode in kept.modes if mode in mine)
        if not in_modes:
            yield Replayed(path, kept, "cannot be played", f"{engine} has none of its modes")
            continue
        if kept.check:
            yield _asked(path, kept, engine, in_modes)
            continue
        hunter = Hunter(engine, in_modes, kept.seed)
        with contextlib.closing(hunter):
            try:
                with contextlib.suppress(Death):  # it dies once more, and is judged
                    hunter.stage.renew(program.schema, program.options)
                made = hunter.judged(program)
            except (CannotPlay, reference_library().Error) as refusal:
                yield Replayed(path, kept, "cannot be played", str(refusal))
                continue
            if made is None and hunter.tally.unsure:
                yield Replayed(path, kept, "cannot be played", "it cannot be judged to its end")
                continue
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
