"""Names of A and B as a user gives them: a run, an arm of an experiment, a sweep, a report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from analysis.counting import FOREIGN_LIMIT, Arm, CountedCell, Measured, count, gather
from workloads.errors import PlanError, RunError, nearest, shortened
from workloads.experiments import DONE, FAILED, read_experiment
from workloads.files import resolved
from workloads.records import find_run, in_reports, read_run
from workloads.runs import must_be_over, why_not

MOST_CUTS = 50
"""Signs at which a name may be parted into a folder and an arm."""

MOST_SHOWN = 30


@dataclass(frozen=True, eq=False)
class Side:
    """One of two things that are compared.

    cells : block -> Cell; a single run is block 0. arm : None for a single run.
    """

    label: str
    cells: Mapping[int, CountedCell]
    arm: Arm | None = None
    folder: Path = Path()


def broken(a: Side, b: Side) -> list[str]:
    """Checks that did not hold in B, and runs that failed in B where A's was done.

    A crash is worse than any speed. Dropped with its block and nothing more it would be forgiven:
    what survives may be as fast as ever.
    """
    lines = [
        f"{b.label}, {cell.run}: {finding.check}: {finding.sentence}"
        for cell in b.cells.values()
        for finding in cell.broken
    ]
    for block, cell in b.cells.items():
        beside = a.cells.get(block)
        if cell.state == FAILED and not cell.broken and beside and beside.state == DONE:
            where = "" if b.arm is None else f", block {block}"
            lines.append(f"{b.label}{where}: failed where {a.label} did not: {cell.failure}")
    return lines


class Place(NamedTuple):
    """Where a name leads: a run's folder, an experiment's (a sweep's), or one arm of one."""

    kind: str  # "run", "sweep" or "arm"
    folders: tuple[Path, ...]  # of a report's folder, all its experiments
    arm: str = ""


def locate(name: str, runs: Path) -> Place:
    """RUN, FOLDER, FOLDER:ARM or FOLDER/ARM, each as a path or as a name (or a part of it) below
    `runs`. An arm's own name may hold either sign. Raises RunError with the nearest name.
    """
    for folder in (Path(name), runs / name):
        if os.path.isdir(folder) and (place := _whole(folder)):
            return place
    wrong = ""
    cuts = [at for at, sign in enumerate(name) if sign in ":/"][-MOST_CUTS:]
    for exactly in (True, False):
        for at in reversed(cuts):
            where, arm = name[:at], name[at + 1 :]
            found = _experiment(where, runs, exactly)
            if found is None or not arm:
                continue
            arms = list(read_experiment(found).design.arms)
            if arm in arms:
                return Place("arm", (found,), arm)
            near = nearest(arm, arms, 0.3)
            hint = f" Did you mean {near!r}?" if near else ""
            there = ", ".join(arms[:MOST_SHOWN]) + (", …" if arms[MOST_SHOWN:] else "")
            wrong = wrong or f"{found} has no arm {shortened(arm)}.{hint} It has: {there}."
    if wrong:
        raise RunError(wrong)
    folder = find_run(name, runs)
    place = _whole(folder)
    if place is None:
        raise RunError(
            f"{folder}: holds no run and no experiment. `cwkit list` shows those there are."
        )
    return place


def _whole(folder: Path) -> Place | None:
    if os.path.isfile(folder / "manifest.json"):
        return Place("run", (folder,))
    if os.path.isfile(folder / "experiment.json"):
        return Place("sweep", (folder,))
    inside = sorted(path.parent for path in folder.glob("*/experiment.json"))
    return Place("sweep", tuple(inside)) if inside else None


def _experiment(name: str, runs: Path, exactly: bool) -> Path | None:
    """The folder of an experiment of that name, None where there is none."""
    candidates = [Path(name), runs / name]
    if not exactly and name:
        try:
            candidates = [find_run(name, runs)]
        except RunError:  # as a report names its experiments: the newest report's
            candidates = in_reports(name, runs)[::-1]
    return next((path for path in candidates if os.path.isfile(path / "experiment.json")), None)


def pairs_of(
    names: Sequence[str], runs: Path, foreign_limit: float = FOREIGN_LIMIT
) -> tuple[list[tuple[Side, Side]], list[str]]:
    """(A, B) for each comparison that these names ask for, and what was left out, in words.

    One sweep: its baseline against each other arm. Several arms or runs: the first against each
    of the others. Two or more sweeps: the first against each of the others, arm by arm.
    Raises PlanError for names that don't go together, RunError for those that are none.
    """
    places = [locate(name, runs) for name in names]
    kinds = {place.kind for place in places}
    if len(kinds) > 1:
        lines = ", ".join(
            f"{n} is {'an' if p.kind == 'arm' else 'a'} {p.kind}"
            for n, p in zip(names, places, strict=True)
        )
        raise PlanError(
            f"{lines}: give two of a kind. FOLDER:ARM names an arm; `cwkit list` has the folders."
        )
    same = [(p.folders, p.arm) for p in places]
    for at, one in enumerate(same):
        if (first := same.index(one)) < at:
            if names[first] == names[at]:
                raise PlanError(f"{names[at]} is given twice: nothing to compare.")
            raise PlanError(
                f"{names[first]} and {names[at]} are the same {places[at].kind}, {one[0][0].name}: "
                "nothing to compare. `cwkit list` has the others."
            )
    if kinds == {"sweep"}:
        if len(places) == 1:
            return _against_baseline(places[0], foreign_limit)
        return _arm_by_arm(places, foreign_limit)
    if len(places) < 2:
        raise PlanError(f"{names[0]} is one {places[0].kind}: with what is it to be compared?")
    if kinds == {"run"}:
        sides = [_of_run(place.folders[0], foreign_limit) for place in places]
    else:
        sides = list(_of_arms(places, foreign_limit))
    return [(sides[0], side) for side in sides[1:]], []


def _of_run(folder: Path, foreign_limit: float) -> Side:
    run = read_run(folder)
    must_be_over(folder, run.manifest)
    failure = "" if run.manifest.ok else "; ".join(why_not(run.manifest))
    state = "failed" if failure else "done"
    cell = CountedCell(0, run.name, state, failure, count(run), run.manifest, folder, foreign_limit)
    return Side(run.name, {0: cell}, None, folder)


def _of_arms(places: Sequence[Place], foreign_limit: float) -> Iterator[Side]:
    wanted: dict[Path, list[str]] = {}
    for place in places:
        wanted.setdefault(resolved(place.folders[0]), []).append(place.arm)
    counted = {folder: _counted(folder, foreign_limit, arms) for folder, arms in wanted.items()}
    for place in places:
        folder = resolved(place.folders[0])
        label = place.arm if len(wanted) == 1 else f"{place.folders[0].name}:{place.arm}"
        yield _side(counted[folder].arms[place.arm], folder, label)


def _counted(folder: Path, foreign_limit: float, arms: Sequence[str] = ()) -> Measured:
    """An experiment counted: these arms and its A/A controls, or all of it."""
    experiment = read_experiment(folder)
    return gather(experiment, foreign_limit, arms)


def _side(arm: Arm, folder: Path, label: str = "") -> Side:
    return Side(label or arm.name, {cell.block: cell for cell in arm.cells}, arm, folder)


def _against_baseline(
    place: Place, foreign_limit: float
) -> tuple[list[tuple[Side, Side]], list[str]]:
    pairs, notes = [], []
    for folder in place.folders:
        measured = _counted(folder, foreign_limit)
        if measured.baseline is None:
            notes.append(f"{folder.name} has no baseline: name two of its arms, {folder.name}:ARM.")
            continue
        controls = {again for one, again in measured.twins if one == measured.baseline}
        base = _side(measured.baseline, folder)
        named = f"{folder.name}:" if len(place.folders) > 1 else ""
        pairs += [
            (base, _side(arm, folder, f"{named}{arm}"))
            for arm in measured.arms.values()
            if arm != measured.baseline and arm not in controls
        ]
    if not pairs:
        raise PlanError(" ".join(notes) or f"{place.folders[0]}: has only one arm.")
    return pairs, notes


def _arm_by_arm(
    places: Sequence[Place], foreign_limit: float
) -> tuple[list[tuple[Side, Side]], list[str]]:
    def counted(place: Place) -> dict[str, tuple[Measured, Path]]:
        found = {folder: _counted(folder, foreign_limit) for folder in place.folders}
        whole = len(place.folders) > 1
        return {
            measured.name if whole else "": (measured, folder) for folder, measured in found.items()
        }

    first, *others = [counted(place) for place in places]
    pairs, notes = [], []
    for place, other in zip(places[1:], others, strict=True):
        for name in dict.fromkeys([*first, *other]):
            if name not in first or name not in other:
                notes.append(f"Only one of them has the experiment {name}.")
                continue
            (a, at), (b, there) = first[name], other[name]
            common = [arm for arm in a.arms if arm in b.arms]
            only = [arm for arm in [*a.arms, *b.arms] if arm not in common]
            if only:
                notes.append(f"Only one of them has: {', '.join(only)}.")
            prefix = f"{name}:" if name else ""
            for arm in common:
                pairs.append(
                    (
                        _side(a.arms[arm], at, f"{_named(at, place)}:{prefix}{arm}"),
                        _side(b.arms[arm], there, f"{_named(there, place)}:{prefix}{arm}"),
                    )
                )
    if not pairs:
        raise PlanError("They have no arm of the same name: name the arms, FOLDER:ARM.")
    return pairs, notes


def _named(folder: Path, place: Place) -> str:
    return folder.parent.name if len(place.folders) > 1 else folder.name
