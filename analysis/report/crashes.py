"""What a crash leaves: published campaigns of `cwkit crash`, by engine, mode and `synchronous`.

Every number is of a published campaign (analysis.report.published_crashes). Campaigns with a fault
of their own (a sync that lies) are controls and are told apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from analysis.report.charts import address_of
from analysis.report.evidence import Evidence
from analysis.report.finding import BROKEN, NONE, Finding, missing
from analysis.report.known import known_as
from analysis.report.markdown import (
    Markdown,
    address,
    code,
    listed,
    markdown,
    public_link,
)
from analysis.report.published_crashes import CrashRow, PublishedCrash
from analysis.statistics import abort_rate
from analysis.wording import Table, times, whole
from properties.known_faults import known_state

NAME = "crashes"
COMMAND = "cwkit crash --engine libsql --synchronous normal"
POWER = ("strict", "prefix", "reorder", "subset")
LISTED = 4


def measured(evidence: Evidence) -> list[PublishedCrash]:
    """Those that tell of an engine: without a fault of their own, and seen whole."""
    return [one for one in evidence.crashes if not one.fault and not one.unexplained]


def crashed(evidence: Evidence) -> Finding:
    """Does each engine keep after a crash what its level of synchronous promises?"""
    told = measured(evidence)
    if not told:
        return missing(NAME, "What a crash leaves of acknowledged commits", COMMAND)
    broken = [one for one in told if one.broken]
    states = sum(one.judged for one in told)
    engines = sorted({f"{one.engine} ({library(one)})" for one in told})
    effort = f"{whole(states)} crash states of {times(len(told), 'recorded run')}"
    if broken:
        worst, sentence = _worst(broken)
        names = sorted({_condition(one) for one in broken})
        seen = sum(row.broken.get(worst, 0) for one in broken for row in one.models)
        of = sum(one.judged for one in broken)
        numbers = [f"{worst}: {whole(seen)} of {whole(of)} states of these; {effort}"]
        known = {bug.name: bug for one in broken for words in one.first_broken.values()
                 if (bug := known_state(one.binding, one.version, words))}  # fmt: skip
        numbers += [markdown("known: {}, {}", bug.name, public_link(bug.public, "not reported"))
                    for bug in known.values()]  # fmt: skip
        return Finding(
            NAME,
            BROKEN,
            sentence,
            numbers=numbers,
            holds=_few(names),
            command=_command(broken[0]),
            grave=True,
            page=NAME,
        )
    numbers = [effort]
    normal = [(row.most_lost, one) for one in told
              if (one.synchronous, one.journal_mode) == ("normal", "wal")
              for row in one.models if row.model in POWER]  # fmt: skip
    most, loser = max(normal, key=lambda pair: pair[0], default=(0, None))
    if loser is not None and most:
        numbers.append(
            f"NORMAL lost up to {whole(most)} of {whole(loser.acknowledged)} acknowledged commits "
            f"({loser.engine}), as documented"
        )
    return Finding(
        NAME,
        NONE,
        "No crash state kept less than its level of synchronous promises",
        numbers=numbers,
        holds=_few(engines),
        command=COMMAND,
        sought=True,
        page=NAME,
    )


SENTENCES = {
    "lost": "After a crash an engine lacks commits that its level of synchronous promises to keep",
    "does not open": "After a crash an engine does not open its own database again",
}
"""Kind of fault -> what a crash leaves; the first of these that was seen is told."""


def _worst(broken: Sequence[PublishedCrash]) -> tuple[str, str]:
    """The kind of fault that is told, and its sentence."""
    kinds = Counter[str]()
    for one in broken:
        for row in one.models:
            kinds.update(row.broken)
    kind = next((kind for kind in SENTENCES if kinds[kind]), kinds.most_common(1)[0][0])
    usual = "After a crash an engine keeps less than its level of synchronous promises"
    return kind, SENTENCES.get(kind, usual)


def _condition(one: PublishedCrash) -> str:
    """What a campaign was of, in short."""
    beside = f", {times(one.checkpointers, 'checkpointer')}" * bool(one.checkpointers)
    journal = "" if one.journal_mode == "wal" else f", journal {one.journal_mode}"
    return f"{one.engine} ({one.begin}{beside}{journal}, synchronous {one.synchronous})"


def _command(one: PublishedCrash) -> str:
    if one.command:
        return one.command
    scenario = "" if one.scenario == "ledger" else f" --scenario {one.scenario}"
    level = "" if one.synchronous == "full" else f" --synchronous {one.synchronous}"
    return f"cwkit crash --engine {one.engine} --begin {one.begin}{scenario}{level}"


def library(one: PublishedCrash) -> str:
    """The binding with its version, and the version of the library."""
    binding = re.match(r"\S+ v?\d[\w.]*", one.binding)
    own = binding[0] if binding else one.binding
    return ", ".join(dict.fromkeys(filter(None, (own, one.version))))


def _few(names: Sequence[str]) -> Markdown:
    more = len(names) - LISTED
    return listed([*names[:LISTED], f"{more} more"] if more > 0 else names)


def answer(evidence: Evidence, data: Mapping[str, Any]) -> Markdown:
    """How many states were opened, and how many kept less than is promised."""
    told = measured(evidence)
    if not told:
        return markdown(
            "No crash was judged for this report; {} judges some, and {} has it told here.",
            code(COMMAND),
            code("cwkit crash --publish FOLDER"),
        )
    broken = sum(bool(one.broken) for one in told)
    return markdown(
        "{} in {} were opened by their engines; {}.",
        times(sum(one.judged for one in told), "crash state"),
        times(len(told), "recorded run"),
        f"in {broken} of the runs some kept less than is promised"
        if broken
        else "each kept what its level of synchronous promises",
    )


def section(evidence: Evidence, page: Path) -> dict[str, Any]:
    """The page as data for its template. page : its path, which links are seen from."""
    told = measured(evidence)
    return {
        "told": bool(told),
        "kept": _kept(told),
        "broken": _broken(told),
        "zeros": _zeros(told),
        "allowed": _allowed(told),
        "controls": _kept([one for one in evidence.crashes if one.fault]),
        "unseen": [
            markdown("{} {}: {}", code(one.engine), one.version, listed(one.unexplained[:3]))
            for one in evidence.crashes
            if one.unexplained
        ],
        "runs": _runs(evidence, page),
    }


def _ordered(told: Sequence[PublishedCrash]) -> list[PublishedCrash]:
    levels = {"full": 0, "extra": 1, "normal": 2, "off": 3}
    return sorted(
        told, key=lambda one: (one.engine, one.begin, one.checkpointers, levels[one.synchronous])
    )


def _kept(told: Sequence[PublishedCrash]) -> Table:
    """A row for each engine, mode and level: what was lost after a kill and after a power cut."""
    lines: list[tuple[str, ...]] = []
    for one in _ordered(told):
        kill = one.row("kill")
        power = [row for row in one.models if row.model in POWER]
        way = one.begin + (
            f", {times(one.checkpointers, 'checkpointer')}" * bool(one.checkpointers)
        )
        if one.scenario != "ledger":
            way += f", {one.scenario}"
        if one.journal_mode != "wal":
            way += f", journal {one.journal_mode}"
        lines.append((
            code(one.engine), library(one), f"{way}, {one.fault}" if one.fault else way,
            one.synchronous, whole(one.acknowledged),
            *_lost([kill] if kill else []), *_lost(power), whole(one.broken),
        ))  # fmt: skip
    lost = ("lost in", "most")
    head = ("engine", "binding, version", "BEGIN", "synchronous", "acknowledged", "kills", *lost,
            "power cuts", *lost, "broken promises")  # fmt: skip
    return Table(head, lines)


def _lost(rows: Sequence[CrashRow]) -> tuple[str, str, str]:
    return (
        whole(sum(row.states for row in rows)),
        whole(sum(row.lost_in for row in rows)),
        whole(max((row.most_lost for row in rows), default=0)),
    )


def _broken(told: Sequence[PublishedCrash]) -> list[Markdown]:
    return [
        markdown("{} {}, {}{}, synchronous {}: {}{} Repeat: {}", code(one.engine), one.version,
                 one.begin, "" if one.scenario == "ledger" else f", {one.scenario}",
                 one.synchronous, sentence.rstrip(".") + ".",
                 known_as(known_state(one.binding, one.version, sentence)), code(_command(one)))
        for one in _ordered(told)
        for sentence in one.first_broken.values()
    ]  # fmt: skip


def _zeros(told: Sequence[PublishedCrash]) -> list[str]:
    """What it means that no state of an engine at FULL broke anything."""
    full = sorted((one for one in told if one.synchronous == "full"), key=lambda one: one.engine)
    said = []
    for engine, group in groupby(full, key=lambda one: one.engine):
        ones = list(group)
        judged = sum(one.judged for one in ones)
        if judged and not any(one.broken for one in ones):
            least = int(1 / abort_rate(0, judged)[2])
            said.append(
                f"{engine}: none of {whole(judged)} states at FULL, so that at most one in "
                f"{whole(least)} that are drawn so does (95 %, as if each were drawn by itself)."
            )
    return said


def _allowed(told: Sequence[PublishedCrash]) -> Table:
    """What states at OFF and NORMAL showed, which is documented: kinds of damage."""
    lines = []
    for one in _ordered(told):
        seen: Counter[str] = Counter()
        for row in one.models:
            seen.update(row.allowed)
        if seen:
            power = sum(row.states for row in one.models if row.model in POWER)
            each = ", ".join(f"{kind} {whole(many)}" for kind, many in sorted(seen.items()))
            journal = "" if one.journal_mode == "wal" else f", journal {one.journal_mode}"
            way = f"{one.begin}{journal}"
            lines.append((code(one.engine), way, one.synchronous, whole(power), each))
    return Table(("engine", "BEGIN", "synchronous", "power cuts", "states that show"), lines)


def _runs(evidence: Evidence, page: Path) -> Table:
    """Each campaign, with a link to all that was published of it."""
    lines = []
    for one in _ordered(evidence.crashes):
        place = address_of(evidence.crashes_in / one.file, page)
        lines.append((
            markdown("[{}]({})", one.name, address(place)),
            one.started.partition("+")[0].replace("T", " "),
            str(one.seed), whole(one.writers), whole(one.records), whole(one.judged),
            whole(one.same), "interrupted" if one.interrupted else "done",
            f"{one.machine.cores} cores, {one.machine.kernel}",
        ))  # fmt: skip
    head = ("campaign", "began (UTC)", "seed", "writers", "records in its log", "states",
            "like another", "ended", "machine")  # fmt: skip
    return Table(head, lines)
