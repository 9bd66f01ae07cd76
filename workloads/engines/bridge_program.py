"""A user's program that carries an engine's session: started, asked with limits, and ended.

Each request is one line to its standard input, each answer one line of its standard output. What
it writes to its standard error is read beside that and kept, its beginning and its end, for the
sentence about its death. A program that breaks off, hangs or breaks the protocol is ended, and
every later use of its session raises the same sentence.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from workloads.engines.bridge_messages import Answer, NoAnswer, answer, request
from workloads.processes import SUFFIX, describe_status, gist, start

MOST_LINE_BYTES = 64 << 20
"""The longest answer: beyond it nobody waits for the end of the line."""

KEPT_BYTES = 16_384
"""Bytes kept of the beginning of its standard error, and as many of the end."""

PIECE = 1 << 16
LAST_WORDS_S = 1.0
"""How long its last words are waited for where a child of its own keeps the pipe open."""


class BridgeFailed(Exception):
    """The program broke off, hung, or broke the protocol: a sentence with its name and its last
    words. Nobody knows what became of the transaction that was open.
    """


class BridgeLimits(NamedTuple):
    """Seconds: for the handshake, for each answer besides the busy timeout, and for its end."""

    start_s: float = 20.0
    answer_s: float = 15.0
    end_s: float = 2.0


class _Kept:
    """The beginning and the end of a text, whatever its length."""

    def __init__(self) -> None:
        self.head, self.tail, self.left_out = bytearray(), bytearray(), 0

    def add(self, more: bytes) -> None:
        room = KEPT_BYTES - len(self.head)
        self.head += more[:room]
        self.tail += more[max(room, 0) :]
        if (beyond := len(self.tail) - KEPT_BYTES) > 0:
            del self.tail[:beyond]
            self.left_out += beyond

    def text(self) -> str:
        between = f"\n[cwkit: {self.left_out:,} bytes are left out here]\n" if self.left_out else ""
        return self.head.decode(errors="replace") + between + self.tail.decode(errors="replace")


class _Late(Exception):
    """No answer in time."""


class Broke(Exception):
    """The program ended, or floods: how."""


class Program:
    """A program that runs. name : for people. Raises BridgeFailed where it cannot be started.

    It ends with the thread that started it, and at the end of its standard input.
    """

    def __init__(
        self, name: str, command: Sequence[str], within: Path, limits: BridgeLimits
    ) -> None:
        self.name, self.limits = name, limits
        self.why = ""  # the sentence about its end
        self._number = 0
        self._read, self._said = bytearray(), _Kept()
        err, theirs = os.pipe()
        try:
            with open(theirs, "wb") as words:
                process: Any = start(
                    name, command, last_words=words, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, within=within, foreign=True,
                ).process  # fmt: skip
        except OSError as error:
            os.close(err)
            why = f"{name} cannot be started: {error.strerror}: {error.filename or command[0]}."
            raise BridgeFailed(why) from None
        self._process = process
        self._words = open(err, "rb", buffering=0)  # noqa: SIM115 (open as long as it runs)
        self._in, self._out, self._err = process.stdin.fileno(), process.stdout.fileno(), err
        self._poll = select.poll()
        self._listened = {self._out, self._err}
        for descriptor in self._listened:
            self._poll.register(descriptor, select.POLLIN)
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        _running.add(self)

    def ask(self, do: str, limit_s: float, doing: str, **more: Any) -> Answer:
        """The answer to a request. doing : what it is asked to do, for people.

        Raises BridgeFailed, now and at each later request, where there is none.
        """
        if self.why:
            raise BridgeFailed(self.why)
        self._number += 1
        line = request(self._number, do, **more)
        deadline = time.monotonic() + limit_s
        try:
            self._write(line, deadline)
            return answer(self._line(deadline), self._number)
        except _Late:
            self._fail(f"gave no answer within {limit_s:g} s when it was asked to {doing}, and was "
                       "ended")  # fmt: skip
        except (NoAnswer, Broke) as error:
            self._fail(f"{error} when it was asked to {doing}")
        except BaseException:  # Ctrl-C, say: the next answer would be the one to this request
            self.why = f"{self.name} was given up while it was asked to {doing}."
            self._end(at_once=True)
            raise

    def failed(self, how: str) -> NoReturn:
        """End it for an answer that it may not give. Raises BridgeFailed."""
        self._fail(how)

    def _write(self, line: bytes, deadline: float) -> None:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._in, left) :]
            except BlockingIOError:
                # A program that writes before it has read: both would wait for each other.
                self._poll.register(self._in, select.POLLOUT)
                try:
                    self._take(deadline)
                finally:
                    self._poll.unregister(self._in)
            except BrokenPipeError:
                raise Broke(self._how_it_went("input")) from None

    def _line(self, deadline: float) -> bytes:
        read, at = self._read, 0
        while (end := read.find(b"\n", at)) < 0:
            at = len(read)
            self._take(deadline)
        line = bytes(read[: end + 1])
        del read[: end + 1]
        return line

    def _take(self, deadline: float) -> None:
        """Wait until there is something to read, or room to write, and read it."""
        left_s = deadline - time.monotonic()
        limit_ms = None if left_s == math.inf else left_s * 1000
        ready = self._poll.poll(limit_ms) if left_s > 0 else []
        if not ready:
            raise _Late
        for descriptor, _ in ready:
            if descriptor == self._in:
                continue
            more = self._piece(descriptor)
            if descriptor == self._err:
                self._said.add(more or b"")
            elif more == b"":
                raise Broke(self._how_it_went("output"))
            else:
                self._read += more or b""
                if len(self._read) > MOST_LINE_BYTES:
                    raise Broke(f"wrote {len(self._read):,} bytes that are no line of an answer")

    def _piece(self, descriptor: int) -> bytes | None:
        """What can be read now, b"" at the end, after which nobody listens to it."""
        try:
            more = os.read(descriptor, PIECE)
        except BlockingIOError:
            return None
        if not more:
            self._listened.discard(descriptor)
            self._poll.unregister(descriptor)
        return more

    # -- its end ------------------------------------------------------------------------------

    def close(self) -> None:
        """End it: its standard input ends, and after a moment it is made to."""
        if not self.why:
            self.why = f"{self.name} was ended: its session is closed."
            self._end()

    def _how_it_went(self, which: str) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_S)
        code = self._process.poll()
        if code is None:
            return f"closed its standard {which}"
        return f"died with {describe_status(code)}"

    def _fail(self, how: str) -> NoReturn:
        """End it, and raise the sentence. how : goes on from its name."""
        self._end(at_once=True)
        words = _last_words(self._said.text()).rstrip(".")
        last = f"Its last words: {words}." if words else "It wrote nothing to its standard error"
        if not words:
            out = gist(self._read[:PIECE].decode(errors="replace"))
            last += f", and to its standard output: {out}." if out else "."
        self.why = f"{self.name} {how}. {last}"
        raise BridgeFailed(self.why)

    def _end(self, *, at_once: bool = False) -> None:
        _running.discard(self)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        deadline = time.monotonic() + (0 if at_once else self.limits.end_s)
        while self._process.poll() is None and time.monotonic() < deadline:
            self._drain(0.02)
        # Also its children, where it has some: it leads a group of its own.
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._drain(LAST_WORDS_S)
        self._process.stdout.close()
        self._words.close()
        _leave_words(self.name, self._said.text())

    def _drain(self, limit_s: float) -> None:
        """Read what is there of both outputs: what it answers now nobody waits for."""
        deadline = time.monotonic() + limit_s
        while self._listened and (left_s := deadline - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll(left_s * 1000):
                more = self._piece(descriptor)
                if descriptor == self._err:
                    self._said.add(more or b"")
                elif len(self._read) < PIECE:
                    self._read += more or b""
        if not self._listened and self._process.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(deadline - time.monotonic(), 0))

    def disown(self) -> None:
        """In a forked copy of this process: the program is the other's."""
        self.why = f"{self.name} belongs to the process that this one was forked from."
        for pipe in (self._process.stdin, self._process.stdout, self._words):
            with contextlib.suppress(OSError):
                pipe.close()


_running: weakref.WeakSet[Program] = weakref.WeakSet()


def _after_fork() -> None:
    for program in list(_running):
        program.disown()
    _running.clear()


os.register_at_fork(after_in_child=_after_fork)


ERROR = re.compile(r"(?:\w*(?:Error|Exception)|panic|fatal|thread '.*' panicked)\b.*")
"""A line that says why a program ended, at its beginning. Around it are the places in its code."""


def _last_words(text: str) -> str:
    """The line by which it says why it ended, else the gist of its last lines."""
    found = [line for line in map(str.strip, text.splitlines()) if ERROR.match(line)]
    return gist(found[-1] if found else text)


def _leave_words(name: str, text: str) -> None:
    """Put its words into our own file of last words, where standard error is one."""
    if not text:
        return
    with contextlib.suppress(OSError):
        if os.readlink("/proc/self/fd/2").endswith(SUFFIX):
            end = "" if text.endswith("\n") else "\n"
            os.write(2, f"[{name}]\n{text}{end}".encode(errors="replace"))
