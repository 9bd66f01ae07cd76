"""The article's claims as a ledger: each with its verdict, its number, what would confirm it, and
the runs.

A claim holds only if the runs meet the threshold that is stated beside it. That something was
measured says nothing about whether it holds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from analysis.counting import Arm
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED, Pair
from analysis.report.finding import LESS, MORE, NONE, UNKNOWN, verdict_of
from analysis.report.headline import mode_pair
from analysis.report.markdown import code, markdown
from analysis.report.replica import Served
from analysis.report.what_to_do import times_text
from analysis.statistics import Ratio
from analysis.wording import duration, listed, number, percent

HOLDS, IN_PART, NOT, NOT_MEASURED = "holds", "holds in part", "does not hold", "not measured"

READ_NS = 400.0
"""A read of at most this is "about 200 ns": twice that, which forgives another machine."""

FREE = 1.1
"""A ratio whose interval ends below this is no cost worth naming."""

MOST_OF_IT = 0.5
"""A part whose interval begins above this is most of the whole."""

CEILING = 0.9
"""Who reaches this share of the generator alone has no bottleneck left that could be seen here."""


class Claim(NamedTuple):
    """A claim. verdict : one of the four above. confirms : what would make it hold.

    number : what was seen, or why nothing was and what to run. runs : where it was seen.
    """

    claim: str
    verdict: str
    number: str
    confirms: str
    runs: str = ""

    @property
    def measured(self) -> bool:
        return self.verdict != NOT_MEASURED


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim of the article that the kit was asked about, in its order."""
    return [
        two_hundred_ns(evidence),
        read_mostly(evidence),
        free_replica_reads(evidence),
        network_hops(evidence),
        ends_the_bottleneck(evidence),
    ]


# --- reads ------------------------------------------------------------------------------------


def two_hundred_ns(evidence: Evidence) -> Claim:
    claim = "A local read takes about 200 ns"
    confirms = (
        f"p50 of a read by key through a binding, BEGIN and COMMIT included, at most "
        f"{duration(READ_NS)}. The figure goes back to another thing: a prepared statement stepped "
        "in C to the first row of a small table, without a look-up, which is not repeated here"
    )
    found = {}
    for measured in evidence.experiments.values():
        for arm in measured.arms.values():
            alone = arm.plan["readers"] == 1 and not arm.writers and not arm.field("think_us")
            tally = arm.tally("reader") if alone else None
            if tally is not None and arm.plan["scenario"] == "register" and arm.engine != "null":
                found[arm] = (tally.percentiles("service")[0], tally.percentiles("work")[0])
    known = {arm: both for arm, both in found.items() if not math.isnan(both[0])}
    if not known:
        why = markdown(
            "No run had a single reader with nobody beside it: "
            "`cwkit run --writers 0 --readers 1 --scenario register --set mix=C`"
        )
        return Claim(claim, NOT_MEASURED, why, confirms)
    whole, alone_ns = (min(both[at] for both in known.values()) for at in (0, 1))
    verdict = HOLDS if whole <= READ_NS else IN_PART if alone_ns <= READ_NS else NOT
    generator = [
        tally.percentiles("service")[0]
        for measured in evidence.experiments.values()
        for arm in measured.arms_of("null")
        if arm.plan["readers"] == 1 and not arm.writers and (tally := arm.tally("reader"))
    ]
    of_it = f"; the generator alone {duration(generator[0])}" if generator else ""
    each = "; ".join(
        f"{arm.engine} {duration(service)}, the read without BEGIN and COMMIT {duration(body)}"
        for arm, (service, body) in known.items()
    )
    return Claim(claim, verdict, f"p50: {each}{of_it}", confirms, where(*known))


def read_mostly(evidence: Evidence) -> Claim:
    claim = "Applications read 95 % of the time, so a single writer is enough"
    confirms = (
        "The share of reads of your application cannot be measured here. Its second half would be "
        "confirmed at 95 % reads (YCSB B) by an interval of BEGIN CONCURRENT's gain below "
        f"{FREE:g} times plain BEGIN"
    )
    for baseline in (("sqlite-concurrent", "deferred"), ("libsql", "deferred"), CONTROL):
        pair = evidence.pair(STUDIED, baseline, mix="B") or _spelled_out(evidence, baseline)
        if pair is not None:
            break
    if pair is None:
        why = markdown(
            "No run has 95 % reads: `cwkit run --scenario register --set mix=B` on both modes"
        )
        return Claim(claim, NOT_MEASURED, why, confirms)
    ratio = pair.ratio()
    than = f"BEGIN CONCURRENT against {pair.baseline.label}: {times_text(ratio)}"
    said = evidence.facts.verdict(pair)
    if said == UNKNOWN:
        return Claim(claim, NOT_MEASURED, f"Too few blocks. {than}", confirms, where(*pair))
    verdict = IN_PART if ratio.high < FREE else NOT if said == MORE else NOT_MEASURED
    if verdict == NOT_MEASURED:
        than = f"Not decided, the interval is too wide. {than}"
    if baseline[0] != STUDIED[0]:
        than += ", library and mode together"
    return Claim(claim, verdict, than, confirms, where(*pair))


