"""Results go to standard output and progress to standard error, in every command.

So `cwkit run … > file` holds what `cwkit show` says, and `2>/dev/null` silences progress alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from analysis.cli import entry as cli
from analysis.report import measurements
from workloads.experiments import Design
from workloads.runs import Progress, per_s

ROOT = Path(__file__).resolve().parents[2]
HISTORY = ROOT / "properties" / "histories" / "list-append" / "G2-item.json"
# Its workers sleep: else the engine that does nothing makes 100,000 rows in so short a time.
TINY = {"database": "null", "scenario": "counter", "duration_s": 0.2, "warmup_s": 0,
        "params": {"think_us": 1000, "think": "sleep"}}  # fmt: skip
SWEEP = 'question = "How many?"\nblocks = 1\n[plan]\nscenario = "counter"\ndatabase = "null"\n'
SWEEP += "duration_s = 0.2\nwarmup_s = 0\n[plan.params]\nthink_us = 1000\nthink = 'sleep'\n"
SWEEP += "[grid]\nwriters = [1, 2]\n"

PROGRESS = re.compile(
    r"^(loading|checking) the database|^starting|^warm-up:|^measuring:|^asking |^closed loop,|"
    r"^\[\d+/\d+|^goes on in|a second, rate-|commits/s|^\d+ s: ",
    re.MULTILINE,
)
"""A line that only somebody who waits wants to read."""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cwkit(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs a command where it may write: its status, its standard output, its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cwkit", *map(str, argv)])
        try:
            cli.main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return command


def of_a_run(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    status, out, err = cwkit("run", *RUN)
    assert status == 0
    assert out == cwkit("show", "counter")[1]
    return out, err


def of_a_sweep(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "tiny.toml").write_text(SWEEP, encoding="utf-8")
    _, plan, err = cwkit("sweep", "tiny.toml", "--dry-run")
    assert "b00, in this order" in plan and not err  # what was asked for, not progress
    _, out, err = cwkit("sweep", "tiny.toml", "--save", "base")
    assert out == cwkit("show", "tiny")[1] == cwkit("show", "base")[1] and "saved as base" in err
    status, _, said = cwkit("sweep", "tiny.toml", "--save", "x", "--into", tmp_path / "elsewhere")
    assert status == 2 and "is not there" in said and not (tmp_path / "elsewhere").exists()
    return out, err


def of_a_search(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    _, out, err = cwkit(*SEARCH)
    (folder,) = (tmp_path / "runs").glob("*search*")
    _, document, _ = cwkit("search", "--into", folder, "--json")
    from analysis.cli.test_documents import documented

    assert documented(document, "search")["folder"] == folder.name
    return out, err


def of_advice(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    from analysis.cli.test_own_sql import FILES, OPTIONS

    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    argv = ("--database", "sqlite", "--engines", "sqlite", "--blocks", 1, "--seconds", 1)
    status, out, err = cwkit("advise", *OPTIONS[:-2], *argv, "--foreign-limit", 1)
    assert status == 0 and out == cwkit("show", "advise")[1]
    return out, err


def of_engines(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    _, out, err = cwkit("engines", "null", "--json")
    assert json.loads(out)["engines"][0]["engine"] == "null" and "asking null" in err
    _, out, err = cwkit("engines", "null")
    assert out.startswith("engine")
    return out, err


def of_a_hunt(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    argv = ("fuzz", "--engine", "sqlite", "--begin", "immediate", "-j", 1, "--programs", 2)
    status, out, err = cwkit(*argv)
    assert status == 0 and "Hunt " in out and out == cwkit("show", "fuzz-sqlite")[1]
    assert "hunt: sqlite, immediate  2 programs, 0 findings" in " ".join(
        cwkit("list")[1].split(" ")
    )
    return out, err


def of_a_crash(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    argv = ("crash", "--engine", "sqlite", "--writers", 1, "--transactions", 3, "--states", 2)
    status, out, err = cwkit(*argv)
    assert status == 0 and "Nothing that is promised was broken" in out
    assert out == cwkit("show", "crash-sqlite")[1]
    from analysis.report.published_crashes import read_crashes

    (folder,) = Path("runs").glob("*-crash-sqlite")
    assert cwkit("crash", "--publish", folder, "--published", tmp_path / "kept")[0] == 0
    ((one,), unread) = read_crashes(tmp_path / "kept")
    assert one.judged + one.same == 2 and not one.broken and not unread
    assert one.command == (
        "cwkit crash --engine sqlite --begin immediate --writers 1 --transactions 3 --states 2 "
        "--seed 0"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    for more, why in (
        (("--into", folder, "--states", 5000), "takes no --states: leave it out"),
        (("--look", folder, "--model", "kill"), "--look takes no --model"),
        (("--publish", folder, "--seed", 3), "--publish takes no --seed"),
        (("--model", ","), "--model ,: names none"),
        (("--writers", 0), "--writers: at least 1, not 0"),
        (("--into", tmp_path / "mine"), "holds something else"),
    ):
        status, out_of, said = cwkit("crash", *more)
        assert (status, out_of) == (2, "") and why in said, said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    return out, err


def of_a_soak(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    argv = ("soak", "--engines", "sqlite", "--minutes", 1, "--rounds", 1, "--seconds", 0.2)
    status, out, err = cwkit(*argv)
    assert status == 0 and "Nothing was found" in out and out == cwkit("show", "soak-s0")[1]
    assert "soak: sqlite, seed 0" in cwkit("list")[1]
    from analysis.cli.test_documents import documented

    (folder,) = (tmp_path / "runs").iterdir()
    status, told, _ = cwkit("soak", "--into", folder, "--json")
    assert status == 0 and documented(told, "soak")["rounds"] == 1
    for more, why in (
        (("--into", folder, "--seed", 3), "takes no --seed: leave it out"),
        (("--into", folder, "--engines", "turso"), "is of sqlite. Leave it out"),
        (("--minutes", 0), "--hours: above 0"),
        (("--publish", folder, "--rounds", 3), "takes no --rounds"),
        (("--published", folder), "Give both"),
        (("--engines", "null"), "a soak is of embedded engines"),
        (("--engines", ","), "names no engine"),
    ):
        status, out_of, said = cwkit("soak", *more)
        assert (status, out_of) == (2, "") and why in said
    return out, err


def of_faults(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    argv = ("faults", "--engine", "sqlite", "--quick", "--story", "kill-all")
    status, out, err = cwkit(*argv)
    assert status == 0 and "1 of 1 sound" in out and "kill-all on sqlite immediate" in err
    assert out == cwkit("show", "faults")[1] and "faults: sqlite" in cwkit("list")[1]
    from analysis.report.published_faults import read_faults

    (folder,) = Path("runs").glob("*-faults")
    assert cwkit("faults", "--publish", folder, "--published", tmp_path / "kept")[0] == 0
    ((one,), unread) = read_faults(tmp_path / "kept")
    assert [each.story for each in one.stories] == ["kill-all"] and not unread
    return out, err


def of_a_report(cwkit: Command, tmp_path: Path) -> tuple[str, str]:
    _, out, err = cwkit("report", "--quick")
    (folder,) = Path("runs").iterdir()
    assert out == f"{folder / 'REPORT.md'} tells it; the runs are in {folder}\n"
    return out, err


RUN = ("--database", "null", "--scenario", "counter", "--duration", 0.2, "--warmup", 0,
       "--think-us", 1000, "--think", "sleep")  # fmt: skip
SEARCH = (
    "search", "--slo", "p50 < 40ms", "--scenario", "counter", "--database", "null", "--writers", 1,
    "--think-us", 200, "--think", "sleep", "--duration", 0.3, "--warmup", 0, "--repeats", 1,
    "--step", 2, "--longest", 1, "--foreign-limit", 1,
)  # fmt: skip

WAITED_FOR = {
    "run": of_a_run,
    "sweep": of_a_sweep,
    "advise": of_advice,
    "search": of_a_search,
    "engines": of_engines,
    "report": of_a_report,
    "fuzz": of_a_hunt,
    "crash": of_a_crash,
    "faults": of_faults,
    "soak": of_a_soak,
}
"""Commands that take long enough to say how it goes."""

AT_ONCE = {
    "list": ("list",),
    "init": ("init", "mine"),
    "claims": ("claims",),
    "show": ("show", "counter"),
    "check": ("check", HISTORY),
    "export": ("export", "counter", "--format", "csv"),
    "archive": ("archive", "counter"),
    "compare": ("compare", "made", "made"),
    "conflicts": ("conflicts", "made"),
    "scaling": ("scaling", "made"),
    "recover": ("recover", "--all"),
}


def test_every_command_is_looked_at() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert set(commands) == {*WAITED_FOR, *AT_ONCE}


@pytest.mark.parametrize("command", list(WAITED_FOR))
def test_what_is_for_people_who_wait_is_not_in_the_results(
    command: str, cwkit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Design("tiny", "How many?", {"null": TINY}, blocks=1, seed=1)
    monkeypatch.setattr(measurements, "designs", lambda quick, seed: [tiny])
    monkeypatch.setattr(measurements, "engine_names", lambda: ["null"])
    monkeypatch.setattr(
        measurements, "_isolation", lambda folder, quick, notify: notify("asking: isolation")
    )
    monkeypatch.setattr(
        measurements, "_trials", lambda folder, quick, seed, notify: notify("asking: sqld")
    )
    out, err = WAITED_FOR[command](cwkit, tmp_path)
    assert out and not PROGRESS.search(out), out
    assert PROGRESS.search(err), err


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that holds one, for commands that only read."""
    from workloads.runs import make_plan, run

    runs = tmp_path_factory.mktemp("one") / "runs"
    run(make_plan(**TINY), runs)
    return runs


