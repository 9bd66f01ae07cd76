"""The order of transactions under one level, grown by what it forces, for histories of any length.

The rules are those of `Orders`. They differ in how reachability is kept and in the edges drawn. A
rule draws an edge only where no path says the same already. Where several writers of a key follow
one another, it draws the edge of the nearest only.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import chain, count

import numpy as np

from properties.checker.chains import in_real_time, in_sessions, trust_keys
from properties.checker.effort import Effort
from properties.checker.graph import (
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
    components,
)
from properties.checker.newly_reached import ByClocks
from properties.checker.order_search import Need
from properties.checker.reachability import Bits, Clocks, Reach
from properties.checker.register_edges import Registers
from workloads.records import PREDICATE_READ

PAIRS_AT_ONCE = 1_000_000
FEW = 0.05  # new edges to a node, up to which only what they change is gone through
TAILS_TRIED = 16  # groups to which a writer may be added
BFS_STEPS = 2_000_000  # effort for a short cycle; the first one found is a proof already


class Forced:
    """A graph over transactions (and helpers) that grows until it contradicts itself or is closed.

    A transaction is two nodes where adjacent anti-dependencies break a path, else one, as in
    `Orders`. A path from `leave(u)` to `arrive(v)` means v saw u. A path from `leave(u)` to
    `leave(v)` means u committed before v. reach is None where there are too many transactions to
    hold it.
    """

    def __init__(
        self,
        seen: Registers,
        need: Need,
        trusted: tuple[int, ...] = (),
        effort: Effort | None = None,
    ) -> None:
        self.seen, self.need = seen, need
        self.effort = Effort() if effort is None else effort
        h = seen.h
        self.transactions, self.scale = len(h), 2 if need.alternate else 1
        graph = Graph(len(h))
        if PROCESS in need.extra:
            add_session_edges(graph, h, seen.happened)
        if REALTIME in need.extra:
            add_realtime_edges(graph, h, seen.happened)
        from_write = seen.source >= 0
        source, op = seen.source[from_write], seen.read_op[from_write]
        graph.add(seen.op_txn[source], seen.op_txn[op], WR, source, op)
        if trusted:
            trust_keys(graph, seen, trusted)
        self.nodes = graph.nodes
        self.columns = [list(graph.edges())]
        inner = np.arange(self.nodes if need.alternate else 0, dtype=np.int64)
        self._a, self._b = [2 * inner], [2 * inner + 1]
        self._known = np.zeros(0, np.int64)
        self._looked = False  # whether pairs that no round changes were looked at
        self._reached = 0  # how many of the columns in `_a` `reach` knows
        self._forced: tuple[int, int] | None = None  # how much was drawn before an order was tried
        self._place(*self.columns[0][:3])
        self.reach = self._room()
        if self.reach is not None:
            writer = seen.op_txn[seen.writes]
            self._writers(seen.writes, self.reach.group(writer), self.reach.place(writer))
            self._reads()
            self._pairs_of = self._by_clocks() if isinstance(self.reach, Clocks) else None

    # -- the graph -------------------------------------------------------------------------------

    def arrive(self, v: np.ndarray) -> np.ndarray:
        return v.astype(np.int64) * self.scale

    def leave(self, v: np.ndarray) -> np.ndarray:
        return v.astype(np.int64) * self.scale + self.scale - 1

    def _place(self, source: np.ndarray, target: np.ndarray, kind: np.ndarray) -> None:
        """Note the nodes that the newest edges join."""
        anti = (kind == RW) | (kind == RW_PREDICATE)
        self._a.append(np.where(anti, self.arrive(source), self.leave(source)))
        self._b.append(np.where(anti, self.leave(target), self.arrive(target)))

    def _room(self) -> Reach | None:
        """How reachability is kept: by chains where the level has some, else bit by bit."""
        h, extra = self.seen.h, self.need.extra
        rows = self.nodes * self.scale
        kinds: list[tuple[int, Reach]] = []
        keys = len(h.keys)
        read = np.bincount(h.op_key[self.seen.read_op], minlength=keys)
        written = np.bincount(h.op_key[self.seen.writes], minlength=keys)
        pairs = int((read * written).sum())
        if pairs <= self.effort.pairs:
            kinds.append((rows * Bits.width(len(h)), Bits(len(h))))
        if extra:
            cut = in_real_time if REALTIME in extra else in_sessions
            of, place = cut(h, self.seen.happened)
            clocks = Clocks(of, place)
            kinds.append((rows * clocks.width, clocks))
        if not kinds:
            self.effort.too_many_pairs(pairs)
            return None
        size, reach = min(kinds, key=lambda kind: kind[0])
        if size > self.effort.reach_bytes:
            self.effort.no_room(size)
            return None
        return reach

    def _writers(self, write: np.ndarray, group: np.ndarray, place: np.ndarray) -> None:
        """Take the final writes in groups: of one key, each after the one before it by `place`."""
        seen = self.seen
        key = seen.h.op_key[write].astype(np.int64)
        order = np.lexsort((place, group, key))
        self.write = write[order]
        self.writer = seen.op_txn[self.write].astype(np.int64)
        self.written, group = key[order], group[order]
        new = np.ones(len(order), bool)
        new[1:] = (self.written[1:] != self.written[:-1]) | (group[1:] != group[:-1])
        self.first = np.append(np.flatnonzero(new), len(order))  # of each group
        keys = self.written[self.first[:-1]]
        self.groups = np.searchsorted(keys, np.arange(len(seen.h.keys) + 1))  # of each key

    def _reads(self) -> None:
        seen = self.seen
        h = seen.h
        from_write = seen.source >= 0
        kept = seen.first & (~from_write | seen.final[seen.source])
        if not self.need.predicates:
            kept &= h.op_kind[seen.read_op] != PREDICATE_READ
        self.read, self.of = seen.read_op[kept], seen.source[kept]
        self.reader = seen.op_txn[self.read].astype(np.int64)
        self.of_txn = np.where(self.of >= 0, seen.op_txn[self.of], -1).astype(np.int64)
        codes = self.writer * max(len(h.keys), 1) + self.written
        order = np.argsort(codes)
        wanted = self.reader * max(len(h.keys), 1) + h.op_key[self.read]
        at = np.minimum(np.searchsorted(codes[order], wanted), max(len(codes) - 1, 0))
        own = order[at] if len(codes) else at
        has = codes[own] == wanted if len(codes) else np.zeros(len(wanted), bool)
        self.own = np.where(has, self.write[own] if len(codes) else -1, -1)

    def _by_clocks(self) -> ByClocks:
        assert isinstance(self.reach, Clocks)
        self.read_key = self.seen.h.op_key[self.read].astype(np.int64)
        place = np.full(len(self.seen.op_txn), -1, np.int64)
        place[self.write] = np.arange(len(self.write))
        self.version = np.where(self.of >= 0, place[self.of], -1) if len(place) else self.of
        txns = np.arange(self.transactions)
        return ByClocks(
            self, self.reach.group(txns), self.reach.place(txns), self.scale, len(self.seen.h.keys)
        )

    # -- closing ---------------------------------------------------------------------------------

    def close(self, explain: bool = True) -> list[Step] | None:
        """Draw what is forced until nothing is; a cycle of steps where that contradicts itself.

        explain : where False, a contradiction is an empty list, without its cycle.
        Raises Exhausted where the effort is used up before.
        """
        for round_ in count():
            if not self._take_in():
                return self._cycle() if explain else []
            if isinstance(self.reach, Bits) and not round_ & (round_ - 1):
                self._regroup(self.reach)  # in rounds 0, 1, 2, 4, 8, …: it takes as long as one
            rules = self._force() if self._pairs_of is None else self._force_newly(self._pairs_of)
            new = [edges for edges in rules if len(edges[0])]
            if not new:
                break
            columns = [np.concatenate(column) for column in zip(*new, strict=True)]
            _, once = np.unique(self._codes(*columns[:3]), return_index=True)
            columns = [column[once] for column in columns]
            if self._pairs_of is None:
                self._known = np.union1d(self._known, self._codes(*columns[:3]))
            self.columns.append(columns)
            self._place(*columns[:3])
        return None

    def _take_in(self) -> bool:
        """Bring reachability up to date; False where the newest edges close a circle.

        Where the edges are few only what they change is gone through. Notes which nodes' rows
        changed since the round before, and what they were.
        """
        assert self.reach is not None
        known, self._reached = self._reached, len(self._a)
        if not isinstance(self.reach, Clocks):
            return self._propagate()
        if not known:
            kept = self._propagate()
            rows = self.reach.rows
            self._changed = np.flatnonzero((rows >= 0).any(axis=1))
            self._old = np.broadcast_to(np.int32(-1), (len(self._changed), rows.shape[1]))
            return kept
        a, b = (np.concatenate(ends[known:]) for ends in (self._a, self._b))
        if len(a) > FEW * len(self._next):
            before = self.reach.rows
            kept = self._propagate()
            self._changed = np.flatnonzero((self.reach.rows != before).any(axis=1))
            self._old = before[self._changed]
            return kept
        return self._spread(self.reach, a.tolist(), b.tolist())

    def _join_steps(self) -> int:
        """What it costs to join two rows."""
        assert self.reach is not None
        return 8 + self.reach.rows[:1].nbytes // 64

    def _spread(self, reach: Clocks, a: list[int], b: list[int]) -> bool:
        """Take in edges from nodes a to nodes b, and what follows from them; False for a circle."""
        rows, following, place = list(reach.rows), self._next, self.place.tolist()
        scale, n, last = self.scale, self.transactions * self.scale, self.scale - 1
        spend, steps = self.effort.spend, 4 * self._join_steps()
        was: dict[int, np.ndarray] = {}
        todo: list[tuple[int, int]] = []
        waiting: set[int] = set()
        for p, q in zip(a, b, strict=True):
            following[p].append(q)

        def joined(p: int, q: int) -> bool:
            """Joins row p to row q; False where q is a transaction's that p has come after."""
            row, other = rows[q], rows[p]
            if q < n and q % scale == last and reach.reaches(q // scale, other):
                return False
            if (other > row).any():
                was.setdefault(q, row.copy())
                np.maximum(row, other, out=row)
                if q not in waiting:
                    waiting.add(q)
                    heapq.heappush(todo, (place[q], q))
            return True

        kept = all(joined(p, q) for p, q in zip(a, b, strict=True))
        while kept and todo:
            p = heapq.heappop(todo)[1]
            waiting.discard(p)
            spend(steps * len(following[p]))
            kept = all(joined(p, q) for q in following[p])
        self._changed = np.fromiter(was, np.int64, len(was))
        self._old = np.array(list(was.values())) if was else reach.rows[:0]
        return kept

    def complete(self) -> bool:
        """Order every key's writers as one topological order has them; whether that fits.

        After `close` only. True proves the level: the versions are in order, all that follows is
        drawn, and there is no cycle. False proves nothing.
        """
        self._forced = len(self.columns), len(self._a)
        place = np.empty(self.nodes * self.scale, np.int64)
        order = self._order(ranked=True)
        place[order] = np.arange(len(order))
        by = np.lexsort((place[self.leave(self.writer)], self.written))
        key, txn, op = self.written[by], self.writer[by], self.write[by]
        same = key[1:] == key[:-1]
        a, b = txn[:-1][same], txn[1:][same]
        nothing = np.full(len(a), -1)
        kind = np.full(len(a), WW)
        self.columns.append([a, b, kind, op[:-1][same], op[1:][same], nothing])
        self._place(a, b, kind)
        return self.close(explain=False) is None

    def following(self) -> list[list[int]]:
        """The nodes after each node by what is forced, an order tried in `complete` left out."""
        if self._forced is not None:
            columns, places = self._forced
            del self.columns[columns:], self._a[places:], self._b[places:]
        return self._following()[0]

    def _codes(self, source: np.ndarray, target: np.ndarray, kind: np.ndarray) -> np.ndarray:
        return (source.astype(np.int64) * self.nodes + target) * 8 + kind

    def _following(self) -> tuple[list[list[int]], list[int]]:
        """The nodes after each node, and how many edges come into each."""
        a, b = np.concatenate(self._a), np.concatenate(self._b)
        count = self.nodes * self.scale
        order = np.argsort(a, kind="stable")
        bounds = np.searchsorted(a[order], np.arange(count + 1)).tolist()
        targets = b[order].tolist()
        following = [targets[bounds[p] : bounds[p + 1]] for p in range(count)]
        return following, np.bincount(b, minlength=count).tolist()

    def _order(self, *, ranked: bool) -> np.ndarray:
        """A topological order; ranked: as far as it may, of those that ended first first."""
        following, degree = self._following()
        ends, scale, n = self.seen.h.txn_end.tolist(), self.scale, self.transactions

        def rank(p: int) -> int:
            return ends[p // scale] if ranked and p // scale < n else 0

        ready = [(rank(p), p) for p, d in enumerate(degree) if d == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            _, p = heapq.heappop(ready)
            order.append(p)
            for b in following[p]:
                degree[b] -= 1
                if degree[b] == 0:
                    heapq.heappush(ready, (rank(b), b))
        return np.array(order, np.int64)

    def _propagate(self) -> bool:
        """Finds all that reaches each node, in topological order; False where there is none."""
        assert self.reach is not None
        following, degree = self._following()
        self._next = following
        rows, join, mark = self.reach.fresh(len(following)), self.reach.join, self.reach.mark
        self.effort.spend(sum(degree) * self._join_steps())
        scale, n, last = self.scale, self.transactions * self.scale, self.scale - 1
        ready = deque(p for p, d in enumerate(degree) if d == 0)
        done, self.place = 0, np.zeros(len(following), np.int64)
        while ready:
            p = ready.popleft()
            done += 1
            row = rows[p]
            if p < n and p % scale == last:
                mark(row, p // scale)
            for b in following[p]:
                join(rows[b], row, out=rows[b])
                degree[b] -= 1
                if degree[b] == 0:
                    ready.append(b)
            self.place[p] = done
        return done == len(following)

    def _regroup(self, reach: Bits) -> None:
        """Put writers of a key that follow one another by now into one group."""
        group, place = np.zeros(len(self.write), np.int64), self.place[self.leave(self.writer)]
        tails: list[tuple[int, int]] = []  # the last of a group, the group; the newest first
        order = np.lexsort((place, self.written)).tolist()
        writers, keys, groups, key = self.writer.tolist(), self.written.tolist(), 0, -1
        for i in order:
            if keys[i] != key:
                key, tails = keys[i], []
            row = reach.row(writers[i] * self.scale)
            tried = enumerate(tails[:TAILS_TRIED])
            at = next((at for at, (tail, _) in tried if reach.bit(row, tail)), None)
            if at is None:
                into, groups = groups, groups + 1
            else:
                into = tails.pop(at)[1]
            group[i] = into
            tails.insert(0, (writers[i], into))
        self._writers(self.write, group, place)

    # -- the rules -------------------------------------------------------------------------------

    def _force(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Every edge that one round of the rules draws, in columns."""
        h, reach = self.seen.h, self.reach
        assert reach is not None
        key = h.op_key[self.read]
        for read, first, stop in self._pairs(key):
            reader, of = self.reader[read], self.of_txn[read]
            # It saw another writer and yet read this one: the other wrote before.
            from_write = of >= 0
            at = self._last_seen(first, stop, reader, from_write)
            good = (at >= first) & from_write
            good[good] &= self.writer[at[good]] != of[good]
            good[good] &= ~reach.has(self.writer[at[good]], self.arrive(of[good]))
            i, w = read[good], at[good]
            yield self._edges(self.writer[w], of[good], WW, self.write[w], self.of[i], reader[good])
            # Whoever wrote after what it read comes after it.
            at = self._next_after(first, stop, of)
            good = at < stop
            good[good] &= self.writer[at[good]] != reader[good]
            i, w, reader = read[good], at[good], reader[good]
            later = ~reach.has(reader, self.leave(self.writer[w]))
            kind = np.where(h.op_kind[self.read[i]] == PREDICATE_READ, RW_PREDICATE, RW)[later]
            yield self._edges(
                reader[later], self.writer[w][later], kind, self.read[i][later],
                self.write[w][later], -1,
            )  # fmt: skip
            if self.need.alternate:
                own = self.own[i] >= 0
                own[own] &= ~reach.has(reader[own], self.arrive(self.writer[w[own]]))
                i, w, reader = i[own], w[own], reader[own]
                yield self._edges(reader, self.writer[w], WW, self.own[i], self.write[w], -1)
        if self.need.alternate:
            # Where two wrote a key, the one that commits later has seen the other.
            for place, first, stop in self._pairs(self.written):
                txn = self.writer[place]
                at = self._next_after(first, stop, txn)
                good = at < stop
                good[good] &= ~reach.has(txn[good], self.arrive(self.writer[at[good]]))
                a, b = place[good], at[good]
                yield self._edges(
                    self.writer[a], self.writer[b], WW, self.write[a], self.write[b], -1
                )

    def _force_newly(self, pairs: ByClocks) -> Iterator[tuple[np.ndarray, ...]]:
        """Every edge that the rules draw because of what changed since the round before."""
        reach = self.reach
        assert isinstance(reach, Clocks)
        first = not self._looked
        self._looked = True
        self.effort.spend(8 * len(self._changed) * reach.rows.shape[1])
        for read, at in pairs.last_seen(self._changed, reach.rows, self._old):
            of, w = self.of_txn[read], self.writer[at]
            new = w != of
            new[new] &= ~reach.has(w[new], self.arrive(of[new]))
            read, at = read[new], at[new]
            yield self._columns(
                self.writer[at], self.of_txn[read], WW, self.write[at], self.of[read],
                self.reader[read],
            )  # fmt: skip
        after = pairs.now_after(self._changed, reach.rows, self._old)
        for version, at in chain(pairs.given() if first else (), after):
            for read, w in pairs.readers(version, at):
                yield from self._read_before(read, w)
            if self.need.alternate:
                # Where two wrote a key, the one that commits later has seen the other.
                new = ~reach.has(self.writer[version], self.arrive(self.writer[at]))
                a, b = version[new], at[new]
                yield self._columns(
                    self.writer[a], self.writer[b], WW, self.write[a], self.write[b], -1
                )
        for read, w in pairs.beginnings() if first else ():
            yield from self._read_before(read, w)

    def _read_before(self, read: np.ndarray, at: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Edges from reads to writes that come after what was read."""
        assert self.reach is not None
        good = self.writer[at] != self.reader[read]
        read, at = read[good], at[good]
        reader, writer = self.reader[read], self.writer[at]
        later = ~self.reach.has(reader, self.leave(writer))
        i, w = read[later], at[later]
        predicate = self.seen.h.op_kind[self.read[i]] == PREDICATE_READ
        yield self._columns(
            self.reader[i], self.writer[w], np.where(predicate, RW_PREDICATE, RW), self.read[i],
            self.write[w], -1,
        )  # fmt: skip
        if self.need.alternate:
            own = self.own[read] >= 0
            own[own] &= ~self.reach.has(reader[own], self.arrive(writer[own]))
            i, w = read[own], at[own]
            yield self._columns(self.reader[i], self.writer[w], WW, self.own[i], self.write[w], -1)

    def _pairs(self, key: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Each place of `key` with each group of that key's writers: place, first, stop."""
        counts = self.groups[key + 1] - self.groups[key]
        ends = np.cumsum(counts)
        start = 0
        while start < len(key):
            base = ends[start - 1] if start else 0
            stop = max(int(np.searchsorted(ends, base + PAIRS_AT_ONCE, side="right")), start + 1)
            some = counts[start:stop]
            self.effort.spend(4 * int(some.sum()))
            place = np.repeat(np.arange(start, stop), some)
            within = np.arange(len(place)) - np.repeat(np.cumsum(some) - some, some)
            group = self.groups[key[place]] + within
            yield place, self.first[group], self.first[group + 1]
            start = stop

    def _last_seen(
        self, first: np.ndarray, stop: np.ndarray, reader: np.ndarray, wanted: np.ndarray
    ) -> np.ndarray:
        """In each group the last writer that the reader saw, itself apart; first - 1 for none."""
        assert self.reach is not None
        low, high, arrive = first - 1, np.where(wanted, stop, first), self.arrive(reader)
        while len(open_ := np.flatnonzero(high - low > 1)):
            middle = (low[open_] + high[open_]) // 2
            saw = self.reach.has(self.writer[middle], arrive[open_])
            low[open_] = np.where(saw, middle, low[open_])
            high[open_] = np.where(saw, high[open_], middle)
        itself = (low >= first) & (self.writer[low] == reader)
        return low - itself

    def _next_after(self, first: np.ndarray, stop: np.ndarray, of: np.ndarray) -> np.ndarray:
        """In each group the first writer after `of`, itself apart, else stop; -1: the beginning."""
        assert self.reach is not None
        low, high = first - 1, np.where(of >= 0, stop, first)
        while len(open_ := np.flatnonzero(high - low > 1)):
            middle = (low[open_] + high[open_]) // 2
            after = self.reach.has(of[open_], self.leave(self.writer[middle]))
            high[open_] = np.where(after, middle, high[open_])
            low[open_] = np.where(after, low[open_], middle)
        itself = (high < stop) & (self.writer[np.minimum(high, len(self.writer) - 1)] == of)
        return high + itself

    def _edges(
        self,
        source: np.ndarray,
        target: np.ndarray,
        kind: np.ndarray | int,
        source_op: np.ndarray,
        target_op: np.ndarray,
        via: np.ndarray | int,
    ) -> tuple[np.ndarray, ...]:
        """The edges that were not drawn before."""
        columns = self._columns(source, target, kind, source_op, target_op, via)
        new = ~np.isin(self._codes(*columns[:3]), self._known)
        return tuple(column[new] for column in columns)

    @staticmethod
    def _columns(source: np.ndarray, *others: np.ndarray | int) -> tuple[np.ndarray, ...]:
        given = (source, *others)
        return tuple(np.broadcast_to(np.asarray(c, np.int64), len(source)) for c in given)

    # -- evidence --------------------------------------------------------------------------------

    def _cycle(self) -> list[Step]:
        """A short cycle among what has no topological order."""
        a, b = np.concatenate(self._a), np.concatenate(self._b)
        count = self.nodes * self.scale
        label, cyclic = components(count, a, b)
        inside = np.flatnonzero(cyclic[a] & (label[a] == label[b]))
        following: dict[int, list[tuple[int, int]]] = {}
        for p, q, e in zip(a[inside].tolist(), b[inside].tolist(), inside.tolist(), strict=True):
            following.setdefault(p, []).append((q, e))
        best: list[int] = []
        effort = 0
        drawn = sum(len(some[0]) for some in self.columns[:1]) + len(self._a[0])
        # The edge that was inferred last closes a cycle, so its ends are on one: begin there.
        for begin in dict.fromkeys(chain(a[inside[inside >= drawn]].tolist()[::-1], following)):
            came: dict[int, tuple[int, int]] = {}
            queue = deque([begin])
            while queue and begin not in came:
                p = queue.popleft()
                for q, e in following[p]:
                    effort += 1
                    if q not in came:
                        came[q] = (p, e)
                        queue.append(q)
            path, at = [], begin
            while begin in came:
                at, e = came[at]
                path.append(e)
                if at == begin:
                    break
            if path and (not best or len(path) < len(best)):
                best = path[::-1]
            if effort > BFS_STEPS and best:
                break
        return self._steps(best)

    def _steps(self, path: list[int]) -> list[Step]:
        """Edges of a cycle as steps between transactions, helpers folded away."""
        inner = len(self._a[0])
        columns = [np.concatenate(column) for column in zip(*self.columns, strict=True)]
        edges = [[int(c[e - inner]) for c in columns] for e in path if e >= inner]
        turned = next(i for i, e in enumerate(edges) if e[0] < self.transactions)
        steps: list[Step] = []
        for source, target, *rest in edges[turned:] + edges[:turned]:
            if source >= self.transactions:
                steps[-1].target = target
                if rest[2] >= 0:
                    steps[-1].target_op = rest[2]
            else:
                steps.append(Step(source, target, *rest))
        return steps
