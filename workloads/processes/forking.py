"""Forking: children are forked from a preloaded process, which this one starts when it needs it.

`workloads.processes.preloaded` is that process. Here it is started, given orders, and ended with
this process. Where there is no such fork (it is Linux's), children are started by exec.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal

import msgspec

from workloads.errors import PlanError, RunFailed, shortened
from workloads.files import ROOT
from workloads.processes.handles import ForkedProcess, Process

StartMethod = Literal["fork", "exec"]

VARIABLE = "CWKIT_START"
"""Environment variable with the start method of processes where no plan says it."""

PRELOADED = "workloads.processes.preloaded"

ORDERS = "CWKIT_ORDERS"
"""Environment variable that tells the preloaded process its socket and its parent's id. They are no
arguments: the title of a child in `ps` needs the room of its arguments, and may not be shorter."""

PROGRAMS = (
    "workloads.runs.worker",
    "workloads.runs.after_crash",
    "workloads.experiments.cell",
    "workloads.schedules.stepper",
    "workloads.schedules.playing",
    "workloads.engines.probing",
)
"""Modules whose `main` is the program of a child. None of them imports an engine's library."""

START_LIMIT_S, LIMIT_S = 60.0, 20.0
"""For the preloaded process to start, and for it to fork: a busy machine takes seconds for it."""

MOST_FDS = 250
"""The kernel sends 253 at once."""

READY = b"ready"
GO = b"!"

LIMITS = {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""No child multiplies matrices or uses a plugin of pydantic: both would only cost its start."""

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_prctl: Any = getattr(ctypes.CDLL(None), "prctl", None)
_RESOURCES = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)
"""Signals that a child ignores where we do, as it would after exec."""


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
    `inherit`, which it knows by these numbers. Texts are bytes, as the system has them.
    group : its process group, 0 for one of its own. masked, ignored : numbers of signals.
    conducts : it has children of its own, which are forked from a copy of the preloaded process.
    """

    module: str
    argv: tuple[bytes, ...]
    environment: dict[bytes, bytes]
    search_path: tuple[bytes, ...]
    parent: int
    group: int
    inherit: tuple[int, ...]
    cpus: tuple[int, ...]
    nice: int
    umask: int
    limits: dict[int, tuple[int, int]]
    masked: tuple[int, ...]
    ignored: tuple[int, ...]
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
    """Our end of the preloaded process. key : what it must have been started with to serve us."""

    def __init__(self, orders: socket.socket, process: Process, key: Any, *, ready: bool) -> None:
        self.orders, self.process, self.key, self.ready = orders, process, key, ready

    def await_ready(self) -> None:
        """Wait until it has imported everything. Raises NotForked with what it says instead, and
        ConnectionError where it is gone.
        """
        if self.ready:
            return
        self.orders.settimeout(START_LIMIT_S)
        try:
            text = self.orders.recv(1 << 16)
        except TimeoutError:
            raise NotForked(f"it did not start within {START_LIMIT_S:g} s") from None
        if not text:
            raise ConnectionResetError  # it was killed, say
        if text != READY:
            raise NotForked(text.decode("utf-8", "replace").partition(" ")[2])
        self.ready = True

    def end(self) -> None:
        """End and reap it. Between two orders it has nothing to lose."""
        self.orders.close()
        self.process.kill()
        self.process.wait(5)


_server: _Server | None = None
_lock = threading.Lock()


def channel() -> tuple[socket.socket, socket.socket]:
    """Two ends of a pair of sockets that keep messages apart."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:  # their numbers may be those of standard streams that are closed
        return tuple(socket.socket(fileno=_above(end.fileno())) for end in (one, other))  # type: ignore[return-value]


def _above(number: int) -> int:
    """A copy of a descriptor that is none of the standard streams'."""
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)


