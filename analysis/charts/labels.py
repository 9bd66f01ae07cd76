"""Words in a chart: its heading, names at the ends of lines, and what is not in the picture.

Texts are laid out by their own sizes, so that none lies on another.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from scipy.optimize import isotonic_regression

from workloads.files import visible

LONGEST_LABEL = 80
LABEL_LETTERS, LONGEST_WORD, LONGEST_WORDS = 30, 40, 900
"""A name at the end of a line is broken into lines of so many letters, a word after so many; a
heading ends after so many."""

LINE = 1.3
"""Height of a line of text, in sizes of its font."""

GAP_PT = 4.0

_UNIT = re.compile(r"(?<=\d) (?=(?:%|[mµn]?s|MiB|cores?)(?!\w))")
"""The space between a number and its unit, where no line is broken."""


class Heading(NamedTuple):
    """A chart's words about itself.

    title : what is seen, from the data. conditions : what it was measured under. missing : what is
    not in the picture and why, a clause each, beside what the chart finds missing itself.
    """

    title: str = ""
    conditions: str = ""
    missing: Sequence[str] = ()


NO_HEADING = Heading()


def as_label(text: str) -> str:
    """A name in a chart. Ticks need it by hand: they are made only when a chart is drawn."""
    shown = visible(text, keep="\n")
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def words(text: str) -> str:
    """A text about a chart in one line, with nothing in it that acts."""
    shown = visible(text)
    return shown if len(shown) <= LONGEST_WORDS else f"{shown[: LONGEST_WORDS - 1]}…"


# --- around the picture -----------------------------------------------------------------------


def put_heading(figure: Figure, heading: Heading, missing: Sequence[str]) -> None:
    """Write title and conditions above everything that is drawn, and what is missing below."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn = figure.get_tightbbox(renderer)
    wide, size_in = max(drawn.width, 4.5), figure.get_size_inches()

    def write(text: str, size: float, y: float, weight: str = "normal", *, above: bool) -> float:
        """Write a paragraph and return where the next one may stand."""
        font = FontProperties(family="DejaVu Sans", size=size, weight=weight)

        def inches(line: str) -> float:
            return float(renderer.get_text_width_height_descent(line, font, False)[0]) / figure.dpi

        lines = list(wrapped(_UNIT.sub("\N{NO-BREAK SPACE}", words(text)), wide, inches))
        high = len(lines) * size * LINE / 72
        for n, line in enumerate(lines):
            from_top = (n + 0.8) * size * LINE / 72
            base = y + high - from_top if above else y - from_top
            figure.text(drawn.x0 / size_in[0], base / size_in[1], line, fontsize=size,
                        fontweight=weight, va="baseline")  # fmt: skip
        return y + high + GAP_PT / 72 if above else y - high - GAP_PT / 72

    top = drawn.y1 + 1.5 * GAP_PT / 72
    if heading.conditions:
        top = write(heading.conditions, 8.5, top, above=True)
    if heading.title:
        write(heading.title, 11.5, top, "bold", above=True)
    if missing:
        told = f"Without a value: {'; '.join(missing)}."
        write(told, 8.5, drawn.y0 - 1.5 * GAP_PT / 72, above=False)


def wrapped(text: str, wide: float, measure: Callable[[str], float]) -> Iterator[str]:
    """A text in lines that are at most so wide by `measure`; a longer word is broken."""
    left = [word[n : n + LONGEST_WORD] for word in text.split(" ") for n in _places(word)]
    left = [word for word in left if word.strip()]

    def fits(many: int) -> bool:
        return measure(" ".join(left[:many]).strip()) <= wide

    while left:
        # To measure is most of it, so the last word of a line is searched for by halves.
        many, least = len(left), 1
        if not fits(many):
            while least + 1 < many:
                middle = (least + many) // 2
                least, many = (middle, many) if fits(middle) else (least, middle)
            many = least
        yield " ".join(left[:many]).strip()
        left = left[many:]


def _places(word: str) -> range:
    return range(0, max(len(word), 1), LONGEST_WORD)


# --- names at the ends of lines ---------------------------------------------------------------


