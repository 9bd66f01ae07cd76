"""Copies of a process that has loaded what they all need, made by the process itself.

A child from the preloaded process (forking.py) is without the library of any engine: to fork it and
to load one costs 15 to 30 ms of CPU time. Where one process after the other is killed on purpose,
the original is started once by `start`, loads its engine, opens nothing and calls `serve`; a copy
then costs 2 to 5 ms. A copy is the original's child: the original waits for it, and it ends with
the original as that ends with its parent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

from workloads.processes.children import die_with, python, start
from workloads.processes.handles import ForkedProcess

START_LIMIT_S, LIMIT_S = 60.0, 20.0
"""For the original to start and load its engine, and for it to answer: a busy machine is slow."""

GONE = OSError, EOFError
"""Raised by a pipe whose other end is not there any more."""


class OriginalGone(RuntimeError):
    """The process that makes the copies has ended, and its copies with it."""


class Original:
    """Our end of a process that makes copies of itself, started with `module` and its arguments.

    The module's `main` gets the number of a descriptor, then `argv`, and calls `serve`.
    last_words : the file with its standard error.
    """

    def __init__(
        self, module: str, argv: Sequence[str], *, last_words: Path, environment: dict[str, str]
    ) -> None:
        self._orders, theirs = Pipe()
        with theirs:
            self.process = start(
                f"original of {module}",
                python(module, str(theirs.fileno()), *argv),
                last_words=last_words,
                environment=environment,
                inherit=[theirs.fileno()],
                own_group=False,
            ).process
        self._ready = False

    def copy(self, descriptor: int, *args: Any) -> Copy:
        """A copy, which has this descriptor and these arguments. Raises OriginalGone."""
        if not self._ready:
            self._answer(START_LIMIT_S)
            self._ready = True
        try:
            self._orders.send(("copy", args))
            send_handle(self._orders, descriptor, self.process.pid)
        except GONE:
            self.end()
            raise OriginalGone from None
        return Copy(self, self._answer(LIMIT_S))

    def ask(self, *order: Any, limit_s: float = 0.0) -> Any:
        """An order and its answer, which may take `limit_s` longer. Raises OriginalGone."""
        try:
            self._orders.send(order)
        except GONE:
            self.end()
            raise OriginalGone from None
        return self._answer(LIMIT_S + limit_s)

    def _answer(self, limit_s: float) -> Any:
        with contextlib.suppress(*GONE):
            if self._orders.poll(limit_s):
                return self._orders.recv()
        self.end()
        raise OriginalGone

    def end(self) -> None:
        """End and reap it; its copies end with it."""
        self._orders.close()
        self.process.kill()
        self.process.wait(10)


class Copy:
    """A copy, with those methods of a process's handle that its owner needs."""

    def __init__(self, original: Original, pid: int) -> None:
        self._original, self.pid = original, pid
        self.returncode: int | None = None

    def wait(self, timeout: float = LIMIT_S) -> int:
        """Its status when it has ended, and it is reaped. Raises TimeoutError."""
        if self.returncode is None:
            try:
                self.returncode = self._original.ask("wait", self.pid, timeout, limit_s=timeout)
            except OriginalGone:
                self.returncode = -signal.SIGKILL
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} goes on after {timeout:g} s")
        return self.returncode

    def send_signal(self, number: int) -> None:
        # By the original, which has not waited for it: nobody else has its number.
        if self.returncode is None:
            with contextlib.suppress(OriginalGone):
                self._original.ask("signal", self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def serve(descriptor: int, program: Callable[..., None], load: Callable[[], None]) -> None:
    """Make copies of this process until the pipe ends, as it does with the parent.

    program : what a copy runs, with its descriptor and arguments; the copy ends without what Python
    does at an end, which would only take apart what the original has loaded.
    load : loads what all copies need; each does it for itself where that fails, or starts a thread,
    which no copy would have.
    """
    orders, original = Connection(descriptor), os.getpid()
    if _loads_alone(load):
        load()
    gc.freeze()  # else the collector would write to, and so copy, every page in every copy
    orders.send(True)
    while True:
        try:
            verb, *args = orders.recv()
        except EOFError:
            return
        if verb == "wait":
            orders.send(ForkedProcess(args[0]).waited(args[1]))
        elif verb == "signal":
            os.kill(*args)
            orders.send(True)
        else:
            number = recv_handle(orders)
            pid = os.fork()
            if pid == 0:
                orders.close()
                die_with(original)
                _run(program, number, *args[0])
            os.close(number)
            orders.send(pid)


def _loads_alone(load: Callable[[], None]) -> bool:
    """Whether it loads and starts no thread, tried in a copy."""
    trial = os.fork()
    if trial == 0:
        with contextlib.suppress(BaseException):
            load()
            os._exit(len(os.listdir("/proc/self/task")) - 1)
        os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


def _run(program: Callable[..., None], *args: Any) -> None:
    status = 1
    try:
        program(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
