"""The headline: what the mode alone does on one library, with the library's own factor beside it.

Today's libSQL and the studied branch are two libraries with two bindings. Their quotient mixes both
with the mode, so that it stands last and is never what the sentence is about.
"""

from __future__ import annotations

from analysis.counting import Arm
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED, Pair, System
from analysis.report.finding import (
    LESS,
    MORE,
    NONE,
    UNKNOWN,
    Finding,
    Part,
    judge,
    missing,
)
from analysis.wording import number, percent, times

HOW = "sqlite-concurrent's BEGIN CONCURRENT on a libSQL file"


NOW = "libSQL's BEGIN IMMEDIATE"

TRY = "cwkit run --write-engine sqlite-concurrent --begin concurrent --think-us"
BESIDE = "--begin immediate"


def beside(pair: Pair, candidate: System, baseline: System) -> Pair | None:
    """Two other systems that do the work of a pair, in its experiment."""
    measured = pair.measured
    for top in measured.arms_of(*candidate):
        for bottom in measured.arms_of(*baseline):
            same = top.alike(bottom) and top.alike(pair.candidate)
            if same and top.usable and bottom.usable:
                return Pair(top, bottom)
    return None


def mode_pair(evidence: Evidence) -> Pair | None:
    """The mode alone in the headline: both modes of the studied library, the same work."""
    head = evidence.facts.headline
    if head is not None and (found := beside(head.pair, STUDIED, MODE_ALONE)):
        return found
    asked = {"rate": 0, "scenario": "register"}
    four = evidence.pair(STUDIED, MODE_ALONE, writers=4, **asked)
    return four or evidence.pair(STUDIED, MODE_ALONE, **asked)


def cores_of(arm: Arm) -> int:
    """The cores of the machine that an arm's runs were made on, 0 where none of them says it."""
    found = [cell.manifest.machine.cores for cell in arm.usable if cell.manifest]
    return max((cores for cores in found if cores), default=0)


def setting(arm: Arm, *, keys: bool = True) -> str:
    """The work of an arm in a few words."""
    work = arm.field("think_us") or 0
    how = " asleep" if arm.field("think") == "sleep" else ""
    parts = [times(arm.writers, "writer")]
    parts.append(f"{number(work)} µs{how} inside" if work else "no work inside")
    if keys and arm.field("keys"):
        parts.append(f"{arm.field('keys')} keys")
    if arm.plan["synchronous"] != "normal":
        parts.append(f"synchronous {arm.plan['synchronous']}")
    return ", ".join(parts)


def gain(evidence: Evidence) -> Finding:
    """What does BEGIN CONCURRENT alone do for throughput, and what the other library?"""
    key, pair, head = "mode", mode_pair(evidence), evidence.facts.headline
    work = TRY + " 200"
    if pair is None and head is None:
        return absent(evidence, key, "What BEGIN CONCURRENT does for throughput", work)
    if pair is None and head is not None:
        return _mixed(evidence, head.pair, key, work)
    assert pair is not None
    if why := pair.measured.not_compared(*pair):
        return missing(key, "What BEGIN CONCURRENT does for throughput", work, why)
    answer = judge(evidence, pair)
    rates = [arm.estimate() for arm in pair]
    parts = [Part.of("mode", answer)]
    numbers = [f"{number(rates[0].value)} against {number(rates[1].value)} tx/s"]
    if library := beside(pair, MODE_ALONE, CONTROL):
        alone = judge(evidence, library)
        parts.append(Part.of("library", alone))
        numbers.append(f"library alone {alone.text}")
    if both := beside(pair, STUDIED, CONTROL):
        product = judge(evidence, both)
        parts.append(Part.of("both", product))
        numbers.append(f"both {product.text}")
    numbers.append(_same_twice(pair))
    return Finding(
        key,
        answer.verdict,
        {
            MORE: "On one library, BEGIN CONCURRENT commits more than BEGIN IMMEDIATE",
            LESS: "On one library, BEGIN CONCURRENT commits less than BEGIN IMMEDIATE",
            NONE: "On one library, BEGIN CONCURRENT makes no claimed difference to throughput",
            UNKNOWN: "On one library, whether BEGIN CONCURRENT commits more is not decided",
        }[answer.verdict],
        lead=answer.lead,
        numbers=numbers,
        holds=setting(pair.candidate),
        command=f"{TRY} {number(pair.candidate.field('think_us') or 0)}",
        beside=BESIDE,
        runs=where(*pair),
        parts=parts,
    )