@pytest.mark.parametrize("command", list(AT_ONCE))
def test_a_command_that_has_nothing_to_wait_for_says_nothing_on_standard_error(
    command: str, cwkit: Command, one_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(one_run, tmp_path / "runs")
    _, out, err = cwkit(*AT_ONCE[command])
    refused = command in ("compare", "conflicts", "scaling")  # there is no such folder
    assert bool(out) is not refused
    assert bool(err) is refused
    assert not PROGRESS.search(out)


def test_the_shell_gets_results_alone(tmp_path: Path) -> None:
    """As a user redirects them: two files, and nothing in the wrong one."""
    argv = [sys.executable, "-m", "analysis.cli", "run", *map(str, RUN)]
    argv += ["--runs", str(tmp_path / "runs")]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        done = subprocess.run(argv, cwd=ROOT, stdout=out, stderr=err, timeout=120)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text().startswith("Run 2")
    assert PROGRESS.search((tmp_path / "err").read_text())
    assert not PROGRESS.search((tmp_path / "out").read_text())


# --- what the progress says -------------------------------------------------------------------


def test_no_rate_is_told_of_a_runs_first_instant() -> None:
    from analysis.cli.progress import progress_line

    assert per_s(124, 0.0) is per_s(124, -0.02) is per_s(124, 1e-9) is None
    line = progress_line(Progress("measuring", 0.0, 1.0, 124, rate=per_s(124, 1e-9)))
    assert line == "measuring: 124 committed, 0 conflicts (0.0%), 0 processes, 1 s left"
    line = progress_line(Progress("measuring", 0.1, 1.0, 124, rate=per_s(124, 0.1)))
    assert line.startswith("measuring: 1,240 commits/s, 124 committed, ")


def test_a_cell_that_ended_in_its_first_instant_has_no_rate(tmp_path: Path) -> None:
    from analysis.cli.progress import CellCounter
    from analysis.cli.terminal import console

    counter = CellCounter([Design("tiny", "?", {"null": TINY}, blocks=1)], console(stderr=True))
    counter(Progress("measuring", elapsed_s=0.0, committed=124))
    assert counter._rate() == "done"
    counter(Progress("measuring", elapsed_s=0.5, committed=124))
    assert counter._rate() == "248 commits/s"


def test_no_run_reports_a_rate_that_it_had_no_time_for(tmp_path: Path) -> None:
    from workloads.runs import make_plan, run

    seen: list[Progress] = []
    plan = make_plan(**TINY | {"duration_s": 1.0}, writers=2)
    made = run(plan, tmp_path, on_progress=seen.append)
    rates = [p.rate for p in seen if p.phase == "measuring" and p.rate is not None]
    # No process commits more in a second than a hundred times what they all did in the whole run.
    assert rates and max(rates) < 100 * sum(len(w.attempts) for w in made.workers)


HISTORIES = {"valid": ("no-G2-item.jsonl", 0), "violated": ("G2-item.json", 1)}


# Each verdict once, and each way once; the other pairs with --slow.
@pytest.mark.parametrize(
    ("verdict", "held_back"),
    [
        pytest.param("valid", "1", id="valid-at once"),
        pytest.param("violated", None, id="violated-held back"),
        pytest.param("valid", None, id="valid-held back", marks=pytest.mark.slow),
        pytest.param("violated", "1", id="violated-at once", marks=pytest.mark.slow),
    ],
)
def test_who_stops_reading_does_not_change_the_verdict(
    verdict: str, held_back: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, status = HISTORIES[verdict]
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    if held_back:
        monkeypatch.setenv("PYTHONUNBUFFERED", held_back)
    argv = [sys.executable, "-m", "analysis.cli", "check", str(HISTORY.with_name(name))]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            argv, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writing)
    assert done.returncode == status
    assert "Broken" not in done.stderr and "ignored" not in done.stderr
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            argv, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1 and "cwkit: the disk is full" in done.stderr
    assert "ignored" not in done.stderr
