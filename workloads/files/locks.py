"""Locks on a folder. They end with the last process that holds them, however it ends.

One file, a byte for each thing that can be held. The locks belong to the open file and not to the
process (Linux's F_OFD_SETLK), so a child that inherits the file holds them as well: a killed
parent's cell stays locked until its last worker is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from workloads.errors import FolderUnwritable, RunError

LOCK_FILE = ".lock"
POLL_S = 0.05


class Held(Exception):
    """Somebody else held the lock for the whole time that the caller wanted to wait."""


@contextlib.contextmanager
def locked(folder: Path, at: int = 0, *, wait_s: float = 0.0) -> Iterator[int]:
    """Hold byte `at` of a folder's lock; gives the file's number, for children to inherit.

    wait_s : how long to wait for another holder, s.
    Raises Held where another has it; FolderUnwritable where the folder can't be written or its file
    system has no locks.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(Path(folder) / LOCK_FILE, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FolderUnwritable(
                f"{folder}: its {LOCK_FILE} is a symbolic link, and ours is a file. Remove it."
            ) from error
        raise FolderUnwritable(
            f"{folder}: cannot be written ({error.strerror}). Give another folder with --runs."
        ) from error
    try:
        until = time.monotonic() + wait_s
        while not _take(folder, file, at):
            if time.monotonic() >= until:
                raise Held
            time.sleep(POLL_S)
        yield file
    finally:
        os.close(file)  # and with it our hold, but not that of a child that inherited it


@contextlib.contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Work on a folder as the only process. what : what is in it, a soak say.

    Raises RunError where another works on it, and FolderUnwritable.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except Held:
            raise RunError(
                f"{folder}: another process goes on with this {what}. Wait for it."
            ) from None
        yield


def _take(folder: Path, file: int, at: int) -> bool:
    # struct flock: type, whence, start, length, pid (0, or the kernel refuses it)
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise FolderUnwritable(
            f"{folder}: cannot be locked ({error.strerror}). Give a folder on another file system."
        ) from error
    return True