def _mixed(evidence: Evidence, pair: Pair, key: str, command: str) -> Finding:
    """Where the mode alone was not measured: the number says that it holds the library, too."""
    question = "What BEGIN CONCURRENT alone does for throughput"
    if why := pair.measured.not_compared(*pair):
        return missing(key, question, command, why)
    answer = judge(evidence, pair)
    more = {
        MORE: "commits more than",
        LESS: "commits less than",
        NONE: "showed no claimed difference to",
        UNKNOWN: "was tried in too few blocks against",
    }[answer.verdict]
    return Finding(
        key,
        answer.verdict,
        f"The branch's BEGIN CONCURRENT {more} {NOW}, library and mode together",
        lead=answer.lead,
        numbers=["The mode alone was not measured", _same_twice(pair)],
        holds=setting(pair.candidate),
        command=command,
        beside=BESIDE,
        runs=where(*pair),
        parts=[Part.of("both", answer)],
    )


def _same_twice(pair: Pair) -> str:
    """The A/A control of the experiment: what "no difference" looks like here."""
    if not pair.measured.twins:
        return "no A/A control"
    first, again = pair.measured.twins[0]
    ratio = pair.measured.ratio(again, first)
    odd = ratio.verdict in (MORE, LESS)
    return f"A/A {ratio.text()}" + (", which is a difference" if odd else "")


def cost(evidence: Evidence) -> Finding:
    """What does BEGIN CONCURRENT cost?"""
    key, pair = "cost", mode_pair(evidence)
    command = TRY + " 200"
    if pair is None:
        head = evidence.facts.headline
        pair = head.pair if head else None
    if pair is None:
        return absent(evidence, key, "What BEGIN CONCURRENT costs", command)
    mine, other = (arm.tally() for arm in pair)
    assert mine is not None and other is not None  # both arms are usable
    cpu = judge(evidence, pair, "cpu")
    refused = "refused commits, to be run again" if mine.conflicted else "no refused commit"
    dearer = {
        MORE: "and more CPU",
        LESS: "but less CPU",
        NONE: "but no claimed difference in CPU",
        UNKNOWN: "and CPU that too few blocks decide",
    }[cpu.verdict]
    mode = pair.baseline.system == MODE_ALONE
    against = "" if mode else f" (against {NOW}, another library)"
    refusals = pair.candidate.refused(first=True)
    every = f"{percent(pair.candidate.refused().value)} of all"
    numbers = [
        f"Refused {refusals.text(percent)} of first tries, {every}",
        f"CPU a commit {cpu.text} times",
        f"wasted {percent(mine.wasted)} of the time, against {percent(other.wasted)}",
    ]
    return Finding(
        key,
        cpu.verdict,
        f"BEGIN CONCURRENT costs {refused}, {dearer}{against}",
        numbers=numbers,
        holds=setting(pair.candidate),
        command=TRY.removesuffix(" --think-us"),
        runs=where(*pair),
        parts=[Part.of("cpu", cpu), Part("refused", refusals)],
    )


def absent(evidence: Evidence, key: str, question: str, command: str) -> Finding:
    """Something that was not measured, with the reason if it is known."""
    why = [
        cell.failure
        for arm, cell in evidence.cells()
        if cell.counted is None and cell.failure and arm.writers and arm.system == STUDIED
    ]
    return missing(key, question, command, why[0] if why else "")
