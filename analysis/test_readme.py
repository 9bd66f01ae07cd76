"""The README's Python is run: on a tiny run, and it prints what the kit itself would say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from analysis.counting import count
from analysis.synthetic import drawn_run, write_folder
from workloads.records import read_run

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two writers and a reader, where the examples look for it."""
    folder = tmp_path / "runs" / "RUN"
    write_folder(drawn_run(412, per_s=3000, writers=2, abort=0.2), folder)
    monkeypatch.chdir(tmp_path)
    return folder


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> list[float]:
    (block,) = (block for block in BLOCKS if name in block)
    exec(compile(block, "README.md", "exec"), {})
    return [float(number) for number in capsys.readouterr().out.strip(" []\n").split()]


def test_the_example_with_numpy_alone_prints_the_first_workers_commits(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_run(run)
    tally = count(found, found.window_ns).workers[0].tally
    expected = np.percentile(tally.latency_ns["commit"], [50, 99]) / 1e3
    assert printed("np.load", capsys) == pytest.approx(expected, rel=1e-4)
