"""What to do, by the reader's case: a table on the first screen, each row computed from the runs.

A row says what the runs say. Where they say the opposite of what is usual, so does the row. Where
blocks are too few it says so, and where nothing was measured it says what to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from analysis.counting import Arm
from analysis.report import lost_commits
from analysis.report.acked import FIXED, ORDINARY, Acked, may_lose, seconds_of
from analysis.report.commits import cures, either, losing_place
from analysis.report.evidence import Evidence, where
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED, Pair
from analysis.report.finding import (
    ACCEPTED,
    BROKEN,
    LESS,
    MISSING,
    MORE,
    NONE,
    REFUSED,
    UNKNOWN,
    Finding,
    in_blocks,
    ratio_text,
    verdict_of,
)
from analysis.report.findings import Findings
from analysis.report.headline import cores_of, mode_pair, setting
from analysis.report.instead import postgres_instead
from analysis.report.limits import ONE_PAGE
from analysis.report.markdown import Markdown, code, markdown, ours, said
from analysis.report.waits import served_alike
from analysis.statistics import Ratio
from analysis.wording import begin_label, duration, listed, number, percent, times, whole

NOBODY = "BEGIN IMMEDIATE, which every library has"


class Advice(NamedTuple):
    """A row. verdict : a word of analysis.report.finding, of what the runs say.

    told : the key of the finding that says so, or the name of the page that does.
    """

    key: str
    case: str
    do: str
    why: str
    told: str
    verdict: str


def what_to_do(evidence: Evidence, told: Findings) -> list[Advice]:
    """Every case, in the order in which a reader meets them."""
    rows: tuple[Callable[[Evidence, Findings], Advice], ...] = (
        any_application,
        may_write,
        only_reads,
        old_library,
        under_one_writer,
        above_one_writer,
        short_or_hot,
        several_machines,
        postgres,
    )
    return [row(evidence, told) for row in rows]


def usual(evidence: Evidence) -> Markdown:
    """What holds for every number of the table that says nothing else, and what its words mean."""
    pair = mode_pair(evidence) or (evidence.facts.headline and evidence.facts.headline.pair)
    parts = []
    if pair:
        arm = pair.candidate
        cells = [cell for cell in arm.usable if cell.counted and cell.manifest]
        cores = cores_of(arm)
        seconds = number(min((cell.counted.seconds for cell in cells if cell.counted), default=0))
        on = f"{times(cores, 'core')}, " if cores else ""
        rows = arm.field("rows")
        over = f" over {whole(rows)} rows" if rows and arm.field("keys") else ""
        parts.append(
            f"Where a row says nothing else: {on}{setting(arm)}{over}, synchronous "
            f"{str(arm.plan['synchronous']).upper()}, data in memory, windows of {seconds} s, "
            "every writer busy without pause."
        )
        parts.append(_meaning(arm, cores))
    asked = evidence.probes.get(STUDIED[0])
    if asked is not None and asked.identity is not None:
        parts.append(
            markdown(
                "{} is SQLite's begin-concurrent branch ({}), which no release has.",
                code(STUDIED[0]),
                asked.identity.version,
            )
        )
    parts.append("The mode alone: the same library, another BEGIN.")
    return Markdown(" ").join(parts)


def _meaning(arm: Arm, cores: int) -> str:
    """What the work inside a transaction is, and what the cores allow of it."""
    if not arm.field("think_us"):
        return ""
    if arm.field("think") == "sleep":
        return "Work inside is time asleep between BEGIN and COMMIT."
    most = f": {times(cores, 'core')} can do at most {cores} times what one does" if cores else ""
    return f"Work inside is CPU time between BEGIN and COMMIT{most}."


# --- which BEGIN ------------------------------------------------------------------------------


def any_application(evidence: Evidence, told: Findings) -> Advice:
    """Work inside the transaction is time in which nobody else writes."""
    key, case = "any", "Any application"
    rates = sorted(_one_writer(evidence).items())
    if len(rates) < 2:
        return _missing(key, case, "cwkit report", "numbers")
    (least, few), (most, many) = rates[0], rates[-1]
    one, other = few.estimate(), many.estimate()
    why = markdown(
        "{} commits {} ({}) and {} ({})",
        few.label,
        f"{one.text()} tx/s with {_inside(least)}",
        where(few),
        f"{other.text()} with {_inside(most)}",
        where(many),
    )
    if not (one.known and other.known):
        verdict, do = UNKNOWN, "Too few blocks say what work inside a transaction costs"
    elif one.low > other.high:
        verdict, do = MORE, "Keep work out of the transaction: compute before BEGIN or after COMMIT"
    elif one.high < other.low:
        verdict, do = LESS, "Work inside the transaction cost nothing here, which is odd: look why"
    else:
        verdict, do = NONE, "No cost of work inside the transaction was seen here"
    return Advice(key, case, do, why, "numbers", verdict)


def may_write(evidence: Evidence, told: Findings) -> Advice:
    """Which BEGIN for a request that reads, and then perhaps writes."""
    key, case, one = "may-write", "A request that may write", told.every["plain-begin"]
    if not one.measured:
        return _missing(key, case, one.command, one.key)
    if one.verdict == ACCEPTED:
        do = "Plain BEGIN or BEGIN IMMEDIATE: plain BEGIN was not refused here"
        return Advice(key, case, do, _why(one), one.key, ACCEPTED)
    slower = any(evidence.facts.verdict(row.pair) == MORE for row in evidence.facts.plain)
    do = "`BEGIN IMMEDIATE`, with a busy_timeout" + (
        ", although plain BEGIN commits more" if slower else ""
    )
    why = markdown("{}{}", _why(one, one.sentence), _waits(evidence))
    return Advice(key, case, ours(do), why, one.key, REFUSED)


def _waits(evidence: Evidence) -> str:
    """What waiting for the one writer costs: the longest wait where all write without pause."""
    by = {row.arm.system: row for row in served_alike(evidence)}
    row = by.get(CONTROL) or by.get(MODE_ALONE)
    if row is None:
        return ""
    least = "at least " * row.cut
    return markdown(
        "; where {} write without pause for {} s, one waited {} ({})",
        times(row.arm.writers, "writer"),
        number(round(row.seconds, 1)),
        f"{least}{duration(row.longest_ns)}",
        where(row.arm),
    )


def only_reads(evidence: Evidence, told: Findings) -> Advice:
    """Which BEGIN for a request that never writes."""
    key, case = "only-reads", "A request that only reads"
    found = [
        (arm, tally)
        for measured in evidence.experiments.values()
        for arm in measured.arms.values()
        if arm.writers and arm.plan["read_begin"] == "deferred" and arm.plan["scenario"] != "acked"
        if (tally := arm.tally("reader")) is not None and tally.finished
    ]
    if not found:
        return _missing(key, case, "cwkit run --writers 4 --readers 4", "numbers")
    arm, tally = found[0]
    refused = tally.abort_rate[1]
    why = markdown(
        "Of {} reads beside {} in {} {} were refused, the longest took {} ({})",
        whole(tally.finished),
        times(arm.writers, "writer"),
        begin_label(str(arm.plan["begin"])),
        percent(refused),
        duration(tally.longest_ns),
        where(arm),
    )
    do = "Plain `BEGIN`, or none"
    probe = evidence.probes.get("libsql")
    asked = probe.modes.get("immediate") if probe else None
    if asked is not None and asked.overlaps is False:
        do += ": BEGIN IMMEDIATE lets one in at a time"
    if refused:
        do += "; rerun what is refused"
    told_by = "mission" if told.place("mission") else "numbers"
    return Advice(key, case, ours(do), why, told_by, REFUSED if refused else ACCEPTED)


# --- a library that loses commits ---------------------------------------------------------------


def old_library(evidence: Evidence, told: Findings) -> Advice:
    """Is my library safe, how do I know, and what helps?"""
    key, found, finding = "old-library", evidence.facts.acked, "lost-commits"
    oldest = ".".join(map(str, FIXED))
    case = f"A library older than SQLite {oldest} (ask each process that checkpoints: "
    case = ours(case + "`SELECT sqlite_version()`)")
    if not found.groups:
        return _missing(key, case, "cwkit sweep acked", finding)
    if not found.losers:
        do = f"Nothing was lost here, which is no proof: use SQLite {oldest} or later all the same"
        return Advice(key, case, do, lost_commits.short(found), finding, NONE)
    new = [group for group in found.losers if may_lose(group.first.version) is False]
    helps = [] if new else cures(evidence)
    if new:
        names = listed(list(dict.fromkeys(group.first.short_name for group in new)))
        do = ours(f"Suspect the test, or a new bug: {names} lost commits, too")
    elif helps:
        do = f"Not safe {losing_place(evidence)}: use {either(helps)}"
    else:
        do = ours(
            f"Not safe {losing_place(evidence)}: use SQLite {oldest} or later. No cure "
            "was tried for long enough here; `cwkit sweep acked` does"
        )
    return Advice(key, case, do, _losses(found), finding, BROKEN)


def _losses(found: Acked) -> str:
    """Which library lost commits, how soon, under which condition; and the ordinary load."""
    first = found.losers[0].first
    where = (first.condition, first.synchronous)
    mine = [g for g in found.losers if (g.first.condition, g.first.synchronous) == where]
    each = [f"{group.first.short_name} after {seconds_of(group.losses)}" for group in mine]
    calm = found.of(ORDINARY)
    lost, of = (sum(getattr(g, name) for g in calm) for name in ("lost", "acknowledged"))
    lost += sum(group.unseen for group in calm)
    ordinary = (
        f"; under an ordinary load {whole(lost)} of {whole(of)} commits were lost" if calm else ""
    )
    if calm and not lost:
        # No bound: commits are no independent trials, they are lost where a log begins again.
        ordinary += ", which is no proof"
    return markdown(
        "Lost: {}; with {}, synchronous {}, no crash ({}){}",
        listed(each),
        *where,
        code(f"{mine[0].losses[0].experiment}/{mine[0].losses[0].run}"),
        ordinary,
    )


# --- when BEGIN CONCURRENT pays -----------------------------------------------------------------


def under_one_writer(evidence: Evidence, told: Findings) -> Advice:
    """Transactions that come at their own pace, slower than one writer could commit them."""
    key, one = "under", told.every["same-load"]
    case = f"Writes below what one writer can do{_most(evidence)}"
    if not one.measured:
        return _missing(key, case, "cwkit report", one.key)
    at: dict[str, list[str]] = {}
    which = "latency"
    for part in one.parts:
        which, _, level = part.name.partition(" at ")
        at.setdefault(part.verdict, []).append(level)
    shorter, longer = at.get(LESS, []), at.get(MORE, [])
    if shorter and longer:
        do = f"BEGIN IMMEDIATE at {listed(longer)} of it, BEGIN CONCURRENT at {listed(shorter)}"
    elif shorter and len(shorter) == len(one.parts):
        do = (
            f"{NOBODY}, does; where its {which} is too long, BEGIN CONCURRENT's is shorter at "
            f"{listed(shorter)} of it{_not_libsql(told)}"
        )
    elif shorter:
        do = f"{NOBODY}; only at {listed(shorter)} of it BEGIN CONCURRENT has the shorter {which}"
    elif longer:
        do = f"BEGIN IMMEDIATE: BEGIN CONCURRENT's {which} is longer at {listed(longer)} of it"
    elif at.get(NONE):
        do = f"{NOBODY}: no difference in {which} is claimed"
    else:
        do = f"{NOBODY}: too few blocks to say more"
    return Advice(key, case, do, _why(one, many=5), one.key, one.verdict)


def above_one_writer(evidence: Evidence, told: Findings) -> Advice:
    """More transactions than one writer can commit."""
    key, one = "above", told.every["mode"]
    case = f"Writes above what one writer can do{_most(evidence)}"
    if not one.measured:
        return _missing(key, case, "cwkit report", one.key)
    alone = "" if one.parts[0].name == "mode" else " (library and mode together)"
    do = {
        MORE: f"BEGIN CONCURRENT{_not_libsql(told)}; rerun what it refuses{alone}",
        LESS: f"Not BEGIN CONCURRENT, which commits less{alone}: shorten the transactions",
        NONE: f"Shorten the transactions: BEGIN CONCURRENT makes no claimed difference{alone}",
        UNKNOWN: f"Too few blocks to say whether BEGIN CONCURRENT helps{alone}: run more blocks",
    }[one.verdict]
    rows = evidence.facts.work_rows(baseline=MODE_ALONE)
    each = [f"{_inside(row.work_us)} {times_text(row.ratio)}" for row in rows]
    by_work = markdown("; by work inside, the mode alone: {}", ", ".join(each)) if each else ""
    why = markdown("{}{}{}{}", _why(one, many=1), by_work, _refused(told), _log(told))
    return Advice(key, case, do, why, one.key, one.verdict)


def _not_libsql(told: Findings) -> str:
    """Who has the mode, where libSQL has not."""
    refused = told.every["acceptance"].verdict == REFUSED
    return " (by a library that has it: libSQL refuses it)" if refused else ""


def _log(told: Findings) -> str:
    """What the mode does to the log, where it outgrows what is usual."""
    one = told.every["log"]
    if one.verdict != MORE or not one.numbers:
        return ""
    return markdown("; its write-ahead log: {} ({})", one.numbers[0], one.runs)


def _refused(told: Findings) -> str:
    one = told.every["cost"]
    return markdown("; {}", one.numbers[0]) if one.measured and one.numbers else ""


def short_or_hot(evidence: Evidence, told: Findings) -> Advice:
    """Transactions with nothing to overlap, or that all meet on one page."""
    key, case = "short-or-hot", "Short writes, or all on one page"
    by_work = evidence.facts.work_rows(baseline=MODE_ALONE)
    rows = [("no work inside", row.pair) for row in by_work if not row.work_us]
    rows += [(ONE_PAGE, row.pair) for row in evidence.facts.one_page]
    if not rows:
        return _missing(key, case, told.every["where-it-loses"].command, "where-it-loses")
    at: dict[str, list[str]] = {}
    for name, pair in rows:
        at.setdefault(evidence.facts.verdict(pair), []).append(name)
    says = {
        LESS: "BEGIN IMMEDIATE for {}: BEGIN CONCURRENT loses",
        MORE: "BEGIN CONCURRENT for {}: it commits more",
        NONE: "BEGIN IMMEDIATE for {}, where no difference is claimed",
        UNKNOWN: f"Too few blocks decide about {{}}: until then {NOBODY}",
    }
    do = "; ".join(says[verdict].format(listed(at[verdict])) for verdict in says if verdict in at)
    why = Markdown("; ").join(
        markdown("{} {} ({})", name, times_text(pair.ratio()), where(*pair)) for name, pair in rows
    )
    verdict = next(verdict for verdict in says if verdict in at)
    return Advice(key, case, do, why, "where-it-loses", verdict)


# --- elsewhere ----------------------------------------------------------------------------------


def several_machines(evidence: Evidence, told: Findings) -> Advice:
    """A server for several machines, and copies of its database in them."""
    key, case, served = "several-machines", "Several machines", evidence.served
    if served.problem:
        return Advice(key, case, "Not measured", said(served.problem), "server", MISSING)
    replica = served.ratio("read-replica", "read-local")
    server = served.ratio("read-remote", "read-local")
    verdict = verdict_of(served.ratio("read-remote", "read-replica"))

    def took(what: str, where: str) -> str:
        return duration(served.estimate(f"{what}-{where}").value)

    do = {
        MORE: "A replica where most requests read; each write still goes to the server",
        LESS: "The server: reading from it was no slower than a replica",
        NONE: "The server or a replica: no difference between their reads is claimed",
        UNKNOWN: "Too few blocks to choose between the server and a replica",
    }[verdict]
    why = markdown(
        "A read takes {} of a local file, {} of a replica ({} times) and {} at the server ({} "
        "times); a write {}, {} and {} ({}, one client over loopback: a network adds to it)",
        took("read", "local"),
        took("read", "replica"),
        replica.text(),
        took("read", "remote"),
        server.text(),
        *(took("write", place) for place in ("local", "replica", "remote")),
        code(served.place),
    )
    return Advice(key, case, do, why, "server", verdict)


def postgres(evidence: Evidence, told: Findings) -> Advice:
    """Another database altogether."""
    key, case = "postgres", "PostgreSQL instead"
    if (instead := postgres_instead(evidence)) is not None:
        return Advice(key, case, ours(instead.do), instead.why, "systems", instead.verdict)
    arms = [
        arm
        for measured in evidence.experiments.values()
        for arm in measured.arms.values()
        if "postgres" in arm.engine and arm.usable
    ]
    if not arms:
        why = markdown(
            "No run here has it; `cwkit sweep systems` and `cwkit sweep hops` measure it beside "
            "libSQL, `cwkit run --database postgres` runs it alone"
        )
        return Advice(key, case, "Not measured", why, "machine", MISSING)
    arm = arms[0]
    base = arm.measured.baseline
    rate = f"{arm.estimate().text()} tx/s"
    if base is None or base is arm or arm.measured.not_compared(arm, base):
        why = markdown("{}: {}, with nothing to compare it with ({})", arm.label, rate, where(arm))
        return Advice(key, case, "Measured, not compared", why, "numbers", UNKNOWN)
    pair = Pair(arm, base)
    ratio, verdict = pair.ratio(), evidence.facts.verdict(pair)
    do = {
        MORE: f"It commits more than {base.label} here",
        LESS: f"It commits less than {base.label} here",
        NONE: f"No difference to {base.label} is claimed here",
        UNKNOWN: f"Too few blocks to compare it with {base.label}",
    }[verdict]
    why = markdown("{}: {}, {} ({})", arm.label, rate, times_text(ratio), where(arm, base))
    return Advice(key, case, do, why, "numbers", verdict)


# --- worded -------------------------------------------------------------------------------------


def _missing(key: str, case: str, command: str, told: str) -> Advice:
    do = markdown("Not measured in these runs: run {}", code(command))
    return Advice(key, case, do, "nothing is known here", told, MISSING)


def _why(one: Finding, first: str = "", many: int = 2) -> str:
    """The numbers of a finding, and its runs."""
    parts = [part for part in (first, one.lead, *one.numbers[:many]) if part]
    said = Markdown("; ").join(parts)
    return markdown("{} ({})", said, one.runs) if one.runs else said


def times_text(ratio: Ratio) -> str:
    """So many times, with the interval; without one, in how many blocks it was on which side.

    >>> import numpy as np
    >>> times_text(Ratio(1.6, 1.5, 1.7, np.full(10, 1.6)))
    '1.60 [1.50, 1.70] times'
    >>> times_text(Ratio(0.5, np.nan, np.nan, np.array([0.45, 0.6])))
    '0.450 to 0.600 times (below 1 in 2 of 2 blocks, too few to claim)'
    """
    if ratio.known or not ratio.blocks:
        return f"{ratio.text()} times"
    return f"{ratio_text(ratio)} times ({in_blocks(ratio)})"


def _inside(work_us: float) -> str:
    return f"{number(work_us)} µs inside" if work_us else "no work inside"


def _one_writer(evidence: Evidence) -> dict[float, Arm]:
    """Work inside, µs -> the arm that shows what BEGIN IMMEDIATE commits: of one library, if it
    can be, the one without the mode that is studied.
    """
    for rows in (evidence.facts.work_rows(baseline=MODE_ALONE),
                 evidence.facts.work_rows(baseline=CONTROL)):  # fmt: skip
        if rows:
            return {row.work_us: row.pair.baseline for row in rows}
    return {}


def _most(evidence: Evidence) -> str:
    """What one writer can do on this machine, in brackets."""
    pair = mode_pair(evidence)
    if pair is None:
        return ""
    found = pair.baseline.estimate()
    work = float(pair.baseline.field("think_us") or 0)
    return f" (here {number(found.value)} tx/s with {_inside(work)})"
