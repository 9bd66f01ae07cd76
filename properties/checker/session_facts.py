"""What the sessions of a history read and wrote, as columns: what the session guarantees are about.

A version of a list is how much of it there is, so versions are numbers that can be compared. A
version of a register is a write, and nothing tells which of two came first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from properties.checker.graph import components
from properties.checker.list_edges import Lists
from properties.checker.verdict import Findings
from properties.checker.write_index import index_writes
from workloads.records import NIL, NOT_KNOWN, TXN_COMMITTED, TXN_UNKNOWN, WRITE, History

NOT_TOLD = -2  # the writer of an element that several may have appended


@dataclass
class Facts:
    """Reads of others' writes and writes of what happened, in the order of the operations.

    read, write : operations. read_version : of a list how many elements it had when it was read,
        its transaction's own last ones left out; of a register the write, or -1 - key for the
        initial state. read_least : the same, without last elements that may be its own.
    write_version : of a list the elements up to this one (one more than anybody saw where nobody
        saw it), of a register the write itself.
    shown : the lists' elements that were seen, key by key in order, as writes (-1 where that can't
        be told); element_start : of each key. Of registers, each write.
    session : shape (n,), of each transaction, numbered from 0; -1 for one of a session that ran
        several at once, which proves nothing of what came before. apart : how many such sessions.
    """

    h: History
    op_txn: np.ndarray
    lists: bool
    read: np.ndarray
    read_version: np.ndarray
    read_least: np.ndarray
    write: np.ndarray
    write_version: np.ndarray
    shown: np.ndarray
    element_start: np.ndarray
    session: np.ndarray
    apart: int

    def node(self, version: np.ndarray) -> np.ndarray:
        """A number for each version of a register, from 0: the writes, then the initial states."""
        written = version >= 0
        return np.where(
            written, np.searchsorted(self.write, version), len(self.write) - 1 - version
        )

    @cached_property
    def next_writes(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads (places in `read`) and the next write of their transaction to their key."""
        h, ops = self.h, len(self.op_txn) + 1
        groups = [
            self.op_txn[op].astype(np.int64) * len(h.keys) + h.op_key[op]
            for op in (self.read, self.write)
        ]
        order = np.lexsort((self.write, groups[1]))
        at = np.searchsorted(
            groups[1][order] * ops + self.write[order], groups[0] * ops + self.read
        )
        has = at < len(order)
        has[has] = groups[1][order[at[has]]] == groups[0][has]
        return np.flatnonzero(has), order[at[has]]

    @cached_property
    def disagree(self) -> bool:
        """Whether registers were each written by one who had read the other, in a circle."""
        read, write = self.next_writes
        if self.lists or not len(read):
            return False
        nodes = len(self.write) + len(self.h.keys)
        return bool(components(nodes, self.node(self.read_version[read]), write)[1].any())

    @property
    def updates(self) -> tuple[np.ndarray, np.ndarray]:
        """`next_writes` where they agree, else none."""
        read, write = self.next_writes
        return (read[:0], write[:0]) if self.disagree else (read, write)

    def last_shown(self, reads: np.ndarray) -> np.ndarray:
        """The row in `shown` of the last element that each read (a place in `read`) saw, or -1."""
        version = self.read_least[reads]
        if not self.lists:
            return np.where(version >= 0, np.searchsorted(self.shown, version), -1)
        return np.where(
            version > 0, self.element_start[self.h.op_key[self.read[reads]]] + version - 1, -1
        )


def sessions_in_turn(h: History, happened: np.ndarray) -> tuple[np.ndarray, int]:
    """The session of each transaction, -1 where it runs several at once, and how many do."""
    rows = np.flatnonzero(happened)
    rows = rows[np.lexsort((rows, h.txn_session[rows]))]
    session = h.txn_session[rows]
    done = h.txn_outcome[rows] == TXN_COMMITTED
    # Histories are in the order of begin: in turn, each committed one ends before the next begins.
    ends = np.where(done, h.txn_end[rows], h.txn_begin[rows])
    overlap = np.flatnonzero(
        (session[1:] == session[:-1]) & (_latest(session, ends)[:-1] > h.txn_begin[rows[1:]])
    )
    apart = np.unique(session[overlap])
    found = h.txn_session.astype(np.int64)
    found[np.isin(h.txn_session, apart)] = -1
    return found, len(apart)


