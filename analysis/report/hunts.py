"""What the hunter found: hunts added up by engine and version, and the findings that have a script.

Every number is of published hunts (analysis.report.published_hunts). Nothing of them is played
again here: `cwkit fuzz --replay` does that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from analysis.report.charts import address_of
from analysis.report.evidence import Evidence
from analysis.report.finding import BROKEN, NONE, Finding, few_words, missing
from analysis.report.markdown import ADDRESS, Markdown, address, code, listed, markdown
from analysis.report.published_hunts import HuntedFinding, KitFinding, PublishedHunt
from analysis.statistics import abort_rate
from analysis.wording import DASH, Table, number, times, whole

NAME = "hunts"
COMMAND = "cwkit fuzz --engine turso"
SHOWN_PAIRS, MOST_ITEMS, MOST_ROWS = 6, 24, 300
LISTED, MOST_WORDS_OF_A_NAME = 3, 8
"""So many engines are named in a sentence, and so many words of each are shown."""

NAMED = re.compile(r"[\w@.:/-]{1,80}")
"""An engine's name as somebody types it."""


@dataclass(frozen=True)
class Hunted:
    """The hunts of one engine and version, added up. hunts : at least one, the newest last."""

    hunts: Sequence[PublishedHunt]

    @property
    def engine(self) -> str:
        return self.hunts[-1].engine

    @property
    def binding(self) -> str:
        return self.hunts[-1].identity[0]

    @property
    def version(self) -> str:
        return self.hunts[-1].identity[1]

    @property
    def label(self) -> str:
        """The engine with the versions of its binding and its library, for a sentence."""
        binding = re.match(r"\S+ v?\d[\w.]*", self.binding)
        each = [binding[0] if binding else self.binding, self.version]
        own = f" ({', '.join(filter(None, each))})" if not self.pinned else ""
        return few_words(_cut(f"{self.engine}{own}", 100), MOST_WORDS_OF_A_NAME)

    @property
    def pinned(self) -> bool:
        """Whether an older version was asked for by its number."""
        return "@" in self.engine

    @property
    def worked_s(self) -> float:
        return sum(hunt.worked_s for hunt in self.hunts)

    @property
    def programs(self) -> int:
        return sum(hunt.programs for hunt in self.hunts)

    @property
    def unsure(self) -> int | None:
        """Programs that were not judged to the end, None where a hunt did not count them."""
        counts = [hunt.unsure for hunt in self.hunts if hunt.unsure is not None]
        return sum(counts) if len(counts) == len(self.hunts) else None

    @cached_property
    def findings(self) -> dict[str, tuple[PublishedHunt, HuntedFinding]]:
        """Each once, by its name, with the hunt that found it first."""
        found: dict[str, tuple[PublishedHunt, HuntedFinding]] = {}
        for hunt in self.hunts:
            for one in hunt.findings:
                found.setdefault(one.name, (hunt, one))
        return found

    @property
    def unknown(self) -> list[HuntedFinding]:
        """Those that are no known deviation, nor one that has a script of the kit's."""
        return [one for hunt, one in self.findings.values() if one.name not in hunt.known_by_now]

    @cached_property
    def known(self) -> Counter[str]:
        """Known deviation -> times that it was met, and findings that are it by now."""
        seen: Counter[str] = Counter()
        for hunt in self.hunts:
            seen.update(hunt.known)
        for hunt, one in self.findings.values():
            if bug := hunt.known_by_now.get(one.name):
                seen[bug] += 1
        return seen

    @cached_property
    def pairs(self) -> Counter[tuple[str, str]]:
        met: Counter[tuple[str, str]] = Counter()
        for hunt in self.hunts:
            for one, other, count in hunt.pairs:
                met[one, other] += count
        return met

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of operation that were under way beside another one."""
        return sorted({kind for pair in self.pairs for kind in pair})

    @property
    def never(self) -> int:
        """Pairs of those kinds, of which some are of one kind twice, that never met."""
        return len(self.kinds) * (len(self.kinds) + 1) // 2 - len(self.pairs)


def added_up(hunts: Sequence[PublishedHunt]) -> list[Hunted]:
    """The hunts by engine and version: those of the newest releases first."""

    def key(hunt: PublishedHunt) -> tuple[Any, ...]:
        return "@" in hunt.engine, hunt.engine, *hunt.identity[:2]

    ordered = sorted(hunts, key=lambda hunt: (*key(hunt), hunt.started, hunt.name))
    return [Hunted(list(group)) for _, group in groupby(ordered, key)]


def newest(rows: Sequence[Hunted]) -> list[Hunted]:
    """Of each engine that was hunted without a version's number, the version hunted last."""
    last: dict[str, Hunted] = {}
    for row in rows:
        before = last.get(row.engine)
        if not row.pinned and (not before or before.hunts[-1].started <= row.hunts[-1].started):
            last[row.engine] = row
    return list(last.values())


