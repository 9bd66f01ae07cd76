"""The models in a report: scaling laws, predicted conflicts, and who is to blame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from analysis.charts import predicted_against_observed, scaling_law
from analysis.counting import Arm, Measured
from analysis.models import (
    Blame,
    NoAnswer,
    Prediction,
    blame,
    error_of,
    error_table,
    prediction_table,
    predictions,
    scaling_table,
)
from analysis.report import chart_titles
from analysis.report.charts import drawn
from analysis.report.evidence import Evidence
from analysis.report.facts import Fit, SkewRow
from analysis.report.markdown import code, listed_names, markdown
from analysis.report.sweep_layout import SYSTEM
from analysis.wording import Table, number, percent, times, whole
from workloads.errors import RunError
from workloads.records import read_run

MOST_FITS = 12
"""Families in the table of fits. The chart shows those with a curve, at most MOST_LINES."""

MOST_LINES = 6

FEWEST_SKEWS = 3
"""A sweep over so many kinds of keys studies skew, with more runs than the report's experiment."""


def section(evidence: Evidence, out: Path, folder: Path) -> dict[str, Any]:
    """The models' part of the report, as data for its template. Draws their charts."""
    facts = evidence.facts
    fits = sorted((fit.scaling for fit in facts.fits), key=lambda fit: fit.law is None)
    # A published sweep has no rows, which the models need.
    sweeps = [one for name, one in evidence.sweeps.items() if name not in evidence.published]
    studies = skew_studies(sweeps, facts.skew)
    made, without = _predictions(studies)
    charted = _charted(facts.fits)[:MOST_LINES]
    return {
        "scaling": scaling_table(fits[:MOST_FITS]) if fits else None,
        "more_fits": max(len(fits) - MOST_FITS, 0),
        "scaling_chart": drawn(
            "How throughput grows, and the law that fits it",
            folder / "scaling-law.svg",
            out,
            scaling_law,
            [fit for _, fit in charted],
            "no experiment has at least 6 numbers of writers",
            heading=chart_titles.fitted(charted),
        ),
        "conflicts": prediction_table(made) if made else None,
        "errors": error_table(made) if made else None,
        "sentence": sentence(made, [measured.name for measured in studies]),
        "error": error_of(made, "whole", "first") if made else None,
        "studied": [measured.name for measured in studies],
        "conflicts_chart": drawn(
            "Predicted and observed aborts",
            folder / "conflict-model.svg",
            out,
            predicted_against_observed,
            made,
            "no run says what its transactions touch",
            heading=chart_titles.predicted(made, studies),
        ),
        "blame": blame_table(studies),
        "without": without,
    }


def _charted(fits: Sequence[Fit]) -> list[Fit]:
    """The fits to draw: in a sweep, those that differ from its baseline in the system only."""
    found = []
    for one in fits:
        measured, fit = one
        base = measured.baseline.point if measured.baseline else {}
        fixed = {axis: v for axis, v in base.items() if axis not in (SYSTEM, "writers")}
        at = measured.arms[next(iter(fit.arms.values()))].point
        if fit.law is not None and all(at.get(axis) == v for axis, v in fixed.items()):
            found.append(one)
    return found


def skew_studies(sweeps: Collection[Measured], rows: Sequence[SkewRow]) -> list[Measured]:
    """The sweeps that study skew; or the experiments that do; or any sweep over keys.

    rows : the arms of the report's experiments whose keys' skew is studied.
    """
    studies = [one for one in sweeps if len(one.axes.get("keys", ())) >= FEWEST_SKEWS]
    experiments = list(dict.fromkeys(row.arm.measured for row in rows))
    return studies or experiments or [one for one in sweeps if "keys" in one.axes]


def _predictions(studies: Sequence[Measured]) -> tuple[list[Prediction], list[str]]:
    made: list[Prediction] = []
    without: list[str] = []
    for measured in studies:
        several, why = predictions(measured)
        made += several
        without += [markdown("{}, {}", code(measured.name), reason) for reason in why]
    return made, without


def sentence(made: list[Prediction], names: list[str]) -> str:
    """How far off the model is, in a sentence. names : of the experiments that it predicted."""
    if not made:
        return ""
    where = listed_names(names)

    def off(form: str, side: str) -> str:
        error = error_of(made, form, side)
        return f"{number(error.median)} (at worst {number(error.worst)})"

    return markdown(
        "Over {} of {}, {}",
        times(error_of(made).arms, "arm"),
        where,
        "the bare formula with the mean window is off by a factor of "
        f"{off('mean', 'first')} in the median for first tries, and the model in full by "
        f"{off('whole', 'first')}. For all tries the factors are {off('mean', 'every')} and "
        f"{off('whole', 'every')}, because a retry meets again what it was refused over. Nothing "
        "was fitted, but the windows were taken from the run itself; the model in full also took "
        "from it the page splits and the refused transactions that held rows meanwhile. So the "
        "model explains a run and foretells none.",
    )


def blame_table(studies: Sequence[Measured]) -> Table | None:
    """For each arm of the skew experiments: what its refusals had in common with the winners."""
    rows = []
    for measured in studies:
        for arm in measured.arms.values():
            found = _blame(arm)
            if not found:
                continue
            refused = sum(one.refused for one in found)
            if not refused:
                rows.append((arm.name, arm.label, "0", *["—"] * 4))
                continue
            shares = [
                percent(sum(getattr(one, part) for one in found) / refused)
                for part in ("row", "held", "page", "unexplained")
            ]
            rows.append((arm.name, arm.label, whole(refused), *shares))
    if not rows:
        return None
    head = ("arm", "how", "refused", "a row in common", "a row that another held",
            "a leaf page only", "another page, or none known")  # fmt: skip
    return Table(head, rows)


def _blame(arm: Arm) -> list[Blame]:
    if arm.begin != "concurrent":
        return []
    found = []
    for cell in arm.usable:
        if cell.folder is None:
            continue
        try:
            found.append(blame(read_run(cell.folder)))
        except (NoAnswer, RunError):
            continue
    return found
