"""A finding as data: its sentence, numbers, conditions and command, and what the runs say of it.

The report, the table of what to do, README's test and `report --against` all read the same
`Finding`; `Finding.text` is the one place that words it. Its sentence and its conditions hold no
measured number: they change where a verdict or a condition does, and not with every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from analysis.report.evidence import Evidence
from analysis.report.facts import Pair, claimed
from analysis.report.markdown import Markdown, bold, code, markdown
from analysis.statistics import Estimate, Ratio, ratio_over_blocks
from analysis.wording import number, times

MOST_WORDS = 60
"""Words of a finding, all of it: a reader who must read more stops reading."""

MORE, LESS, NONE, UNKNOWN, MISSING = "more", "less", "none", "unknown", "missing"
"""What runs say of a difference. none : none is claimed. unknown : there are too few blocks.
missing : it was not measured."""

BROKEN, KEPT = "broken", "kept"
"""What runs say of a promise."""

REFUSED, ACCEPTED = "refused", "accepted"
"""What an engine answers."""

SIGNS: Mapping[str, int | None] = {
    MORE: 1,
    KEPT: 1,
    ACCEPTED: 1,
    NONE: 0,
    LESS: -1,
    BROKEN: -1,
    REFUSED: -1,
    UNKNOWN: None,
    MISSING: None,
}
"""Verdict -> direction; None where nothing is decided."""


class Answer(NamedTuple):
    """What the runs answer of a pair. verdict : MORE, LESS, NONE or UNKNOWN, by the one rule.

    why : why a ratio whose interval excludes 1 is not claimed all the same, "" for others.
    """

    ratio: Ratio
    verdict: str
    why: str = ""

    @property
    def leans(self) -> str:
        """The side on which all blocks lie where these are too few to claim it: MORE or LESS, else
        "".
        """
        each = self.ratio.each
        if self.verdict != UNKNOWN or not len(each):
            return ""
        if (each < 1).all():
            return LESS
        return MORE if (each > 1).all() else ""

    @property
    def text(self) -> str:
        """The ratio with its interval."""
        return ratio_text(self.ratio)

    @property
    def lead(self) -> str:
        """The same where a sentence is about it, with the blocks where they are too few."""
        if self.verdict != UNKNOWN or not self.ratio.blocks:
            return f"{self.text} times" + (f", {self.why}" if self.why else "")
        return f"{self.text}, {in_blocks(self.ratio)}"


def verdict_of(ratio: Ratio) -> str:
    """MORE, LESS, NONE or UNKNOWN of a ratio that is no pair of two arms, by its interval alone."""
    return {"none seen": NONE}.get(ratio.verdict, ratio.verdict)


def judge(evidence: Evidence, pair: Pair, measure: str = "throughput") -> Answer:
    """What may be told of a pair, judged among everything that the report tells.

    Where the pair cannot be compared nothing is decided, whatever the numbers look like.
    """
    try:
        found = evidence.facts.told(pair, measure)
    except KeyError:
        return Answer(ratio_over_blocks({}, {}, candidate="", baseline=""), UNKNOWN)
    excludes = found.ratio.known and not found.ratio.holds(1.0)
    verdict = claimed(found)
    return Answer(found.ratio, verdict, found.verdict if excludes and verdict == NONE else "")


def in_blocks(ratio: Ratio) -> str:
    """In how many blocks a ratio was on the side of most of them, for one that is not decided.

    >>> import numpy as np
    >>> in_blocks(Ratio(0.5, np.nan, np.nan, np.array([0.45, 0.6, 1.1])))
    'below 1 in 2 of 3 blocks, too few to claim'
    """
    below, above = int((ratio.each < 1).sum()), int((ratio.each > 1).sum())
    side, many = ("below", below) if below >= above else ("above", above)
    return f"{side} 1 in {many} of {times(ratio.blocks, 'block')}, too few to claim"


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its interval, or with the range of the few blocks.

    >>> import numpy as np
    >>> ratio_text(Ratio(1.6, 1.5, 1.7, np.full(10, 1.6)))
    '1.60 [1.50, 1.70]'
    >>> ratio_text(Ratio(0.5, np.nan, np.nan, np.array([0.45, 0.6])))
    '0.450 to 0.600'
    """
    if ratio.known or not ratio.blocks:
        return ratio.text().replace("inf", "∞")
    low, high = float(ratio.each.min()), float(ratio.each.max())
    text = number(low) if ratio.blocks == 1 else f"{number(low)} to {number(high)}"
    return text.replace("inf", "∞")


