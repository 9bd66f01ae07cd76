"""The article's claims, each with its measurement here, or why there is none and how to get one."""

from __future__ import annotations

from typing import NamedTuple

from analysis.report import replica_claims
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, STUDIED
from analysis.report.headline import HOW, NOW
from analysis.report.markdown import Markdown, markdown
from analysis.wording import duration, listed, number, percent, times


class Claim(NamedTuple):
    """A claim, whether it was measured here, and what the runs answer."""

    claim: str
    measured: bool
    answer: str


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim of the article that the kit was asked about, in its order."""
    return [
        two_hundred_ns(evidence),
        read_mostly(evidence),
        free_replica_reads(evidence),
        network_hops(evidence),
        ends_the_bottleneck(evidence),
    ]


def two_hundred_ns(evidence: Evidence) -> Claim:
    claim = "A local read takes about 200 ns"
    parts = []
    for measured in evidence.experiments.values():
        for arm in measured.arms.values():
            plan = arm.plan
            alone = plan["readers"] == 1 and not arm.writers and not arm.field("think_us")
            tally = arm.tally("reader") if alone else None
            if tally is None or plan["scenario"] != "register":
                continue
            service = tally.percentiles("service")
            body = tally.percentiles("work")
            parts.append(
                markdown(
                    "{}: p50 {} with BEGIN and COMMIT, {} the read alone ({})",
                    arm.label,
                    duration(service[0]),
                    duration(body[0]),
                    where(arm),
                )
            )
    if not parts:
        return Claim(
            claim,
            False,
            markdown(
                "Not measured here: no run had a single reader with nobody beside it. "
                "`cwkit run --writers 0 --readers 1 --scenario register --set mix=C` measures it."
            ),
        )
    return Claim(
        claim,
        True,
        markdown(
            "One reader, one row by its key, nobody beside it, driven from Python, which is in "
            "the number: {}. The figure of 200 ns goes back to another thing: a prepared "
            "statement stepped in C to the first row of a small table in memory, without a "
            "look-up by key. That was not repeated here; it needs a loop in C around "
            "`sqlite3_step`.",
            Markdown("; ").join(parts),
        ),
    )


def read_mostly(evidence: Evidence) -> Claim:
    claim = "Applications read 95 % of the time, so a single writer is enough"
    for measured in evidence.experiments.values():
        for arm in measured.arms.values():
            mix = str(arm.field("mix") or "")
            # YCSB's core workload B, by name or spelled out: 95 % reads, 5 % updates.
            if not (mix == "B" or "read=95" in mix) or not arm.writers:
                continue
            # Deferred is the tuned baseline: its reads do not queue for the write lock.
            tuned = evidence.pair(baseline=("libsql", "deferred"), mix=arm.field("mix"))
            pair = tuned or evidence.pair(mix=arm.field("mix"))
            if pair is None:
                continue
            now = "libSQL's BEGIN DEFERRED, whose reads wait for no lock" if tuned else NOW
            untuned = (
                " In that mix every transaction begins in its mode, reads too, so that a BEGIN "
                "IMMEDIATE takes the write lock for reads: a tuned application would begin them "
                "DEFERRED."
            )
            ratio = pair.ratio()
            verdict = {
                "none seen": "no difference in throughput was seen between",
                "more": "there was a gain of",
                "less": "there was a loss of",
            }.get(ratio.verdict, "too few blocks for a verdict on")
            return Claim(
                claim,
                True,
                markdown(
                    "What share of your operations read cannot be measured here: count them in "
                    "your own application. {} ({}).{}",
                    f"At 95 % reads (YCSB B, {times(arm.writers, 'worker')} "
                    f"that read and write) {verdict} {HOW} against {now}: ratio {ratio.text()}",
                    where(*pair),
                    "" if tuned else untuned,
                ),
            )
    return Claim(
        claim,
        False,
        markdown(
            "Not measured here: no run used the 95/5 mix. "
            "`cwkit run --scenario register --set mix=B` on both modes measures it."
        ),
    )


def free_replica_reads(evidence: Evidence) -> Claim:
    claim, served = "Embedded replicas make reads free", evidence.served
    if served.problem:
        return Claim(claim, False, markdown("Not measured here: {}", served.problem))
    return Claim(claim, True, replica_claims.free_reads(served))


def network_hops(evidence: Evidence) -> Claim:
    claim, served = "A database in the process saves the network's hops", evidence.served
    if served.problem:
        return Claim(claim, False, markdown("Not measured here: {}", served.problem))
    return Claim(claim, True, replica_claims.hops(served))


def ends_the_bottleneck(evidence: Evidence) -> Claim:
    claim = "BEGIN CONCURRENT ends the single-writer bottleneck"
    head = evidence.facts.headline
    if head is None:
        return Claim(claim, False, "Not measured here: no run of both modes side by side is there.")
    ratio = head.ratio
    verdict = {
        "more": "It widens it",
        "less": "It does not: it makes it worse",
        "none seen": "No difference was seen",
    }.get(ratio.verdict, "Too few blocks for a verdict")
    parts: list[str] = []
    parts.append(
        markdown(
            "{} for the work of the headline: {} times {} ({})",
            verdict,
            ratio.text(),
            NOW,
            where(*head.pair),
        )
    )
    refused = head.candidate.arm.refused().text(percent)
    parts.append(f"the wait for the lock becomes a refused commit in {refused} of the attempts")
    if growth := _growth(evidence):
        parts.append(growth)
    if head.floor is not None:
        reach = head.candidate.throughput.value / head.floor.estimate().value
        parts.append(_of_the_floor(reach))
    parts.append(
        "commits are still written to one log one after the other, so that a bottleneck remains "
        "in COMMIT, and two transactions that touch one page still exclude each other"
    )
    return Claim(claim, True, markdown("{}.", Markdown("; ").join(parts)))


def _of_the_floor(reach: float) -> str:
    """How near throughput comes to that of the generator alone, and what that means."""
    text = f"it reaches {percent(reach)} of what the generator alone does on these cores"
    if reach > 1:
        return f"{text}, which cannot be: the two were not run under like conditions"
    if reach > 0.8:
        return f"{text}, so that this machine cannot show much more"
    return text


def _growth(evidence: Evidence) -> str:
    """Throughput of the studied mode by number of writers, where several were tried."""
    for measured in evidence.experiments.values():
        rows = []
        for system in (STUDIED, CONTROL):
            arms = sorted(measured.arms_of(*system), key=lambda arm: arm.writers)
            arms = [arm for arm in arms if arm.alike(arms[0], "writers")]
            if len({arm.writers for arm in arms}) > 1:
                each = [
                    f"{number(arm.estimate().value)} ({arm.writers})" for arm in arms if arm.usable
                ]
                name = HOW if system == STUDIED else NOW
                rows.append(f"{name} commits {listed(each)}")
        if rows:
            return f"by number of writers (in brackets), in tx/s, {'; '.join(rows)}"
    return ""
