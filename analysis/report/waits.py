"""Who waits and who is refused at once: plain BEGIN, fairness, and the same load on each mode.

Fairness is told from long windows only. With a busy timeout of 2 s nobody can be refused within
0.6 s, and a writer that waits has not starved: it has not been waited for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from analysis.counting import OUTGROWN, Arm, Wal, mebibytes
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED
from analysis.report.finding import (
    ACCEPTED,
    LESS,
    MORE,
    NONE,
    REFUSED,
    UNKNOWN,
    Answer,
    Finding,
    Part,
    judge,
    missing,
)
from analysis.report.headline import TRY, setting
from analysis.report.load_facts import FairnessRow, OfferedRow, Pair
from analysis.statistics import PERCENTILES
from analysis.wording import at_least, duration, listed, number, percent, whole

AT_ONCE = 0.1
"""A refusal came at once where it waited for less than this share of the busy timeout."""

REFUSED_AT_ONCE = (
    "Plain BEGIN that reads and then writes is refused at once where another wrote meanwhile: no "
    "busy timeout helps"
)
REFUSED_LATE = (
    "Plain BEGIN that reads and then writes is refused after the busy timeout where another wrote "
    "meanwhile"
)

PERCENTILE = "p99"
"""What is compared block by block. It needs a thousand transactions in each block, and the report's
windows are long enough for that."""

_AT = PERCENTILES.index(PERCENTILE)


# --- plain BEGIN ------------------------------------------------------------------------------


def plain(evidence: Evidence) -> Finding:
    """Is a plain BEGIN that reads and then writes refused, and does the busy timeout help?"""
    key, command = "plain-begin", "cwkit run --scenario counter --begin deferred"
    row = next((r for r in evidence.facts.plain if r.pair.candidate.engine == "libsql"), None)
    if row is None:
        return _asked(evidence, key, command)
    arm, other = row.pair
    theirs = other.tally()
    assert theirs is not None  # both arms are usable
    refused = bool(row.waited_ns.size)
    said = "Plain BEGIN that reads and then writes was not refused"
    if refused:
        at_once = row.median_ns < AT_ONCE * row.timeout_ns
        said = REFUSED_AT_ONCE if at_once else REFUSED_LATE
    took = f" after {duration(row.median_ns)} (median)" if refused else ""
    many = f"{row.refused.text(percent)} of first tries"
    gain = judge(evidence, Pair(other, arm))
    numbers = [
        f"{many}{took} with a timeout of {duration(row.timeout_ns)}",
        f"BEGIN IMMEDIATE {percent(theirs.first_refused())}, throughput {gain.text} times",
    ]
    return Finding(
        key,
        REFUSED if refused else ACCEPTED,
        said,
        numbers=numbers,
        holds=f"libSQL, {setting(arm, keys=False)}",
        command=command,
        runs=where(*row.pair),
        parts=[Part("refused", row.refused), Part.of("throughput of immediate", gain)],
        sought=not refused,
    )


def _asked(evidence: Evidence, key: str, command: str) -> Finding:
    """The engine's own answer when it was asked, where no run tried it."""
    probe = evidence.probes.get("libsql")
    answer = probe.modes.get("deferred") if probe else None
    if answer is None or "refused" not in answer.upgrade:
        return missing(key, "Whether plain BEGIN is refused at once", command)
    return Finding(
        key,
        REFUSED,
        REFUSED_AT_ONCE if "at once" in answer.upgrade else REFUSED_LATE,
        numbers=[f"Asked once beside another writer, libSQL's answer was “{answer.upgrade}”"],
        holds="libSQL, a busy timeout set",
        command=command,
    )


# --- fairness ---------------------------------------------------------------------------------


