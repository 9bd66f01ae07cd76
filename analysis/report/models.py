"""What the models say in a report: scaling laws, predicted conflicts, and who is to blame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.charts import predicted_against_observed, scaling_law
from analysis.counting import Measured, arms_of, label, look
from analysis.models import (
    Blame,
    NoAnswer,
    Prediction,
    Scaling,
    blame,
    error_of,
    error_table,
    prediction_table,
    predictions,
    scaling_table,
    scalings,
)
from analysis.report import limits as losing
from analysis.report.charts import drawn
from analysis.report.evidence import STUDIED, Evidence
from analysis.report.markdown import code, listed_names, markdown
from analysis.report.sweep_layout import WAY
from analysis.wording import Table, listed, number, percent, times, whole
from workloads.errors import RunError
from workloads.records import read_run

MOST_FITS = 12
"""Families in the table of fits; a chart holds those with a curve, at most MOST_LINES of them."""

MOST_LINES = 6

FEWEST_SKEWS = 3
"""A sweep over so many kinds of keys studies them, with more runs than the report's experiment."""


def told(evidence: Evidence, out: Path, folder: Path) -> dict[str, Any]:
    """Everything the template shows of the models. Draws their charts."""
    fits = list(_fits(evidence))
    made, without = _predictions(evidence)
    return {
        "scaling": scaling_table(fits[:MOST_FITS]) if fits else None,
        "more_fits": max(len(fits) - MOST_FITS, 0),
        "scaling_chart": drawn(
            "How throughput grows, and the law that fits it",
            folder / "scaling-law.svg",
            out,
            scaling_law,
            _charted(evidence)[:MOST_LINES],
            "no experiment has at least 6 numbers of writers",
        ),
        "conflicts": prediction_table(made) if made else None,
        "errors": error_table(made) if made else None,
        "sentence": sentence(made, [grid.name for grid in skew_studies(evidence)]),
        "conflicts_chart": drawn(
            "Predicted and observed aborts",
            folder / "conflict-model.svg",
            out,
            predicted_against_observed,
            made,
            "no run says what its transactions touch",
        ),
        "blame": blame_table(evidence),
        "without": without,
    }


def _grids(evidence: Evidence) -> Iterator[Measured]:
    yield from evidence.grids.values()
    yield from evidence.sweeps.values()


def _fits(evidence: Evidence) -> Iterator[Scaling]:
    """Of every experiment and sweep with enough numbers of writers."""
    found = [fit for grid in _grids(evidence) for fit in scalings(grid) if fit.look[0] != "null"]
    yield from sorted(found, key=lambda fit: fit.law is None)


def _charted(evidence: Evidence) -> list[Scaling]:
    """Of a sweep those fits that differ from its baseline only in the way to write; else all."""
    found = []
    for grid in _grids(evidence):
        base = grid.points.get(grid.baseline, {})
        fixed = {axis: v for axis, v in base.items() if axis not in (WAY, "writers")}
        for fit in scalings(grid):
            at = grid.points.get(next(iter(fit.arms.values())), {})
            if fit.law is not None and all(at.get(axis) == v for axis, v in fixed.items()):
                found.append(fit)
    return [fit for fit in found if fit.look[0] != "null"]


def skew_studies(evidence: Evidence) -> list[Measured]:
    """The sweeps that study skew, else the experiments that do, else any sweep over keys."""
    sweeps = list(evidence.sweeps.values())
    studies = [grid for grid in sweeps if len(grid.axes.get("keys", ())) >= FEWEST_SKEWS]
    grids = list({id(row[0]): row[0] for row in losing.skewed(evidence)}.values())
    return studies or grids or [grid for grid in sweeps if "keys" in grid.axes]


def _predictions(evidence: Evidence) -> tuple[list[Prediction], list[str]]:
    made: list[Prediction] = []
    without: list[str] = []
    for grid in skew_studies(evidence):
        several, why = predictions(grid)
        made += several
        without += [markdown("{}, {}", code(grid.name), words) for words in why]
    return made, without


def sentence(made: list[Prediction], names: list[str]) -> str:
    """How far off the model is, in a sentence. names : of the experiments that it was held to."""
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
        "of first tries the bare formula "
        f"with the mean window is off by a factor of {off('mean', 'first')} in the median, and the "
        f"model in full by {off('whole', 'first')}; of all tries by {off('mean', 'every')} and "
        f"{off('whole', 'every')}, because a retry meets again what it was refused over. Nothing "
        "was fitted, but the windows are the run's own, and so are, in full, the splits and the "
        "refused transactions that held rows meanwhile: it explains a run, and foretells none.",
    )


def blame_table(evidence: Evidence) -> Table | None:
    """For each arm of the skew experiments: what its refusals had in common with who won."""
    rows = []
    for grid in skew_studies(evidence):
        for arm in grid.arms:
            found = _blame(grid, arm)
            if not found:
                continue
            refused = sum(one.refused for one in found)
            if not refused:
                rows.append((arm, label(grid, arm), "0", *["—"] * 4))
                continue
            shares = [
                percent(sum(getattr(one, part) for one in found) / refused)
                for part in ("row", "held", "page", "unexplained")
            ]
            rows.append((arm, label(grid, arm), whole(refused), *shares))
    if not rows:
        return None
    head = ("arm", "how", "refused", "a row in common", "a row that another held",
            "a leaf page only", "another page, or none known")  # fmt: skip
    return Table(head, rows)


def _blame(grid: Measured, arm: str) -> list[Blame]:
    if look(grid, arm)[1] != "concurrent":
        return []
    found = []
    for cell in grid.usable(arm):
        if cell.folder is None:
            continue
        try:
            found.append(blame(read_run(cell.folder)))
        except (NoAnswer, RunError):
            continue
    return found


def false_conflicts(evidence: Evidence) -> str:
    """The share of refusals that no row asked for, at page level, in words; "" where unknown."""
    ends = []
    for grid in skew_studies(evidence):
        for arm in arms_of(grid, *STUDIED):
            found = _blame(grid, arm)
            refused = sum(one.refused for one in found)
            if refused:
                share = 1 - sum(one.row for one in found) / refused
                ends.append(f"{percent(share)} ({grid.plan(arm)['params'].get('keys', arm)})")
    return f"refusals without any row in common: {listed(ends)}" if ends else ""
