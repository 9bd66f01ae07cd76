"""The models' charts: the same bytes, axes with units, a caption each; and their two commands."""

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from typer.testing import CliRunner

from analysis.charts import figures_models
from analysis.charts.base import new_chart
from analysis.charts.figures import caption
from analysis.charts.labels import Mark, label_marks
from analysis.cli import app
from analysis.models import Prediction, RefusalAccount, predict
from analysis.models.conflicts import Side
from analysis.models.test_scaling import LAWS, family
from analysis.synthetic import drawn_run, made_experiment, optimistic_run, write_folder
from workloads.engines import RefusalPage
from workloads.errors import RunError
from workloads.records import RefusalPages


def side(refused, of=1000):
    forms = {"mean": 0.02, "windows": 0.01, "whole": 0.011}
    return Side(of, refused, 1.0, 1.2, forms, 0.02)


PREDICTIONS = [
    Prediction("a", "sqlite-concurrent", "concurrent", "page", "uniform", 0.01, 0.0, side(12),
               side(9), 0),
    Prediction("b", "turso", "concurrent", "row", "hotspot:9:1", 0.01, 0.0, side(0), side(0), 0),
]  # fmt: skip
PAGES = RefusalAccount(
    12, 11, ((RefusalPage("table t", 3, "leaf", "read/write"), 7),
             (RefusalPage("table t", 2, "interior", "read-only"), 3)), {"index t.v": 1}, {}
)  # fmt: skip
DATA: dict[Callable[..., None], Any] = {
    figures_models.scaling_law: [
        family(LAWS["retrograde"].at, blocks=6), family(LAWS["linear"].at, writers=(1, 2), blocks=2)
    ],
    figures_models.predicted_against_observed: PREDICTIONS,
    figures_models.refusal_pages: [
        ("a run", PAGES), ("one without", RefusalAccount(0, 0, (), {}, {})),
    ],
}  # fmt: skip
CHARTS = {chart.__name__: chart for chart in DATA}


@pytest.mark.parametrize("name", CHARTS)
def test_the_same_data_give_the_same_bytes(name, tmp_path):
    chart = CHARTS[name]
    chart(DATA[chart], tmp_path / "a.svg")
    chart(DATA[chart], tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in drawn
    assert b"<text" in drawn and b"<title" in drawn and b"<desc" in drawn


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_to_draw_is_an_empty_chart_and_no_error(name, tmp_path):
    CHARTS[name]([], tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_every_chart_is_tested_has_a_caption_and_says_its_units():
    public = {
        name
        for name, thing in inspect.getmembers(figures_models, inspect.isfunction)
        if thing.__module__ == figures_models.__name__
        and "path" in inspect.signature(thing).parameters
    }
    assert public == set(CHARTS) == {chart.__name__ for chart in figures_models.CHARTS}
    assert all(len(caption(chart).split()) > 25 for chart in DATA)
    labels = re.findall(r'_chart\("(.+?)", "(.*?)"\)', inspect.getsource(figures_models))
    assert len(labels) == 3
    assert all(re.search(r"/ s|%", x + y) for x, y in labels)


def boxes(axes):
    """The names in a picture, as they lie in it."""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    # Text's own: an annotation's has its line in it.
    return [Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts]


@pytest.mark.parametrize("step", [0.0, 1e-3, 1e-2], ids=["on one spot", "close", "beside"])
def test_no_name_lies_on_another_or_outside_however_close_the_marks_are(step):
    _, axes = new_chart("%", "%")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for corner in (0.02, 0.5, 0.98):
        marks = [Mark(f"0.{n}9", corner + (n - 2) * step, corner) for n in range(5)]
        label_marks(axes, marks)
        made, frame = boxes(axes)[-5:], axes.get_window_extent()
        for one, other in itertools.combinations(made, 2):
            assert not one.overlaps(other)
        for box in made:
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, (corner, box)
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, (corner, box)


def test_a_name_that_stands_away_from_its_mark_has_a_line_to_it():
    _, axes = new_chart("%", "%")
    label_marks(axes, [Mark("near", 0.5, 0.5)])
    around = [0.5 + n / 50 for n in range(-3, 4)]
    label_marks(axes, [Mark("far", 0.5, 0.5), *(Mark("", x, y) for x in around for y in around)])
    near, far = (cast(Annotation, text) for text in axes.texts)
    assert near.arrow_patch is None and far.arrow_patch is not None


def call(*argv):
    return CliRunner().invoke(app, [*map(str, argv)])


def test_cwkit_conflicts_shows_pages_rows_and_the_prediction_and_draws(tmp_path):
    run = optimistic_run(seconds=0.5, retry=True)
    run.workers[0].entry.met = RefusalPages(
        said=1, pages={"table register, page 3, leaf, read/write": 1}
    )
    folder = write_folder(run, tmp_path / "20261122-a")
    done = call("conflicts", folder, "--svg", tmp_path / "a.svg")
    assert done.exit_code == 0, done.output
    assert "table register" in done.output and "had a row in common" in done.output
    assert "Σ r·w" in done.output and "pages" in done.output
    assert (tmp_path / "a.svg").exists()
    assert f"{predict(run).every.m:.2f}" in done.output


def test_cwkit_conflicts_without_an_answer_is_one_sentence(tmp_path):
    folder = write_folder(drawn_run(1), tmp_path / "20261122-b")
    done = call("conflicts", folder)
    assert isinstance(done.exception, RunError)  # which main() makes status 2 of
    assert "waits for the one write lock" in str(done.exception)


def test_cwkit_scaling_fits_an_experiment_or_says_why_not(tmp_path):
    law = LAWS["retrograde"]
    arms: dict[str, dict[str, Any]] = {
        f"w{n}": {"scenario": "register", "writers": n} for n in (1, 2, 3, 4, 6, 8)
    }

    def make(arm, block):
        n = arms[arm]["writers"]
        return drawn_run(block, per_s=float(law.at(n)), writers=n)

    folder = made_experiment(tmp_path / "x", arms, make, blocks=1)
    done = call("scaling", folder, "--svg", tmp_path / "a.svg")
    assert done.exit_code == 0, done.output
    assert "does not predict" in " ".join(done.output.split())
    assert (tmp_path / "a.svg").exists()
    one = made_experiment(tmp_path / "y", {"w1": arms["w1"]}, make, blocks=1)
    assert "nothing to fit" in str(call("scaling", one).exception)
    assert "not an experiment" in str(call("scaling", tmp_path).exception)
