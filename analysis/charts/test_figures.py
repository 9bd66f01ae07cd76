"""Charts: the same bytes, axes with units, a caption each, and contrast on every page."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from analysis.charts import figures, figures_slo
from analysis.charts.base import CARD, INK, SPARE, STYLES, Line
from analysis.charts.figures import Track, caption, nothing_to_draw
from analysis.charts.figures_sweeps import Panel, small_multiples

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
    assert len(labels) >= 5
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


NAMES = {
    "a formula": "$\\frac{1}{2}$",
    "half a formula": "$\\frac{$",
    "a price": "costs $5",
    "an element": "<svg onload=alert(1)></svg><script>x</script>",
    "the end of a comment": "a --> <script>x</script> <!-- b",
    "controls": "\x1b[2J\0\x07\u202e",
    "no label to matplotlib": "_nolegend_",
    "letters without a glyph": "数据 🙂",
    "a long one": "x" * 3000,
    "lines": "a\n\n\nb",
}


@pytest.mark.parametrize("name", list(NAMES))
def test_a_name_is_a_name_in_every_chart(name, tmp_path):
    label = NAMES[name]
    for chart, data in DATA.items():
        path = tmp_path / f"{chart.__name__}.svg"
        chart([one._replace(label=label) for one in data], path)
        of_svg(path)
    panel = Panel(
        label,
        [label, "2"],
        [Line(label, (label, label), [0, 1], [1.0, 2.0])],
    )
    small_multiples([panel], tmp_path / "panels.svg", x=label, y=label)
    whole = of_svg(tmp_path / "panels.svg")
    assert whole[0] > 0
    curve = figures_slo.Curve(label, [1.0, 2.0], [1e6, 2e6], [1e6] * 2, [2e6] * 2, 1e7, [True] * 2)
    figures_slo.latency_against_rate([curve], 1.0, tmp_path / "curve.svg")
    of_svg(tmp_path / "curve.svg")


def test_what_was_never_served_is_left_out_of_a_chart(tmp_path):
    """Without end less without end is no number, and numpy warns of it."""
    end = float("inf")
    curve = figures_slo.Curve(
        "p50", [1.0, 2.0], [1e6, end], [1e6, end], [2e6, end], 1e7, [True, False]
    )
    figures_slo.latency_against_rate([curve], 1.0, tmp_path / "curve.svg")
    lines = [Line("p50", ("a", "b"), [0, 1], [1.0, end], [0.5, end], [2.0, end])]
    small_multiples([Panel("p", ["1", "2"], lines)], tmp_path / "panels.svg", x="x", y="y")
    assert of_svg(tmp_path / "curve.svg") and of_svg(tmp_path / "panels.svg")


def of_svg(path):
    """(glyphs, width) of an SVG that is XML, holds no foreign element, and is no poster."""
    root = ElementTree.fromstring(path.read_bytes())
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds <= {"svg", "defs", "style", "g", "path", "use", "clipPath", "rect", "metadata",
                     "RDF", "Work", "type", "format", "title"}, kinds  # fmt: skip
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
    width = float(root.attrib["width"].removesuffix("pt"))
    assert width < 2000
    return len(list(root.iter("{http://www.w3.org/2000/svg}use"))), width


def test_a_dollar_sign_is_drawn_as_one(tmp_path):
    """Between two of them matplotlib would set a formula, in other letters and without them."""
    glyphs = []
    for name in ("$abc$", "%abc%"):
        small_multiples([Panel(name, ["1"], [])], tmp_path / "a.svg", x="", y="")
        glyphs.append(of_svg(tmp_path / "a.svg")[0])
    assert glyphs[0] == glyphs[1]
