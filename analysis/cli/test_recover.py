"""`cwkit recover`, and what the other commands say of a run whose process was killed."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import find_engine, trust
from workloads.records import attempts as rec
from workloads.records import read_manifest

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S, LOOKS_S = 120, 0.002
STATUS = {"export": {0}, "check": {0}, "conflicts": {2}, "compare": {0, 1, 3}}
"""Exit statuses on a recovered run, which is like any run that ended early. How busy the machine is
decides that of `compare`; `conflicts` has no model of BEGIN IMMEDIATE's refusals."""


class Kit:
    """Commands with a folder and a temporary folder of their own; those to be killed are processes
    of their own, too.
    """

    def __init__(self, folder: Path, cwkit: Command) -> None:
        self.folder, self.tmp, self.cwkit = folder, folder / "tmp", cwkit
        self.tmp.mkdir()
        self.options: dict[str, Any] = {
            "cwd": folder,
            "env": os.environ
            | {"TMPDIR": str(self.tmp), "PYTHONPATH": str(ROOT), "COLUMNS": "250"},
            "text": True,
        }

    def __call__(self, *argv: str, status: int | set[int] = 0) -> subprocess.CompletedProcess[str]:
        env = {"TMPDIR": str(self.tmp), "COLUMNS": "250"}
        made = self.cwkit(*argv, cwd=self.folder, env=env)
        allowed = {status} if isinstance(status, int) else status
        assert made.returncode in allowed, made.stdout + made.stderr
        assert "Traceback" not in made.stderr
        return made

    def killed(
        self, *argv: str, scenario: str = "acked", phase: str = "measuring", attempts: int = 1
    ) -> Path:
        """The folder of a run whose process was killed in a phase.

        attempts : that each worker has ended before, in the phase "measuring".
        """
        given = ["--scenario", scenario, "--database", "sqlite", "--writers", "2"]
        # A rate, so that each writer gets its turn with the lock soon, and the run stays small.
        given += ["--duration", "60", "--warmup", "0", "--rate", "100"]
        command = [sys.executable, "-m", "analysis.cli", "run", *given, *argv]
        with subprocess.Popen(command, stderr=subprocess.PIPE, **self.options) as process:
            assert process.stderr is not None
            line = next(line for line in process.stderr if line.startswith(phase))
            (folder,) = (self.folder / "runs").iterdir()
            while phase == "measuring" and not _measured(folder, attempts):
                assert process.poll() is None
                time.sleep(LOOKS_S)
            children = psutil.Process(process.pid).children()
            process.kill()
        assert line
        psutil.wait_procs(children, timeout=LIMIT_S)
        return folder

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.tmp.iterdir())


def _measured(folder: Path, attempts: int) -> bool:
    """Whether every worker of a run that goes on has ended so many attempts that count."""
    manifest, seen = read_manifest(folder), rec.last_seen(folder)
    ends = [rec.read_attempts(folder, one.worker)["end_ns"] for one in manifest.workers]
    begun = manifest.window.measure_ns
    counted = [int(((begun < end) & (end < seen)).sum()) for end in ends]
    return bool(counted) and min(counted) >= attempts


@pytest.fixture
def kit(tmp_path: Path, cwkit: Command) -> Kit:
    return Kit(tmp_path, cwkit)


def test_the_next_command_names_what_is_left_and_recover_all_clears_it(kit: Kit) -> None:
    folder = kit.killed()
    (home,) = kit.left
    listed = kit("list")
    line = f"left by processes that were killed: {kit.tmp}/{home} (of {folder})"
    assert line in listed.stderr
    assert "`cwkit recover --all`" in listed.stderr
    assert f"interrupted: cwkit recover runs/{folder.name}" in listed.stdout
    cleared = kit("recover", "--all")
    assert "finished, and its checks hold." in cleared.stdout
    assert "1 run finished, 0 removed, 0 folders cleared." in cleared.stdout
    assert kit.left == []
    again = kit("list")
    assert again.stderr == ""
    assert "NOT ok: parent killed" in again.stdout
    assert "Nothing was left." in kit("recover", "--all").stdout


