"""Lists that are only appended to: every read tells the whole order of versions before it.

The longest read of a key is the order of its appends; every other read must be a prefix of it.
"""

from __future__ import annotations

import numpy as np

from properties.checker.graph import Graph
from properties.checker.verdict import Findings, Witness, elide
from properties.checker.write_index import index_writes
from workloads.records import TXN_COMMITTED, TXN_UNKNOWN, WRITE, History, show

_CHUNK = 1 << 20  # elements compared at once: bounds the memory, not the work


class Versions:
    """The order of each list's versions, and which reads fit none: `Lists` draws the edges."""

    def __init__(self, history: History, graph: Graph, findings: Findings) -> None:
        self.h, self.graph, self.findings = history, graph, findings
        self.op_txn = np.repeat(np.arange(len(history), dtype=np.int32), np.diff(history.op_start))
        writes = history.op_kind == WRITE
        known = history.txn_outcome[self.op_txn] == TXN_COMMITTED
        self.write_ops = np.flatnonzero(writes).astype(np.int32)
        self.reads = np.flatnonzero(~writes & known & (history.op_length >= 0)).astype(np.int32)
        self.read_key = history.op_key[self.reads]
        self.read_len = history.op_length[self.reads]
        self.read_at = history.op_value[self.reads]
        self.unseen = np.zeros(0, np.int32)
        self.aborted = (history.txn_outcome != TXN_COMMITTED) & (history.txn_outcome != TXN_UNKNOWN)
        self.writers = index_writes(history, self.op_txn, self.aborted, findings)
        self.happened = history.txn_outcome == TXN_COMMITTED  # and, once read, some of unknown end

    def find(self) -> None:
        """Choose each key's longest read and compare the others with it."""
        self._choose_bases()
        self.bad = self._not_prefixes()
        self._find_elements()

    def _choose_bases(self) -> None:
        """The longest read of each key, without duplicates: base_at, base_len of shape (keys,)."""
        keys = len(self.h.keys)
        self.base_at, self.base_len = np.zeros(keys, np.int64), np.zeros(keys, np.int64)
        self.base_read = np.full(keys, -1)
        np.maximum.at(self.base_len, self.read_key, self.read_len)
        longest = np.flatnonzero(
            (self.read_len == self.base_len[self.read_key]) & (self.read_len > 0)
        )[::-1]
        self.base_read[self.read_key[longest]] = longest
        has = np.flatnonzero(self.base_read >= 0)
        self.base_at[has] = self.read_at[self.base_read[has]]
        self._lay_out()
        for key in self._with_duplicates():
            self._rebase(int(key))
        self._lay_out()

    def _lay_out(self) -> None:
        """All bases one behind the other: flat_key, flat_value, base_start."""
        self.base_start = np.zeros(len(self.base_len) + 1, np.int64)
        np.cumsum(self.base_len, out=self.base_start[1:])
        self.flat_key = np.repeat(np.arange(len(self.base_len), dtype=np.int32), self.base_len)
        place = np.arange(len(self.flat_key)) + np.repeat(
            self.base_at - self.base_start[:-1], self.base_len
        )
        self.flat_value = self.h.elements[place]
        self.flat_writer = self.writers.find(self.flat_key, self.flat_value)

    def _with_duplicates(self) -> np.ndarray:
        """Keys whose base holds an element more often than it was appended."""
        known = self.flat_writer >= 0
        seen = np.bincount(self.flat_writer[known], minlength=len(self.writers.op))
        often = np.zeros(len(self.flat_writer), bool)
        often[known] = (seen > np.maximum(self.writers.count, 1))[self.flat_writer[known]]
        nobody = np.flatnonzero(~known)
        if len(nobody):
            order = nobody[np.lexsort((self.flat_value[nobody], self.flat_key[nobody]))]
            same = (self.flat_key[order[1:]] == self.flat_key[order[:-1]]) & (
                self.flat_value[order[1:]] == self.flat_value[order[:-1]]
            )
            often[order[1:][same]] = True
        return np.unique(self.flat_key[often])

    def _rebase(self, key: int) -> None:
        """Take the longest read of this key that holds nothing twice, if there is one."""
        mine = np.flatnonzero((self.read_key == key) & (self.read_len > 0))
        self.base_len[key], self.base_read[key] = 0, -1
        for read in mine[np.argsort(-self.read_len[mine], kind="stable")]:
            if not self._duplicates(read):
                self.base_at[key], self.base_len[key] = self.read_at[read], self.read_len[read]
                self.base_read[key] = read
                return

    def _seen(self, read: int) -> np.ndarray:
        at = int(self.read_at[read])
        return self.h.elements[at : at + int(self.read_len[read])]

    def _duplicates(self, read: int) -> list[int]:
        """Elements that this read holds more often than they were appended."""
        values, counts = np.unique(self._seen(read), return_counts=True)
        twice = counts > 1
        if not twice.any():
            return []
        values, counts = values[twice], counts[twice]
        at = self.writers.find(np.full(len(values), self.read_key[read]), values)
        allowed = np.where(at >= 0, self.writers.count[at] if len(self.writers.count) else 1, 1)
        return values[counts > allowed].tolist()

    def _not_prefixes(self) -> np.ndarray:
        """Which reads are no prefix of their key's base, shape (reads,), compared in chunks."""
        bad = self.read_len > self.base_len[self.read_key]
        todo = np.flatnonzero((self.read_len > 0) & ~bad)
        ends = np.cumsum(self.read_len[todo], dtype=np.int64)
        start = 0
        while start < len(todo):
            stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + _CHUNK, "right"))
            stop = max(stop, start + 1)
            some = todo[start:stop]
            lengths = self.read_len[some]
            firsts = np.cumsum(lengths, dtype=np.int64) - lengths
            within = np.arange(int(lengths.sum())) - np.repeat(firsts, lengths)
            mine = self.h.elements[within + np.repeat(self.read_at[some], lengths)]
            base = self.base_start[self.read_key[some]]
            differs = mine != self.flat_value[within + np.repeat(base, lengths)]
            if differs.any():
                bad[some] |= np.logical_or.reduceat(differs, firsts)
            start = stop
        return bad

    def _find_elements(self) -> None:
        """Where each append stands in its key's order: flat place, -1 unseen, shape (ops,)."""
        self.place = np.full(len(self.h.op_kind), -1, np.int64)
        known = np.flatnonzero(self.flat_writer >= 0)
        known = known[~self.writers.ambiguous[self.flat_writer[known]]]
        self.place[self.writers.op[self.flat_writer[known]]] = known
        self.seen = self.place >= 0
        # Whether any read holds each written value; `seen` has that for the unambiguous ones alone.
        self.value_seen = np.zeros(len(self.writers.op), bool)
        self.value_seen[self.flat_writer[self.flat_writer >= 0]] = True
        self.broken = np.zeros(len(self.flat_key), bool)

    def _first_difference(self, a: np.ndarray, b: np.ndarray) -> list:
        least = min(len(a), len(b))
        differs = np.flatnonzero(a[:least] != b[:least])
        at = int(differs[0]) if len(differs) else max(least - 1, 0)
        return [self.h.decode(v) for v in (*a[at : at + 1], *b[at : at + 1])]

    def _witness(self, name: str, read: int, others: list[int], value: int, why: str) -> None:
        if self.findings.full(name):
            return
        decoded = self.h.decode(value)
        seen = [self.h.decode(v) for v in self._seen(read)]
        text = why.format(
            value=show(decoded),
            key=show(self.h.keys[self.read_key[read]]),
            list=elide(seen, [decoded]),
        )
        txn = int(self.op_txn[self.reads[read]])
        self.findings.add(Witness(name, [txn, *others], why=text, marks=[decoded]))

    def ambiguous(self, op: int) -> bool:
        """Whether the value that this operation appended was appended by others, too."""
        at = self.writers.find(self.h.op_key[op : op + 1], self.h.op_value[op : op + 1])
        return bool(self.writers.ambiguous[at[0]])

    def aborted_writer(self, writer: int) -> int:
        """The transaction of an aborted write of this value, which was written by others too."""
        op = self.writers.op[writer]
        same = (self.h.op_key == self.h.op_key[op]) & (self.h.op_value == self.h.op_value[op])
        same &= (self.h.op_kind == WRITE) & self.aborted[self.op_txn]
        return int(self.op_txn[np.flatnonzero(same)[0]])
