"""`cwkit claims` lists the claims with their verdicts, and refuses what is none in a sentence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from analysis.claims import CLAIMS
from analysis.claims.test_claims import VERSIONS, planted, reads
from analysis.cli import app
from analysis.report.suite_file import Suite, write_suite
from workloads.errors import RunError, UnknownName
from workloads.files import ROOT


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


@pytest.mark.slow
def test_an_interrupted_measurement_keeps_what_it_has_and_says_how_to_go_on(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "analysis.cli", "claims", "connecting", "--runs", str(tmp_path)]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as command:
        until = time.monotonic() + 60
        blocks: list[Path] = []
        while not blocks and time.monotonic() < until and command.poll() is None:
            blocks = list(tmp_path.glob("*/trials/connecting/blocks.jsonl"))
            time.sleep(0.05)
        assert blocks, command.communicate()[1].decode()
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 130, said.decode()
    assert "what was measured is kept; go on with cwkit claims connecting --into" in said.decode()
    assert blocks[0].read_bytes().count(b"\n") >= 1
    below = [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("TMPDIR")
             == str(tmp_path)]  # fmt: skip
    assert below == []
