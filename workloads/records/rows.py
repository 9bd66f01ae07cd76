"""The rows of one worker's files: what a row is, and how rows are read back, piece by piece.

A run of ten minutes has 24 million attempts, a gigabyte and a half. Whoever reads it takes pieces
in turn, and holds of each only what it counts; `Rows.whole` is for what needs all rows at once.
"""

from __future__ import annotations

import io
import os
import re
import struct
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from workloads.errors import RunError
from workloads.files import inside, opened
from workloads.records.manifest import LATEST_NS
from workloads.records.outcomes import (
    BEGIN,
    CAUSES,
    COMMIT,
    CONFLICT,
    CONFLICTS,
    OPEN,
    OUTCOMES,
    PHASES,
    STATEMENT,
    UNKNOWN,
)

OPEN_PART = struct.Struct("<qqIHBB")
CLOSE_PART = struct.Struct("<qqqqHBBBxxx")
ROW_BYTES = OPEN_PART.size + CLOSE_PART.size  # 64: one cache line
CLOSE_AT = OPEN_PART.size

ATTEMPT = np.dtype(
    [
        ("intended_ns", "<i8"),  # when the schedule wanted it (closed loop: the first start)
        ("start_ns", "<i8"),  # before BEGIN of this try; 0 in a row never used
        ("txn", "<u4"),  # number of the transaction within its worker, from 0
        ("attempt", "<u2"),  # number of this try, from 1
        ("kind", "u1"),  # index into the scenario's kinds
        ("last", "u1"),  # reserved, 0
        ("begun_ns", "<i8"),  # BEGIN returned; 0 where it did not
        ("worked_ns", "<i8"),  # the body returned; 0 where it did not
        ("end_ns", "<i8"),  # COMMIT returned, or the refusal was there (before ROLLBACK)
        ("result", "<i8"),  # what the transaction says of itself, see the scenario
        ("message", "<u2"),  # 1 + index into the worker's messages; 0 none
        ("outcome", "u1"),
        ("conflict", "u1"),  # its kind; where it failed or is unknown, the cause (CAUSES)
        ("phase", "u1"),
        ("pad", "V3"),  # of a refused statement: how long it took at most, see within_ns
    ]
)
assert ATTEMPT.itemsize == ROW_BYTES
WITHIN_AT = ROW_BYTES - 3


def packed_within(ns: int) -> bytes:
    """A time in three bytes, rounded up by at most 4 parts in a million: 0 is "not kept".

    >>> packed_within(61_234).hex(), packed_within(10**12).hex()
    ('40e61d', 'd5d4e8')
    """
    ns = min(max(ns, 1), (2**19 - 1) << 31)  # 13 days
    shift = max(ns.bit_length() - 19, 0)
    count = -(-ns >> shift)
    if count == 1 << 19:  # rounded up to a 20th bit
        count, shift = count >> 1, shift + 1
    return (count << 5 | shift).to_bytes(3, "little")


def within_ns(rows: np.ndarray) -> np.ndarray:
    """How long the call that ended each attempt took at most, ns: int64, shape (attempts,).

    BEGIN and COMMIT were timed. A statement is not timed by itself: its time runs from the end of
    BEGIN, or of the last work inside the transaction (`WorkerContext.think`), to the refusal. So it
    includes the wait for a lock, and the statements before it that went well. 0 where no call ended
    the attempt: it committed, or was never closed.
    """
    pad = np.ascontiguousarray(rows["pad"]).view("u1").reshape(-1, 3).astype(np.int64)
    packed = pad[:, 0] | pad[:, 1] << 8 | pad[:, 2] << 16
    phase = rows["phase"]
    since = np.select(
        [phase == BEGIN, phase == STATEMENT, phase == COMMIT],
        [rows["start_ns"], rows["begun_ns"], rows["worked_ns"]],
        rows["end_ns"],
    )
    # Runs made before it was kept have 0 there.
    kept = np.where((phase == STATEMENT) & (packed > 0), (packed >> 5) << (packed & 31), 0)
    found: np.ndarray = np.where(kept > 0, kept, np.maximum(rows["end_ns"] - since, 0))
    return found


