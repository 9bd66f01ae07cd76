"""The dependency graph, which levels its cycles rule out, and the shortest cycles as evidence.

Levels are decided by strongly connected components, exactly and without a time limit. Cycles to
show are searched afterwards, only inside components and with bounded effort: the bound can cost a
witness of one name, never a verdict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from workloads.history import COMMITTED, NEVER, History

# Kinds of edges. WW_IF is a write order that holds if an unknown transaction, proven by another
# write that was read, committed whole: if it didn't, that read was of an aborted write. Either
# way read-committed is violated by a cycle through it; read-uncommitted may not be.
# PASS leads from a helper node on to its transactions and keeps the kind of the edge before.
WW, WW_IF, WR, RW, RW_PREDICATE, PROCESS, REALTIME, PASS = range(8)
KIND_NAMES = ("ww", "ww", "wr", "rw", "rw", "process", "realtime", "pass")

_DEPENDS = (WW, WW_IF, WR)
_ANTI = (RW, RW_PREDICATE)
_SESSION = (PROCESS,)
_REAL = (PROCESS, REALTIME)
# What may make a cycle at each level that is decided by cycles; where the third is True, only
# cycles in which no two anti-dependencies are adjacent count (Cerone and Gotsman 2016).
CYCLES: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    "read-uncommitted": ((WW,), (), False),
    "read-committed": (_DEPENDS, (), False),
    "repeatable-read": (_DEPENDS, (RW,), False),
    "serializable": (_DEPENDS, _ANTI, False),
    "snapshot-isolation": (_DEPENDS, _ANTI, True),
    "strong-session-snapshot-isolation": (_DEPENDS + _SESSION, _ANTI, True),
    "strong-session-serializable": (_DEPENDS + _SESSION, _ANTI, False),
    "strong-snapshot-isolation": (_DEPENDS + _REAL, _ANTI, True),
    "strict-serializable": (_DEPENDS + _REAL, _ANTI, False),
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
    ends = history.txn_outcome[rows] == COMMITTED
    places = np.arange(len(rows))
    before = np.maximum.accumulate(np.where(ends, places, -1))[:-1]
    after = rows[1:]
    before, after = rows[before], after[:]
    same = (history.txn_session[before] == history.txn_session[after]) & (
        history.txn_outcome[before] == COMMITTED
    )
    same &= history.txn_end[before] <= history.txn_begin[after]
    graph.add(before[same], after[same], PROCESS)


def add_realtime_edges(graph: Graph, history: History, happened: np.ndarray) -> None:
    """What ended before something else began comes before it.

    One barrier node stands for each completion: transaction -> its barrier -> the next barrier,
    and the last barrier before a beginning -> the transaction that begins. Three edges each,
    where all pairs would be a square.
    """
    ended = np.flatnonzero(
        happened & (history.txn_outcome == COMMITTED) & (history.txn_end != NEVER)
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
    group, op, txn, own = group[both], op[both], txn[both], write_op[np.searchsorted(
        codes, mine[both]
    )]
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
        ones. Returns edge numbers, source state node, target state node.
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
                        int(self.names[source]), int(self.names[target]), int(self.kind[e]),
                        int(self.source_op[e]), int(self.target_op[e]), int(self.via[e]),
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
    anti = [kind in _ANTI for kind in kinds]
    suffix = "-realtime" if REALTIME in kinds else "-process" if PROCESS in kinds else ""
    predicate = RW_PREDICATE in kinds
    if not any(anti):
        return ("G1c" if WR in kinds else "G0") + suffix
    adjacent = any(a and b for a, b in zip(anti, anti[1:] + anti[:1], strict=True))
    if sum(anti) > 1 and adjacent:
        return ("G2" if predicate else "G2-item") + suffix
    name = "G-single" if sum(anti) == 1 else "G-nonadjacent"
    return name + (suffix or ("-predicate" if predicate else ""))


# How to look for one name: the kinds the first edge may have, what must follow it at once, the
# kinds that may follow, and a kind that must occur.
@dataclass(frozen=True)
class Search:
    """A cycle's pattern: its first edge, its second (if bound), the rest, and what must occur."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    rest: tuple[int, ...]
    needs: tuple[int, ...]
    level: str


def searches() -> Iterator[Search]:
    """Every pattern, the worst anomalies first."""
    extras = (((), "", ""), (_SESSION, "strong-session-", ""), (_REAL, "strong-", "strict-"))
    for extra, si, ser in extras:
        session = si == "strong-session-"
        weak = si + "snapshot-isolation"
        strong = (ser or (si if session else "")) + "serializable"
        needs = (extra[-1],) if extra else ()
        yield Search((WW,), (), (WW, *extra), needs, weak if extra else "read-uncommitted")
        yield Search((WR,), (), (*_DEPENDS, *extra), needs, weak if extra else "read-committed")
        for anti in ((RW,), _ANTI):
            must = needs + ((RW_PREDICATE,) if len(anti) == 2 else ())
            yield Search(anti, (), (*_DEPENDS, *extra), must, weak)
            yield Search(anti, (-1,), (*_DEPENDS, *anti, *extra), must, weak)
            level = "repeatable-read" if not extra and len(anti) == 1 else strong
            yield Search(anti, anti, (*_DEPENDS, *anti, *extra), must, level)


