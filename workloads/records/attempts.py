"""One row for each attempt, kept by the worker that made it, in a file that survives its death.

A row is opened before BEGIN and closed after COMMIT has returned; a row that was opened and never
closed is `unknown`, because a worker that dies inside COMMIT leaves nobody who can know. The rows
lie in a shared memory map, so that SIGKILL loses none that were written, and the hot loop makes no
system call for them. `struct.pack_into` costs a third of a numpy row assignment (`make bench`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.lib import format as npy

from workloads.errors import RunError as RunError
from workloads.files import FORMAT_VERSION as FORMAT_VERSION
from workloads.files import inside, opened, read_bytes, replacing
from workloads.records.manifest import LATEST_NS, Manifest, WorkerEntry, read_manifest
from workloads.records.outcomes import BEGIN as BEGIN
from workloads.records.outcomes import BUSY as BUSY
from workloads.records.outcomes import CAUSES as CAUSES
from workloads.records.outcomes import COMMIT as COMMIT
from workloads.records.outcomes import COMMITTED as COMMITTED
from workloads.records.outcomes import CONFLICT as CONFLICT
from workloads.records.outcomes import CONFLICTS as CONFLICTS
from workloads.records.outcomes import FAILED as FAILED
from workloads.records.outcomes import FULL as FULL
from workloads.records.outcomes import IO as IO
from workloads.records.outcomes import LIMIT as LIMIT
from workloads.records.outcomes import MEANINGS as MEANINGS
from workloads.records.outcomes import NO_CONFLICT as NO_CONFLICT
from workloads.records.outcomes import NO_PHASE as NO_PHASE
from workloads.records.outcomes import OPEN as OPEN
from workloads.records.outcomes import OUTCOMES as OUTCOMES
from workloads.records.outcomes import PHASES as PHASES
from workloads.records.outcomes import SERIALIZATION as SERIALIZATION
from workloads.records.outcomes import STALE as STALE
from workloads.records.outcomes import STATEMENT as STATEMENT
from workloads.records.outcomes import UNCLASSIFIED as UNCLASSIFIED
from workloads.records.outcomes import UNKNOWN as UNKNOWN
from workloads.records.outcomes import UPGRADE as UPGRADE
from workloads.records.outcomes import WRITE_WRITE as WRITE_WRITE
from workloads.records.outcomes import reason as reason

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


NOT_KEPT = 65_535
"""The number of a text that was not written down."""

LAST_SEEN = "last-seen"
"""A file of a run that is under way: the last moment that all its workers were seen alive."""

SEGMENT_ROWS = 1 << 15
"""Rows of one file. A worker that needs more goes on in the next file: 2 MiB allocated ahead."""

MOST_ROWS = 1 << 21
"""The most rows of a file that is read: more than any file of ours has, and memory holds them."""

LONGEST_HEADER = 4_000
"""Characters of a file's header, which is a Python literal; ours has 300."""


class AttemptRecorder:
    """The open file of one worker: `buffer` and `offset` are the hot loop's, the rest is ours.

    full : why an engine's message could not be written down, None where all could.

    The loop packs OPEN_PART at `offset` and CLOSE_PART at `offset + CLOSE_AT`, adds ROW_BYTES, and
    calls `roll()` when `offset == limit`.
    """

    def __init__(self, folder: Path, worker: int, rows: int = SEGMENT_ROWS) -> None:
        self.folder, self.worker, self.rows = Path(folder), worker, rows
        self.segment = -1
        self._messages: dict[str, int] = {}
        self.full: OSError | None = None
        self.roll()

    def roll(self) -> tuple[memoryview, int, int]:
        """Start the next segment: (buffer, offset, limit). Raises OSError on a full disk."""
        self.segment += 1
        path = segment_path(self.folder, self.worker, self.segment)
        # Under its name once it is whole: a file cut short would make the run unreadable.
        beside = path.with_name(f"{path.name}.new")
        try:
            with beside.open("wb") as file:
                npy.write_array_header_2_0(
                    file,
                    {
                        "descr": npy.dtype_to_descr(ATTEMPT),
                        "fortran_order": False,
                        "shape": (self.rows,),
                    },
                )
                start = file.tell()
                # Allocated, not merely made sparse: writing to a hole of a map on a full disk is a
                # SIGBUS, which no worker could report; this is an OSError, which it can.
                os.posix_fallocate(file.fileno(), 0, start + self.rows * ROW_BYTES)
            os.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        array = np.memmap(path, mode="r+", dtype="u1", offset=start, shape=(self.rows * ROW_BYTES,))
        self._array = array
        self.buffer, self.offset = array.data, 0
        self.limit = self.rows * ROW_BYTES
        return self.buffer, self.offset, self.limit

    def message(self, text: str) -> int:
        """Number (from 1) of an engine's message; a new one is written to disk at once."""
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # half a character is none in JSON
        number = self._messages.get(text)
        if number is None:
            number = min(len(self._messages) + 1, NOT_KEPT)
            if number == NOT_KEPT or self.full is not None:
                return NOT_KEPT  # a worker with 65,534 different texts has its rest under one
            path = self.folder / f"worker-{self.worker:03d}.messages.jsonl"
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(text) + "\n")
            except OSError as error:
                # Raised from `full` once the attempt that met this message has its row.
                self.full = error
                return NOT_KEPT
            self._messages[text] = number
        return number


