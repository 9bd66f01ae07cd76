"""A forked child is what a child started by exec is, and nothing is left of it or of its maker."""

from __future__ import annotations

import contextlib
import fcntl
import gc
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
from workloads.processes.handles import LOST, ForkedProcess

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
            "hup": str(signal.getsignal(signal.SIGHUP)),
            "encodings": [(s.encoding, s.errors, s.line_buffering) for s in
                          (sys.stdin, sys.stdout, sys.stderr)],
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
    elif word == "leave":
        import atexit, logging.handlers, multiprocessing, time
        handler = logging.handlers.MemoryHandler(9, target=logging.StreamHandler(sys.stdout))
        logging.getLogger().addHandler(handler)
        logging.warning("logged")
        fork = multiprocessing.get_context("fork")
        left = fork.Process(target=time.sleep, args=(600,), daemon=True)
        left.start()
        main.file = open(argv[1], "w")
        main.file.write(f"{left.pid}")
    elif word == "finalize":
        class Finalized:
            def __del__(self):
                print("finalized", flush=True)
        main.left = Finalized()
    elif word == "hook":
        sys.excepthook = lambda *what: print("hooked", what[0].__name__, flush=True)
        raise KeyError
    elif word == "large":
        sys.exit(2**40)
    elif word == "interrupted":
        raise KeyboardInterrupt
    elif word == "module":
        import only_there
        print(only_there.__file__)
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


