"""Brute force: the levels by their plain definitions, tried on every order, to test the checker.

It serves two to four transactions. Nothing here knows of graphs or cycles: a level holds if some
order (of commits, of snapshots) explains every read. It is slow, and simple enough to be believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, permutations, product
from typing import Any

from workloads.records import NIL, NOT_KNOWN, READ, TXN_COMMITTED, TXN_UNKNOWN, WRITE, History

Order = tuple[int, ...]
Key = int  # values and keys are the history's own numbers, which tell 1 from true and "1"
WRITES, READS, PREDICATE_READS = "w", "r", "rp"


class BruteForce:
    """Judges one small history; `levels` maps each level to whether some order explains it."""

    def __init__(self, history: History) -> None:
        self.h = history
        self.lists = history.model == "list-append"
        everyone = range(len(history))
        self.ops = [self._operations(i) for i in everyone]
        self.committed = [i for i in everyone if history.txn_outcome[i] == TXN_COMMITTED]
        maybe = [i for i in everyone if history.txn_outcome[i] == TXN_UNKNOWN]
        self.worlds = [
            tuple(self.committed) + some
            for some in chain.from_iterable(combinations(maybe, k) for k in range(len(maybe) + 1))
        ]

    def _operations(self, txn: int) -> list[tuple[str, Key, Any]]:
        """As (f, key, value): of a list a list, of a set's answer a frozenset, ... if not known."""
        h, found = self.h, []
        for op in range(int(h.op_start[txn]), int(h.op_start[txn + 1])):
            value: Any = int(h.op_value[op])
            if h.op_kind[op] == WRITE:
                f = WRITES
            else:
                f = READS if h.op_kind[op] == READ else PREDICATE_READS
                if op in h.sets:
                    value = frozenset(h.sets[op])
                elif value == NOT_KNOWN or (self.lists and h.op_length[op] < 0):
                    value = ...
                elif self.lists:
                    value = h.elements[value : value + int(h.op_length[op])].tolist()
            found.append((f, int(h.op_key[op]), value))
        return found

    def levels(self) -> dict[str, bool]:
        """Every level but read-uncommitted and the session guarantees, which `keeps` judges."""
        return {
            "read-committed": self._any(self._committed_reads, self._no_order),
            "read-atomic": self._any(self._atomic_reads, self._no_order),
            "consistent-prefix": self._any(self._prefixes, self._no_order),
            "snapshot-isolation": self._snapshots(self._no_order),
            "repeatable-read": self._any(self._repeatable, self._no_order),
            "serializable": self._any(self._serial, self._no_order),
            "strong-session-snapshot-isolation": self._snapshots(self._session_order),
            "strong-session-serializable": self._any(self._serial, self._session_order),
            "strong-snapshot-isolation": self._snapshots(self._time_order),
            "strict-serializable": self._any(self._serial, self._time_order),
        }

    # -- which orders are allowed ---------------------------------------------------------------

    def _no_order(self, a: int, b: int) -> bool:
        return False

    def _session_order(self, a: int, b: int) -> bool:
        """Whether a must come before b: the same session's earlier, finished transaction."""
        h = self.h
        return (
            h.txn_session[a] == h.txn_session[b]
            and h.txn_outcome[a] == TXN_COMMITTED
            and h.txn_end[a] <= h.txn_begin[b]
            and a != b
        )

    def _time_order(self, a: int, b: int) -> bool:
        h = self.h
        ended = h.txn_outcome[a] == TXN_COMMITTED and h.txn_end[a] < h.txn_begin[b]
        return bool(ended) or self._session_order(a, b)

    def _any(self, explains: Any, must: Any) -> bool:
        for world in self.worlds:
            for order in permutations(world):
                late = any(must(b, a) for i, a in enumerate(order) for b in order[i + 1 :])
                if not late and explains(order):
                    return True
        return False

    # -- what explains the reads ----------------------------------------------------------------

    def _write(self, state: dict[Key, Any], key: Key, value: Any) -> None:
        state[key] = [*state.get(key, []), value] if self.lists else value

    def _value(self, state: dict[Key, Any], key: Key) -> Any:
        return state.get(key, [] if self.lists else NIL)

    @staticmethod
    def _fits(seen: Any, value: Any) -> bool:
        """Whether a read that saw this may have seen the value."""
        if seen is ...:
            return True
        return bool(frozenset(value) == seen if isinstance(seen, frozenset) else value == seen)

    def _run(self, txn: int, state: dict[Key, Any]) -> bool:
        """Apply a transaction to the state; whether its reads saw just that."""
        known = txn in self.committed
        for f, key, value in self.ops[txn]:
            if f == WRITES:
                self._write(state, key, value)
            elif known and not self._fits(value, self._value(state, key)):
                return False
        return True

    def _serial(self, order: Order) -> bool:
        state: dict[Key, Any] = {}
        return all(self._run(txn, state) for txn in order)

    def _states(self, order: Order) -> list[dict[Key, Any]]:
        """The state after each prefix of the order, writes only."""
        states: list[dict[Key, Any]] = [{}]
        for txn in order:
            state = dict(states[-1])
            for f, key, value in self.ops[txn]:
                if f == WRITES:
                    self._write(state, key, value)
            states.append(state)
        return states

    def _one_order(self, key: Key, value: Any, whole: dict[Key, Any]) -> bool:
        """Whether a list is a beginning of what it is at last: its versions have one order."""
        return not self.lists or value == self._value(whole, key)[: len(value)]

    def _committed_reads(self, order: Order) -> bool:
        """Each read saw some committed state from before its transaction, plus its own writes."""
        states = self._states(order)
        for place, txn in enumerate(order):
            mine: dict[Key, list[Any]] = {}
            for f, key, seen in self.ops[txn] if txn in self.committed else ():
                if f == WRITES:
                    mine.setdefault(key, []).append(seen)
                    continue
                befores = [self._value(s, key) for s in states[: place + 1]]
                own = mine.get(key, [])
                if self.lists:
                    options = [b + own[:i] for b in befores for i in range(len(own) + 1)]
                else:
                    options = befores + own
                if not any(
                    self._fits(seen, value) and self._one_order(key, value, states[-1])
                    for value in options
                ):
                    return False
        return True

    def _repeatable(self, order: Order) -> bool:
        """PL-2.99: as serializable for reads by name; a predicate may see an older state.

        Either way a transaction sees its own writes.
        """
        states = self._states(order)
        for place, txn in enumerate(order):
            state = dict(states[place])
            mine: dict[Key, list[Any]] = {}
            for f, key, seen in self.ops[txn] if txn in self.committed else ():
                if f == WRITES:
                    self._write(state, key, seen)
                    mine.setdefault(key, []).append(seen)
                    continue
                options = [self._value(state, key)]
                own = mine.get(key, [])
                if f == PREDICATE_READS and self.lists:
                    options = [self._value(s, key) + own for s in states[: place + 1]]
                elif f == PREDICATE_READS and not own:
                    options = [self._value(s, key) for s in states[: place + 1]]
                if not any(
                    self._fits(seen, value) and self._one_order(key, value, states[-1])
                    for value in options
                ):
                    return False
        return True

    def _atomic_reads(self, order: Order) -> bool:
        """Cerone's read atomic: some set of earlier transactions explains all of one's reads."""
        states = self._states(order)
        return all(
            txn not in self.committed
            or any(self._sees(txn, order, states, chosen) for chosen in _subsets(order[:place]))
            for place, txn in enumerate(order)
        )

    def _prefixes(self, order: Order) -> bool:
        """Each transaction read from one beginning of the order of commits, plus its own writes."""
        states = self._states(order)
        return all(
            txn not in self.committed
            or any(self._reads_from(txn, dict(s), states[-1]) for s in states[: place + 1])
            for place, txn in enumerate(order)
        )

    def _reads_from(self, txn: int, state: dict[Key, Any], whole: dict[Key, Any]) -> bool:
        for f, key, seen in self.ops[txn]:
            if f == WRITES:
                self._write(state, key, seen)
                continue
            value = self._value(state, key)
            if not self._fits(seen, value) or not self._one_order(key, value, whole):
                return False
        return True

    def _sees(self, txn: int, order: Order, states: list[dict[Key, Any]], chosen: Order) -> bool:
        state: dict[Key, Any] = {}
        for place, other in enumerate(order):
            if other in chosen:
                for f, key, _ in self.ops[other]:
                    if f == WRITES:
                        state[key] = states[place + 1][key]
        # The order of versions is one for everybody.
        return self._reads_from(txn, state, states[-1])

    def _snapshots(self, must: Any) -> bool:
        """Begin and commit points in some order: each reads its snapshot, and of two that wrote
        the same key and overlapped only one commits.
        """
        return any(
            self._consistent(events, must) for world in self.worlds for events in _points(world)
        )

    def _consistent(self, events: list[tuple[int, bool]], must: Any) -> bool:
        begun: dict[int, int] = {}
        wrote: dict[Key, int] = {}
        states: list[dict[Key, Any]] = [{}]
        ended: dict[int, int] = {}
        for at, (txn, commits) in enumerate(events):
            if not commits:
                begun[txn] = at
                if any(must(a, txn) and a not in ended for a in self.committed if a != txn):
                    return False
                states.append(states[-1])
                continue
            snapshot = dict(states[begun[txn]])
            keys = {key for f, key, _ in self.ops[txn] if f == WRITES}
            if any(wrote.get(key, -1) > begun[txn] for key in keys):
                return False
            if not self._run(txn, snapshot):
                return False
            state = dict(states[-1])
            for key in keys:
                state[key] = snapshot[key]
                wrote[key] = at
            ended[txn] = at
            states.append(state)
        return True

    # -- session guarantees ---------------------------------------------------------------------

    def keeps(self, guarantee: str) -> bool:
        """Whether some order of each key's writes, in some world, keeps a session guarantee.

        A read that saw what nobody in that world wrote tells nothing.
        """
        return any(Terry(self, world).keeps(guarantee) for world in self.worlds)


