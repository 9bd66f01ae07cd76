"""Elle's histories, in and out: EDN or JSON, one map a line or all in one vector or array.

An operation map is `{"index": 0, "type": "invoke", "process": 0, "value": [["append", "x", 1]]}`;
types are invoke, ok, fail, info. Order in the file is order in real time, as for Elle, and as for
Elle every operation of a client is judged, whatever its :f says. A nemesis is no client.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from workloads.errors import HistoryError, RunError
from workloads.files import opened
from workloads.records.columns import (
    MODELS,
    NEVER,
    TXN_COMMITTED,
    TXN_FAILED,
    TXN_UNKNOWN,
    History,
    load,
)
from workloads.records.elle_blocks import Began, Block, Decoded, Maps, Unusual, uncollected
from workloads.records.elle_lines import (
    CHUNK_BYTES,
    NEMESES,
    NEWLINE,
    SUCH_AS,
    Chunk,
    Line,
    NotInPieces,
    array_pieces,
    edn_lines,
    edn_pieces,
    json_array,
    json_chunks,
    operations_of,
    plain_operations,
)
from workloads.records.elle_scanned import scan
from workloads.records.history import Builder
from workloads.records.values import (
    TOO_DEEP,
    Literal,
    Tagged,
    Unordered,
    edn_text,
    identity,
    plain,
    show,
)

SUFFIXES = (".edn", ".json", ".jsonl", ".npz")
MOST_WHOLE_BYTES = 1 << 30  # of EDN or an array, which is read whole where anything is wrong in it
PIECES_FROM = 1 << 22  # bytes: less is read whole at once
_MOST_KINDS = 16
_WRITES = dict(zip(("append", "w"), MODELS, strict=True))
LOOKED_AT = 64  # lines at once until the model is known
_MOST_WAITING = 10_000  # transactions without a write, after which reads tell the model


def read_history(
    path: str | Path,
    model: str | None = None,
    *,
    named: bool = True,
    otherwise: str = MODELS[0],
) -> History:
    """Read a history file of any form; raises HistoryError (file, line, rule) where it is wrong.

    model : list-append or rw-register; None takes the one whose operations the file holds.
    otherwise : the model of a file whose operations show none.
    named : False for a file in a folder that was named: it may be no link that leads out of it.
    """
    path = Path(path)
    if path.suffix == ".npz":
        history = load(path, named=named)
        if model not in (None, history.model):
            raise HistoryError(
                f"{path}: a history of {history.model}, not of {model}. "
                f"Check it with --model {history.model}."
            )
        return history
    if path.suffix not in SUFFIXES:
        raise HistoryError(f"{path}: a history's name ends in one of {', '.join(SUFFIXES)}.")
    try:
        with opened(path, named=named) as file:
            return _read(path, file, model, otherwise)
    except FileNotFoundError:
        raise HistoryError(f"{path}: there is no such file.") from None
    except HistoryError:
        raise
    except RunError as error:
        raise HistoryError(str(error)) from None
    except OSError as error:
        raise HistoryError(f"{path}: can't be read: {error.strerror}.") from None


def _read(path: Path, file: BinaryIO, model: str | None, otherwise: str) -> History:
    head = file.read(CHUNK_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise HistoryError(
            f"{path} line 1: text in UTF-16, and a history is in UTF-8. "
            f"Convert it: iconv -f UTF-16 -t UTF-8 {path}"
        )
    head = head.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark
    edn = path.suffix == ".edn"
    pairs = _Pairing(path, model, otherwise)
    if not edn and head.lstrip()[:1] != b"[":
        with uncollected():
            for chunk in json_chunks(path, file, head):
                pairs.feed_chunk(chunk)
            return pairs.finish()
    if os.fstat(file.fileno()).st_size >= PIECES_FROM:
        history = _in_pieces(path, file, head, edn, _Pairing(path, model, otherwise))
        if history is not None:
            return history
        file.seek(0)
        head = file.read(CHUNK_BYTES).removeprefix(b"\xef\xbb\xbf")
    # Its size is asked first: a file may claim any that has no byte on the disk.
    raw, more = io.BytesIO(), os.fstat(file.fileno()).st_size > MOST_WHOLE_BYTES
    while head and not more:
        raw.write(head)
        head, more = file.read(CHUNK_BYTES), raw.tell() > MOST_WHOLE_BYTES
    if more:
        raise HistoryError(
            f"{path}: has more than {MOST_WHOLE_BYTES >> 30} GB; EDN and arrays are read whole. "
            "Write it as .jsonl, an operation map a line: that is read piece by piece."
        )
    pairs.feed((edn_lines if edn else json_array)(path, raw.getvalue()))
    return pairs.finish()


def _in_pieces(
    path: Path, file: BinaryIO, head: bytes, edn: bool, pairs: _Pairing
) -> History | None:
    """EDN or an array read without its whole text in memory; None where it has to be read whole.

    That is where anything is wrong: what is said of it may depend on all of the text.
    """

    def blocks() -> Iterator[bytes]:
        block, size = head, 0
        while block:
            if edn and not block.endswith(NEWLINE):
                block += file.readline(MOST_WHOLE_BYTES)
            size += len(block)
            if size > MOST_WHOLE_BYTES:
                raise NotInPieces
            yield block
            block = file.read(CHUNK_BYTES)

    if os.fstat(file.fileno()).st_size > MOST_WHOLE_BYTES:
        return None
    try:
        for lines in (edn_pieces if edn else array_pieces)(path, blocks()):
            pairs.feed(lines)
        return pairs.finish()
    except (NotInPieces, HistoryError):
        return None


_Ended = tuple[int, Began, int, int, Any, int]  # what `_Pairing._add` takes


class _Pairing:
    """Joins each invocation with its completion; a process has one operation open at a time.

    model : None for the model of the first operation that writes, or else of the reads, or else
        `otherwise`. Only operations count; the same text in another field does not.
    """

    def __init__(self, path: Path, model: str | None, otherwise: str) -> None:
        self.path = path
        self.builder = Builder(model or otherwise)
        self.waiting: list[_Ended] | None = None if model else []  # until the model is known
        self.open: dict[int, Began] = {}  # by session
        self.scanned: dict[Any, int] = {}  # processes to sessions, for `scan`
        self.at = 0
        self.last_index = -1
        self.nemeses = 0

    def feed(self, lines: Iterable[tuple[int, Line]]) -> None:
        """Take operation maps in order, each with its line."""
        add, opened, at = self._add, self.open, self.at
        sessions = self.builder.sessions.ids
        for number, line in lines:
            kind, process = line.type, line.process
            at += 1
            session = sessions.get(process)
            if session is None:
                if process in NEMESES:
                    self.nemeses += 1
                    continue
                session = self.builder.sessions.place(process)
            index = line.index
            if index is not None:
                if not self.last_index < index < 2**62:
                    rule = f"index {show(index)} after {self.last_index}; indexes must grow"
                    if index >= 2**62:
                        rule = f"index {show(index)} has more than 62 bits"
                    raise self._error(number, rule)
                self.last_index = index
            if kind == "invoke":
                before = opened.pop(session, None)
                if before is not None:
                    add(session, before, at, TXN_UNKNOWN, before[2], before[3])
                opened[session] = (at, at - 1 if index is None else index, line.value, number,
                                   line.f)  # fmt: skip
                continue
            began = opened.pop(session, None)
            if began is None:
                raise self._error(
                    number,
                    f"process {show(process)} finishes a transaction ({show(kind)})"
                    " that never began; each one needs its invoke before it",
                )
            if kind == "ok":
                add(session, began, at, TXN_COMMITTED, line.value, number)
            elif kind == "fail":
                add(session, began, at, TXN_FAILED, began[2], began[3])
            elif kind == "info":
                add(session, began, at, TXN_UNKNOWN, began[2], began[3])
            else:
                rule = f"type {show(kind)} is none of invoke, ok, fail, info"
                raise self._error(number, rule)
        self.at = at
        # A view would keep the whole chunk in memory for each transaction that never ends.
        for session, (begin, label, value, number, f) in opened.items():
            if isinstance(value, msgspec.Raw):
                opened[session] = (begin, label, value.copy(), number, f.copy())

    def feed_chunk(self, chunk: Chunk) -> None:
        """Take JSON lines that follow one another: by columns where they are as usual."""
        if self.waiting is None:
            scanned = scan(chunk.first, chunk.text, chunk.lines, self.scanned, self.builder)
            if scanned is not None and self.feed_block(scanned):
                return
        lines = chunk.decoded()
        if lines is None:
            self.feed(chunk.one_by_one())
            return
        start = 0
        while self.waiting is not None and start < len(lines):
            some = lines[start : start + LOOKED_AT]
            self.feed(enumerate(some, chunk.first + start))
            start += len(some)
        first, lines = chunk.first + start, lines[start:] if start else lines
        if lines and not self.feed_block(Decoded(first, lines, self.builder.sessions)):
            self.feed(enumerate(lines, first))

    def feed_block(self, maps: Maps) -> bool:
        """Take operation maps by columns; the same as `feed`. False where they are unusual."""
        try:
            block = Block(maps, self.at, self.last_index, self.open)
        except Unusual:
            return False
        try:
            block.add(self.builder)
        except Unusual:
            for i in range(len(block)):
                self._add(*block.one(i))
        block.update(self.open)
        self.at += len(maps)
        self.last_index = block.last_index
        self.nemeses += block.nemeses
        return True

    def _add(self, session: int, began: Began, at: int, code: int, value: Any, number: int) -> None:
        """Number : the line on which the value is."""
        if self.waiting is not None:
            self._wait((session, began, at, code, value, number))
            return
        builder = self.builder
        try:
            try:
                count = builder.add_ops(plain_operations(value), code == TXN_COMMITTED, False)
            except (TypeError, ValueError, RecursionError):  # EDN, or no such operations
                count = builder.add_ops(operations_of(value), code == TXN_COMMITTED)
        except RecursionError:
            raise self._error(number, TOO_DEEP) from None
        except UnicodeDecodeError as error:
            raise self._error(number, f"no text in UTF-8: {error.reason}") from None
        except ValueError as error:
            f = _name_of(began[4])
            if f in (None, "txn") or _are_operations(value):
                rule = SUCH_AS if "unpack" in str(error) else str(error)
                raise self._error(number, rule) from None
            self._leave_out(f)
            return
        stop = NEVER if code == TXN_UNKNOWN else at
        builder.rows.extend((session, 0, began[0], stop, code, began[1], count))

    def _wait(self, ended: _Ended) -> None:
        """Keep a transaction until one shows the model of all."""
        assert self.waiting is not None
        self.waiting.append(ended)
        ops = [*_verbs_and_answers(ended[1][2]), *_verbs_and_answers(ended[4])]
        model = _model_of(_WRITES.get(f) for f, _ in ops if type(f) is str)
        if model or len(self.waiting) >= _MOST_WAITING:
            self._know(model)

    def _know(self, model: str | None) -> None:
        """Add the transactions that waited, of this model, or of the one that their reads show."""
        waiting, self.waiting = self.waiting or [], None
        self.builder.model = (
            model
            or _model_of(
                MODELS[not isinstance(answer, (list, Unordered, Tagged))]
                for _, _, _, code, value, _ in waiting
                for f, answer in _verbs_and_answers(value)
                if code == TXN_COMMITTED and f in ("r", "rp") and answer is not None
            )
            or self.builder.model
        )
        for ended in waiting:
            self._add(*ended)

    def _leave_out(self, f: Any) -> None:
        """Count a client's operation that is no transaction, such as a drain or a kill."""
        kinds = self.builder.unjudged
        kind = f"operations of clients, :f {show(f)}, whose value is no list of operations"
        if kind not in kinds and len(kinds) >= _MOST_KINDS:
            kind = "operations of clients, of other :f, whose value is no list of operations"
        kinds[kind] = kinds.get(kind, 0) + 1

    def _error(self, number: int, rule: str) -> HistoryError:
        return HistoryError(f"{self.path} line {number}: {rule}.")

    def finish(self) -> History:
        self.builder.databases.place("")
        for session, began in self.open.items():
            self._add(session, began, 0, TXN_UNKNOWN, began[2], began[3])
        if self.waiting is not None:
            self._know(None)
        if self.nemeses:
            self.builder.notes.append(
                f"{self.nemeses:,} operations of the nemesis are no transactions"
            )
        return self.builder.build()


