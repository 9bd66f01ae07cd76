"""What to do, for the user's own transactions: the table of `cwkit advise`, each row computed.

A row says what the runs say and claims no more than `cwkit compare` would: where two ways cannot be
told apart, so it says. A way whose checks broke is never advised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analysis.compare import Comparison
from analysis.counting import DOUBTFUL, FOREIGN_LIMIT, Arm, Wal, contamination, mebibytes
from analysis.report.advice_asked import ScriptNote
from analysis.report.advice_facts import SHARED, AdviceFacts, Group, Of, mode_text, total, way
from analysis.report.finding import in_blocks, ratio_text
from analysis.statistics import PERCENTILES
from analysis.wording import (
    DASH,
    Table,
    at_least,
    duration,
    listed,
    number,
    percent,
    times,
    whole,
)
from workloads.experiments import FAILED
from workloads.scenarios import Access, Twice

MORE, LESS, NONE, UNKNOWN, BROKEN, SAFE, UNSAFE, MISSING = (
    *("more", "less", "none", "unknown", "broken", "safe", "unsafe", "missing"),
)
"""Verdicts of a row: what is claimed of the first against the other, or of a check, or of a second
run. none : the two cannot be told apart."""

MOST_TABLES = 4
OUTGROWS = 2.0
"""Times its autocheckpoint: below it a log is as large as one should expect."""

TWICE_NOT_SEEN = (
    "Read from the scripts and the schema, and not run: what a trigger does, what the application "
    "does besides (a mail, another database), and values that it draws anew for a second try "
    "are not seen. A refused transaction (conflict) has done nothing and may always be run again; "
    "this is about a COMMIT whose answer was lost."
)


class Row(NamedTuple):
    """One row of the table. key : the same in every advice."""

    key: str
    case: str
    do: str
    why: str
    verdict: str


def advice_rows(facts: AdviceFacts) -> list[Row]:
    """Every row, in the order in which a reader meets them."""
    return [
        *(_script(facts, note) for note in facts.note.scripts),
        *_plain(facts),
        *_overlapping(facts),
        *_paced(facts),
        _refused_where(facts),
        *_twice(facts),
        _log(facts),
    ]


# --- which BEGIN for which script --------------------------------------------------------------


def _script(facts: AdviceFacts, note: ScriptNote) -> Row:
    """Which BEGIN for one script, by what it does and what was refused."""
    key, case = f"script:{note.name}", f"{note.name}: {_does(note)}"
    refused = _refused_by_way(facts, note)
    if note.role == "reader":
        if note.writes:
            do = "Give it without :reader: it writes, and readers are run in plain BEGIN"
            return Row(key, case, do, refused, UNKNOWN)
        together = total(_of(facts, arm, note) for arm in facts.main.arms.values())
        do = "Plain BEGIN, or none" + ("; rerun what is refused" if together.refused else "")
        many = facts.main.writers
        why = f"{whole(together.refused)} of {whole(together.finished)} were refused"
        why += f" beside {times(many, 'writer')}, in all ways together"
        return Row(key, case, do, why, NONE if together.refused else SAFE)
    if not note.transactions:
        why = "it has no BEGIN: each of its statements commits by itself, whatever the mode"
        return Row(key, case, "As it is: no mode applies to it", why, NONE)
    if note.shape == Access.READS:
        do = "Plain BEGIN; give it as :reader"
        why = "it writes nothing, and in BEGIN IMMEDIATE it waits for the one write lock; here it "
        why += "was run in the writers' mode"
        return Row(key, case, do, why, NONE)
    do, verdict = _mode_for(facts, note)
    if verdict in (BROKEN, MISSING):
        refused = _unfit(facts, facts.main.base)[1]
    return Row(key, case, do, refused, verdict)


def _mode_for(facts: AdviceFacts, note: ScriptNote) -> tuple[str, str]:
    """The mode for a script that writes, and whether another than the usual one is claimed."""
    base = facts.main.base
    winners = [arm for arm in _candidates(facts, facts.main) if _wins(facts, facts.main, arm)]
    own = next((arm for arm in winners if arm.engine == base.engine), None)
    do = mode_text(own.begin if own else base.begin)
    if own is None and base.begin == SHARED:
        if not facts.sound(base):
            why, _, verdict = _unfit(facts, base)
            return f"Not {way(base)}: {why}", verdict
        if note.shape == Access.WRITES_FIRST:
            do += " (plain BEGIN does the same: its first statement takes the write lock)"
        else:
            do += ", with a busy timeout: plain BEGIN's write is refused at once if others wrote"
    others = [way(arm) for arm in winners if arm is not own]
    if others:
        do += f"; {listed(others, 'or')} commits more, see below"
    return do, MORE if winners else NONE


def _does(note: ScriptNote) -> str:
    parts = [str(note.shape)]
    if note.shape != Access.READS and note.reads:
        parts.append(f"reads {_tables(note.reads)}")
    if note.shape == Access.READS:
        parts[0] += f" {_tables(note.reads)}" if note.reads else ""
    if note.writes:
        parts.append(f"writes {_tables(note.writes)}")
    return "; ".join(parts)


def _tables(names: Sequence[str]) -> str:
    left = len(names) - MOST_TABLES
    more = [f"{left} more"] if left > 0 else []
    return listed([*names[:MOST_TABLES], *more])


def _of(facts: AdviceFacts, arm: Arm, note: ScriptNote) -> Of:
    return facts.looked[arm.name].scripts.get((note.role, note.name), Of())


def _refused_by_way(facts: AdviceFacts, note: ScriptNote) -> str:
    """The share of its attempts that each way refused."""
    seen = {way(arm): _of(facts, arm, note) for arm in facts.main.arms.values()}
    ended = {name: of for name, of in seen.items() if of.finished}
    if not ended:
        return "no attempt of it ended"
    lost = [f"{name} {percent(of.share)}" for name, of in ended.items() if of.refused]
    if not lost:
        return "none of its attempts was refused, in any way"
    rest = "; in the others none" if len(lost) < len(ended) else ""
    return f"of its attempts were refused: {', '.join(lost)}{rest}"


# --- the modes ----------------------------------------------------------------------------------


def _candidates(facts: AdviceFacts, group: Group) -> list[Arm]:
    """The ways besides the baseline that are neither plain BEGIN nor another library's
    IMMEDIATE.
    """
    return [
        arm
        for arm in group.arms.values()
        if arm is not group.base and arm.begin not in ("deferred", SHARED)
    ]


def _wins(facts: AdviceFacts, group: Group, arm: Arm) -> bool:
    return facts.sound(arm) and facts.verdict(arm, group.base) == MORE


def _plain(facts: AdviceFacts) -> list[Row]:
    """Plain BEGIN for all writers, on the application's own engine."""
    out = []
    for group in facts.closed:
        arm = group.of(group.base.engine, "deferred")
        if arm is None or group.base.begin != SHARED:
            continue
        case = f"Plain BEGIN for all writers{_many(facts, group)}"
        key = f"plain:{group.writers}"
        if not facts.sound(arm):
            unfit, evidence, verdict = _unfit(facts, arm)
            out.append(Row(key, case, f"Not plain BEGIN: {unfit}", evidence, verdict))
            continue
        verdict = facts.verdict(arm, group.base)
        if verdict == UNKNOWN and not facts.sound(group.base):
            out.append(_held_against_nothing(facts, group, key, case))
            continue
        refused = total(counts_of(facts, arm).values())
        price = ", if you rerun what it refuses" if refused.refused else ""
        do = {
            MORE: f"It commits more than BEGIN IMMEDIATE here{price}",
            LESS: "BEGIN IMMEDIATE: plain BEGIN commits less",
            NONE: "BEGIN IMMEDIATE: no gain of plain BEGIN can be told",
            UNKNOWN: "BEGIN IMMEDIATE, until more blocks say more",
        }[verdict]
        why = f"It commits {_ratio(facts, arm, group.base)}{_price(facts, group, arm)}"
        out.append(Row(key, case, do, why, verdict))
    return out


