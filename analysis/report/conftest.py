"""Made-up reports, which the tests of a report share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.report.evidence import Evidence, read_evidence
from analysis.synthetic import Planted, made_report_folder, planted_report
from analysis.synthetic.reports import EXPERIMENTS


@pytest.fixture(scope="session")
def made_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `made_report_folder`, for tests that change nothing in it."""
    return made_report_folder(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def made_beside(made_report: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A folder with the campaign.json of `made_report` alone, and the folders of its experiments.

    `read_evidence` and `write_report` take both.
    """
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(made_report / "campaign.json", folder)
    return folder, sorted(path.parent for path in made_report.glob("*/experiment.json"))


@pytest.fixture(scope="session")
def hoped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole planted report, for tests that change nothing in it."""
    return planted_report(tmp_path_factory.mktemp("hoped") / "runs")


@pytest.fixture(scope="session")
def report_with(hoped: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Evidence]:
    """The evidence of a whole planted report with other effects; None leaves an experiment out.

    What has no other effect is that of `hoped`. isolation : its matrix and known findings.
    """

    def read(
        isolation: tuple[list[Any], list[Any]] | None = None,
        **effects: Mapping[str, Any] | None,
    ) -> Evidence:
        folder = tmp_path_factory.mktemp("with")
        planted_report(folder, **{"suite": {}} | dict.fromkeys(EXPERIMENTS) | effects)
        if isolation:
            Planted(folder).isolation(*isolation)
        return read_evidence(folder, [hoped / EXPERIMENTS[name] for name in EXPERIMENTS
                                      if name not in effects])  # fmt: skip

    return read
