"""The log of every change to a folder's files, read: what before_libc.c appended, in order.

A log is data from elsewhere as well. One that was cut, or whose records make no sense, is a
LogError with the place; nothing in it is taken for a path outside the folder.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from workloads.errors import RunError
from workloads.processes import CALLS, FAULT_MAGIC

OPEN, WRITE, SYNC, TRUNCATE, RENAME, UNLINK, CLOSE, NOTE, MAPPED = range(1, 10)
BEGUN, CREATED, INJECTED, LIED = 1, 2, 4, 8
"""Flags of a record: a sync that has begun, a file that was made, a fault, a sync that was none."""

NAMES = ("", "open", "write", "sync", "truncate", "rename", "unlink", "close", "note", "mapped")
HEAD = Struct("<IIQqIIHHiQqqII")
MOST_BYTES = 1 << 34
"""Of a log: more has not been recorded by us, and would not be judged within a day."""


class LogError(RunError):
    """A log that cannot be used: where, and why."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record. number : its place in the log, from 1. at_ns : of the monotonic clock.

    call, flags : as above. file : the file's inode. offset, result : of the call; the new length of
    a truncation is its offset. data : what was written, or the text of a note.
    """

    number: int
    at_ns: int
    pid: int
    worker: int | None
    call: int
    flags: int
    error: int
    file: int
    offset: int
    result: int
    name: str
    start: int
    length: int
    data: memoryview = field(repr=False, compare=False)

    @property
    def what(self) -> str:
        """The name of the call: open, write, sync, truncate, rename, unlink, note, mapped."""
        return NAMES[self.call]

    @property
    def begun(self) -> bool:
        """Whether it is the first of the two records of a sync."""
        return bool(self.flags & BEGUN)

    @property
    def injected(self) -> bool:
        """Whether a fault made it what it is."""
        return bool(self.flags & INJECTED)

    @property
    def note(self) -> str:
        """The text of a note."""
        return bytes(self.data).decode("utf-8", "replace") if self.call == NOTE else ""

    def __str__(self) -> str:
        """As a line for people: who did what to which file."""
        who = "a process" if self.worker is None else f"worker {self.worker}"
        what = f"{NAMES[self.call]}{' begun' if self.flags & BEGUN else ''} {self.name}"
        if self.call == WRITE:
            what += f", {self.length} bytes at {self.offset}"
        elif self.call == TRUNCATE:
            what += f" to {self.offset} bytes"
        elif self.call == NOTE:
            what = bytes(self.data).decode("utf-8", "replace")
        note = " (by a fault)" if self.flags & INJECTED else ""
        return f"{self.number}: {who}: {what}{note}"


def read_changes(path: Path) -> list[Change]:
    """All records, in the order in which they were appended. Raises LogError, or OSError.

    The last one may be cut short where its process was killed in it: it is left out.
    """
    if (size := path.stat().st_size) == 0:
        return []
    if size > MOST_BYTES:
        raise LogError(f"{path}: a log of {size:,} bytes is larger than any that can be judged.")
    with path.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return list(_records(path, whole))


def _records(path: Path, whole: memoryview) -> Iterator[Change]:
    at, number = 0, 0
    while at + HEAD.size <= len(whole):
        (magic, length, _, at_ns, pid, worker, call, flags, error, file, offset, result, name,
         data) = HEAD.unpack_from(whole, at)  # fmt: skip
        if magic != FAULT_MAGIC or length != HEAD.size + name + data or not 0 < call < len(NAMES):
            raise LogError(
                f"{path}, byte {at}: this is no record of this version's fault library, or the log "
                "was damaged. Record it again with cwkit crash."
            )
        if at + length > len(whole):
            return
        number += 1
        begin = at + HEAD.size + name
        text = bytes(whole[at + HEAD.size : begin]).decode("utf-8", "surrogateescape")
        if any(part in ("..", "") for one in text.split("\n") for part in one.split("/") if one):
            raise LogError(f"{path}, byte {at}: a name that leads elsewhere. Record it again.")
        yield Change(
            number, at_ns, pid, worker - 1 if worker else None, call, flags, error, file, offset,
            result, text, begin, data, whole[begin : begin + data],
        )  # fmt: skip
        at += length


def calls_in(changes: Iterable[Change]) -> dict[str, int]:
    """How often each call was made on each file, "CALL FILE" as a fault's rule has them.

    FILE is the end of a database's name, as in `*-wal`; `*.db` for the database itself.
    """
    found: Counter[str] = Counter()
    for one in changes:
        call = NAMES[one.call]
        if call not in CALLS or (one.call == SYNC and one.flags & BEGUN):
            continue
        name = one.name.split("\n")[0].rpartition("/")[2]
        stem, dot, end = name.rpartition(".db")
        if dot and stem:
            found[f"{call} *{end or '.db'}"] += 1
    return dict(sorted(found.items()))
