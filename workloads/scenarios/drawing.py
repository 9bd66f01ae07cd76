"""How scenarios draw: in blocks that numpy makes, handed out one prebuilt tuple at a time.

A block is drawn between two transactions, never inside one. A draw out of a block costs 20 to 40
ns, its share of making the block 0.1 to 0.4 us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any

from workloads.scenarios.keys import BLOCK
from workloads.scenarios.scenario import Draw

__all__ = ["BLOCK", "always", "draws_of", "stream"]


def stream(block: Callable[[], Iterable[Draw]]) -> Callable[[], Draw]:
    """A function that hands out the draws of one block after the other, for ever."""
    return chain.from_iterable(iter(block, None)).__next__


def always(draw: Draw) -> Callable[[], Draw]:
    """A function that hands out the same draw for ever."""
    return repeat(draw).__next__


def draws_of(kind: int, args: Iterable[Any]) -> list[Draw]:
    """One Draw of a kind for each of `args`.

    >>> draws_of(1, [7, 8])
    [Draw(kind=1, args=7), Draw(kind=1, args=8)]
    """
    # tuple.__new__ is what Draw(kind, args) comes to, at a third of the price.
    return list(map(tuple.__new__, repeat(Draw), zip(repeat(kind), args)))
