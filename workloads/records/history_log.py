"""A run's history, written by its processes together: a file each, merged when all have ended.

recorder = HistoryRecorder("runs/7/worker-3.jsonl", "append", session="w3", database="libsql")
recorder.begin(time.monotonic_ns(), ops)          # before BEGIN
recorder.end(time.monotonic_ns(), "committed", ops_with_what_was_read)   # after COMMIT
merge(sorted(Path("runs/7").glob("worker-*.jsonl"))).save("runs/7/history.npz")
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from workloads.errors import HistoryError, RunError
from workloads.files import opened
from workloads.records.columns import MODELS, TXN_OUTCOMES, History
from workloads.records.elle_lines import SUCH_AS
from workloads.records.history import Builder
from workloads.records.values import show

MOST_LINE_BYTES = 1 << 26
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class HistoryRecorder:
    """Writes one session's transactions, a line at begin and a line at end.

    Every line is one write(2): what was written survives SIGKILL, and a transaction whose end
    is missing is `unknown`. Times are CLOCK_MONOTONIC ns, one clock for all processes.
    """

    def __init__(self, path: str | Path, model: str, session: Any, database: Any = "") -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(path, flags, 0o644)
        self._number = 0
        self._full: OSError | None = None
        head = {"history": 1, "model": model, "session": session, "database": database}
        self._write(json.dumps(head).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        """Raises OSError where the disk has no room for the whole line, and at each later call:
        a line behind a cut one would make the whole record unreadable.
        """
        if self._full is not None:
            raise self._full
        try:
            while (written := os.write(self._file, line)) < len(line):
                line = line[written:]
        except OSError as error:
            self._full = error
            raise

    def begin(self, begin_ns: int, ops: Sequence[Sequence[Any]]) -> None:
        """Before BEGIN: a transaction that dies at once may have happened, and is recorded."""
        self._write(_encode(("begin", self._number, begin_ns, ops)) + b"\n")

    def end(self, end_ns: int, outcome: str, ops: Sequence[Sequence[Any]]) -> None:
        """After COMMIT or ROLLBACK returned; ops hold what the reads saw."""
        self._write(_encode(("end", self._number, end_ns, outcome, ops)) + b"\n")
        self._number += 1

    def close(self) -> None:
        os.close(self._file)


def merge(paths: Iterable[str | Path]) -> History:
    """One History of all the workers' records, in real-time order. Raises HistoryError."""
    builder: Builder | None = None
    for path in map(Path, paths):
        builder = _merge_one(path, builder)
    if builder is None:
        raise HistoryError("no worker left a record: there is nothing to merge.")
    return builder.build()


def _merge_one(path: Path, builder: Builder | None) -> Builder:
    lines = _whole_lines(path)
    first = next(lines, None)
    if first is None:
        raise HistoryError(f"{path}: empty, without even its first line; its worker never began.")
    head = _line(path, 1, first)
    if not isinstance(head, dict) or head.get("history") != 1:
        raise HistoryError(f"{path} line 1: no record of a worker, or one of a later cwkit.")
    model, session, database = (head.get(key) for key in ("model", "session", "database"))
    if model not in MODELS:
        raise HistoryError(f"{path} line 1: records {show(model)}, not {' or '.join(MODELS)}.")
    builder = builder or Builder(model)
    if model != builder.model:
        raise HistoryError(f"{path} line 1: records {model}, the others {builder.model}.")
    under_way: tuple[int, int, Any] | None = None

    def add(number: int, end_ns: int | None, outcome: str, ops: Any) -> None:
        assert under_way is not None
        try:
            builder.add(session, under_way[1], end_ns, outcome, ops, database, under_way[0])
        except (TypeError, ValueError) as error:
            why = SUCH_AS if isinstance(error, TypeError) or "unpack" in str(error) else str(error)
            raise HistoryError(f"{path} line {number}: {why}.") from None

    number = 1
    for number, text in enumerate(lines, 2):
        match _line(path, number, text):
            case ["begin", int(count), int(begin_ns), list(ops)]:
                if under_way:
                    add(number - 1, None, "unknown", under_way[2])
                under_way = (count, begin_ns, ops)
            case ["end", count, int(end_ns), outcome, list(ops)] if outcome in TXN_OUTCOMES:
                if under_way is None or under_way[0] != count:
                    raise HistoryError(
                        f"{path} line {number}: transaction {show(session)}.{show(count)} finishes "
                        "but never began. Every worker writes `begin` first, so this file was cut "
                        "or edited."
                    )
                if end_ns < under_way[1]:
                    raise HistoryError(
                        f"{path} line {number}: transaction {show(session)}.{count} ends before it "
                        "began. All times must be of one monotonic clock."
                    )
                add(number, end_ns, outcome, ops)
                under_way = None
            case _:
                raise HistoryError(f"{path} line {number}: neither a begin nor an end.")
    if under_way:
        add(number, None, "unknown", under_way[2])
    return builder


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines that end. A process killed inside write(2) leaves a cut last line; nothing else may
    be cut.
    """
    number = 1
    try:
        with opened(path) as file:
            while (line := file.readline(MOST_LINE_BYTES)).endswith(b"\n"):
                yield line
                number += 1
            if len(line) == MOST_LINE_BYTES:
                raise HistoryError(
                    f"{path} line {number}: has more than {MOST_LINE_BYTES >> 20} MB, and no "
                    "transaction of ours has. The file was edited."
                )
    except FileNotFoundError:
        raise HistoryError(f"{path}: there is no such file.") from None
    except RunError as error:
        raise HistoryError(str(error)) from None
    except OSError as error:
        raise HistoryError(f"{path}: can't be read: {error.strerror}.") from None


def _line(path: Path, number: int, text: bytes) -> Any:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HistoryError(f"{path} line {number}: cut or no JSON: {error}.") from None