def _overlapping(facts: AdviceFacts) -> list[Row]:
    """Modes that let write transactions overlap, where the writers never pause."""
    out = []
    for group in facts.closed:
        for arm in _candidates(facts, group):
            key = f"mode:{way(arm)}:{group.writers}"
            case = f"More writes than one writer can do: {way(arm)}{_many(facts, group)}"
            if not facts.sound(arm):
                unfit, evidence, verdict = _unfit(facts, arm)
                out.append(Row(key, case, f"Not {way(arm)}: {unfit}", evidence, verdict))
                continue
            verdict = facts.verdict(arm, group.base)
            if verdict == UNKNOWN and not facts.sound(group.base):
                out.append(_held_against_nothing(facts, group, key, case))
                continue
            do = {
                MORE: f"{way(arm)} commits more; rerun what it refuses",
                LESS: f"Not {way(arm)}, which commits less",
                NONE: f"Stay: {way(arm)} cannot be told apart from {way(group.base)}",
                UNKNOWN: "Too few blocks to say: run more",
            }[verdict]
            why = f"It commits {_ratio(facts, arm, group.base)}{_alone(facts, group, arm)}"
            why += _price(facts, group, arm)
            out.append(Row(key, case, do, why, verdict))
    return out


def _paced(facts: AdviceFacts) -> list[Row]:
    """The same at the application's own rate, where latency is what can be gained."""
    out = []
    for group in facts.groups:
        if not group.rate:
            continue
        at = f"At {number(group.rate)} writes a second"
        out.append(_rate_kept(facts, group, at))
        for arm in _candidates(facts, group):
            key, case = _rate_key(group, arm), f"{at}: {way(arm)}{_many(facts, group)}"
            if not facts.sound(arm):
                unfit, evidence, verdict = _unfit(facts, arm)
                out.append(Row(key, case, f"Not {way(arm)}: {unfit}", evidence, verdict))
                continue
            tail = facts.tail(group)
            verdict = facts.verdict(arm, group.base, tail)
            do = {
                LESS: f"{way(arm)} has the shorter {tail}",
                MORE: f"{way(group.base)}: the {tail} of {way(arm)} is longer",
                NONE: f"{way(group.base)}: the two cannot be told apart by their {tail}",
                UNKNOWN: f"{way(group.base)}: too few blocks, or too few transactions in them",
            }[verdict]
            why = f"{tail} {_ratio(facts, arm, group.base, tail)}{_price(facts, group, arm)}"
            out.append(Row(key, case, do, why, verdict))
    return out


