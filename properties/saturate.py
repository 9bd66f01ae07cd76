"""What a level forces on the order of a register's versions, until nothing more is forced.

A reader of W's version that has seen W' (by the level's own notion of "before") proves that W'
wrote before W, and comes itself before whoever wrote after W. Contradictions are cycles. Where
nothing is contradicted and the order of all versions is settled, the level is proven to hold.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from properties.catalogue import LEVELS, ruled_out_by, weaker_or_equal
from properties.graph import (
    PROCESS,
    REALTIME,
    RW,
    RW_PREDICATE,
    WR,
    WW,
    Graph,
    Step,
    add_realtime_edges,
    add_session_edges,
    classify,
    components,
)
from properties.one_step import beside, violated_in_one_step
from properties.registers import Registers
from properties.verdict import Findings, Witness, closed, show
from workloads.history import PREDICATE_READ

MOST_TRANSACTIONS = 3000  # beyond, only what one step proves is drawn: reach sets are a square
MOST_TRIES = 64  # orders tried to prove a level; more only turn "unknown" into True or False

Edge = tuple[int, int, int, int, int, int]  # source, target, kind, source_op, target_op, via


@dataclass(frozen=True)
class Need:
    """What a level needs: kinds of given edges, whether adjacent anti-dependencies break a path,
    whether predicate reads count, and the name of a violation that has no better one."""

    extra: tuple[int, ...]
    alternate: bool
    predicates: bool
    name: str


NEEDS = {
    "repeatable-read": Need((), False, False, "G2-item"),
    "snapshot-isolation": Need((), True, True, "G-nonadjacent"),
    "serializable": Need((), False, True, "G2"),
    "strong-session-snapshot-isolation": Need((PROCESS,), True, True, "G-nonadjacent-process"),
    "strong-session-serializable": Need((PROCESS,), False, True, "G2-item-process"),
    "strong-snapshot-isolation": Need((PROCESS, REALTIME), True, True, "G-nonadjacent-realtime"),
    "strict-serializable": Need((PROCESS, REALTIME), False, True, "G2-item-realtime"),
}


def saturate(
    seen: Registers,
    levels: dict[str, bool | str],
    findings: Findings,
    trusted: tuple[int, ...] = (),
) -> dict[str, bool | str]:
    """Decide what is still "unknown" in `levels`, as far as it can be decided.

    trusted : kinds of edges (PROCESS, REALTIME) that each key's versions are known to follow.
    """
    _read_atomic(seen, levels, findings)
    graph = Graph(len(seen.h))
    add_session_edges(graph, seen.h, seen.happened)
    add_realtime_edges(graph, seen.h, seen.happened)
    source, target, kind = graph.edges()[:3]
    given = [
        (u, v, k, -1, -1, -1)
        for u, v, k in zip(source.tolist(), target.tolist(), kind.tolist(), strict=True)
    ] if seen.happened.sum() <= MOST_TRANSACTIONS else []
    for level, need in NEEDS.items():
        if any(levels[weak] is False for weak in weaker_or_equal(level)):
            levels[level] = False
            continue
        if not given and len(seen.h) > MOST_TRANSACTIONS:
            witness = violated_in_one_step(seen, level, need.extra)
            if witness is not None:
                levels[level] = False
                _name(witness, need, levels, findings)
            continue
        orders = Orders(seen, need, graph.nodes, given, trusted)
        cycle = orders.close()
        if cycle is not None:
            levels[level] = False
            _name(Witness("", [s.source for s in cycle], cycle), need, levels, findings)
        elif not seen.undecided:
            levels[level] = _prove(orders, need, levels, findings)
    for level in ("read-uncommitted", "read-committed"):
        if levels[level] == "unknown" and not seen.undecided:
            # Any order of versions that agrees with a topological order of the wr edges will do.
            levels[level] = True
    return closed(levels)


def _name(
    witness: Witness, need: Need, levels: dict[str, bool | str], findings: Findings
) -> None:
    """Give a violation the strongest name that its own level allows.

    A cycle with inferred edges may look like G1c where the inference itself assumed a level
    above read-committed, so its looks alone must not rule out the lower levels.
    """
    suffix = "-realtime" if REALTIME in need.extra else "-process" if need.extra else ""
    predicate = "" if suffix or levels["repeatable-read"] is False else "-predicate"
    looks = classify(witness.steps).split("-process")[0].split("-realtime")[0]
    if need.alternate:
        base = "G-single" if looks.startswith("G-single") else "G-nonadjacent"
        witness.name = base + suffix + predicate
    else:
        witness.name = need.name
    findings.add(witness)
    for level in ruled_out_by(witness.name):
        levels[level] = False


class Orders:
    """The order of transactions under one level, as a graph that grows by what it forces.

    A transaction v is two nodes where adjacent anti-dependencies break a path (snapshots), else
    one. `arrive` is where dependencies end, `leave` where they begin; a path from leave(u) to
    leave(v) says that u commits before v, one to arrive(v) that v saw u.
    """

    def __init__(
        self, seen: Registers, need: Need, nodes: int, given: list[Edge], trusted: tuple[int, ...]
    ) -> None:
        self.seen, self.need, self.transactions = seen, need, len(seen.h)
        self.nodes = nodes + 1
        self.start = nodes  # stands for the beginning, the writer of every initial state
        self.scale = 2 if need.alternate else 1
        self.info: dict[tuple[int, int], Edge] = {}
        self.next: list[list[int]] = [[] for _ in range(self.nodes * self.scale)]
        self.reads: list[tuple[int, int, int, int, int, int]] = []
        self.writer_op: dict[tuple[int, int], int] = {}
        self.writers: dict[int, int] = {}
        self._load()
        if need.alternate:
            for v in range(self.nodes):
                self.next[2 * v].append(2 * v + 1)
        for edge in given:
            if edge[2] in need.extra:
                self.add(edge)
        self._trust(given, trusted)

    def arrive(self, v: int) -> int:
        return v * self.scale

    def leave(self, v: int) -> int:
        return v * self.scale + self.scale - 1

    def _load(self) -> None:
        """Reads as (reader, key, writer, read, write, is an update) and the masks of writers."""
        seen, h = self.seen, self.seen.h
        for op in seen.writes.tolist():
            txn, key = int(seen.op_txn[op]), int(h.op_key[op])
            self.writer_op[txn, key] = op
            self.writers[key] = self.writers.get(key, 0) | 1 << self.leave(txn)
            self.add((self.start, txn, WW, -1, op, -1))
        for op, source, first in zip(
            seen.read_op.tolist(), seen.source.tolist(), seen.first.tolist(), strict=True
        ):
            txn, key = int(seen.op_txn[op]), int(h.op_key[op])
            writer = int(seen.op_txn[source]) if source >= 0 else self.start
            if source >= 0:
                self.add((writer, txn, WR, source, op, -1))
            if h.op_kind[op] == PREDICATE_READ and not self.need.predicates:
                continue
            if first and (source < 0 or seen.final[source]):
                update = (txn, key) in self.writer_op
                self.reads.append((txn, key, writer, op, source, update))

    def _trust(self, given: list[Edge], trusted: tuple[int, ...]) -> None:
        """Take the versions of each key to follow the given order (an option of the caller)."""
        if not trusted:
            return
        reach: dict[int, list[int]] = {}
        for u, v, kind, *_ in given:
            if kind in trusted:
                reach.setdefault(u, []).append(v)
        for (txn, key), op in self.writer_op.items():
            todo, met = deque([txn]), {txn}
            while todo:
                for v in reach.get(todo.popleft(), ()):
                    if v in met:
                        continue
                    met.add(v)
                    todo.append(v)
                    other = self.writer_op.get((v, key))
                    if other is not None:
                        self.add((txn, v, WW, op, other, -1))

    def add(self, edge: Edge) -> bool:
        """Add an edge; False where it was there."""
        u, v, kind = edge[:3]
        anti = kind in (RW, RW_PREDICATE)
        a = self.arrive(u) if anti else self.leave(u)
        b = self.leave(v) if anti else self.arrive(v)
        if (a, b) in self.info:
            return False
        self.info[a, b] = edge
        self.next[a].append(b)
        return True

    def close(self) -> list[Step] | None:
        """Draw what is forced until nothing is; a cycle of steps where that contradicts itself."""
        while True:
            order = self._order()
            if order is None:
                return self._cycle()
            self._reach(order)
            if not self._force():
                return None

    def _order(self) -> list[int] | None:
        """A topological order, those that ended first first; None where there is a cycle."""
        degree = [0] * len(self.next)
        for targets in self.next:
            for b in targets:
                degree[b] += 1
        ends = self.seen.h.txn_end.tolist()

        def rank(p: int) -> int:
            v = p // self.scale
            return ends[v] if v < self.transactions else 0

        ready = [(rank(p), p) for p, d in enumerate(degree) if d == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            _, p = heapq.heappop(ready)
            order.append(p)
            for b in self.next[p]:
                degree[b] -= 1
                if degree[b] == 0:
                    heapq.heappush(ready, (rank(b), b))
        self.order = order
        return order if len(order) == len(self.next) else None

    def _reach(self, order: list[int]) -> None:
        """For each node the set of nodes after it and before it, as the bits of an integer."""
        after, before = [0] * len(order), [0] * len(order)
        for p in reversed(order):
            bits = 0
            for b in self.next[p]:
                bits |= after[b] | 1 << b
            after[p] = bits
        for p in order:
            mine = before[p] | 1 << p
            for b in self.next[p]:
                before[b] |= mine
        self.after, self.before = after, before

    def _of(self, bits: int) -> Iterator[int]:
        while bits:
            low = bits & -bits
            yield (low.bit_length() - 1) // self.scale
            bits ^= low

    def _force(self) -> bool:
        """One round of the rules; whether anything new was drawn."""
        grew = False
        for reader, key, writer, op, source, update in self.reads:
            others = self.writers.get(key, 0) & ~(1 << self.leave(reader))
            if writer != self.start:
                others &= ~(1 << self.leave(writer))
                # It saw another writer and yet read this one: the other wrote before.
                for w in self._of(others & self.before[self.arrive(reader)]):
                    write = self.writer_op[w, key]
                    grew |= self.add((w, writer, WW, write, source, reader))
            # Whoever wrote after what it read comes after it.
            kind = RW_PREDICATE if self.seen.h.op_kind[op] == PREDICATE_READ else RW
            for w in self._of(others & self.after[self.leave(writer)]):
                write = self.writer_op[w, key]
                grew |= self.add((reader, w, kind, op, write, -1))
                if update and self.need.alternate:
                    own = self.writer_op[reader, key]
                    grew |= self.add((reader, w, WW, own, write, -1))
        if self.need.alternate:
            for (txn, key), op in self.writer_op.items():
                mask = self.writers[key] & self.after[self.leave(txn)]
                for w in self._of(mask):
                    grew |= self.add((txn, w, WW, op, self.writer_op[w, key], -1))
        return grew

    def _cycle(self) -> list[Step]:
        """The shortest cycle among what has no topological order."""
        left = set(range(len(self.next))) - set(self.order)
        best: list[int] | None = None
        for begin in sorted(left, key=lambda p: len(self.next[p]))[:200]:
            came = {begin: begin}
            queue = deque([begin])
            while queue and begin is not None:
                p = queue.popleft()
                hit = begin in self.next[p]
                if hit:
                    path = [p]
                    while path[-1] != begin:
                        path.append(came[path[-1]])
                    if best is None or len(path) < len(best):
                        best = path[::-1]
                    break
                for b in self.next[p]:
                    if b in left and b not in came:
                        came[b] = p
                        queue.append(b)
        assert best is not None
        return self._steps(best)

    def _steps(self, path: list[int]) -> list[Step]:
        pairs = zip(path, path[1:] + path[:1], strict=True)
        edges = [self.info[pair] for pair in pairs if pair in self.info]
        turned = next(i for i, e in enumerate(edges) if e[0] < self.transactions)
        steps: list[Step] = []
        for edge in edges[turned:] + edges[:turned]:
            if edge[0] >= self.transactions:
                steps[-1].target = edge[1]
            else:
                steps.append(Step(*edge))
        return steps

    def unsettled(self) -> tuple[int, int, int] | None:
        """Two writers of a key (with it) in no order yet, or None. After `close` only."""
        places = {p: i for i, p in enumerate(self.order)}
        for key, mask in self.writers.items():
            row = sorted(self._of(mask), key=lambda v: places[self.leave(v)])
            for a, b in zip(row, row[1:], strict=False):
                if not self.after[self.leave(a)] >> self.leave(b) & 1:
                    return a, b, key
        return None

    def settle(self) -> None:
        """Order every key's writers as the topological order has them."""
        places = {p: i for i, p in enumerate(self.order)}
        for key, mask in self.writers.items():
            row = sorted(self._of(mask), key=lambda v: places[self.leave(v)])
            for a, b in zip(row, row[1:], strict=False):
                self.add((a, b, WW, self.writer_op[a, key], self.writer_op[b, key], -1))

    def copy(self) -> Orders:
        """An independent copy, to try an order on."""
        twin = object.__new__(Orders)
        twin.__dict__.update(self.__dict__)
        twin.info = dict(self.info)
        twin.next = [list(targets) for targets in self.next]
        return twin


