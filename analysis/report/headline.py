"""The headline: the studied mode against what a libSQL user does today."""

from __future__ import annotations

from analysis.counting import Arm, percentile_text
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, STUDIED
from analysis.report.markdown import bold, markdown
from analysis.statistics import Ratio
from analysis.wording import duration, number, percent, times, whole

HOW = "sqlite-concurrent's BEGIN CONCURRENT on a libSQL file"


NOW = "libSQL's BEGIN IMMEDIATE"


def gain(evidence: Evidence) -> str:
    """What would BEGIN CONCURRENT do for my writes on libSQL?"""
    head = evidence.facts.headline
    if head is None:
        return absent(evidence, "What BEGIN CONCURRENT does for throughput on libSQL")
    if head.incomparable:
        return head.incomparable
    text = f"{_setting(head.candidate.arm)}, {HOW} {_commits(head.ratio)} {NOW}"
    rates = f"{head.candidate.throughput.text()} against {head.baseline.throughput.text()} tx/s"
    twice = _same_twice(head.control)
    return markdown("{} ({}; {}){}.", bold("{}", text), rates, where(*head.pair), twice)


def _setting(arm: Arm) -> str:
    work = arm.field("think_us") or 0
    inside = f"{number(work)} µs of work" if work else "no work"
    off = arm.plan["synchronous"] == "off"
    durable = " and synchronous OFF (commits may be lost)" if off else ""
    return f"With {times(arm.writers, 'writer')} and {inside} inside the transaction{durable}"


def _commits(ratio: Ratio) -> str:
    text = ratio.text()
    if ratio.verdict == "none seen":
        return f"showed no difference in throughput (ratio {text}, the interval holds 1) to"
    if ratio.verdict == "unknown":
        return f"committed {text} times as much, without an interval, as"
    only = "" if ratio.verdict == "more" else "only "
    return f"committed {only}{text} times as many transactions as"


def _same_twice(ratio: Ratio | None) -> str:
    """The A/A control of the experiment: what "no difference" looks like here."""
    if ratio is None:
        return ", without an A/A control"
    if ratio.verdict in ("more", "less"):
        return markdown(
            "; {}, so do not trust differences of that size",
            bold("but the same arm run twice differs by {}", ratio.text()),
        )
    return f"; the same arm run twice differs by {ratio.text()}"


def cost(evidence: Evidence) -> str:
    """What does BEGIN CONCURRENT cost?"""
    head = evidence.facts.headline
    if head is None:
        return absent(evidence, "What BEGIN CONCURRENT costs on libSQL")
    mine, other = head.candidate.tally, head.baseline.tally
    refused = [one.arm.refused().text(percent) for one in (head.candidate, head.baseline)]
    none = head.cpu.verdict == "none seen"
    dearer = "no difference was seen" if none else f"{head.cpu.text()} times"
    return markdown(
        "{} ({}; {}).",
        f"It costs conflicts, which the caller must retry: {refused[0]} "
        f"of {whole(mine.finished)} attempts were refused "
        f"({NOW}: {refused[1]} of {whole(other.finished)}), "
        f"{percent(mine.wasted)} of the time inside attempts was wasted (against "
        f"{percent(other.wasted)}), and a commit took {number(mine.cpu_us)} µs of CPU time, the "
        f"work inside included, against {number(other.cpu_us)}",
        dearer,
        where(head.pair.candidate),
    )


def fairness(evidence: Evidence) -> str:
    """Who gets to write?"""
    rows = evidence.facts.fairness
    if not rows:
        return absent(evidence, "Fairness between writers, which needs windows of 10 s or more,")
    names = {CONTROL: NOW, STUDIED: HOW}
    parts = [
        f"under {names.get(row.arm.system, row.arm.label)} Jain's index is {row.fairness.text()}, "
        f"the worst-served writer gets {percent(row.worst_share.value)} of the commits, the "
        f"longest wait was {'at least ' * row.cut}{duration(row.longest_ns)}, and "
        f"{percent(row.wasted)} of the writers' time was wasted"
        for row in rows
    ]
    arms = [row.arm for row in rows]
    even = f"1 is even, {number(1 / arms[0].writers)} is one writer that has everything"
    text = f"Fairness ({even}; windows of {number(rows[0].seconds)} s): {'; '.join(parts)}"
    return markdown("{} ({}).", text, where(*arms))


def latency(evidence: Evidence) -> str:
    """How long does one transaction wait?"""
    head = evidence.facts.headline
    if head is None:
        return absent(evidence, "Latency")
    parts = []
    for one, name in ((head.baseline, NOW), (head.candidate, HOW)):
        p50, _, p99, _, _ = one.percentiles
        parts.append(
            f"{name} {percentile_text(p50)} / {percentile_text(p99)} / "
            f"{duration(one.tally.longest_ns)}"
        )
    return markdown(
        "A transaction, retries included, took (p50 and p99 of the committed, longest of all, "
        "pooled over the blocks; writers that got no turn are in no percentile): {} ({}).",
        "; ".join(parts),
        where(*head.pair),
    )


def absent(evidence: Evidence, what: str) -> str:
    """The sentence for something that was not measured, with the reason if it is known."""
    why = [
        cell.failure
        for arm, cell in evidence.cells()
        if cell.counted is None and cell.failure and arm.writers and arm.system == STUDIED
    ]
    reason = f" ({why[0].rstrip('.')})" if why else ""
    return f"{what}: not measured in this set of runs{reason}."