STAGE = """
import time
from workloads.schedules import sessions
from workloads.schedules import ScheduleRunner
stage = ScheduleRunner("sqlite", ("immediate",))
print(sessions.room(), flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_of_its_stage_is_gone_with_the_next_command(kit: Kit) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STAGE], stdout=subprocess.PIPE, **kit.options
    ) as process:
        assert process.stdout is not None
        room = Path(process.stdout.readline().strip())
        assert room.is_dir()  # asked here: any command, of another test too, may clear it later
        children = psutil.Process(process.pid).children()
        process.kill()
    psutil.wait_procs(children, timeout=LIMIT_S)
    listed = kit("list", "--scenarios")
    assert not room.exists()
    assert "recover" not in listed.stderr


def test_show_tells_an_interrupted_run_as_far_as_it_was_seen_and_the_way_out(kit: Kit) -> None:
    folder = kit.killed()
    shown = kit("show", folder.name).stdout
    assert "INTERRUPTED: its process was killed while measuring" in shown
    assert f"cwkit recover runs/{folder.name}" in " ".join(shown.split())
    assert " 0 attempts" not in shown and "never started" not in shown and "died" not in shown
    shown = kit("recover", folder.name).stdout
    assert "Its process was killed while measuring, and it was recovered" in shown
    assert "The run ended early: parent killed." in shown
    assert "ok      acknowledged values" in shown
    assert "UNKNOWN" not in shown


def test_what_would_not_stay_is_not_told_of_an_interrupted_run(kit: Kit) -> None:
    folder = kit.killed(scenario="append")
    given = ["--scenario", "append", "--database", "sqlite", "--transactions", "20"]
    kit("run", *given, "--runs", "others")
    (other,) = (kit.folder / "others").iterdir()
    commands = [("export",), ("conflicts",), ("check",), ("compare", str(other))]
    for argv in commands:
        refused = kit(*argv, str(folder), status=2)
        assert "was interrupted, its process was killed" in refused.stdout + refused.stderr, argv
    kit("recover", str(folder))
    for argv in commands:
        made = kit(*argv, str(folder), status=STATUS[argv[0]])
        assert "was interrupted" not in made.stdout + made.stderr, argv


def test_a_running_run_is_neither_interrupted_nor_recovered(kit: Kit) -> None:
    given = ["--scenario", "counter", "--database", "sqlite", "--writers", "1", "--duration", "60"]
    command = [sys.executable, "-m", "analysis.cli", "run", *given, "--rate", "100"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, **kit.options) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("measuring"))
        (folder,) = (kit.folder / "runs").iterdir()
        listed = kit("list")
        assert listed.stderr == "" and "running" in listed.stdout
        assert "Still running (measuring)" in kit("show", folder.name).stdout
        refused = kit("recover", folder.name, status=2)
        assert f"is still running (process {process.pid})" in refused.stderr
        assert "Nothing was left." in kit("recover", "--all").stdout
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
    assert read_manifest(folder).ended == "interrupted"


def test_a_lost_commit_of_a_killed_run_ends_with_status_1(kit: Kit) -> None:
    # Every seventh of a session is lost.
    folder = kit.killed("--database", "faulty-lost-commit", scenario="counter", attempts=8)
    assert "BROKEN" in kit("recover", folder.name, status=1).stdout


def test_a_database_that_is_gone_ends_with_status_3(kit: Kit) -> None:
    folder = kit.killed()
    for path in kit.tmp.glob("*/database.db*"):
        path.unlink()
    shown = kit("recover", folder.name, status=3).stdout
    assert "UNKNOWN database: not checked: the database is gone" in shown
    assert "BROKEN" not in shown
    assert kit.left == []


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "give a run, or --all"),
        (["x", "--all"], "give a run, or --all"),
        (["nothing-of-that-name"], "There is no run"),
    ],
    ids=str,
)
def test_recover_without_anything_to_recover_is_one_sentence(
    kit: Kit, argv: list[str], line: str
) -> None:
    (kit.folder / "runs").mkdir()
    made = kit("recover", *argv, status=2)
    assert line in made.stderr
    assert made.stderr.count("\n") == 1


HELD = """
import os
import signal
from workloads.scenarios.acked import Acked