def _rate_key(group: Group, arm: Arm) -> str:
    return f"rate:{way(arm)}:{group.writers}"


def _rate_kept(facts: AdviceFacts, group: Group, at: str) -> Row:
    """Whether the application's own way keeps up with the rate."""
    base = group.base
    cells = [cell for cell in base.cells if cell.counted is not None]
    unmet = [cell for cell in cells if cell.unmet]
    tail = facts.tail(group)
    key, case = _rate_key(group, base), f"{at}: {way(base)}{_many(facts, group)}"
    if not cells:
        return Row(key, case, "Not measured", _failed(base), MISSING)
    if unmet:
        why = (
            f"in {len(unmet)} of {times(len(cells), 'run')} the rate was not met: {unmet[0].unmet}"
        )
        return Row(key, case, "It does not keep up", why, LESS)
    return Row(
        _rate_key(group, base),
        case,
        "It keeps up",
        f"the rate was met in every run; {tail} {_percentile(base, tail)}",
        SAFE,
    )


def _many(facts: AdviceFacts, group: Group) -> str:
    """The number of writers, where several were tried."""
    return f" ({times(group.writers, 'writer')})" if len(facts.closed) > 1 else ""


def _ratio(facts: AdviceFacts, arm: Arm, base: Arm, measure: str = "throughput") -> str:
    """The ratio, what may be claimed of it, and the smallest difference that could have been."""
    found = facts.told(arm, base, measure)
    if found is None or not found.ratio.blocks:
        return f"{DASH} (no block has it and {way(base)})"
    text = f"{ratio_text(found.ratio)} times "
    text += f"as much as {way(base)}" if measure == "throughput" else f"that of {way(base)}"
    if not found.ratio.known:
        return f"{text} ({in_blocks(found.ratio)})"
    verdict = facts.verdict(arm, base, measure)
    if verdict != NONE:
        return text
    return f"{text} ({found.verdict}{_least(found)})"


def _least(found: Comparison) -> str:
    least = found.smallest
    return f"; {percent(least)} is the least that could have been claimed" if least < 10 else ""


