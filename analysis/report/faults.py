"""What faults do: published campaigns of `cwkit faults`, a row for each story of each engine.

Every number is of a published campaign (analysis.report.published_faults).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from analysis.report.charts import address_of
from analysis.report.evidence import Evidence
from analysis.report.finding import BROKEN, NONE, Finding, missing
from analysis.report.known import known_as
from analysis.report.markdown import Markdown, address, code, listed, markdown
from analysis.report.published_faults import ToldStory
from analysis.wording import DASH, Table, number, whole
from properties.known_faults import known_fault

NAME = "faults"
COMMAND = "cwkit faults --engine libsql"
LISTED, WORDS, MOST_WORD = 4, 2, 90
KILLS = "kill-"
"""Stories of this name kill processes: what strikes there is a kill."""


def newest(evidence: Evidence) -> list[ToldStory]:
    """Each story of each engine and mode once: as the campaign that began last told it."""
    last: dict[tuple[str, str, str], ToldStory] = {}
    for campaign in sorted(evidence.faults, key=lambda one: (one.started, one.name)):
        for one in campaign.stories:
            last[one.engine, one.begin, one.story] = one
    return list(last.values())


def struck(evidence: Evidence) -> Finding:
    """What do engines do with a call that fails, a process that dies, a disk that fills?"""
    told = [one for one in newest(evidence) if one.fired]
    if not told:
        return missing(NAME, "What engines do when a call fails or a process dies", COMMAND)
    found = [one for one in told if one.verdict == "finding"]
    many = "1 story" if len(told) == 1 else f"{whole(len(told))} stories"
    # What was done is a killed process here and a statement there: it is not added up.
    effort = f"{many}, beside {whole(sum(one.acknowledged for one in told))} acknowledged commits"
    if not found:
        return Finding(
            NAME,
            NONE,
            "Under no fault an engine lost, tore or doubled a transaction",
            numbers=[effort],
            holds=_few(sorted({one.engine for one in told})),
            command=COMMAND,
            sought=True,
            page=NAME,
        )
    sentence, worst = _worst(found)
    names = [f"{one.story} on {one.engine} ({one.begin})" for one in worst]
    others = len(found) - len(worst)
    return Finding(
        NAME,
        BROKEN,
        sentence,
        numbers=[f"{others} more with other findings; {effort}" if others else effort],
        holds=_few(names),
        command=f"cwkit faults --engine {worst[0].engine} --story {worst[0].story}",
        grave=any(one.lost or one.torn or one.doubled or one.integrity for one in found),
        page=NAME,
    )


def _worst(found: Sequence[ToldStory]) -> tuple[str, Sequence[ToldStory]]:
    """What is worst among the findings, as a sentence, and the stories that tell it."""
    if lost := [one for one in found if one.lost or one.torn or one.integrity]:
        return "Under a fault an engine loses or tears what it acknowledged", lost
    if doubled := [one for one in found if one.doubled]:
        return (
            "Under a fault an engine refuses a COMMIT and keeps it: a retry does it twice",
            doubled,
        )
    return "Under a fault an engine does what no application expects", found


def _few(names: Sequence[str]) -> Markdown:
    more = len(names) - LISTED
    return listed([*names[:LISTED], f"{more} more"] if more > 0 else names)


def answer(evidence: Evidence, data: Mapping[str, Any]) -> Markdown:
    """How many stories were told of how many engines, and in how many something was found."""
    told = newest(evidence)
    if not told:
        return markdown(
            "No faults were tried for this report; {} tries them, and {} has it told here.",
            code(COMMAND),
            code("cwkit faults --publish FOLDER"),
        )
    found = sum(one.verdict == "finding" for one in told)
    ways = len({(one.engine, one.begin) for one in told})
    silent = sum(not one.fired for one in told)
    return markdown(
        "{} stories of {}: {} with findings, {} in which no fault struck and nothing was tested.",
        whole(len(told)),
        "one engine and mode" if ways == 1 else f"{ways} engines and modes",
        whole(found),
        whole(silent),
    )


def section(evidence: Evidence, page: Path) -> dict[str, Any]:
    """The page as data for its template. page : its path, which links are seen from."""
    told = newest(evidence)
    sentences: dict[str, str] = {}
    for campaign in evidence.faults:
        sentences |= campaign.sentences
    ways = dict.fromkeys((one.engine, one.version, one.begin) for one in told if one.version)
    return {
        "told": bool(told),
        "stories": Table(
            ("story", "what is done"),
            [(code(name), text) for name, text in sentences.items()
             if any(one.story == name for one in told)],
        ),
        "matrix": matrix(told, list(sentences)),
        "kills": kills(told),
        "engines": [
            {
                "name": f"{engine} {version}, {begin}",
                "table": _table([o for o in told if (o.engine, o.begin) == (engine, begin)]),
            }
            for engine, version, begin in ways
        ],
        "found": [
            markdown("{} on {} {}, {}: {}{} Repeat: {}", code(one.story), one.engine, one.version,
                     one.begin, _cut(sentence, 400), known_as(known_fault(known)),
                     code(one.command or COMMAND))
            for one in told
            for sentence, known in [*zip_longest(one.found, one.known, fillvalue="")][:3]
        ],
        "campaigns": _campaigns(evidence, page),
    }  # fmt: skip


def matrix(told: Sequence[ToldStory], order: Sequence[str]) -> Table:
    """A row for each story, a column for each engine and mode: its verdict, and how often."""
    ways = list(dict.fromkeys((one.engine, one.begin) for one in told))
    there = {(one.engine, one.begin, one.story): one for one in told}
    names = [*order, *(one.story for one in told)]
    lines = []
    for name in dict.fromkeys(name for name in names if any(one.story == name for one in told)):
        lines.append((code(name), *(_cell(there.get((*way, name))) for way in ways)))
    return Table(("story", *(f"{engine}, {begin}" for engine, begin in ways)), lines)


def _cell(one: ToldStory | None) -> str:
    if one is None:
        return DASH
    if not one.fired:
        return "nothing tested"
    if one.calls:
        return f"{one.verdict}, {whole(one.calls_failed)} of {whole(one.calls)} calls"
    return f"{one.verdict}, {whole(one.fired)}"


def kills(told: Sequence[ToldStory]) -> Table:
    """What was left after the processes that were killed: of each engine and mode, and in all."""
    killed = [one for one in told if one.story.startswith(KILLS) and one.fired]
    ways = dict.fromkeys((one.engine, one.begin) for one in killed)
    lines = [
        (
            f"{engine}, {begin}",
            *_left([o for o in killed if (o.engine, o.begin) == (engine, begin)]),
        )
        for engine, begin in ways
    ]
    if len(lines) > 1:
        lines.append(("all", *_left(killed)))
    head = ("engine and mode", "kills", "acknowledged", "lost", "torn", "integrity",
            "longest block, ms")  # fmt: skip
    return Table(head, lines)


def _left(killed: Sequence[ToldStory]) -> tuple[str, ...]:
    blocks = [one.longest_block_ms for one in killed if one.longest_block_ms is not None]
    counts = [
        sum(getattr(one, field) for one in killed)
        for field in ("fired", "acknowledged", "lost", "torn", "integrity")
    ]
    return (*(whole(one) for one in counts), number(max(blocks)) if blocks else DASH)


def _table(told: Sequence[ToldStory]) -> Table:
    lines = []
    for one in told:
        words = sorted(one.errors.items(), key=lambda pair: -pair[1])[:WORDS]
        said = [f"“{_cut(text, MOST_WORD)}” {whole(many)}×" for text, many in words]
        said += [_cut(text, 2 * MOST_WORD) for text in (*one.told[:2], *one.untold[:1])]
        block = DASH if one.longest_block_ms is None else number(one.longest_block_ms)
        lines.append((
            code(one.story), one.verdict, whole(one.fired), whole(one.acknowledged),
            whole(one.lost), whole(one.torn), whole(one.doubled), whole(one.integrity), block,
            str(one.seed), "; ".join(said) or DASH,
        ))  # fmt: skip
    head = ("story", "verdict", "times done", "acknowledged", "lost", "torn", "doubled",
            "integrity", "longest block, ms", "seed", "the engine's words, and more")  # fmt: skip
    return Table(head, lines)


def _campaigns(evidence: Evidence, page: Path) -> Table:
    lines = []
    for one in evidence.faults:
        place = address(address_of(evidence.faults_in / one.file, page))
        began = one.started.partition("+")[0].replace("T", " ") or "not known"
        kind = "quick" if one.quick else "whole"
        name = markdown("[{}]({})", one.name, place)
        lines.append((name, began, whole(len(one.stories)), kind, one.machine or DASH))
    return Table(("campaign", "began (UTC)", "stories", "kind", "machine"), lines)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
