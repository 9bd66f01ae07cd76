"""Replay: a store is made to do what a history says. Where it gets through, the level is proven.

At the serial levels the store runs the transactions one by one. At the snapshot levels each takes
its snapshot and commits later; two that write one key are never under way together. Each read must
find what it saw, and everything that is known of the order is kept.

Where there is a choice (which of two blind writes comes first) the store takes one. Where it cannot
go on, the transactions that wait for one another in a circle tell which choice to take back. So a
store that gets through is a proof, and one that does not proves nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from properties.checker.list_edges import Lists
from properties.checker.register_edges import Registers
from workloads.records import PREDICATE_READ, TXN_COMMITTED, WRITE

FLIPS = 400  # choices taken back, at most; one a transaction more
CIRCLES = 50  # of those that wait for one another, looked for before giving up
EFFORT = 60  # looks at a transaction, at most, those taken back counted

Slot = int  # a key
State = int  # which of its versions stands there: its writer, or how long a list is
Version = tuple[Slot, State]
INITIAL = -1
NOWHERE = -1


@dataclass(slots=True)
class Txn:
    """States that a transaction must find and states that it leaves, by slot."""

    needs: list[Version] = field(default_factory=list)
    leaves: list[tuple[Slot, Any]] = field(default_factory=list)


class Store:
    """One history's store. Nodes are as in `Orders`: a transaction's snapshot and commit, or one.

    txns : by number; nodes beyond theirs only order. following : the nodes after each node.
    scale : nodes of a transaction. rank : who goes first where several may, the lowest.
    """

    def __init__(
        self,
        txns: Sequence[Txn],
        following: Sequence[Sequence[int]],
        scale: int,
        rank: Sequence[int],
    ) -> None:
        self.txns, self.scale, self.rank = txns, scale, rank
        self.following = [list(targets) for targets in following]
        self.before: list[list[int]] = [[] for _ in following]
        for p, targets in enumerate(self.following):
            for q in targets:
                self.before[q].append(p)
        self.waits = [len(before) for before in self.before]
        self.done = [False] * len(following)
        self.frontier = {p for p, many in enumerate(self.waits) if not many}
        self.now: dict[Slot, State] = {}
        self.writer: dict[Version, int] = {}  # of what was written so far
        self.readers: dict[Version, list[int]] = {}
        for v, txn in enumerate(txns):
            for version in txn.needs:
                self.readers.setdefault(version, []).append(v)
        self.pending = {version: len(readers) for version, readers in self.readers.items()}
        self.under_way: dict[Slot, int] = {}  # who took its snapshot and is to write there
        self.trail: list[tuple[int, list[Version]]] = []
        self.chosen: set[tuple[int, int]] = set()  # (p, q): p before q, by nothing but choice
        self.flipped: dict[tuple[int, int], int] = {}
        self._look_again()

    # The state of a slot, and who can write there. This is for registers; lists override it.

    def state(self, slot: Slot) -> State:
        return self.now.get(slot, INITIAL)

    def after(self, slot: Slot, left: Any) -> State | None:
        """The slot's state once this was left there; None where it can't be now."""
        return left

    def provider(self, version: Version) -> int | None:
        """Who has yet to write so that this version comes about, or None."""
        return None if version[1] == INITIAL else version[1]

    def rival(self, v: int, slot: Slot) -> int | None:
        """Who wrote what the transaction should have, where that is why it can't."""
        return None

    # -- running ---------------------------------------------------------------------------------

    def run(self) -> bool:
        """Whether it got through."""
        looks = EFFORT * len(self.done) + 10_000
        flips = FLIPS + len(self.txns)
        while True:
            while self.agenda:
                _, p, woken = heapq.heappop(self.agenda)
                looks -= 1
                stale = p not in self.frontier
                waits_for = None if stale else self._look(p)
                if woken != NOWHERE and (stale or (waits_for != woken and not self.done[p])):
                    self._wake(woken)  # it was its turn, and it waits elsewhere: the next one
            if len(self.trail) == len(self.done):
                return True
            flips -= 1
            if looks < 0 or flips < 0:
                return False
            if self._take_a_snapshot():
                flips += 1
            elif not self._go_back():
                return False

    def _look_again(self) -> None:
        """At every node whose turn it may be."""
        self.agenda = [(self._rank(p), p, NOWHERE) for p in self.frontier]
        heapq.heapify(self.agenda)
        self.for_version: dict[Version, list[int]] = {}
        self.for_slot: dict[Slot, list[tuple[int, int]]] = {}
        self.takable: list[tuple[int, int]] = []

    def _rank(self, p: int) -> int:
        v = p // self.scale
        return self.rank[v] if v < len(self.txns) else -1

    def _put(self, p: int, woken: Slot = NOWHERE) -> None:
        heapq.heappush(self.agenda, (self._rank(p), p, woken))

    def _look(self, p: int) -> Slot | None:
        """Do a node where its moment has come, else let it wait; for which slot, if for one."""
        v, commits = divmod(p, self.scale)
        txn = self.txns[v] if v < len(self.txns) else None
        if txn is None or (commits and not txn.leaves):
            self._do(p)
            return None
        for version in () if commits else txn.needs:
            if self.state(version[0]) != version[1]:
                self.for_version.setdefault(version, []).append(p)
                return None
        slot = self._hindered(v, commits)
        snapshot = self.scale > 1 and not commits
        if slot is None and not (snapshot and txn.leaves and self.waits[p + 1] > 1):
            self._do(p)
            return None
        if slot is not None:
            # Who took its snapshot goes first: the others wait for its commit.
            turn = (-1 if commits else self._rank(p), p)
            heapq.heappush(self.for_slot.setdefault(slot, []), turn)
        # A snapshot alone is taken only where nothing else can be done: it keeps others from
        # writing the same keys until the commit.
        if snapshot and txn.needs and not self._overlaps(txn):
            heapq.heappush(self.takable, (self._rank(p), p))
        return slot

    def _hindered(self, v: int, commits: int) -> Slot | None:
        """The first of its keys that the transaction can't write now."""
        txn = self.txns[v]
        for slot, left in txn.leaves:
            version = slot, self.state(slot)
            own = 0 if commits or version not in txn.needs else 1
            if self.pending.get(version, 0) > own or self.after(slot, left) is None:
                return slot
            if self.under_way.get(slot, v) != v:
                return slot
        return None

    def _overlaps(self, txn: Txn) -> bool:
        return any(slot in self.under_way for slot, _ in txn.leaves)

    def _wake(self, slot: Slot) -> None:
        """Let the next one look that waits for this slot."""
        if waiting := self.for_slot.get(slot):
            self._put(heapq.heappop(waiting)[1], slot)

    def _do(self, p: int) -> None:
        v, commits = divmod(p, self.scale)
        old: list[Version] = []
        if v < len(self.txns):
            txn = self.txns[v]
            if not commits:
                for version in txn.needs:
                    self.pending[version] -= 1
                if self.scale > 1:
                    self.under_way.update((slot, v) for slot, _ in txn.leaves)
            if commits or self.scale == 1:
                old = [(slot, self.state(slot)) for slot, _ in txn.leaves]
                for slot, left in txn.leaves:
                    state = self.after(slot, left)
                    assert state is not None
                    self.now[slot] = state
                    self.writer[slot, state] = v
                    self.under_way.pop(slot, None)
                    for q in self.for_version.pop((slot, state), ()):
                        self._put(q)
                    self._wake(slot)
            if not commits:
                for slot, _ in txn.needs:
                    self._wake(slot)
        self.trail.append((p, old))
        self.done[p] = True
        self.frontier.discard(p)
        for q in self.following[p]:
            self._release(q)

    def _release(self, q: int) -> None:
        """One thing less that this node waits for."""
        self.waits[q] -= 1
        if not self.waits[q]:
            self.frontier.add(q)
        elif self.waits[q] > 1 or self.scale == 1 or not q % self.scale:
            return
        else:
            q -= 1  # a commit that waits for its own snapshot alone: that may come now
        self._put(q)

    def _take_a_snapshot(self) -> bool:
        while self.takable:
            p = heapq.heappop(self.takable)[1]
            txn = self.txns[p // self.scale]
            if p not in self.frontier or self._overlaps(txn):
                continue
            if all(self.state(slot) == state for slot, state in txn.needs):
                self._do(p)
                return True
        return False

    # -- going back ------------------------------------------------------------------------------

    def _go_back(self) -> bool:
        """Take back a choice for which some wait in a circle; False where there is none."""
        # Where all wait for what was chosen, nobody stands in front.
        stuck = sorted(self.frontier)[:CIRCLES] or [self.done.index(False)]
        flips = next(filter(None, map(self._circle, stuck)), [])
        if not flips:
            return False
        first, then = min(flips, key=lambda pair: self.flipped.get(pair, 0))
        self.flipped[first, then] = self.flipped.get((first, then), 0) + 1
        last = first * self.scale + self.scale - 1
        other = then * self.scale + self.scale - 1
        self._undo(then * self.scale)
        if (other, first * self.scale) in self.chosen:
            self._unlink(other, first * self.scale)
        self._link(last, then * self.scale)
        self._look_again()
        return True

    def _circle(self, p: int) -> list[tuple[int, int]]:
        """Choices on a circle of waiting: (v, u) where v should have come before u."""
        path: list[tuple[int, tuple[int, int] | None]] = []
        met: dict[int, int] = {}
        while p not in met:
            met[p] = len(path)
            q, flip = self._blocker(p)
            path.append((p, flip))
            if q is None:
                return [flip for _, flip in path if flip][::-1][:1]
            p = q
        return list(dict.fromkeys(flip for _, flip in path[met[p] :] if flip))

    def _blocker(self, p: int) -> tuple[int | None, tuple[int, int] | None]:
        """A node that this one waits for, and the choice by which it does."""
        v, commits = divmod(p, self.scale)
        if self.waits[p]:
            q = next(q for q in self.before[p] if not self.done[q])
            return q, ((v, q // self.scale) if (q, p) in self.chosen else None)
        txn = self.txns[v]
        for version in () if commits else txn.needs:
            if self.state(version[0]) != version[1]:
                by = self.provider(version)
                return (None if by is None else by * self.scale + self.scale - 1), None
        for slot, left in txn.leaves:
            version = slot, self.state(slot)
            by = self.writer.get(version)
            flip = None if by is None or by == v else (v, by)
            if (other := self.under_way.get(slot, v)) != v:
                return other * self.scale + self.scale - 1, (v, other)
            for r in self.readers.get(version, ()):
                if r != v and not self.done[r * self.scale]:
                    return r * self.scale, flip
            if self.after(slot, left) is None:
                rival = self.rival(v, slot)
                return None, None if rival is None else (v, rival)
        return (p + 1 if not commits and self.scale > 1 else None), None

    def _undo(self, to: int) -> None:
        """Take back everything from this node on."""
        while self.done[to]:
            p, old = self.trail.pop()
            self.done[p] = False
            self.frontier.add(p)
            for q in self.following[p]:
                if not self.waits[q]:
                    self.frontier.discard(q)
                self.waits[q] += 1
            v, commits = divmod(p, self.scale)
            if v >= len(self.txns):
                continue
            if commits and self.scale > 1:
                self.under_way.update((slot, v) for slot, _ in self.txns[v].leaves)
            for slot, state in old:
                self.writer.pop((slot, self.now[slot]), None)
                self.now[slot] = state
            if not commits:
                for version in self.txns[v].needs:
                    self.pending[version] += 1
                if self.scale > 1:
                    for slot, _ in self.txns[v].leaves:
                        self.under_way.pop(slot, None)

    def _link(self, p: int, q: int) -> None:
        self.chosen.add((p, q))
        self.following[p].append(q)
        self.before[q].append(p)
        if not self.done[p]:
            self.waits[q] += 1
            self.frontier.discard(q)

    def _unlink(self, p: int, q: int) -> None:
        self.chosen.discard((p, q))
        self.following[p].remove(q)
        self.before[q].remove(p)
        if not self.done[p]:
            self.waits[q] -= 1
            if not self.waits[q] and not self.done[q]:
                self.frontier.add(q)


def ranks(ends: np.ndarray) -> list[int]:
    """Who goes first where several may: real databases commit in the order in which they answer."""
    return np.argsort(np.argsort(ends, kind="stable")).tolist()


def registers_replay(
    seen: Registers, following: Sequence[Sequence[int]], scale: int, predicates: bool
) -> bool:
    """Whether a store of registers gets through, in the order that `following` leaves open.

    predicates : whether what a predicate saw must be what stands there, too.
    """
    h, txns = seen.h, [Txn() for _ in range(len(seen.h))]
    writes = seen.writes
    for v, key in zip(seen.op_txn[writes].tolist(), h.op_key[writes].tolist(), strict=True):
        txns[v].leaves.append((key, v))
    kept = seen.first if predicates else seen.first & (h.op_kind[seen.read_op] != PREDICATE_READ)
    source = seen.source[kept]
    writer = np.where(source >= 0, seen.op_txn[source], INITIAL)
    op = seen.read_op[kept]
    for v, key, by in zip(seen.op_txn[op], h.op_key[op].tolist(), writer.tolist(), strict=True):
        if (key, by) not in txns[v].needs:
            txns[v].needs.append((key, by))
    return Store(txns, following, scale, ranks(h.txn_end)).run()


class ListStore(Store):
    """Lists, one transaction after the other: a state is a length, what is appended must fit."""

    def __init__(self, lists: Lists) -> None:
        h = lists.h
        bounds = lists.base_start.tolist()
        whole = lists.flat_value.tolist()
        self.base = [whole[a:b] for a, b in pairwise(bounds)]
        self.by_value: dict[tuple[Slot, int], list[int]] = {}
        happened = enumerate(lists.happened.tolist())
        txns = [self._txn(lists, v) if real else Txn() for v, real in happened]
        source, target = lists.graph.edges()[:2]
        order = np.argsort(source, kind="stable")
        at = np.searchsorted(source[order], np.arange(lists.graph.nodes + 1)).tolist()
        targets = target[order].tolist()
        following = [targets[a:b] for a, b in pairwise(at)]
        super().__init__(txns, following, 1, ranks(h.txn_end))

    def _txn(self, lists: Lists, v: int) -> Txn:
        h, txn = lists.h, Txn()
        own: dict[Slot, list[int]] = {}
        for op in range(int(h.op_start[v]), int(h.op_start[v + 1])):
            slot = int(h.op_key[op])
            if h.op_kind[op] == WRITE:
                value = int(h.op_value[op])
                own.setdefault(slot, []).append(value)
                self.by_value.setdefault((slot, value), []).append(v)
            elif h.op_length[op] >= 0 and h.txn_outcome[v] == TXN_COMMITTED:
                version = slot, int(h.op_length[op]) - len(own.get(slot, ()))
                if version not in txn.needs:
                    txn.needs.append(version)
        txn.leaves = list(own.items())
        return txn

    def state(self, slot: Slot) -> State:
        return self.now.get(slot, 0)

    def after(self, slot: Slot, left: list[int]) -> State | None:
        at, base = self.state(slot), self.base[slot]
        return (
            at + len(left) if base[at : at + len(left)] == left[: max(len(base) - at, 0)] else None
        )

    def provider(self, version: Version) -> int | None:
        slot, at = version[0], self.state(version[0])
        if at >= len(self.base[slot]):
            return None
        return next((v for v in self.by_value.get((slot, self.base[slot][at]), ())
                     if not self.done[v]), None)  # fmt: skip

    def rival(self, v: int, slot: Slot) -> int | None:
        mine = dict(self.txns[v].leaves)[slot][0]
        return next((u for u in self.by_value[slot, mine][::-1] if self.done[u]), None)