def _prove(
    orders: Orders, need: Need, levels: dict[str, bool | str], findings: Findings
) -> bool | str:
    """True where some order of all versions fits, False where none does, else "unknown".

    All writers of a key in order, every anti-dependency drawn, and no cycle: that is the level's
    definition. Which order fits is tried, first all at once, then pair by pair.
    """
    tries = [MOST_TRIES]
    answer = _search(orders, tries)
    if answer is False:
        pair = orders.unsettled()
        assert pair is not None
        a, b, key = pair
        name = need.name
        if need.alternate and not need.extra and levels["repeatable-read"] is not False:
            name += "-predicate"
        findings.add(Witness(
            name, [a, b],
            why=f"T1 and T2 both wrote {show(orders.seen.h.keys[key])}, and with either "
            "write as the first, what was read makes a cycle",
        ))
        for level in ruled_out_by(name):
            levels[level] = False
    return answer


def _search(orders: Orders, tries: list[int]) -> bool | str:
    pair = orders.unsettled()
    if pair is None:
        return True
    if tries[0] <= 0:
        return "unknown"
    tries[0] -= 1
    whole = orders.copy()
    whole.settle()
    if whole.close() is None:
        return True
    a, b, key = pair
    answers = []
    for u, v in ((a, b), (b, a)):
        one = orders.copy()
        one.add((u, v, WW, one.writer_op[u, key], one.writer_op[v, key], -1))
        answers.append(False if one.close() is not None else _search(one, tries))
        if answers[-1] is True:
            return True
    return False if answers == [False, False] else "unknown"


