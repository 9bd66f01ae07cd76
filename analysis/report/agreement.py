"""Two reports held against each other: does each finding of the one agree with that of the other?

`facts.json` lies with a report's runs and has its findings and everything that it claims, as data:
key, verdict, estimates. Two reports agree where no claim of the one is the opposite of the other's,
and every interval of a claim overlaps the other's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from analysis.report.evidence import Evidence, read_evidence
from analysis.report.finding import SIGNS, Finding, Part
from analysis.report.findings import tell
from analysis.report.rendering import rendered
from analysis.report.suite_file import SUITE_FILE
from analysis.report.told import claimed
from analysis.statistics import Ratio
from analysis.wording import DASH, Table, interval, listed, number, times
from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, read_versioned, replace, resolved, visible

FACTS_FILE = "facts.json"
AGAINST = "against"
"""`--against` writes AGAINST.json and AGAINST.md beside the runs."""

TOLD = "told"
"""The word for a number of which nothing is claimed."""

MOST_BYTES = 8 << 20
WAY_OUT = "`cwkit report --only-write --into FOLDER` writes it anew."

_Real = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
_Name = Annotated[str, msgspec.Meta(max_length=2000)]
_Many = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Number(msgspec.Struct, frozen=True):
    """An estimate of a finding, or a told ratio. verdict : what is claimed of it, "" for nothing.

    low, high : its 95 % interval, None with too few blocks.
    """

    name: _Name
    verdict: _Name = ""
    value: _Real | None = None
    low: _Real | None = None
    high: _Real | None = None
    blocks: _Many = 0

    @property
    def claim(self) -> bool:
        return bool(SIGNS.get(self.verdict))

    def text(self) -> str:
        if self.value is None:
            return ""
        if self.low is None or self.high is None:
            return f"{number(self.value)} in {times(self.blocks, 'block')}"
        return f"{number(self.value)} {interval(self.low, self.high)}"

    def overlaps(self, other: Number) -> bool | None:
        """Whether the intervals do; None where one has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


class Fact(msgspec.Struct, frozen=True):
    """A finding as data."""

    key: _Name
    verdict: _Name
    sentence: str = ""
    parts: list[Number] = []


class Facts(msgspec.Struct, frozen=True):
    """`facts.json`: a report as data. told : every comparison that it judges, by its name."""

    findings: list[Fact]
    told: list[Number]
    cwkit: int = FORMAT_VERSION
    report: str = ""
    started: str = ""
    quick: bool = False
    seed: int = 0
    machines: list[str] = []
    commits: list[str] = []


# --- a report's -------------------------------------------------------------------------------


def facts_of_report(evidence: Evidence) -> Facts:
    """The findings and claims of a report as data."""
    machines = {c.manifest.machine.id or "" for _, c in evidence.cells() if c.manifest}
    commits = {str(c.manifest.machine.cwkit_commit) for _, c in evidence.cells() if c.manifest}
    return Facts(
        [_fact(one) for one in tell(evidence).every.values()],
        list(_told(evidence)),
        report=evidence.folder.name,
        started=evidence.suite.started,
        quick=evidence.suite.quick,
        seed=evidence.seed,
        machines=sorted(machines - {""}),
        commits=sorted(commits - {"None"}),
    )


def _fact(one: Finding) -> Fact:
    return Fact(one.key, one.verdict, str(one.sentence), [_number(part) for part in one.parts])


def _number(part: Part) -> Number:
    data = part.data()
    return Number(**{key: _plain(value) for key, value in data.items()})


