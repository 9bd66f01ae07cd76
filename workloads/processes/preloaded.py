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
import fcntl
import gc
import importlib
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
import traceback
from collections.abc import Sequence
from typing import Any

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
    """Import what children need: their programs, and the scenarios, which load no engine."""
    for name in modules:
        importlib.import_module(name)
    for entry in importlib.import_module("workloads.scenarios.scenario").REGISTRY.values():
        importlib.import_module(entry.partition(":")[0])
    gc.collect()
    gc.freeze()  # else the collector would write to, and so copy, every page in every child


_looked_at: set[str] = set()


def no_engine_loaded() -> None:
    """Raise EngineLoaded where a module or a library in this process reads databases itself."""
    if "_sqlite3" in sys.modules:
        raise EngineLoaded("the module sqlite3 is loaded in the process that forks workers")
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in file if "/" in line}
    interpreter = os.path.realpath(sys.executable)
    for path in mapped - _looked_at:
        if path == interpreter or "libpython" in path or not _reads_databases(path):
            _looked_at.add(path)
        else:
            raise EngineLoaded(f"{path} is loaded in the process that forks workers")


def _reads_databases(path: str) -> bool:
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(MAGIC) >= 0
    except (OSError, ValueError):  # gone meanwhile, or empty: shared memory
        return False


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
        order = _fork(numbers, orders)
        if order is not None:
            return order
    return None


def _fork(numbers: list[int], orders: socket.socket) -> Order | None:
    """None in this process, the order in the child. numbers : of the descriptors that came."""
    answer = socket.socket(fileno=numbers[1])
    try:
        no_engine_loaded()
        if (between := os.fork()) == 0:
            if _forked_again(answer):
                return _received(numbers, answer, orders)
            os._exit(0)
        os.waitpid(between, 0)
    except (OSError, EngineLoaded) as error:
        _say(answer, error)
    answer.close()
    for number in (numbers[0], *numbers[2:]):
        os.close(number)
    return None


def _forked_again(answer: socket.socket) -> bool:
    """In the one between: fork the child. True in the child, once this one has ended."""
    between = os.getpid()
    try:
        if os.fork():
            return False
    except OSError as error:
        _say(answer, error)
        return False
    while os.getppid() == between:
        time.sleep(0.0001)
    return True


def _say(answer: socket.socket, error: Exception) -> None:
    with contextlib.suppress(OSError):
        answer.send(f"{type(error).__name__}: {error}".encode())


def _received(numbers: list[int], answer: socket.socket, orders: socket.socket) -> Order:
    """In the child: say who we are, and wait to be told that we are wanted."""
    orders.close()
    with os.fdopen(numbers[0], "rb") as file:
        file.seek(0)
        order = msgspec.msgpack.decode(file.read(), type=Order)
    if os.getppid() != order.parent:  # it is gone
        os._exit(3)
    try:
        answer.send(str(os.getpid()).encode())
        wanted = answer.recv(1) == b"!"
    except OSError:
        wanted = False
    if not wanted:  # it was interrupted before it knew of us, or has ended
        os._exit(3)
    answer.close()
    _take(order, numbers[2:])
    return order


def _take(order: Order, numbers: list[int]) -> None:
    """Become the process that was ordered: what `exec` would have given it, and what was asked."""
    wanted = (0, 1, 2, *order.inherit)
    floor = max(3, *wanted, *numbers) + 1
    above = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, floor) for number in numbers]
    for number in numbers:
        os.close(number)
    os.fchdir(above[0])
    os.close(above[0])
    for number, at in zip(above[1:], wanted, strict=True):
        os.dup2(number, at, inheritable=True)
        os.close(number)
    with contextlib.suppress(PermissionError):  # a terminal's session other than ours
        os.setpgid(0, order.group)
    os.sched_setaffinity(0, order.cpus)
    os.umask(order.umask)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, order.nice)
    for kind, limits in order.limits.items():
        with contextlib.suppress(OSError, ValueError):
            if resource.getrlimit(kind) != limits:
                resource.setrlimit(kind, limits)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    sys.path[:] = [*order.search_path, *_own_path]
    tempfile.tempdir = None
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    atexit._clear()
    setproctitle(" ".join([sys.executable, "-P", "-m", order.module, *order.words]))
    setthreadtitle(f"cwkit {order.module.rpartition('.')[2]}")


_own_path: list[str] = []


def run(order: Order) -> int:
    """The ordered program, as a process of its own runs it: its status, a traceback where it has
    none.
    """
    status: Any = 1
    try:
        program = importlib.import_module(order.module)
        sys.argv[:] = [str(program.__file__), *order.words]
        status = program.main(list(order.words))
    except SystemExit as error:
        status = error.code
        if status is not None and not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        traceback.print_exc()
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    return int(status or 0)


def main() -> int:
    """Serve until the parent's end of the socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    setproctitle(getproctitle())  # it has to find the place before the environment is changed
    number, parent = map(int, os.environ.pop(forking.ORDERS).split())
    orders = socket.socket(fileno=number)
    orders.set_inheritable(False)
    _own_path[:] = [path for path in sys.path if path not in os.environ["PYTHONPATH"].split(":")]
    preload()
    while (order := serve(orders, parent)) is not None:
        # From here on we are a child.
        if order.conducts:
            ours, theirs = forking.channel()
            parent = os.getpid()
            if (pid := os.fork()) == 0:
                orders = theirs
                _alone(ours, theirs)
                continue
            theirs.close()
            forking.adopt(ours, pid)
        os._exit(run(order))
    return 0


def _alone(ours: socket.socket, theirs: socket.socket) -> None:
    """The fork that serves a child which has children itself: it keeps nothing of that one open."""
    ours.close()
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
