"""What the library before libc logs: every way to change a file, and no other file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from properties.crashes.change_log import NAMES as CALLED
from properties.crashes.change_log import read_changes
from properties.crashes.recording import Recording
from properties.crashes.states import Replay
from workloads.errors import EngineMissing
from workloads.processes import FaultControl, fault_environment, fault_library
from workloads.records import Run

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

PROGRAM = """
import os
fd = os.open("a.db-x", os.O_CREAT | os.O_RDWR)
other = os.dup(fd)
os.close(fd)
os.write(other, b"by a copy")
os.pwritev(other, [b"two", b"parts"], 3)
os.ftruncate(other, 6)
os.posix_fallocate(other, 0, 20)
place = os.open(".", os.O_RDONLY)
os.close(os.open("a.db-y", os.O_CREAT | os.O_WRONLY, dir_fd=place))
os.fsync(place)
os.rename("a.db-x", "a.db-z")
os.unlink("a.db-y")
for name in ("elsewhere", "../a.db-outside", "a.db-shm"):
    os.write(os.open(name, os.O_CREAT | os.O_WRONLY), b"not ours")
"""


def test_every_way_to_change_a_file_is_logged_and_no_other_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    control = FaultControl(tmp_path / "control", data, tmp_path / "log", prefix="a.db")
    control.begin_log()
    subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=data, timeout=60, check=True,
        env=os.environ | fault_environment(tmp_path / "control"),
    )  # fmt: skip
    changes = read_changes(tmp_path / "log")
    assert [(CALLED[one.call], one.name) for one in changes] == [
        ("open", "a.db-x"), ("write", "a.db-x"), ("write", "a.db-x"), ("truncate", "a.db-x"),
        ("truncate", "a.db-x"), ("open", "a.db-y"), ("sync", "."), ("sync", "."),
        ("rename", "a.db-x\na.db-z"), ("unlink", "a.db-y"),
    ]  # fmt: skip
    replay = Replay({}, changes)
    replay.advance(len(changes))
    there = {"a.db-z": b"by two" + bytes(14)}
    assert replay.files(replay.all_there()) == there
    assert (data / "a.db-z").read_bytes() == there["a.db-z"]


PAST = """
import mmap, os
fd = os.open("a.db-x", os.O_CREAT | os.O_RDWR)
os.write(fd, bytes(4096))
with mmap.mmap(fd, 4096) as whole:
    whole[100] = 7
"""


def test_what_goes_past_the_library_is_noticed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    control = FaultControl(tmp_path / "control", data, tmp_path / "log", prefix="a.db")
    control.begin_log()
    subprocess.run(
        [sys.executable, "-c", PAST], cwd=data, timeout=60, check=True,
        env=os.environ | fault_environment(tmp_path / "control"),
    )  # fmt: skip
    changes = read_changes(tmp_path / "log")
    ended = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data.iterdir()}
    run = cast("Run", None)
    assert Recording(run, {}, ended, changes, 0).unexplained() == [
        "a.db-x has bytes that no record explains"
    ]
    written = {"a.db-x": hashlib.sha256(bytes(4096)).hexdigest()}
    assert Recording(run, {}, written, changes, 0).unexplained() == []
    assert Recording(run, {}, written, changes, 3).unexplained()  # records that were not kept
