"""Appends that nobody read have no proven order; snapshot levels need one that fits.

For the levels of serializability any topological order fits, because no version that nobody read
has a reader to contradict it. Under snapshot isolation the order of two writes also says which
of them saw the other, so it can contradict: T1 read the last seen version and appended to it,
hence no other append came between, hence it is the first of the unseen ones.
"""

from __future__ import annotations

import numpy as np

from properties.checker.graph import CYCLES, PASS, Reduced, classify, components
from properties.checker.list_edges import Lists
from properties.checker.order_search import Need, Orders, search
from properties.checker.verdict import Findings, Witness
from workloads.records import show

LEVELS = {
    "snapshot-isolation": ("serializable", ""),
    "strong-session-snapshot-isolation": ("strong-session-serializable", "-process"),
    "strong-snapshot-isolation": ("strict-serializable", "-realtime"),
}
MOST_NODES = 6000
MOST_TRIES = 64


def settle(
    lists: Lists, reduced: Reduced, levels: dict[str, bool | str], findings: Findings
) -> None:
    """Check the snapshot levels that no cycle has ruled out against every order of the unseen."""
    unseen, updates = lists.tails()
    inside = np.isin(lists.op_txn[unseen], reduced.names)
    unseen, updates = unseen[inside], updates[inside]
    for level, (plain, suffix) in LEVELS.items():
        if levels[level] is False or levels[plain] is not False or len(unseen) < 2:
            continue
        edges, source, target = reduced.of_level(plain)
        if not len(edges):
            continue
        label, _ = components(reduced.nodes, source, target)
        # Where repeatable-read holds the contradiction needs an anti-dependency of a predicate.
        predicate = "" if levels["repeatable-read"] is False else "-predicate"
        names = suffix or predicate
        levels[level] = _settle(lists, reduced, unseen, updates, label, level, names, findings)


def _settle(
    lists: Lists,
    reduced: Reduced,
    unseen: np.ndarray,
    updates: np.ndarray,
    label: np.ndarray,
    level: str,
    suffix: str,
    findings: Findings,
) -> bool | str:
    h, op_txn = lists.h, lists.op_txn
    node = np.searchsorted(reduced.names, op_txn[unseen])
    # Only writers of one key within one component can contradict each other.
    group = h.op_key[unseen].astype(np.int64) * reduced.nodes + label[node]
    order = np.lexsort((h.txn_end[op_txn[unseen]], ~updates, group))
    unseen, updates, group = unseen[order], updates[order], group[order]
    first = np.searchsorted(group, group)
    forced = np.flatnonzero(updates[first] & (first != np.arange(len(first))))
    begun = reduced
    if len(forced):
        begun = _with(lists, reduced, unseen[first[forced]], unseen[forced])
        if len(begun.of_level(level)[0]):
            steps = begun.steps(begun.any_cycle(level))
            looks = classify(steps)
            base = "G-nonadjacent" if looks.startswith("G-nonadjacent") else "G-single"
            name = base + suffix
            findings.add(Witness(name, [step.source for step in steps], steps))
            return False
    near = np.flatnonzero(group[1:] == group[:-1])
    if not len(near):
        return True
    chained = _with(lists, reduced, unseen[near], unseen[near + 1])
    if not len(chained.of_level(level)[0]):
        return True  # real databases commit writes of one key one after the other: by their ends
    if reduced.nodes > MOST_NODES:
        return "unknown"
    return _search(lists, begun, unseen, group, level, suffix, findings)


def _with(lists: Lists, reduced: Reduced, before: np.ndarray, after: np.ndarray) -> Reduced:
    txn = lists.op_txn
    differ = txn[before] != txn[after]
    before, after = before[differ], after[differ]
    return reduced.with_writes(txn[before], txn[after], before, after)


def _search(
    lists: Lists,
    begun: Reduced,
    unseen: np.ndarray,
    group: np.ndarray,
    level: str,
    suffix: str,
    findings: Findings,
) -> bool | str:
    """Try the orders one by one; exact, because the component is small."""
    depends, anti, _ = CYCLES[level]
    names = begun.names.tolist()
    ends = [int(lists.h.txn_end[v]) if v < len(lists.h) else 0 for v in names]
    orders = Orders.bare(Need((), True, True, ""), begun.nodes, ends)
    kinds = {*depends, *anti, PASS}
    for row in zip(
        begun.source.tolist(),
        begun.target.tolist(),
        begun.kind.tolist(),
        begun.source_op.tolist(),
        begun.target_op.tolist(),
        begun.via.tolist(),
        strict=True,
    ):
        if row[2] in kinds:
            orders.add(row)
    for op, key in zip(unseen.tolist(), group.tolist(), strict=True):
        v = int(np.searchsorted(begun.names, lists.op_txn[op]))
        orders.writer_op[v, key] = op
        orders.writers[key] = orders.writers.get(key, 0) | 1 << orders.leave(v)
    pair: tuple[int, int, int] | None = None
    answer: bool | str = False
    if orders.close() is None:
        pair = orders.unsettled()
        answer = search(orders, [MOST_TRIES])
    if answer is False:
        key = int(lists.h.op_key[unseen[0]]) if pair is None else pair[2] // begun.nodes
        txns = [names[v] for v in pair[:2]] if pair else [names[v] for v, _ in orders.writer_op]
        findings.add(
            Witness(
                "G-nonadjacent" + suffix,
                [t for t in txns if t < len(lists.h)],
                why=f"T1 and T2 both appended to {show(lists.h.keys[key])} unseen, and with either "
                "append as the first, what was read makes a cycle without adjacent "
                "anti-dependencies",
            )
        )
    return answer
