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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.lib import format as npy

from workloads.errors import RunError as RunError
from workloads.files import FORMAT_VERSION as FORMAT_VERSION
from workloads.files import inside, read_bytes, replacing
from workloads.records.manifest import Manifest, WorkerEntry, read_manifest
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
from workloads.records.rows import ATTEMPT as ATTEMPT
from workloads.records.rows import CLOSE_AT as CLOSE_AT
from workloads.records.rows import CLOSE_PART as CLOSE_PART
from workloads.records.rows import MOST_ROWS as MOST_ROWS
from workloads.records.rows import OPEN_PART as OPEN_PART
from workloads.records.rows import ROW_BYTES as ROW_BYTES
from workloads.records.rows import SEGMENT_ROWS as SEGMENT_ROWS
from workloads.records.rows import WITHIN_AT as WITHIN_AT
from workloads.records.rows import Rows as Rows
from workloads.records.rows import StoredRows, read_segment
from workloads.records.rows import packed_within as packed_within
from workloads.records.rows import read_attempts as read_attempts
from workloads.records.rows import segment_path as segment_path
from workloads.records.rows import within_ns as within_ns

NOT_KEPT = 65_535
"""The number of a text that was not written down."""

LAST_SEEN = "last-seen"
"""A file of a run that is under way: the last moment that all its workers were seen alive."""


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


@dataclass(frozen=True)
class WorkerRecord:
    """One worker's record: its entry of the manifest and all its attempts.

    rows     : its attempts in the order they were made, warm-up included, to be taken in pieces.
    messages : the engine's own texts; a row's `message` - 1 is the index.
    """

    worker: int
    role: str
    number: int
    engine: str
    begin: str
    rows: Rows = field(repr=False)
    messages: tuple[str, ...]
    entry: WorkerEntry = field(repr=False)

    @property
    def attempts(self) -> np.ndarray:
        """All rows at once: ATTEMPT array, shape (attempts,). A row never closed is UNKNOWN.

        Read anew where nobody holds it any more. A large run's does not fit into memory.
        """
        return self.rows.whole()


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
        """The workers of a role, or of one of its modes ("writer:concurrent")."""
        role, _, mode = role.partition(":")
        return tuple(w for w in self.workers if w.role == role and mode in ("", w.begin))


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
        rows = [piece[piece["start_ns"] != 0] for _, piece in read_segment(path)]
        with replacing(path) as file:
            np.save(file, np.concatenate([np.zeros(0, ATTEMPT), *rows]))


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
    """Read a run folder. Raises RunError with one sentence for anything unreadable.

    All rows are looked at, and read again by whoever takes them (`WorkerRecord.rows`).
    """
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
    """The workers of a run folder one after the other.

    Raises RunError as `read_run` does, when it comes to an unreadable file.
    """
    left = manifest.under_way
    at_work = left is not None and left.stage in ("starting", "measuring")
    for entry in manifest.workers:
        if not entry.opened and not segment_path(folder, entry.worker, 0).exists():
            rows = Rows(np.zeros(0, ATTEMPT))  # it never came as far as its first row, and said so
        else:
            rows = StoredRows(folder, entry.worker, manifest.window.possible_ns, at_work=at_work)
        yield WorkerRecord(
            worker=entry.worker,
            role=entry.role,
            number=entry.number,
            engine=entry.engine,
            begin=entry.begin,
            rows=rows,
            messages=read_messages(folder, entry.worker),
            entry=entry,
        )
