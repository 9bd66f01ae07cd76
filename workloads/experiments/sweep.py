"""A sweep: the grid of a TOML file as arms of an experiment. All are checked before any runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.errors import EngineMissing, PlanError, UnknownName, nearest, shortened
from workloads.experiments.experiment import Design, no_name
from workloads.experiments.sweep_file import At, Checked, Complaints, Skip, Values, check_file
from workloads.files import resolved
from workloads.runs import Plan, make_plan
from workloads.scenarios import with_texts

MOST_SHOWN = 20
AGAIN = " again"
"""Behind the baseline's name: its A/A twin."""


@dataclass(frozen=True)
class Skipped:
    """A combination that a rule leaves out, and why."""

    arm: str
    why: str


@dataclass(frozen=True)
class Sweep:
    """A sweep's file, read: its design as an experiment, and the rest of the file.

    design : its axes have "system" first where there are systems; the A/A control is the arm
    "<baseline> again". missing : arm -> why its engine is not to be had here; such an arm's cells
    get that state, and the others are run.
    """

    path: Path
    design: Design
    control: bool
    skipped: Sequence[Skipped]
    missing: Mapping[str, str]

    @property
    def cells(self) -> int:
        return self.design.cells

    def seconds(self, arm: str) -> float:
        """The time that a cell of this arm runs by its plan, warm-up included, s."""
        return planned_s(self.design.arms[arm])


def planned_s(values: Mapping[str, Any]) -> float:
    """Warm-up and measured part of a plan given as values, s; 0 where it makes no plan."""
    try:
        plan = make_plan(**values)
    except (EngineMissing, PlanError, UnknownName):  # an older folder's: its file may be gone
        return 0.0
    return plan.warmup_s + plan.duration_s


def read_sweep(
    path: Path,
    *,
    blocks: int | None = None,
    seed: int | None = None,
    duration_s: float | None = None,
) -> Sweep:
    """Read a sweep's file and try the plan of every arm.

    blocks, seed, duration_s : instead of the file's.
    Raises PlanError with one sentence: the file, the line where it is one line's, and the way out.
    """
    if blocks is not None and blocks < 1:
        raise PlanError(f"--blocks {blocks}: at least one block is needed.")
    if seed is not None and not 0 <= seed < 2**63:
        raise PlanError(f"--seed {seed}: a whole number from 0 to 2**63 - 1.")
    checked = check_file(path, blocks)
    file, source = checked.file, checked.source
    plan = dict(checked.plan)
    if duration_s is not None:
        given = [("the grid", "duration_s" in checked.grid)]
        given += [
            (f"the system {name!r}", "duration_s" in v) for name, v in checked.systems.items()
        ]
        for what, gives in given:
            if gives:
                raise PlanError(f"--duration: {source.path} gives duration_s itself, in {what}.")
        plan["duration_s"] = duration_s
    blocks = file.blocks if blocks is None else blocks
    axes: dict[str, list[Any]] = {"system": list(checked.systems)} if checked.systems else {}
    axes |= {axis: list(values) for axis, values in checked.grid.items()}
    name = file.name or Path(path).stem
    if why := no_name(name):
        raise PlanError(f'{source.path}: {why}. Give the sweep one in the file: name = "…".')
    arms, points, skipped = _arms(checked, name, axes, plan)
    missing = _tried(checked, arms)
    baseline = file.baseline or next(iter(arms))
    if baseline not in arms:
        near = nearest(baseline, arms, 0)
        raise source.wrong(
            ("baseline",),
            f"there is no arm {shortened(baseline)} for a baseline. The nearest is {near!r}.",
        )
    if file.control:
        twin = baseline + AGAIN
        if twin in arms:
            raise source.wrong(
                _ending(checked, points[twin]),
                f"the arm {twin!r} has the name of the A/A control, which runs {baseline!r} again. "
                "Name it otherwise, or give control = false.",
            )
        arms[twin], points[twin] = arms[baseline], points[baseline]
        if baseline in missing:
            missing[twin] = missing[baseline]
    return Sweep(
        path=Path(path),
        design=Design(
            name,
            file.question,
            arms,
            blocks=blocks,
            seed=file.seed if seed is None else seed,
            baseline=baseline,
            axes={axis: [_plain(v) for v in values] for axis, values in axes.items()},
            points=points,
        ),
        control=file.control,
        skipped=skipped,
        missing=missing,
    )


def _ending(checked: Checked, point: Mapping[str, Any]) -> At:
    """Where the file gives the value that an arm's name ends with: its last axis, else
    its system.
    """
    axes = [axis for axis, values in checked.grid.items() if len(values) > 1]
    if axes:
        return ("grid", *axes[-1].split("."))
    names = [system.name for system in checked.file.system]
    return "system", names.index(point["system"]), "name"


