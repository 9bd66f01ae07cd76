"""Limits of the favoured mode: where it wins and loses, by work inside, by shared page, by skew."""

from __future__ import annotations

from analysis.report.evidence import Evidence, where
from analysis.report.facts import MODE_ALONE, STUDIED, Pair, claimed, too_few
from analysis.report.headline import HOW, NOW, absent
from analysis.report.markdown import Markdown, code, listed_names, markdown
from analysis.wording import listed, number, percent, times


def losing_work(evidence: Evidence) -> str:
    """Where does the favoured mode lose?

    It is compared with the same library's BEGIN IMMEDIATE where that was measured, because then
    the mode alone differs. libSQL is another library with another binding, and if those are slow,
    that is no gain of the mode.
    """
    alone = evidence.facts.work_rows(baseline=MODE_ALONE)
    found = alone or evidence.facts.work_rows()
    if not found:
        return absent(evidence, "Where BEGIN CONCURRENT loses")
    lost = [(work, ratio) for work, _, ratio in found if ratio.verdict == "less"]
    same = [work for work, _, ratio in found if ratio.verdict == "none seen"]
    seen = ", ".join(f"{number(work)} µs {ratio.text()}" for work, _, ratio in found)
    if lost:
        works = listed([f"{number(work)} µs" for work, _ in lost])
        head = f"It loses with {works} of work inside the transaction"
    elif all(not ratio.known for _, _, ratio in found):
        head = "Where it loses cannot be told from so few blocks"
    else:
        head = "No amount of work was found here at which it loses"
    if same:
        works = listed([f"{number(work)} µs" for work in same])
        head += f", and no difference was seen with {works}"
    runs = listed_names(row.pair.measured.name for row in found)
    against = "the same library's BEGIN IMMEDIATE, so the mode alone" if alone else NOW
    text = f"{head} (throughput against {against}: {seen}; "
    return markdown("{}{}){}.", text, runs, _loses_elsewhere(evidence))


def _loses_elsewhere(evidence: Evidence) -> Markdown:
    """Other workloads in which the mode alone makes it slower."""
    parts = [
        markdown(
            "; **it loses where all writers meet on one page** ({}: {} times, {} of "
            "the attempts refused)",
            code(row.pair.measured.name),
            row.ratio.text(),
            percent(row.tally.abort_rate[1]),
        )
        for row in evidence.facts.one_page
        if row.ratio.verdict == "less"
    ]
    return Markdown("").join(parts)


def scaling(evidence: Evidence) -> str:
    """Do more writers commit more?"""
    rows = evidence.facts.growth
    if not rows:
        return absent(evidence, "How throughput grows with writers")
    parts = []
    for row in rows:
        verdict = {"none seen": ", no difference seen", "less": ", a loss"}
        name = HOW if row.system == STUDIED else NOW
        parts.append(f"{name} {row.ratio.text()}{verdict.get(row.ratio.verdict, '')}")
    return markdown(
        "From {} to {} throughput changes by a factor of: {} (experiment {}).",
        times(rows[-1].few.writers, "writer"),
        rows[-1].many.writers,
        "; ".join(parts),
        code(rows[-1].few.measured.name),
    )


def skew(evidence: Evidence) -> str:
    """What do hot keys do to the abort rate?"""
    rows = [row for row in evidence.facts.skew if row.arm.writers and row.arm.system == STUDIED]
    if len(rows) < 2:
        return absent(evidence, "The abort rate against the skew of the keys")
    parts = []
    for row in rows:
        first, every = row.arm.refused(first=True), row.arm.refused()
        parts.append(
            f"{first.text(percent)} of first tries ({percent(every.value)} of all) at theta "
            f"{row.theta:g}"
        )
    told = evidence.facts.told(Pair(rows[-1].arm, rows[0].arm), "first-tries")
    words = {"more": "grows with", "less": "falls with"}
    grows = words.get(claimed(told), "was not seen to grow with")
    few = f" ({clause})" if (clause := too_few(told)) else ""
    return markdown(
        "{} ({}).",
        f"The abort rate of {HOW} {grows} the skew of the keys{few}: {listed(parts)}",
        where(*[row.arm for row in rows]),
    )