def _plain(value: Any) -> Any:
    """A number as JSON has it; one without an end is none."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _told(evidence: Evidence) -> Iterator[Number]:
    experiments = {id(measured): name for name, measured in evidence.experiments.items()}
    for ((measured, candidate, baseline), measure), one in evidence.facts.telling.found.items():
        place = experiments.get(measured, "")
        yield _ratio(f"{place}: {candidate} / {baseline}, {measure}", claimed(one), one.ratio)


def _ratio(name: str, verdict: str, ratio: Ratio) -> Number:
    return _number(Part(name, ratio, verdict))


def write_facts(folder: Path, facts: Facts) -> None:
    """Replace facts.json in one step. Raises OSError."""
    text = msgspec.json.format(msgspec.json.encode(facts), indent=1).decode()
    replace(folder / FACTS_FILE, text + "\n")


def read_facts(place: Path, published: Path | None = None) -> Facts:
    """The facts of another report: of its runs' folder, counted now, or of a facts file.

    published : folder of published sweeps, which belong to the facts of a folder.
    Raises RunError where it is neither.
    """
    if (place / SUITE_FILE).is_file():
        return facts_of_report(read_evidence(place, published=published))
    path = place / FACTS_FILE if place.is_dir() else place
    try:
        found: Facts = read_versioned(path, Facts, WAY_OUT, MOST_BYTES)
    except FileNotFoundError:
        raise RunError(
            f"{place}: is no report's folder (it has no {SUITE_FILE}) and no {FACTS_FILE}. "
            "`cwkit list` shows the folders."
        ) from None
    return found


# --- two of them ------------------------------------------------------------------------------


class Held(NamedTuple):
    """A verdict or a number of one report against the other's.

    key : of the finding, "" for a comparison of the tables. what : the number's name, "" for the
    finding's verdict. here, there : what both say. overlap : of both intervals, None where there
    are not two. claim : one of both claims something of it. opposite : both do, the other way
    round. counts : where it disagrees the reports disagree.
    """

    key: str
    what: str
    here: str
    there: str
    number_here: str
    number_there: str
    overlap: bool | None
    claim: bool
    opposite: bool
    counts: bool

    @property
    def apart(self) -> bool:
        """Both intervals are known, and have nothing in common."""
        return self.overlap is False

    @property
    def disagrees(self) -> bool:
        return self.counts and (self.opposite or (self.claim and self.apart))

    @property
    def word(self) -> str:
        if self.opposite:
            return "opposite"
        if "" in (self.here, self.there) and self.here != self.there:
            return "in one only"
        if self.apart:
            return "intervals apart"
        if self.claim and self.here != self.there:
            return "claimed in one"
        return "agree"


def hold(here: Facts, there: Facts) -> list[Held]:
    """Each finding with its numbers, then every other comparison that either report judges."""
    rows: list[Held] = []
    theirs = {one.key: one for one in there.findings}
    mine = {one.key: one for one in here.findings}
    for key in dict.fromkeys([*mine, *theirs]):
        rows += _of_finding(key, mine.get(key), theirs.get(key))
    told = [{one.name: one for one in facts.told} for facts in (here, there)]
    for name in dict.fromkeys([*told[0], *told[1]]):
        one, other = (each.get(name) for each in told)
        rows.append(_numbers("", name, one, other, claim=False, counts=False))
    return rows


def _of_finding(key: str, one: Fact | None, other: Fact | None) -> Iterator[Held]:
    verdicts = [each.verdict if each else "" for each in (one, other)]
    signs = [SIGNS.get(verdict) or 0 for verdict in verdicts]
    claim = any(signs)
    here, there = verdicts
    opposite = signs[0] * signs[1] < 0
    yield Held(key, "", here, there, "", "", None, claim, opposite, counts=True)
    parts = [{part.name: part for part in each.parts} if each else {} for each in (one, other)]
    for name in dict.fromkeys([*parts[0], *parts[1]]):
        yield _numbers(key, name, parts[0].get(name), parts[1].get(name), claim=claim, counts=True)


def _numbers(
    key: str, name: str, one: Number | None, other: Number | None, *, claim: bool, counts: bool
) -> Held:
    """Claim : the finding that the number is of claims something. counts : as of `Held`."""
    here, there = (each.verdict or TOLD if each else "" for each in (one, other))
    signs = [SIGNS.get(verdict) or 0 for verdict in (here, there)]
    opposite = signs[0] * signs[1] < 0
    return Held(
        key, name, here, there,
        one.text() if one else "",
        other.text() if other else "",
        one.overlaps(other) if one and other else None,
        claim or any(signs),
        opposite,
        counts or opposite,
    )  # fmt: skip


def agree(rows: Sequence[Held]) -> bool:
    """No claim is turned into its opposite, and no interval of a finding's claim is apart."""
    return not any(row.disagrees for row in rows)


def held_table(rows: Sequence[Held]) -> Table:
    """The findings, each with its numbers."""
    lines = [
        (
            f"{row.key}: {row.what}" if row.what else row.key,
            _said(row.here, row.number_here),
            _said(row.there, row.number_there),
            row.word,
        )
        for row in rows
        if row.key
    ]
    return Table(("finding", "here", "there", "agreement"), lines)


