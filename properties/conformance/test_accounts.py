"""The suite on engines that do nothing, die or hang: each property fails, and says it all.

The suite runs as anybody runs it, in a pytest of its own. Its results are read from the JUnit XML.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy

from properties.conformance import book as book_module
from properties.conformance import mortal
from properties.conformance.book import aside, book
from properties.conformance.judge import how_many, run_schedule
from properties.conformance.strategies import schedules, schemas
from properties.conformance.targets import Runners
from workloads.engines import trust
from workloads.schedules import EngineDied, Schedule, Schema, sessions
from workloads.schedules.schedule_text import as_schedule

ROOT = Path(__file__).resolve().parents[2]
FILE = "properties/conformance/mortal.py"  # as it is named on the command line, from ROOT
PROPERTIES = [
    f"properties/conformance/test_{name}.py"
    for name in ("interleavings", "classics", "state_machine", "free_running", "register_runs")
]
WAIT_S = 300
"""For a pytest of a few seconds."""

XDIST = {"alone": [], "xdist": ["-n", "2"]}


class Outcome(NamedTuple):
    """A test's outcome: its failure ("" for none), and its counts."""

    failure: str
    counts: dict[str, int]


class Suite(NamedTuple):
    status: int
    output: str
    tests: dict[str, Outcome]

    def of(self, engine: str) -> dict[str, Outcome]:
        return {name: outcome for name, outcome in self.tests.items() if f":{engine}-" in name}


def command(engines: tuple[str, ...], *more: str) -> list[str]:
    named = ",".join(f"{FILE}:{name}" for name in engines)
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--engine", named, *more]


def at_home(temporary: Path) -> dict[str, str]:
    """The environment of a session of its own: pytest's folders are there, too.

    Beside those of other sessions, it would first remove the oldest of theirs.
    """
    return os.environ | {"TMPDIR": str(temporary), "PYTEST_DEBUG_TEMPROOT": str(temporary)}


def suite(folder: Path, engines: tuple[str, ...], *more: str) -> Suite:
    """Run the suite on engines of the file, in a temporary folder that is empty afterwards."""
    xml, temporary = folder / "report.xml", folder / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        command(engines, "--junitxml", str(xml), *more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=at_home(temporary),
    )
    tests = {}
    for case in ElementTree.parse(xml).iter("testcase"):
        failures = [node.get("message", "") + (node.text or "") for node in case.iter("failure")]
        failures += [node.get("message", "") + (node.text or "") for node in case.iter("error")]
        counts = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
        counts.pop("engine", None)
        numbers = {name: int(value) for name, value in counts.items()}
        tests[case.get("name", "")] = Outcome("\n".join(failures), numbers)
    left = [path.name for path in temporary.iterdir() if not path.name.startswith("pytest-of-")]
    assert not left, f"temporary files were left behind\n{done.stdout}"
    return Suite(done.returncode, done.stdout + done.stderr, tests)


REFUSALS = {
    "RefusesBegin": 'near "CONCURRENT": syntax error',
    "RefusesCommit": mortal.NO_COMMIT,
    "NoConnect": mortal.NO_CONNECT,
}
DEATHS = {
    "Aborts": "signal 6 (SIGABRT)",
    "Segfaults": "signal 11 (SIGSEGV)",
    "KillsItself": "signal 9 (SIGKILL)",
    "Exits": "exit status 3",
    "Hangs": "no answer in 3 s",
}
"""How the engine ends its process -> how the failure describes that."""

LIMIT = ("--limit", "3")
DYING = "G0 or G1a"
"""G0 writes twice in a transaction, on which these engines die; G1a does not, and goes on."""


ONE_OF_A_KIND = "G0 or do_what_the_model or a_schedule_keeps or every_operation"
"""Properties: each of another file, and each of another way to play."""

CHOSEN = {
    "some": f"Sound or ((Refuses or NoConnect) and ({ONE_OF_A_KIND}))",
    "each": "Sound or Refuses or NoConnect",
}


WORKERS = {"some": "1", "each": "2"}
"""Another process of xdist costs a start, and brings its counts in the same way."""


@pytest.mark.parametrize("which", ["some", pytest.param("each", marks=pytest.mark.slow)])
def test_each_property_of_an_engine_that_does_nothing_or_dies_says_so(
    tmp_path: Path, which: str
) -> None:
    some = f"mortal and ({CHOSEN[which]} or {DYING})"
    few = ("--hypothesis-profile=handful", "-n", WORKERS[which], "-k", some, *LIMIT)
    result = suite(tmp_path, ("Sound", *REFUSALS, *DEATHS), *PROPERTIES, *few)
    sound = result.of("Sound")
    assert len(sound) > 25
    assert not [outcome.failure for outcome in sound.values() if outcome.failure], result.output
    for name, outcome in sound.items():
        assert min(outcome.counts[what] for what in ("schedules", "begun", "committed")) > 0, name
    for engine, message in REFUSALS.items():
        tests = result.of(engine)
        assert len(tests) == len(sound) if which == "each" else len(tests) >= 5
        for name, outcome in tests.items():
            assert message in outcome.failure, f"{name}: {outcome.failure or result.output}"
            assert not outcome.counts.get("committed"), name
    numbers = r"^mortal.py:Sound-immediate +(\d+) +([\d,]+) +([\d,]+) +([\d,]+)$"
    row = re.search(numbers, result.output, re.M)
    assert row, result.output
    assert int(row[1]) == len(sound)
    committed = sum(outcome.counts["committed"] for outcome in sound.values())
    assert int(row[4].replace(",", "")) == committed
    expect_deaths(result)