def fairness(evidence: Evidence) -> Finding:
    """Who gets to write, and how long does the one wait that does not?"""
    key, question = "fairness", "Who waits longest to write"
    command = "cwkit run --think-us 200 --duration 20"
    rows = served_alike(evidence)
    if len(rows) < 2:
        return missing(key, question, command, _too_short(evidence))
    pair = Pair(rows[0].arm, rows[1].arm)
    jain = judge(evidence, pair, "fairness")
    side = jain.verdict if jain.verdict in (MORE, LESS) else jain.leans
    said = {
        MORE: "BEGIN CONCURRENT serves its writers more evenly than BEGIN IMMEDIATE",
        LESS: "BEGIN CONCURRENT serves its writers less evenly than BEGIN IMMEDIATE",
        "": "BEGIN CONCURRENT makes no claimed difference to how evenly writers are served",
    }[side]
    said += ", in too few windows to claim it" if jain.leans else ""
    waits = ["at least " * row.cut + duration(row.longest_ns) for row in rows]
    shares = [percent(row.worst_share.value) for row in rows]
    even = [number(row.fairness.value) for row in rows]
    wasted = [percent(row.wasted) for row in rows]
    asked_s = float(pair.candidate.plan["duration_s"])
    earlier = evidence.published.get(pair.measured.name)
    when = f", measured {earlier.date}" if earlier else ""
    told = (
        ("Longest wait", waits),
        ("least share", shares),
        ("Jain's index", even),
        ("wasted", wasted),
    )
    return Finding(
        key,
        jain.verdict,
        said,
        numbers=[f"{name} {_against(each)}" for name, each in told],
        holds=f"{setting(pair.candidate, keys=False)}, windows of {asked_s:g} s{when}",
        command=command,
        runs=where(*(row.arm for row in rows)),
        parts=[Part.of("evenness", jain)],
    )


def log_growth(evidence: Evidence) -> Finding:
    """Does the write-ahead log begin again, or does it grow, where writers overlap?"""
    key, question = "log", "How large the write-ahead log grows"
    command = f"{TRY} 200 --duration 20"
    rows = served_alike(evidence)
    logs = [row for row in rows if any(_logs(row.arm))]
    if len(logs) < 2 or logs[0] is not rows[0]:
        return missing(key, question, command, _too_short(evidence) if not rows else "")
    most = [max(_logs(row.arm), key=lambda log: log.bytes_max) for row in logs]
    grew, others = most[0].times >= OUTGROWN, any(log.times >= OUTGROWN for log in most[1:])
    both = "under BEGIN CONCURRENT and under BEGIN IMMEDIATE"
    said = {
        (True, False): "Under BEGIN CONCURRENT the write-ahead log outgrows its autocheckpoint",
        (True, True): f"The write-ahead log outgrows its autocheckpoint {both}",
        (False, True): "Under BEGIN IMMEDIATE the write-ahead log outgrows its autocheckpoint",
        (False, False): f"The write-ahead log stays near its autocheckpoint {both}",
    }[grew, others]
    again = [log.restarts for log in most]
    numbers = [f"{_against([mebibytes(log.bytes_max) for log in most])} at most"]
    if None not in again:
        numbers.append(f"it began again {_against([whole(n or 0) for n in again])} times")
    asked_s = float(rows[0].arm.plan["duration_s"])
    return Finding(
        key,
        MORE if grew and not others else LESS if others and not grew else NONE,
        said,
        numbers=numbers,
        holds=f"{setting(rows[0].arm, keys=False)}, windows of {asked_s:g} s",
        command=command,
        runs=where(*(row.arm for row in logs)),
        sought=not grew and not others,
    )


def _logs(arm: Arm) -> list[Wal]:
    """The log of each of an arm's runs that kept one."""
    return [cell.counted.wal for cell in arm.usable if cell.counted and cell.counted.wal]


def served_alike(evidence: Evidence) -> list[FairnessRow]:
    """The mode, its library's other mode, and today's libSQL, in one experiment; those of which
    there is no row are left out.
    """
    found = evidence.facts.fairness
    studied = [row for row in found if row.arm.system == STUDIED]
    if not studied:
        return []
    top = max(studied, key=lambda row: row.fairness.blocks)  # the first of the most blocks
    by_system = {
        row.arm.system: row
        for row in found
        if row.arm.measured is top.arm.measured and row.arm.alike(top.arm)
    }
    return [top, *(by_system[s] for s in (MODE_ALONE, CONTROL) if s in by_system)]


def _too_short(evidence: Evidence) -> str:
    """Why nothing is said, where writers were measured in windows that are too short for it."""
    longest = max(
        (
            float(arm.plan["duration_s"])
            for arm, cell in evidence.cells()
            if cell.counted and arm.writers > 1 and arm.plan["scenario"] != "acked"
        ),
        default=0.0,
    )
    return f"windows of {longest:g} s are too short" if longest else ""


