"""One order of all transactions under one level, grown by what it forces until it contradicts."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from properties.checker.effort import Purse
from properties.checker.graph import PASS, RW, RW_PREDICATE, WR, WW, Step, components
from properties.checker.register_edges import Registers
from workloads.records import PREDICATE_READ

LEAST_STEPS = 5000  # of a closing, so that no search goes deeper than Python's stack
Edge = tuple[int, int, int, int, int, int]  # source, target, kind, source_op, target_op, via


@dataclass(frozen=True)
class Need:
    """A level's rule: kinds of given edges, whether adjacent anti-dependencies break a path,
    whether predicate reads count, and the name of a violation that has no better one.

    writers_see : of two writers of one key the later one saw the earlier (first committer wins).
    """

    extra: tuple[int, ...]
    alternate: bool
    predicates: bool
    name: str
    writers_see: bool = True


def round_steps(nodes: int, edges: int) -> int:
    """What one round of closing costs: each edge joins two sets of nodes."""
    return (nodes + edges) * (1 + nodes // 512)


class Orders:
    """The order of transactions under one level, as a graph that grows by what it forces.

    A transaction v is two nodes where adjacent anti-dependencies break a path (snapshots), else
    one. `arrive` is where dependencies end, `leave` where they begin; a path from leave(u) to
    leave(v) says that u commits before v, one to arrive(v) that v saw u.

    purse : what its closing may cost; None for any.
    """

    purse: Purse | None = None

    def __init__(
        self, seen: Registers, need: Need, nodes: int, given: list[Edge], trusted: tuple[int, ...]
    ) -> None:
        self.seen, self.need, self.transactions = seen, need, len(seen.h)
        self.ends = seen.h.txn_end.tolist()
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

    @classmethod
    def bare(cls, need: Need, nodes: int, ends: list[int]) -> Orders:
        """Without reads: only given edges and groups of writers, for lists."""
        self = object.__new__(cls)
        self.need, self.nodes, self.transactions, self.ends = need, nodes, nodes, ends
        self.scale = 2 if need.alternate else 1
        self.info, self.reads, self.writer_op, self.writers = {}, [], {}, {}
        self.next = [[] for _ in range(nodes * self.scale)]
        if need.alternate:
            for v in range(nodes):
                self.next[2 * v].append(2 * v + 1)
        return self

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
        unseen = anti or kind == PASS or (kind == WW and not self.need.writers_see)
        b = self.leave(v) if unseen else self.arrive(v)
        if (a, b) in self.info:
            return False
        self.info[a, b] = edge
        self.next[a].append(b)
        return True

    def close(self, explain: bool = True) -> list[Step] | None:
        """Draw what is forced until nothing is; a cycle of steps where that contradicts itself.

        explain : where False, a contradiction is an empty list, without its cycle.
        """
        while True:
            if self.purse is not None:
                self.purse.spend(max(LEAST_STEPS, round_steps(len(self.next), len(self.info))))
            order = self._order()
            if order is None:
                return self._cycle() if explain else []
            self._reach(order)
            if not self._force():
                return None

    def _order(self) -> list[int] | None:
        """A topological order, those that ended first first; None where there is a cycle."""
        degree = [0] * len(self.next)
        for targets in self.next:
            for b in targets:
                degree[b] += 1
        ends = self.ends

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
        if self.purse is not None:
            self.purse.spend(20 * bits.bit_count())
        while bits:
            low = bits & -bits
            yield (low.bit_length() - 1) // self.scale
            bits ^= low

    def _force(self) -> bool:
        """One round of the rules; whether anything new was drawn."""
        grew = False
        snapshots = self.need.alternate and self.need.writers_see
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
                if update and snapshots:
                    own = self.writer_op[reader, key]
                    grew |= self.add((reader, w, WW, own, write, -1))
        if snapshots:
            for (txn, key), op in self.writer_op.items():
                mask = self.writers[key] & self.after[self.leave(txn)]
                for w in self._of(mask):
                    grew |= self.add((txn, w, WW, op, self.writer_op[w, key], -1))
        return grew

    def _cycle(self) -> list[Step]:
        """The shortest cycle among what has no topological order."""
        count = len(self.next)
        source = np.repeat(np.arange(count), [len(targets) for targets in self.next])
        target = np.array([b for targets in self.next for b in targets])
        _, cyclic = components(count, source, target)
        left = set(np.flatnonzero(cyclic).tolist())
        best: list[int] | None = None
        for begin in sorted(left, key=lambda p: len(self.next[p]))[:200]:
            came = {begin: begin}
            queue = deque([begin])
            while queue:
                p = queue.popleft()
                if begin in self.next[p]:
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
            for a, b in pairwise(row):
                if not self.after[self.leave(a)] >> self.leave(b) & 1:
                    return a, b, key
        return None

    def settle(self) -> None:
        """Order every key's writers as the topological order has them."""
        places = {p: i for i, p in enumerate(self.order)}
        for key, mask in self.writers.items():
            row = sorted(self._of(mask), key=lambda v: places[self.leave(v)])
            for a, b in pairwise(row):
                self.add((a, b, WW, self.writer_op[a, key], self.writer_op[b, key], -1))

    def copy(self) -> Orders:
        """An independent copy, to try an order on."""
        twin = object.__new__(Orders)
        twin.__dict__.update(self.__dict__)
        twin.info = dict(self.info)
        twin.next = [list(targets) for targets in self.next]
        return twin


def search(orders: Orders, tries: list[int]) -> bool | str:
    """Whether some order of all versions fits: "unknown" after so many tries.

    Raises Exhausted where the orders' purse is empty before.
    """
    pair = orders.unsettled()
    if pair is None:
        return True
    if tries[0] <= 0:
        return "unknown"
    tries[0] -= 1
    whole = orders.copy()
    whole.settle()
    if whole.close(False) is None:
        return True
    a, b, key = pair
    answers = []
    for u, v in ((a, b), (b, a)):
        one = orders.copy()
        one.add((u, v, WW, one.writer_op[u, key], one.writer_op[v, key], -1))
        answers.append(False if one.close(False) is not None else search(one, tries))
        if answers[-1] is True:
            return True
    return False if answers == [False, False] else "unknown"
