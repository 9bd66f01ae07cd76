"""The fuzzers: each is clean for some inputs, and the harness finds what is planted."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest

from properties.checker import Verdict, check
from tools import fuzz
from tools.fuzz.harness import run_fuzzer
from tools.fuzz.histories import Histories
from tools.fuzz.planted import PLANTED
from workloads.errors import HistoryError
from workloads.files import visible
from workloads.records import History

INPUTS = 60
"""Of each fuzzer; `make fuzz` has 20,000."""


@pytest.mark.parametrize("name", list(fuzz.REGISTRY))
def test_nothing_is_found(name: str, seed: int, tmp_path: Path) -> None:
    campaign = run_fuzzer(name, INPUTS, seed, keep=tmp_path / "kept", jobs=1)
    assert campaign.inputs == INPUTS
    assert not campaign.faults, "\n" + "\n".join(campaign.lines())


NAME = "tools.fuzz.planted:Planted"
SEED = 76
"""Draws each of them, and those that take the whole limit once each."""


def test_each_planted_fault_is_found_at_its_input_and_nothing_else_is(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    campaign = run_fuzzer(NAME, 40, SEED, keep=tmp_path, limit_s=4, jobs=2)
    assert campaign.inputs == 40
    seen: Counter[str] = Counter()
    for fault in campaign.faults:
        (planted,) = fault.argv
        assert fault.complaint.startswith(PLANTED[planted] or "nothing"), fault.complaint
        assert fault.alone
        seen[planted] += 1
        if fault.kept:
            assert (fault.kept / "input" / "fault").read_text() == planted
            assert f"--from {fault.number} --inputs 1" in (fault.kept / "fault.txt").read_text()
    assert set(seen) == {planted for planted, starts in PLANTED.items() if starts}
    left = {process.pid for process in psutil.Process().children(recursive=True)}
    assert left <= before


def test_an_input_is_the_same_whenever_it_is_drawn(tmp_path: Path) -> None:
    whole = run_fuzzer("run-folders", 12, 7, keep=tmp_path / "all", keep_all=True, jobs=1)
    again = run_fuzzer("run-folders", 1, 7, 9, keep=tmp_path / "one", keep_all=True)
    assert (whole.inputs, again.inputs) == (12, 1)
    first, second = (
        {
            path.relative_to(tmp_path / which): path.read_bytes()
            for path in (tmp_path / which / "run-folders-s7-n9" / "input").rglob("*")
            if path.is_file() and path.name != fuzz.EVIL
        }
        for which in ("all", "one")
    )
    assert first == second and len(first) > 4


def test_a_fuzzer_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"no fuzzer 'run-folder'[.] Did you mean"):
        run_fuzzer("run-folder", 1, 1)


def leaves_a_file(history: History, **how: bool) -> Verdict:
    Path("cache").touch()
    return check(history, **how)


CARELESS: dict[str, tuple[str, Any, str]] = {
    "columns are believed": (
        "workloads.records.columns._insist",
        lambda history: None,
        "traceback: ",
    ),
    "a record is JSON": (
        "workloads.records.history_log._line",
        lambda path, number, text: json.loads(text),
        "traceback: ",
    ),
    "a tag is a part of the form": (
        "workloads.records.elle_lines._bare",
        lambda form: form,
        "not judged as before: ",
    ),
    "text is drawn as it is": (
        "properties.checker.drawing.html.escape",
        lambda text, **how: f"{text} & more",
        "a drawing that is no XML",
    ),
    "no file is named": (
        "workloads.records.elle._Pairing._error",
        lambda pairs, number, rule: HistoryError(rule),
        "status 2 and ",
    ),
    "it is told twice": (
        "analysis.cli.check._wrong",
        lambda out, error: print(f"cwkit: {visible(error)}\n" * 2, file=sys.stderr),
        "2 sentences for one mistake",
    ),
    "JSON is what Python writes": (
        "analysis.cli.check.json_text",
        lambda said, indent: json.dumps(said | {"took_s": float("nan")}),
        "no strict JSON",
    ),
    "a file is left": ("properties.checker.check", leaves_a_file, "changed ['cache']"),
    "another level is told": (
        "analysis.cli.check._text",
        lambda path, verdict, level: f"{path} (1 transaction): valid: {level} holds",
        "status 1 without ",
    ),
}
"""Checkers in which one care was left out: what stands in whose place, and what it comes to."""


@pytest.mark.parametrize("care", CARELESS)
def test_the_fuzzer_of_histories_finds_each_care_that_is_left_out(
    care: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fuzzer, base, where = Histories(), tmp_path / "base", tmp_path / "input"
    base.mkdir()
    fuzzer.prepare(base, 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(signal, "signal", lambda number, action: None)

    def complaints() -> Iterator[str]:
        for number in range(1000):
            where.mkdir()
            monkeypatch.chdir(where)
            calls = fuzzer.draw(random.Random(number), base, where)
            with mock.patch(*CARELESS[care][:2]):
                yield next(filter(None, (_complaint(fuzzer, words, capsys) for words in calls)), "")
            monkeypatch.chdir(tmp_path)
            shutil.rmtree(where)

    assert next(filter(None, complaints())).startswith(CARELESS[care][2])


def _complaint(
    fuzzer: fuzz.Fuzzer, words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> str:
    try:
        with pytest.raises(SystemExit) as left:
            fuzzer.call(words)
    except Exception as error:
        return f"traceback: {error!r}"
    out, err = capsys.readouterr()
    return fuzzer.judge(fuzz.Call(words, int(left.value.code or 0), out, err))