def standing(row: Hunted, found: Sequence[KitFinding]) -> list[KitFinding]:
    """The kit's findings in just this version that stand with the bare driver."""
    return [
        one
        for one in found
        if one.stands and (one.kept.binding, one.kept.version) == (row.binding, row.version)
    ]


# --- sentences ------------------------------------------------------------------------------------


def hunted(evidence: Evidence) -> Finding:
    """What does an engine get wrong that nobody has looked for?"""
    rows = newest(added_up(evidence.hunts))
    if not rows:
        return missing(NAME, "What engines get wrong that nobody has looked for", COMMAND)
    stand = [(row, standing(row, evidence.found)) for row in rows]
    names = {one.name for _, ones in stand for one in ones}
    most = max(stand, key=lambda pair: len(pair[1]))[0]
    effort = f"{_programs(rows)} in {_hours(rows)}"
    command = f"cwkit fuzz --engine {most.engine if NAMED.fullmatch(most.engine) else 'NAME'}"
    if not names:
        return Finding(
            NAME,
            NONE,
            "The hunter has no finding in the newest releases that stands with the bare driver, "
            "which is no proof that there is none",
            numbers=[effort],
            holds=_few([row.label for row in rows]),
            command=command,
            sought=True,
            page=NAME,
        )
    new = _unreported(stand)
    several = "findings of the hunter stand" if len(names) > 1 else "finding of the hunter stands"
    return Finding(
        NAME,
        BROKEN,
        f"In the newest releases {len(names)} {several} with the bare driver",
        numbers=[f"{new} of them with no public report that was found; {effort}"],
        holds=_few([f"{len(ones)} in {row.label}" for row, ones in stand if ones]),
        command=command,
        grave=True,
        page=NAME,
    )


def answer(evidence: Evidence, data: Mapping[str, Any]) -> Markdown:
    """How many findings in the newest releases stand, over how many programs and hours."""
    rows = newest(added_up(evidence.hunts))
    if not rows and not evidence.hunts:
        return markdown(
            "Nothing was hunted for this report; {} hunts, and {} has it told here.",
            code(COMMAND),
            code("cwkit fuzz --publish FOLDER"),
        )
    if not rows:
        return markdown(
            "Only versions asked for by their number were hunted, no newest release: {} in {}.",
            _programs(added_up(evidence.hunts)),
            _hours(added_up(evidence.hunts)),
        )
    stand = [(row, standing(row, evidence.found)) for row in rows]
    names = {one.name for _, ones in stand for one in ones}
    each = [f"{len(ones)} in {row.label}" for row, ones in stand if ones]
    more = sum(len(row.unknown) for row in rows)
    return markdown(
        "{} in the newest releases {} with the bare driver{}, over {} in {} of hunting{}{}.",
        times(len(names), "finding") if names else "No finding",
        "stand" if len(names) > 1 else "stands",
        f", {_unreported(stand)} of them with no public report that was found" if names else "",
        _programs(rows),
        _hours(rows),
        markdown(", each with its script: {}", listed(each)) if each else "",
        f"; {times(more, 'finding')} more {'have' if more > 1 else 'has'} no script of the kit's"
        if more
        else "",
    )


