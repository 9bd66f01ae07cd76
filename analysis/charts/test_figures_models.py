"""The models' charts: the same bytes, axes with units, a caption each; and their two commands."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.charts import figures_models
from analysis.charts.figures import caption
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