SEGMENT_ROWS = 1 << 15
"""Rows of one file. A worker that needs more goes on in the next file: 2 MiB allocated ahead."""

MOST_ROWS = 1 << 21
"""The most rows of a file that is read: more than any file of ours has."""

LONGEST_HEADER = 4_000
"""Characters of a file's header, which is a Python literal; ours has 300."""

PIECE_ROWS = SEGMENT_ROWS
"""Rows that are read at once."""

SMALL_ROWS = 1 << 16
"""Rows of a worker whose pieces are kept a while (`RECENT`): 4 MiB."""


def segment_path(folder: Path, worker: int, segment: int) -> Path:
    """worker-007.npy, then worker-007.1.npy, worker-007.2.npy, ..."""
    tail = "" if segment == 0 else f".{segment}"
    return folder / f"worker-{worker:03d}{tail}.npy"


class Rows:
    """The attempts of one worker, in the order they were made: ATTEMPT array, shape (attempts,).

    A row never closed has outcome UNKNOWN. Pieces are read only.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def whole(self) -> np.ndarray:
        """All of them in memory at once."""
        return self._array

    def pieces(self, most: int = PIECE_ROWS) -> Iterator[np.ndarray]:
        """All of them in turn, at most so many at a time; one empty piece where there is none.

        They can be asked for again, and are the same then.
        """
        for at in range(0, max(len(self._array), 1), most):
            yield self._array[at : at + most]

    def transactions(self, most: int = PIECE_ROWS) -> Iterator[np.ndarray]:
        """The same in pieces that hold whole transactions: stretches of rows of one txn number.

        A piece is about so long; much longer only where one transaction is.
        """
        kept: list[np.ndarray] = []
        for piece in self.pieces(most):
            txn = piece["txn"]
            if kept and txn[0] != kept[-1]["txn"][-1]:
                yield _joined(kept)
                kept = []
            changes = np.flatnonzero(txn[1:] != txn[:-1])
            if len(changes):
                last = changes[-1] + 1
                yield _joined([*kept, piece[:last]])
                kept = []
                piece = piece[last:]
            kept.append(piece)
        yield _joined(kept)


def _joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class StoredRows(Rows):
    """The attempts of one worker, in its files.

    They are looked at once as a whole when this is made: nothing of a file that was cut or edited
    is ever counted. Of a worker that is still at work, it is those rows that were there then.
    """

    def __init__(
        self,
        folder: Path,
        worker: int,
        within_ns: tuple[int, int] | None = None,
        *,
        at_work: bool = False,
    ) -> None:
        """Look at all rows, and again where their worker may have written while they were read.

        within_ns : (first, last) of the times that a row may hold; None: of any clock of ours.
        at_work : the worker may still be writing.
        Raises RunError for a file that is cut or not ours, and for a row that no worker writes.
        """
        self.folder, self.worker = Path(folder), worker
        self._whole: weakref.ref[np.ndarray] | None = None
        within_ns = within_ns or (0, LATEST_NS)
        look = self._look(_Look(within_ns))
        if at_work or look.faults.seen(look.count):
            # A row that was read just before it was written, and a later one just after, make a
            # hole. But a worker writes a row when it is done with the one before: before a row
            # that was seen all are whole now.
            look = self._look(_Look(within_ns), look.limits())
            if at_work and look.unsound_end():
                # Its worker is in the middle of writing it: it is not there yet.
                look = self._look(_Look(within_ns), look.limits(without_end=True))
        self._take(look)
        if why := look.faults.first(self):
            raise RunError(f"{folder}: the attempts of worker {worker} were edited: {why}.")
        if self._count <= SMALL_ROWS:
            self._keep(look.small)

    def _look(self, look: _Look, limits: Sequence[int] | None = None) -> _Look:
        """Look at all files, or at so many rows of each of the first."""
        for segment in count() if limits is None else range(len(limits)):
            look.upto.append(0)
            most = MOST_ROWS if limits is None else limits[segment]
            try:
                for at, used, rows in self._read(segment, most):
                    look.add(at, used, rows)
            except FileNotFoundError:
                look.upto.pop()
                break
        if not look.upto and limits is None:
            raise RunError(
                f"{self.folder}: worker {self.worker} is in the manifest but its file "
                f"{segment_path(self.folder, self.worker, 0).name} is missing. The run has to be "
                "made again."
            )
        return look

    def _take(self, look: _Look) -> None:
        self._count, self._upto, self._end = look.count, look.upto, look.end
        ends = np.flatnonzero(self._upto)
        self._end_segment = int(ends[-1]) if len(ends) else -1

    def __len__(self) -> int:
        return self._count

    def whole(self) -> np.ndarray:
        rows = self._whole() if self._whole is not None else None
        if rows is None:
            rows = np.empty(self._count, ATTEMPT)
            at = 0
            for piece in self.pieces():
                rows[at : at + len(piece)] = piece
                at += len(piece)
            self._whole = weakref.ref(rows)
        return rows

    def pieces(self, most: int = PIECE_ROWS) -> Iterator[np.ndarray]:
        if (kept := RECENT.get(self)) is not None:
            for piece in kept:
                for at in range(0, max(len(piece), 1), most):
                    yield piece[at : at + most]
            return
        small: list[np.ndarray] = []
        seen = 0
        for segment, upto in enumerate(self._upto):
            if not upto:
                continue
            end = self._end if segment == self._end_segment else None
            try:
                for _, _, rows in self._read(segment, upto, most, end):
                    if not len(rows):
                        continue
                    seen += len(rows)
                    rows["outcome"][rows["outcome"] == OPEN] = UNKNOWN
                    rows.flags.writeable = False
                    if self._count <= SMALL_ROWS:
                        small.append(rows)
                    yield rows
            except FileNotFoundError:
                seen = -1
                break
        if seen != self._count:
            raise RunError(
                f"{self.folder}: the attempts of worker {self.worker} changed while they were "
                "read. Try it again."
            )
        if not self._count:
            yield np.zeros(0, ATTEMPT)
        elif self._count <= SMALL_ROWS:
            self._keep(small)

    def _read(
        self,
        segment: int,
        upto: int = MOST_ROWS,
        most: int = PIECE_ROWS,
        end: np.ndarray | None = None,
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """(place of a piece in a file, rows up to its last used one, its used rows) in turn.

        end : the last of the `upto` rows as it was: its worker may have closed it meanwhile, or
            have found that it has nothing to do.
        """
        path = inside(self.folder, segment_path(self.folder, self.worker, segment).name)
        there = 0
        for at, rows in read_segment(path, upto, most):
            there = at + len(rows)
            if end is not None and there == upto:
                rows[-1:] = end
            used = np.flatnonzero(rows["start_ns"])
            last = int(used[-1]) + 1 if len(used) else 0
            yield at, last, rows if len(used) == len(rows) else rows[used]
        if end is not None and there == upto - 1:  # the file was trimmed
            yield there, 1, end.copy()

    def _keep(self, pieces: list[np.ndarray]) -> None:
        pieces = [piece for piece in pieces if len(piece)] or [np.zeros(0, ATTEMPT)]
        for piece in pieces:
            piece.flags.writeable = False
        RECENT.put(self, tuple(pieces), sum(piece.nbytes for piece in pieces))


class _Look:
    """What one look at all rows of a worker found.

    upto : of each file the rows up to its last used one. count : used rows. end : the last of them.
    """

    def __init__(self, within_ns: tuple[int, int]) -> None:
        self.within_ns = within_ns
        self.faults = _Faults(within_ns)
        self.upto: list[int] = []
        self.count = 0
        self.end: np.ndarray | None = None
        self.small: list[np.ndarray] = []

    def add(self, at: int, used: int, rows: np.ndarray) -> None:
        """Look at a piece: its place in a file, its rows up to the last used one, its used rows."""
        if len(rows):
            self.upto[-1] = at + used
            self.end = rows[-1:].copy()
            self.faults.look(rows, self.count)
            self.count += len(rows)
            rows["outcome"][rows["outcome"] == OPEN] = UNKNOWN
        if self.count <= SMALL_ROWS:
            self.small.append(rows)

    def limits(self, *, without_end: bool = False) -> list[int]:
        """Of each file the rows before the last used one of all, and that one too or not.

        All others are behind it, and were written since.
        """
        files = np.flatnonzero(self.upto)
        if not len(files):
            return [0] * len(self.upto)
        last = int(files[-1])
        return [MOST_ROWS] * last + [self.upto[last] - without_end]

    def unsound_end(self) -> bool:
        """Whether the last row is one that no worker writes."""
        if self.end is None:
            return False
        alone = any(which.any() for which in _unsound(self.end, self.within_ns).values())
        return alone or int(self.end["txn"][0]) >= self.count


class Recent:
    """What was read last, up to so many bytes: a small run is read once, a large one again."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> Any:
        """What was put there, None where it was not or is not kept any more."""
        if (found := self._kept.get(key)) is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of `size` bytes, unless it is larger than a quarter of all that is kept."""
        if 4 * size > self.most_bytes:
            return
        self._bytes += size - self._kept.pop(key, (None, 0))[1]
        self._kept[key] = (value, size)
        while self._bytes > self.most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1][1]


RECENT = Recent(24 << 20)


def read_attempts(
    folder: Path, worker: int, within_ns: tuple[int, int] | None = None
) -> np.ndarray:
    """All attempts of one worker, ATTEMPT array of shape (attempts,); used rows only.

    As of `StoredRows`, which holds only a piece of them at a time.
    """
    return StoredRows(folder, worker, within_ns).whole()


def read_segment(
    path: Path, upto: int = MOST_ROWS, most: int = PIECE_ROWS
) -> Iterator[tuple[int, np.ndarray]]:
    """The first `upto` rows of one file, used or not, each piece with the place of its first row.

    most : rows of a piece.
    Raises RunError, FileNotFoundError. The header is checked before anything is allocated: it is
    short, it names our rows, and the file has room for exactly as many of them as it claims.
    """
    with opened(path) as file:
        try:
            shape, fortran, dtype = _header(file)
        except _NoHeader as error:
            raise RunError(
                f"{path}: cannot be read as attempts ({error}). "
                "The file was cut or edited; the run has to be made again."
            ) from None
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error}).") from None
        if dtype != ATTEMPT or fortran or len(shape) != 1:
            raise RunError(
                f"{path}: holds other rows than cwkit's attempts. Is this a run of ours?"
            )
        rows, there = shape[0], os.fstat(file.fileno()).st_size - file.tell()
        if not 0 <= rows <= MOST_ROWS or rows * ROW_BYTES != there:
            raise RunError(
                f"{path}: cannot be read as attempts (its header tells of {_short(rows)} rows, "
                f"and {there:,} bytes follow). The file was cut or edited; the run has to be made "
                "again."
            )
        for at in range(0, min(rows, upto), most):
            piece = np.empty(min(most, rows - at, upto - at), ATTEMPT)
            try:
                got = file.readinto(piece.view("u1").data)  # type: ignore[attr-defined]
            except OSError as error:
                raise RunError(f"{path}: cannot be read ({error}).") from None
            if got != piece.nbytes:
                raise RunError(f"{path}: cannot be read (it was cut meanwhile).")
            yield at, piece


# As numpy writes it for our rows. Read as a Python literal it would take longer than the rows of
# most files.
_OUR_HEADER = re.compile(
    re.escape(f"{{'descr': {npy.dtype_to_descr(ATTEMPT)!r}, 'fortran_order': False, ").encode()
    + rb"'shape': \(([0-9]{1,18}),\), \} *\n"
)


class _NoHeader(ValueError):
    """A file that does not begin as one of attempts does. Its text says what is wrong with it."""


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran's order, type) of a file's rows; read up to the first of them.

    Raises _NoHeader.
    """
    size = os.fstat(file.fileno()).st_size
    magic = file.read(npy.MAGIC_LEN)
    if not size:
        raise _NoHeader("it is empty")
    if not magic.startswith(npy.MAGIC_PREFIX[: len(magic)]):
        raise _NoHeader("it does not begin with a header of numpy's, as each file of rows does")
    if len(magic) < npy.MAGIC_LEN:
        raise _NoHeader(f"it ends within its header, after {_bytes(size)}")
    length = LENGTHS.get(magic[-2:])
    if length is None:
        raise _NoHeader(
            f"its header is of the form {magic[-2]}.{magic[-1]}, which cwkit does not write"
        )
    told = file.read(length.size)
    if len(told) < length.size or npy.MAGIC_LEN + length.size + length.unpack(told)[0] > size:
        raise _NoHeader(f"it ends within its header, after {_bytes(size)}")
    text = file.read(min(length.unpack(told)[0], LONGEST_HEADER + 1))
    if ours := _OUR_HEADER.fullmatch(text):
        return (int(ours[1]),), False, ATTEMPT
    return _parsed(magic[-2:], told + text)


