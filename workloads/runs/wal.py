"""A run's write-ahead log, watched from outside as a file: how large it grew, how often it began
again, and how far it was copied back.

A checkpoint that has copied the whole log back lets the next writer start it again from its
beginning. Each time the first salt of the file's header grows by one, so that a look now and then
counts every restart (SQLite's file format, "The WAL File Format"). How many pages the log holds,
and how many of them are copied back, stands in its index, the file -shm ("WAL-mode File Format"):
so checkpoints that a commit makes on its own are seen, too. Only headers are read, and no database
is opened: whoever holds locks of SQLite on a file must not open it a second time.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workloads.records import MOST_LOOKS, WAL_LOOK

HEADER = struct.Struct(">8I")
MAGIC = 0x377F0682
"""The first number of a log's header; one more where checksums are big-endian."""

MOST_STEPS = 1 << 20
"""Between two looks. A greater step is no count: after TRUNCATE a connection that never restarted
the log before draws the salt anew."""


INDEX = struct.Struct("=3I2BH2I24s")
"""A copy of the index's header: version, unused, change, initialised, checksum's byte order, page
size, frames, pages, and so on; 48 bytes. There are two of them, in the machine's byte order."""

INDEX_VERSION = 3007000
COPIED = struct.Struct("=I")
"""Behind both: the frames that checkpoints have copied back."""

LOOK_NS = 20_000_000
"""Between two looks that are kept, ns; more in long runs."""


@dataclass
class WalWatch:
    """The state of one database's log, from outside; `look` at it every now and then.

    bytes_max : the greatest size of the file; it keeps its size when the log begins again.
    restarts  : how often it began again since `begin`. exact : False where it may be more often.
    seen      : a log of SQLite's format was there; without one nothing can be said.
    looks     : rows of WAL_LOOK, one every `every_ns`; MOST_LOOKS at most.
    """

    path: Path
    bytes_max: int = 0
    restarts: int = 0
    exact: bool = True
    seen: bool = False
    salt: int | None = field(default=None, repr=False)
    looks: list[tuple[int, int, int, int, int]] = field(default_factory=list, repr=False)
    every_ns: int = LOOK_NS
    began: int = field(default=0, repr=False)

    def begin(self) -> None:
        """Count from now on."""
        self.look()
        self.restarts, self.exact = 0, True

    def look(self, now_ns: int | None = None) -> None:
        """Read the file's size and header. Never blocks, and never an error.

        now_ns : the time, where the look is to be kept.
        """
        size, header = _beginning(self.path, HEADER.size)
        if header:
            self._seen(size, header)
        last = self.looks[-1][0] if self.looks else 0
        if now_ns is not None and self.seen and now_ns - last >= self.every_ns // 2:
            frames, copied = told_by_index(_beginning(Path(f"{self.path}"[:-3] + "shm"), 100)[1])
            self.looks.append((now_ns, size, self.began, frames, copied))
            if len(self.looks) > MOST_LOOKS:
                del self.looks[::2]
                self.every_ns *= 2

    def track(self) -> np.ndarray:
        """The looks that were kept, WAL_LOOK array."""
        return np.array(self.looks, WAL_LOOK)

    def _seen(self, size: int, header: bytes) -> None:
        self.bytes_max = max(self.bytes_max, size)
        salt = first_salt(header)
        if salt is None:
            return
        self.seen = True
        if self.salt is not None and salt != self.salt:
            steps = (salt - self.salt) % (1 << 32)
            self.exact &= steps <= MOST_STEPS
            steps = steps if steps <= MOST_STEPS else 1
            self.restarts += steps
            self.began += steps
        self.salt = salt

    def data(self) -> dict[str, Any] | None:
        """For the manifest; None where no log was seen."""
        if not self.seen:
            return None
        return {"bytes_max": self.bytes_max, "restarts": self.restarts, "exact": self.exact}


def _beginning(path: Path, many: int) -> tuple[int, bytes]:
    """The size of a file and its first bytes; 0 and none where there is no such file."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode):
                return status.st_size, os.pread(file, many, 0)
        finally:
            os.close(file)
    return 0, b""


def told_by_index(data: bytes) -> tuple[int, int]:
    """Frames of the log, and those of them that were copied back; -1 for both where the index's
    header was just being written, or is none.

    >>> told_by_index(bytes(100)), told_by_index(b"")
    ((-1, -1), (-1, -1))
    """
    one, two = data[: INDEX.size], data[INDEX.size : 2 * INDEX.size]
    if len(data) < 2 * INDEX.size + COPIED.size or one != two:
        return -1, -1
    version, _, _, _, _, _, frames, _, _ = INDEX.unpack(one)
    copied: int = COPIED.unpack_from(data, 2 * INDEX.size)[0]
    if version != INDEX_VERSION or not copied <= frames < 1 << 31:
        return -1, -1
    return int(frames), copied


def first_salt(header: bytes) -> int | None:
    """The first salt of a log's header; None where it is none, or was just being written.

    >>> first_salt(bytes(32)) is first_salt(b"") is None
    True
    """
    if len(header) < HEADER.size:
        return None
    magic, _, _, _, salt, _, *sums = HEADER.unpack(header)
    if magic not in (MAGIC, MAGIC + 1):
        return None
    numbers = struct.unpack("<6I" if magic == MAGIC else ">6I", header[:24])
    one = two = 0
    for first, second in zip(numbers[::2], numbers[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return int(salt) if sums == [one, two] else None
