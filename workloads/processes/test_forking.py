"""A forked child is what a child started by exec is, and nothing is left of it or of its maker."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import engine_names, find_engine
from workloads.errors import PlanError
from workloads.files import ROOT
from workloads.processes import children, forking
from workloads.processes.forking import NotForked
from workloads.processes.handles import ForkedProcess

LIMIT_S = 60

PROGRAM = """
import json, os, resource, signal, sys, tempfile

def open_is(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False

def main(argv):
    import random
    import numpy
    word = argv[0]
    if word == "tell":
        import threading
        print(json.dumps({
            "argv": sys.argv, "environment": dict(os.environ), "path": sys.path, "cwd": os.getcwd(),
            "cpus": sorted(os.sched_getaffinity(0)), "nice": os.nice(0), "umask": os.umask(0),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "parent": os.getppid(), "group is own": os.getpgrp() == os.getpid(),
            "session": os.getsid(0), "temporary": tempfile.gettempdir(),
            "open": [n for n in map(int, os.listdir("/proc/self/fd")) if open_is(n)],
            "int": str(signal.getsignal(signal.SIGINT)),
            "term": str(signal.getsignal(signal.SIGTERM)),
            "pipe": str(signal.getsignal(signal.SIGPIPE)),
            "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "threads": threading.active_count(), "cpu": min(os.times()[0], 60) < 60,
        }), flush=True)
        print("an error", file=sys.stderr)
        return 7
    if word == "draw":
        print(random.random(), numpy.random.random(), flush=True)
    elif word == "exit":
        import atexit
        atexit.register(print, "at the end")
        sys.exit(3)
    elif word == "words":
        sys.exit("gone")
    elif word == "raise":
        raise KeyError("a key")
    elif word == "abort":
        os.abort()
    elif word == "thread":
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.2), print("late", flush=True))).start()
    elif word == "wait":
        from workloads.processes import die_with_parent
        die_with_parent()
        print("here", flush=True)
        signal.pause()
    elif word == "parent":
        from workloads.processes import forking
        from workloads.processes import end_with_parent
        process = forking.fork("program", ["wait"], environment=dict(os.environ) | {
            "CWKIT_PARENT": str(os.getpid())}, search_path=sys.path[:2], stdin=None, stdout=None,
            stderr=None, inherit=(), within=None, own_group=True, conducts=False)
        signal.pause()
    return 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""

Start = Callable[..., Any]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(children, "PROGRAMS", ("program",))
    return tmp_path


@pytest.fixture
def start(program: Path) -> Iterator[Start]:
    made: list[children.ChildProcess] = []

    def started(method: str, *argv: str, **how: Any) -> children.ChildProcess:
        child = children.start(
            "program",
            children.python("program", *argv),
            search_path=[str(program)],
            stdout=subprocess.PIPE,
            method=method,  # type: ignore[arg-type]
            **{"last_words": program / f"{method}.stderr"} | how,
        )
        made.append(child)
        return child

    yield started
    for child in made:
        if child.process.poll() is None:
            children.end(child.process)
        assert child.process.stdout is not None
        child.process.stdout.close()


def output(child: children.ChildProcess) -> str:
    assert child.process.stdout is not None
    text = child.process.stdout.read().decode()
    child.process.wait(LIMIT_S)
    return text


def test_a_forked_child_is_given_what_exec_gives(start: Start, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = resource.getrlimit(resource.RLIMIT_CORE), os.sched_getaffinity(0), os.umask(0o027)
    held = os.open(tmp_path / "held", os.O_CREAT | os.O_RDWR)
    told = {}
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[0][1]))
        os.sched_setaffinity(0, {min(before[1])})
        for method in ("exec", "fork"):
            child = start(
                method,
                "tell",
                environment={"GIVEN": "a\nb=ü", "TMPDIR": str(tmp_path)},
                without="HOM",
                inherit=[held],
                within=tmp_path / "folder",
            )
            told[method] = json.loads(output(child))
            assert child.process.returncode == 7
            assert child.stderr_text() == "an error\n"
    finally:
        os.close(held)
        resource.setrlimit(resource.RLIMIT_CORE, before[0])
        os.sched_setaffinity(0, before[1])
        os.umask(before[2])
    assert told["fork"]["environment"].pop("GIVEN") == told["exec"]["environment"].pop("GIVEN")
    assert told["fork"]["parent"] == os.getpid() and "HOME" not in told["fork"]["environment"]
    assert told["fork"]["open"] == [0, 1, 2, held]
    assert told["fork"] == told["exec"]


@pytest.mark.parametrize("word", ["exit", "words", "raise", "abort", "thread"])
def test_it_ends_as_it_would(start: Start, word: str) -> None:
    seen = {}
    for method in ("exec", "fork"):
        child = start(method, word)
        text = output(child)
        errors = child.stderr_text().splitlines()[-1:]
        seen[method] = text, child.process.returncode, errors
    assert seen["fork"] == seen["exec"]


