"""What the tests of reports and commands share: runs that were counted, charts that were drawn."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.counting import measured
from analysis.counting.tally import Count, count
from analysis.report import charts, models, sweeps
from analysis.report.charts import Chart
from workloads.errors import RunError
from workloads.experiments import Cell
from workloads.records import Manifest, Rows


@pytest.fixture(scope="session", autouse=True)
def _counted_once() -> Iterator[None]:
    """A run whose files are those of an earlier one, byte by byte, is not counted again.

    Most made-up reports differ in a few arms from one another, and to count their runs is most of
    their cost. The rows behind a count are kept in memory: a test may edit its files.
    """
    kept: dict[tuple[tuple[str, bytes], ...], tuple[Count, Manifest]] = {}

    def counted_once(cell: Cell) -> tuple[Count, Manifest]:
        if cell.folder is None or not cell.folder.is_dir():
            raise RunError(f"{cell.folder}: there is no run.")
        files = tuple(
            (path.name, path.read_bytes() if path.is_file() else b"")
            for path in sorted(cell.folder.iterdir())
        )
        if files not in kept:
            run = cell.read()
            workers = (dataclasses.replace(w, rows=Rows(w.attempts)) for w in run.workers)
            run = dataclasses.replace(run, workers=tuple(workers))
            kept[files] = count(run), run.manifest
        return kept[files]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "count_cell", counted_once)
        yield


CHARTS: dict[tuple[str, bytes], bytes] = {}
"""Chart and data -> what was drawn. A test that draws anew clears it."""


@pytest.fixture(scope="session", autouse=True)
def _drawn_once() -> Iterator[None]:
    """A chart of the same data is not drawn again: it has the same bytes (charts/test_figures)."""
    drawn = charts.drawn

    def drawn_once(
        title: str, path: Path, out: Path, draw: Callable[..., None], *rest: Any, **how: Any
    ) -> Chart:
        @functools.wraps(draw)
        def once(data: Any, path: Path, **how: Any) -> None:
            key = draw.__name__, pickle.dumps((data, how))
            if key not in CHARTS:
                draw(data, path, **how)
                CHARTS[key] = path.read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(CHARTS[key])

        return drawn(title, path, out, once, *rest, **how)

    with pytest.MonkeyPatch.context() as patch:
        for module in (charts, models, sweeps):
            patch.setattr(module, "drawn", drawn_once)
        yield
