"""Elle's histories, in and out: EDN or JSON, one map a line or all in one vector or array.

An operation map is `{"index": 0, "type": "invoke", "process": 0, "value": [["append", "x", 1]]}`;
types are invoke, ok, fail, info. Order in the file is order in real time, as for Elle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from workloads.edn import EdnError, read_edn, write_edn
from workloads.history import (
    COMMITTED,
    FAILED,
    MODELS,
    NEVER,
    UNKNOWN,
    Builder,
    History,
    HistoryError,
    load,
)

SUFFIXES = (".edn", ".json", ".jsonl", ".npz")
_CHUNK_BYTES = 1 << 22
TOO_DEEP = "brackets are nested hundreds deep; a history needs no more than five"


class _Line(msgspec.Struct, gc=False):
    """One operation map; whatever else it holds (time, error) is not looked at."""

    type: str
    process: int | str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")
    index: int | None = None
    f: str | None = None


_line_decoder = msgspec.json.Decoder(_Line)
_decode = msgspec.json.Decoder().decode


def read_history(path: str | Path, model: str | None = None) -> History:
    """Read a history file of any form; raises HistoryError (file, line, rule) where it is wrong.

    model : list-append or rw-register; None takes the one whose operations the file holds.
    """
    path = Path(path)
    if path.suffix == ".npz":
        history = load(path)
        if model not in (None, history.model):
            raise HistoryError(
                f"{path}: a history of {history.model}, not of {model}. "
                f"Check it with --model {history.model}."
            )
        return history
    if path.suffix not in SUFFIXES:
        raise HistoryError(f"{path}: a history's name ends in one of {', '.join(SUFFIXES)}.")
    try:
        with open(path, "rb") as file:
            head = file.read(_CHUNK_BYTES)
            if path.suffix == ".edn" or head.lstrip()[:1] == b"[":
                raw = head + file.read()
                pairs = _Pairing(path, model or _model_of(raw))
                pairs.feed((_edn_lines if path.suffix == ".edn" else _json_array)(path, raw))
            else:
                pairs = _Pairing(path, model or _model_of(head))
                for batch in _json_chunks(path, file, head):
                    pairs.feed(batch)
    except OSError as error:
        raise HistoryError(f"{path}: can't be read: {error.strerror}.") from None
    return pairs.finish()


def _model_of(raw: bytes) -> str:
    """Lists unless the file writes registers: `"w"` as an operation, and no append anywhere."""
    if b'"append"' in raw or b":append" in raw:
        return MODELS[0]
    return MODELS[1] if re.search(rb'\[\s*("w"|:w)[\s,]', raw) else MODELS[0]


class _Pairing:
    """Joins each invocation with its completion; a process has one operation open at a time."""

    def __init__(self, path: Path, model: str) -> None:
        self.path = path
        self.builder = Builder(model)
        self.open: dict[Any, tuple[int, int, Any, int]] = {}  # place, label, value, line
        self.at = 0
        self.last_index = -1

    def feed(self, lines: Iterable[tuple[int, _Line]]) -> None:
        """Take operation maps in order, each with its line (or its number in an array)."""
        add, opened, at = self._add, self.open, self.at
        for number, line in lines:
            kind, process = line.type, line.process
            at += 1
            if process == "nemesis" or line.f not in (None, "txn"):
                continue  # Jepsen's nemesis and its checks are no transactions
            index = line.index
            if index is not None:
                if index <= self.last_index:
                    raise self._error(
                        number, f"index {index} after {self.last_index}; indexes must grow"
                    )
                self.last_index = index
            if kind == "invoke":
                before = opened.pop(process, None)
                if before is not None:
                    add(process, before, at, UNKNOWN, before[2], before[3])
                opened[process] = (at, at - 1 if index is None else index, line.value, number)
                continue
            began = opened.pop(process, None)
            if began is None:
                raise self._error(
                    number,
                    f"process {process!r} finishes a transaction ({kind}) "
                    "that never began; each one needs its invoke before it",
                )
            if kind == "ok":
                add(process, began, at, COMMITTED, line.value, number)
            elif kind == "fail":
                add(process, began, at, FAILED, began[2], began[3])
            elif kind == "info":
                add(process, began, at, UNKNOWN, began[2], began[3])
            else:
                raise self._error(number, f"type {kind!r} is none of invoke, ok, fail, info")
        self.at = at
        # A view would keep the whole chunk in memory for each transaction that never ends.
        for process, (begin, label, value, number) in opened.items():
            opened[process] = (begin, label, value.copy(), number)

    def _add(
        self,
        process: Any,
        began: tuple[int, int, Any, int],
        at: int,
        code: int,
        raw: Any,
        number: int,
    ) -> None:
        """Number : the line on which `raw` is."""
        builder = self.builder
        try:
            count = builder.add_ops(_decode(raw), code == COMMITTED)
        except RecursionError:
            raise self._error(number, TOO_DEEP) from None
        except UnicodeDecodeError as error:
            raise self._error(number, f"no text in UTF-8: {error.reason}") from None
        except (TypeError, ValueError) as error:
            rule = str(error)
            if isinstance(error, TypeError) or "unpack" in rule:
                rule = 'its value must be a list of operations such as ["r", "x", null]'
            raise self._error(number, rule) from None
        sessions = builder.session_ids
        session = sessions.get(process)
        if session is None:
            session = sessions[process] = len(sessions)
        stop = NEVER if code == UNKNOWN else at
        builder.rows.extend((session, 0, began[0], stop, code, began[1], count))

    def _error(self, number: int, rule: str) -> HistoryError:
        return HistoryError(f"{self.path} line {number}: {rule}.")

    def finish(self) -> History:
        self.builder.database_ids.setdefault("", 0)
        for process, began in self.open.items():
            self._add(process, began, 0, UNKNOWN, began[2], began[3])
        try:
            return self.builder.build()
        except HistoryError as error:
            raise HistoryError(f"{self.path}: {error}") from None


def _json_chunks(path: Path, file: BinaryIO, head: bytes) -> Iterator[Iterator[tuple[int, _Line]]]:
    """The lines in chunks of some megabytes: a million lines at once would cost a gigabyte."""
    number, chunk = 1, head
    while chunk:
        chunk += file.readline()
        try:
            lines = _line_decoder.decode_lines(chunk)
            count = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
            if len(lines) != count:
                raise ValueError  # blank lines: count them one by one
            yield zip(range(number, number + count), lines, strict=True)
        except (ValueError, RecursionError):
            yield _one_by_one(path, chunk, number)
        number += chunk.count(b"\n")
        chunk = file.read(_CHUNK_BYTES)


def _one_by_one(path: Path, chunk: bytes, first: int) -> Iterator[tuple[int, _Line]]:
    for number, text in enumerate(chunk.split(b"\n"), first):
        if text.strip():
            yield number, _json_line(path, f"line {number}", text)


def _json_line(path: Path, where: str, text: bytes) -> _Line:
    try:
        return _line_decoder.decode(text)
    except msgspec.ValidationError as error:
        raise HistoryError(
            f"{path} {where}: not an operation map: {error}. "
            'It needs "type", "process" and "value".'
        ) from None
    except RecursionError:
        raise HistoryError(f"{path} {where}: {TOO_DEEP}.") from None
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path} {where}: no text in UTF-8: {error.reason}.") from None
    except msgspec.DecodeError as error:
        raise HistoryError(f"{path} {where}: cut or no JSON: {error}.") from None


def _json_array(path: Path, raw: bytes) -> Iterator[tuple[int, _Line]]:
    try:
        forms = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except RecursionError:
        raise HistoryError(f"{path}: {TOO_DEEP}.") from None
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path}: no text in UTF-8: {error.reason}.") from None
    except msgspec.DecodeError as error:
        raise HistoryError(f"{path}: cut or no JSON array: {error}.") from None
    at, number = 0, 1
    for form in forms:
        # An array may be laid out over lines in any way: the line is where the form is found.
        text = bytes(form)
        found = raw.find(text, at)
        number += raw.count(b"\n", at, found)
        at = found
        yield number, _json_line(path, f"line {number}", text)


def _edn_lines(path: Path, raw: bytes) -> Iterator[tuple[int, _Line]]:
    try:
        forms = list(read_edn(raw.decode()))
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path}: no text in UTF-8: {error.reason}.") from None
    except EdnError as error:
        raise HistoryError(f"{path} line {error.line}: {error}.") from None
    if len(forms) == 1 and isinstance(forms[0][1], list):
        whole = raw.decode()
        forms = list(zip(_places(whole), forms[0][1], strict=True))
    for number, form in forms:
        try:
            text = json.dumps(form).encode()
        except RecursionError:
            raise HistoryError(f"{path} line {number}: {TOO_DEEP}.") from None
        yield number, _json_line(path, f"line {number}", text)


def _places(text: str) -> list[int]:
    """The lines on which the forms inside one top-level vector begin."""
    inner = text[: text.rindex("]")]
    opening = inner.index("[")
    inner = inner[:opening] + " " + inner[opening + 1 :]
    return [number for number, _ in read_edn(inner)]


def operations(history: History) -> Iterator[dict[str, Any]]:
    """The history as Elle's operation maps, in real-time order."""
    # At one instant: begins, then the ends of sessions that go on at once, then those sessions'
    # next begins, then the other ends. So a session's own order shows, and no order appears
    # between two sessions that did not strictly follow each other.
    last_end: dict[int, tuple[int, int]] = {}
    events: list[tuple[int, int, int]] = []
    for txn in range(len(history)):
        session, begin = int(history.txn_session[txn]), int(history.txn_begin[txn])
        end = int(history.txn_end[txn])
        before_end, before_event = last_end.get(session, (-1, -1))
        goes_on = before_end == begin
        if goes_on:
            events[before_event] = (before_end, 1, events[before_event][2])
        events.append((begin, 2 if goes_on else 0, txn))
        if end != NEVER:
            last_end[session] = (end, len(events))
            events.append((end, 3, txn))
    kinds = {COMMITTED: "ok", UNKNOWN: "info"}
    for index, (time, phase, txn) in enumerate(sorted(events)):
        begins = phase in (0, 2)
        outcome = int(history.txn_outcome[txn])
        value = [list(op) for op in history.ops(txn)]
        if begins:
            value = [[f, k, None if f in ("r", "rp") else v] for f, k, v in value]
        yield {
            "index": index,
            "type": "invoke" if begins else kinds.get(outcome, "fail"),
            "process": history.sessions[history.txn_session[txn]],
            "f": "txn",
            "time": time,
            "value": value,
        }


def write_history(history: History, path: str | Path) -> None:
    """Write a history as .edn, .json (an array), .jsonl (a line each) or .npz, by its suffix.

    Transactions that never ended stay without a completion. The text forms have no place for a
    database id; .npz keeps it.
    """
    path = Path(path)
    if path.suffix == ".npz":
        history.save(path)
        return
    maps = list(operations(history))
    if path.suffix == ".edn":
        text = "".join(write_edn(m) + "\n" for m in maps)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(m) + "\n" for m in maps)
    elif path.suffix == ".json":
        text = "[" + ",\n ".join(map(json.dumps, maps)) + "]\n"
    else:
        raise HistoryError(f"{path}: a history's name ends in one of {', '.join(SUFFIXES)}.")
    path.write_text(text)
