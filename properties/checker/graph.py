"""The dependency graph, which levels its cycles rule out, and the shortest cycles as evidence.

Levels are decided by strongly connected components, exactly and without a time limit. Cycles to
show are searched afterwards, only inside components and with bounded effort: the bound can cost a
witness of one name, never a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from workloads.records import NEVER, TXN_COMMITTED, History

# Kinds of edges. WW_IF is the order of two writes, one by a transaction whose outcome is unknown.
# Another of its writes was read, so it committed, unless that read was itself an aborted read.
# Either way a cycle through the edge violates read-committed; it may not violate read-uncommitted.
# PASS leads from a helper node on to its transactions and keeps the kind of the edge before.
WW, WW_IF, WR, RW, RW_PREDICATE, PROCESS, REALTIME, PASS = range(8)
KIND_NAMES = ("ww", "ww", "wr", "rw", "rw", "process", "realtime", "pass")

DEPENDS = (WW, WW_IF, WR)
ANTI = (RW, RW_PREDICATE)
SESSION = (PROCESS,)
REAL = (PROCESS, REALTIME)
PREFIX = "consistent-prefix"
# Kinds of edges that may make a cycle, for each level that cycles decide. Where the third is True,
# only cycles in which no two anti-dependencies are adjacent count (Cerone and Gotsman 2016). For a
# consistent prefix each anti-dependency must follow a wr edge (Cerone, Gotsman and Yang 2017,
# Algebraic Laws for Weak Consistency): who writes after another need not have seen the other.
CYCLES: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    "read-uncommitted": ((WW,), (), False),
    "read-committed": (DEPENDS, (), False),
    "repeatable-read": (DEPENDS, (RW,), False),
    "serializable": (DEPENDS, ANTI, False),
    PREFIX: (DEPENDS, ANTI, True),
    "snapshot-isolation": (DEPENDS, ANTI, True),
    "strong-session-snapshot-isolation": (DEPENDS + SESSION, ANTI, True),
    "strong-session-serializable": (DEPENDS + SESSION, ANTI, False),
    "strong-snapshot-isolation": (DEPENDS + REAL, ANTI, True),
    "strict-serializable": (DEPENDS + REAL, ANTI, False),
}


@dataclass
class Step:
    """One edge of a cycle: transaction `source` comes before `target` because of two operations.

    source_op, target_op : indexes of operations, -1 where the edge is no dependency of data.
    via : a third transaction by which the order was inferred (registers), or -1.
    """

    source: int
    target: int
    kind: int
    source_op: int = -1
    target_op: int = -1
    via: int = -1


@dataclass
class Graph:
    """Edges as columns; nodes 0 to n - 1 are transactions, those above are helpers."""

    nodes: int
    columns: list[list[np.ndarray]] = field(default_factory=lambda: [[] for _ in range(6)])

    def add(
        self,
        source: np.ndarray,
        target: np.ndarray,
        kind: int | np.ndarray,
        source_op: np.ndarray | int = -1,
        target_op: np.ndarray | int = -1,
        via: np.ndarray | int = -1,
    ) -> None:
        """Add edges; all columns have one length, or are one number for all."""
        count = len(source)
        dtypes = (np.int32, np.int32, np.int8, np.int32, np.int32, np.int32)
        given = (source, target, kind, source_op, target_op, via)
        for column, values, dtype in zip(self.columns, given, dtypes, strict=True):
            column.append(np.broadcast_to(np.asarray(values, dtype), count))

    def helpers(self, count: int) -> int:
        """Reserve helper nodes and return the first."""
        first = self.nodes
        self.nodes += count
        return first

    def edges(self) -> tuple[np.ndarray, ...]:
        """source, target, kind, source_op, target_op, via: each of shape (edges,)."""
        if not self.columns[0]:
            return tuple(np.zeros(0, np.int32) for _ in range(6))
        joined = tuple(np.concatenate(column) for column in self.columns)
        self.columns = [[column] for column in joined]
        return joined


def add_session_edges(graph: Graph, history: History, happened: np.ndarray) -> None:
    """From each transaction of a session to its next. An unknown one has nothing after it.

    A write that timed out may take effect after the session's next transaction, so nothing
    orders the two; what came before in the session does come before the unknown one.
    """
    rows = np.flatnonzero(happened)
    rows = rows[np.lexsort((history.txn_begin[rows], history.txn_session[rows]))]
    ends = history.txn_outcome[rows] == TXN_COMMITTED
    places = np.arange(len(rows))
    before = np.maximum.accumulate(np.where(ends, places, -1))[:-1]
    after = rows[1:]
    before, after = rows[before], after[:]
    same = (history.txn_session[before] == history.txn_session[after]) & (
        history.txn_outcome[before] == TXN_COMMITTED
    )
    same &= history.txn_end[before] <= history.txn_begin[after]
    graph.add(before[same], after[same], PROCESS)
    _add_sessions_at_once(graph, history, rows)


def _add_sessions_at_once(graph: Graph, h: History, rows: np.ndarray) -> None:
    """Where a session ran several transactions at once, the next one is not all that follows.

    Of a 0-9, a 5-12 and a 13-14 the first comes before the last, and not before the second. As for
    real time, a barrier stands for each completion.
    """
    session, begin = h.txn_session[rows], h.txn_begin[rows]
    done = (h.txn_outcome[rows] == TXN_COMMITTED) & (h.txn_end[rows] != NEVER)
    ends = np.where(done, h.txn_end[rows], begin)
    overlap = (session[1:] == session[:-1]) & (ends[:-1] > begin[1:])
    for one in np.unique(session[1:][overlap]).tolist():
        mine = session == one
        ended = rows[mine & done]
        ended = ended[np.argsort(h.txn_end[ended], kind="stable")]
        moments = h.txn_end[ended]
        first = graph.helpers(len(ended))
        barriers = np.arange(first, first + len(ended))
        graph.add(ended, barriers, PROCESS)
        graph.add(barriers[:-1], barriers[1:], PROCESS)
        begun = rows[mine]
        starts = h.txn_begin[begun]
        # One that took no time ends when it begins, and does not come before itself.
        last = np.where(
            starts == h.txn_end[begun],
            np.searchsorted(moments, starts, side="left"),
            np.searchsorted(moments, starts, side="right"),
        )
        later = last > 0
        graph.add(barriers[last[later] - 1], begun[later], PROCESS)


def add_realtime_edges(graph: Graph, history: History, happened: np.ndarray) -> None:
    """Adds the order of real time: one transaction ended before another began.

    One barrier node stands for each completion: transaction -> its barrier -> the next barrier,
    and the last barrier before a beginning -> the transaction that begins. Three edges each,
    where all pairs would be a square.
    """
    ended = np.flatnonzero(
        happened & (history.txn_outcome == TXN_COMMITTED) & (history.txn_end != NEVER)
    )
    if not len(ended):
        return
    ended = ended[np.argsort(history.txn_end[ended], kind="stable")]
    ends = history.txn_end[ended]
    first = graph.helpers(len(ended))
    barriers = np.arange(first, first + len(ended))
    begun = np.flatnonzero(happened)
    last = np.searchsorted(ends, history.txn_begin[begun], side="left") - 1
    later = last >= 0
    graph.add(ended, barriers, REALTIME)
    graph.add(barriers[:-1], barriers[1:], REALTIME)
    graph.add(barriers[last[later]], begun[later], REALTIME)


Side = tuple[np.ndarray, np.ndarray, np.ndarray]  # group, operation, transaction


def add_fan(graph: Graph, kind: int, readers: Side, writers: Side, transactions: int) -> None:
    """From every reader of a group to every writer of that group but itself.

    A helper node of each group stands between them: all pairs would be a square. A reader that
    also writes must not reach itself, so such readers have a helper of their own, which leads to
    the others, and are joined to each other directly (two of them are a lost update).
    """
    group, op, txn = _once(readers, transactions)
    written, write_op, writer = _once(writers, transactions)
    some = np.isin(group, written)
    group, op, txn = group[some], op[some], txn[some]
    if not len(group):
        return
    codes = written.astype(np.int64) * transactions + writer
    mine = group.astype(np.int64) * transactions + txn
    both = np.isin(mine, codes)
    for who, others in ((~both, np.ones(len(codes), bool)), (both, ~np.isin(codes, mine))):
        used = np.unique(group[who])
        if not len(used):
            continue
        helper = graph.helpers(len(used))
        graph.add(txn[who], helper + np.searchsorted(used, group[who]), kind, op[who], -1)
        to = others & np.isin(written, used)
        place = helper + np.searchsorted(used, written[to])
        graph.add(place, writer[to], PASS, -1, write_op[to])
    group, op, txn, own = (
        group[both],
        op[both],
        txn[both],
        write_op[np.searchsorted(codes, mine[both])],
    )
    # Each to its next three and back: enough for each to reach each, and for short cycles.
    for step in (1, 2, 3):
        a = np.flatnonzero(group[: max(len(group) - step, 0)] == group[step:])
        b = a + step
        graph.add(txn[a], txn[b], kind, op[a], own[b])
        graph.add(txn[b], txn[a], kind, op[b], own[a])


def _once(side: Side, transactions: int) -> Side:
    """One row for each group and transaction, sorted by both."""
    group, op, txn = side
    _, first = np.unique(group.astype(np.int64) * transactions + txn, return_index=True)
    return group[first], op[first], txn[first]


def components(nodes: int, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Component of each node, and whether it is on a cycle: both of shape (nodes,)."""
    matrix = csr_array(
        coo_array((np.ones(len(source), np.float64), (source, target)), shape=(nodes, nodes))
    )
    _, label = connected_components(matrix, directed=True, connection="strong")
    return label, np.bincount(label, minlength=1)[label] > 1


