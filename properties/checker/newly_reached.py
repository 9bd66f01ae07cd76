"""What a round of inference has to look at: the pairs whose reachability the last edges changed.

With vector clocks a change says by itself which pairs it concerns. Where a reader's clock of a
chain has grown, the last writer of that chain that it saw may be a later one. Where a writer's
clock of a chain has grown from p to q, just the versions of that chain behind p, up to q, have
newly come before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

Pairs = tuple[np.ndarray, np.ndarray]
ENTRIES_AT_ONCE = 1_000_000
MOST_IN_TABLE = (
    4_000_000  # keys times chains; the group of each is searched for where they are more
)


class Writes(Protocol):
    """The final writes by key, chain and place; `first` bounds the groups of one key and chain.

    read_key, reader, of : of each read its key, its transaction and the version that it saw, as a
    place among the writes, -1 for the initial state.
    """

    writer: np.ndarray
    written: np.ndarray
    first: np.ndarray
    reader: np.ndarray
    read_key: np.ndarray
    version: np.ndarray


class Rows:
    """Numbers by owner: which rows belong to each of some owners, all found at once."""

    def __init__(self, owner: np.ndarray, owners: int, kept: np.ndarray | None = None) -> None:
        rows = np.arange(len(owner)) if kept is None else np.flatnonzero(kept)
        self._rows = rows[np.argsort(owner[rows], kind="stable")]
        self._start = np.zeros(owners + 1, np.int64)
        np.cumsum(np.bincount(owner[rows], minlength=owners), out=self._start[1:])

    def count(self, owner: np.ndarray) -> np.ndarray:
        return self._start[owner + 1] - self._start[owner]

    def of(self, owner: np.ndarray) -> Pairs:
        """The place in `owner` and the row, of each row of each of them."""
        which, at = spans(self._start[owner], self._start[owner + 1])
        return which, self._rows[at]


def spans(start: np.ndarray, stop: np.ndarray) -> Pairs:
    """Of many spans the number of the span and each place in it."""
    count = np.maximum(stop - start, 0)
    which = np.repeat(np.arange(len(count)), count)
    ends = np.cumsum(count)
    return which, np.arange(len(which)) + np.repeat(start - ends + count, count)


class ByClocks:
    """The pairs of one graph with vector clocks, round by round."""

    def __init__(
        self, writes: Writes, chain: np.ndarray, place: np.ndarray, scale: int, keys: int
    ) -> None:
        self.writes, self.scale, self.transactions = writes, scale, len(chain)
        transactions = self.transactions
        self.chain, self.length = chain[writes.writer], transactions + 1
        self.chains = int(chain.max(initial=-1)) + 1
        first = writes.first[:-1]
        self.groups = writes.written[first] * self.chains + self.chain[first]
        self.table: np.ndarray | None = None
        if keys * self.chains <= MOST_IN_TABLE:
            self.table = np.full(keys * self.chains, -1, np.int32)
            self.table[self.groups] = np.arange(len(first))
        sizes = np.diff(writes.first)
        self.group = np.repeat(np.arange(len(first)), sizes)
        self.place = place[writes.writer]
        self.codes = self.group * self.length + self.place + 1
        seen = writes.version >= 0
        self.by_reader = Rows(writes.reader, transactions, seen)
        self.by_writer = Rows(writes.writer, transactions)
        self.by_version = Rows(writes.version, len(writes.writer), seen)

    def _group(self, key: np.ndarray, chain: np.ndarray) -> Pairs:
        """The group of each key and chain, and which of them have one."""
        code = key * self.chains + chain
        if not len(self.groups):
            return code, np.zeros(len(code), bool)
        if self.table is not None:
            at = self.table[code]
            return at, at >= 0
        at = np.minimum(np.searchsorted(self.groups, code), len(self.groups) - 1)
        return at, self.groups[at] == code

    def _behind(self, group: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The first of the group's writes that is behind a place of its chain."""
        return np.searchsorted(self.codes, group * self.length + place + 1, side="right")

    def given(self) -> Iterator[Pairs]:
        """What no round changes: a write and the next of its group."""
        at = np.flatnonzero(self.group[1:] == self.group[:-1])
        yield at, at + 1

    def beginnings(self) -> Iterator[Pairs]:
        """Reads of the initial state, each with the first write of each chain to its key."""
        writes = self.writes
        keys = writes.written[writes.first[:-1]]
        reads = np.flatnonzero(writes.version < 0)
        key = writes.read_key[reads]
        start, stop = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
        for some in _pieces(stop - start):
            which, group = spans(start[some], stop[some])
            yield reads[some][which], writes.first[group]

    def last_seen(self, changed: np.ndarray, rows: np.ndarray, old: np.ndarray) -> Iterator[Pairs]:
        """Reads, each with the last write of a chain that its reader has seen by now, not before.

        changed : nodes whose rows have grown; rows, old : all rows, and theirs before.
        """
        writes = self.writes
        for nodes, before in self._of(changed, old, 0, self.by_reader):
            at, chain = np.nonzero(rows[nodes] != before)
            which, read = self.by_reader.of(nodes[at] // self.scale)
            at, chain = at[which], chain[which]
            group, there = self._group(writes.read_key[read], chain)
            at, chain, read, group = at[there], chain[there], read[there], group[there]
            write = self._behind(group, rows[nodes[at], chain]) - 1
            new = write >= writes.first[group]
            new[new] = self.place[write[new]] > before[at[new], chain[new]]
            read, write, group = read[new], write[new], group[new]
            write = write - (writes.writer[write] == writes.reader[read])
            new = write >= writes.first[group]
            yield read[new], write[new]

    def now_after(self, changed: np.ndarray, rows: np.ndarray, old: np.ndarray) -> Iterator[Pairs]:
        """Versions, each with the first write of another chain that by now comes after it."""
        writes = self.writes
        for nodes, before in self._of(changed, old, self.scale - 1, self.by_writer):
            at, chain = np.nonzero(rows[nodes] != before)
            which, write = self.by_writer.of(nodes[at] // self.scale)
            at, chain = at[which], chain[which]
            group, there = self._group(writes.written[write], chain)
            there &= chain != self.chain[write]
            at, chain, write, group = at[there], chain[there], write[there], group[there]
            since = before[at, chain]
            # What comes before the write in front of it in its own group is that one's to tell.
            follows = np.flatnonzero((write > 0) & (self.group[write] == self.group[write - 1]))
            front = writes.writer[write[follows] - 1] * self.scale + self.scale - 1
            since[follows] = np.maximum(since[follows], rows[front, chain[follows]])
            start, stop = self._behind(group, since), self._behind(group, rows[nodes[at], chain])
            which, version = spans(start, stop)
            yield version, write[which]

    def _of(self, changed: np.ndarray, old: np.ndarray, side: int, owned: Rows) -> Iterator[Pairs]:
        """The changed nodes of one side of transactions that own rows, with what they were."""
        some = np.flatnonzero(
            (changed % self.scale == side) & (changed // self.scale < self.transactions)
        )
        some = some[owned.count(changed[some] // self.scale) > 0]
        at_once = max(1, ENTRIES_AT_ONCE // max(self.chains, 1))
        for start in range(0, len(some), at_once):
            piece = some[start : start + at_once]
            yield changed[piece], old[piece]

    def readers(self, version: np.ndarray, write: np.ndarray) -> Iterator[Pairs]:
        """The reads of each version, each with the write that goes with it."""
        for some in _pieces(self.by_version.count(version)):
            which, read = self.by_version.of(version[some])
            yield read, write[some][which]


def _pieces(counts: np.ndarray) -> Iterator[slice]:
    """Slices of which each has about so many, or is one."""
    ends, start = np.cumsum(counts), 0
    while start < len(counts):
        base = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, base + ENTRIES_AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
