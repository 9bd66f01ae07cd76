"""A claim, its verdict, and what a verdict is computed from.

A claim holds only if the runs meet the threshold that is stated beside it. That something was
measured says nothing about whether it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from analysis.claims.sentence import Sentence
from analysis.claims.trials import NOT_THERE, Trial
from analysis.counting import Measured
from analysis.statistics import Ratio

HOLDS, IN_PART, NOT, NOT_MEASURED = "holds", "holds in part", "does not hold", "not measured"
UNDECIDED = "not decided"
"""It was measured, and its intervals are too wide or its blocks too few to tell."""

FREE = 1.1
"""A ratio whose interval ends below this is no cost worth naming."""

TRIAL, EXPERIMENT, SWEEP = "trial", "experiment", "sweep"


class Need(NamedTuple):
    """What a claim's numbers come from. kind : TRIAL, EXPERIMENT (of the report) or SWEEP
    (published, or `cwkit sweep NAME`).
    """

    kind: str
    name: str

    @property
    def command(self) -> str:
        """What measures it."""
        if self.kind == EXPERIMENT:
            return "cwkit report"
        return f"cwkit sweep {self.name}" if self.kind == SWEEP else ""


class Verdict(NamedTuple):
    """verdict : one of the five above. number : what was seen with its doubt, or why nothing was
    and what to run. runs : where it was seen, as the report shows it.
    """

    verdict: str
    number: Sentence
    runs: Any = ""

    @property
    def measured(self) -> bool:
        return self.verdict != NOT_MEASURED


@dataclass(frozen=True)
class Compared:
    """Two arms that were compared. verdict : "more", "less", "none" or "unknown", judged among
    everything that is told. text : the ratio in words. against : the baseline in words.
    """

    ratio: Ratio
    verdict: str
    text: str
    against: str
    runs: Any


@dataclass(frozen=True)
class Mode(Compared):
    """BEGIN CONCURRENT against plain BEGIN. lost : where it is claimed to lose.
    reach : the share of the generator alone that it reaches, nan where that was not measured.
    """

    lost: Sequence[str] = ()
    reach: float = float("nan")


@dataclass(frozen=True)
class Reads:
    """One reader alone. each : engine, and p50 of the whole transaction and of the read in it, ns.
    generator : p50 of the generator alone, ns, nan where that was not measured.
    """

    each: Sequence[tuple[str, tuple[float, float]]]
    generator: float
    runs: Any


@dataclass(frozen=True)
class Seen:
    """What was measured, as far as a claim asks for it. None: not measured.

    trials : name -> the trial. sweeps : name -> what the sweep measured, or what was published.
    """

    trials: Mapping[str, Trial] = field(default_factory=dict)
    reads: Reads | None = None
    mostly: Compared | None = None
    mode: Mode | None = None
    sweeps: Mapping[str, Measured] = field(default_factory=dict)

    def trial(self, name: str) -> Trial:
        return self.trials.get(name, NOT_THERE)


@dataclass(frozen=True)
class Claim:
    """A claim of the article.

    name     : what it is called on the command line. words : the claim, in our words.
    source   : who said it, and where its number goes back to.
    needs    : what its numbers come from, the one that is measured for it first.
    confirms : what would make it hold.
    verdict  : from what was measured.
    """

    number: int
    name: str
    words: str
    source: str
    needs: tuple[Need, ...]
    confirms: str
    verdict: Callable[[Seen], Verdict]
