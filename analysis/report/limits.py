"""Limits of the favoured mode: where it loses, reads, skewed keys, and how it grows.

It is compared with the same library's other mode where that was measured, because then the mode
alone differs. libSQL is another library with another binding, and if those are slow, that is no
gain of the mode.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.counting import Arm
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED, Pair, SkewRow, System
from analysis.report.finding import (
    LESS,
    MORE,
    NONE,
    UNKNOWN,
    Finding,
    Part,
    lead_text,
    leans,
    missing,
    ratio_text,
    verdict_of,
)
from analysis.report.headline import (
    HOW,
    NOW,
    TRY,
    absent,
)
from analysis.report.load_facts import of_writers
from analysis.report.markdown import listed_names
from analysis.statistics import Ratio
from analysis.wording import listed, number, percent, times

BRANCH_DEFERRED: System = ("sqlite-concurrent", "deferred")
LIBSQL_DEFERRED: System = ("libsql", "deferred")


def losing_work(evidence: Evidence) -> Finding:
    """Where does the favoured mode lose?"""
    key, command = "where-it-loses", f"{TRY} 0"
    alone = evidence.facts.work_rows(baseline=MODE_ALONE)
    found = alone or evidence.facts.work_rows()
    rows = [(_inside(row.work_us), row.pair, row.ratio) for row in found]
    rows += [("one hot page", row.pair, row.ratio) for row in evidence.facts.one_page]
    if not rows:
        return absent(evidence, key, "Where BEGIN CONCURRENT loses", command)
    lost = [name for name, _, ratio in rows if verdict_of(ratio) == LESS]
    likely = {
        name: f"in {ratio.blocks} of {times(ratio.blocks, 'block')}"
        for name, _, ratio in rows
        if leans(ratio) == LESS
    }
    seen = listed([f"{name} {blocks}" for name, blocks in likely.items()])
    said = f"BEGIN CONCURRENT loses with {listed(lost)}" if lost else ""
    if likely and lost:
        said += f"; with {seen}, too few to claim"
    elif likely:
        said = f"BEGIN CONCURRENT lost with {seen}, too few to claim"
    if not said:
        said = "No loss of BEGIN CONCURRENT was found"
        if not any(ratio.known for _, _, ratio in rows):
            said = "Where BEGIN CONCURRENT loses is not decided by so few blocks"
    none = [name for name, _, ratio in rows if verdict_of(ratio) == NONE]
    verdict = LESS if lost else UNKNOWN if likely or not any(r.known for *_, r in rows) else NONE
    told = [(n, r) for n, _, r in rows if n in lost or n in likely or n in none]
    told = told or [(name, ratio) for name, _, ratio in rows]
    against = "the mode alone" if alone or not found else f"against {NOW}, another library"
    arm = rows[0][1].candidate
    return Finding(
        key,
        verdict,
        said,
        numbers=[
            ("" if at else "Throughput: ") + f"{name} {ratio_text(ratio)}"
            for at, (name, ratio) in enumerate(told)
        ],
        holds=f"{against}, {times(arm.writers, 'writer')}",
        command=command,
        runs=listed_names(pair.measured.name for _, pair, _ in rows),
        parts=[Part.of(name, ratio) for name, _, ratio in rows],
        sought=not lost and not likely and verdict == NONE,
    )


def _inside(work_us: float) -> str:
    return f"{number(work_us)} µs inside" if work_us else "no work inside"


# --- reads --------------------------------------------------------------------------------------


def read_mostly(evidence: Evidence) -> Finding:
    """What is left of it when 95 % of the operations read?"""
    key = "read-mostly"
    command = "cwkit sweep read-mostly"
    mode, library, both = (
        _reads(evidence, candidate, baseline)
        for candidate, baseline in (
            (STUDIED, BRANCH_DEFERRED),
            (BRANCH_DEFERRED, LIBSQL_DEFERRED),
            (STUDIED, LIBSQL_DEFERRED),
        )
    )
    pair = mode or both
    if pair is None:
        return missing(key, "What is left of the gain at 95 % reads", command)
    ratio, cpu = pair.ratio(), pair.cpu
    verdict = verdict_of(ratio)
    who = "BEGIN CONCURRENT" if mode else "the branch's BEGIN CONCURRENT"
    than = "plain BEGIN" if mode else "libSQL's plain BEGIN, library and mode together"
    said = {
        MORE: f"At 95 % reads {who} commits more than {than}",
        LESS: f"At 95 % reads {who} commits less than {than}",
        NONE: f"At 95 % reads {who} makes no claimed difference to {than}",
        UNKNOWN: f"At 95 % reads too few blocks decide between {who} and {than}",
    }[verdict]
    parts = [Part.of("mode" if mode else "both", ratio), Part.of("cpu", cpu)]
    numbers = []
    if library and mode:
        parts.append(Part.of("library", library.ratio()))
        numbers.append(f"library alone {ratio_text(library.ratio())}")
    mine, other = (arm.tally() for arm in pair)
    assert mine is not None and other is not None
    why = "Both fill the CPU, so CPU decides" if pair.cpu_bound else "The CPU is not full"
    each = f"{number(mine.cpu_us)} against {number(other.cpu_us)} µs a transaction"
    numbers.insert(0, f"{why}: {each}, {ratio_text(cpu)}")
    return Finding(
        key,
        verdict,
        said,
        lead=lead_text(ratio),
        numbers=numbers,
        holds=f"YCSB B, {times(pair.candidate.writers, 'worker')}",
        command=command,
        runs=where(*pair),
        parts=parts,
    )


def _reads(evidence: Evidence, candidate: System, baseline: System) -> Pair | None:
    """Two systems at 95 % reads: YCSB's core workload B."""
    return evidence.pair(candidate, baseline, mix="B", rate=0)


