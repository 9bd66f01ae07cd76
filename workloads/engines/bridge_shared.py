"""One program that carries all sessions of a process, for an engine that locks its file to one.

Its requests name their session. Sessions are asked from several threads, so several requests may be
open at once, and a thread of its own reads the answers, in whatever order they come. Where the
program breaks off, each of its sessions does, with the same sentence.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import threading
import time
from typing import Any, NoReturn

from workloads.engines.bridge_messages import Answer, NoAnswer, parsed, request
from workloads.engines.bridge_program import LAST_WORDS_S, BridgeFailed, Broke, Program

ENDED_S = 10.0
"""How long a program that was killed may take to be gone."""


class SharedProgram(Program):
    """A program for several sessions. It ends with this process, or by `close`.

    Made, read and reaped in its own thread: the kernel ends it with the thread that started it, and
    any other one may end before the last session does.
    """

    def __init__(self, *of: Any) -> None:
        self._lock, self._over = threading.Lock(), threading.Event()
        self._waiting: dict[int, queue.SimpleQueue[Answer | None]] = {}
        self._how, self._sessions = "", 0
        born: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(of, born), daemon=True)
        self._thread.start()
        if (error := born.get()) is not None:
            raise error

    def session(self) -> int:
        """The number of a new session."""
        with self._lock:
            self._sessions += 1
            return self._sessions

    def ask(self, do: str, limit_s: float, doing: str, **more: Any) -> Answer:
        box: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        with self._lock:
            if self._how or self.why:
                self._gone()
            self._number += 1
            self._waiting[self._number] = box
            line, deadline = request(self._number, do, **more), time.monotonic() + limit_s
            late = not self._sent(line, deadline)
        with contextlib.suppress(queue.Empty):
            wait_s = LAST_WORDS_S if late else limit_s  # where it died, the reader says so
            if (found := box.get(timeout=wait_s)) is not None:
                return found
        if self._over.is_set() or self._how:
            self._gone()
        what = f"gave no answer within {limit_s:g} s"
        if late and time.monotonic() < deadline:
            what = "closed its standard input"
        return self.failed(f"{what} when it was asked to {doing}, and was ended")

    def failed(self, how: str) -> NoReturn:
        self._how = self._how or how
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._gone()

    def close(self) -> None:
        if not self.why:
            self._how = self._how or "was ended: its sessions are closed"
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            if not self._over.wait(self.limits.end_s):
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._over.wait(ENDED_S)

    def disown(self) -> None:
        super().disown()
        self._over.set()

    def _gone(self) -> NoReturn:
        self._over.wait(ENDED_S)
        raise BridgeFailed(self.why or f"{self.name} {self._how}.")

    def _sent(self, line: bytes, deadline: float) -> bool:
        """Whether the program has taken the whole request in time."""
        left = memoryview(line)
        while left and time.monotonic() < deadline and not self._over.is_set():
            try:
                left = left[os.write(self._in, left) :]
            except BlockingIOError:
                time.sleep(0.001)  # the reader empties its output meanwhile
            except OSError:
                return False  # the reader sees its end
        return not left

    # -- in its own thread ----------------------------------------------------------------------

    def _serve(self, of: Any, born: queue.SimpleQueue[BaseException | None]) -> None:
        try:
            super().__init__(*of)
        except BaseException as error:
            born.put(error)
            return
        born.put(None)
        how = ""
        try:
            while True:
                self._deliver(self._line(math.inf))
        except (Broke, NoAnswer) as error:
            how = str(error)
        except BaseException as error:
            how = f"could not be read: {type(error).__name__}: {error}"
        try:
            self._fail(self._how or how)
        except BridgeFailed:
            self._over.set()
            for box in list(self._waiting.values()):
                box.put(None)

    def _deliver(self, line: bytes) -> None:
        found = parsed(line)
        box = self._waiting.pop(found.id, None)
        if box is None:
            raise NoAnswer(f"answered request {found.id}, which nobody waits for")
        box.put(found)
