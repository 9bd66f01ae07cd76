"""Brute force: the levels by their plain definitions, tried on every order, to test the checker.

It serves two to four transactions. Nothing here knows of graphs or cycles: a level holds if some
order (of commits, of snapshots) explains every read. It is slow, and simple enough to be believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, permutations
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
        """Every level but read-uncommitted."""
        return {
            "read-committed": self._any(self._committed_reads, self._no_order),
            "read-atomic": self._any(self._atomic_reads, self._no_order),
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

    def _sees(self, txn: int, order: Order, states: list[dict[Key, Any]], chosen: Order) -> bool:
        state: dict[Key, Any] = {}
        for place, other in enumerate(order):
            if other in chosen:
                for f, key, _ in self.ops[other]:
                    if f == WRITES:
                        state[key] = states[place + 1][key]
        # The order of versions is one for everybody.
        for f, key, seen in self.ops[txn]:
            if f == WRITES:
                self._write(state, key, seen)
                continue
            value = self._value(state, key)
            if not self._fits(seen, value) or not self._one_order(key, value, states[-1]):
                return False
        return True

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