def segment_path(folder: Path, worker: int, segment: int) -> Path:
    """worker-007.npy, then worker-007.1.npy, worker-007.2.npy, ..."""
    tail = "" if segment == 0 else f".{segment}"
    return folder / f"worker-{worker:03d}{tail}.npy"


@dataclass(frozen=True)
class WorkerRecord:
    """One worker's record: its entry of the manifest and all its attempts.

    attempts : ATTEMPT array, shape (attempts,), in the order they were made, warm-up included.
        A row never closed has outcome UNKNOWN.
    messages : the engine's own texts; `attempts["message"] - 1` is the index.
    """

    worker: int
    role: str
    number: int
    engine: str
    begin: str
    attempts: np.ndarray
    messages: tuple[str, ...]
    entry: WorkerEntry = field(repr=False)


@dataclass(frozen=True)
class Run:
    """A run folder, read: its manifest, and one WorkerRecord for each worker."""

    folder: Path
    manifest: Manifest
    workers: tuple[WorkerRecord, ...]

    @property
    def name(self) -> str:
        return self.manifest.run

    @property
    def window_ns(self) -> tuple[int, int]:
        """(first, last) of the measured part: warm-up is before, stragglers after."""
        return self.manifest.window.measure_ns, self.manifest.window.stop_ns

    def role(self, role: str) -> tuple[WorkerRecord, ...]:
        return tuple(w for w in self.workers if w.role == role)


def read_attempts(
    folder: Path, worker: int, within_ns: tuple[int, int] | None = None
) -> np.ndarray:
    """All attempts of one worker, ATTEMPT array of shape (attempts,); used rows only.

    within_ns : (first, last) of the times that a row may hold; None: of any clock of ours.
    Raises RunError for a file that is cut or not ours, and for a row that no worker writes.
    """
    parts, segment = [], 0
    while True:
        path = inside(folder, segment_path(folder, worker, segment).name)
        try:
            array = _read_segment(path)
        except FileNotFoundError:
            break
        parts.append(array[array["start_ns"] != 0])
        segment += 1
    if not parts:
        raise RunError(
            f"{folder}: worker {worker} is in the manifest but its file "
            f"{segment_path(folder, worker, 0).name} is missing. The run has to be made again."
        )
    rows = np.concatenate(parts)
    if why := _unsound(rows, within_ns or (0, LATEST_NS)):
        raise RunError(f"{folder}: the attempts of worker {worker} were edited: {why}.")
    rows["outcome"][rows["outcome"] == OPEN] = UNKNOWN
    return rows


def _read_segment(path: Path) -> np.ndarray:
    """The rows of one file, used or not. Raises RunError, FileNotFoundError.

    The header is checked before anything is allocated: it is short, it names our rows, and the file
    has room for exactly as many of them as it claims.
    """
    with opened(path) as file:
        try:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file, max_header_size=LONGEST_HEADER)
        except Exception as error:  # whatever a Python literal of somebody's can end in
            raise RunError(
                f"{path}: cannot be read as attempts ({type(error).__name__}). "
                "The file was cut or edited; the run has to be made again."
            ) from None
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
        try:
            return np.frombuffer(bytearray(file.read(there)), ATTEMPT, count=rows)
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read ({error}).") from None


