"""The ledger of the article's claims in the report: what the runs hold of each, for its verdict.

The claims and what decides them are in `analysis.claims`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from analysis.claims import CLAIMS, Claim, Compared, Mode, Reads, Seen, Verdict
from analysis.counting import Arm
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED, Pair
from analysis.report.finding import LESS
from analysis.report.headline import mode_pair
from analysis.report.markdown import Markdown, code, said
from analysis.report.what_to_do import times_text
from analysis.wording import number


class Entry(NamedTuple):
    """A claim in the ledger, as the report shows it."""

    of: Claim
    found: Verdict

    @property
    def claim(self) -> str:
        return self.of.words

    @property
    def confirms(self) -> str:
        return self.of.confirms

    @property
    def verdict(self) -> str:
        return self.found.verdict

    @property
    def measured(self) -> bool:
        return self.found.measured

    @property
    def number(self) -> Markdown:
        return said(self.found.number)

    @property
    def runs(self) -> Markdown:
        runs = self.found.runs
        return runs if isinstance(runs, Markdown) or not runs else code(runs)


def ledger(evidence: Evidence) -> list[Entry]:
    """Every claim of the article, in its order, with its verdict."""
    seen = seen_in(evidence)
    return [Entry(claim, claim.verdict(seen)) for claim in CLAIMS]


def seen_in(evidence: Evidence) -> Seen:
    """What a report's folder holds for the claims."""
    return Seen(
        {**evidence.trials, "replica": evidence.served},
        _reads(evidence),
        _mostly(evidence),
        _mode(evidence),
        evidence.sweeps,
    )


def _reads(evidence: Evidence) -> Reads | None:
    """One reader alone, of each engine."""
    found = {}
    for measured in evidence.experiments.values():
        for arm in measured.arms.values():
            alone = arm.plan["readers"] == 1 and not arm.writers and not arm.field("think_us")
            tally = arm.tally("reader") if alone else None
            if tally is not None and arm.plan["scenario"] == "register" and arm.engine != "null":
                found[arm] = (tally.percentiles("service")[0], tally.percentiles("work")[0])
    known = {arm: both for arm, both in found.items() if not math.isnan(both[0])}
    if not known:
        return None
    generator = [
        tally.percentiles("service")[0]
        for measured in evidence.experiments.values()
        for arm in measured.arms_of("null")
        if arm.plan["readers"] == 1 and not arm.writers and (tally := arm.tally("reader"))
    ]
    each = [(arm.engine, both) for arm, both in known.items()]
    return Reads(each, generator[0] if generator else math.nan, where(*known))


def _mostly(evidence: Evidence) -> Compared | None:
    """BEGIN CONCURRENT at 95 % reads, against plain BEGIN."""
    for baseline in (("sqlite-concurrent", "deferred"), ("libsql", "deferred"), CONTROL):
        pair = evidence.pair(STUDIED, baseline, mix="B") or _spelled_out(evidence, baseline)
        if pair is not None:
            ratio = pair.ratio()
            other = baseline[0] != STUDIED[0]
            text = times_text(ratio) + ", library and mode together" * other
            return Compared(
                ratio, evidence.facts.verdict(pair), text, pair.baseline.label, where(*pair)
            )
    return None


def _mode(evidence: Evidence) -> Mode | None:
    """BEGIN CONCURRENT against plain BEGIN, the mode alone where both were run."""
    pair = mode_pair(evidence)
    together = "" if pair else ", library and mode together"
    if pair is None and evidence.facts.headline is not None:
        pair = evidence.facts.headline.pair
    if pair is None:
        return None
    ratio = pair.ratio()
    return Mode(
        ratio,
        evidence.facts.verdict(pair),
        times_text(ratio),
        f"{pair.baseline.label}{together}",
        where(*pair),
        _lost(evidence),
        _reach(evidence, pair.candidate),
    )


def _spelled_out(evidence: Evidence, baseline: tuple[str, str]) -> Pair | None:
    """YCSB B where a run spells it out."""
    for measured in evidence.experiments.values():
        for arm in measured.arms_of(*STUDIED):
            if "read=95" in (mix := str(arm.field("mix") or "")):
                return evidence.pair(STUDIED, baseline, mix=mix)
    return None


def _lost(evidence: Evidence) -> list[str]:
    """Where the mode alone is claimed to lose."""
    rows = evidence.facts.work_rows(baseline=MODE_ALONE)
    found = [(f"{number(row.work_us)} µs inside", row.pair) for row in rows]
    found += [("all writers on one page", row.pair) for row in evidence.facts.one_page]
    return [name for name, pair in found if evidence.facts.verdict(pair) == LESS]


def _reach(evidence: Evidence, arm: Arm) -> float:
    """The share of the generator alone that an arm reaches; nan where that was not measured."""
    floor = evidence.floor(arm)
    if floor is None:
        return math.nan
    return float(np.divide(arm.estimate().value, floor.estimate().value))