class Finder:
    """Breadth-first searches for short cycles of a pattern inside the reduced graph."""

    def __init__(self, reduced: Reduced, budget: int = 60_000, wanted: int = 8) -> None:
        self.reduced, self.budget, self.wanted = reduced, budget, wanted

    def find(self, search: Search) -> list[list[int]]:
        """Up to `wanted` cycles of the pattern, as edge numbers, shortest first."""
        reduced = self.reduced
        edges = np.unique(reduced.of_level(search.level)[0])
        if not len(edges):
            return []
        source, target, kind = (c[edges] for c in (reduced.source, reduced.target, reduced.kind))
        label, _ = components(reduced.nodes, source, target)
        if not set(search.needs) <= set(kind.tolist()):
            return []
        starts = self._starts(search, edges, source, target, label)
        order = np.argsort(source, kind="stable")
        self._out = (edges[order], np.searchsorted(source[order], np.arange(reduced.nodes + 1)))
        left = self.budget
        best: dict[tuple[int, ...], list[int]] = {}
        for start in starts:
            if left <= 0 or len(best) >= self.wanted * 8:
                break
            # A share for each start: the first may lie on long cycles of a huge component only.
            path, cost = self._walk(start, search, max(left // 8, 1000))
            left -= cost
            if path is not None:
                best.setdefault(tuple(sorted(path)), path)
        return sorted(best.values(), key=len)[: self.wanted]

    def _starts(
        self,
        search: Search,
        edges: np.ndarray,
        source: np.ndarray,
        target: np.ndarray,
        label: np.ndarray,
    ) -> list[int]:
        """First edges worth a search: of cycles of two, then of small components; 64 of each."""
        codes = source.astype(np.int64) * self.reduced.nodes + target
        turned = target.astype(np.int64) * self.reduced.nodes + source
        far = ~np.isin(codes, turned)
        size = np.bincount(label)[label[source]]
        chosen = np.flatnonzero(np.isin(self.reduced.kind[edges], search.first))
        chosen = chosen[np.lexsort((far[chosen], label[source[chosen]]))]
        of = label[source[chosen]]
        rank = np.arange(len(of)) - np.searchsorted(of, of)
        chosen = chosen[rank < 64]
        chosen = chosen[np.lexsort((size[chosen], far[chosen], rank[rank < 64] > 0))]
        return edges[chosen].tolist()

    def _walk(self, start: int, search: Search, budget: int) -> tuple[list[int] | None, int]:
        """The shortest way from the end of an edge back to its beginning or None, and its cost."""
        reduced, (out, places) = self.reduced, self._out
        goal = int(reduced.source[start])
        alternate = search.second == (-1,)
        # State: (last edge was an anti-dependency, another one was seen, which needs were met).
        met = frozenset({int(reduced.kind[start])} & set(search.needs))
        first = (int(reduced.target[start]), True, False, met)
        came: dict[tuple[int, bool, bool, frozenset[int]], tuple[object, int]] = {first: (None, start)}
        queue, cost = deque([first]), 0
        while queue:
            state = queue.popleft()
            node, anti, more, met = state
            cost += 1
            if cost > budget:
                break
            for edge in out[places[node] : places[node + 1]].tolist():
                kind = int(reduced.kind[edge])
                if kind != PASS:
                    if kind not in search.rest and not (state == first and kind in search.second):
                        continue
                    if alternate and anti and kind in _ANTI:
                        continue
                    if search.second and not alternate and not more and kind not in search.second:
                        continue
                is_anti = anti if kind == PASS else kind in _ANTI
                met_now = met | {kind} if kind in search.needs else met
                more_now = more or (is_anti and kind != PASS)
                reached = (int(reduced.target[edge]), is_anti, more_now, met_now)
                if reached in came:
                    continue
                came[reached] = (state, edge)
                if reached[0] == goal and self._accepts(search, reached):
                    path = self._path(came, reached)
                    if self._simple(path):
                        return path, cost
                queue.append(reached)
        return None, cost

    @staticmethod
    def _accepts(search: Search, state: tuple[int, bool, bool, frozenset[int]]) -> bool:
        _, anti, more, met = state
        if len(met) < len(search.needs):
            return False
        if search.second == (-1,):
            return more and not anti
        return more or not search.second

    @staticmethod
    def _path(came: dict, state: object) -> list[int]:
        path: list[int] = []
        while state is not None:
            state, edge = came[state]
            path.append(edge)
        return path[::-1]

    def _simple(self, path: list[int]) -> bool:
        seen = self.reduced.source[path]
        return len(np.unique(seen)) == len(seen)