def _latest(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The greatest value of each group (sorted) so far, by ranks, so that nothing overflows."""
    ranks = np.unique(value, return_inverse=True)
    high = np.maximum.accumulate(group.astype(np.int64) * (len(ranks[0]) + 1) + ranks[1])
    return ranks[0][high - group.astype(np.int64) * (len(ranks[0]) + 1)]


def of_lists(lists: Lists) -> Facts:
    h, op_txn = lists.h, lists.op_txn
    good = np.flatnonzero(~lists.bad)
    order = good[np.argsort(lists.reads[good])]
    read, key = lists.reads[order].astype(np.int64), lists.read_key[order]
    clear = lists.flat_writer >= 0
    clear[clear] = ~lists.writers.ambiguous[lists.flat_writer[clear]]
    element = np.full(len(lists.flat_writer), -1, np.int64)
    element[clear] = lists.writers.op[lists.flat_writer[clear]]
    writer = np.where(element >= 0, op_txn[element], -1) if len(op_txn) else element
    writer[writer >= 0] = np.where(lists.happened[writer[writer >= 0]], writer[writer >= 0], -1)
    element[writer < 0] = -1
    version = lists.read_len[order].astype(np.int64)
    version = _without_tail(lists, read, key, version, writer)
    least = version
    if not clear.all():
        told = np.where(clear, writer, NOT_TOLD)
        while True:
            shorter = _without_tail(lists, read, key, least, told, NOT_TOLD)
            shorter = _without_tail(lists, read, key, shorter, told)
            if (shorter == least).all():
                break
            least = shorter
    write = lists.write_ops[lists.happened[op_txn[lists.write_ops]]].astype(np.int64)
    at = lists.writers.find(h.op_key[write], h.op_value[write])
    sure = ~lists.writers.ambiguous[at] & ((lists.place[write] >= 0) | ~lists.value_seen[at])
    write = write[sure]
    place = lists.place[write] - lists.base_start[h.op_key[write]]
    unseen = lists.place[write] < 0
    ends = np.where(unseen, lists.base_len[h.op_key[write]], place) + 1
    session, apart = sessions_in_turn(h, lists.happened)
    return Facts(
        h,
        op_txn,
        True,
        read,
        version,
        least,
        write,
        ends,
        element,
        lists.base_start,
        session,
        apart,
    )


def _without_tail(
    lists: Lists,
    read: np.ndarray,
    key: np.ndarray,
    length: np.ndarray,
    writer: np.ndarray,
    whose: int | None = None,
) -> np.ndarray:
    """How long each list was before one writer, its reader unless told, appended to it."""
    if not len(writer):
        return length
    # Where the run of one writer's elements that ends at each place begins.
    new = np.ones(len(writer), bool)
    new[1:] = (writer[1:] != writer[:-1]) | (lists.flat_key[1:] != lists.flat_key[:-1])
    begin = np.maximum.accumulate(np.where(new, np.arange(len(writer)), 0))
    last = lists.base_start[key] + length - 1
    own = length > 0
    own[own] = writer[last[own]] == (lists.op_txn[read[own]] if whose is None else whose)
    length = length.copy()
    length[own] = begin[last[own]] - lists.base_start[key[own]]
    return length


def of_registers(h: History, op_txn: np.ndarray, happened: np.ndarray) -> Facts:
    aborted = (h.txn_outcome != TXN_COMMITTED) & (h.txn_outcome != TXN_UNKNOWN)
    writers = index_writes(h, op_txn, aborted, Findings())
    known = (h.op_kind != WRITE) & (h.txn_outcome[op_txn] == TXN_COMMITTED)
    read = np.flatnonzero(known & (h.op_value != NOT_KNOWN))
    nil = h.op_value[read] == NIL
    at = writers.find(h.op_key[read], np.where(nil, 0, h.op_value[read]))
    at[nil] = -1
    found = at >= 0
    version = -1 - h.op_key[read].astype(np.int64)
    version[found] = writers.op[at[found]]
    clear = nil.copy()
    clear[found] = ~writers.ambiguous[at[found]] & happened[op_txn[version[found]]]
    clear[found] &= op_txn[version[found]] != op_txn[read[found]]
    write = np.flatnonzero((h.op_kind == WRITE) & happened[op_txn])
    place = writers.find(h.op_key[write], h.op_value[write])
    write = write[~writers.ambiguous[place]] if len(place) else write
    session, apart = sessions_in_turn(h, happened)
    start = np.zeros(len(h.keys) + 1, np.int64)
    return Facts(
        h,
        op_txn,
        False,
        read[clear],
        version[clear],
        version[clear],
        write,
        write,
        write,
        start,
        session,
        apart,
    )
