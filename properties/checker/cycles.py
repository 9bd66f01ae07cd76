"""From the cycles of a dependency graph to the levels that they rule out, with witnesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from properties.checker.catalogue import FORBIDS
from properties.checker.graph import (
    ANTI,
    DEPENDS,
    PASS,
    PREFIX,
    REAL,
    RW,
    RW_PREDICATE,
    SESSION,
    WR,
    WW,
    Reduced,
    classify,
    components,
)
from properties.checker.verdict import Findings, Witness


def find_cycles(reduced: Reduced, findings: Findings) -> set[str]:
    """The levels that cycles rule out; witnesses of each kind of cycle go to the findings."""
    violated = reduced.violated()
    if not violated:
        return set()
    finder = Finder(reduced)
    for search in searches():
        if search.level in violated:
            for path in finder.find(search):
                _add_cycle(reduced, path, findings)
    # The searches are bounded, so a cycle may have escaped them all; its level may not.
    for level in violated:
        if not any(level in FORBIDS and name in FORBIDS[level] for name in findings.witnesses):
            name = "non-prefix-read" if level == PREFIX else None
            _add_cycle(reduced, reduced.any_cycle(level), findings, name)
    return set(violated)


def _add_cycle(
    reduced: Reduced, path: list[int], findings: Findings, name: str | None = None
) -> None:
    steps = reduced.steps(path)
    name = name or classify(steps)
    txns = [step.source for step in steps]
    known = [witness.txns for witness in findings.witnesses.get(name, [])]
    if not any(sorted(txns) == sorted(other) for other in known):
        findings.add(Witness(name, txns, steps))


# How to look for one name: the kinds the first edge may have, what must follow it at once, the
# kinds that may follow, and a kind that must occur.
@dataclass(frozen=True)
class Search:
    """A cycle's pattern: its first edge, its second (if bound), the rest, and what must occur."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    rest: tuple[int, ...]
    needs: tuple[int, ...]
    level: str


def searches() -> Iterator[Search]:
    """Every pattern, the worst anomalies first."""
    extras = (((), "", ""), (SESSION, "strong-session-", ""), (REAL, "strong-", "strict-"))
    for extra, si, ser in extras:
        session = si == "strong-session-"
        weak = si + "snapshot-isolation"
        strong = (ser or (si if session else "")) + "serializable"
        needs = (extra[-1],) if extra else ()
        yield Search((WW,), (), (WW, *extra), needs, weak if extra else "read-uncommitted")
        yield Search((WR,), (), (*DEPENDS, *extra), needs, weak if extra else "read-committed")
        for anti in ((RW,), ANTI):
            must = needs + ((RW_PREDICATE,) if len(anti) == 2 else ())
            yield Search(anti, (), (*DEPENDS, *extra), must, weak)
            yield Search(anti, (-1,), (*DEPENDS, *anti, *extra), must, weak)
            level = "repeatable-read" if not extra and len(anti) == 1 else strong
            yield Search(anti, anti, (*DEPENDS, *anti, *extra), must, level)


class Finder:
    """Breadth-first searches for short cycles of a pattern inside the reduced graph."""

    def __init__(self, reduced: Reduced, budget: int = 60_000, wanted: int = 8) -> None:
        self.reduced, self.budget, self.wanted = reduced, budget, wanted

    def find(self, search: Search) -> list[list[int]]:
        """Up to `wanted` cycles of the pattern, as edge numbers, shortest first."""
        reduced = self.reduced
        edges = np.unique(reduced.of_level(search.level)[0])
        if not len(edges):
            return []
        source, target, kind = (c[edges] for c in (reduced.source, reduced.target, reduced.kind))
        label, _ = components(reduced.nodes, source, target)
        if not set(search.needs) <= set(kind.tolist()):
            return []
        starts = self._starts(search, edges, source, target, label)
        order = np.argsort(source, kind="stable")
        self._out = (edges[order], np.searchsorted(source[order], np.arange(reduced.nodes + 1)))
        left = self.budget
        best: dict[tuple[int, ...], list[int]] = {}
        for start in starts:
            if left <= 0 or len(best) >= self.wanted * 8:
                break
            # A share for each start: the first may lie on long cycles of a huge component only.
            path, cost = self._walk(start, search, max(left // 8, 1000))
            left -= cost
            if path is not None:
                best.setdefault(tuple(sorted(path)), path)
        return sorted(best.values(), key=len)[: self.wanted]

    def _starts(
        self,
        search: Search,
        edges: np.ndarray,
        source: np.ndarray,
        target: np.ndarray,
        label: np.ndarray,
    ) -> list[int]:
        """First edges worth a search: of cycles of two, then of small components; 64 of each."""
        codes = source.astype(np.int64) * self.reduced.nodes + target
        turned = target.astype(np.int64) * self.reduced.nodes + source
        far = ~np.isin(codes, turned)
        size = np.bincount(label)[label[source]]
        chosen = np.flatnonzero(np.isin(self.reduced.kind[edges], search.first))
        chosen = chosen[np.lexsort((far[chosen], label[source[chosen]]))]
        of = label[source[chosen]]
        rank = np.arange(len(of)) - np.searchsorted(of, of)
        chosen = chosen[rank < 64]
        chosen = chosen[np.lexsort((size[chosen], far[chosen], rank[rank < 64] > 0))]
        return edges[chosen].tolist()

    def _walk(self, start: int, search: Search, budget: int) -> tuple[list[int] | None, int]:
        """The shortest way from the end of an edge back to its beginning or None, and its cost."""
        reduced, (out, places) = self.reduced, self._out
        goal = int(reduced.source[start])
        alternate = search.second == (-1,)
        # State: (last edge was an anti-dependency, another one was seen, which needs were met).
        met = frozenset({int(reduced.kind[start])} & set(search.needs))
        first = (int(reduced.target[start]), True, False, met)
        came: dict[object, tuple[object, int]] = {first: (None, start)}
        queue, cost = deque([first]), 0
        while queue:
            state = queue.popleft()
            node, anti, more, met = state
            cost += 1
            if cost > budget:
                break
            for edge in out[places[node] : places[node + 1]].tolist():
                kind = int(reduced.kind[edge])
                if kind != PASS:
                    if kind not in search.rest and not (state == first and kind in search.second):
                        continue
                    if alternate and anti and kind in ANTI:
                        continue
                    if search.second and not alternate and not more and kind not in search.second:
                        continue
                is_anti = anti if kind == PASS else kind in ANTI
                met_now = met | {kind} if kind in search.needs else met
                more_now = more or (is_anti and kind != PASS)
                reached = (int(reduced.target[edge]), is_anti, more_now, met_now)
                if reached in came:
                    continue
                came[reached] = (state, edge)
                if reached[0] == goal and self._accepts(search, reached):
                    path = self._path(came, reached)
                    if self._simple(path):
                        return path, cost
                queue.append(reached)
        return None, cost

    @staticmethod
    def _accepts(search: Search, state: tuple[int, bool, bool, frozenset[int]]) -> bool:
        _, anti, more, met = state
        if len(met) < len(search.needs):
            return False
        if search.second == (-1,):
            return more and not anti
        return more or not search.second

    @staticmethod
    def _path(came: dict, state: object) -> list[int]:
        path: list[int] = []
        while state is not None:
            state, edge = came[state]
            path.append(edge)
        return path[::-1]

    def _simple(self, path: list[int]) -> bool:
        seen = self.reduced.source[path]
        return len(np.unique(seen)) == len(seen)
