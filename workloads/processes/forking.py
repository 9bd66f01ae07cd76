"""Forking: children are forked from a preloaded process, which this one starts when it needs it.

`workloads.processes.preloaded` is that process. Here it is started, given orders, and ended with
this process. Where there is no such fork (it is Linux's), children are started by exec.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Literal

import msgspec

from workloads.errors import PlanError, RunFailed, shortened
from workloads.files import ROOT
from workloads.processes.handles import ForkedProcess

StartMethod = Literal["fork", "exec"]

VARIABLE = "CWKIT_START"
"""Environment variable with the start method of processes where no plan says it."""

PRELOADED = "workloads.processes.preloaded"

ORDERS = "CWKIT_ORDERS"
"""Environment variable that tells the preloaded process its socket and its parent's id. They are no
arguments: the title of a child in `ps` needs the room of its arguments, and may not be shorter."""

PROGRAMS = (
    "workloads.runs.worker",
    "workloads.experiments.cell",
    "workloads.schedules.stepper",
    "workloads.engines.probing",
)
"""Modules whose `main` is the program of a child. None of them imports an engine's library."""

LIMIT_S = 60.0
"""For the preloaded process to start, and then to fork: a busy machine takes seconds for it."""

MOST_FDS = 250
"""The kernel sends 253 at once."""

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_prctl: Any = getattr(ctypes.CDLL(None), "prctl", None)
_LIMITS = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]


class NotForked(RunFailed):
    """The preloaded process did not give a child. The sentence says why, and the way out."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"A process could not be forked from the preloaded one ({why}). Start processes by "
            f"exec instead: --start exec, or {VARIABLE}=exec in the environment."
        )


class Order(msgspec.Struct, frozen=True):
    """A child that is wanted: its program and what it gets of its parent, beside its descriptors.

    Descriptors come with it in this order: its working folder, its standard streams, and those of
    `inherit`, which it knows by these numbers. group : its process group, 0 for one of its own.
    conducts : it has children of its own, which are forked from a copy of the preloaded process.
    """

    module: str
    words: tuple[str, ...]
    environment: dict[str, str]
    search_path: tuple[str, ...]
    parent: int
    group: int
    inherit: tuple[int, ...]
    cpus: tuple[int, ...]
    nice: int
    umask: int
    limits: dict[int, tuple[int, int]]
    conducts: bool


def start_method() -> StartMethod:
    """How processes start where no plan says it: by fork, where that is possible and not unwished.

    Raises PlanError for a variable that says something else.
    """
    wished = os.environ.get(VARIABLE, "")
    if wished not in ("", "fork", "exec"):
        raise PlanError(f"The environment has {VARIABLE}={shortened(wished)}: give fork or exec.")
    return "exec" if wished == "exec" or not can_fork() else "fork"


def can_fork() -> bool:
    """Whether this system has what it takes: subreapers, and descriptors of processes."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


# --- the preloaded process of this one --------------------------------------------------------


class _Server:
    """Our end of the preloaded process."""

    def __init__(self, orders: socket.socket, process: Any) -> None:
        self.orders, self.process = orders, process

    def close(self) -> None:
        """Have it end, which it does at the end of its orders, and reap it."""
        self.orders.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)


_server: _Server | None = None
_lock = threading.Lock()


def channel() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def warm() -> None:
    """Start the preloaded process now, where this process will need it in a moment."""
    if start_method() == "fork":
        with _lock:
            _there()


def _there() -> _Server:
    if _server is not None and _server.process.poll() is not None:
        _end()
    if _server is None:
        ours, theirs = channel()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", PRELOADED],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=dict(os.environ)
                | LIMITS
                | {"PYTHONPATH": str(ROOT), ORDERS: f"{theirs.fileno()} {os.getpid()}"},
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        _keep(_Server(ours, process))
    assert _server is not None
    return _server


def adopt(orders: socket.socket, pid: int) -> None:
    """Take a preloaded process that is there already: of a child that was forked from one."""
    _keep(_Server(orders, ForkedProcess(pid)))


