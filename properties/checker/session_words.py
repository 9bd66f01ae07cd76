"""What violates a session guarantee, in words: the session, the transactions and the values."""

from __future__ import annotations

from typing import Any

import numpy as np

from properties.checker.session_facts import Facts
from properties.checker.verdict import elide
from workloads.records import NIL, WRITE, show

Missing = tuple[int, int, bool]


def reasons(facts: Facts, name: str, missing: list[Missing]) -> tuple[list[int], list[Any], str]:
    """The transactions (T1, T2, … in turn), the values that matter, and the sentence."""
    words = _Words(facts, name)
    clauses = [words.clause(*one) for one in missing]
    why = "; and ".join(clauses)
    if not facts.lists and len(missing) > 1:
        key = show(facts.h.keys[facts.h.op_key[missing[0][1]]])
        why += f": no order of the writes to {key} has all of this"
    return list(words.names), words.marks, why


class _Words:
    def __init__(self, facts: Facts, name: str) -> None:
        self.facts, self.h, self.name = facts, facts.h, name
        self.names: dict[int, str] = {}
        self.marks: list[Any] = []
        self.wrote = "appended" if facts.lists else "wrote"

    def txn(self, op: int) -> str:
        return self.names.setdefault(int(self.facts.op_txn[op]), f"T{len(self.names) + 1}")

    def session(self, op: int) -> str:
        h = self.h
        return f"session {show(h.sessions[h.txn_session[self.facts.op_txn[op]]])}"

    def value(self, op: int) -> str:
        h = self.h
        if h.op_kind[op] != WRITE and self.facts.lists:
            at = int(h.op_value[op])
            seen = [h.decode(v) for v in h.elements[at : at + int(h.op_length[op])]]
            return elide(seen, self.marks)
        if h.op_value[op] == NIL:
            return "nil"
        value = h.decode(h.op_value[op])
        self.marks.append(value)
        return show(value)

    def key(self, op: int) -> str:
        return show(self.h.keys[self.h.op_key[op]])

    def did(self, op: int) -> str:
        """`written x = 8`, `read x = 8` or `appended 8 to x`."""
        if self.h.op_kind[op] != WRITE:
            return f"read {self.key(op)} = {self.value(op)}"
        if self.facts.lists:
            return f"appended {self.value(op)} to {self.key(op)}"
        return f"written {self.key(op)} = {self.value(op)}"

    def clause(self, source: int, sink: int, through: bool) -> str:
        before = self.txn(source)
        if through:
            return self._without(source, sink, before)
        own = "itself " if self.h.op_kind[source] == WRITE else ""
        did = self.did(source)
        if self.h.op_kind[sink] == WRITE:
            to = f"{self.value(sink)} to {self.key(sink)}"
            said = (
                f"{self.session(sink)} had {own}{did} in {before} before it {self.wrote} {to} in "
            )
            return said + self.txn(sink) + (", which was put first" if self.facts.lists else "")
        return (
            f"{self.session(sink)} read {self.key(sink)} = {self.value(sink)} in {self.txn(sink)} "
            f"after it had {own}{did} in {before}"
        )

    def _without(self, source: int, sink: int, before: str) -> str:
        """A read that must include a source because of what its transaction had read before."""
        did = self.did(source)
        shows = self._shows(source, sink)
        said = f"{self.session(sink)} read {self.key(sink)} = {self.value(sink)} in "
        said += f"{self.txn(sink)} after it had read "
        if shows is None:
            return said + f"there what includes what {self.session(source)} had {did} in {before}"
        read, write = shows
        other = self.txn(write)
        said += f"{self.key(read)} = {self.value(read)} there: "
        direct = (
            self.facts.session[self.facts.op_txn[write]]
            == (self.facts.session[self.facts.op_txn[source]])
            and source < write
        )
        whose = f"{self.session(write)} {self.wrote} {self.value(write)} to {self.key(write)} in "
        whose += f"{other} after "
        if direct:
            itself = "itself " if self.h.op_kind[source] == WRITE else ""
            same = other == before
            where = "there" if same else f"in {before}"
            return said + whose + f"it had {itself}{did} {where}"
        return said + whose + f"what {self.session(source)} had {did} in {before} had reached it"

    def _shows(self, source: int, sink: int) -> tuple[int, int] | None:
        """An earlier read of the transaction and a write that it saw, the source's session's."""
        facts = self.facts
        txn = facts.op_txn[sink]
        mine = np.flatnonzero((facts.op_txn[facts.read] == txn) & (facts.read < sink))
        rows = facts.last_shown(mine)
        any_: tuple[int, int] | None = None
        for read, row in zip(facts.read[mine].tolist(), rows.tolist(), strict=True):
            if row < 0:
                continue
            start = int(facts.element_start[self.h.op_key[read]]) if facts.lists else row
            for write in facts.shown[start : row + 1].tolist():
                if write < 0:
                    continue
                writer = facts.op_txn[write]
                after = source < (write if self.name == "MRWD" else self.h.op_start[writer])
                if facts.session[writer] == facts.session[facts.op_txn[source]] and after:
                    return read, write
                if any_ is None and writer != txn:
                    any_ = read, write
        return any_
