"""`--postgres URL`: what cannot be used is one sentence, and no password is written down."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.options import command_line
from analysis.cli.run_summary import summary_lines
from analysis.synthetic import drawn_run
from workloads.engines import POSTGRES_URL, find_engine
from workloads.records import ServerEntry

URL = "postgresql://me:secret@127.0.0.1:1/test"


@pytest.fixture(autouse=True)
def _no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POSTGRES_URL, "")


@pytest.mark.parametrize("words", [["--postgres", URL], [f"--postgres={URL}"]])
def test_the_command_is_kept_without_the_password(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cwkit", "run", *words, "--writers", "2"])
    assert "secret" not in command_line()
    assert "postgresql://me@127.0.0.1:1/test" in command_line()


@pytest.mark.skipif("missing" in (find_engine("postgres").missing() or ""), reason="no psycopg")
@pytest.mark.parametrize(
    ("url", "said"),
    [(URL, "Database test at 127.0.0.1:1 cannot be used: Connection refused"), ("x:secret", "URL")],
)
def test_a_server_that_cannot_be_used_is_one_sentence_and_status_2(
    cwkit: Callable[..., Any], tmp_path: Path, url: str, said: str
) -> None:
    done = cwkit("run", "--database", "postgres", "--postgres", url, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr and "secret" not in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "runs").exists()


def test_a_run_on_somebody_elses_server_says_so_with_what_that_has() -> None:
    run = drawn_run(1)
    run.manifest.server = ServerEntry(
        where="Database test at db:5432", server_version="16.2", fsync="on",
        synchronous_commit="off", full_page_writes="on",
    )  # fmt: skip
    told = " ".join(summary_lines(run))
    assert "a server that somebody else runs: Database test at db:5432, version 16.2, fsync" in told


@pytest.mark.parametrize("command", [["run"], ["search", "--slo", "p99 < 10ms"]])
def test_a_url_that_nothing_would_use_is_refused(
    cwkit: Callable[..., Any], tmp_path: Path, command: list[str]
) -> None:
    given = ["--database", "sqlite", "--postgres", URL, "--runs", tmp_path / "runs"]
    done = cwkit(*command, *given)
    assert done.returncode == 2 and not (tmp_path / "runs").exists()
    assert "--postgres: sqlite cannot be on another's server" in done.stderr
    assert "secret" not in done.stderr
