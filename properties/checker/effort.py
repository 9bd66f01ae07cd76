"""How much work a verdict on registers may take: steps, and never seconds, so that it repeats.

A step is about 50 ns of work on whatever there is to do, so the cost of a history grows with its
contention and not with its length alone. Where the steps are used up the verdict says which levels
stayed unknown for that, and how to go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INFERENCE_STEPS = 1_500_000_000  # for what all levels force, a minute or two
SEARCH_STEPS = 8_000_000  # for an order of versions that fits one level, a few seconds
REACH_BYTES = 400_000_000  # of reachability
PAIRS = 5_000_000  # of a read and a write of its key, at levels without sessions or time


class Exhausted(Exception):
    """The steps are used up."""


@dataclass
class Effort:
    """What may be spent, `times` the usual, and why something was given up.

    reasons : why, each once, in the order in which it happened.
    """

    times: float = 1.0
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = int(INFERENCE_STEPS * self.times)
        self.reach_bytes, self.pairs = int(REACH_BYTES * self.times), int(PAIRS * self.times)

    def spend(self, steps: int) -> None:
        """Take so many steps. Raises Exhausted where there are none left."""
        self.left -= steps
        if self.left < 0:
            raise Exhausted

    def search(self) -> Purse:
        """The steps of one level's search."""
        return Purse(int(SEARCH_STEPS * self.times))

    def give_up(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def inference_ended(self) -> None:
        self.give_up(
            "what they force on the order of writes was not drawn to its end within "
            f"{int(INFERENCE_STEPS * self.times):,} steps"
        )

    def no_room(self, need: int) -> None:
        self.give_up(
            f"what reaches what would take {need / 1e6:,.0f} MB, and {self.reach_bytes / 1e6:,.0f} "
            "are given to it"
        )

    def too_many_pairs(self, pairs: int) -> None:
        self.give_up(
            f"there are {pairs:,} pairs of a read and a write of its key, and {self.pairs:,} are "
            "looked at"
        )

    def search_ended(self) -> None:
        self.give_up(
            "no order of the writes that fits was found within "
            f"{int(SEARCH_STEPS * self.times):,} steps"
        )

    def note(self, unknown: list[str]) -> str | None:
        """The sentence for the reader where levels stayed unknown for want of effort."""
        if not unknown or not self.reasons:
            return None
        more = f"{max(10.0, 10 * self.times):g}"
        return (
            f"{', '.join(unknown)}: unknown because {'; and because '.join(self.reasons)}. "
            f"Check again with --effort {more} for ten times as much, or record what tells the "
            "order of writes: a read of a key before each write to it"
        )


@dataclass
class Purse:
    """Steps of one search."""

    left: int

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise Exhausted
