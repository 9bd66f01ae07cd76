"""The factor that was planted decides, by as much as was planted, and none does where none was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.counting import Measured, gather
from analysis.models.factors import Factors, Term, factors_of, factors_sentence, factors_table
from analysis.report.test_report_sweeps import sweep
from workloads.experiments import read_experiment


def found_in(folder: Path, gain: Callable[[int, int], float], **how: int) -> Factors:
    measured: Measured = gather(read_experiment(sweep(folder, gain, **how)))  # type: ignore[arg-type]
    found = factors_of(measured)
    assert found is not None
    return found


def term(found: Factors, *factors: str) -> Term:
    return next(one for one in found.terms if one.factors == factors)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Factors:
    """1, 2 and 4 writers commit 440, 480 and 560, and twice as much in one of two systems."""
    return found_in(tmp_path_factory.mktemp("made") / "s", lambda n, us: 2.0)


def test_the_planted_factor_decides_and_by_as_much(planted: Factors) -> None:
    first, second, *rest = planted.terms
    assert first.factors == ("system",) and second.factors == ("writers",)
    assert (first.low, first.high) == ("immediate", "concurrent")
    assert first.ratio is not None and second.ratio is not None
    assert first.ratio.low <= 2.02 and first.ratio.high >= 1.98
    assert second.ratio.value == pytest.approx(560 / 440, rel=0.03)
    assert first.share > 0.85 > 0.15 > second.share > 0.04
    assert all(one.share < 0.02 for one in rest)
    assert max(first.p, second.p) <= 0.05
    assert planted.rest + sum(one.share for one in planted.terms) == pytest.approx(1, abs=1e-6)


def test_the_sentence_names_the_factor_its_share_and_its_ratio(planted: Factors) -> None:
    text = factors_sentence(planted)
    assert text.startswith("system decides most: 9")
    assert "times as much at concurrent as at immediate" in text
    assert "; then writers" in text and "times as much at 4 as at 1)" in text
    table = factors_table(planted)
    assert len(table.rows) == 3 + 3 + 1
    assert all(len(row) == len(table.head) for row in table.rows)


def test_two_factors_that_depend_on_each_other_are_told_as_that(tmp_path: Path) -> None:
    found = found_in(tmp_path / "s", lambda n, us: 8.0 if us else 1 / 8)
    assert found.terms[0].factors == ("system", "think_us")
    assert term(found, "system").share < 0.05
    assert "how system acts depends on think_us" in factors_sentence(found)


def test_nothing_decides_where_nothing_was_planted(tmp_path: Path) -> None:
    found = found_in(tmp_path / "s", lambda n, us: 1.0, writers=(2,), blocks=8)  # type: ignore[arg-type]
    assert found.held == []
    assert "No factor was seen to decide" in factors_sentence(found)


def test_a_cut_sweep_is_analysed_from_the_cells_that_there_are(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "s", lambda n, us: 2.0)
    cut = gather(read_experiment(folder))
    kept = {key: cell for n, (key, cell) in enumerate(sorted(cut.cells.items())) if n % 7}
    found = factors_of(Measured(cut.experiment, kept, cut.name))
    assert found is not None
    way = term(found, "system")
    assert way.ratio is not None
    assert way.ratio.value == pytest.approx(2, rel=0.03)
    assert way.p <= 0.05


def test_an_experiment_without_a_grid_has_no_factors(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "s", lambda n, us: 2.0, writers=(2,), think_us=(0,))
    assert factors_of(gather(read_experiment(folder))) is None
