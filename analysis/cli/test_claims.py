"""`cwkit claims` lists the claims with their verdicts, and refuses what is none in a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from analysis.claims import CLAIMS
from analysis.claims.test_claims import VERSIONS, planted, reads
from analysis.cli import app
from analysis.report.suite_file import Suite, write_suite
from workloads.errors import RunError, UnknownName


def claims(*argv: str) -> Result:
    return CliRunner().invoke(app, ["claims", *argv])


def test_claims_are_listed_with_the_verdicts_of_the_newest_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    made = claims()
    assert made.exit_code == 0, made.output
    assert all(claim.words in made.stdout for claim in CLAIMS)
    assert "There is no report yet." in made.stdout
    folder = Path("runs/20260101-000000-report-s1")
    planted(folder, "nanoseconds", reads(900, 900), versions=VERSIONS)
    write_suite(folder, Suite(name=folder.name))
    made = claims()
    assert re.search(r"1 +nanoseconds .* does not hold ", made.stdout), made.output
    assert str(folder) in made.stdout


def test_a_claim_that_is_measured_already_is_told_with_its_numbers(tmp_path: Path) -> None:
    folder = planted(tmp_path, "connecting", {"libsql": [9, 9, 9], "postgres/tcp": [900, 9, 9]})
    write_suite(folder, Suite(name="x"))
    made = claims("connecting", "--into", str(folder))
    assert made.exit_code == 0, made.output
    for part in (
        "verdict: holds",
        "what would confirm it:",
        "source:",
        f"The runs are in {folder}",
    ):
        assert part in made.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("argv", "error", "text"),
    [
        (["conecting"], UnknownName, "Did you mean 'connecting'"),
        (["0"], UnknownName, "There is no claim '0'"),
        (["1", "--into", "nowhere"], RunError, "holds no report's runs"),
    ],
)
def test_bad_input_is_one_sentence(argv: list[str], error: type[Exception], text: str) -> None:
    made = claims(*argv)
    assert isinstance(made.exception, error)
    assert text in str(made.exception)
