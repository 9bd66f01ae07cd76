"""The preloaded process: it has imported what every child needs, and forks the children.

`python -m workloads.processes.preloaded` is started by `workloads.processes.forking` and by
nobody else. Importing numpy and ourselves costs a child 0.3 to 0.5 s of CPU time. A fork of this
process costs a few milliseconds.

It forks twice, and the one between ends at once. The process that asked is a subreaper meanwhile,
so that the child becomes its own: it waits for it, sees its status and its resource use, and the
child knows its parent, just as if that one had started it itself.

No library of an engine may be loaded here: two copies of SQLite must never meet in one process, and
locks and threads of a library do not survive a fork. That is checked before every fork.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import mmap
import os
import random
import resource
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

import msgspec
from setproctitle import getproctitle, setproctitle, setthreadtitle

from workloads.processes import forking
from workloads.processes.forking import PROGRAMS, Order

LOOK_S = 1.0
"""Between two looks whether the process that asks is still there."""

MAGIC = b"SQLite format 3\0"
"""The first bytes of a database: every library that reads one has them among its constants."""


class EngineLoaded(RuntimeError):
    """A library of an engine is in this process, so that nothing may be forked from it."""


def preload(modules: Sequence[str] = PROGRAMS) -> None:
    """Import what children need: their programs, and the scenarios, which load no engine.

    And make what is made when it is first used: each child would make it for itself.
    """
    for name in (*modules, "numpy.random"):
        importlib.import_module(name)
    importlib.import_module("workloads.records.manifest").build_all()
    for entry in importlib.import_module("workloads.scenarios.scenario").REGISTRY.values():
        importlib.import_module(entry.partition(":")[0])
    _preloaded.update(set(sys.modules) - {"sys", "builtins"})
    gc.collect()
    gc.freeze()  # else the collector would write to, and so copy, every page in every child


_preloaded: set[str] = set()
"""The names of the modules that every child is forked with."""

_looked_at: set[str] = set()


def no_engine_loaded() -> None:
    """Raise EngineLoaded where a module or a library in this process reads databases itself."""
    if "_sqlite3" in sys.modules:
        raise EngineLoaded("the module sqlite3 is loaded in the process that forks workers")
    interpreter = os.path.realpath(sys.executable)
    for path in _code() - _looked_at:
        if path == interpreter or "libpython" in path or not _reads_databases(path):
            _looked_at.add(path)
        else:
            raise EngineLoaded(f"{path} is loaded in the process that forks workers")


def _code() -> set[str]:
    """The files that code is mapped from."""
    found = set()
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, rights, *_, path = f"{line.rstrip()} ".split(" ", 5)
            if "x" in rights and path.strip().startswith("/"):
                found.add(path.strip())
    return found


def _reads_databases(path: str) -> bool:
    """True also for a file that cannot be looked into: nobody knows what it is."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(MAGIC) >= 0
    except (OSError, ValueError):
        return True


# --- serving ----------------------------------------------------------------------------------


def serve(orders: socket.socket, parent: int) -> Order | None:
    """Fork a child for each order. Returns in the child, with its order; None when it is over.

    It is over when the process that asks has closed its end, or is gone.
    """
    ready = select.poll()
    ready.register(orders, select.POLLIN)
    while os.getppid() == parent:
        if not ready.poll(LOOK_S * 1e3):
            continue
        try:
            data, numbers, _, _ = socket.recv_fds(orders, 16, forking.MOST_FDS)
        except ConnectionError:
            return None
        if not data:
            return None
        try:
            # Fewer came where we may not have so many open: it then waits for an answer in vain.
            if len(numbers) > 1 and _is_child(numbers[1]):
                return _received(numbers, orders)
        finally:
            for number in numbers:
                with contextlib.suppress(OSError):  # the child has closed its own
                    os.close(number)
    return None


def _is_child(answer: int) -> bool:
    """Fork twice. True in the child, once the one between has ended."""
    try:
        no_engine_loaded()
        between = os.fork()
    except (OSError, EngineLoaded) as error:
        _say(answer, error)
        return False
    if between:
        os.waitpid(between, 0)
        return False
    between = os.getpid()
    try:
        if os.fork():
            os._exit(0)
    except OSError as error:
        _say(answer, error)
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.0001)
    return True


def _say(answer: int, error: BaseException, child: int = 0) -> None:
    """Answer an order with the reason why there is no child. child : one that is there and ends."""
    with contextlib.suppress(OSError):
        text = f"{child} {type(error).__name__}: {error}"
        os.write(answer, text.encode(errors="replace"))