def _key() -> Any:
    """What a preloaded process cannot change for a child: another is started where we did."""
    who = os.getresuid(), os.getresgid(), tuple(os.getgroups())
    return *who, os.getsid(0), os.environ.get("PYTHONPATH")


def _there() -> _Server:
    if _server is not None and (_server.process.poll() is not None or _server.key != _key()):
        _end()
    if _server is None:
        ours, theirs = channel()
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", PRELOADED],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if _is_open(2) else subprocess.DEVNULL,
                env=dict(os.environ)
                | LIMITS
                | {
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    ORDERS: f"{theirs.fileno()} {os.getpid()}",
                },
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        _keep(_Server(ours, process, _key(), ready=False))
    assert _server is not None
    return _server


def adopt(orders: socket.socket, pid: int) -> None:
    """Take a preloaded process that is there already: of a child that was forked from one."""
    _keep(_Server(orders, ForkedProcess(pid), _key(), ready=True))


def _keep(server: _Server) -> None:
    global _server
    _server = server
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    global _server
    server, _server = _server, None
    if server is not None:
        server.end()


def _forget() -> None:
    """In a fork of this process: the preloaded one is not its own."""
    global _server, _lock
    _lock = threading.Lock()
    if _server is not None:
        _server.orders.close()
        _server = None


