"""Claims 1, 4 and 7, as far as the report's experiments tell: runs of workers on an engine."""

from __future__ import annotations

import math

from analysis.claims.claim import FREE, HOLDS, IN_PART, NOT, NOT_MEASURED, UNDECIDED, Seen, Verdict
from analysis.claims.sentence import sentence
from analysis.wording import duration, listed, percent

READ_NS = 400.0
"""A read of at most this is "about 200 ns": twice that, which forgives another machine."""

CEILING = 0.9
"""Who reaches this share of the generator alone has no bottleneck left that could be seen here."""


def single_reads(seen: Seen) -> Verdict:
    """Claim 1, through a binding and in a transaction of its own."""
    reads = seen.reads
    if reads is None:
        why = sentence(
            "No run had a single reader with nobody beside it: "
            "`cwkit run --writers 0 --readers 1 --scenario register --set mix=C`"
        )
        return Verdict(NOT_MEASURED, why)
    whole, alone = (min(both[at] for _, both in reads.each) for at in (0, 1))
    verdict = HOLDS if whole <= READ_NS else IN_PART if alone <= READ_NS else NOT
    each = "; ".join(
        f"{engine} {duration(service)}, the read without BEGIN and COMMIT {duration(body)}"
        for engine, (service, body) in reads.each
    )
    known = not math.isnan(reads.generator)
    of_it = f"; the generator alone {duration(reads.generator)}" if known else ""
    return Verdict(verdict, sentence("{}", f"p50: {each}{of_it}"), reads.runs)


def read_mostly(seen: Seen) -> Verdict:
    """Claim 4, its second half: does a single writer do at 95 % reads?"""
    found = seen.mostly
    if found is None:
        why = sentence(
            "No run has 95 % reads: `cwkit run --scenario register --set mix=B` on both modes"
        )
        return Verdict(NOT_MEASURED, why)
    than = f"BEGIN CONCURRENT against {found.against}: {found.text}"
    if found.verdict == "unknown":
        return Verdict(UNDECIDED, sentence("{}", f"Too few blocks. {than}"), found.runs)
    verdict = IN_PART if found.ratio.high < FREE else NOT if found.verdict == "more" else ""
    if not verdict:
        verdict, than = UNDECIDED, f"The interval is too wide. {than}"
    return Verdict(verdict, sentence("{}", than), found.runs)


def ends_the_bottleneck(seen: Seen) -> Verdict:
    """Claim 7, by the mode alone."""
    mode = seen.mode
    if mode is None:
        why = sentence("No run has both modes side by side: `cwkit report`")
        return Verdict(NOT_MEASURED, why)
    parts = [f"{mode.text}, against {mode.against}"]
    if mode.lost:
        parts.append(f"it loses with {listed(mode.lost)}")
    if not math.isnan(mode.reach):
        odd = ", which cannot be: the two were not run under like conditions"
        parts.append(f"it reaches {percent(mode.reach)} of the generator alone"
                     + odd * (mode.reach > 1))  # fmt: skip
    verdict = {"more": IN_PART, "unknown": UNDECIDED}.get(mode.verdict, NOT)
    if verdict == IN_PART and not mode.lost and CEILING <= mode.reach <= 1:
        verdict = HOLDS
    if mode.verdict == "unknown":
        parts.insert(0, "Too few blocks")
    elif mode.verdict == "less":
        parts.insert(0, "It makes it worse")
    elif mode.verdict == "none" and mode.ratio.high > FREE:
        # Nothing is claimed, and a gain worth having is not excluded either.
        verdict = UNDECIDED
        parts.insert(0, "The interval is too wide")
    elif mode.verdict == "none":
        parts.insert(0, "No difference is claimed")
    return Verdict(verdict, sentence("{}", "; ".join(parts)), mode.runs)