def _against(each: list[str]) -> str:
    """The mode against the other one, and libSQL where it was there."""
    return f"{each[0]} against {each[1]}" + (f" (libSQL {each[2]})" if len(each) > 2 else "")


# --- the same load ----------------------------------------------------------------------------


class Level(NamedTuple):
    """One rate at which both modes of a library were offered the same. answer : of `PERCENTILE`."""

    name: str
    mode: OfferedRow
    other: OfferedRow
    answer: Answer


def same_load(evidence: Evidence) -> Finding:
    """The same offered load on each mode: latency from the intended start, and who is served."""
    key, question = "same-load", "Latency where both modes are offered the same load"
    command = f"{TRY} 200 --rate 1000"
    every = list(_levels(evidence))
    levels = [level for level in every if level.answer.ratio.blocks]
    if not levels:
        why = f"too few transactions were due for a {PERCENTILE}" if every else ""
        return missing(key, question, command, why)
    verdicts = [level.answer.verdict for level in levels]
    words = {
        LESS: "shorter at",
        MORE: "longer at",
        NONE: "not claimed to differ at",
        UNKNOWN: "not decided at",
    }
    said = [
        f"{word} {listed([level.name for level in levels if level.answer.verdict == verdict])}"
        for verdict, word in words.items()
        if verdict in verdicts
    ]
    # The highest that has a number first, then those that were not served, then the rest: the words
    # that are left may not do for all.
    told = levels[::-1]
    first = next((level for level in told if not _never_served(level)), told[0])
    told.sort(key=lambda level: (level is not first, not _never_served(level)))
    return Finding(
        key,
        next((v for v in (MORE, LESS, UNKNOWN) if v in verdicts), NONE),
        f"At the same offered load BEGIN CONCURRENT's {PERCENTILE} is {', '.join(said)}",
        numbers=[
            "Times as long: " + _one_level(told[0]),
            *(_one_level(level) for level in told[1:]),
            *(_latency(level) for level in told if not _never_served(level)),
        ],
        holds=f"{setting(levels[0].mode.arm, keys=False)}, shares of BEGIN IMMEDIATE's most",
        command=command,
        runs=where(*(row.arm for level in levels for row in (level.mode, level.other))),
        parts=[Part.of(f"{PERCENTILE} at {level.name}", level.answer) for level in levels],
    )


def _levels(evidence: Evidence) -> Iterator[Level]:
    """Each rate, the lowest first."""
    rows = evidence.facts.offered
    for top in rows:
        for bottom in rows:
            systems = (top.arm.system, bottom.arm.system)
            same = top.arm.measured is bottom.arm.measured and top.arm.alike(bottom.arm)
            if same and systems == (STUDIED, MODE_ALONE):
                answer = judge(evidence, Pair(top.arm, bottom.arm), PERCENTILE)
                yield Level(_level(top), top, bottom, answer)


def _level(row: OfferedRow) -> str:
    """An offered rate as a share of what BEGIN IMMEDIATE commits in a closed loop."""
    names = {0.25: "a quarter", 0.5: "half", 0.75: "three quarters"}
    near = min(names, key=lambda share: abs(row.share - share))
    # Rates are rounded to two digits, and what they are shares of was measured.
    return names[near] if abs(row.share - near) < 0.06 else f"{number(row.rate)} tx/s"


def _one_level(level: Level) -> str:
    """One rate: the ratio, and who was not served."""
    rows = {"CONCURRENT": level.mode, "IMMEDIATE": level.other}
    if never := _never_served(level):
        served = percent(rows[never].served.value)
        return f"{level.name}: {never} served only {served}"
    unmet = [
        f"{mode} served {percent(row.served.value)}" for mode, row in rows.items() if not row.met
    ]
    more = f" ({listed(unmet)})" if unmet else ""
    return f"{level.name} {level.answer.text}{more}"


def _never_served(level: Level) -> str:
    """The mode that left so many unserved that its percentile has no value, "" for neither.

    They took longer than all the rest: how many times as long is not known.
    """
    return {0.0: "IMMEDIATE", math.inf: "CONCURRENT"}.get(level.answer.ratio.value, "")


def _latency(level: Level) -> str:
    spans = [row.percentiles[_AT] for row in (level.mode, level.other)]
    each = [at_least(float(value), float(least)) for _, value, _, least in spans]
    return f"{level.name} {each[0]} against {each[1]}"
