"""Where the favoured mode wins and loses: by the work inside, by the page all meet on, by skew."""

from __future__ import annotations

from typing import Any

from analysis.counting import Arm, Tally, theta
from analysis.report.evidence import CONTROL, MODE_ALONE, STUDIED, Evidence, Pair, where
from analysis.report.headline import HOW, NOW, absent, headline_pair
from analysis.report.markdown import Markdown, code, listed_names, markdown
from analysis.statistics import Ratio, abort_rate
from analysis.wording import interval, listed, number, percent, times


def work_ratios(
    evidence: Evidence, candidate: tuple[str, str] = STUDIED, baseline: tuple[str, str] = CONTROL
) -> list[tuple[float, Pair, Ratio]]:
    """(work inside in us, arms, ratio) wherever two ways to write meet and only that work differs
    from the headline's; one ratio for each amount of work, the one of the most blocks.
    """
    best: dict[float, tuple[float, Pair, Ratio]] = {}
    head = headline_pair(evidence)
    if head is None:
        return []
    like = _work_shape(head.candidate)
    for measured in evidence.experiments.values():
        for top in measured.arms_of(*candidate):
            for bottom in measured.arms_of(*baseline):
                if not top.alike(bottom) or _work_shape(top) != like:
                    continue
                ratio = measured.ratio(top, bottom)
                work = float(top.field("think_us") or 0)
                if ratio.blocks and (work not in best or ratio.blocks > best[work][2].blocks):
                    best[work] = (work, Pair(top, bottom), ratio)
    return [best[work] for work in sorted(best)]


def _work_shape(arm: Arm) -> tuple[Any, ...]:
    """Everything an arm does, but for how it is written and for the work inside."""
    plan = arm.plan
    params = {k: v for k, v in plan["params"].items() if k != "think_us"}
    return plan["writers"], plan["readers"], plan["scenario"], plan["rate"], sorted(
        (k, str(v)) for k, v in params.items()
    )  # fmt: skip


def losing_work(evidence: Evidence) -> str:
    """Where does the favoured mode lose?

    Against the same library's BEGIN IMMEDIATE where that was measured, since then the mode alone
    differs; libSQL's library and binding are others, and another's slowness is no gain of a mode.
    """
    alone = work_ratios(evidence, baseline=MODE_ALONE)
    found = alone or work_ratios(evidence)
    if not found:
        return absent(evidence, "Where BEGIN CONCURRENT loses")
    lost = [(work, ratio) for work, _, ratio in found if ratio.verdict == "less"]
    same = [work for work, _, ratio in found if ratio.verdict == "none seen"]
    seen = ", ".join(f"{number(work)} µs {ratio.said()}" for work, _, ratio in found)
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
    runs = listed_names(pair.measured.name for _, pair, _ in found)
    against = "the same library's BEGIN IMMEDIATE, so the mode alone" if alone else NOW
    said = f"{head} (throughput against {against}: {seen}; "
    return markdown("{}{}){}.", said, runs, _loses_elsewhere(evidence))


def _loses_elsewhere(evidence: Evidence) -> Markdown:
    """Other workloads in which the mode alone makes it slower."""
    said = []
    for measured in evidence.experiments.values():
        for candidate in measured.arms_of(*STUDIED):
            for baseline in measured.arms_of(*MODE_ALONE):
                if not candidate.alike(baseline) or candidate.plan["scenario"] != "counter":
                    continue
                ratio, tally = measured.ratio(candidate, baseline), candidate.tally()
                if ratio.verdict != "less" or tally is None:
                    continue
                said.append(
                    markdown(
                        "; **it loses where all writers meet on one page** ({}: {} times, {} of "
                        "the attempts refused)",
                        code(measured.name),
                        ratio.said(),
                        percent(tally.abort_rate[1]),
                    )
                )
    return Markdown("").join(said)


def scaling(evidence: Evidence) -> str:
    """Does more writers mean more commits?"""
    for measured in evidence.experiments.values():
        parts = []
        for way, name in ((CONTROL, NOW), (STUDIED, HOW)):
            arms = sorted(measured.arms_of(*way), key=lambda arm: arm.writers)
            if len(arms) < 2 or not arms[0].alike(arms[-1], "writers"):
                continue
            few, many = (arm.writers for arm in (arms[0], arms[-1]))
            ratio = measured.ratio(arms[-1], arms[0])
            if few == many or not ratio.blocks:
                continue
            verdict = {"none seen": ", no difference seen", "less": ", a loss"}
            parts.append(f"{name} {ratio.said()}{verdict.get(ratio.verdict, '')}")
        if parts:
            return markdown(
                "From {} to {} throughput changes by a factor of: {} (experiment {}).",
                times(few, "writer"),
                many,
                "; ".join(parts),
                code(measured.name),
            )
    return absent(evidence, "How throughput grows with writers")


def skewed(evidence: Evidence) -> list[tuple[Arm, float, Tally]]:
    """(arm, theta, tally) of arms whose keys' skew is studied, by theta."""
    out = []
    for measured in evidence.experiments.values():
        arms = [
            (arm, theta(str(arm.field("keys"))))
            for arm in measured.arms.values()
            if arm.engine != "null"
        ]
        if len({skew for _, skew in arms if skew is not None}) < 2:
            continue
        for arm, skew_ in arms:
            tally = arm.tally()
            if skew_ is not None and tally is not None:
                out.append((arm, skew_, tally))
    return sorted(out, key=lambda row: (row[0].measured.name, row[1], row[0].name))


def skew(evidence: Evidence) -> str:
    """What do hot keys do to it?"""
    rows = [row for row in skewed(evidence) if row[0].writers and row[0].system == STUDIED]
    if len(rows) < 2:
        return absent(evidence, "The abort rate against the skew of the keys")
    said = []
    for _, at, tally in rows:
        low, rate, high = tally.abort_rate
        said.append(f"{percent(rate)} {interval(low, high, percent)} at theta {at:g}")
    ends = [abort_rate([t.conflicted], [t.finished])[0] for t in (rows[0][2], rows[-1][2])]
    grows = "grows with" if ends[1][0] > ends[0][2] else "was not seen to grow with"
    if ends[1][2] < ends[0][0]:
        grows = "falls with"
    return markdown(
        "{} ({}).",
        f"The abort rate of {HOW} {grows} the skew of the keys: {listed(said)}",
        where(*[arm for arm, _, _ in rows]),
    )
