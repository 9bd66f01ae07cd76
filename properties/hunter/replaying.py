"""A hunt's findings played again, on the same engine or on another version of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from properties.conformance import CHECKS, held_to, named
from properties.hunter.folder import Kept, findings_in, read_finding
from properties.hunter.hunt import Hunter
from workloads.engines import find_engine, modes_of, reference_library
from workloads.schedules import CannotPlay, Death, Played, Program


class Replayed(NamedTuple):
    """What a finding is on an engine.

    state : "there", "not there", "another" or "cannot be played". text : the engine's words, or
    what else is wrong there.
    """

    folder: Path
    kept: Kept
    engine: str
    state: str
    text: str = ""


def replay(folder: Path, engine: str = "", modes: tuple[str, ...] = ()) -> Iterator[Replayed]:
    """Play each finding of a folder on an engine.

    engine : "" for that on which each was found. modes : of BEGIN; in a program, each that is none
    of them becomes the first. Raises RunError, EngineMissing.
    """
    found = [(path, *read_finding(path)) for path in findings_in(folder)]
    for path, kept, program in found:
        name = engine or kept.engine
        if why := _cannot(name, kept, modes, asked=bool(engine)):
            yield Replayed(path, kept, name, "cannot be played", why)
            continue
        mine = modes_of(find_engine(name))
        in_modes = modes or tuple(mode for mode in kept.modes if mode in mine)
        state, text = _played(name, kept, in_modes, _in_modes(program, modes))
        yield Replayed(path, kept, name, state, text)


def _cannot(name: str, kept: Kept, modes: tuple[str, ...], *, asked: bool) -> str:
    """Why a finding cannot be played on an engine, "" where it can."""
    if ".py" in name and not asked:
        return "it was found on a file's class, whose code is run where --engine names it"
    engine = find_engine(name)
    if why := engine.missing():
        return why
    mine = modes_of(engine)
    return "" if modes or {*kept.modes} & {*mine} else f"{name} has none of its modes"


def _in_modes(program: Program, modes: tuple[str, ...]) -> Program:
    """A program with one of these modes in place of each that is none of them."""
    steps = tuple(
        step._replace(text=modes[0])
        if modes and step.verb == "begin" and (step.text or "deferred") not in modes
        else step
        for step in program.steps
    )
    return replace(program, steps=steps)


def _played(name: str, kept: Kept, modes: tuple[str, ...], program: Program) -> tuple[str, str]:
    """The state of a finding, and the words on it."""
    if kept.check:
        return _asked(kept, name, modes)
    with contextlib.closing(Hunter(name, modes, kept.seed)) as hunter:
        try:
            with contextlib.suppress(Death):  # it dies once more, and is judged
                hunter.stage.renew(program.schema, program.options)
            made = hunter.judged(program)
        except (CannotPlay, reference_library().Error) as refusal:
            return "cannot be played", str(refusal)
        if made is None:
            why = "it cannot be judged to its end" if hunter.tally.unsure else _refused(hunter.last)
            return ("cannot be played", why) if why else ("not there", "")
        wrong = made[0].wrong
        state = "there" if wrong.judge == kept.judge else "another"
        return state, f"{wrong.judge}: {wrong.sentence}, {wrong.seen}"


def _refused(played: Played | None) -> str:
    """The words on a BEGIN that the engine has not got, "" for none."""
    if played is None:
        return ""
    for step, result in zip(played.program.steps, played.results, strict=False):
        if step.verb == "begin" and result.status == "failed":
            return f"BEGIN {step.text.upper()}".strip() + f" is refused: {result.message}"
    return ""


def _asked(kept: Kept, engine: str, modes: tuple[str, ...]) -> tuple[str, str]:
    """A sentence of the contract, asked again."""
    if kept.check not in {one.name for one in CHECKS}:
        return "cannot be played", f"there is no check {kept.check!r} now"
    outcomes = [outcome for _, outcome in held_to(engine, modes, [named(kept.check)])]
    for state, called in (("broken", "there"), ("not asked", "cannot be played")):
        for one in outcomes:
            if one.state == state:
                return called, f"{kept.judge}: {kept.sentence}, {one.seen}"
    return "not there", ""


__all__ = ["Replayed", "replay"]
