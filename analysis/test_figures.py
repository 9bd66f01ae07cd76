"""Charts: the same bytes, axes with units, a caption each, and contrast on every page."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis import figures
from analysis.figures import CARD, INK, SPARE, STYLES, Line, Track, caption, nothing_to_draw
from analysis.figures_sweeps import Panel, small_multiples

NAN = math.nan
LINES = [
    Line("libsql BEGIN IMMEDIATE", ("libsql", "immediate"), [1, 2, 4], [1.0, 2.0, NAN],
         [0.9, 1.9, NAN], [1.1, NAN, NAN]),
    Line("of an engine never seen", ("mine", "weird"), [1, 4], [0.0, 3.0], [0.0, 2.0], [0.0, 4.0]),
    Line("null", ("null", "immediate"), [1, 4], [9.0, 9.0]),
]  # fmt: skip
RANKS = [Line("a", ("libsql", "immediate"), [1, 2], [0.9, 0.1])]
FIVE = [Line("a", ("libsql", "immediate"), range(5), [1e5, 1e6, 1e7, NAN, 2e9])]
TRACKS = [
    Track("a run", ("libsql", "immediate"), np.linspace(0, 1, 6), np.arange(5.0), np.zeros((0, 2))),
    Track("a still one", ("libsql", ""), np.linspace(0, 1, 6), np.zeros(5), np.array([[0.1, 0.2]])),
]
DATA: dict[Callable[..., None], Any] = {
    figures.throughput_against_writers: LINES,
    figures.abort_rate_against_skew: LINES,
    figures.latency: FIVE,
    figures.shares: RANKS,
    figures.crossover: LINES,
    figures.checkpoint_timeline: TRACKS,
}
CHARTS = {chart.__name__: chart for chart in DATA}


@pytest.mark.parametrize("name", CHARTS)
def test_the_same_data_give_the_same_bytes(name, tmp_path):
    chart = CHARTS[name]
    chart(DATA[chart], tmp_path / "a.svg")
    chart(DATA[chart], tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in drawn
    assert CARD.encode() in drawn  # its own ground, on which its ink can be read on any page


def test_every_chart_is_tested_and_has_a_caption_that_says_what_to_see():
    public = {
        name
        for name, thing in inspect.getmembers(figures, inspect.isfunction)
        if thing.__module__ == figures.__name__ and "path" in inspect.signature(thing).parameters
        if not name.startswith("_")
    }
    assert public == set(CHARTS)
    assert all(len(caption(chart).split()) > 25 for chart in DATA)


def test_axes_say_their_units():
    source = inspect.getsource(figures)
    labels = re.findall(r'_chart\("(.+?)", "(.+?)"\)', source)
    assert len(labels) == 5
    assert all(re.search(r"/ s|%|ms|baseline", y) for _, y in labels)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG 2.1."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_marks_have_contrast_on_the_card():
    assert contrast(INK, CARD) > 7
    weak = {
        colour: round(contrast(colour, CARD), 2)
        for colour, _ in (*STYLES.values(), *SPARE)
        if contrast(colour, CARD) < 2.6
    }
    assert not weak


def test_lines_without_a_point_are_nothing_to_draw():
    assert nothing_to_draw([])
    assert nothing_to_draw([Line("a", ("x", "y"), [1], [NAN])])
    assert not nothing_to_draw(LINES)


def test_a_sweep_without_a_usable_cell_is_drawn_without_a_warning(tmp_path):
    nothing = Line("a", ("libsql", "immediate"), [0, 1], [NAN, NAN], [NAN, NAN], [NAN, NAN])
    small_multiples([Panel("", ["1", "2"], [nothing])], tmp_path / "a.svg", x="x", y="y")
    track = Track("a", ("libsql", ""), np.linspace(0, 1, 3), np.full(2, NAN), np.zeros((0, 2)))
    figures.checkpoint_timeline([track], tmp_path / "b.svg")
