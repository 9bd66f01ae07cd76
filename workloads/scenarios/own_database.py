"""A copy of the user's own database, which is read and never touched.

A database that somebody has open in WAL mode is copied by SQLite's online backup in one read
transaction, with what its log holds. One that nobody has open is copied as files: a reader would
leave a log and its index beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workloads.errors import PlanError
from workloads.files import resolved, visible

MAGIC = b"SQLite format 3\0"
WAL_FORMAT = 2
WAIT_S = 10.0
ATTEMPTS = 3


class NotCopied(Exception):
    """A database that cannot be copied: a sentence."""


def why_unusable(path: str) -> str:
    """Why a file is no database of SQLite's, as the end of a sentence; "" where it is one."""
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            return "is a pipe or a device and no file"  # to open it might wait without end
        with Path(path).open("rb") as file:
            head = file.read(len(MAGIC))
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if not head:
        return "is empty"
    return "" if head == MAGIC else "is no database of SQLite's format"


def usable(path: str) -> str:
    """The path, absolute. Raises PlanError where there is no database."""
    if why := why_unusable(path):
        raise PlanError(f"--from {visible(path)}: it {why}. Give a file that SQLite opens.")
    return str(Path(path).absolute())


def copy(source: Path, target: Path) -> None:
    """Copy a database with its log, and have the copy checked. Raises NotCopied."""
    import sqlite3  # here: the process that forks workers is to have no engine's library

    source = resolved(source)  # the log lies beside the file, and not beside a link to it
    try:
        if not _as_files(source, target):
            _by_backup(source, target)
        _settle(source, target)
    except sqlite3.Error as error:
        raise NotCopied(
            f"{source}: cannot be copied ({error}). {_way_out(source, str(error))}"
        ) from error
    except OSError as error:
        raise NotCopied(f"{error.filename or source}: {error.strerror}.") from error


def _way_out(source: Path, said: str) -> str:
    """What to do about an error of SQLite's, as a sentence."""
    if "locked" in said:
        return "Somebody has it locked: try again when it is free, or copy it otherwise."
    if "readonly" in said and _beside(source, "-journal").exists():
        return (
            f"A transaction was cut short, and {source.name}-journal has what undoes it: open it "
            "once with your application, which does that, or copy both files and open the copy."
        )
    return "It is damaged, or copy it otherwise."


def _beside(path: Path, tail: str) -> Path:
    return path.with_name(path.name + tail)


def _as_files(source: Path, target: Path) -> bool:
    """Copy a database in WAL mode that nobody has open. False for another, or where it changed."""
    for _ in range(ATTEMPTS):
        if not _is_at_rest(source):
            return False
        before = _seen(source)
        shutil.copyfile(source, target)
        if _beside(source, "-wal").exists():
            shutil.copyfile(_beside(source, "-wal"), _beside(target, "-wal"))
        if _is_at_rest(source) and _seen(source) == before:
            return True
        for tail in ("", "-wal"):
            _beside(target, tail).unlink(missing_ok=True)
    return False


def _is_at_rest(source: Path) -> bool:
    """Whether it is in WAL mode and has no index of its log: whoever has it open has one."""
    with source.open("rb") as file:
        head = file.read(20)
    return head[18:19] == bytes([WAL_FORMAT]) and not _beside(source, "-shm").exists()


def _seen(source: Path) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for tail in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(_beside(source, tail))
            found.append((status.st_size, status.st_mtime_ns))
    return found


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[Any]:
    import sqlite3

    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_S)
    try:
        yield connection
    finally:
        connection.close()


def _by_backup(source: Path, target: Path) -> None:
    with _opened(source, "ro") as read, _opened(target, "rwc") as written:
        # With a snapshot of its own the backup waits for nobody: asked to, it would wait for ever.
        read.execute("BEGIN")
        read.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        read.backup(written)


def _settle(source: Path, target: Path) -> None:
    """Have the copy whole in one file, in the journal mode that every engine opens, and sound."""
    with _opened(target, "rw") as written:
        written.execute("PRAGMA journal_mode = delete").fetchall()
        found = [row[0] for row in written.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise NotCopied(
            f"{source}: its copy is damaged before anything ran on it ({'; '.join(found)[:300]}). "
            "Mend it first."
        )