def _model_of(found: Iterable[str | None]) -> str | None:
    """The first model that something tells of."""
    return next((model for model in found if model), None)


def _verbs_and_answers(value: Any) -> list[tuple[Any, Any]]:
    """(f, key, answer) of each operation; [] where the value is no list of operations."""
    try:
        return [(op[0], op[2]) for op in operations_of(value) if len(op) == 3]
    except (ValueError, RecursionError):
        return []


def _name_of(f: Any) -> Any:
    """An operation's :f as a plain value."""
    if isinstance(f, msgspec.Raw):
        try:
            f = json.loads(bytes(f))
        except (ValueError, RecursionError):
            return Literal("?")
    try:
        f = plain(f)
    except ValueError:
        return Literal("?")
    return "txn" if f == Literal(":txn") else f


# -- out -----------------------------------------------------------------------------------------


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
    kinds = {TXN_COMMITTED: "ok", TXN_UNKNOWN: "info"}
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


def _are_operations(value: Any) -> bool:
    """Whether a value is a list of operations, be they of this history's model or not."""
    try:
        operations_of(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def write_history(history: History, path: str | Path) -> None:
    """Write a history as .edn, .json (an array), .jsonl (a line each) or .npz, by its suffix.

    Transactions that never ended stay without a completion. The text forms have no place for a
    database id; .npz keeps it. A form refuses with HistoryError the values that it can't hold: JSON
    has one text for `:x` and "x" and no sets, and no text form can hold unjudged operations.
    """
    path = Path(path)
    if path.suffix == ".npz":
        history.save(path)
        return
    if history.unjudged or (history.sets and path.suffix != ".edn"):
        what = "what is not judged" if history.unjudged else "sets"
        raise HistoryError(f"{path}: has no place for {what}. Write it as .npz.")
    if path.suffix == ".edn":
        text = "".join(_edn_map(m) + "\n" for m in operations(history))
    elif path.suffix in (".json", ".jsonl"):
        literal_text = _literals_in_json(history, path)
        maps = (json.dumps(m, default=literal_text) for m in operations(history))
        joined = {".jsonl": ("", "\n", "\n"), ".json": ("[", ",\n ", "]\n")}[path.suffix]
        text = joined[0] + joined[1].join(maps) + joined[2]
    else:
        raise HistoryError(f"{path}: a history's name ends in one of {', '.join(SUFFIXES)}.")
    path.write_text(text, encoding="utf-8")


def _edn_map(operation: dict[str, Any]) -> str:
    fields = {"type": f":{operation['type']}", "f": ":txn"}
    ops = (f"[:{f} {edn_text(key)} {edn_text(value)}]" for f, key, value in operation["value"])
    fields["value"] = f"[{' '.join(ops)}]"
    fields["process"] = edn_text(operation["process"])
    return "{" + ", ".join(f":{k} {fields.get(k, v)}" for k, v in operation.items()) + "}"


def _literals_in_json(history: History, path: Path) -> Callable[[Any], str]:
    """A function that writes a Literal in JSON, as a string that nothing else in the history is."""
    texts: dict[Any, str] = {}
    for names in (history.keys, history.sessions, history.others):
        taken = {name for name in names if isinstance(name, str)}
        for name in names:
            if isinstance(name, Literal):
                text = name.text.removeprefix(":")
                if text in taken:
                    raise HistoryError(
                        f"{path}: JSON can't tell {show(name)} from {show(text)}. "
                        "Write it as .edn or .npz."
                    )
                taken.add(text)
                texts[identity(name)] = text
    return lambda literal: texts[identity(literal)]
