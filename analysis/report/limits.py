"""Limits of the favoured mode: where it loses, reads, skewed keys, and how it grows.

It is compared with the same library's other mode where that was measured, because then the mode
alone differs. libSQL is another library with another binding, and if those are slow, that is no
gain of the mode.
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
from analysis.report.headline import (
    HOW,
    NOW,
    TRY,
    absent,
)
from analysis.report.markdown import listed_names
from analysis.wording import listed, number, percent, times, whole

BRANCH_DEFERRED: System = ("sqlite-concurrent", "deferred")
LIBSQL_DEFERRED: System = ("libsql", "deferred")

ONE_PAGE = "all writers on one page"


def losing_work(evidence: Evidence) -> Finding:
    """Where does the favoured mode lose?"""
    key, command = "where-it-loses", f"{TRY} 0"
    alone = evidence.facts.work_rows(baseline=MODE_ALONE)
    found = alone or evidence.facts.work_rows()
    rows = [(_inside(row.work_us), row.pair, judge(evidence, row.pair)) for row in found]
    rows += [(ONE_PAGE, row.pair, judge(evidence, row.pair)) for row in evidence.facts.one_page]
    if not rows:
        return absent(evidence, key, "Where BEGIN CONCURRENT loses", command)
    lost = [name for name, _, answer in rows if answer.verdict == LESS]
    likely = {
        name: f"in {answer.ratio.blocks} of {times(answer.ratio.blocks, 'block')}"
        for name, _, answer in rows
        if answer.leans == LESS
    }
    seen = listed([f"{name} {blocks}" for name, blocks in likely.items()])
    said = f"BEGIN CONCURRENT loses with {listed(lost)}" if lost else ""
    if likely and lost:
        said += f"; with {seen}, too few to claim"
    elif likely:
        said = f"BEGIN CONCURRENT lost with {seen}, too few to claim"
    if not said:
        open_ones = [name for name, _, answer in rows if answer.verdict == UNKNOWN]
        said = "No loss of BEGIN CONCURRENT was found"
        said += f"; too few blocks to say with {listed(open_ones)}" if open_ones else ""
        if len(open_ones) == len(rows):
            said = "Where BEGIN CONCURRENT loses is not decided by so few blocks"
    none = [name for name, _, answer in rows if answer.verdict == NONE]
    undecided = any(answer.verdict == UNKNOWN for *_, answer in rows)
    verdict = LESS if lost else UNKNOWN if undecided else NONE
    told = [(n, a) for n, _, a in rows if n in lost or n in likely or n in none]
    told = told or [(name, answer) for name, _, answer in rows]
    against = "the mode alone" if alone or not found else f"against {NOW}, another library"
    arm = rows[0][1].candidate
    return Finding(
        key,
        verdict,
        said,
        numbers=[
            ("" if at else "Throughput: ") + f"{name} {answer.text}"
            for at, (name, answer) in enumerate(told)
        ],
        holds=f"{against}, {times(arm.writers, 'writer')}",
        command=command,
        runs=listed_names(pair.measured.name for _, pair, _ in rows),
        parts=[Part.of(name, answer) for name, _, answer in rows],
        sought=said.startswith("No loss"),
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
    answer, cpu = judge(evidence, pair), judge(evidence, pair, "cpu")
    who = "BEGIN CONCURRENT" if mode else "the branch's BEGIN CONCURRENT"
    than = "plain BEGIN" if mode else "libSQL's plain BEGIN, library and mode together"
    said = {
        MORE: f"At 95 % reads {who} commits more than {than}",
        LESS: f"At 95 % reads {who} commits less than {than}",
        NONE: f"At 95 % reads {who} makes no claimed difference to {than}",
        UNKNOWN: f"At 95 % reads too few blocks decide between {who} and {than}",
    }[answer.verdict]
    parts = [Part.of("mode" if mode else "both", answer), Part.of("cpu", cpu)]
    numbers = []
    if library and mode:
        alone = judge(evidence, library)
        parts.append(Part.of("library", alone))
        numbers.append(f"library alone {alone.text}")
    mine, other = (arm.tally() for arm in pair)
    assert mine is not None and other is not None
    why = "Both fill the CPU, so CPU decides" if pair.cpu_bound else "The CPU is not full"
    each = f"{number(mine.cpu_us)} against {number(other.cpu_us)} µs a transaction"
    numbers.insert(0, f"{why}: {each}, {cpu.text}")
    return Finding(
        key,
        answer.verdict,
        said,
        lead=answer.lead,
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
    answer = judge(evidence, Pair(rows[-1].arm, rows[0].arm), "first-tries")
    side = answer.leans or answer.verdict
    said = {
        MORE: "Skewed keys make BEGIN CONCURRENT refuse more first tries",
        LESS: "Skewed keys make BEGIN CONCURRENT refuse fewer first tries",
        NONE: "Skewed keys make no claimed difference to refused first tries",
        UNKNOWN: "Whether skewed keys make BEGIN CONCURRENT refuse more is not decided",
    }[side]
    if answer.leans:
        said += ", in too few blocks to claim it"
    first = [f"{percent(row.arm.refused(first=True).value)} at {row.theta:g}" for row in rows]
    every = [percent(row.arm.refused().value) for row in rows]
    arm = rows[0].arm
    return Finding(
        key,
        answer.verdict,
        said,
        numbers=[f"First tries refused by theta: {listed(first)}", f"all tries: {listed(every)}"],
        holds=_operations(arm),
        command=command,
        runs=where(*[row.arm for row in rows]),
        parts=[Part.of("first tries, most skewed / least", answer)],
    )


def _operations(arm: Arm) -> str:
    many, rows = arm.field("operations"), arm.field("rows")
    parts = [times(arm.writers, "writer")]
    parts += [f"{times(many, 'operation')} each"] if many else []
    parts += [f"{whole(rows)} rows"] if rows else []
    return ", ".join(parts)


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
    answers = [judge(evidence, Pair(row.many, row.few)) for row in rows]
    both = list(zip(rows, answers, strict=True))
    leans = {MORE: "grew", LESS: "shrank"}
    said = [
        f"{names[row.system]} {words[answer.verdict]}"
        if not answer.leans
        else f"{names[row.system]} {leans[answer.leans]} in {answer.ratio.blocks} of "
        f"{times(answer.ratio.blocks, 'block')}, too few to claim it"
        for row, answer in both
    ]
    studied, its = next((one for one in both if one[0].system == STUDIED), both[0])
    return Finding(
        key,
        its.verdict,
        f"With more writers the throughput of {listed(said)}",
        numbers=[f"Factors: {', '.join(answer.text for answer in answers)}"],
        holds=f"{times(studied.few.writers, 'writer')} to {studied.many.writers}",
        command=command,
        runs=where(*[arm for row in rows for arm in (row.few, row.many)]),
        parts=[Part.of(f"{row.system[0]} {row.system[1]}", answer) for row, answer in both],
    )
