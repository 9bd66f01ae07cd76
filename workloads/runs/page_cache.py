"""The kernel's page cache of a database file: how much of it is in memory, and how to drop that.

Whether the data of a run come from the disk or from memory is a condition of it. A file system may
keep them where they are, whatever it is asked (tmpfs keeps them nowhere else). So the pages are
looked at afterwards, without touching them, and the manifest says what was found.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import stat
from pathlib import Path

RESIDENT_LIMIT = 0.05
"""A run was cold where at most this share of its database was in memory when it began."""


def drop(folder: Path, pattern: str) -> float | None:
    """Have the kernel drop the files in `folder` that are called by `pattern` from memory.

    They must be on the disk already (fsync): what is not is not dropped. Returns the share of their
    pages that is in memory all the same; None where the system does not tell.
    """
    there = pages = 0
    for path in sorted(folder.glob(pattern)):
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if stat.S_ISREG(os.fstat(file).st_mode):
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                    found = resident(file)
                    there, pages = there + found[0], pages + found[1]
            finally:
                os.close(file)
    return there / pages if pages else None


def resident(file: int) -> tuple[int, int]:
    """Pages of an open file that are in memory, and all its pages; (0, 0) where the system does
    not tell. No page is read for it: a look by reading would have the kernel read ahead.
    """
    size = os.fstat(file).st_size
    pages = -(-size // mmap.PAGESIZE)
    if not pages or (mincore := getattr(ctypes.CDLL(None), "mincore", None)) is None:
        return 0, 0
    seen = (ctypes.c_ubyte * pages)()
    with mmap.mmap(file, size) as mapped:
        place = ctypes.c_char.from_buffer(mapped)
        status = mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(size), seen)
        del place  # or the map cannot be closed
    return (sum(byte & 1 for byte in seen), pages) if status == 0 else (0, 0)
