"""What a transaction's reads show of every session, and so what its later reads must include.

It is kept as one number for each read and session: all that the session did before this operation
is included. For writes-follow-reads what was read there is included in turn, so these numbers
spread along a graph, as vector clocks do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from properties.checker.session_facts import Facts
from workloads.records import TXN_COMMITTED

MOST_BYTES = 400_000_000  # of numbers, one for each element, read and session

Shows = Iterator[tuple[int, np.ndarray, np.ndarray]]


class Shown:
    """For each session: up to where it is included in what each read's transaction saw before.

    too_large : a sentence, once something was left out because it would take too much memory.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.too_large = ""
        h, op_txn = facts.h, facts.op_txn
        self._txn = op_txn[facts.read].astype(np.int64)
        # Only a read with another before it in its transaction can miss what that one showed.
        self._later = np.zeros(len(self._txn), bool)
        self._later[1:] = self._txn[1:] == self._txn[:-1]
        self._writer = (
            np.where(facts.shown >= 0, op_txn[facts.shown], -1) if len(op_txn) else (facts.shown)
        )
        of = np.where(self._writer >= 0, facts.session[self._writer], -1)
        done = h.txn_outcome == TXN_COMMITTED
        lasting = np.unique(facts.session[done])
        self._sessions = np.intersect1d(np.unique(of), lasting[lasting >= 0])
        self._of = np.searchsorted(self._sessions, of)
        self._of[~np.isin(of, self._sessions)] = -1
        self._row = facts.last_shown(np.arange(len(facts.read)))

    def by_reads(self, *, transitive: bool) -> Shows | None:
        """(session, reads that must include something of it, before which operation) for each.

        None where there is no room for it.
        """
        cells = (len(self.facts.shown) + len(self._row)) * max(len(self._sessions), 1)
        if 8 * cells > MOST_BYTES:
            self.too_large = (
                "monotonic-writes and writes-follow-reads: only the order of writes to one key was "
                f"judged, because what each read shows of {len(self._sessions):,} sessions would "
                f"take {8 * cells / 1e6:,.0f} MB"
            )
            return None
        if not self._later.any():
            return iter(())
        rows = self._spread() if transitive else self._of_writers()
        return self._before(rows)

    def _before(self, rows: np.ndarray) -> Shows:
        some = self._row >= 0
        offset = self._txn * (len(self.facts.op_txn) + 1)
        for number, session in enumerate(self._sessions.tolist()):
            seen = np.zeros(len(self._row), np.int64)
            seen[some] = rows[number, self._row[some]]
            until = np.maximum.accumulate(seen + offset)
            until[1:] = until[:-1] - offset[1:]
            reads = np.flatnonzero(self._later & (until > 0)) if len(until) else until
            yield session, reads, until[reads]

    def _of_writers(self) -> np.ndarray:
        """For each session and element shown: its writers' transactions begin before there."""
        facts = self.facts
        begin = np.where(self._writer >= 0, facts.h.op_start[self._writer], 0)
        rows = np.zeros((len(self._sessions), len(facts.shown)), np.int64)
        known = np.flatnonzero(self._of >= 0)
        rows[self._of[known], known] = begin[known]
        if facts.lists:
            key = np.repeat(np.arange(len(facts.h.keys)), np.diff(facts.element_start))
            offset = key * (len(facts.op_txn) + 1)
            for row in rows:
                row[:] = np.maximum.accumulate(row + offset) - offset
        return rows

    def _spread(self) -> np.ndarray:
        """The same for what writes include through reads, theirs and others' in turn."""
        facts = self.facts
        elements, reads = len(facts.shown), len(self._row)
        nodes = elements + reads
        rows = np.zeros((nodes, len(self._sessions)), np.int64)
        known = np.flatnonzero(self._of >= 0)
        rows[known, self._of[known]] = facts.shown[known]
        a, b = self._edges(elements)
        matrix = csr_array(coo_array((np.ones(len(a), np.int8), (a, b)), shape=(nodes, nodes)))
        count, label = connected_components(matrix, directed=True, connection="strong")
        if count < nodes:  # what comes before each other includes the same
            joined = np.zeros((count, rows.shape[1]), np.int64)
            np.maximum.at(joined, label, rows)
        else:
            joined = np.empty_like(rows)
            joined[label] = rows
        _flow(joined, label[a], label[b])
        return np.ascontiguousarray(joined[label[:elements]].T)

    def _edges(self, elements: int) -> tuple[np.ndarray, np.ndarray]:
        """From what is included to what includes it; elements first, then reads."""
        facts = self.facts
        some = np.flatnonzero(self._row >= 0)
        found = [(self._row[some], elements + some)]
        session = facts.session[self._txn]
        # A session that runs several transactions at once is taken apart into these.
        whose = np.where(session >= 0, session, len(facts.h.sessions) + self._txn)
        order = np.argsort(whose, kind="stable")  # reads stand in the order of the operations
        same = whose[order[1:]] == whose[order[:-1]]
        found.append((elements + order[:-1][same], elements + order[1:][same]))
        known = np.flatnonzero(self._writer >= 0)
        if len(order):
            size = len(facts.op_txn) + 1
            codes = whose[order] * size + facts.read[order]
            mine = facts.session[self._writer[known]]
            mine = np.where(mine >= 0, mine, len(facts.h.sessions) + self._writer[known])
            at = np.searchsorted(codes, mine * size + facts.shown[known]) - 1
            has = at >= 0
            has[has] = whose[order[at[has]]] == mine[has]
            found.append((elements + order[at[has]], known[has]))
        if facts.lists:
            key = np.repeat(np.arange(len(facts.h.keys)), np.diff(facts.element_start))
            follows = np.flatnonzero(key[1:] == key[:-1])
            found.append((follows, follows + 1))
        a, b = (np.concatenate(ends) for ends in zip(*found, strict=True))
        return a.astype(np.int64), b.astype(np.int64)


def _flow(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Join each row to the rows that its edges lead to, in topological order, in place."""
    differ = a != b
    a, b = a[differ], b[differ]
    order = np.argsort(a, kind="stable")
    bounds = np.searchsorted(a[order], np.arange(len(rows) + 1)).tolist()
    targets, degree = b[order].tolist(), np.bincount(b, minlength=len(rows)).tolist()
    each = list(rows)
    ready = deque(np.flatnonzero(np.bincount(b, minlength=len(rows)) == 0).tolist())
    while ready:
        p = ready.popleft()
        row = each[p]
        for q in targets[bounds[p] : bounds[p + 1]]:
            np.maximum(row, each[q], out=each[q])
            degree[q] -= 1
            if not degree[q]:
                ready.append(q)
