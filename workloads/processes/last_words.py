"""Last words: the standard error of a process, kept because an engine's panic is the finding.

Each process of a run writes to a file of its own in the run's folder, so that the text is there
whoever is killed. A very long text keeps its beginning and its end: a panic says first what
happened and last where.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from workloads.errors import RunError
from workloads.files import inside, opened, replacing

KEPT_BYTES = 32_768
"""Bytes kept of the beginning, and as many of the end."""

MOST_BYTES = 2 * KEPT_BYTES + 1_000
"""The longest text that is kept: the beginning, the end, and a note of what is left out."""

SUFFIX = ".stderr"
LINES, LINE_CHARS = 6, 400
TRACEBACK = "Traceback (most recent call last):"


def path_of(folder: Path, who: str) -> Path:
    """Where "load", "check" or "worker-003" writes: a process is named by its first worker."""
    return Path(folder) / f"{who}{SUFFIX}"


def read_last_words(path: Path) -> str:
    """The text; "" where there is none. A long one is its two ends with a line that says so."""
    try:
        with opened(path) as file:
            return read_open(file)
    except (OSError, RunError):
        return ""


def read_open(file: IO[bytes]) -> str:
    """The same for a file that is open."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if size <= MOST_BYTES:
        return file.read(MOST_BYTES).decode(errors="replace")
    head = file.read(KEPT_BYTES)
    file.seek(size - KEPT_BYTES)
    tail = file.read(KEPT_BYTES)
    left = f"\n[cwkit: {size - 2 * KEPT_BYTES:,} bytes are left out here]\n"
    return head.decode(errors="replace") + left + tail.decode(errors="replace")


def keep(path: Path) -> None:
    """Shorten the file of an ended process to the text of `read_last_words`; remove an empty one.

    It stays as it is where the disk has no room for that.
    """
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size == 0:
            path.unlink()
        elif size > MOST_BYTES:
            text = read_last_words(path)
            with replacing(path) as file:
                file.write(text.encode())


def all_of(folder: Path, workers: int) -> Iterator[tuple[str, str]]:
    """(whose, text) of each process of a run that wrote something, in the order of its steps."""
    for who in ("load", *(f"worker-{worker:03d}" for worker in range(workers)), "relay", "check"):
        with contextlib.suppress(RunError):  # a link that leads out of the folder
            if text := read_last_words(inside(folder, path_of(folder, who).name)).strip("\n"):
                yield who, text


def gist(text: str) -> str:
    r"""The text in short: the last line of a Python traceback, else the last lines.

    >>> gist("thread 'main' panicked at a.rs:3:5:\nnot ok\n")
    "thread 'main' panicked at a.rs:3:5: / not ok"
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    short = " / ".join(lines[-1:] if TRACEBACK in lines else lines[-LINES:])
    half = LINE_CHARS // 2
    return short if len(short) <= LINE_CHARS else f"{short[:half]} … {short[-half:]}"


__all__ = [
    "KEPT_BYTES",
    "SUFFIX",
    "all_of",
    "gist",
    "keep",
    "path_of",
    "read_last_words",
    "read_open",
]