# --- skew and growth ----------------------------------------------------------------------------


def skew(evidence: Evidence) -> Finding:
    """What do hot keys do to refusals, of first tries and of all?"""
    key, command = "skew", "cwkit sweep skew"
    rows = [row for row in evidence.facts.skew if row.arm.writers and row.arm.system == STUDIED]
    rows = [row for row in rows if row.arm.measured is rows[0].arm.measured]
    if len(rows) < 2:
        return absent(evidence, key, "What skewed keys cost", command)
    ratio = _first_try_ratio(rows)
    verdict = verdict_of(ratio)
    side = verdict if verdict != UNKNOWN else leans(ratio) or UNKNOWN
    said = {
        MORE: "Skewed keys make BEGIN CONCURRENT refuse more first tries",
        LESS: "Skewed keys make BEGIN CONCURRENT refuse fewer first tries",
        NONE: "Skewed keys make no claimed difference to refused first tries",
        UNKNOWN: "Whether skewed keys make BEGIN CONCURRENT refuse more is not decided",
    }[side]
    if verdict == UNKNOWN and side != UNKNOWN:
        said += ", in too few blocks to claim it"
    first = [f"{percent(row.tally.first_refused())} at theta {row.theta:g}" for row in rows]
    every = [percent(row.tally.abort_rate[1]) for row in rows]
    arm = rows[0].arm
    return Finding(
        key,
        verdict,
        said,
        numbers=[f"First tries: {listed(first)}", f"all tries: {listed(every)}"],
        holds=_operations(arm),
        command=command,
        runs=where(*[row.arm for row in rows]),
        parts=[Part.of("first tries, most skewed / least", ratio)],
    )


def _operations(arm: Arm) -> str:
    many = arm.field("operations")
    return times(arm.writers, "writer") + (f", {times(many, 'operation')}" if many else "")


def _first_try_ratio(rows: Sequence[SkewRow]) -> Ratio:
    measure = of_writers(lambda tally: tally.first_refused())
    return rows[0].arm.measured.ratio(rows[-1].arm, rows[0].arm, measure)


def scaling(evidence: Evidence) -> Finding:
    """Do more writers commit more?"""
    key, command = "growth", "cwkit sweep writers"
    rows = evidence.facts.growth
    if not rows:
        return absent(evidence, key, "How throughput grows with writers", command)
    names = {STUDIED: HOW, CONTROL: NOW}
    words = {
        MORE: "grows",
        LESS: "shrinks",
        NONE: "does not change in a claimed way",
        UNKNOWN: "is not decided",
    }
    said = [f"{names[row.system]} {words[verdict_of(row.ratio)]}" for row in rows]
    studied = next((row for row in rows if row.system == STUDIED), rows[0])
    return Finding(
        key,
        verdict_of(studied.ratio),
        f"With more writers the throughput of {listed(said)}",
        numbers=[f"Factors: {', '.join(ratio_text(row.ratio) for row in rows)}"],
        holds=f"{times(studied.few.writers, 'writer')} to {studied.many.writers}",
        command=command,
        runs=where(*[arm for row in rows for arm in (row.few, row.many)]),
        parts=[Part.of(f"{row.system[0]} {row.system[1]}", row.ratio) for row in rows],
    )