def _alone(facts: AdviceFacts, group: Group, arm: Arm) -> str:
    """The mode alone: the same library in BEGIN IMMEDIATE."""
    alone = group.of(arm.engine, SHARED)
    if alone is None or alone is group.base:
        return ""
    return f"; the mode alone {_ratio(facts, arm, alone)}"


def _price(facts: AdviceFacts, group: Group, arm: Arm) -> str:
    """What it costs: refusals, the tail, the log."""
    parts = []
    first = arm.shown.refused("writer", first=True)
    if first.blocks:
        parts.append(f"{percent(first.value)} of first tries refused")
    tail, base = facts.tail(group), group.base
    told = TAIL_VERDICTS[facts.verdict(arm, base, tail)]
    parts.append(f"{tail} {_percentile(arm, tail)} against {_percentile(base, tail)} ({told})")
    wal = log_of(arm)
    if wal is not None and wal.times >= OUTGROWS:
        parts.append(f"its log grew to {mebibytes(wal.bytes_max)}")
    return "; " + "; ".join(parts)


def _percentile(arm: Arm, name: str) -> str:
    values = arm.shown.percentiles("writer")[PERCENTILES.index(name)]
    return at_least(float(values[1]), float(values[3]))


def _broke(facts: AdviceFacts, arm: Arm) -> str:
    found = [one for one in facts.broken if one.arm == arm.name]
    return "; ".join(
        f"{one.check} in {one.runs} of {times(one.of, 'run')}: {one.sentence}" for one in found[:2]
    )


def _unfit(facts: AdviceFacts, arm: Arm) -> tuple[str, str, str]:
    """Of a way that may not be advised: why, what was seen, and the verdict."""
    if facts.breaks(arm):
        return "its checks broke", _broke(facts, arm), BROKEN
    ran = any(cell.state == FAILED for cell in arm.cells)
    return ("its runs failed" if ran else "it did not run"), _failed(arm), MISSING


def _held_against_nothing(facts: AdviceFacts, group: Group, key: str, case: str) -> Row:
    """Where the first way, which all others are held against, has no run that can be used."""
    why, evidence, _ = _unfit(facts, group.base)
    return Row(key, case, f"Cannot be told: of {way(group.base)} {why}", evidence, UNKNOWN)


def _failed(arm: Arm) -> str:
    whys = [cell.failure for cell in arm.cells if cell.failure]
    return whys[0] if whys else "no run of it is there"


# --- refusals, a second run, the log ------------------------------------------------------------


def _refused_where(facts: AdviceFacts) -> Row:
    """The tables and indexes that refused commits met, by the engine's own account."""
    key, case = "refused", "What the refused transactions met"
    met: Counter[str] = Counter()
    logged, ways = 0, []
    for group in facts.groups:
        for arm in group.arms.values():
            looked = facts.looked[arm.name]
            if looked.met:
                met.update(looked.met)
                logged += looked.logged
                ways.append(way(arm))
    if not met:
        losing = [arm for arm in facts.main.arms.values() if _lost(facts, arm)]
        lost = [way(arm) for arm in losing]
        if lost and all(arm.begin == "deferred" for arm in losing):
            do = "No table: plain BEGIN's write is refused for any commit since its first read"
            return Row(key, case, do, f"refused by {listed(lost)} alone", NONE)
        if not lost:
            return Row(key, case, "Nothing: no transaction was refused", "in no way, in no run",
                       NONE)  # fmt: skip
        why = f"refused by {listed(lost)}, whose engines name no table"
        return Row(key, case, "Not known: no engine here says it", why, UNKNOWN)
    top = met.most_common(4)
    each = [f"{thing} {percent(many / logged)}" for thing, many in top]
    writers = _writers_of(facts, top[0][0])
    by = f", which {listed(writers)} {'write' if len(writers) > 1 else 'writes'}" if writers else ""
    do = f"Look at {top[0][0]} first{by}"
    if top[0][0].startswith("index "):
        do += ": each change of an indexed column touches its pages, too"
    why = f"of {whole(logged)} refused commits of {listed(list(dict.fromkeys(ways)))}: "
    return Row(key, case, do, why + ", ".join(each), MORE)


def _lost(facts: AdviceFacts, arm: Arm) -> bool:
    return any(of.refused for of in facts.looked[arm.name].scripts.values())