def _received(numbers: list[int], orders: socket.socket) -> Order:
    """In the child: become what was ordered, say who we are, and wait to be told to go on."""
    try:
        orders.close()
        os.lseek(numbers[0], 0, os.SEEK_SET)
        with open(numbers[0], "rb", closefd=False) as file:
            order = msgspec.msgpack.decode(file.read(), type=Order)
        if os.getppid() != order.parent:  # it is gone
            os._exit(3)
        _take_limits(order)
        wanted = (0, 1, 2, *order.inherit)
        floor = max(3, *wanted, *numbers) + 1
        above = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, floor) for number in numbers]
    except BaseException as error:
        _gave_up(numbers[1], error)
    for number in numbers:
        os.close(number)
    numbers.clear()
    payload, answer, place, *streams = above
    try:
        os.close(payload)
        os.fchdir(place)
        os.close(place)
        for number, at in zip(streams, wanted, strict=True):
            os.dup2(number, at, inheritable=True)
            os.close(number)
        _take(order)
        os.write(answer, str(os.getpid()).encode())
        _wait_for_go(answer, order.parent)
        os.close(answer)
        # The limit of open files came last: more were open until now.
        resource.setrlimit(resource.RLIMIT_NOFILE, order.limits[resource.RLIMIT_NOFILE])
        signal.pthread_sigmask(signal.SIG_SETMASK, order.masked)
    except BaseException as error:
        _gave_up(answer, error)
    return order


def _gave_up(answer: int, error: BaseException) -> NoReturn:
    _say(answer, error, os.getpid())
    os._exit(3)


def _wait_for_go(answer: int, parent: int) -> None:
    """Until it is known that somebody knows of us; we end where nobody does."""
    with socket.socket(fileno=os.dup(answer)) as told:
        told.settimeout(LOOK_S)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                if told.recv(1) == forking.GO:
                    return
                break
    os._exit(3)


def _take_limits(order: Order) -> None:
    most = max(
        order.limits[resource.RLIMIT_NOFILE][1], resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    )
    limits = {**order.limits, resource.RLIMIT_NOFILE: (most, most)}
    for kind, wanted in limits.items():
        if resource.getrlimit(kind) != wanted:
            resource.setrlimit(kind, wanted)


def _take(order: Order) -> None:
    """Get what `exec` would have given us, and what was asked for."""
    os.setpgid(0, order.group)
    os.sched_setaffinity(0, order.cpus)
    os.umask(order.umask)
    if order.nice != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, order.nice)
    os.environ.clear()
    os.environb.update(order.environment)
    time.tzset()
    sys.path[:] = [*map(os.fsdecode, order.search_path), *_own_path]
    tempfile.tempdir = None
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    for number in forking.HANDED_ON:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in order.ignored else default)
    _take_streams()
    title = [sys.executable, "-P", "-m", order.module, *map(os.fsdecode, order.argv)]
    setproctitle(os.fsencode(" ".join(title)).decode(errors="replace"))
    setthreadtitle(f"cwkit {order.module.rpartition('.')[2]}")


def _take_streams() -> None:
    """Make Python's streams anew, as they suit what the child has: a terminal, say, or none."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
        buffered = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
        before = getattr(sys, name)
        stream = io.TextIOWrapper(
            buffered,
            encoding=before.encoding if before else "utf-8",
            errors=before.errors if before else "backslashreplace",
            line_buffering=not unbuffered and (number == 2 or os.isatty(number)),
            write_through=unbuffered,
        )
        setattr(sys, name, stream)


_own_path: list[str] = []


def _end_without_what_was_preloaded() -> None:
    """What Python does at its end for a child's own things, and not for what it was forked with.

    Threads and functions of atexit come first, as after any program. Then Python takes apart every
    module that it knows: it would write to, and so copy, each page of the preloaded ones, which is
    most of the CPU time of a child that does little.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    spared = [sys.modules.pop(name) for name in _preloaded if name in sys.modules]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(spared))  # they are there to the last moment


def main() -> int:
    """Serve until the parent's end of the socket is closed. In a child: its program's status."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    setproctitle(getproctitle())  # it has to find the place before the environment is changed
    number, parent = map(int, os.environ.pop(forking.ORDERS).split())
    orders = socket.socket(fileno=number)
    orders.set_inheritable(False)
    _own_path[:] = [path for path in sys.path if path not in os.environ["PYTHONPATH"].split(":")]
    os.chdir("/")  # no file system is kept busy
    try:
        preload()
        no_engine_loaded()
    except BaseException as error:
        _say(orders.fileno(), error)
        raise
    orders.send(forking.READY)
    while (order := serve(orders, parent)) is not None:
        # From here on we are a child.
        if order.conducts:
            ours, theirs = forking.channel()
            parent = os.getpid()
            if (pid := os.fork()) == 0:
                orders = theirs
                _serve_alone(ours, theirs)
                continue
            theirs.close()
            forking.adopt(ours, pid)
        program = importlib.import_module(order.module)
        sys.argv[:] = [str(program.__file__), *map(os.fsdecode, order.argv)]
        status: int = program.main(sys.argv[1:])
        _end_without_what_was_preloaded()
        return status
    orders.close()
    return 0


def _serve_alone(ours: socket.socket, theirs: socket.socket) -> None:
    """The fork that serves a child which has children itself: it keeps nothing of that one open."""
    ours.close()
    os.setpgid(0, 0)
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != theirs.fileno():
            with contextlib.suppress(OSError):
                os.close(int(name))
    setproctitle(f"{sys.executable} -P -m {forking.PRELOADED}")
    setthreadtitle("cwkit preloaded")


if __name__ == "__main__":
    sys.exit(main())