def _unreported(stand: Sequence[tuple[Hunted, Sequence[KitFinding]]]) -> int:
    """How many of these findings have no public report that was found."""
    return len({one.name for _, ones in stand for one in ones if not one.kept.public})


def _programs(rows: Sequence[Hunted]) -> str:
    return times(sum(row.programs for row in rows), "program")


def _hours(rows: Sequence[Hunted]) -> str:
    """The time of all processes together, in words."""
    seconds = sum(row.worked_s for row in rows)
    value, unit = (seconds / 3600, "hour") if seconds >= 3600 else (seconds / 60, "minute")
    return f"{number(value)} {unit}s"


def _few(names: Sequence[str]) -> Markdown:
    more = len(names) - LISTED
    return listed([*names[:LISTED], f"{more} more"] if more > 0 else names)


def _zero(row: Hunted) -> str:
    """What it means that nothing new was found in so many programs; "" where something was."""
    judged = row.programs - (row.unsure or 0)
    if row.findings or not judged:
        return ""
    least = int(1 / abort_rate(0, judged)[2])
    return (
        f"{row.label}: none of {whole(judged)} programs that were judged to the end showed "
        f"something new, so that at most one in {whole(least)} does (95 %, as if each were drawn "
        "by itself)."
    )


# --- the page -------------------------------------------------------------------------------------


def section(evidence: Evidence, page: Path) -> dict[str, Any]:
    """The page as data for its template. page : its path, which links are seen from."""
    rows = added_up(evidence.hunts)
    unscripted = [(row, one) for row in rows for one in row.unknown]
    return {
        "hunted": bool(rows),
        "engines": _engines(rows),
        "zeros": [words for row in rows if (words := _zero(row))],
        "runs": _runs(rows, evidence, page),
        "coverage": [{"name": row.label, "table": _coverage(row)} for row in rows if row.pairs],
        "found": [_told(one, rows, page) for one in evidence.found],
        "unscripted": _unscripted(unscripted),
        "more": max(0, len(unscripted) - MOST_ROWS),
        "many": len(unscripted),
    }


def _engines(rows: Sequence[Hunted]) -> Table:
    lines = [
        (
            code(row.engine),
            " ".join(dict.fromkeys(filter(None, (row.binding, row.version)))),
            whole(len(row.hunts)),
            number(row.worked_s / 60),
            whole(row.programs),
            DASH if row.unsure is None else whole(row.unsure),
            whole(len(row.findings)),
            _known(row),
            _sizes(row),
            _shows(row),
            f"{whole(len(row.pairs))} / {whole(row.never)}" if row.pairs else DASH,
        )
        for row in rows
    ]
    head = ("engine", "binding, version", "hunts", "minutes", "programs",
            "not judged to the end", "findings", "known, seen", "steps, shrunk of drawn",
            "scripts that show it each time", "pairs of operations met / never")  # fmt: skip
    return Table(head, lines)


def _known(row: Hunted) -> str:
    return _some([f"{name} ({count}×)" for name, count in row.known.most_common()], "none")


def _sizes(row: Hunted) -> str:
    """The steps of the findings when they were shrunk, of those that were drawn: median, range."""
    if not (found := [one for _, one in row.findings.values() if one.drawn]):
        return DASH
    return f"{_range([one.steps for one in found])} of {_range([one.drawn_steps for one in found])}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else f"{number(median(values))} ({low} to {high})"


def _shows(row: Hunted) -> str:
    found = [one for _, one in row.findings.values() if one.method == "repro.py"]
    return f"{sum(one.stands for one in found)} of {len(found)}" if found else DASH


