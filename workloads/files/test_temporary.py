"""Temporary folders: a killed owner's is found and cleared, and nobody else's is ever touched."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from workloads.files import temporary

OWNER = """
import subprocess, sys, time
from pathlib import Path
from workloads.files import temporary
made = temporary.make("stage", within=Path(sys.argv[1]))
(made.path / "deep").mkdir()
(made.path / "deep" / "file").write_text("of the owner")
if len(sys.argv) > 2:
    child = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    subprocess.Popen(child, stdin=sys.stdin, pass_fds=[made.lock])
print(made.path, flush=True)
time.sleep(600)
"""


def owner_in(place, *argv):
    """A process that owns a folder in `place`, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(place), *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(1 + len(argv))]
    return process, Path(next(line for line in lines if line))


def killed(process):
    process.kill()
    process.wait()


def found_in(place):
    return temporary.left_over(place)


@pytest.fixture
def left(tmp_path):
    """A folder whose owner was killed."""
    process, path = owner_in(tmp_path)
    killed(process)
    process.communicate()
    return path


def test_a_folder_is_left_over_once_its_owner_was_killed(tmp_path):
    process, path = owner_in(tmp_path)
    assert temporary.in_use(path)
    assert found_in(tmp_path) == []
    killed(process)
    process.communicate()
    (left,) = found_in(tmp_path)
    assert left.path == path
    assert left.owner is not None and (left.owner.kind, left.owner.pid) == ("stage", process.pid)
    assert temporary.clear(left)
    assert not path.exists()


def test_a_folder_of_a_living_owner_is_never_cleared(tmp_path):
    made = temporary.make("stage", within=tmp_path)
    folder = os.open(made.path, os.O_RDONLY)
    forced = temporary.LeftOver(made.path, temporary.read_owner(folder))
    os.close(folder)
    assert forced.owner is not None
    assert not temporary.clear(forced)
    assert made.path.exists()
    made.remove()
    assert not made.path.exists()


def test_a_child_that_inherits_the_folder_keeps_it_in_use(tmp_path):
    process, path = owner_in(tmp_path, "child")
    killed(process)
    assert temporary.in_use(path)
    assert found_in(tmp_path) == []
    process.communicate()  # the child's input ends, and with it the child
    with temporary.holding(path, wait_s=20):
        pass
    assert [left.path for left in found_in(tmp_path)] == [path]


def no_owner_file(path):
    (path / "owner.json").unlink()


def another_name(path):
    path.rename(path.with_name("cwkit-stage-precious-things"))


def a_link(path):
    real = path.rename(path.with_name("elsewhere"))
    path.symlink_to(real)


def a_pipe(path):
    (path / "owner.json").unlink()
    os.mkfifo(path / "owner.json")


def a_linked_owner_file(path):
    (path / "owner.json").rename(path.with_name("owner.json"))
    (path / "owner.json").symlink_to(path.with_name("owner.json"))


def another_users(path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(path, 12345, 12345)


def another_users_owner_file(path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path / "owner.json", 12345, 12345)


def forged(text):
    def forge(path):
        (path / "owner.json").write_bytes(text)

    return forge


GOOD = {"kind": "run", "pid": 1, "start_ticks": 1, "boot_id": "", "run": "", "run_id": ""}
NOT_OURS = {
    "without an owner file": no_owner_file,
    "of another name": another_name,
    "a link": a_link,
    "with a pipe for an owner file": a_pipe,
    "with a link for an owner file": a_linked_owner_file,
    "of another user": another_users,
    "with another user's owner file": another_users_owner_file,
    "no JSON": forged(b"\xff\x00"),
    "nested deep": forged(b"[" * 10_000),
    "a huge number": forged(b'{"pid": ' + b"9" * 5_000 + b"}"),
    "large": forged(b'{"kind": "' + b"x" * 100_000 + b'"}'),
    "an unknown key": forged(json.dumps(GOOD | {"more": 1}).encode()),
    "a number as its run": forged(json.dumps(GOOD | {"run": 7}).encode()),
    "a relative run": forged(json.dumps(GOOD | {"run": "../precious"}).encode()),
    "a run with a line break": forged(json.dumps(GOOD | {"run": "/a\n\x1b[2J"}).encode()),
    "a lone surrogate": forged(json.dumps(GOOD | {"run": "/\ud800"}).encode()),
    "no number as its process": forged(json.dumps(GOOD | {"pid": True}).encode()),
}


@pytest.mark.parametrize("case", list(NOT_OURS))
def test_what_is_not_provably_ours_is_neither_named_nor_cleared(tmp_path, left, case):
    assert found_in(tmp_path) != []
    (before,) = found_in(tmp_path)
    NOT_OURS[case](left)
    there = sorted(path.name for path in tmp_path.rglob("*"))
    assert found_in(tmp_path) == []
    assert not temporary.clear(before)
    assert sorted(path.name for path in tmp_path.rglob("*")) == there


def dead_name():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"cwkit-making-{process.pid}-12345-abcd0123"


def test_a_folder_left_in_its_making_is_cleared_once_its_maker_is_dead(tmp_path):
    mine = temporary.this_process("run")
    (tmp_path / f"cwkit-making-{mine.pid}-{mine.start_ticks}-abcd0123").mkdir()
    assert found_in(tmp_path) == []
    for number, file in enumerate(("", "owner.json")):
        path = tmp_path / f"{dead_name()[:-1]}{number}"
        path.mkdir()
        if file:
            (path / file).write_text("")
        (left,) = found_in(tmp_path)
        assert left.path == path and left.owner is None
        assert temporary.clear(left)
        assert not path.exists()


def test_a_folder_of_a_maker_s_name_is_kept_if_it_holds_anything(tmp_path):
    path = tmp_path / dead_name()
    path.mkdir()
    (path / "database.db").write_text("of somebody")
    assert found_in(tmp_path) == []


def test_the_owner_file_goes_last_so_that_a_half_cleared_folder_is_still_ours(
    tmp_path, left, monkeypatch
):
    (one,) = found_in(tmp_path)

    def killed_here(path, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed_here)
        with pytest.raises(KeyboardInterrupt):
            temporary.clear(one)
    assert [again.path for again in found_in(tmp_path)] == [left]
    assert temporary.clear(one)


def test_a_link_inside_is_removed_and_what_it_leads_to_stays(tmp_path, left):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("of the user")
    (left / "inside").symlink_to(precious)
    (left / "deep" / "inside").symlink_to(precious)
    (one,) = found_in(tmp_path)
    assert temporary.clear(one)
    assert (precious / "file").read_text() == "of the user"


def test_without_locks_the_owners_process_is_asked_for(tmp_path, monkeypatch):
    def none_here(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    made = temporary.make("stage", within=tmp_path)
    assert found_in(tmp_path) == []
    mine = temporary.this_process("stage")
    assert mine.alive
    gone = {
        "another process with the number": replace(mine, start_ticks=mine.start_ticks + 1),
        "no process": replace(mine, pid=2**22 + 1),
        "before the machine was started anew": replace(mine, boot_id="another"),
    }
    for case, owner in gone.items():
        (made.path / "owner.json").write_text(json.dumps(asdict(owner)))
        assert [left.path for left in found_in(tmp_path)] == [made.path], case
    made.remove()


def test_a_zombie_is_no_owner():
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
    assert temporary.start_ticks(process.pid) == 0
    process.wait()
    assert temporary.start_ticks(os.getpid()) > 0
