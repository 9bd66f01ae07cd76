"""Small histories first: one serial order in real time proves every level and leaves no anomaly.

Each transaction saw exactly what those before it in the order had left, and none stands before one
that had ended when it began. So every dependency that the checker could draw follows the order, and
no cycle can be. Where no such order is found nothing is said: the checker decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workloads.records import NIL, NOT_KNOWN, TXN_COMMITTED, TXN_UNKNOWN, WRITE, History

MOST_TRANSACTIONS = 24  # beyond, the checker's columns win, and it may leave registers undecided
MOST_VALUES = 1_000  # operations and elements of lists together
WRONG_TURNS = 10  # places looked for in vain; most orders are found without any

State = Any  # a register's value, NIL at first; a list's values, () at first
Needs = dict[int, State]


@dataclass
class Txn:
    """A committed transaction: the state of each key that it found, and the one that it left.

    leaves : of a register the last value written, of a list all that was appended.
    """

    begin: int
    end: int
    session: int
    needs: Needs
    leaves: Needs


def explained_by_one_order(h: History) -> bool:
    """Whether some order of the committed transactions, one by one, explains a small history.

    The order follows real time and each session. False says nothing at all. It is also the answer
    wherever the checker would have more to say than that all is well: for outcomes, answers and
    operations that nobody knows, for sets, and for values that were written to a key twice.
    """
    if not 0 < len(h) <= MOST_TRANSACTIONS or len(h.op_kind) + len(h.elements) > MOST_VALUES:
        return False
    if h.unjudged or h.sets:
        return False
    txns = _transactions(h)
    return bool(txns) and Search(txns, lists=h.model == "list-append").run()


Row = tuple[int, int, int, int]  # an operation's kind, key, value and length, as in a History


def _transactions(h: History) -> list[Txn]:
    """The committed ones in the order of their ends; none where one shows that no order will do."""
    columns = (h.op_kind, h.op_key, h.op_value, h.op_length)
    rows: list[Row] = list(zip(*(column.tolist() for column in columns), strict=True))
    starts, elements, lists = h.op_start.tolist(), h.elements.tolist(), h.model == "list-append"
    begins, ends, sessions = h.txn_begin.tolist(), h.txn_end.tolist(), h.txn_session.tolist()
    found: list[Txn] = []
    written: list[tuple[int, int]] = []
    for v, outcome in enumerate(h.txn_outcome.tolist()):
        if outcome == TXN_UNKNOWN:
            return []
        if outcome != TXN_COMMITTED:
            continue  # whoever saw anything of it fits in no order of the others
        ops = rows[starts[v] : starts[v + 1]]
        written += [(key, value) for kind, key, value, _ in ops if kind == WRITE]
        needs: Needs = {}
        leaves = _lists(ops, elements, needs) if lists else _registers(ops, needs)
        if leaves is None:
            return []
        found.append(Txn(begins[v], ends[v], sessions[v], needs, leaves))
    if _any_twice(written):
        return []
    found.sort(key=lambda txn: txn.end)
    return found


def _any_twice(written: list[tuple[int, int]]) -> bool:
    """Whether a value was written to a key twice: which of the two a read saw is not told."""
    return len(set(written)) < len(written)


def _registers(ops: Sequence[Row], needs: Needs) -> Needs | None:
    """The registers that a transaction left; fills `needs`. None where it contradicts itself."""
    own: Needs = {}
    for kind, key, value, _ in ops:
        if kind == WRITE:
            own[key] = value
        elif value == NOT_KNOWN or value != (own if key in own else needs).setdefault(key, value):
            return None
    return own


def _lists(ops: Sequence[Row], elements: Sequence[int], needs: Needs) -> Needs | None:
    """What a transaction appended to each list; fills `needs`. None where it contradicts itself."""
    own: Needs = {}
    for kind, key, value, length in ops:
        mine = own.get(key, ())
        if kind == WRITE:
            own[key] = (*mine, value)
            continue
        before = length - len(mine)
        if before < 0:  # not known, or shorter than what it had appended itself
            return None
        seen = tuple(elements[value : value + length])
        if seen[before:] != mine or seen[:before] != needs.setdefault(key, seen[:before]):
            return None
    return own


class Search:
    """Places the transactions one after the other; `run` says whether all could be placed.

    A state comes but once, because no value is written twice. So whoever only reads is placed as
    soon as it finds what it saw, and a writer waits for all who saw what it writes over.
    left : how many more places are looked for. Few orders take a wrong turn, so few are allowed.
    """

    def __init__(self, txns: list[Txn], *, lists: bool) -> None:
        self.txns, self.lists, self.first = txns, lists, () if lists else NIL
        self.everybody = (1 << len(txns)) - 1
        self.left = len(txns) + WRONG_TURNS
        self.before = [_before(txn, txns) for txn in txns]
        self.longest = _longest(txns) if lists else {}
        self.state: Needs = {}
        self.readers: dict[tuple[int, State], int] = {}
        for at, txn in enumerate(txns):
            for version in txn.needs.items():
                self.readers[version] = self.readers.get(version, 0) | 1 << at

    def run(self) -> bool:
        return self._place(0)

    def _place(self, done: int) -> bool:
        """Whether those that are not done, as bits, can follow: readers first, then any writer."""
        self.left -= 1
        for at, txn in enumerate(self.txns):
            if not txn.leaves and self._ready(at, done):
                done |= 1 << at
        if done == self.everybody:
            return True
        for at, txn in enumerate(self.txns):
            if not txn.leaves or not self._ready(at, done):
                continue
            if self.left <= 0:
                return False
            old = {key: self.state.get(key, self.first) for key in txn.leaves}
            new = self._written(at, old, done)
            if new is None:
                continue
            self.state.update(new)
            if self._place(done | 1 << at):
                return True
            self.state.update(old)
        return False

    def _ready(self, at: int, done: int) -> bool:
        """Whether it is its turn, and it finds what it saw."""
        if done >> at & 1 or self.before[at] & ~done:
            return False
        state, first = self.state, self.first
        return all(state.get(key, first) == seen for key, seen in self.txns[at].needs.items())

    def _written(self, at: int, old: Needs, done: int) -> Needs | None:
        """The states that a writer leaves; None where it must wait for somebody else."""
        waiting = ~(done | 1 << at)
        for version in old.items():
            if self.readers.get(version, 0) & waiting:
                return None
        leaves = self.txns[at].leaves
        if not self.lists:
            return leaves
        new = {key: seen + leaves[key] for key, seen in old.items()}
        longest = self.longest
        return new if all(_begins(new[key], longest.get(key, ())) for key in new) else None


def _before(txn: Txn, txns: list[Txn]) -> int:
    """Who must come before a transaction, as bits: who had ended when it began."""
    begin, session, bits, bit = txn.begin, txn.session, 0, 1
    for other in txns:
        if other.end < begin or (
            other.end == begin and other.session == session and other is not txn
        ):
            bits |= bit
        bit <<= 1
    return bits


def _longest(txns: list[Txn]) -> dict[int, tuple[int, ...]]:
    """The longest state of each list that anybody saw."""
    found: dict[int, tuple[int, ...]] = {}
    for txn in txns:
        for key, seen in txn.needs.items():
            if len(seen) > len(found.get(key, ())):
                found[key] = seen
    return found


def _begins(new: tuple[int, ...], longest: tuple[int, ...]) -> bool:
    """Whether a list's new state begins what was seen of it, or goes on after that."""
    least = min(len(new), len(longest))
    return new[:least] == longest[:least]
