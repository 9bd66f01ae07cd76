"""A run's write-ahead log, watched from outside as a file: how large it grew, how often it began
again.

A checkpoint that has copied the whole log back lets the next writer start it again from its
beginning. Each time the first salt of the file's header grows by one, so that a look now and then
counts every restart (SQLite's file format, "The WAL File Format"). Only the header is read, and
no database is opened: whoever holds locks of SQLite on a file must not open it a second time.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = struct.Struct(">8I")
MAGIC = 0x377F0682
"""The first number of a log's header; one more where checksums are big-endian."""

MOST_STEPS = 1 << 20
"""Between two looks. A greater step is no count: after TRUNCATE a connection that never restarted
the log before draws the salt anew."""


@dataclass
class WalWatch:
    """The state of one database's log, from outside; `look` at it every now and then.

    bytes_max : the greatest size of the file; it keeps its size when the log begins again.
    restarts  : how often it began again since `begin`. exact : False where it may be more often.
    seen      : a log of SQLite's format was there; without one nothing can be said.
    """

    path: Path
    bytes_max: int = 0
    restarts: int = 0
    exact: bool = True
    seen: bool = False
    salt: int | None = field(default=None, repr=False)

    def begin(self) -> None:
        """Count from now on."""
        self.look()
        self.restarts, self.exact = 0, True

    def look(self) -> None:
        """Read the file's size and header. Never blocks, and never an error."""
        with contextlib.suppress(OSError):
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(file)
                if stat.S_ISREG(status.st_mode):
                    self._seen(status.st_size, os.pread(file, HEADER.size, 0))
            finally:
                os.close(file)

    def _seen(self, size: int, header: bytes) -> None:
        self.bytes_max = max(self.bytes_max, size)
        salt = first_salt(header)
        if salt is None:
            return
        self.seen = True
        if self.salt is not None and salt != self.salt:
            steps = (salt - self.salt) % (1 << 32)
            self.exact &= steps <= MOST_STEPS
            self.restarts += steps if steps <= MOST_STEPS else 1
        self.salt = salt

    def data(self) -> dict[str, Any] | None:
        """For the manifest; None where no log was seen."""
        if not self.seen:
            return None
        return {"bytes_max": self.bytes_max, "restarts": self.restarts, "exact": self.exact}


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