def _runs(rows: Sequence[Hunted], evidence: Evidence, page: Path) -> Table:
    """Each hunt, with a link to all that was published of it."""
    lines = []
    for row in rows:
        for hunt in row.hunts:
            place = address_of(evidence.hunts_in / hunt.file, page)
            lines.append(
                (
                    markdown("[{}]({})", hunt.name, address(place)),
                    hunt.started.partition("+")[0].replace("T", " ") or "not known",
                    _some(hunt.modes),
                    str(hunt.seed),
                    f"{number(hunt.elapsed_s / 60)} × {hunt.processes}",
                    whole(hunt.programs),
                    whole(hunt.steps),
                    _some([f"{whole(many)} {name}" for name, many in hunt.statuses.items()]),
                    DASH if hunt.races is None else whole(hunt.races),
                    _some(hunt.without),
                    _some(_refused(hunt)),
                    _ended(hunt),
                )
            )
    head = ("hunt", "began (UTC)", "modes", "seed", "minutes × processes", "programs", "steps",
            "results", "races", "left out", "refused by the engine", "ended")  # fmt: skip
    return Table(head, lines)


def _ended(hunt: PublishedHunt) -> str:
    if not hunt.died:
        return hunt.ended
    return f"{hunt.ended}; {len(hunt.died)} of its processes failed ({_cut(hunt.died[0])})"


def _refused(hunt: PublishedHunt) -> list[str]:
    """What the engine refused, with its words: features of the grammar, and races."""
    each = [f"{name} ({_cut(words)})" for name, words in hunt.refused.items()]
    races = [f"{times(count, 'race')} ({_cut(words)})" for words, count in hunt.not_raced.items()]
    return each + races


def _coverage(row: Hunted) -> Table:
    """The kinds of operation by how many others each was under way beside."""
    lines = []
    for kind in row.kinds[:MOST_ROWS]:
        never = [
            other for other in row.kinds if (min(kind, other), max(kind, other)) not in row.pairs
        ]
        met = len(row.kinds) - len(never)
        lines.append((kind, f"{met} of {len(row.kinds)}", _some(never, "", SHOWN_PAIRS)))
    return Table(("operation", "met", "never beside"), lines)


def _unscripted(found: Sequence[tuple[Hunted, HuntedFinding]]) -> Table:
    lines = [
        (row.label, one.judge, _cut(_sentence(one.sentence, one.when)), whole(one.steps),
         f"{one.again[0]} of {one.again[1]} by {one.method}")
        for row, one in found[:MOST_ROWS]
    ]  # fmt: skip
    return Table(("engine", "judge", "what", "steps", "showed again"), lines)


def _sentence(sentence: str, when: str) -> str:
    return f"{sentence}, {when}" if when else sentence


def _told(one: KitFinding, rows: Sequence[Hunted], page: Path) -> dict[str, Any]:
    """A finding of the kit, as its part of the page shows it."""
    from properties.hunter import KNOWN, REPRO

    kept = one.kept
    seen = [bug.name for bug in KNOWN if bug.script == one.name]
    counts = [(row.label, sum(row.known[name] for name in seen)) for row in rows]
    script = one.folder / REPRO
    return {
        "title": kept.title or _sentence(f"{kept.judge}: {kept.sentence}", kept.when),
        "what": _sentence(f"{kept.judge}: {kept.sentence}", kept.when) if kept.title else "",
        "expected": kept.expected,
        "seen": kept.seen,
        "engine": f"{kept.engine} ({', '.join(filter(None, (kept.binding, kept.version)))}",
        "source_id": kept.source_id,
        "also": kept.also,
        "again": f"{kept.method} shows it in {kept.again[0]} of {kept.again[1]} tries",
        "steps": times(kept.steps, "step"),
        "script": markdown("[{}]({})", str(script), address(address_of(script, page)))
        if kept.method == REPRO
        else "",
        "public": _public(kept.public),
        "met": listed([f"{label} ({times(count, 'time')})" for label, count in counts if count]),
        "program": f"{one.program}\n\n{one.timeline}",
    }


def _public(link: str) -> Markdown:
    """Who else has reported it. A link is made of what is an address and nothing more."""
    if not link:
        return markdown("No public report was found")
    if not (found := ADDRESS.fullmatch(link)):
        return markdown("Reported by others: {}", link)
    place, part = map(address, found.groups(""))
    end = markdown("#{}", part) if part else ""
    return markdown("Reported by others: [{}](https://{}{})", link, place, end)


def _some(items: Sequence[str], none: str = "nothing", most: int = MOST_ITEMS) -> str:
    """Items as a cell lists them, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more or none


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
