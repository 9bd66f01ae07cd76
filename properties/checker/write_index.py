"""Who wrote which value to which key: the index that lists and registers share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from properties.checker.verdict import Findings
from workloads.records import NIL, NOT_KNOWN, WRITE, History, show


@dataclass
class Writers:
    """The writes, sorted so that the write of an element is found by bisection.

    op : shape (w,), operations, sorted by `codes`; of an element that several may have written
    only one stands here, with `ambiguous`. count, possible : how often it was written, and how
    often so that it may be there: not by what was aborted. Where it was written by one that may be
    there and by aborted ones too, whoever read it read that one, or an aborted write.
    repeated : how many keys and values are ambiguous.
    """

    op: np.ndarray
    codes: np.ndarray
    ambiguous: np.ndarray
    count: np.ndarray
    possible: np.ndarray
    low: int
    span: int

    @property
    def repeated(self) -> int:
        return int(self.ambiguous.sum())

    def find(self, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Place in `op` of who wrote each value to each key, -1 for nobody."""
        if not len(self.codes):
            return np.full(len(key), -1)
        value = value.astype(np.int64, copy=False)
        inside = (value >= self.low) & (value < self.low + self.span)
        codes = key.astype(np.int64) * self.span + np.where(inside, value - self.low, 0)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(inside & (self.codes[at] == codes), at, -1)


def index_writes(
    h: History, op_txn: np.ndarray, aborted: np.ndarray, findings: Findings
) -> Writers:
    """The index of all writes; values that several may have written to one key are marked."""
    ops = np.flatnonzero(h.op_kind == WRITE).astype(np.int32)
    if not len(ops):
        empty = np.zeros(0, np.int64)
        return Writers(ops, empty, empty.astype(bool), empty, empty, 0, 1)
    value = h.op_value[ops]
    low, span = int(value.min()), int(value.max()) - int(value.min()) + 1
    codes = h.op_key[ops].astype(np.int64) * span + (value - low)
    order = np.argsort(codes)
    if (np.diff(codes[order]) == 0).any():
        # A retried transaction often writes the same value again: what the refused attempt
        # wrote can't be told from what the committed one did, and gets the benefit of doubt.
        order = np.lexsort((aborted[op_txn[ops]], codes))
    codes = codes[order]
    first = np.ones(len(codes), bool)
    first[1:] = codes[1:] != codes[:-1]
    group = np.cumsum(first) - 1
    possible = np.bincount(group, ~aborted[op_txn[ops[order]]])
    ambiguous = possible > 1
    if many := int(ambiguous.sum()):
        op = ops[order[np.flatnonzero(ambiguous[group])[0]]]
        one = f"{show(h.decode(h.op_value[op]))} to {show(h.keys[h.op_key[op]])}"
        findings.unjudged[
            f"values that were written to one key more than once ({one}): which write a read saw "
            "is not told"
        ] = many
    count = np.bincount(group)
    return Writers(ops[order[first]], codes[first], ambiguous, count, possible, low, span)


def packable(history: History) -> History:
    """The same history with its values numbered where they are too far apart to pack with a key."""
    writes = history.op_kind == WRITE
    written = history.op_value[writes]
    if (
        not len(written)
        or (int(written.max()) - int(written.min()) + 1) * (len(history.keys) + 1) < 2**62
    ):
        return history
    lists = history.model == "list-append"
    reads = history.op_value[history.op_kind != WRITE]
    reads = reads[(reads != NIL) & (reads != NOT_KNOWN)]
    in_sets = np.array([code for codes in history.sets.values() for code in codes], np.int64)
    values = np.unique(np.concatenate((written, history.elements if lists else reads, in_sets)))
    first = 2**62
    named = writes | ((history.op_value != NIL) & (history.op_value != NOT_KNOWN) & (not lists))
    op_value = history.op_value.copy()
    op_value[named] = first + np.searchsorted(values, op_value[named])
    return replace(
        history,
        op_value=op_value,
        elements=first + np.searchsorted(values, history.elements),
        others=[history.decode(v) for v in values.tolist()],
        sets={
            op: (first + np.searchsorted(values, np.array(codes, np.int64))).tolist()
            for op, codes in history.sets.items()
        },
    )