def _keep(server: _Server) -> None:
    global _server
    _server = server
    atexit.unregister(_end)
    atexit.register(_end)


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Have children become ours whose parent, the one between, ends meanwhile.

    Only meanwhile: the orphans of a child that is killed are none of ours, and nobody here would
    wait for them.
    """
    was = ctypes.c_int()
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


def _end() -> None:
    global _server
    server, _server = _server, None
    if server is not None:
        server.close()


def _forget() -> None:
    """In a fork of this process: the preloaded one is not its own."""
    global _server, _lock
    _lock = threading.Lock()
    if _server is not None:
        _server.orders.close()
        _server = None


os.register_at_fork(after_in_child=_forget)

LIMITS = {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""No child multiplies matrices or uses a plugin of pydantic: both would only cost its start."""


# --- orders -----------------------------------------------------------------------------------


def fork(
    module: str,
    words: Sequence[str],
    *,
    environment: Mapping[str, str],
    search_path: Sequence[str],
    stdin: int | IO[bytes] | None,
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
    inherit: Sequence[int],
    within: str | os.PathLike[str] | None,
    own_group: bool,
    conducts: bool,
) -> ForkedProcess:
    """Have the preloaded process fork a child of ours, which runs the `main` of a module.

    Streams are as of subprocess.Popen. Raises NotForked, OSError.
    """
    order = Order(
        module=module,
        words=tuple(words),
        environment=dict(environment),
        search_path=tuple(search_path),
        parent=os.getpid(),
        group=0 if own_group else os.getpgrp(),
        inherit=tuple(inherit),
        cpus=tuple(os.sched_getaffinity(0)),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        umask=_umask(),
        limits={kind: resource.getrlimit(kind) for kind in _LIMITS},
        conducts=conducts,
    )
    with contextlib.ExitStack() as stack:
        payload = os.memfd_create("order")
        stack.callback(os.close, payload)
        os.write(payload, msgspec.msgpack.encode(order))
        place = os.open(within or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, place)
        in_ours, in_theirs = _stream(stdin, 0, stack)
        out_ours, out_theirs = _stream(stdout, 1, stack)
        _, err_theirs = _stream(stderr, 2, stack)
        numbers = [place, in_theirs, out_theirs, err_theirs, *inherit]
        pid, answer = _ordered(payload, numbers, stack)
        process = ForkedProcess(
            pid,
            os.fdopen(in_ours, "wb", buffering=0) if in_ours is not None else None,
            os.fdopen(out_ours, "rb", buffering=0) if out_ours is not None else None,
        )
        answer.send(b"!")
        return process


def _ordered(
    payload: int, numbers: Sequence[int], stack: contextlib.ExitStack
) -> tuple[int, socket.socket]:
    """Order a child: its number, and the socket at which it waits to be told to go on."""
    if len(numbers) > MOST_FDS:
        raise NotForked(f"{len(numbers)} open files are more than can be handed on")
    with _lock, _adopting():
        for _ in range(2):
            ours, theirs = channel()
            stack.enter_context(ours)
            server = _there()
            # A child that was forked has this socket open. Where it ends without an answer, no
            # child was forked: the preloaded process was killed, say, and another is made.
            with contextlib.suppress(ConnectionError):
                with theirs:
                    socket.send_fds(server.orders, [b"?"], [payload, theirs.fileno(), *numbers])
                if pid := _pid(ours):
                    return pid, ours
            server.process.kill()
            server.process.wait(5)
    raise NotForked("it ended as soon as it was started")


def _pid(answer: socket.socket) -> int:
    """The number of the child, 0 where whoever should have forked it is gone."""
    answer.settimeout(LIMIT_S)
    try:
        text = answer.recv(1 << 16).decode()
    except TimeoutError:
        raise NotForked(f"no answer within {LIMIT_S:g} s") from None
    if text and not text.isdigit():
        raise NotForked(text)
    return int(text or 0)


def _stream(
    what: int | IO[bytes] | None, own: int, stack: contextlib.ExitStack
) -> tuple[int | None, int]:
    """(our end of a pipe, or None; the descriptor that the child gets)."""
    if what is None:
        what = own
    if what == subprocess.PIPE:
        reading, writing = os.pipe()
        ours, theirs = (writing, reading) if own == 0 else (reading, writing)
        stack.callback(os.close, theirs)
        return ours, theirs
    if what == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, null)
        return None, null
    number = what if isinstance(what, int) else what.fileno()
    try:
        os.fstat(number)
    except OSError:  # ours is closed
        return _stream(subprocess.DEVNULL, own, stack)
    return None, number


def _umask() -> int:
    """Read from the kernel, because the call that tells it sets it for all threads."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
