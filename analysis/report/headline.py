"""What the report is about first: the studied mode against what a libSQL user does today."""

from __future__ import annotations

from analysis.counting import Arm, percentile_words
from analysis.report.evidence import STUDIED, Evidence, Pair, where
from analysis.report.markdown import bold, markdown
from analysis.statistics import Ratio
from analysis.wording import duration, interval, number, percent, times, whole

HOW = "sqlite-concurrent's BEGIN CONCURRENT on a libSQL file"


NOW = "libSQL's BEGIN IMMEDIATE"


def headline_pair(evidence: Evidence) -> Pair | None:
    """The comparison that the report is about: with the most blocks, it is the first there is."""
    return evidence.pair(writers=4) or evidence.pair()


def gain(evidence: Evidence) -> str:
    """What would BEGIN CONCURRENT do for my writes on libSQL?"""
    pair = headline_pair(evidence)
    if pair is None:
        return absent(evidence, "What BEGIN CONCURRENT does for throughput on libSQL")
    over, under = pair
    if refused := pair.measured.unlike(over, under):
        return refused
    ratio = pair.ratio()
    said = f"{_setting(over)}, {HOW} {_commits(ratio)} {NOW}"
    rates = f"{over.estimate().said()} against {under.estimate().said()} tx/s"
    twice = _same_twice(pair)
    runs = where(over, under)
    return markdown("{} ({}; {}){}.", bold("{}", said), rates, runs, twice)


def _setting(arm: Arm) -> str:
    plan = arm.plan
    work = arm.field("think_us") or 0
    inside = f"{number(work)} µs of work" if work else "no work"
    durable = "" if plan["synchronous"] != "off" else " and synchronous OFF (commits may be lost)"
    return f"With {times(plan['writers'], 'writer')} and {inside} inside the transaction{durable}"


def _commits(ratio: Ratio) -> str:
    said = ratio.said()
    if ratio.verdict == "none seen":
        return f"showed no difference in throughput (ratio {said}, the interval holds 1) to"
    if ratio.verdict == "unknown":
        return f"committed {said} times as much, without an interval, as"
    only = "" if ratio.verdict == "more" else "only "
    return f"committed {only}{said} times as many transactions as"


def _same_twice(pair: Pair) -> str:
    """The A/A control of the experiment: what "no difference" looks like here."""
    twins = pair.measured.twins
    if not twins:
        return ", without an A/A control"
    one, again = twins[0]
    ratio = pair.measured.ratio(again, one)
    if ratio.verdict in ("more", "less"):
        return markdown(
            "; {}, so do not trust differences of that size",
            bold("but the same arm run twice differs by {}", ratio.said()),
        )
    return f"; the same arm run twice differs by {ratio.said()}"


def cost(evidence: Evidence) -> str:
    """And what does it cost?"""
    pair = headline_pair(evidence)
    if pair is None:
        return absent(evidence, "What BEGIN CONCURRENT costs on libSQL")
    over, under = pair
    top, bottom = over.tally(), under.tally()
    assert top is not None and bottom is not None
    low, rate, high = top.abort_rate
    cpu = pair.ratio(lambda counted: counted.roles["writer"].cpu_us)
    dearer = "no difference was seen" if cpu.verdict == "none seen" else f"{cpu.said()} times"
    return markdown(
        "{} ({}; {}).",
        f"It costs conflicts, which the caller must retry: {percent(rate)} "
        f"{interval(low, high, percent)} of {whole(top.finished)} attempts were refused "
        f"({NOW}: {percent(bottom.abort_rate[1])} of {whole(bottom.finished)}), "
        f"{percent(top.wasted)} of the time inside attempts was wasted (against "
        f"{percent(bottom.wasted)}), and a commit took {number(top.cpu_us)} µs of CPU time, the "
        f"work inside included, against {number(bottom.cpu_us)}",
        dearer,
        where(over),
    )


def fairness(evidence: Evidence) -> str:
    """Who gets to write?"""
    pair = headline_pair(evidence)
    if pair is None:
        return absent(evidence, "Fairness between writers")
    over, under = pair
    parts = []
    for arm, name in ((under, NOW), (over, HOW)):
        index = arm.estimate(lambda counted: counted.roles["writer"].fairness)
        tally = arm.tally()
        assert tally is not None
        worst = arm.estimate(lambda counted: counted.roles["writer"].worst_share)
        parts.append(
            f"under {name} Jain's index is {index.said()}, the worst-served writer gets "
            f"{percent(worst.value)} of the commits and the longest wait was "
            f"{duration(tally.longest_ns)}"
        )
    writers = over.writers
    even = f"1 is even, {number(1 / writers)} is one writer that has everything"
    even += f"; windows of {over.plan['duration_s']:g} s, so longer waits are cut"
    said = f"Fairness ({even}): {'; '.join(parts)}"
    return markdown("{} ({}).", said, where(over, under))


def latency(evidence: Evidence) -> str:
    """What does one transaction wait?"""
    pair = headline_pair(evidence)
    if pair is None:
        return absent(evidence, "Latency")
    over, under = pair
    parts = []
    for arm, name in ((under, NOW), (over, HOW)):
        tally = arm.tally()
        assert tally is not None
        p50, _, p99, _, _ = arm.percentiles("writer")
        parts.append(
            f"{name} {percentile_words(p50)} / {percentile_words(p99)} / "
            f"{duration(tally.longest_ns)}"
        )
    return markdown(
        "A transaction, retries included, took (p50 and p99 of the committed, longest of all, "
        "pooled over the blocks; writers that got no turn are in no percentile): {} ({}).",
        "; ".join(parts),
        where(over, under),
    )


def absent(evidence: Evidence, what: str) -> str:
    """Not measured, and why as far as it is known."""
    why = [
        cell.failure
        for arm, cell in evidence.cells()
        if cell.counted is None and cell.failure and arm.writers and arm.system == STUDIED
    ]
    reason = f" ({why[0].rstrip('.')})" if why else ""
    return f"{what}: not measured in this set of runs{reason}."
