"""A sweep in the report: its grid as small multiples, as a table a hand can sort, and as CSV.

A sweep is an experiment whose arms are the points of a grid. Here the grid's axes are laid out. One
becomes the lines of each chart (the system). One becomes the x axis (the numbers with the most
values). Each combination of the others is a chart of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from analysis.charts import Line, Panel
from analysis.counting import Arm, Measured, throughput
from analysis.statistics import Estimate
from analysis.wording import times

MOST_PANELS = 12
SYSTEM = "system"


@dataclass(frozen=True)
class Layout:
    """The place of each axis of a grid, "" for none.

    lines, x : names of axes. panels : the rest. values : axis -> its values, in the file's order.
    """

    lines: str
    x: str
    panels: tuple[str, ...]
    values: Mapping[str, Sequence[Any]]

    def panel_points(self) -> Iterator[dict[str, Any]]:
        """Each combination of the axes that are neither lines nor x."""
        for combined in product(*(self.values[axis] for axis in self.panels)):
            yield dict(zip(self.panels, combined, strict=True))


def layout(axes: Mapping[str, Sequence[Any]]) -> Layout:
    """Lay the axes out; an axis of one value needs no place.

    >>> layout({"system": ["a", "b"], "writers": [1, 2, 4], "keys": ["uniform", "latest"]}).x
    'writers'
    """
    many = {axis: list(values) for axis, values in axes.items() if len(values) > 1}
    lines = SYSTEM if SYSTEM in many else ""
    rest = [axis for axis in many if axis != lines]
    counts = [axis for axis in rest if all(_is_number(value) for value in many[axis])]
    x = max(counts or rest, key=lambda axis: (axis == "writers", len(many[axis])), default="")
    rest = [axis for axis in rest if axis != x]
    if not lines and rest:
        lines = min(rest, key=lambda axis: len(many[axis]))
        rest.remove(lines)
    return Layout(lines, x, tuple(rest), many)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Chart(NamedTuple):
    """The arguments of small_multiples: panels and names of both axes; and what was left out."""

    panels: list[Panel]
    x: str
    y: str
    left_out: str


def throughput_chart(measured: Measured) -> Chart:
    """Committed transactions a second of the writers (readers where nothing writes)."""

    def point(arm: Arm) -> tuple[float, float, float]:
        found = arm.estimate(throughput(arm.role))
        if not found.blocks:
            return (math.nan,) * 3
        low, high = _reach(found)
        return low, found.value, high

    return _chart(measured, "committed transactions / s", point)


def abort_chart(measured: Measured) -> Chart:
    """Share of finished attempts refused, in per cent, with its interval over blocks."""

    def point(arm: Arm) -> tuple[float, float, float]:
        found = arm.refused()
        if not found.blocks:
            return (math.nan,) * 3
        low, high = _reach(found)
        return 100 * low, 100 * found.value, 100 * high

    made = _chart(measured, "aborted attempts (%)", point)
    # A mode that waits where another aborts is a line at 0, which only hides the others.
    panels = [
        panel._replace(lines=[line for line in panel.lines if any(y != 0 for y in line.y)])
        for panel in made.panels
    ]
    if not any(y > 0 for panel in panels for line in panel.lines for y in line.y):
        return made._replace(panels=[])
    lines, left = ([len(panel.lines) for panel in each] for each in (made.panels, panels))
    said = "A system of which nothing was refused in a panel has no line there."
    left_out = " ".join(filter(None, (made.left_out, said if left != lines else "")))
    return made._replace(panels=panels, left_out=left_out)


def _reach(found: Estimate) -> tuple[float, float]:
    if found.known:
        return found.low, found.high
    return float(found.each.min()), float(found.each.max())


def _chart(measured: Measured, y: str, point: Callable[[Arm], tuple[float, float, float]]) -> Chart:
    plan = layout(measured.axes)
    panels = []
    for fixed in plan.panel_points():
        lines = []
        for value in plan.values.get(plan.lines, [None]):
            here = fixed if value is None else fixed | {plan.lines: value}
            arms = [_arm_at(measured, here, plan.x, x) for x in plan.values.get(plan.x, [None])]
            there = {n: arm for n, arm in enumerate(arms) if arm is not None}
            if not there:
                continue
            found = [point(arm) for arm in there.values()]
            low, middle, high = ([p[i] for p in found] for i in range(3))
            first = next(iter(there.values()))
            name = first.label if plan.lines == SYSTEM else f"{plan.lines} {value}"
            # Systems differ in colour by engine and mode, other lines by their order alone.
            looks = first.system if plan.lines == SYSTEM else ("", str(value))
            lines.append(Line(name, looks, list(there), middle, low, high))
        title = ", ".join(f"{axis} {value}" for axis, value in fixed.items())
        ticks = [_tick(x) for x in plan.values.get(plan.x, [""])]
        if lines:
            panels.append(Panel(title, ticks, lines))
    left = len(panels) - MOST_PANELS
    left_out = f"{times(left, 'panel')} more are in the CSV." if left > 0 else ""
    return Chart(panels[:MOST_PANELS], plan.x, y, left_out)


def _tick(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else str(value)


def _arm_at(measured: Measured, here: Mapping[str, Any], x: str, value: Any) -> Arm | None:
    wanted = dict(here) if value is None else {**here, x: value}
    again = measured.repeated
    for name, at in measured.points.items():
        if name not in again and all(at.get(axis) == v for axis, v in wanted.items()):
            return measured.arms[name]
    return None


def factors(measured: Measured) -> list[str]:
    """Axes with more than one value, `system` left out."""
    return [axis for axis, values in measured.axes.items() if len(values) > 1 and axis != SYSTEM]