os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Have children become ours whose parent, the one between, ends meanwhile.

    Only meanwhile: the orphans of a child that is killed are none of ours, and nobody here would
    wait for them.
    """
    was = ctypes.c_int()
    try:
        _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


# --- orders -----------------------------------------------------------------------------------


def fork(
    module: str,
    argv: Sequence[str],
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

    Streams are as of subprocess.Popen. Raises NotForked, OSError, and ValueError for a NUL.
    """
    order = msgspec.msgpack.encode(
        Order(
            module=module,
            argv=tuple(map(_as_bytes, argv)),
            environment={_as_bytes(k): _as_bytes(v) for k, v in environment.items()},
            search_path=tuple(map(_as_bytes, search_path)),
            parent=os.getpid(),
            group=0 if own_group else os.getpgrp(),
            inherit=tuple(inherit),
            cpus=tuple(os.sched_getaffinity(0)),
            nice=os.getpriority(os.PRIO_PROCESS, 0),
            umask=_umask(),
            limits={kind: resource.getrlimit(kind) for kind in _RESOURCES},
            masked=tuple(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            ignored=tuple(n for n in HANDED_ON if signal.getsignal(n) is signal.SIG_IGN),
            conducts=conducts,
        )
    )
    if len(inherit) > MOST_FDS - 6:
        raise NotForked(f"{len(inherit)} open files are more than can be handed on")
    streams = [(own, what, _is_open(own)) for own, what in enumerate((stdin, stdout, stderr))]
    made: list[ForkedProcess] = []

    def act() -> None:
        with contextlib.ExitStack() as stack:
            payload = _file_of(order, stack)
            place = _above_of(os.open(within or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, place)
            pipes: dict[int, IO[bytes]] = {}
            theirs = [_stream(own, what, is_open, pipes, stack) for own, what, is_open in streams]
            # Closed unless the child is there, to which they then belong.
            unless_there = stack.enter_context(contextlib.ExitStack())
            for pipe in pipes.values():
                unless_there.callback(pipe.close)
            _order([payload, place, *theirs, *inherit], made)
            made[0].stdin, made[0].stdout = pipes.get(0), pipes.get(1)
            unless_there.pop_all()

    try:
        # All of it, for a signal between a descriptor's opening and its first name would lose it.
        _uninterrupted(act)
        return made[0]
    except BaseException:  # interrupted: nobody would know of it
        for process in made:
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                pipe.close()
        raise


def _uninterrupted(act: Callable[[], None]) -> None:
    """Act in a thread of its own, and return when that has ended, however often interrupted.

    Ctrl-C and the handlers of other signals come between in the main thread alone. Raises what the
    act raised, or what came meanwhile.
    """
    failure: list[BaseException] = []
    guard, done = threading.Lock(), threading.Lock()
    begun = called_off = ended = False
    done.acquire()

    def acted() -> None:
        nonlocal begun, ended
        try:
            with guard:
                begun = not called_off
            if begun:
                with _lock:
                    act()
        except BaseException as error:
            failure.append(error)
        finally:
            ended = True
            done.release()

    try:
        # No Thread, no Event: interrupted in theirs, they keep a lock that the other side needs.
        _thread.start_new_thread(acted, ())
        done.acquire()
        if failure:
            raise failure[0]
    except BaseException:
        with guard:
            called_off = not begun  # the thread may not even have been started
        while begun and not ended:
            with contextlib.suppress(KeyboardInterrupt):
                done.acquire()
        raise
    finally:
        failure.clear()  # else the error and its own traceback hold each other


def _as_bytes(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("embedded null byte")
    return os.fsencode(text)


def _order(numbers: Sequence[int], made: list[ForkedProcess]) -> None:
    """Order a child, put it in `made`, and let it go on. numbers : the order's descriptors."""
    why = ""
    for _ in range(2):
        server = _there()
        try:
            server.await_ready()
            with _adopting():
                _await_child(server, numbers, made)
            return
        except (ConnectionError, TimeoutError) as error:
            # It was killed, say, or stopped. No child was forked, or it ends by itself.
            why = f"no answer within {LIMIT_S:g} s" if isinstance(error, TimeoutError) else ""
            _end()
        except NotForked:
            if not server.ready:
                _end()
            raise
    raise NotForked(why or "it ended as soon as it was started, twice")


def _await_child(server: _Server, numbers: Sequence[int], made: list[ForkedProcess]) -> None:
    ours, theirs = channel()
    with ours, theirs:
        ours.settimeout(LIMIT_S)
        socket.send_fds(server.orders, [b"?"], [numbers[0], theirs.fileno(), *numbers[1:]])
        theirs.close()
        # A child has this socket open, too. Where it ends without an answer there is no child.
        text = ours.recv(1 << 16)
        if not text:
            raise ConnectionResetError
        number, _, why = text.decode("utf-8", "replace").partition(" ")
        if why:
            if number != "0":
                ForkedProcess(int(number)).wait(LIMIT_S)  # it has given up
            raise NotForked(why)
        made.append(ForkedProcess(int(number)))
        with contextlib.suppress(ConnectionError):  # it was killed: its status says so
            ours.send(GO)


def _file_of(data: bytes, stack: contextlib.ExitStack) -> int:
    """A descriptor of a file in memory that holds this."""
    number = _above_of(os.memfd_create("order"))
    stack.callback(os.close, number)
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]
    return number


def _above_of(number: int) -> int:
    """The descriptor itself, or in its place one that is none of the standard streams'."""
    if number > 2:
        return number
    above = _above(number)
    os.close(number)
    return above


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _stream(
    own: int,
    what: int | IO[bytes] | None,
    is_open: bool,
    pipes: dict[int, IO[bytes]],
    stack: contextlib.ExitStack,
) -> int:
    """The descriptor that the child gets as its stream `own`. Our end of a pipe is put in `pipes`.

    is_open : whether our own stream of that number is open.
    """
    if what is None:
        what = own if is_open else subprocess.DEVNULL
    if what == subprocess.PIPE:
        reading, writing = map(_above_of, os.pipe())
        ours, theirs = (writing, reading) if own == 0 else (reading, writing)
        stack.callback(os.close, theirs)
        pipes[own] = os.fdopen(ours, "wb" if own == 0 else "rb", buffering=0)
        return theirs
    if what == subprocess.DEVNULL:
        null = _above_of(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        stack.callback(os.close, null)
        return null
    return what if isinstance(what, int) else what.fileno()


def _umask() -> int:
    """Read from the kernel, because the call that tells it sets it for all threads."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