def test_two_children_draw_differently(start: Start) -> None:
    first, second = (output(start("fork", "draw")).split() for _ in range(2))
    assert not set(first) & set(second)


@pytest.mark.parametrize("method", ["exec", "fork"])
def test_it_shows_what_it_is(start: Start, method: str) -> None:
    child = start(method, "wait", "for a long time")
    assert child.process.stdout.readline() == b"here\n"
    line = " ".join(psutil.Process(child.process.pid).cmdline())
    assert "-P -m program wait for a long time" in line


def test_without_a_preloaded_process_another_one_is_made(start: Start) -> None:
    assert output(start("fork", "draw"))
    assert forking._server is not None
    killed = forking._server.process
    os.kill(killed.pid, signal.SIGKILL)
    assert output(start("fork", "draw"))
    assert killed.returncode == -signal.SIGKILL
    assert forking._server.process.pid != killed.pid


def test_a_child_that_nobody_learned_of_ends_by_itself(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(answer: Any) -> int:
        found.append(int(answer.recv(100)))
        raise KeyboardInterrupt

    found: list[int] = []
    monkeypatch.setattr(forking, "_pid", interrupted)
    with pytest.raises(KeyboardInterrupt):
        children.start(
            "program",
            children.python("program", "wait"),
            search_path=[str(program)],
            method="fork",
        )
    assert ForkedProcess(found[0]).wait(LIMIT_S) == 3


@pytest.mark.parametrize("name", engine_names())
def test_nothing_is_forked_where_an_engine_is_loaded(name: str) -> None:
    """In a process of its own, because an engine is loaded in it."""
    if (why := find_engine(name).missing()) is not None:
        pytest.skip(why)
    if find_engine(name).file_format == "none":
        pytest.skip("keeps no file, and has no library")
    text = f"""
from workloads.processes.preloaded import EngineLoaded, no_engine_loaded, preload
preload()
no_engine_loaded()
from workloads.engines import find_engine
find_engine({name!r}).identity()
try:
    no_engine_loaded()
except EngineLoaded as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert "is loaded in the process that forks workers" in done.stdout


def test_what_the_preloaded_process_answers_is_the_reason(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(orders: Any, data: Any, numbers: Any) -> Any:
        return os.write(numbers[1], b"EngineLoaded: x is loaded")

    monkeypatch.setattr(socket, "send_fds", refused)
    with pytest.raises(NotForked, match=r"\(EngineLoaded: x is loaded\).*--start exec"):
        children.start("program", children.python("program", "draw"), method="fork")


def test_a_killed_parent_leaves_neither_its_children_nor_what_forks_them(program: Path) -> None:
    """The parent is a forked child itself, with a preloaded process of its own."""
    child = forking.fork(
        "program",
        ["parent"],
        environment=dict(os.environ),
        search_path=[str(ROOT), str(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None,
        inherit=(),
        within=None,
        own_group=True,
        conducts=True,
    )
    assert child.stdout is not None and child.stdout.readline() == b"here\n"
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) == 2
    child.kill()
    assert child.wait(LIMIT_S) == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, LIMIT_S)
    assert not alive and child.stdout.read() == b""
    child.stdout.close()


def test_the_orphans_of_a_killed_child_are_not_ours(start: Start) -> None:
    """Nobody here would wait for them, and they would be there as zombies until we end."""
    child = start("fork", "parent")
    assert child.process.stdout.readline() == b"here\n"
    family = psutil.Process(child.process.pid).children(recursive=True)
    child.process.kill()
    child.process.wait(LIMIT_S)
    psutil.wait_procs(family, LIMIT_S)
    assert not {one.pid for one in family} & {one.pid for one in psutil.Process().children()}


def test_waiting_has_a_limit(start: Start) -> None:
    child = start("fork", "wait")
    assert child.process.stdout.readline() == b"here\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.01)
    assert child.process.poll() is None
    child.process.terminate()
    assert child.process.wait(LIMIT_S) == child.process.poll() == -signal.SIGTERM
    child.process.kill()  # one that has ended is sent nothing


def test_how_processes_start_is_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for wish in ("fork", "exec"):
        monkeypatch.setenv(forking.VARIABLE, wish)
        assert forking.start_method() == wish
    monkeypatch.setattr(forking, "can_fork", lambda: False)
    monkeypatch.delenv(forking.VARIABLE)
    assert forking.start_method() == "exec"
    monkeypatch.setenv(forking.VARIABLE, "forke")
    with pytest.raises(PlanError, match="give fork or exec"):
        forking.start_method()
