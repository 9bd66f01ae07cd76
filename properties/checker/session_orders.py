"""Registers: whether some order of each key's versions has all that a session guarantee asks for.

Each rule says that one version comes before another, or is it. There is an order that has them all
unless two versions come before each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from properties.checker.graph import components
from properties.checker.session_facts import Facts

if TYPE_CHECKING:
    from properties.checker.session_guarantees import Rule, Sources

MOST_CIRCLES = 8
Missing = tuple[int, int, bool]


def versions_in_a_circle(facts: Facts, sources: Sources, rules: list[Rule]) -> list[list[Missing]]:
    """The rules (source, sink, through) of a few circles of versions; none where an order fits.

    Nodes are the writes, then each key's initial state, then one node for each source, which
    stands for it and those before it in its group.
    """
    writes, keys = facts.write, len(facts.h.keys)
    first = len(writes) + keys
    edges = [_given(facts)]
    nothing = np.full(len(sources.op), -1)
    here = first + np.arange(len(sources.op))
    edges.append((facts.node(sources.version), here, sources.op, nothing, nothing))
    same = np.flatnonzero(sources.group[1:] == sources.group[:-1])
    edges.append((here[same], here[same + 1], nothing[same], nothing[same], nothing[same]))
    for rule in rules:
        some = np.flatnonzero(rule.last >= 0)
        to = facts.node(rule.version[some])
        through = np.full(len(some), int(rule.through))
        edges.append((first + rule.last[some], to, np.full(len(some), -1), rule.op[some], through))
    a, b, source, sink, through = (np.concatenate(column) for column in zip(*edges, strict=True))
    nodes = first + len(sources.op)
    if not len(a):
        return []
    label, cyclic = components(nodes, a, b)
    versions = np.bincount(label[:first], minlength=int(label.max()) + 1)
    bad = cyclic[a] & (label[a] == label[b]) & (versions[label[a]] > 1)
    if not bad.any():
        return []
    kept = np.flatnonzero(bad)
    following: dict[int, list[int]] = {}
    for e in kept.tolist():
        following.setdefault(int(a[e]), []).append(e)
    found = []
    _, starts = np.unique(label[a[kept]], return_index=True)
    for start in starts[:MOST_CIRCLES].tolist():
        of = label[a[kept[start]]]
        members = np.flatnonzero(label[:first] == of)
        circle = _circle(int(members[0]), first, following, b)
        found.append(_missing(circle, source, sink, through))
    return found


def _given(facts: Facts) -> tuple[np.ndarray, ...]:
    """The order that needs no guarantee: the initial state comes first, a transaction's own writes
    to a key come in turn, and a version comes after the one that its transaction read before it.
    """
    h, writes = facts.h, facts.write
    key = h.op_key[writes].astype(np.int64)
    order = np.lexsort((writes, facts.op_txn[writes], key))
    again = np.flatnonzero(
        (key[order[1:]] == key[order[:-1]])
        & (facts.op_txn[writes[order[1:]]] == facts.op_txn[writes[order[:-1]]])
    )
    read, update = facts.updates
    a = np.concatenate((len(writes) + key, order[again], facts.node(facts.read_version[read])))
    b = np.concatenate((np.arange(len(writes)), order[again + 1], update))
    nothing = np.full(len(a), -1)
    return a, b, nothing, nothing, nothing


def _circle(start: int, first: int, following: dict[int, list[int]], b: np.ndarray) -> list[int]:
    """Edges from a version through another one and back, the shortest way there and back."""
    there, reached = _way(start, lambda v: v < first and v != start, following, b)
    back, _ = _way(reached, lambda v: v == start, following, b)
    return there + back


def _way(
    start: int, goal: Callable[[int], bool], following: dict[int, list[int]], b: np.ndarray
) -> tuple[list[int], int]:
    """The shortest way from a node to one that is a goal, as edges, and which one that is."""
    came: dict[int, int] = {}
    queue, met = deque([start]), {start}
    origin: dict[int, int] = {}
    while queue:
        p = queue.popleft()
        for e in following.get(p, ()):
            q = int(b[e])
            if q in met:
                continue
            met.add(q)
            came[q], origin[q] = e, p
            if goal(q):
                path, at = [], q
                while at != start:
                    path.append(came[at])
                    at = origin[at]
                return path[::-1], q
            queue.append(q)
    raise AssertionError("two versions of one component reach each other")


def _missing(
    circle: list[int], source: np.ndarray, sink: np.ndarray, through: np.ndarray
) -> list[Missing]:
    """The rules of a circle: each source with the sink that its way ends in."""
    found: list[Missing] = []
    last = -1
    for e in circle:
        if source[e] >= 0:
            last = int(source[e])
        if sink[e] >= 0:
            found.append((last, int(sink[e]), bool(through[e])))
    return found