def _short(number: int) -> str:
    return f"{number:,}" if abs(number) < 10**20 else "10^20 or more"


def _unsound(rows: np.ndarray, within_ns: tuple[int, int]) -> str:
    """The fault of the first row that no worker writes, "" where all rows are sound."""
    first, last = within_ns
    caused = (rows["outcome"] != CONFLICT) & np.isin(rows["conflict"], list(CAUSES))
    bad = {
        "is of no outcome that there is": rows["outcome"] >= len(OUTCOMES),
        "is of no conflict that there is": ~caused & (rows["conflict"] >= len(CONFLICTS)),
        "ended in no phase that there is": rows["phase"] >= len(PHASES),
        "has another number than its place allows": rows["txn"] >= len(rows),
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
    for what, which in bad.items():
        if which.any():
            return f"row {int(np.argmax(which)):,} {what}"
    return ""


def keep_last_seen(folder: Path, ns: int) -> None:
    """Keep the last moment that all workers were seen alive, ns on the run's clock.

    Overwritten in place by one short write, which a killed process makes whole or not at all.
    """
    with contextlib.suppress(OSError):  # a full disk: the run ends for it, not for this
        file = os.open(folder / LAST_SEEN, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            os.pwrite(file, b"%020d\n" % ns, 0)
        finally:
            os.close(file)


def last_seen(folder: Path) -> int:
    """The moment of `keep_last_seen`; 0 where none was kept. RunError for another file."""
    try:
        data = read_bytes(inside(folder, LAST_SEEN), 21)
    except FileNotFoundError:
        return 0
    return int(data) if re.fullmatch(rb"[0-9]{20}\n", data) else 0


def trim(folder: Path, worker: int) -> None:
    """Give back what was allocated ahead in the last file of a worker that has ended.

    The file is replaced in one step; where that fails (a full disk) it stays as it was, whole.
    """
    segment = 0
    while segment_path(folder, worker, segment + 1).exists():
        segment += 1
    path = segment_path(folder, worker, segment)
    with contextlib.suppress(OSError, RunError):
        rows = _read_segment(path)
        with replacing(path) as file:
            np.save(file, rows[rows["start_ns"] != 0])


def read_messages(folder: Path, worker: int) -> tuple[str, ...]:
    """The distinct texts one worker met, in the order it met them. Raises RunError."""
    path = inside(folder, f"worker-{worker:03d}.messages.jsonl")
    try:
        lines = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return ()
    messages = []
    for number, line in enumerate(lines, 1):
        try:
            messages.append(msgspec.json.decode(line, type=str))
        except (msgspec.DecodeError, UnicodeDecodeError):
            if number == len(lines):
                break  # empty, or cut: a worker killed while it wrote its newest text
            raise RunError(
                f"{path} line {number}: holds no text of an engine's. It was cut or edited."
            ) from None
    return tuple(messages)


def read_run(folder: Path) -> Run:
    """Read a run folder whole. Raises RunError with one sentence for anything unreadable."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    workers = tuple(read_workers(folder, manifest))
    if manifest.under_way is not None and manifest.under_way.stage == "measuring":
        # Its manifest says how long it was to be; measured is what there was of it.
        window = manifest.window
        end = min(max(last_seen(folder), window.measure_ns), window.stop_ns)
        manifest.window = window.model_copy(update={"stop_ns": end})
    return Run(folder, manifest, workers)


def read_workers(folder: Path, manifest: Manifest) -> Iterator[WorkerRecord]:
    """The workers of a run folder one after the other, where memory cannot hold all of them.

    Raises RunError as `read_run` does, when it comes to an unreadable file.
    """
    for entry in manifest.workers:
        if not entry.opened and not segment_path(folder, entry.worker, 0).exists():
            rows = np.zeros(0, ATTEMPT)  # it never came as far as its first row, and said so
        else:
            rows = read_attempts(folder, entry.worker, manifest.window.possible_ns)
        yield WorkerRecord(
            worker=entry.worker,
            role=entry.role,
            number=entry.number,
            engine=entry.engine,
            begin=entry.begin,
            attempts=rows,
            messages=read_messages(folder, entry.worker),
            entry=entry,
        )
