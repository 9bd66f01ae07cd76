"""Transactions in chains: each member of a chain comes before the next, at levels that say so.

Real time needs as few chains as there are transactions under way at once, because "ended before the
other began" is an interval order. Each session is a chain.
"""

from __future__ import annotations

import heapq

import numpy as np

from properties.checker.graph import PROCESS, REALTIME, WW, Graph
from properties.checker.register_edges import Registers
from workloads.records import NEVER, TXN_COMMITTED, History

Chains = tuple[np.ndarray, np.ndarray]  # the chain of each transaction, its place in it


def in_real_time(h: History, happened: np.ndarray) -> Chains:
    """Each begins strictly after the one before it in its chain has ended (shape (n,) both)."""
    of, place = np.zeros(len(h), np.int64), np.zeros(len(h), np.int64)
    free: list[tuple[int, int]] = []  # (end of its last, chain)
    longest: list[int] = []
    ends = np.where(h.txn_outcome == TXN_COMMITTED, h.txn_end, NEVER).tolist()
    begins = h.txn_begin.tolist()
    for v in np.flatnonzero(happened).tolist():  # histories are in order of begin
        if free and free[0][0] < begins[v]:
            chain = heapq.heappop(free)[1]
        else:
            chain = len(longest)
            longest.append(0)
        of[v], place[v] = chain, longest[chain]
        longest[chain] += 1
        if ends[v] != NEVER:
            heapq.heappush(free, (ends[v], chain))
    return of, place


def in_sessions(h: History, happened: np.ndarray) -> Chains:
    """Each is of the same session as the one before it in its chain, which committed and ended."""
    of, place = np.zeros(len(h), np.int64), np.zeros(len(h), np.int64)
    rows = np.flatnonzero(happened)
    rows = rows[np.lexsort((h.txn_begin[rows], h.txn_session[rows]))]
    chain, last = -1, -1
    for v in rows.tolist():
        follows = (
            last >= 0
            and h.txn_session[last] == h.txn_session[v]
            and h.txn_outcome[last] == TXN_COMMITTED
            and h.txn_end[last] <= h.txn_begin[v]
        )
        chain += not follows
        of[v], place[v] = chain, place[last] + 1 if follows else 0
        last = v
    return of, place


def trust_keys(graph: Graph, seen: Registers, trusted: tuple[int, ...]) -> None:
    """Take the versions of each key to follow the sessions, or real time (the caller's option)."""
    h = seen.h
    op = seen.writes
    op = op[np.lexsort((h.txn_begin[seen.op_txn[op]], h.op_key[op]))]
    txn, key = seen.op_txn[op], h.op_key[op]
    sure = h.txn_outcome[txn] == TXN_COMMITTED
    if PROCESS in trusted:
        by = np.lexsort((np.arange(len(op)), h.txn_session[txn], key))
        last = np.maximum.accumulate(np.where(sure[by], np.arange(len(by)), -1))[:-1]
        a, b = by[last], by[1:]
        follows = (
            (last >= 0) & (key[a] == key[b]) & (h.txn_session[txn[a]] == h.txn_session[txn[b]])
        )
        follows &= h.txn_end[txn[a]] <= h.txn_begin[txn[b]]
        a, b = a[follows], b[follows]
        graph.add(txn[a], txn[b], WW, op[a], op[b])
    if REALTIME in trusted:
        # As in `add_realtime_edges`, a barrier for each write that ended, key by key.
        ended = np.flatnonzero(sure)
        ended = ended[np.lexsort((h.txn_end[txn[ended]], key[ended]))]
        first = graph.helpers(len(ended))
        barrier = np.arange(first, first + len(ended))
        graph.add(txn[ended], barrier, WW, op[ended])
        same = key[ended[1:]] == key[ended[:-1]]
        graph.add(barrier[:-1][same], barrier[1:][same], WW)
        moments = np.unique(np.concatenate((h.txn_end[txn[ended]], h.txn_begin[txn])))
        count = len(moments) + 1
        ends = key[ended].astype(np.int64) * count + np.searchsorted(moments, h.txn_end[txn[ended]])
        begins = key.astype(np.int64) * count + np.searchsorted(moments, h.txn_begin[txn])
        at = np.searchsorted(ends, begins, side="left") - 1
        later = at >= 0
        later[later] &= key[ended[at[later]]] == key[later]
        graph.add(barrier[at[later]], txn[later], WW, -1, op[later])
