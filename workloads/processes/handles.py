"""A process that was started, whichever way: asked whether it has ended, waited for, ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, Protocol

LOOK_S, SLEEP_S = 1.0, 0.01

LOST = 255
"""The exit status of a process whose own is not known. It may have failed: that is no success."""


class Process(Protocol):
    """The part of `subprocess.Popen` that both kinds have. returncode : None until it is known."""

    pid: int
    returncode: int | None

    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class ForkedProcess:
    """A child of this process that another one forked for it. Its methods are those of Popen.

    stdin, stdout : our ends of its pipes, None where it has none.
    """

    def __init__(
        self, pid: int, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        self._lock = threading.Lock()  # between a look that reaps it and a signal to its number

    def poll(self) -> int | None:
        """Its status where it has ended, and it is reaped; None where it goes on."""
        with self._lock:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else has waited for it, and knows
                    self.returncode = LOST
                    return LOST
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status when it has ended. Raises subprocess.TimeoutExpired after `timeout` s."""
        status = self.waited(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def waited(self, limit_s: float | None) -> int | None:
        """Its status when it has ended, None where it goes on after `limit_s`."""
        until = None if limit_s is None else time.monotonic() + limit_s
        with contextlib.ExitStack() as stack:
            ended = None
            while (status := self.poll()) is None:
                if ended is None:
                    ended = self._ended(stack)
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return None
                ended(LOOK_S if left is None else min(left, LOOK_S))
        return status

    def _ended(self, stack: contextlib.ExitStack) -> Callable[[float], object]:
        """What waits for its end, for a time in s at most."""
        try:
            number = os.pidfd_open(self.pid)
        except OSError:  # no descriptor is to be had, or it has been reaped by somebody else
            return lambda limit_s: time.sleep(min(limit_s, SLEEP_S))
        stack.callback(os.close, number)
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return lambda limit_s: poll.poll(max(limit_s * 1e3, 1))

    def send_signal(self, sig: int) -> None:
        self.poll()
        with self._lock:
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