Write = tuple[int, int]  # transaction, place of the operation in it


class Terry:
    """Terry's guarantees in one world. A read includes writes: those that a server must have had.

    What a read of a list includes is what it saw. What a read of a register includes is the write
    that it saw and whatever the order of that key's writes puts before it.
    """

    def __init__(self, all_: BruteForce, world: Order) -> None:
        self.all, self.world, self.lists = all_, set(world), all_.lists
        self.writes = {
            (t, i): (key, value)
            for t in world
            for i, (f, key, value) in enumerate(all_.ops[t])
            if f == WRITES
        }
        self.reads = [
            (t, i)
            for t in world
            for i, (f, _, value) in enumerate(all_.ops[t])
            if t in all_.committed and f != WRITES and value is not ...
        ]

    def keeps(self, guarantee: str) -> bool:
        everyone = set(self.all.worlds[-1])
        for t, i in self.reads:
            _, key, value = self.all.ops[t][i]
            for v in value if self.lists else [value]:
                anybody = any((WRITES, key, v) in self.all.ops[o] for o in everyone)
                if anybody and (key, v) not in self.writes.values():
                    return False  # this world lacks a transaction that was seen
        return any(self._explained(guarantee, seen) for seen in self._sightings())

    def _sightings(self) -> Iterator[dict[Write, list[Write]]]:
        """For each read the writes that it shows, one by one: each may have been seen by value."""
        options = []
        for t, i in self.reads:
            _, key, value = self.all.ops[t][i]
            values = (
                [] if value == NIL and not self.lists else list(value if self.lists else [value])
            )
            per_value = [
                [w for w, (k, x) in self.writes.items() if k == key and x == v] for v in values
            ]
            options.append([list(chosen) for chosen in product(*per_value)])
        for chosen in product(*options):
            yield dict(zip(self.reads, chosen, strict=True))

    def _explained(self, guarantee: str, seen: dict[Write, list[Write]]) -> bool:
        self.shown, self.seen = seen, {}
        for (t, i), shown in seen.items():
            others = list(shown)
            while others and others[-1][0] == t:
                others.pop()
            # A register that its own transaction wrote tells nothing of others.
            if self.lists or others or not shown:
                self.seen[t, i] = others
        musts = list(getattr(self, "_" + guarantee.replace("-", "_"))())
        keys = {key for key, _ in self.writes.values()}
        return all(self._some_order(key, musts) for key in keys)

    def _some_order(self, key: Key, musts: list[tuple[Any, Any]]) -> bool:
        """Whether an order of the key's writes has all that must be: (write, read) says that the
        read includes the write, (write, write) that the one comes before the other.
        """
        mine = [w for w, (k, _) in self.writes.items() if k == key]
        for order in permutations(mine):
            place = {w: i for i, w in enumerate(order)}
            if any(
                a[0] == b[0] and a[1] > b[1] for i, a in enumerate(order) for b in order[i + 1 :]
            ):
                continue
            reads = {r: shown for r, shown in self.seen.items() if self._key(r) == key}
            if not self.lists and any(
                place[shown[0]] > place[w]
                for r, shown in reads.items()
                for w in mine
                if shown and w[0] == r[0] and w[1] > r[1]
            ):
                continue
            if self.lists and any(
                [place[w] for w in shown] != list(range(len(shown)))
                for r, shown in self.shown.items()
                if self._key(r) == key
            ):
                continue
            included = {r: max((place[w] for w in shown), default=-1) for r, shown in reads.items()}
            if all(
                (place[w] <= included[to] if to in included else place[w] <= place[to])
                for w, to in musts
                if self.writes[w][0] == key and (to in included or to in place)
            ):
                return True
        return False

    def _key(self, op: Write) -> Key:
        return self.all.ops[op[0]][op[1]][1]

    def _before(self, a: Write, b: Write) -> bool:
        """Whether a's transaction comes before b's in their session."""
        return self.all._session_order(a[0], b[0])

    def _read_your_writes(self) -> Iterator[tuple[Any, Any]]:
        for r in self.seen:
            yield from ((w, r) for w in self.writes if self._before(w, r))

    def _monotonic_reads(self) -> Iterator[tuple[Any, Any]]:
        for r in self.seen:
            for earlier, shown in self.seen.items():
                if self._before(earlier, r) and self._key(earlier) == self._key(r):
                    yield from ((w, r) for w in shown)

    def _monotonic_writes(self) -> Iterator[tuple[Any, Any]]:
        for w in self.writes:
            yield from ((a, w) for a in self.writes if self._before(a, w))
        for earlier, later in self._pairs():
            for w in self.seen[earlier]:
                yield from ((a, later) for a in self.writes if self._before(a, w))

    def _writes_follow_reads(self) -> Iterator[tuple[Any, Any]]:
        for w in self.writes:
            yield from ((a, w) for a in self._read_before(w))
        for earlier, later in self._pairs():
            there: set[Write] = set()
            todo = list(self.seen[earlier])
            while todo:
                for a in self._read_before(todo.pop()):
                    if a not in there:
                        there.add(a)
                        todo.append(a)
            yield from ((a, later) for a in there)

    def _read_before(self, w: Write) -> list[Write]:
        """What the session of a write had read before it, in the same transaction too."""
        found = []
        for r, shown in self.seen.items():
            if self._before(r, w) or (r[0] == w[0] and r[1] < w[1]):
                found += shown
        return found

    def _pairs(self) -> Iterator[tuple[Write, Write]]:
        """Two reads of one transaction, in turn: what a server had it has for the next read."""
        for a in self.seen:
            yield from ((a, b) for b in self.seen if a[0] == b[0] and a[1] < b[1])


def _subsets(order: Order) -> Iterator[Order]:
    return chain.from_iterable(combinations(order, k) for k in range(len(order) + 1))


def _points(world: Order) -> Iterator[list[tuple[int, bool]]]:
    """Every order of begin and commit points in which each begins before it commits."""

    def extend(done: list[tuple[int, bool]], todo: Order, open_: Order) -> Iterator[Any]:
        if not todo and not open_:
            yield done
        for txn in todo:
            rest = tuple(t for t in todo if t != txn)
            yield from extend([*done, (txn, False)], rest, (*open_, txn))
        for txn in open_:
            rest = tuple(t for t in open_ if t != txn)
            yield from extend([*done, (txn, True)], todo, rest)

    yield from extend([], world, ())
