"""A state that fails, made smaller: the fewest sectors that matter.

A state lies between two others: nothing of what no sync covers is there (strict), and all of it
(kill). Whichever is nearer is approached: sectors are put back, or taken away, as long as the state
still fails in the same way, by delta debugging (Zeller and Hildebrandt 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from properties.crashes.states import CrashState, Piece

MOST_OPENINGS = 120
"""States that are opened for one that is made smaller."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """state : the smaller one. missing : the sectors that it lacks, of all that no sync covers.

    there : the sectors that it has of them. opened : how many states were tried.
    """

    state: CrashState
    missing: int
    there: int
    opened: int


def reduce_state(
    state: CrashState,
    every: Iterable[Piece],
    fails: Callable[[CrashState], bool],
    *,
    most: int = MOST_OPENINGS,
) -> Reduced:
    """Every : all the pieces at its point. fails : whether a state fails as this one does."""
    whole = frozenset(every)
    tried = 0

    def still(one: CrashState) -> bool:
        nonlocal tried
        tried += 1
        return fails(one)

    named = replace(state, names=state.point)
    if named != state and still(named):
        state = named
    missing, there = whole - state.pieces, state.pieces
    by_missing = len(missing) <= len(there)

    def built(some: frozenset[Piece]) -> CrashState:
        return replace(state, pieces=whole - some if by_missing else some)

    few = _fewest(
        missing if by_missing else there, lambda some: tried < most and still(built(some))
    )
    state = built(few)
    return Reduced(state, len(whole - state.pieces), len(state.pieces), tried)


def _fewest(
    pieces: frozenset[Piece], fails: Callable[[frozenset[Piece]], bool]
) -> frozenset[Piece]:
    """ddmin: a subset that fails and fails no longer without any one of its parts."""
    now, parts = sorted(pieces), 2
    if now and fails(frozenset()):
        return frozenset()
    while len(now) > 1:
        size = -(-len(now) // parts)
        chunks = [now[at : at + size] for at in range(0, len(now), size)]
        for chunk in chunks:
            left = [piece for piece in now if piece not in set(chunk)]
            if left and fails(frozenset(left)):
                now, parts = left, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(now))
    return frozenset(now)