def _arms(
    checked: Checked, name: str, axes: Mapping[str, Sequence[Any]], plan: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], list[Skipped]]:
    """Arms and points by name, and the combinations that the rules leave out."""
    rules = _rules(checked, axes)
    used = [False] * len(rules)
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    skipped: list[Skipped] = []
    for combination in itertools.product(*(enumerate(values) for values in axes.values())):
        places = {axis: place for axis, (place, _) in zip(axes, combination, strict=True)}
        point = {axis: value for axis, (_, value) in zip(axes, combination, strict=True)}
        arm = arm_name(point, axes) or name
        left_out = ""
        for i, (rule, wanted) in enumerate(rules):
            if all(places[axis] in values for axis, values in wanted.items()):
                used[i], left_out = True, left_out or rule.why
        if left_out:
            skipped.append(Skipped(arm, left_out))
            continue
        arms[arm] = _values(checked, plan, point)
        points[arm] = {axis: _plain(value) for axis, value in point.items()}
    complaints = Complaints()
    for i, hit in enumerate(used):
        if not hit:
            reason = "this rule leaves out no combination of the grid."
            complaints.found.append(checked.source.wrong(("skip", i), reason))
    complaints.raise_all()
    if not arms:
        raise checked.source.wrong(
            ("skip", 0), "the rules leave out every combination of the grid."
        )
    return arms, points, skipped


def _rules(
    checked: Checked, axes: Mapping[str, Sequence[Any]]
) -> list[tuple[Skip, dict[str, set[int]]]]:
    """Each [[skip]] with the values of axes that it is about, by their places in the axis."""
    rules, complaints = [], Complaints()
    known = {axis: Values(values) for axis, values in axes.items()}
    for i, rule in enumerate(checked.file.skip):
        wanted: dict[str, set[int]] = {}
        given = dict(_flat(rule.model_extra or {}))
        with complaints.noted():
            if not given:
                reason = "a rule needs an axis and its value beside why."
                raise checked.source.wrong(("skip", i), reason)
        for axis, values in given.items():
            at: At = ("skip", i, *axis.split("."))
            with complaints.noted():
                wanted[axis] = _places(checked, at, axis, values, axes, known)
        rules.append((rule, wanted))
    complaints.raise_all()
    return rules


def _places(
    checked: Checked,
    at: At,
    axis: str,
    given: Any,
    axes: Mapping[str, Sequence[Any]],
    known: Mapping[str, Values],
) -> set[int]:
    if axis not in axes:
        near = nearest(axis, axes, 0.5)
        hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(axes)}."
        raise checked.source.wrong(at, f"there is no axis {shortened(axis)} in the grid. {hint}")
    values = given if isinstance(given, list) else [given]
    for value in values:
        if value not in known[axis]:
            there = ", ".join(map(shown, axes[axis][:MOST_SHOWN]))
            more = ", …" if axes[axis][MOST_SHOWN:] else ""
            raise checked.source.wrong(
                at, f"{axis} never is {shortened(value)}; it is {there}{more}."
            )
    return {known[axis].place(value) for value in values}


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{part}", inner) for part, inner in value.items())
        else:
            yield name, value


def _values(checked: Checked, plan: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a Plan at one point: [plan], then the system's, then the axes'."""
    system = checked.systems.get(point.get("system", ""), {})
    values = {**plan, **system}
    for part in ("params", "retry"):
        inner = {**plan.get(part, {}), **system.get(part, {})}
        for axis, place in checked.places.items():
            if place[0] == part and len(place) == 2:
                inner[place[1]] = point[axis]
        if inner:
            values[part] = inner
    values |= {place[0]: point[axis] for axis, place in checked.places.items() if len(place) == 1}
    if values.get("scenario") == "sql":
        _take_files(checked, values)
    return values


def _take_files(checked: Checked, values: dict[str, Any]) -> None:
    """Have the texts of the SQL files that lie beside the sweep's in its plans. A file from
    elsewhere must not name others of the reader's.
    """
    try:
        folder = resolved(checked.source.path).parent
        values["params"] = with_texts(values.get("params", {}), folder)
    except PlanError as error:
        raise checked.source.wrong(("plan", "params"), str(error)) from error


def _tried(checked: Checked, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Every arm's plan, made; and no two arms ask for the same. Returns arm -> what is missing."""
    missing: dict[str, str] = {}
    asked: dict[str, str] = {}
    for arm, values in arms.items():
        try:
            make_plan(**values)
        except EngineMissing as error:
            missing[arm] = str(error)
        except (PlanError, UnknownName) as error:
            raise PlanError(
                f"{checked.source.path}: the arm {arm!r} cannot be run: {error} "
                "A [[skip]] leaves combinations out."
            ) from error
        try:
            plan = Plan(**values)
            whole = repr(plan.model_copy(update={"params": plan.shape().model_dump()}))
        except ValueError:
            continue  # a missing engine's plan may say anything
        if (other := asked.setdefault(whole, arm)) != arm:
            raise PlanError(
                f"{checked.source.path}: the arms {other!r} and {arm!r} ask for exactly the same. "
                "Drop one; the A/A control is made by `control = true`."
            )
    return missing


def arm_name(point: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> str:
    """The system, and each axis that varies with its value; "" where nothing varies.

    >>> axes = {"system": ["libsql immediate"], "writers": [1, 4], "keys": ["uniform"]}
    >>> arm_name({"system": "libsql immediate", "writers": 4, "keys": "uniform"}, axes)
    'libsql immediate, writers 4'
    """
    parts = [point["system"]] if "system" in point else []
    for axis, values in axes.items():
        if axis != "system" and len(values) > 1:
            parts.append(f"{axis} {shown(point[axis])}")
    return ", ".join(parts)


def shown(value: Any) -> str:
    """A value as a file would have it.

    >>> shown(True), shown(1.0), shown(0.25), shown("wal")
    ('true', '1', '0.25', 'wal')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "+".join(map(shown, value))
    return str(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) else shown(value)
