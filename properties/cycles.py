"""From the cycles of a dependency graph to the levels that they rule out, with witnesses."""

from __future__ import annotations

from properties.catalogue import FORBIDS
from properties.graph import Finder, Reduced, classify, searches
from properties.verdict import Findings, Witness


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
            _add_cycle(reduced, reduced.any_cycle(level), findings)
    return set(violated)


def _add_cycle(reduced: Reduced, path: list[int], findings: Findings) -> None:
    steps = reduced.steps(path)
    name = classify(steps)
    txns = [step.source for step in steps]
    known = [witness.txns for witness in findings.witnesses.get(name, [])]
    if not any(sorted(txns) == sorted(other) for other in known):
        findings.add(Witness(name, txns, steps))

