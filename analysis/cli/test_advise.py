"""`cwkit advise`, from the files to its table: what is refused, and that Ctrl-C loses nothing."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.test_documents import documented
from analysis.cli.test_own_sql import FILES, OPTIONS
from analysis.report import advice_asked
from analysis.report.test_advice import planted
from workloads import experiments
from workloads.engines import Identity, Probe
from workloads.engines.engine import Answer

TINY = (*OPTIONS[:-2], "--database", "sqlite", "--engines", "sqlite", "--blocks", "1",
        "--seconds", "1", "--writers", "2", "--warmup", "0", "--foreign-limit", "1")  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that were asked: sqlite answers as it does, without a process for it."""
    names: list[str] = []

    def answers(wanted: list[str], notify: Any) -> dict[str, Probe]:
        names.extend(wanted)
        modes = {"deferred": Answer(True, ""), "immediate": Answer(True, "", False)}
        modes["concurrent"] = Answer(False, 'near "CONCURRENT": syntax error')
        return {n: Probe(n, None, Identity("b", "v", "", ()), modes) for n in wanted}

    monkeypatch.setattr(advice_asked, "probe_all", answers)
    return names


def test_an_interrupted_advice_goes_on_and_is_shown_again(
    cwkit: Any, here: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = experiments.run_experiment

    def interrupted(design: Any, folder: Path, **how: Any) -> Any:
        def stop(experiment: Any, block: int, arm: str, state: str) -> None:
            if state != "running":
                raise KeyboardInterrupt

        return real(design, folder, **{**how, "on_cell": stop})

    with monkeypatch.context() as patch:
        patch.setattr(experiments, "run_experiment", interrupted)
        cut = cwkit("advise", *TINY)
    assert cut.returncode == 130 and "interrupted: 1 of 3 runs are kept" in cut.stderr
    assert "3 runs of 0.2 s in 1 block: about" in cut.stderr
    command = shlex.split(cut.stderr.splitlines()[-1])
    assert "too few blocks" in cwkit("show", command[-1]).stdout  # what there is
    for name in FILES:
        (here / name).unlink()
    done = cwkit(*command[1:])
    assert done.returncode == 0, done.stderr
    assert asked == ["sqlite"] and "1 of 3 runs are done" in done.stderr
    assert 'BEGIN CONCURRENT refused by sqlite: near "CONCURRENT": syntax error' in done.stdout
    assert "add: reads, then writes; reads a; writes a" in done.stdout
    assert cwkit("show", command[-1]).stdout == done.stdout
    found = documented(cwkit("show", command[-1], "--json").stdout, "advise")
    assert found["finished"] and [one["twice"] for one in found["scripts"]] == ["again"]
    assert json.loads(cwkit("list", "--json").stdout)["runs"][0]["kind"] == "advice"


def test_a_check_that_breaks_is_told_first_and_is_status_1(cwkit: Any, tmp_path: Path) -> None:
    planted(tmp_path / "planted")
    found = cwkit("advise", "--into", tmp_path / "planted")
    assert found.returncode == 1, found.stderr
    assert found.stdout.startswith("BROKEN  broken concurrent: check.sql, line 1, in 1 of 2 runs")


BAD = {
    "Advise on what?": (),
    "missing.sql: cannot be read": ("--tx", "missing.sql"),
    "No script of the writers has a BEGIN": ("--tx", "check.sql"),
    "there are no transactions but the readers'": ("--tx", "add.sql:reader"),
    "check.sql, line 1: the variable :changed is never set": ("--tx", "check.sql@2"),
    "--writers 2:concurrent: give numbers": ("--tx", "add.sql", "--writers", "2:concurrent"),
    "--blocks 0: from 1 to 1,000": ("--tx", "add.sql", "--blocks", "0"),
    "--seconds 0.5: from 1 to": ("--tx", "add.sql", "--seconds", "0.5"),
    "--foreign-limit 2: a share": ("--tx", "add.sql", "--foreign-limit", "2"),
    "--postgres: libsql cannot be": ("--tx", "add.sql", "--postgres", "postgresql://u@h/d"),
    "nowhere.sql, line 2: no such table: nowhere": ("--tx", "nowhere.sql", "--database", "sqlite"),
    "Did you mean": ("--tx", "add.sql", "--engines", "turbo"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_a_sentence_before_anything_is_asked(
    cwkit: Any, here: Path, asked: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--postgres" in BAD[sentence]:
        monkeypatch.setenv("CWKIT_POSTGRES", "")  # the option sets it for the runs' processes
    text = FILES["check.sql"] if ":changed" in sentence else "SELECT n FROM a;"
    (here / "check.sql").write_text(text, encoding="utf-8")
    wrong = "BEGIN;\nUPDATE nowhere SET n = 1;\nEND;"
    (here / "nowhere.sql").write_text(wrong, encoding="utf-8")
    found = cwkit("advise", "--schema", "schema.sql", *BAD[sentence])
    assert found.returncode == 2 and sentence in found.stderr, found.stderr
    assert "Traceback" not in found.stderr and not asked and not (here / "runs").exists()