def _writers_of(facts: AdviceFacts, thing: str) -> list[str]:
    """The scripts that write a table, or the table of an index: "index TABLE.NAME"."""
    table = thing.partition(" ")[2].partition(".")[0].lower()
    return [note.name for note in facts.note.scripts if table in note.writes]


def _twice(facts: AdviceFacts) -> list[Row]:
    """Whether each script that writes may be run again where a COMMIT's answer was lost."""
    out = []
    for note in facts.note.scripts:
        if not note.writes and note.twice != Twice.UNKNOWN:
            continue
        do, verdict = {
            Twice.SAME: ("Run it again: it leaves what the first run left", SAFE),
            Twice.REFUSED: ("Run it again, and take its key's error for done already", SAFE),
            Twice.AGAIN: ("Do not run it again unasked: look first whether it is done", UNSAFE),
            Twice.UNKNOWN: ("Cannot be told: look into it", UNKNOWN),
        }[Twice(note.twice)]
        why = note.why
        if not note.whole and verdict == SAFE:
            do, verdict = "Look first how far it came: it is no single transaction", UNSAFE
        out.append(Row(f"twice:{note.name}", f"{note.name}, its COMMIT's answer lost", do, why,
                       verdict))  # fmt: skip
    return out


def log_of(arm: Arm) -> Wal | None:
    """The largest log of an arm's runs."""
    found = [cell.counted.wal for cell in arm.cells if cell.counted and cell.counted.wal]
    return max(found, key=lambda wal: wal.bytes_max, default=None)


def _log(facts: AdviceFacts) -> Row:
    """Whether the log outgrows its autocheckpoint, and what keeps it from beginning again."""
    key, case = "log", "The write-ahead log"
    found = {way(arm): wal for arm in facts.main.arms.values() if (wal := log_of(arm))}
    if not found:
        return Row(key, case, "Nothing: no log of SQLite's format was there", DASH, MISSING)
    window = min((c.counted.seconds for a in facts.main.arms.values() for c in a.cells
                  if c.counted), default=0.0)  # fmt: skip
    grown = {name: wal for name, wal in found.items() if wal.times >= OUTGROWS}
    if not grown:
        most = max(found.values(), key=lambda wal: wal.times)
        why = f"at most {number(most.times)} times its autocheckpoint"
        return Row(key, case, f"Nothing: it stays small in {number(window)} s", why, SAFE)
    name, largest = max(grown.items(), key=lambda item: item[1].bytes_max)
    why = f"in {number(window)} s: {name} {_grew(largest)}"
    if others := [other for other in grown if other != name]:
        why += f"; also {listed(others)}, to {number(OUTGROWS)} times theirs or more"
    if largest.why:
        why += f". {largest.why[0].upper()}{largest.why[1:]}"
    return Row(key, case, _against_growth(largest.why), why, MORE)


def _against_growth(why: str) -> str:
    """What helps, by what kept the log from beginning again (analysis.counting.wal_growth)."""
    if why.startswith("nothing checkpointed"):
        return "Have it checkpointed: nobody does"
    if "reader was always open" in why or why.startswith("readers were open"):
        return "Readers pin it: keep them short, with moments when none is open"
    if why.startswith("some transaction was always open"):
        return "Leave moments in which no transaction is open, readers and writers"
    return "Watch its size: it begins again only when nobody reads from it"


def _grew(wal: Wal) -> str:
    again = "" if wal.restarts is None else f", begun again {times(wal.restarts, 'time')}"
    return f"{mebibytes(wal.bytes_max)} ({number(wal.times)} times its autocheckpoint{again})"


# --- the numbers --------------------------------------------------------------------------------

TAIL_VERDICTS = {MORE: "longer", LESS: "shorter", NONE: "not told apart", UNKNOWN: "too few blocks"}
VERDICTS = {MORE: "more", LESS: "less", NONE: "not told apart", UNKNOWN: "too few blocks"}