class Reduced:
    """The part of a graph that lies on cycles: all there is to judge, and usually nothing."""

    def __init__(self, graph: Graph, transactions: int) -> None:
        self.transactions = transactions
        columns = graph.edges()
        source, target = columns[0], columns[1]
        if len(source):
            label, cyclic = components(graph.nodes, source, target)
            inside = cyclic[source] & (label[source] == label[target])
        else:
            cyclic, inside = np.zeros(graph.nodes, bool), np.zeros(0, bool)
        self.names = np.flatnonzero(cyclic)
        number = np.full(graph.nodes, -1, np.int32)
        number[self.names] = np.arange(len(self.names))
        kept = [column[inside] for column in columns]
        self.source, self.target = number[kept[0]], number[kept[1]]
        self.kind, self.source_op, self.target_op, self.via = kept[2:]
        self.nodes = len(self.names)
        self._levels: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def with_writes(
        self, source: np.ndarray, target: np.ndarray, source_op: np.ndarray, target_op: np.ndarray
    ) -> Reduced:
        """A copy with more ww edges between transactions that are in it."""
        twin = object.__new__(Reduced)
        twin.__dict__.update(self.__dict__)
        number = np.searchsorted(self.names, np.concatenate((source, target)))
        twin.source = np.concatenate((self.source, number[: len(source)]))
        twin.target = np.concatenate((self.target, number[len(source) :]))
        twin.kind = np.concatenate((self.kind, np.full(len(source), WW, self.kind.dtype)))
        twin.source_op = np.concatenate((self.source_op, source_op))
        twin.target_op = np.concatenate((self.target_op, target_op))
        twin.via = np.concatenate((self.via, np.full(len(source), -1)))
        twin._levels = {}
        return twin

    def of_level(self, level: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which edges lie on cycles of this level (a mask), and both their ends' states.

        For the snapshot levels a node has two states, reached by an anti-dependency (1) or not
        (0), and no anti-dependency leaves state 1: a cycle of states is a cycle without adjacent
        ones. For a consistent prefix a write reaches state 1, too. Returns edge numbers, source
        state node, target state node.
        """
        if level not in self._levels:
            depends, anti, alternate = CYCLES[level]
            forward = np.isin(self.kind, depends)
            against = np.isin(self.kind, anti)
            passes = self.kind == PASS if anti else np.zeros(len(self.kind), bool)
            if alternate:
                plain, backward, on = (np.flatnonzero(m) for m in (forward, against, passes))
                edge = np.concatenate((plain, plain, backward, on))
                leave = np.repeat([0, 1, 0, 1], [len(plain), len(plain), len(backward), len(on)])
                reach = np.repeat([0, 0, 1, 1], [len(plain), len(plain), len(backward), len(on)])
                if level == PREFIX:
                    reach[: 2 * len(plain)] = np.tile(self.kind[plain] != WR, 2)
                source = self.source[edge] * 2 + leave
                target = self.target[edge] * 2 + reach
                nodes = self.nodes * 2
            else:
                edge = np.flatnonzero(forward | against | passes)
                source, target, nodes = self.source[edge], self.target[edge], self.nodes
            if len(edge):
                label, cyclic = components(nodes, source, target)
                on_cycle = cyclic[source] & (label[source] == label[target])
                edge, source, target = edge[on_cycle], source[on_cycle], target[on_cycle]
            self._levels[level] = (edge, source, target)
        return self._levels[level]

    def violated(self) -> list[str]:
        """The levels that a cycle rules out."""
        return [level for level in CYCLES if self.nodes and len(self.of_level(level)[0])]

    def any_cycle(self, level: str) -> list[int]:
        """A cycle of this level, as edge numbers, by one breadth-first search in C."""
        edge, source, target = self.of_level(level)
        nodes = self.nodes * 2
        # Real time alone makes no cycle, so a cycle has an edge of data: begin with one.
        start = int(np.flatnonzero(self.kind[edge] < PROCESS)[0])
        matrix = csr_array(
            coo_array((np.ones(len(edge), np.float64), (source, target)), shape=(nodes, nodes))
        )
        _, before = breadth_first_order(matrix, int(target[start]), directed=True)
        back = [int(source[start])]
        while back[-1] != int(target[start]):
            back.append(int(before[back[-1]]))
        codes = source.astype(np.int64) * nodes + target
        order = np.argsort(codes)
        wanted = np.array(back[:0:-1], np.int64) * nodes + np.array(back[-2::-1], np.int64)
        places = order[np.searchsorted(codes[order], wanted)]
        return [int(edge[start]), *edge[places].tolist()]

    def steps(self, path: list[int]) -> list[Step]:
        """A cycle of edge numbers as steps between transactions, helpers folded away."""
        turned = next(i for i, e in enumerate(path) if not self._helper(int(self.source[e])))
        found: list[Step] = []
        for e in path[turned:] + path[:turned]:
            source, target = int(self.source[e]), int(self.target[e])
            if self._helper(source):
                found[-1].target = int(self.names[target])
                if self.target_op[e] >= 0:
                    found[-1].target_op = int(self.target_op[e])
            else:
                found.append(
                    Step(
                        int(self.names[source]),
                        int(self.names[target]),
                        int(self.kind[e]),
                        int(self.source_op[e]),
                        int(self.target_op[e]),
                        int(self.via[e]),
                    )
                )
        return found

    def _helper(self, node: int) -> bool:
        return int(self.names[node]) >= self.transactions


def classify(steps: list[Step]) -> str:
    """The name of a cycle by its edges: how many anti-dependencies, adjacent or not, of what kind.

    >>> classify([Step(0, 1, WR), Step(1, 0, RW)])
    'G-single'
    """
    kinds = [step.kind for step in steps]
    anti = [kind in ANTI for kind in kinds]
    suffix = "-realtime" if REALTIME in kinds else "-process" if PROCESS in kinds else ""
    predicate = RW_PREDICATE in kinds
    if not any(anti):
        return ("G1c" if WR in kinds else "G0") + suffix
    adjacent = any(a and b for a, b in zip(anti, anti[1:] + anti[:1], strict=True))
    if sum(anti) > 1 and adjacent:
        return ("G2" if predicate else "G2-item") + suffix
    name = "G-single" if sum(anti) == 1 else "G-nonadjacent"
    return name + (suffix or ("-predicate" if predicate else ""))