def _read_atomic(seen: Registers, levels: dict[str, bool | str], findings: Findings) -> None:
    """Decide read-atomic: exact, by one strongly connected components search.

    Whoever reads x of W and anything of W', which wrote x too, puts W' before W; whoever reads
    the initial x though it read anything of a writer of x saw that writer in part.
    """
    h, op_txn = seen.h, seen.op_txn
    reader, writer, read, write = beside(seen)
    version = seen.source[read]
    partly = version < 0
    for i in np.flatnonzero(partly)[:8].tolist():
        _fractured(seen, int(reader[i]), int(writer[i]), int(write[i]), findings)
    from_write = seen.source >= 0
    source, op = seen.source[from_write], seen.read_op[from_write]
    over = ~partly
    a = np.concatenate((op_txn[source], writer[over]))
    b = np.concatenate((op_txn[op], op_txn[version[over]]))
    if len(a):
        label, cyclic = components(len(h), a, b)
        inside = np.flatnonzero(cyclic[a] & (label[a] == label[b]))
        for i in inside[inside >= len(source)][:8].tolist():
            at = int(np.flatnonzero(over)[i - len(source)])
            _fractured(seen, int(reader[at]), int(writer[at]), int(write[at]), findings)
        if len(inside):
            levels["read-atomic"] = False
    if partly.any():
        levels["read-atomic"] = False
    if levels["read-atomic"] == "unknown" and not seen.undecided:
        levels["read-atomic"] = not any(
            level is False for name, level in levels.items()
            if name in weaker_or_equal("read-atomic")
        )
    assert set(levels) == set(LEVELS)


def _fractured(
    seen: Registers, reader: int, writer: int, write: int, findings: Findings
) -> None:
    h = seen.h
    key, value = h.keys[h.op_key[write]], h.decode(h.op_value[write])
    findings.add(Witness(
        "fractured-read", [reader, writer], marks=[value],
        why=f"T1 read one of T2's writes, but {show(key)} as it was before T2 wrote {show(value)}",
    ))