def ways_table(facts: AdviceFacts, group: Group) -> Table:
    """Every way of one load with its numbers. ratio : to the first. first refused : of first tries
    the share that was refused.
    """
    tail = facts.tail(group)
    head = ("engine", "begins", "committed/s", "ratio", "claimed", "first refused", tail, "longest",
            "log")  # fmt: skip
    rows = []
    for arm in group.arms.values():
        found = facts.told(arm, group.base)
        first = arm.shown.refused("writer", first=True)
        wal = log_of(arm)
        told = VERDICTS[facts.verdict(arm, group.base)] if found is not None else DASH
        rows.append(
            (
                *(arm.engine, mode_text(arm.begin)),
                arm.shown.estimate().text() + f" {DOUBTFUL}" * bool(arm.doubtful),
                DASH if found is None else ratio_text(found.ratio) if found.ratio.blocks else DASH,
                "checks broke" if facts.breaks(arm) else told,
                percent(first.value) if first.blocks else DASH,
                _percentile(arm, tail),
                duration(float(arm.shown.percentiles("writer")[-1, 1])),
                mebibytes(wal.bytes_max) if wal else DASH,
            )
        )
    return Table(head, rows)


def in_short(facts: AdviceFacts) -> str:
    """All of it in one sentence: where the writers never pause."""
    group = facts.main
    base = group.base
    winners = [arm for arm in group.arms.values() if arm is not base and _wins(facts, group, arm)]
    if winners:
        each = []
        for arm in winners:
            found = facts.told(arm, base)
            ratio = ratio_text(found.ratio) if found else DASH
            each.append(f"{way(arm)} commits {ratio} times as much")
        safe = way(base) if facts.sound(base) else "nothing that was measured on it"
        return f"In short: {listed(each)}; on {base.engine} as it is, {safe} for what writes."
    if not facts.sound(base):
        return f"In short: {way(base)}, which you would have now, did not pass; see why below."
    rivals = [arm for arm in group.arms.values() if arm is not base and facts.sound(arm)]
    if rivals and all(facts.verdict(arm, base) == UNKNOWN for arm in rivals):
        return "In short: too few blocks to choose by speed; refusals and checks are told below."
    return f"In short: {way(base)} for what writes; no other way here is claimed to commit more."


def load_sentence(group: Group) -> str:
    """The load of a group, as a heading."""
    writers = times(group.writers, "writer")
    if not group.rate:
        return f"{writers} without pause:"
    return f"{writers}, {number(group.rate)} transactions due a second:"


def broken_lines(facts: AdviceFacts) -> list[str]:
    """Checks that did not hold: told before anything else."""
    return [
        f"BROKEN  {one.arm}: {one.check}, in {one.runs} of {times(one.of, 'run')}, the first "
        f"{one.folder}: {one.sentence}"
        for one in facts.broken
    ]


def doubtful_lines(facts: AdviceFacts) -> list[str]:
    """What is against all numbers: that runs count which would not by the usual limit of others'
    CPU time, and that the control differs from itself; [] where nothing is.
    """
    cells = [cell for cell in facts.measured.cells.values() if cell.manifest is not None]
    busy = [
        cell for cell in cells if cell.manifest and contamination(cell.manifest) and cell.usable
    ]
    lines = []
    if busy:
        many = f"{len(busy)} of {times(len(cells), 'run')}"
        line = f"DOUBTFUL: in {many} others used more of the machine than the usual limit of "
        lines.append(f"{line}{percent(FOREIGN_LIMIT)}; --foreign-limit let them count.")
    for one, again in facts.measured.twins:
        ratio = facts.measured.ratio(again, one)
        if ratio.known and not ratio.holds(1.0):
            lines.append(
                f"DOUBTFUL: {way(one)}, run again, commits {ratio_text(ratio)} times as much as "
                "itself; nothing smaller is claimed below. Measure on a quieter machine."
            )
    return lines


def asked_lines(facts: AdviceFacts) -> list[str]:
    """What engines refused, in their own words, and what was not measured."""
    words: dict[tuple[str, str], list[str]] = {}
    for one in facts.note.refused:
        words.setdefault((one.mode, one.words), []).append(one.engine)
    lines = [f"{mode} refused by {listed(names)}: {text}" for (mode, text), names in words.items()]
    whys: dict[str, list[str]] = {}
    for left in facts.note.left_out:
        whys.setdefault(left.why, []).append(left.what)
    return lines + [f"not measured: {listed(whats)}: {why}" for why, whats in whys.items()]


def counts_of(facts: AdviceFacts, arm: Arm) -> Mapping[str, Of]:
    """The attempts of each script of the writers in an arm's runs."""
    return {name: of for (role, name), of in facts.looked[arm.name].scripts.items()
            if role == "writer"}  # fmt: skip