@dataclass(frozen=True)
class Part:
    """One number of a finding. verdict : what is claimed of it, "" if it is no comparison.

    name : the same in every report, so that two reports can be compared.
    """

    name: str
    estimate: Estimate
    verdict: str = ""

    @classmethod
    def of(cls, name: str, answer: Answer) -> Part:
        return cls(name, answer.ratio, answer.verdict)

    def data(self) -> dict[str, Any]:
        """As JSON holds it; no interval is None."""
        known = self.estimate.known
        return {
            "name": self.name,
            "verdict": self.verdict,
            "value": float(self.estimate.value) if self.estimate.blocks else None,
            "low": float(self.estimate.low) if known else None,
            "high": float(self.estimate.high) if known else None,
            "blocks": self.estimate.blocks,
        }


@dataclass(frozen=True)
class Finding:
    """An answer of the runs to one question.

    key      : names the question, the same in every report.
    verdict  : the answer in a word of SIGNS.
    sentence : the answer, without a full stop and without a measured number.
    lead     : the number that the sentence is about, told in bold with it; "" for none.
    numbers  : the others, with their intervals, clause by clause, the most important first. Those
        for which there is no room among `MOST_WORDS` are in the report's tables only.
    holds    : the conditions under which it was seen.
    command  : what shows it on the reader's machine. beside : options to give it the next time.
    runs     : where its numbers come from. parts : its numbers as data.
    grave    : a broken promise or a lost commit, which is told before everything else.
    sought   : something that was looked for and not found, which is told behind the findings.
    page     : name of the page that has the rest of it, to which it links; "" for none.
    """

    key: str
    verdict: str
    sentence: str
    lead: str = ""
    numbers: Sequence[str] = ()
    holds: str = ""
    command: str = ""
    beside: str = ""
    runs: str = ""
    parts: Sequence[Part] = field(default=())
    grave: bool = False
    sought: bool = False
    page: str = ""

    @property
    def sign(self) -> int | None:
        """1 or -1 for a claim and its opposite, 0 where none is claimed, None where undecided."""
        return SIGNS[self.verdict]

    @property
    def measured(self) -> bool:
        return self.verdict != MISSING

    @property
    def text(self) -> Markdown:
        """The whole finding: the sentence, its numbers, conditions, command and runs."""
        for many in range(len(self.numbers), 0, -1):
            text = self._text(many)
            if len(text.split()) <= MOST_WORDS:
                return text
        return self._text(0)

    def _text(self, many: int) -> Markdown:
        """With the first of the numbers."""
        head = markdown("{}: {}", self.sentence, self.lead) if self.lead else self.sentence
        said = [bold("{}.", head)]
        if many:
            said.append(markdown("{}.", Markdown("; ").join(self.numbers[:many])))
        if self.holds:
            said.append(markdown("*Where:* {}.", self.holds))
        shown = markdown("*Try* {}", code(self.command)) if self.command else Markdown()
        if self.beside:
            shown = markdown("{}, then with {}", shown, code(self.beside))
        runs = markdown("({})", self.runs) if self.runs else Markdown()
        last = Markdown(" ").join(each for each in (shown, runs) if each)
        return Markdown(" ").join([*said, *([last + Markdown(".")] if last else [])])

    def __html__(self) -> str:
        return self.text

    @property
    def brief(self) -> Markdown:
        """The sentence, its numbers and where it holds, for one that is not among the ten."""
        inside = [each for each in (self.lead, *self.numbers, self.holds, self.runs) if each]
        if not inside:
            return markdown("{}.", self.sentence)
        return markdown("{} ({}).", self.sentence, Markdown("; ").join(inside))

    @property
    def words(self) -> int:
        """Words of all of it, as blanks part them."""
        return len(self.text.split())

    def data(self) -> dict[str, Any]:
        """As JSON holds it, for another report to be compared with."""
        return {
            "key": self.key,
            "verdict": self.verdict,
            "sentence": str(self.sentence),
            "holds": str(self.holds),
            "parts": [part.data() for part in self.parts],
        }


def missing(key: str, question: str, command: str = "cwkit report", why: str = "") -> Finding:
    """The finding for something that was not measured, with the reason where it is known."""
    numbers = [few_words(why.rstrip("."))] if why else []
    return Finding(key, MISSING, f"{question}: not measured", numbers=numbers, command=command)


def few_words(text: str, most: int = 14) -> str:
    """Somebody else's text, cut where it is long.

    >>> few_words("no such mode at all", 3)
    'no such mode …'
    """
    words = text.split()
    return " ".join(words) if len(words) <= most else " ".join([*words[:most], "…"])
