"""What a soak found: published soaks of `cwkit soak`, by engine and mode, new and known apart.

Every number is of a published soak (analysis.report.published_soaks). Rounds of several soaks are
added up where engine, version and mode are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.report.charts import address_of
from analysis.report.evidence import Evidence
from analysis.report.finding import BROKEN, NONE, UNKNOWN, Finding, missing
from analysis.report.markdown import (
    Markdown,
    address,
    code,
    listed,
    markdown,
    public_link,
)
from analysis.report.published_soaks import PublishedSoak, SoakedRound, SoakedRow
from analysis.wording import DASH, Table, times, whole
from properties.soaks import KINDS, repeat_command

NAME = "soaks"
COMMAND = "cwkit soak --hours 1"
LOST, DOUBLED = ("lost", "torn", "integrity"), ("doubled",)
UNTOLD = ("not run", "not seen", "trouble")
"""Kinds of findings that say nothing of an engine: the round could not be judged."""

LISTED, SHOWN, MOST_SENTENCE = 4, 40, 400


@dataclass(frozen=True)
class Told:
    """A round with what is new in it, and its soak. kinds : of what it says of the engine."""

    soak: PublishedSoak
    one: SoakedRound

    @property
    def kinds(self) -> set[str]:
        return {each.kind for each in self.one.findings if not each.known} - set(UNTOLD)

    @property
    def command(self) -> str:
        soak, one = self.soak, self.one
        return repeat_command(
            soak.seed, soak.engines, soak.seconds, one.number, one.rules, soak.missing
        )


def measured(evidence: Evidence) -> list[PublishedSoak]:
    """The soaks that could run anything, the earliest first."""
    ran = [one for one in evidence.soaks if any(row.rounds > row.not_run for row in one.rows)]
    return sorted(ran, key=lambda one: (one.started, one.name))


def new(soaks: Sequence[PublishedSoak]) -> list[Told]:
    """Every round with something that is not known."""
    return [Told(soak, one) for soak in soaks for one in soak.broken]


def soaked(evidence: Evidence) -> Finding:
    """Do hours of runs, faults, kills, crashes and reopenings find what is not known yet?"""
    told = measured(evidence)
    if not told:
        return missing(NAME, "What hours of drawn rounds find", COMMAND)
    rounds = sum(row.rounds - row.not_run for one in told for row in one.rows)
    commits = sum(row.acknowledged for one in told for row in one.rows)
    went = length(sum(one.elapsed_s for one in told))
    effort = [f"{times(rounds, 'round')} in {went}, {whole(commits)} acknowledged commits"]
    if known := {each.name for one in told for each in one.known}:
        effort.append(f"known deviations seen: {len(known)}")
    found = new(told)
    of_engine = [one for one in found if one.kinds]
    if not of_engine:
        if found:
            effort.insert(0, f"{times(len(found), 'round')} could not be judged")
        return Finding(
            NAME,
            UNKNOWN if found else NONE,
            "In drawn rounds of every kind nothing new was found",
            numbers=effort,
            holds=_few(sorted({row.engine for one in told for row in one.rows})),
            command=COMMAND,
            sought=True,
            page=NAME,
        )
    sentence, worst = _worst(of_engine)
    names = sorted({f"{each.one.engine} ({each.one.mode})" for each in worst})
    return Finding(
        NAME,
        BROKEN,
        sentence,
        numbers=[times(len(worst), "round"), *effort],
        holds=_few(names),
        command=worst[0].command or COMMAND,
        grave=any(one.kinds & {*LOST, *DOUBLED} for one in of_engine),
        page=NAME,
    )


def _worst(found: Sequence[Told]) -> tuple[str, Sequence[Told]]:
    """What is worst, as a sentence, and the rounds that show it."""
    if lost := [one for one in found if one.kinds & set(LOST)]:
        return "In a soak an engine lost or tore what it had acknowledged", lost
    if doubled := [one for one in found if one.kinds & set(DOUBLED)]:
        return "In a soak an engine refused a COMMIT and kept it", doubled
    return "In a soak something was found that nobody has explained yet", found


def _few(names: Sequence[str]) -> Markdown:
    more = len(names) - LISTED
    return listed([*names[:LISTED], f"{more} more"] if more > 0 else names)


def length(seconds: float) -> str:
    """How long something went on.

    >>> length(1234), length(30_000)
    ('21 minutes', '8.3 hours')
    """
    return times(round(seconds / 60), "minute") if seconds < 3600 else f"{seconds / 3600:.1f} hours"


def answer(evidence: Evidence, data: Mapping[str, Any]) -> Markdown:
    """How long it went on, and what was found that is new and that is known."""
    told = measured(evidence)
    if not told:
        return markdown(
            "No soak was made for this report; {} makes one, and {} has it told here.",
            code(COMMAND),
            code("cwkit soak --publish FOLDER"),
        )
    found = len(new(told))
    ways = len({(row.engine, row.mode) for one in told for row in one.rows})
    known = {each.name for one in told for each in one.known}
    return markdown(
        "{} of {} in {}: {} with something new{}.",
        times(sum(one.rounds for one in told), "round"),
        "one engine and mode" if ways == 1 else f"{ways} engines and modes",
        length(sum(one.elapsed_s for one in told)),
        whole(found) if found else "none",
        f", and {times(len(known), 'known deviation')} seen again" if known else "",
    )  # fmt: skip


def section(evidence: Evidence, page: Path) -> dict[str, Any]:
    """The page as data for its template. page : its path, which links are seen from."""
    told = measured(evidence)
    rows = _added_up(told)
    found = new(told)
    return {
        "told": bool(told),
        "length": length(sum(one.elapsed_s for one in told)),
        "done": _done(rows),
        "seen": _seen(rows),
        "found": [_told(one) for one in found[:SHOWN]],
        "more": whole(len(found) - SHOWN) if len(found) > SHOWN else "",
        "known": _known(told),
        "missing": list(dict.fromkeys(text for one in told for text in one.missing)),
        "soaks": _soaks(evidence, page),
    }


def _added_up(soaks: Sequence[PublishedSoak]) -> list[list[SoakedRow]]:
    """The rows of each engine, version and mode."""
    found: dict[tuple[str, str, str], list[SoakedRow]] = {}
    for soak in soaks:
        for row in soak.rows:
            found.setdefault((row.engine, row.version, row.mode), []).append(row)
    return [found[key] for key in sorted(found)]


def _done(rows: Sequence[Sequence[SoakedRow]]) -> Table:
    lines = []
    for each in rows:
        kinds: Counter[str] = Counter()
        for row in each:
            kinds.update(row.kinds)
        lines.append((
            code(each[0].engine), each[0].version or DASH, each[0].mode,
            whole(sum(row.rounds for row in each)), *(whole(kinds[kind]) for kind in KINDS),
            *(whole(sum(getattr(row, name) for row in each))
              for name in ("not_run", "acknowledged", "faults", "killed", "states")),
        ))  # fmt: skip
    head = ("engine", "version", "BEGIN", "rounds", *KINDS, "not run", "acknowledged",
            "faults that struck", "processes killed", "crash states")  # fmt: skip
    return Table(head, lines)


def _seen(rows: Sequence[Sequence[SoakedRow]]) -> Table:
    lines = []
    for each in rows:
        found: Counter[str] = Counter()
        known: Counter[str] = Counter()
        for row in each:
            found.update(row.findings)
            known.update(row.known)
        per = max(row.rss_per_commit for row in each)
        seeds = [seed for row in each for seed in row.seeds]
        lines.append((
            code(each[0].engine), each[0].mode, _counted(found), _counted(known),
            _mib(max(row.rss_bytes for row in each)),
            f"{whole(round(per))} B a commit" if per else DASH,
            whole(max(row.descriptors for row in each)),
            _mib(max(row.wal_bytes for row in each)), f"{min(seeds)}–{max(seeds)}",
        ))  # fmt: skip
    head = ("engine", "BEGIN", "new", "known", "memory at most", "grew by", "descriptors at most",
            "log at most", "seeds of its rounds")  # fmt: skip
    return Table(head, lines)


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {whole(many)}" for kind, many in sorted(kinds.items())) or "none"


def _mib(many: int) -> str:
    return f"{many / 2**20:,.1f} MiB" if many else DASH


def _told(told: Told) -> Markdown:
    one = told.one
    version = next((row.version for row in told.soak.rows if row.engine == one.engine), "")
    what = [f"{each.kind}: {_cut(each.sentence)}" for each in one.findings if not each.known]
    words = markdown("round {} of {}, {} {}, {}, {} of {}: {}", one.number, told.soak.name,
                     code(one.engine), version, one.mode, one.kind, code(one.scenario),
                     "; ".join(what))  # fmt: skip
    if told.command:
        words = markdown("{} Repeat: {}", words, code(told.command))
    return words


def _known(soaks: Sequence[PublishedSoak]) -> Table:
    """Each known deviation once, with the rounds of all soaks."""
    lines = []
    for name in sorted({each.name for soak in soaks for each in soak.known}):
        ones = [each for soak in soaks for each in soak.known if each.name == name]
        engines = sorted({engine for each in ones for engine in each.engines})
        lines.append((
            name, ones[-1].sentence or DASH, _few(engines),
            whole(sum(each.rounds for each in ones)),
            code(ones[-1].command) if ones[-1].command else DASH,
            public_link(ones[-1].public, DASH),
        ))  # fmt: skip
    return Table(("known", "what it is", "seen with", "rounds", "shown by", "public"), lines)


def _soaks(evidence: Evidence, page: Path) -> Table:
    """Each soak, with a link to all that was published of it."""
    lines = []
    for one in sorted(evidence.soaks, key=lambda one: (one.started, one.name)):
        place = address(address_of(evidence.soaks_in / one.file, page))
        machine = f"{one.machine.cores} cores, {one.machine.kernel}" if one.machine.cores else DASH
        lines.append((
            markdown("[{}]({})", one.name, place),
            one.started.partition("+")[0].replace("T", " ") or "not known", str(one.seed),
            length(one.elapsed_s), whole(one.rounds), whole(one.set_aside), one.ended, machine,
        ))  # fmt: skip
    head = ("soak", "began (UTC)", "seed", "length", "rounds", "set aside", "ended",
            "machine")  # fmt: skip
    return Table(head, lines)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SENTENCE else f"{text[: MOST_SENTENCE - 1]}…"
