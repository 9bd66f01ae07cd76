"""JSON lines of a history read by json_lines.c, a fifth of the time that msgspec and Python take.

It takes only what is most usual, and otherwise nothing: then `elle_blocks.Decoded` has the same
text. Where `make setup` could build nothing, all goes that way. Both make the same history.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from workloads.files import ROOT, compiled_path, load_compiled
from workloads.records import columns, elle_blocks
from workloads.records.elle_blocks import Unusual, decode_operations, number_of
from workloads.records.history import Builder

SOURCE = ROOT / "workloads" / "records" / "json_lines.c"
BUILD = ROOT / ".build" / "json-lines"
MODULE_NAME = "cwkit_json_lines"
_COLUMNS = 7  # kind, session, index, where value begins and ends, the same of f
_NO_INDEX = -(2**63)
_NULL = msgspec.Raw(b"null")


@cache
def load() -> ModuleType | None:
    """The module in C, loaded once a process; None where there is none, or one of other codes."""
    try:
        module = load_compiled(compiled_path(SOURCE, BUILD, MODULE_NAME), MODULE_NAME)
    except OSError:  # no source: an installed copy without it
        return None
    if module is None:
        return None
    ours = {name: getattr(columns, name, None) for name in module.CODES}
    ours |= {name: getattr(elle_blocks, name) for name in ("INVOKE", "UNKNOWN_TYPE")}
    return module if ours == module.CODES else None


def scan(
    first: int, text: bytes, count: int, known: dict[Any, int], builder: Builder
) -> Scanned | None:
    """The operation maps of `count` lines from number `first` on; None where one is not as usual.

    known : the numbers of processes that were found before; new ones are added.
    """
    module = load()
    if module is None:
        return None
    sessions = builder.sessions
    found = module.lines(text, count, known, lambda process: number_of(process, sessions))
    return None if found is None else Scanned(module, first, text, found)


class Scanned:
    """Operation maps as json_lines.c finds them: columns, and places in the text."""

    def __init__(self, module: ModuleType, first: int, text: bytes, found: bytes) -> None:
        self.first, self._module, self._text = first, module, text
        self._columns = np.frombuffer(found, np.int64).reshape(_COLUMNS, -1)

    def __len__(self) -> int:
        return self._columns.shape[1]

    def kinds(self) -> np.ndarray:
        return self._columns[0]

    def sessions(self) -> np.ndarray:
        return self._columns[1]

    def indexes(self, some: np.ndarray) -> np.ndarray | None:
        index = self._columns[2]
        if len(some) < len(index):
            index = index[some]
        missing = np.count_nonzero(index == _NO_INDEX)
        if missing == len(index):
            return None
        if missing:
            raise Unusual
        return index

    def value(self, line: int) -> msgspec.Raw:
        return self._part(line, 3)

    def f(self, line: int) -> msgspec.Raw:
        return self._part(line, 5)

    def _part(self, line: int, column: int) -> msgspec.Raw:
        first, end = self._columns[column : column + 2, line].tolist()
        return _NULL if first < 0 else msgspec.Raw(self._text[first:end])

    def add_operations(
        self, builder: Builder, places: np.ndarray, carried: Sequence[Any], committed: np.ndarray
    ) -> np.ndarray:
        text, spans = self._spans(places, carried)
        keys, lists = builder.keys, builder.model == "list-append"
        found = self._module.operations(
            text, spans, committed.astype(np.int64), keys.ids, lists, len(builder.elements)
        )
        if found is None:
            texts = [text[first:end] if first >= 0 else b"null" for first, end in spans.tolist()]
            return decode_operations(builder, texts, committed)
        counts, rows, elements, new_at, new, text_at, texts = found
        rows = np.frombuffer(rows, np.int64).reshape(-1, 4)
        if new or texts:
            rows = rows.copy()
            if texts:
                rows[np.frombuffer(text_at, np.int64), 2] = [builder.encode(v) for v in texts]
            if new:
                rows[np.frombuffer(new_at, np.int64), 1] = [keys.place(key) for key in new]
        builder.elements.frombytes(elements)
        builder.add_columns(rows)
        return np.frombuffer(counts, np.int64)

    def _spans(self, places: np.ndarray, carried: Sequence[Any]) -> tuple[bytes, np.ndarray]:
        """The text with what was carried behind it, and where in it each value is."""
        spans = self._columns[3:5].T[places]
        if not carried:
            return self._text, spans
        # A line that only Python could decode left no text: what is no JSON is left to others.
        values = [bytes(one) if type(one) is msgspec.Raw else b"?" for one in carried]
        ends = len(self._text) + np.cumsum(list(map(len, values)))
        starts = ends - list(map(len, values))
        before = places < 0
        spans[before] = np.stack((starts, ends), axis=1)[places[before]]
        return b"".join((self._text, *values)), spans