def fork(program: Path, word: str, *, conducts: bool = False) -> ForkedProcess:
    """A child of the program, without what `start` does around it."""
    return forking.fork(
        "program",
        [word],
        environment=dict(os.environ),
        search_path=[str(ROOT), str(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None,
        inherit=(),
        within=None,
        own_group=True,
        conducts=conducts,
    )


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


@pytest.mark.parametrize(
    "word",
    ["exit", "words", "raise", "abort", "thread", "finalize", "hook", "large", "interrupted"],
)
def test_it_ends_as_it_would(start: Start, word: str) -> None:
    seen = {}
    for method in ("exec", "fork"):
        child = start(method, word)
        text = output(child)
        errors = child.stderr_text().splitlines()[-1:]
        seen[method] = text, child.process.returncode, errors
    assert seen["fork"] == seen["exec"]


@pytest.mark.parametrize("method", ["exec", "fork"])
def test_what_it_has_left_is_written_and_ended(start: Start, tmp_path: Path, method: str) -> None:
    assert output(start(method, "leave", str(tmp_path / "written"))) == "logged\n"
    left = int((tmp_path / "written").read_text())
    assert not psutil.pid_exists(left)


def test_signals_of_whoever_orders_are_the_childs_own(start: Start) -> None:
    """Also of the first who orders, in a thread where they are blocked, say."""
    forking._end()
    before = signal.getsignal(signal.SIGHUP)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        told = [json.loads(output(start(method, "tell"))) for method in ("fork", "exec")]
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert told[0]["mask"] == told[1]["mask"] == [signal.SIGUSR1]
    assert told[0]["hup"] == told[1]["hup"] == str(signal.SIG_IGN)
    assert json.loads(output(start("fork", "tell")))["mask"] == []


def test_text_that_is_no_utf_8_is_handed_on(start: Start) -> None:
    child = start("fork", "tell", "caf\udce9", environment={"GIVEN": "\udcff"})
    told = json.loads(output(child))
    assert told["argv"][2] == "caf\udce9" and told["environment"]["GIVEN"] == "\udcff"
    with pytest.raises(ValueError, match="null byte"):
        start("fork", "tell", "a\0b")


def test_what_a_child_cannot_be_given_is_an_error_of_its_start(start: Start) -> None:
    """And not a child that fails: nobody would know why."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpgrp", lambda: 2**22 + 1)  # a group that is not there
        with pytest.raises(NotForked, match=r"\((ProcessLookupError|PermissionError): "):
            start("fork", "tell", own_group=False)
    assert json.loads(output(start("fork", "tell")))["group is own"]
    assert psutil.STATUS_ZOMBIE not in {one.status() for one in psutil.Process().children()}


def test_few_open_files_are_enough_for_both(start: Start, tmp_path: Path) -> None:
    assert output(start("fork", "draw"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.open(tmp_path / "held", os.O_CREAT | os.O_RDWR)
    high = fcntl.fcntl(held, fcntl.F_DUPFD_CLOEXEC, 250)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (high + 1, before[1]))
        told = json.loads(output(start("fork", "tell", inherit=[high])))
        waited = start("fork", "wait")
        some = []
        with contextlib.suppress(OSError):
            while True:
                some.append(os.dup(held))
        children.end(waited.process)  # without a descriptor to wait at
        for number in some:
            os.close(number)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(held)
        os.close(high)
    assert told["open"] == [0, 1, 2, high] and told["files"] == [high + 1, before[1]]
    assert waited.process.returncode == -signal.SIGTERM


# Interrupted between the opening of a pipe's file and its first name, Python closes it and warns.
@pytest.mark.filterwarnings("ignore:unclosed file <_io.FileIO:ResourceWarning")
def test_interrupted_at_any_moment_it_leaves_nothing(start: Start, program: Path) -> None:
    """A signal while a child is started, a little later each time."""
    assert output(start("fork", "draw"))

    def interrupt(number: int, frame: Any) -> None:
        while frame is not None:
            if frame.f_code is forking.fork.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    before, interrupted = signal.signal(signal.SIGALRM, interrupt), 0
    opened = len(os.listdir("/proc/self/fd"))
    others = {one.pid for one in psutil.Process().children()}  # of other tests: a bridge's, say
    gc.disable()  # an error in a callback of the collector's is nobody's: it only warns
    try:
        for moment in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + moment * 0.0001)
                child = fork(program, "wait")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            else:
                child.kill()
                child.wait(LIMIT_S)
                assert child.stdout is not None
                child.stdout.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert forking._server is not None and interrupted
    mine = [one for one in psutil.Process().children() if one.pid not in others
            and "program" in " ".join(line_of(one))]  # fmt: skip
    assert not mine, [(one.pid, one.status(), line_of(one)) for one in mine]
    assert len(os.listdir("/proc/self/fd")) == opened
    assert output(start("fork", "draw"))


def line_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.ZombieProcess:
        return ["program, a zombie"]


def test_a_stopped_preloaded_process_is_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert output(start("fork", "draw"))
    assert forking._server is not None
    stopped = forking._server.process
    os.kill(stopped.pid, signal.SIGSTOP)
    monkeypatch.setattr(forking, "LIMIT_S", 0.2)
    monkeypatch.setattr(forking, "_there", with_limit(forking._there, monkeypatch))
    assert output(start("fork", "draw"))
    assert stopped.returncode == -signal.SIGKILL


def with_limit(there: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """The second that is asked may take as long as it takes on a busy machine."""
    asked = []

    def limited() -> Any:
        asked.append(1)
        if len(asked) > 1:
            monkeypatch.setattr(forking, "LIMIT_S", 20.0)
        return there()

    return limited


def test_modules_of_pythonpath_are_found(start: Start, tmp_path: Path, monkeypatch: Any) -> None:
    """Also where it is set later: another preloaded process is then made."""
    assert output(start("fork", "draw"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "only_there.py").write_text("")
    assert forking._server is not None
    before = forking._server.process.pid
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "there"))
    child = children.start(
        "program",
        children.python("program", "module"),
        environment={"PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "there")])},
        stdout=subprocess.PIPE,
        method="fork",
    )
    assert output(child) == f"{tmp_path}/there/only_there.py\n"
    assert child.process.stdout is not None
    child.process.stdout.close()
    assert forking._server is not None and forking._server.process.pid != before


CLOSED = """
import json, os, subprocess
from pathlib import Path
from workloads.processes import children, forking
children.PROGRAMS = ("program",)
forking._there()
child = children.start("program", children.python("program", "tell"), stdout=subprocess.PIPE,
                       search_path=[{here!r}], method="fork")
told = json.loads(child.process.stdout.read())
child.process.wait(60)
Path({here!r}, "told").write_text(json.dumps([told["open"], child.process.returncode]))
"""


@pytest.mark.parametrize("closed", [(2,), (0, 1), (0, 1, 2)])
def test_closed_standard_streams_are_none_of_the_childs(
    program: Path, closed: tuple[int, ...]
) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    argv = [sys.executable, "-c", CLOSED.format(here=str(program))]
    subprocess.run(argv, cwd=ROOT, preexec_fn=close, timeout=LIMIT_S, check=True)
    assert json.loads((program / "told").read_text()) == [[0, 1, 2], 7]


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


def test_one_that_is_killed_while_it_starts_is_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed() -> Any:
        server = there()
        if not seen:
            seen.append(server)
            server.process.kill()
        return server

    seen: list[Any] = []
    forking._end()
    there = forking._there
    monkeypatch.setattr(forking, "_there", killed)
    assert output(start("fork", "draw"))
    assert seen[0].process.returncode == -signal.SIGKILL


def test_a_child_that_nobody_learned_of_ends_by_itself(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(socket.socket):
        def recv(self, *how: int) -> bytes:
            found.append(int(super().recv(*how)))
            raise KeyboardInterrupt

    def channel() -> tuple[socket.socket, socket.socket]:
        ours, theirs = one_more()
        return Interrupted(fileno=ours.detach()), theirs

    found: list[int] = []
    one_more = forking.channel
    forking._there()
    assert forking._server is not None
    forking._server.await_ready()
    monkeypatch.setattr(forking, "channel", channel)
    with pytest.raises(KeyboardInterrupt):
        children.start(
            "program",
            children.python("program", "wait"),
            search_path=[str(program)],
            method="fork",
        )
    assert ForkedProcess(found[0]).wait(LIMIT_S) == 3


LOADING = """
import os, sys
from workloads.processes.preloaded import EngineLoaded, no_engine_loaded, preload
preload()
no_engine_loaded()
from workloads.engines import find_engine
for name in sys.argv[1:]:
    if os.fork() == 0:
        find_engine(name).identity()
        try:
            no_engine_loaded()
        except EngineLoaded as error:
            print(name, error, flush=True)
        os._exit(0)
    os.wait()
"""


def test_nothing_is_forked_where_an_engine_is_loaded() -> None:
    """In processes of their own, because an engine is loaded in each."""
    engines = [find_engine(name) for name in engine_names() if "faulty" not in name]
    # A server's client has no library that reads databases.
    readers = [one for one in engines if one.file_format != "none" and not hasattr(one, "serve")]
    names = [one.name for one in readers if not one.missing()]
    assert len(names) > 2
    argv = [sys.executable, "-c", LOADING, *names]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    told = done.stdout.splitlines()
    assert [line.split()[0] for line in told] == names, done.stderr
    assert all("is loaded in the process that forks workers" in line for line in told), told


def test_what_the_preloaded_process_answers_is_the_reason(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(orders: Any, data: Any, numbers: Any) -> Any:
        return os.write(numbers[1], b"0 EngineLoaded: x is loaded")

    monkeypatch.setattr(socket, "send_fds", refused)
    with pytest.raises(NotForked, match=r"\(EngineLoaded: x is loaded\).*--start exec"):
        children.start("program", children.python("program", "draw"), method="fork")


def test_a_killed_parent_leaves_neither_its_children_nor_what_forks_them(program: Path) -> None:
    """The parent is a forked child itself, with a preloaded process of its own."""
    child = fork(program, "parent", conducts=True)
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


def test_a_status_that_somebody_else_took_is_no_success(start: Start) -> None:
    child = start("fork", "draw")
    os.waitpid(child.process.pid, 0)
    assert child.process.wait(LIMIT_S) == child.process.poll() == LOST != 0


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