class End(NamedTuple):
    """Where a line ends, in data, and its name and look."""

    label: str
    x: float
    y: float
    colour: str
    mark: str
    hollow: bool = False


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Name lines at their right ends, moved apart where they would lie on one another.

    The limits of the axes must be final.
    """
    if not (shown := [end for end in ends if math.isfinite(end.y)]):
        return
    figure, size = axes.get_figure(root=True), 8.5
    assert figure is not None
    axes.autoscale_view()
    names = ["\n".join(textwrap.wrap(as_label(e.label), LABEL_LETTERS) or [" "]) for e in shown]
    heights = [(1 + name.count("\n")) * size * LINE / 72 + GAP_PT / 72 for name in names]
    # A picture that is cut to what is drawn moves what is placed in parts of the figure, and leaves
    # what is placed in inches.
    wide, high = figure.get_size_inches()
    of_figure: Any = axes.transData + figure.transFigure.inverted()
    at = np.array([of_figure.transform((end.x, end.y)) for end in shown])
    right = axes.get_position().x1 + 0.16 / wide
    places = apart(at[:, 1] * high, heights) / high
    for end, name, (x, y), place in zip(shown, names, at, places, strict=True):
        axes.plot([x, right], [y, place], color=end.colour, linewidth=0.7, alpha=0.7,
                  clip_on=False, transform=figure.transFigure, zorder=1)  # fmt: skip
        axes.plot([right], [place], end.mark, color=end.colour, markersize=6, clip_on=False,
                  markerfacecolor="none" if end.hollow else end.colour,
                  transform=figure.transFigure)  # fmt: skip
        axes.text(right + 0.1 / wide, place, name, transform=figure.transFigure, fontsize=size,
                  va="center", linespacing=LINE - 0.1, clip_on=False)  # fmt: skip


def apart(wanted: Sequence[float] | np.ndarray, heights: Sequence[float]) -> np.ndarray:
    """Middles of boxes, as near as can be to those wanted, in the same order, none on another.

    >>> apart([1.0, 1.0, 9.0], [2.0, 2.0, 2.0]).tolist()
    [0.0, 2.0, 9.0]
    """
    places, high = np.asarray(wanted, float), np.asarray(heights, float)
    order = np.argsort(places, kind="stable")
    # How far each middle is above the lowest if all boxes lie in one pile: what remains must rise.
    pile = np.concatenate([[0.0], np.cumsum((high[order][1:] + high[order][:-1]) / 2)])
    out = np.empty(len(places))
    out[order] = isotonic_regression(places[order] - pile).x + pile
    return out


# --- names beside marks ------------------------------------------------------------------------

RINGS_PT = (8.0, 15.0, 23.0, 32.0, 42.0)
"""Distances of a name from its mark that are tried, the nearest first, points."""

AROUND = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""The sides of a mark on which its name is tried: to the right and above first."""

MARK_PT = 5.0
"""Half the size of the square that a mark takes, points."""

SIDES = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}


class Mark(NamedTuple):
    """A mark in data, and its name; "" for one that has none and is in the way of others'."""

    label: str
    x: float
    y: float


def label_marks(axes: Axes, marks: Sequence[Mark], size: float = 8.0) -> None:
    """Name marks, each where its name lies on no mark, no other name and inside the axes.

    A name that is not close to its mark has a thin line to it. The limits of the axes must be
    final.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer, to_pt = FigureCanvasAgg(figure).get_renderer(), 72 / figure.dpi
    inside: Any = axes.get_window_extent(renderer)
    frame = (inside.x0 * to_pt, inside.y0 * to_pt, inside.x1 * to_pt, inside.y1 * to_pt)
    at = [axes.transData.transform((mark.x, mark.y)) * to_pt for mark in marks]
    taken = [(x - MARK_PT, y - MARK_PT, x + MARK_PT, y + MARK_PT) for x, y in at]
    font = FontProperties(family="DejaVu Sans", size=size)
    for mark, (x, y) in zip(marks, at, strict=True):
        if not mark.label:
            continue
        text = as_label(mark.label)
        wide = float(renderer.get_text_width_height_descent(text, font, False)[0]) * to_pt

        def box(ring: float, side: tuple[int, int], x=x, y=y, wide=wide) -> Box:  # type: ignore[no-untyped-def]
            left = x + side[0] * ring - wide * (1 - side[0]) / 2
            low = y + side[1] * ring - size * (1 - side[1]) / 2
            return left - 1, low - 1, left + wide + 1, low + size + 1

        tried = [(ring, side) for ring in RINGS_PT for side in AROUND]
        # The first of the best: without any overlap, where there is such a place.
        ring, side = min(tried, key=lambda one: _covered(box(*one), taken, frame))
        taken.append(box(ring, side))
        line = {"arrowstyle": "-", "color": "#888e96", "linewidth": 0.6, "shrinkB": 4}
        axes.annotate(text, (mark.x, mark.y), xytext=(side[0] * ring, side[1] * ring),
                      textcoords="offset points", ha=SIDES[0][side[0]], va=SIDES[1][side[1]],
                      fontsize=size, arrowprops=line if ring > RINGS_PT[0] else None)  # fmt: skip


Box = tuple[float, float, float, float]
"""Left, lower, right and upper edge, points."""


def _covered(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """How much of a box lies on others or outside of the frame, square points."""

    def common(one: Box, other: Box) -> float:
        wide = min(one[2], other[2]) - max(one[0], other[0])
        high = min(one[3], other[3]) - max(one[1], other[1])
        return max(wide, 0.0) * max(high, 0.0)

    whole = (box[2] - box[0]) * (box[3] - box[1])
    return sum(common(box, other) for other in taken) + whole - common(box, frame)


# --- what is not there ------------------------------------------------------------------------


def not_shown(label: str, places: Iterable[tuple[str, float]]) -> list[str]:
    """What a line has no point of, as clauses. places : (name of the place, value)."""
    unmeasured, never = [], []
    for name, value in places:
        if math.isinf(value):
            never.append(name)
        elif math.isnan(value):
            unmeasured.append(name)
    told = []
    if unmeasured:
        told.append(f"{as_label(label)} at {', '.join(unmeasured)} (no value)")
    if never:
        told.append(f"{as_label(label)} at {', '.join(never)} (never served)")
    return told
