"""Sessions' processes: engines crash and hang in them, which is reported and tidied up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workloads.engines import REGISTRY, trust
from workloads.files import temporary
from workloads.schedules import sessions
from workloads.schedules.runner import EngineDied, ScheduleRunner
from workloads.schedules.schedule import Schedule, Schema

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60

ENGINE = """
import ctypes, os, signal, sys
from workloads.engines.sqlite import Sqlite

class Mine(Sqlite):
    def connect(self, path, **options):
        session = super().connect(path, **options)
        real = session.run
        def run(sql, params=()):
            if sql.startswith("UPDATE"):
                {body}
            return real(sql, params)
        session.run = run
        return session
"""
WRITES = Schedule(("begin; append 0 7; commit",))
READS = Schedule(("begin; r 0; commit",))


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LIMIT_S", 2)


def runner(
    tmp_path: Path, body: str, sessions: int = 1, *, processes: bool = False
) -> ScheduleRunner:
    """On an engine of a user's, which does something at each UPDATE."""
    file = tmp_path / "mine.py"
    file.write_text(ENGINE.format(body=body))
    trust(file)
    return ScheduleRunner(f"{file}:Mine", ("immediate",) * sessions, processes=processes)


# In C, once with the interpreter's lock held, as a binding may wait, and once without.
@pytest.mark.parametrize("library", ["PyDLL", "CDLL"])
@pytest.mark.usefixtures("limit")
def test_a_call_that_never_returns_ends_its_process_and_says_where(
    tmp_path: Path, library: str
) -> None:
    with runner(tmp_path, f"ctypes.{library}(None).pause()") as held:
        held.run(READS)  # what returned in time was left alone
        with pytest.raises(EngineDied, match="never came back") as raised:
            held.run(WRITES)
        assert raised.value.hung
        text = str(raised.value)
        assert "no answer in 2 s" in text
        assert "session 0 (immediate) took step 1, `append 0 7`" in text
        assert 'mine.py", line' in text  # where it stood, by faulthandler
        assert held.run(READS).final == {0: (), 1: (), 2: ()}  # with a new process


BODIES = {
    "an exit": ("os._exit(7)", "exit status 7"),
    "a closed pipe": (
        "os.closerange(3, 65_536); signal.pause()",
        "it closed its pipe and lived on",
    ),
    "a signal of the kernel": ("os.kill(os.getpid(), signal.SIGBUS)", "signal 7 (SIGBUS)"),
}


@pytest.mark.parametrize("how", BODIES)
@pytest.mark.parametrize("processes", [False, True], ids=["one process", "a process each"])
def test_a_stage_goes_on_when_a_process_is_gone(tmp_path: Path, how: str, processes: bool) -> None:
    body, text = BODIES[how]
    with runner(tmp_path, body, 2, processes=processes) as held:
        for _ in range(2):
            with pytest.raises(EngineDied, match="took its process down") as raised:
                held.run(Schedule(("r 0", "begin; append 0 7; commit"), "01111"))
            assert text in str(raised.value)
            assert held.run(READS).events[1].value == ()


def test_what_the_process_wrote_is_told_whole_and_of_that_schedule_only(tmp_path: Path) -> None:
    body = (
        "print('words of', params[0].strip(), file=sys.stderr, flush=True); "
        "params[0] == '9 ' and (os.system('echo from a child >&2'), os.abort())"
    )
    with runner(tmp_path, body) as held:
        assert held.run(Schedule(("append 0 7",))).stderr == "words of 7\n"
        assert held.run(READS).stderr == ""
        with pytest.raises(EngineDied) as raised:
            held.run(Schedule(("append 0 9",)))
    text = str(raised.value)
    assert "words of 9\n  from a child\n  Fatal Python error: Aborted" in text
    assert "words of 7" not in text


def test_much_that_a_process_wrote_is_cut_at_its_beginning(tmp_path: Path) -> None:
    body = "print('x' * 200_000, 'the end', file=sys.stderr, flush=True); os.abort()"
    with runner(tmp_path, body) as held, pytest.raises(EngineDied) as raised:
        held.run(WRITES)
    assert "the end" in str(raised.value)
    assert "bytes before this are left out" in str(raised.value)
    assert len(str(raised.value)) < 100_000


def test_an_engine_that_dies_when_it_is_opened_is_told_with_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import os\nfrom workloads.engines.sqlite import Sqlite\n"
        "class Mine(Sqlite):\n"
        "    def connect(self, path, **options):\n        os._exit(9)\n"
    )
    trust(file)
    with pytest.raises(EngineDied, match="while the sessions were opened") as raised:
        ScheduleRunner(f"{file}:Mine", ("immediate",), Schema("register"))
    assert "Schema(model='register'" in str(raised.value)


# A process with a runner whose engine leaves a temporary file, killed when it says so.
KILLED = """
import sys, time
from workloads.schedules import sessions
from workloads.schedules import ScheduleRunner
from workloads.schedules import Schedule
runner = ScheduleRunner("{file}:Mine", ("immediate",))
runner.run(Schedule(("append 0 7",)))
print(sessions.room(), runner._processes[0]._popen.pid, flush=True)
time.sleep({wait_s})
"""
LEAVES = "import tempfile; os.close(tempfile.mkstemp(prefix='.tmp')[0])"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a process that was killed while a runner was open, and that has left a file."""
    runner(tmp_path, LEAVES).close()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(file=tmp_path / "mine.py", wait_s=WAIT_S)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    room, number = process.stdout.readline().split()
    child = psutil.Process(int(number))
    # Asked while it lives: any process that opens a runner may clear it later.
    assert list(Path(room).glob("process-*/tmp/.tmp*")), (
        "the engine's temporary file lies elsewhere"
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    child.wait(WAIT_S)  # it goes with its parent
    return Path(room)


def test_a_killed_process_s_folder_goes_with_the_next_one_s_stage(killed: Path) -> None:
    temporary.clear_stages()  # as before the first runner of a process, in pytest and in commands
    assert not killed.exists()


def test_a_live_process_s_folder_is_left_alone(tmp_path: Path) -> None:
    with runner(tmp_path, LEAVES) as held:
        held.run(WRITES)
        before = sorted(sessions.room().rglob("*"))
        temporary.clear_stages()
        assert sorted(sessions.room().rglob("*")) == before
        assert any(path.name.startswith(".tmp") for path in before)
        assert sessions.room() not in [
            left.path for left in temporary.left_over(*temporary.usual_places())
        ]


def test_nothing_is_left_when_a_process_ends(tmp_path: Path) -> None:
    runner(tmp_path, LEAVES).close()
    text = KILLED.format(file=tmp_path / "mine.py", wait_s=0)
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    room, number = done.stdout.split()
    assert not Path(room).exists()
    assert not psutil.pid_exists(int(number))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_a_session_s_process_starts_without_what_it_has_no_use_for() -> None:
    # A schedule may take three of them, and to import these takes twice as long as the rest.
    names = [name for name in REGISTRY if not name.startswith("faulty")]
    text = "import sys\nimport workloads.schedules.stepper\n"
    text += "from workloads.engines import find_engine\n"
    text += f"[find_engine(name) for name in {names}]\n"
    text += "print(*sorted({'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