LENGTHS = {b"\1\0": struct.Struct("<H"), b"\2\0": struct.Struct("<I")}
"""Form of a header -> how its length is written."""


def _parsed(form: bytes, header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """A header as numpy reads it."""
    read = {b"\1\0": npy.read_array_header_1_0, b"\2\0": npy.read_array_header_2_0}[form]
    try:
        found: tuple[tuple[int, ...], bool, np.dtype] = read(
            io.BytesIO(header), max_header_size=LONGEST_HEADER
        )
    except Exception:  # whatever a Python literal of somebody's can end in
        raise _NoHeader("its header does not say what rows follow, and how many") from None
    return found


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


def _short(number: int) -> str:
    return f"{number:,}" if abs(number) < 10**20 else "10^20 or more"


class _Faults:
    """The first row of each kind that no worker writes."""

    OUTCOME = "is of no outcome that there is"
    NUMBER = "has another number than its place allows"

    def __init__(self, within_ns: tuple[int, int]) -> None:
        self.within_ns = within_ns
        self.rows: dict[str, int] = {}
        self.kinds: tuple[str, ...] = ()
        self.most_txn = -1

    def look(self, rows: np.ndarray, first: int) -> None:
        """First : the place of the first of these rows among all."""
        bad = _unsound(rows, self.within_ns)
        self.kinds = tuple(bad)
        self.most_txn = max(self.most_txn, int(rows["txn"].max()))
        for what, which in bad.items():
            if what not in self.rows and which.any():
                self.rows[what] = first + int(np.argmax(which))

    def seen(self, count: int) -> bool:
        """Whether any of `count` rows has one."""
        return bool(self.rows) or self.most_txn >= count

    def first(self, rows: Rows) -> str:
        """The fault of the first row of the first kind, "" where all rows are sound."""
        if self.most_txn >= len(rows):  # only now is it known how many there are
            at = 0
            for piece in rows.pieces():
                if (beyond := piece["txn"] >= len(rows)).any():
                    self.rows[self.NUMBER] = at + int(np.argmax(beyond))
                    break
                at += len(piece)
        for what in self.kinds:
            if what in self.rows:
                return f"row {self.rows[what]:,} {what}"
        return ""


_IS_CAUSE = np.isin(np.arange(256), list(CAUSES))


def _unsound(rows: np.ndarray, within_ns: tuple[int, int]) -> dict[str, np.ndarray]:
    """Kind of fault -> which rows have it; that of the number is not known of a piece alone."""
    first, last = within_ns
    caused = (rows["outcome"] != CONFLICT) & _IS_CAUSE[rows["conflict"]]
    bad = {
        _Faults.OUTCOME: rows["outcome"] >= len(OUTCOMES),
        "is of no conflict that there is": ~caused & (rows["conflict"] >= len(CONFLICTS)),
        "ended in no phase that there is": rows["phase"] >= len(PHASES),
        _Faults.NUMBER: np.zeros(1, bool),
    }
    before = rows["start_ns"]
    for name in ("start_ns", "begun_ns", "worked_ns", "end_ns"):
        times = rows[name]
        kept = times != 0
        bad[f"has a `{name}` outside of the run"] = kept & ((times < first) | (times > last))
        bad[f"has a `{name}` before what comes before it"] = kept & (times < before)
        before = np.maximum(before, times)
    # The intended start, which in an open loop may be before the gate or after the run.
    bad["has an `intended_ns` that is no time"] = (rows["intended_ns"] < 0) | (
        rows["intended_ns"] > last
    )
    return bad
