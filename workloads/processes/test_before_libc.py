"""The library before libc: what it logs and what it does to a call, on a real SQLite."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.errors import EngineMissing, PlanError
from workloads.processes import FaultControl, fault_environment, fault_library, parse_rule

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

COMMITS = """
import os, sqlite3, sys
one = sqlite3.connect("a.db", isolation_level=None)
one.execute("PRAGMA journal_mode = wal")
one.execute("PRAGMA synchronous = full")
one.execute("CREATE TABLE t(n, pad)")
for n in range(6):
    try:
        one.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 600))
        print("acked", n)
    except sqlite3.Error as error:
        print(error, n)
print("there", *(n for n, in one.execute("SELECT n FROM t ORDER BY n")))
sys.stdout.flush()
os._exit(0)
"""


class Watched:
    """A folder whose files are watched, and programs in it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.folder = folder

    def run(
        self, program: str, *rules: str, clock_s: int = 0
    ) -> tuple[int, list[str], FaultControl]:
        """(exit status, lines, what became of the rules)."""
        control = FaultControl(
            self.folder / "control", self.data, self.folder / "log",
            [parse_rule(rule) for rule in rules], prefix="a.db",
        )  # fmt: skip
        control.begin_log()
        control.arm()
        control.set_clock(clock_s)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=self.data, capture_output=True, text=True,
            env=os.environ | fault_environment(self.folder / "control"), timeout=60, check=False,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines(), control


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("sync:*-wal:4:EIO", "disk I/O error"),
        ("write:*-wal:8:ENOSPC", "database or disk is full"),
        ("write:*-wal:8:EIO", "disk I/O error"),
    ],
)
def test_a_call_that_fails_is_a_refused_commit_that_is_not_there(
    watched: Watched, rule: str, error: str
) -> None:
    status, lines, control = watched.run(COMMITS, rule)
    (refused,) = (line for line in lines if line.startswith(error))
    assert status == 0 and control.fired == (1,)
    assert refused[-1] not in lines[-1] and lines[-1].count(" ") == 5


@pytest.mark.parametrize(
    ("rule", "acked"),
    [("sync:*-wal:4:kill", 1), ("sync:*-wal:5:kill-after", 2), ("write:*-wal:8:torn=100", 1)],
)
def test_a_process_is_killed_at_its_call(watched: Watched, rule: str, acked: int) -> None:
    status, lines, control = watched.run(
        COMMITS.replace('print("acked", n)', 'os.write(1, b"k")'), rule
    )
    assert status == -signal.SIGKILL and control.fired == (1,)
    assert "".join(lines) == "k" * acked


def test_a_write_may_be_cut_short_and_whoever_asks_again_has_it_all(watched: Watched) -> None:
    _, lines, control = watched.run(COMMITS, "write:*-wal:4-6:short", "sync:*:2:slow=1ms")
    assert lines[-1] == "there 0 1 2 3 4 5" and control.fired == (3, 1)


def test_a_process_that_stops_is_woken_by_the_kernel_and_goes_on(watched: Watched) -> None:
    _, lines, control = watched.run(COMMITS, "sync:*-wal:2:stop=20ms")
    assert lines[-1] == "there 0 1 2 3 4 5" and control.fired == (1,)


def test_the_time_of_day_is_another_one_for_the_process_alone(watched: Watched) -> None:
    now = "import time; print(int(time.time()), int(time.clock_gettime(time.CLOCK_REALTIME)))"
    _, before, _ = watched.run(now)
    _, (line,), _ = watched.run(now, clock_s=-86_400)
    assert all(-86_500 < int(one) - int(before[0].split()[0]) < -86_000 for one in line.split())


THREADS = """
import os, threading
over = threading.Event()
def spin():
    while not over.is_set():
        os.getppid()
def write():
    file = os.open("a.db-x", os.O_CREAT | os.O_WRONLY)
    for _ in range(30):
        os.write(file, b"1")
    over.set()
threading.Thread(target=write).start()
spin()
print("went on")
"""


def test_a_process_of_several_threads_that_stops_goes_on_as_well(watched: Watched) -> None:
    _, lines, control = watched.run(THREADS, "write:a.db-x:1-30:stop=1ms")
    assert lines == ["went on"] and control.fired == (30,)


def test_a_rule_counts_the_calls_of_all_processes_and_of_one_worker_where_it_names_one(
    watched: Watched,
) -> None:
    fork = "import os\npid = os.fork()\nfd = os.open('a.db-x', os.O_CREAT | os.O_WRONLY)\n"
    each = f"{fork}os.write(fd, b'1'); os.fsync(fd)\nif pid: os.waitpid(pid, 0)\n"
    _, _, control = watched.run(each, "sync:a.db-x:1+:slow=1ms", "sync:a.db-x:1+:slow=1ms@3")
    assert control.matched == (2, 0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sync:*-wal:3", "give CALL:FILE:N:WHAT"),
        ("snyc:*-wal:3:EIO", "'snyc' is no call. Did you mean 'sync'?"),
        ("sync:*-wal:0:EIO", "N is which of these calls, from 1"),
        ("sync:*-wal:5-3:EIO", "N is which of these calls, from 1"),
        ("sync:*-wal:1:EVIL", "'EVIL' is nothing that can be done"),
        ("sync:*-wal:1:torn", "'torn' goes with write only"),
        ("write:*-wal:1:lie", "'lie' goes with sync only"),
        ("sync:a/b:1:EIO", "FILE is a pattern for the name of a file"),
        ("sync:*:1:stop=0ms", "a time is at least 1 ms"),
    ],
)
def test_a_fault_that_is_none_is_one_sentence(text: str, why: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_rule(text)
    assert str(refused.value).startswith(f"--fault {text!r}: {why}"), refused.value
