"""Standard output and standard error, on which nobody's text acts as a control sequence.

Whatever is printed without `Terminal` goes through here: `print`, the command line's own
complaints, a library's warnings.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from workloads.files import visible

_silent = False
"""Whether --quiet was typed."""


def be_quiet() -> None:
    """--quiet: no progress from now to the end of the command."""
    global _silent
    _silent = True


def is_quiet() -> bool:
    """Whether this command tells results and errors alone."""
    return _silent


class _Guarded:
    """A stream that shows control characters as text. Its line ends are ours."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # what rich writes to, styles and all

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click tells a stream of bytes by trying
            raise TypeError(f"text is written here, not {type(text).__name__}")
        with _read_or_dropped(self.rich_proxied_file):
            self.rich_proxied_file.write(visible(text, keep="\n"))
        return len(text)

    def flush(self) -> None:
        with _read_or_dropped(self.rich_proxied_file):
            self.rich_proxied_file.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        for one in lines:
            self.write(one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextlib.contextmanager
def _read_or_dropped(stream: TextIO) -> Iterator[None]:
    """A reader that stops (`| head`) changes neither a command's result nor its status."""
    try:
        yield
    except BrokenPipeError:
        let_go(stream)


def let_go(stream: TextIO) -> None:
    """Drop everything that is buffered for a stream that takes no more, and all that follows.

    Python would try again when it ends, complain, and end with a status of its own.
    """
    with contextlib.suppress(OSError, ValueError):  # no file at all: a test's
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and standard error against whatever is printed meanwhile."""
    global _silent
    _silent = False  # of a command before this one, in the same process
    before = sys.stdout, sys.stderr
    for stream in before:
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # where a terminal has not our letters
    sys.stdout, sys.stderr = (_Guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