@pytest.mark.slow
def test_without_xdist_the_other_tests_go_on_when_an_engine_takes_its_process_down(
    tmp_path: Path,
) -> None:
    """The quick one above takes xdist's way, in which the processes that go down are the same."""
    some = ("-k", f"mortal and ({DYING})", *LIMIT)
    engines = ("Aborts", "Hangs")
    expect_deaths(
        suite(tmp_path, engines, "properties/conformance/test_classics.py", *some), engines
    )


def expect_deaths(result: Suite, engines: Iterable[str] = DEATHS) -> None:
    """The schedule, the step and the last words; and that the other test went on."""
    for engine in engines:
        how = DEATHS[engine]
        tests = result.of(engine)
        assert len(tests) == 2
        (died,) = (outcome.failure for name, outcome in tests.items() if "G0" in name)
        assert f"{how}" in died
        assert "session 0 (immediate) took step 3, `append 1 3`" in died
        assert re.search(r"^(E +)? +1  +begin !! conflict \(busy\)", died, re.M), died
        assert f"append 1 3 !! died: {how}" in died
        assert all(line in died for line in mortal.LAST_LINES.splitlines())
        assert "@example(Schedule(('begin; append 0 1; append 1 3; commit'" in died
        if engine in ("Segfaults", "Hangs"):
            assert 'mortal.py", line' in died, "faulthandler shows where it stood"
        (other,) = (outcome for name, outcome in tests.items() if "G1a" in name)
        assert not other.failure
        assert other.counts["committed"] > 0


PHASES = [Phase.explicit, Phase.generate, Phase.shrink]


LARGE = schedules(Schema("list", 2, 1), operations=3)
SMALL = schedules(Schema("list", 2, 1), sessions=(2, 2), transactions=1, operations=3)
"""Where nothing is made smaller, but drawn in vain: that takes a thousand drawings."""


def deaths_of(engine: str, runners: Runners, drawn: SearchStrategy[Schedule] = SMALL) -> list[str]:
    """Has Hypothesis look for a schedule on which an engine dies: the text of each death."""
    trust(ROOT / FILE)
    deaths: list[str] = []

    @settings(max_examples=30, derandomize=True, database=None, deadline=None, phases=PHASES)
    @given(drawn)
    def look(schedule: Schedule) -> None:
        try:
            runners.run(f"{ROOT / FILE}:{engine}", ("immediate",) * 3, schedule)
        except EngineDied as died:
            deaths.append(str(died))
            raise

    with pytest.raises(EngineDied) as raised:
        look()
    assert str(raised.value) == deaths[-1]
    return deaths


AGAIN = "Played once more, it did the same."


def test_a_death_is_made_smaller_within_limits(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "MOST_DEATHS", 15)
    outcome = deaths_of("Aborts", runners, LARGE)
    assert AGAIN not in outcome[0]
    assert AGAIN in outcome[-1]
    assert outcome[-1].count("\n") < outcome[0].count("\n"), f"{outcome[0]}\n{outcome[-1]}"
    assert book().deaths <= 15 + 2  # the last is played once more, whatever the limit


def test_a_hang_is_looked_for_a_few_times_only(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LIMIT_S", 2)
    monkeypatch.setattr(book_module, "MOST_HANGS", 1)
    outcome = deaths_of("Hangs", runners)
    assert "never came back" in outcome[0]
    assert AGAIN in outcome[-1]
    assert book().deaths == 1 + 1


def test_a_death_by_chance_is_the_same_each_time_and_not_made_smaller(
    runners: Runners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mortal.MARK, str(tmp_path / "mark"))
    outcome = deaths_of("AbortsOnce", runners)
    chance = "Played once more, it went through, so chance or what was before it decides."
    assert outcome[-1] == f"{outcome[0]}\n{chance}"
    assert book().deaths == 1


@pytest.mark.parametrize("workers", ["alone", pytest.param("xdist", marks=pytest.mark.slow)])
def test_ctrl_c_tells_the_failure_found_so_far(tmp_path: Path, workers: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "tmp").mkdir()
    heard = select.poll()
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    heard.register(reading, select.POLLIN)
    process = subprocess.Popen(
        command(
            ("LosesCommits",),
            "properties/conformance/test_interleavings.py",
            "-k",
            "mortal and four",
            *XDIST[workers],
        ),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=at_home(tmp_path / "tmp") | {mortal.PIPE: str(pipe)},
        process_group=0,
    )
    try:
        assert heard.poll(WAIT_S * 1000), "the engine never said that it is on its way"
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
        os.close(reading)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert (
        "found before the end of properties/conformance/test_interleavings.py::test_four_sessions"
        in output
    )
    found = output.partition("found before the end of")[2]
    assert "LosesCommits promises serializable, but:" in found
    assert "the model of serializable forbids it" in found
    assert re.search(r"^ +\d+ +begin$", found, re.M), found
    assert "@example(Schedule(('" in found
    assert "seed: 1 (--seed 1)" in found
    assert "KeyboardInterrupt" in output


@settings(max_examples=how_many(0.4))
@given(schedule=schedules(schemas(), patient=False, deletes=True))
def test_the_steps_that_were_taken_are_a_schedule_that_takes_them_again(schedule: Schedule) -> None:
    first = run_schedule("sqlite", "immediate", schedule)
    again = as_schedule(first.events, schedule.schema, schedule.settings)
    with aside():
        second = run_schedule("sqlite", "immediate", again)
    assert second.events == first.events
    assert second.final == first.final
