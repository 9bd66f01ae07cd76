"""The session guarantees of Terry et al. 1994, judged on what each read must have included.

A session is one client, whichever replica it asks: its transactions in turn. As Bailis et al. 2013
adapt Terry's definitions to transactions, and with one order of versions for each key:

- read-your-writes: a read includes what its session's earlier transactions wrote.
- monotonic-reads: a read includes what its session's earlier transactions read.
- monotonic-writes: a write includes what its session's earlier transactions wrote, in that order.
- writes-follow-reads: a write includes what its session had read before it, in its own transaction
  too, in that order; and what those writes include, and so on.

A read that saw a write includes what that write includes. A transaction stays at one server, which
loses nothing: its later reads include what its earlier ones did. Its earlier ones need not: the
server may have learnt more in between, as at read committed. Each guarantee is judged alone: each
may need another order of a register's versions. Given for all is what the checker takes for proven
of registers: the initial state comes first, and a version comes after the one that its transaction
had read before it wrote.

Every rule is one of a kind: what a session did first (sources) must be in what came later (sinks).
For lists that is a comparison of lengths. For registers it is an edge between two versions, and the
guarantee is violated exactly where two versions come before each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from properties.checker.catalogue import GUARANTEES
from properties.checker.session_facts import Facts
from properties.checker.session_orders import versions_in_a_circle
from properties.checker.session_words import reasons
from properties.checker.shown import Shown
from properties.checker.verdict import SHOWN, Findings, Witness
from workloads.records import TXN_COMMITTED

IMPLIED_BY = "strong-session-snapshot-isolation"
DAMAGE = {
    "garbage-read",
    "incompatible-order",
    "duplicate-elements",
    "future-read",
    "G1a",
    "dirty-update",
    "cyclic-versions",
}
"""Where a read saw what no committed transaction wrote, no guarantee is said to hold."""


class Sources:
    """What sessions read or wrote of each key, in turn, to be asked for what came before.

    op, version : shape (sources,), sorted by session, key and operation; group : of each, a number
    for its session and key. best : the place of the source with the greatest version so far.
    """

    def __init__(self, facts: Facts, op: np.ndarray, version: np.ndarray) -> None:
        session = facts.session[facts.op_txn[op]]
        kept = (session >= 0) & (facts.h.txn_outcome[facts.op_txn[op]] == TXN_COMMITTED)
        op, version, session = op[kept], version[kept], session[kept]
        self._keys, self._ops = len(facts.h.keys), len(facts.op_txn) + 1
        group = session * self._keys + facts.h.op_key[op]
        order = np.lexsort((op, group))
        self.op, self.version, self.group = op[order], version[order], group[order]
        self._codes = self.group * self._ops + self.op
        self.best = _greatest_so_far(self.group, self.version) if facts.lists else self.op

    def before(self, session: np.ndarray, key: np.ndarray, bound: np.ndarray) -> np.ndarray:
        """The place of the last source of a session and key before an operation, or -1."""
        if not len(self.op):
            return np.full(len(bound), -1)
        group = session * self._keys + key
        at = np.searchsorted(self._codes, group * self._ops + bound) - 1
        fits = (at >= 0) & (session >= 0)
        fits[fits] = self.group[at[fits]] == group[fits]
        return np.where(fits, at, -1)


def _greatest_so_far(group: np.ndarray, version: np.ndarray) -> np.ndarray:
    """Where in each group (sorted) the greatest version up to each place stands."""
    if not len(group):
        return np.zeros(0, np.int64)
    new = np.ones(len(group), bool)
    new[1:] = group[1:] != group[:-1]
    number = np.cumsum(new) - 1
    span = int(version.max()) + 2
    high = np.maximum.accumulate(number * span + version)
    grew = np.ones(len(group), bool)
    grew[1:] = high[1:] > high[:-1]
    return np.maximum.accumulate(np.where(grew, np.arange(len(group)), 0))


@dataclass
class Rule:
    """Sources that must be in sinks: one row for each sink.

    last : the place of the last source that it must include; version, op : of the sink.
    session : whose sources they are. through : whether the sink is a read that includes them only
    because of what its transaction had read before.
    """

    last: np.ndarray
    version: np.ndarray
    op: np.ndarray
    session: np.ndarray
    through: bool


def judge_sessions(facts: Facts, levels: dict[str, bool | str], findings: Findings) -> None:
    """Decide the four session guarantees where nothing stronger is known to hold."""
    if levels[IMPLIED_BY] is True:
        return
    if facts.apart:
        findings.notes.append(
            f"{facts.apart:,} session{'s' * (facts.apart > 1)} ran several transactions at once: "
            "that tells nothing of what a session did before, and no guarantee is said to hold"
        )
    reads = Sources(facts, facts.read, facts.read_least)
    committed = Sources(facts, facts.write, facts.write_version)
    shown = Shown(facts)
    for level, name in GUARANTEES.items():
        wrote = level in ("read-your-writes", "monotonic-writes")
        sources = committed if wrote else reads
        rules, whole = _rules(level, facts, sources, shown)
        violated = _judge(facts, sources, rules, name, findings)
        damaged = facts.disagree or bool(DAMAGE & findings.witnesses.keys())
        if violated:
            levels[level] = False
        else:
            levels[level] = True if whole and not damaged and not facts.apart else "unknown"
    if shown.too_large:
        findings.notes.append(shown.too_large)


def _rules(level: str, facts: Facts, sources: Sources, shown: Shown) -> tuple[list[Rule], bool]:
    """The rules of a guarantee, and whether these are all of them."""
    h, op_txn = facts.h, facts.op_txn
    if level in ("read-your-writes", "monotonic-reads"):
        bound = h.op_start[op_txn[facts.read]]
        return [_direct(facts, sources, facts.read, facts.read_version, bound)], True
    own = level == "writes-follow-reads"
    bound = facts.write if own else h.op_start[op_txn[facts.write]]
    rules = [_direct(facts, sources, facts.write, facts.write_version, bound)]
    shows = shown.by_reads(transitive=own)
    if shows is None:
        return rules, False
    for session, read, before in shows:
        whose = np.full(len(read), session)
        last = sources.before(whose, h.op_key[facts.read[read]].astype(np.int64), before)
        rules.append(Rule(last, facts.read_version[read], facts.read[read], whose, True))
    return rules, True


def _direct(
    facts: Facts, sources: Sources, op: np.ndarray, version: np.ndarray, bound: np.ndarray
) -> Rule:
    session = facts.session[facts.op_txn[op]]
    last = sources.before(session, facts.h.op_key[op].astype(np.int64), bound)
    return Rule(last, version, op, session, False)


def _judge(
    facts: Facts, sources: Sources, rules: list[Rule], name: str, findings: Findings
) -> bool:
    """Whether the rules contradict what was seen; adds witnesses."""
    found: list[list[tuple[int, int, bool]]]  # of each violation: source, sink, through
    if facts.lists:
        found = _beyond(sources, rules)
    else:
        found = versions_in_a_circle(facts, sources, rules)
    for missing in found[:SHOWN]:
        txns, marks, why = reasons(facts, name, missing)
        findings.add(Witness(name, txns, marks=marks, why=why))
    return bool(found)


def _beyond(sources: Sources, rules: list[Rule]) -> list[list[tuple[int, int, bool]]]:
    """Sources of lists that lie beyond what their sink includes; the first few."""
    found: list[list[tuple[int, int, bool]]] = []
    for rule in rules:
        some = np.flatnonzero(rule.last >= 0)
        best = sources.best[rule.last[some]]
        for i in np.flatnonzero(sources.version[best] > rule.version[some])[:SHOWN].tolist():
            sink = int(rule.op[some[i]])
            found.append([(int(sources.op[best[i]]), sink, rule.through)])
    return found
