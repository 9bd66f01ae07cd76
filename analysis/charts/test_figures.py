"""Charts: the same bytes, axes with units, a caption each, and contrast on every page."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text

from analysis.charts import (
    base,
    figures,
    figures_bindings,
    figures_load,
    figures_models,
    figures_slo,
    figures_sweeps,
    figures_wal,
)
from analysis.charts.base import Line
from analysis.charts.figures import Effect, Served, caption, nothing_to_draw
from analysis.charts.figures_bindings import Stack
from analysis.charts.figures_load import Load
from analysis.charts.figures_sweeps import Panel, small_multiples
from analysis.charts.figures_wal import Track
from analysis.charts.labels import Heading, apart, put_heading
from analysis.charts.looks import FAINT, OF_OUTCOMES, SPARE, STYLES
from analysis.charts.svg import DARK, DARK_INK, INK, LIGHT

NAN, END = math.nan, math.inf
LINES = [
    Line("libsql BEGIN IMMEDIATE", ("libsql", "immediate"), [1, 2, 4], [1.0, 2.0, NAN],
         [0.9, 1.9, NAN], [1.1, NAN, NAN]),
    Line("of an engine never seen", ("mine", "weird"), [1, 4], [0.0, 3.0], [0.0, 2.0], [0.0, 4.0]),
    Line("null", ("null", "immediate"), [1, 4], [9.0, 9.0]),
]  # fmt: skip
RANKS = [Line("a", ("libsql", "immediate"), [1, 2], [0.9, 0.1])]
FIVE = [Line("a", ("libsql", "immediate"), range(5), [1e5, 0.0, 1e7, NAN, END])]
SHARES = [
    Served("a", ("libsql", "immediate"), [0.9, 0.1, 0.0], 2.1e9, cut=True),
    Served("b", ("sqlite-concurrent", "concurrent"), [0.4, 0.3, 0.3], 4e7),
]
EFFECTS = [
    Effect("with work", 1.6, 1.5, 1.7, "more", 10),
    Effect("without", 0.6, 0.5, 0.7, "less", 10),
    Effect("nearly", 1.01, 0.9, 1.1, "none", 10),
    Effect("seldom", 0.8, 0.7, 0.9, "unknown", 2),
    Effect("never", 0.0, 0.0, 0.0, "less", 10),
    Effect("nobody", NAN, NAN, NAN, "unknown", 0),
]
LOADS = [Load(("100", "200"), [Line("a, p99", ("a", "b"), [0, 1], [1e6, END], [9e5, NAN],
                                    [2e6, NAN])])]  # fmt: skip
TRACKS = [
    Track("a run", ("libsql", "immediate"), np.linspace(0, 1, 6), np.arange(5.0), np.zeros((0, 2)),
          np.linspace(0, 1, 4), np.array([0, 4096, 8192, 8192]), np.array([0.6]), 1),
    Track("a still one", ("libsql", ""), np.linspace(0, 1, 6), np.zeros(5), np.array([[0.1, 0.2]]),
          np.zeros(0), np.zeros(0), np.zeros(0)),
]  # fmt: skip
STACKS = [
    Stack("a binding", "in a transaction", {"engine": 300.0, "binding": 2e3, "Python": 50.0},
          2350.0, 2300.0, 2400.0),
    Stack("another", "alone", {"engine": 2e3, "binding": 0.0, "Python": 50.0}, 2050.0, NAN, NAN),
]  # fmt: skip
DATA: dict[Callable[..., None], Any] = {
    figures.throughput_against_writers: LINES,
    figures.abort_rate_against_skew: LINES,
    figures.latency: FIVE,
    figures.shares: SHARES,
    figures.crossover: EFFECTS,
    figures_load.latency_at_load: LOADS,
    figures_load.throughput_by_case: LOADS,
    figures_wal.checkpoint_timeline: TRACKS,
    figures_bindings.shares_of_a_read: STACKS,
}
CHARTS = {chart.__name__: chart for chart in DATA}
HEADING = Heading("BEGIN & <b> commits 1.6 times as many", "2 cores · 4 writers", ["arm x (never)"])
SVG = "{http://www.w3.org/2000/svg}"


DRAWN: dict[str, bytes] = {}
"""Chart -> its SVG with HEADING, drawn once for all tests that read it."""


@pytest.fixture(params=CHARTS)
def svg(request, tmp_path):
    """(name of a chart, its SVG with HEADING)."""
    name = request.param
    if name not in DRAWN:
        CHARTS[name](DATA[CHARTS[name]], tmp_path / "first.svg", HEADING)
        DRAWN[name] = (tmp_path / "first.svg").read_bytes()
    return name, DRAWN[name]


def test_the_same_data_give_the_same_bytes(svg, tmp_path):
    name, drawn = svg
    CHARTS[name](DATA[CHARTS[name]], tmp_path / "b.svg", HEADING)
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in drawn


def texts(path):
    """The texts of an SVG, each without its line breaks."""
    return texts_of(path.read_bytes())


def texts_of(svg):
    root = ElementTree.fromstring(svg)
    return [" ".join("".join(text.itertext()).split()) for text in root.iter(f"{SVG}text")]


def test_a_chart_says_what_is_seen_under_what_and_what_is_not_in_it(svg):
    """In the picture as text, and for those who cannot see it."""
    root = ElementTree.fromstring(svg[1])
    title, desc = root[0], root[1]
    assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert title.text == HEADING.title
    assert desc.text is not None and HEADING.conditions in desc.text
    shown = " ".join(texts_of(svg[1]))
    assert HEADING.title in shown and HEADING.conditions in shown
    assert "arm x (never)" in shown and "arm x (never)" in desc.text


def test_a_chart_has_no_ground_of_its_own_and_fonts_from_its_sheet_alone(svg):
    root = ElementTree.fromstring(svg[1])
    styles = [element.get("style", "") for element in root.iter()]
    grounds = ("fill: #ffffff", "fill: #fbfbf8", "fill: white")
    assert not [style for style in styles if any(ground in style for ground in grounds)]
    inks = [element.get("style", "") for element in root.iter(f"{SVG}text")]
    assert len(inks) > 5
    assert not [style for style in inks if "family" in style or "fill" in style]
    sheet = next(root.iter(f"{SVG}style")).text or ""
    assert "sans-serif" in sheet and "prefers-color-scheme:dark" in sheet


def drawn_by(chart, data, monkeypatch, tmp_path):
    """The figure that a chart makes."""
    found = []
    module = inspect.getmodule(chart)
    monkeypatch.setattr(
        module, "save", lambda figure, *rest, **how: found.append((figure, rest, how))
    )
    chart(data, tmp_path / "a.svg")
    return found[0]


@pytest.mark.parametrize(
    ("chart", "data"),
    [
        (figures.latency, [Line("a", ("a", "b"), range(5), [1e5, 2e5, 1e6, 2e6, 3e6])]),
        (figures_load.latency_at_load, LOADS),
        (figures_load.throughput_by_case, LOADS),
    ],
)
def test_no_line_runs_between_categories(chart, data, monkeypatch, tmp_path):
    figure, _, _ = drawn_by(chart, data, monkeypatch, tmp_path)
    with_places = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert with_places
    assert {line.get_linestyle() for line in with_places} == {"None"}


def test_lines_of_a_sweep_join_numbers_and_no_names(monkeypatch, tmp_path):
    found: list[Any] = []
    monkeypatch.setattr(figures_sweeps, "save", lambda figure, *_, **__: found.append(figure))
    for ticks, joined in ((["1", "2"], "-"), (["uniform", "zipfian:0.99"], "None")):
        panel = Panel("", ticks, [Line("a", ("a", "b"), [0, 1], [1.0, 2.0])])
        small_multiples([panel], tmp_path / "a.svg", x="x", y="y")
        assert found[-1].axes[0].lines[0].get_linestyle() == joined


def test_what_has_no_point_is_said_in_the_picture(tmp_path):
    figures.throughput_against_writers(LINES, tmp_path / "a.svg")
    shown = " ".join(texts(tmp_path / "a.svg"))
    assert "libsql BEGIN IMMEDIATE at 4 writers (no value)" in shown
    assert "of an engine never seen at 2 writers (no value)" in shown
    figures.latency(FIVE, tmp_path / "b.svg")
    shown = " ".join(texts(tmp_path / "b.svg"))
    assert "a at p99.9 (no value)" in shown and "a at max (never served)" in shown
    figures.crossover(EFFECTS, tmp_path / "c.svg")
    assert "nobody (no value)" in " ".join(texts(tmp_path / "c.svg"))
    figures_wal.checkpoint_timeline(TRACKS, tmp_path / "d.svg")
    assert "the log of a still one (not recorded)" in " ".join(texts(tmp_path / "d.svg"))
    whole = [Line("a", ("a", "b"), [1, 2], [1.0, 2.0])]
    figures.throughput_against_writers(whole, tmp_path / "e.svg")
    assert "Without a value" not in " ".join(texts(tmp_path / "e.svg"))


def test_nothing_is_a_mark_and_a_0(monkeypatch, tmp_path):
    figures.shares(SHARES, tmp_path / "a.svg")
    assert b'id="zero"' in (tmp_path / "a.svg").read_bytes()
    none = [served._replace(shares=[0.5, 0.4, 0.1]) for served in SHARES]
    figures.shares(none, tmp_path / "b.svg")
    assert b'id="zero"' not in (tmp_path / "b.svg").read_bytes()
    figure, _, _ = drawn_by(figures.latency, FIVE, monkeypatch, tmp_path)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["0", "never"]  # a logarithmic scale has place for neither
    assert [line.get_gid() for line in figure.axes[0].lines].count("edge") == 2


NEAR: dict[str, Sequence[float]] = {
    "equal": [5.0] * 6,
    "nearly equal": [5.0, 5.01, 5.02, 4.99, 5.03, 5.0],
    "two heaps": [1.0, 1.01, 1.02, 9.0, 9.01, 9.02],
    "at the ground": [0.0, 0.0, 0.01, 0.02, 0.0, 9.0],
    "far apart": [1.0, 3.0, 5.0, 7.0, 9.0, 11.0],
}


@pytest.mark.parametrize("name", NEAR)
def test_names_at_the_ends_of_lines_lie_on_no_other_text(name, monkeypatch, tmp_path):
    """By the boxes of all texts that a chart has."""
    lines = [
        Line(f"engine {n} BEGIN CONCURRENT on some file", ("x", str(n)), [1, 8], [4.0, y])
        for n, y in enumerate(NEAR[name])
    ]
    kept = []

    def keep(figure, *rest):
        put_heading(figure, *rest)
        kept.append(figure)

    monkeypatch.setattr(base, "put_heading", keep)
    figures.throughput_against_writers(lines, tmp_path / "a.svg", HEADING)
    figure, there_are = kept[0], texts(tmp_path / "a.svg")  # ticks beyond the axes are not drawn
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible()
        if all(" ".join(line.split()) in there_are for line in text.get_text().split("\n"))
    ]
    assert sum(words.startswith("engine") for words, _ in boxes) == 6
    lying = [
        (one, other)
        for n, (one, box) in enumerate(boxes)
        for other, there in boxes[:n]
        if box.x0 < there.x1 and there.x0 < box.x1 and box.y0 < there.y1 and there.y0 < box.y1
    ]
    assert not lying


def test_names_that_have_room_stay_where_their_lines_end():
    assert apart([1.0, 5.0, 9.0], [1.0] * 3).tolist() == [1.0, 5.0, 9.0]
    moved = apart([5.0, 5.0, 5.1], [1.0, 2.0, 1.0])
    assert (np.diff(moved) >= [1.5 - 1e-9, 1.5 - 1e-9]).all()
    assert abs(moved.mean() - 5.03) < 0.2


@pytest.mark.parametrize("claim", figures.CLAIMS)
def test_a_full_mark_is_what_is_claimed_and_nothing_else(claim, monkeypatch, tmp_path):
    effect = Effect("a", 1.6, 1.5, 1.7, claim, 10)
    figure, _, _ = drawn_by(figures.crossover, [effect], monkeypatch, tmp_path)
    mark = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert (mark.get_markerfacecolor() != "none") == (claim in ("more", "less"))
    assert figures.CLAIMS[claim] in figure.axes[0].texts[0].get_text()


def test_every_chart_is_tested_and_has_a_caption_that_says_what_to_see():
    public = {
        name
        for module in (figures, figures_bindings, figures_load, figures_wal)
        for name, thing in inspect.getmembers(module, inspect.isfunction)
        if thing.__module__ == module.__name__ and "path" in inspect.signature(thing).parameters
        if not name.startswith("_")
    }
    assert public == set(CHARTS)
    assert all(len(caption(chart).split()) > 25 for chart in DATA)


def test_axes_say_their_units():
    source = inspect.getsource(figures) + inspect.getsource(figures_load)
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


def test_text_and_marks_have_contrast_on_a_light_page_and_on_a_dark_one():
    assert contrast(INK, LIGHT) > 7 and contrast(DARK_INK, DARK) > 7
    marks = [colour for colour, _ in (*STYLES.values(), *SPARE, *OF_OUTCOMES.values())]
    marks += [FAINT, *figures_models.KINDS.values()]
    weak = {
        (colour, page): round(contrast(colour, page), 2)
        for colour in marks
        for page in (LIGHT, DARK)
        if contrast(colour, page) < 3
    }
    assert not weak


def test_lines_without_a_point_are_nothing_to_draw():
    assert nothing_to_draw([])
    assert nothing_to_draw([Line("a", ("x", "y"), [1], [NAN])])
    assert not nothing_to_draw(LINES)


def test_a_sweep_without_a_usable_cell_is_drawn_without_a_warning(tmp_path):
    nothing = Line("a", ("libsql", "immediate"), [0, 1], [NAN, NAN], [NAN, NAN], [NAN, NAN])
    small_multiples([Panel("", ["1", "2"], [nothing])], tmp_path / "a.svg", x="x", y="y")
    track = TRACKS[1]._replace(edges_s=np.linspace(0, 1, 3), per_s=np.full(2, NAN))
    figures_wal.checkpoint_timeline([track], tmp_path / "b.svg")


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


def named(data, labels):
    """The data once for every few of the labels, until each of them has one."""
    if not hasattr(data[0], "label"):
        return data
    each = data * -(-len(labels) // len(data))
    return [one._replace(label=label) for one, label in zip(each, labels * len(each), strict=False)]


def drawn_with(chart, labels, title, tmp_path):
    """Names in every place of a chart: the title has one of them."""
    path = tmp_path / "a.svg"
    if chart == "panels":
        panels = [
            Panel(label, [label, "2"], [Line(label, (label, label), [0, 1], [1.0, 2.0])])
            for label in labels
        ]
        small_multiples(panels, path, x=title, y=title)
        assert of_svg(path)[0] > 0
    elif chart == "curve":
        curves = [
            figures_slo.Curve(label, [1.0, 2.0], [1e6, 2e6], [1e6] * 2, [2e6] * 2, 1e7, [True] * 2)
            for label in labels
        ]
        figures_slo.latency_against_rate(curves, 1.0, path)
    else:
        data = named(DATA[CHARTS[chart]], labels)
        CHARTS[chart](data, path, Heading(title, title, labels))
    of_svg(path)


EVERY_CHART = [*CHARTS, "panels", "curve"]


@pytest.mark.parametrize("chart", EVERY_CHART)
def test_names_are_names_in_every_chart(chart, tmp_path):
    """All names at once, and each of them is the title of a chart."""
    titles = list(NAMES.values())
    assert len(titles) <= len(EVERY_CHART)
    drawn_with(chart, titles, titles[EVERY_CHART.index(chart) % len(titles)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NAMES))
def test_a_name_is_a_name_in_every_chart(name, tmp_path):
    """Each name by itself: their product with the charts."""
    for chart in EVERY_CHART:
        drawn_with(chart, [NAMES[name]], NAMES[name], tmp_path)


def test_what_was_never_served_is_a_mark_at_the_edge_and_said(tmp_path):
    """Without end less without end is no number, and numpy warns of it."""
    curve = figures_slo.Curve(
        "p50", [1.0, 2.0], [1e6, END], [1e6, END], [2e6, END], 1e7, [True, False]
    )
    figures_slo.latency_against_rate([curve], 1.0, tmp_path / "curve.svg")
    assert "p50 at 2 / s (never served)" in " ".join(texts(tmp_path / "curve.svg"))
    lines = [Line("p50", ("a", "b"), [0, 1], [1.0, END], [0.5, END], [2.0, END])]
    small_multiples([Panel("p", ["1", "2"], lines)], tmp_path / "panels.svg", x="x", y="y")
    assert "p50 at 2 (never served) (p)" in " ".join(texts(tmp_path / "panels.svg"))
    assert of_svg(tmp_path / "curve.svg") and of_svg(tmp_path / "panels.svg")


def of_svg(path):
    """(texts, width) of an SVG that is XML, holds no foreign element, and is no poster."""
    root = ElementTree.fromstring(path.read_bytes())
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds <= {"svg", "defs", "style", "g", "path", "use", "clipPath", "rect", "title",
                     "desc", "text", "tspan"}, kinds  # fmt: skip
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
    width = float(root.attrib["width"].removesuffix("pt"))
    assert width < 2000
    return len(texts(path)), width


def test_a_dollar_sign_is_drawn_as_one(tmp_path):
    """Between two of them matplotlib would set a formula, in other letters and without them."""
    small_multiples([Panel("$abc$", ["1"], [])], tmp_path / "a.svg", x="", y="")
    assert "$abc$" in texts(tmp_path / "a.svg")