def _said(verdict: str, estimate: str) -> str:
    """A verdict with its number; "told" is none."""
    return " ".join(one for one in (verdict if verdict != TOLD else "", estimate) if one) or DASH


def told_table(rows: Sequence[Held]) -> Table:
    """Of all other comparisons those that do not agree, the opposite ones first."""
    odd = [row for row in rows if not row.key and row.word in ("opposite", "intervals apart")]
    odd.sort(key=lambda row: not row.opposite)
    lines = [
        (row.what, _said(row.here, row.number_here), _said(row.there, row.number_there), row.word)
        for row in odd
    ]
    return Table(("comparison", "here", "there", "agreement"), lines)


def agreement_sentences(here: Facts, there: Facts, rows: Sequence[Held]) -> list[str]:
    """What the two come to, and what a reader must know of them."""
    findings = [row for row in rows if row.key and not row.what]
    bad = [row for row in rows if row.disagrees]
    turned = [row for row in bad if row.opposite]
    numbers = [row for row in rows if row.key and row.what and row.claim]
    known = [row for row in numbers if row.overlap is not None]
    told = [row for row in rows if not row.key]
    apart = [row for row in told if row.claim and row.apart]
    many, are_apart = len(turned), sum(row.apart for row in known)
    whether = "do not agree" if bad else "agree"
    first = (
        f"The reports {whether}: of {times(len(findings), 'finding')} and "
        f"{times(len(told), 'comparison')} {many} {'is' if many == 1 else 'are'} turned into the "
        f"opposite; of {times(len(known), 'interval')} of the findings' claims {are_apart} "
        f"{'is' if are_apart == 1 else 'are'} apart."
    )
    lines = [first]
    if bad:
        names = [f"{row.key or 'comparison'} ({row.what or 'verdict'})" for row in bad[:5]]
        more = f", and {len(bad) - 5} more" if len(bad) > 5 else ""
        lines.append(f"They differ in {listed(names)}{more}.")
    if apart:
        lines.append(
            f"Of the other comparisons that either report claims, {len(apart)} of "
            f"{sum(row.claim for row in told)} have intervals that are apart: intervals cover one "
            "sitting, and of so many some are apart by chance."
        )
    if here.machines != there.machines:
        lines.append("They were measured on different machines: levels are not to be compared.")
    if here.quick != there.quick:
        lines.append("One of them is a quick report, which cannot decide what the other can.")
    if here.commits != there.commits:
        lines.append("They were measured by different commits of cwkit.")
    return lines


class Agreement(NamedTuple):
    """Two reports held against each other, in words and as a table; page : where it is written."""

    agree: bool
    lines: Sequence[str]
    table: Table
    page: Path


def against(folder: Path, here: Facts, other: Path, published: Path | None = None) -> Agreement:
    """Hold a report against another, and write against.json and against.md beside its runs.

    other : its runs' folder, or its facts file. published : as for `read_facts`.
    Raises RunError where it is neither; OSError.
    """
    there = read_facts(other, published)
    rows = hold(here, there)
    lines, table = agreement_sentences(here, there, rows), held_table(rows)
    data = {
        "cwkit": FORMAT_VERSION,
        "here": here.report,
        "there": there.report,
        "agree": agree(rows),
        "sentences": lines,
        "rows": [
            row._asdict() | {"agreement": row.word, "disagrees": row.disagrees} for row in rows
        ],
    }
    replace(folder / f"{AGAINST}.json", json.dumps(data, indent=1) + "\n")
    page, others = folder / f"{AGAINST}.md", told_table(rows)
    shown = {
        "here": visible(here.report),
        "there": visible(there.report),
        "started": [here.started, there.started],
        "lines": lines,
        "findings": table,
        "others": others if others.rows else None,
    }
    replace(page, rendered("against.md.j2", shown))
    return Agreement(agree(rows), lines, table, page)


def refuse_other(other: Path, folder: Path | None) -> None:
    """Raise RunError where `other` is no report that `folder`'s could be held against."""
    if folder is not None and resolved(other) == resolved(folder):
        raise RunError(f"{other}: is the report itself. Give the folder of another one's runs.")
    if not (other / SUITE_FILE).is_file():
        read_facts(other)