def hold(part):
    '''Where the test listens: say who we are, and stand still until it ends us.'''
    if os.path.exists(path := {here!r} + "/" + part):
        with open(path, "w") as listening:
            listening.write(str(os.getpid()))
        signal.pause()

class Held(Acked):
    def load(self, session, rng):
        hold("load")
        super().load(session, rng)

    def check(self, session, log):
        hold("check")
        return super().check(session, log)
"""


def killed_part(kit: Kit, part: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """A run of which one part was killed in the middle of its work."""
    file, pipe = kit.folder / "held.py", kit.folder / part
    file.write_text(HELD.format(here=str(kit.folder)), encoding="utf-8")
    os.mkfifo(pipe)
    given = ["--scenario", f"{file}:Held", "--database", "sqlite", "--writers", "1"]
    given += ["--duration", "60", "--transactions", "20"]
    command = [sys.executable, "-m", "analysis.cli", "run", *given, *argv]
    heard = select.poll()
    with contextlib.ExitStack() as stack:
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, reading)
        heard.register(reading, select.POLLIN)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kit.options
        )
        stack.callback(process.kill)
        ended = os.pidfd_open(process.pid)
        stack.callback(os.close, ended)
        heard.register(ended, select.POLLIN)
        there = [number for number, _ in heard.poll(LIMIT_S * 1000)]
        assert there == [reading], f"the run never came to its {part}"
        held = int(os.read(reading, 20))
        pipe.unlink()  # who comes by later is not held
        os.kill(held, signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_a_killed_checker_is_said_and_no_word_against_the_engine(kit: Kit) -> None:
    made = killed_part(kit, "check")
    assert made.returncode == 1, made.stdout + made.stderr
    assert "not checked: sqlite could not check the database" in " ".join(made.stdout.split())
    assert "signal 9" in made.stdout and "BROKEN" not in made.stdout
    (folder,) = (kit.folder / "runs").iterdir()
    assert (folder / "database.db").exists()
    assert read_manifest(folder).ended == "check killed"
    assert kit.left == []
    # It is kept, so that it can be checked now; and that is all that can be said of the run.
    trust(kit.folder / "held.py")
    shown = kit("recover", folder.name).stdout
    assert "ok      acknowledged values" in shown and "UNKNOWN" not in shown


def test_a_killed_loader_is_one_sentence_and_leaves_nothing(kit: Kit) -> None:
    made = killed_part(kit, "load")
    assert made.returncode == 2, made.stdout + made.stderr
    (sentence,) = [line for line in made.stderr.splitlines() if line.startswith("cwkit: ")]
    assert "could not load the database" in sentence and "signal 9" in sentence
    assert list((kit.folder / "runs").iterdir()) == []
    assert kit.left == []


def test_what_a_killed_sweep_has_left_is_found_by_its_folder(kit: Kit) -> None:
    if find_engine("sqlite").missing() is not None:
        pytest.skip("no sqlite here")
    (kit.folder / "t.toml").write_text(
        'question = "?"\nblocks = 1\ncontrol = false\n[plan]\nscenario = "acked"\n'
        'database = "sqlite"\nduration_s = 30\nwarmup_s = 0\n[grid]\nwriters = [1, 2]\n'
    )
    command = [sys.executable, "-m", "analysis.cli", "sweep", "t.toml", "--into", "runs/t"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **kit.options) as process:
        manifests = (kit.folder / "runs" / "t").glob
        while not any(
            json.loads(path.read_text())["under_way"]["stage"] == "measuring"
            for path in manifests("b00-*/manifest.json")
        ):
            assert process.poll() is None
            time.sleep(LOOKS_S)
        process.kill()
    assert list((kit.folder / "runs" / "t").glob(".cwkit-templates/*"))
    done = kit("recover", "runs/t").stdout
    assert "finished, and its checks hold." in done and "cleared of loaded databases" in done
    assert not list((kit.folder / "runs" / "t").glob(".cwkit-templates"))
    assert kit.left == []
    text = (kit.folder / "t.toml").read_text().replace("duration_s = 30", "duration_s = 0.2")
    (kit.folder / "t.toml").write_text(text)
    again = kit("sweep", "t.toml", "--into", "runs/t", status=2)
    assert "holds another experiment" in again.stderr