def _spelled_out(evidence: Evidence, baseline: tuple[str, str]) -> Pair | None:
    """YCSB B where a run spells it out."""
    for measured in evidence.experiments.values():
        for arm in measured.arms_of(*STUDIED):
            if "read=95" in (mix := str(arm.field("mix") or "")):
                return evidence.pair(STUDIED, baseline, mix=mix)
    return None


# --- beside a server ----------------------------------------------------------------------------


def free_replica_reads(evidence: Evidence) -> Claim:
    claim, served = "Embedded replicas make reads free", evidence.served
    confirms = (
        f"A replica's read and a write through it both cost less than {FREE:g} times those of a "
        "plain local file, by their intervals"
    )
    if served.problem:
        return Claim(claim, NOT_MEASURED, served.problem, confirms)
    read = served.ratio("read-replica", "read-local")
    server = served.ratio("read-remote", "read-replica")
    number_ = (
        f"a replica's read {read.text()} times a local one (at the server {server.text()} times "
        f"the replica's); a write through it {duration(served.estimate('write-replica').value)}"
    )
    if not read.known:
        return Claim(
            claim, NOT_MEASURED, _doubted(served, f"Too few blocks: {number_}"), confirms,
            code("served"),
        )  # fmt: skip
    write: Ratio | None = None
    if not served.durability_differs:
        write = served.ratio("write-replica", "write-local")
        number_ += f", {write.text()} times a local one"
    cheap = read.high < FREE
    verdict = NOT if read.low > FREE else IN_PART
    if cheap and write is not None and write.high < FREE:
        verdict = HOLDS
    return Claim(claim, verdict, _doubted(served, number_), confirms, code("served"))


def network_hops(evidence: Evidence) -> Claim:
    claim, served = "A database in the process saves the network's hops", evidence.served
    confirms = (
        "A read over loopback, which is the least that a network costs, takes longer than a local "
        "one, and the bare round trip is at least half of what it takes more, both by their "
        "intervals; in part where another cost than the hop is saved"
    )
    if served.problem:
        return Claim(claim, NOT_MEASURED, served.problem, confirms)
    read = served.ratio("read-remote", "read-local")
    number_ = (
        f"a read over loopback {read.text()} times a local one; the bare round trip of 64 bytes is "
        f"{served.hop_share().text(percent)} of the difference"
    )
    share = served.hop_share()
    most = HOLDS if share.known and share.low >= MOST_OF_IT else IN_PART
    verdict = {MORE: most, UNKNOWN: NOT_MEASURED}.get(verdict_of(read), NOT)
    if verdict == NOT_MEASURED:
        number_ = f"Too few blocks: {number_}"
    elif verdict == NOT and read.high > FREE:
        verdict, number_ = NOT_MEASURED, f"Not decided, the interval is too wide: {number_}"
    elif verdict == IN_PART:
        number_ += "; the rest is the server's and its protocol's"
    return Claim(claim, verdict, _doubted(served, number_), confirms, code("served"))


def _doubted(served: Served, text: str) -> str:
    """The text behind what did not hold, if something did not."""
    if not served.broken:
        return text
    return markdown("**A check did not hold** ({}). {}", "; ".join(served.broken), text)


# --- writes -----------------------------------------------------------------------------------


def ends_the_bottleneck(evidence: Evidence) -> Claim:
    claim = "BEGIN CONCURRENT ends the single-writer bottleneck"
    confirms = (
        "The mode alone commits more at every amount of work and on every placement that was "
        f"tried, and reaches {percent(CEILING)} of what the generator alone does"
    )
    pair = mode_pair(evidence)
    together = "" if pair else ", library and mode together"
    if pair is None and evidence.facts.headline is not None:
        pair = evidence.facts.headline.pair
    if pair is None:
        why = markdown("No run has both modes side by side: `cwkit report`")
        return Claim(claim, NOT_MEASURED, why, confirms)
    ratio = pair.ratio()
    lost = _lost(evidence)
    reach = _reach(evidence, pair.candidate)
    parts = [f"{times_text(ratio)}, against {pair.baseline.label}{together}"]
    if lost:
        parts.append(f"it loses with {listed(lost)}")
    if not math.isnan(reach):
        odd = ", which cannot be: the two were not run under like conditions" if reach > 1 else ""
        parts.append(f"it reaches {percent(reach)} of the generator alone{odd}")
    said = evidence.facts.verdict(pair)
    verdict = {MORE: IN_PART, UNKNOWN: NOT_MEASURED}.get(said, NOT)
    if verdict == IN_PART and not lost and CEILING <= reach <= 1:
        verdict = HOLDS
    if said == UNKNOWN:
        parts.insert(0, "Too few blocks")
    elif said == LESS:
        parts.insert(0, "It makes it worse")
    elif said == NONE and ratio.high > FREE:
        # Nothing is claimed, and a gain worth having is not excluded either.
        verdict = NOT_MEASURED
        parts.insert(0, "Not decided, the interval is too wide")
    elif said == NONE:
        parts.insert(0, "No difference is claimed")
    return Claim(claim, verdict, "; ".join(parts), confirms, where(*pair))


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
