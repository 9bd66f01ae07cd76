"""Whether every acknowledged commit stays: who loses some, under which conditions, and what helps.

A finding words `facts.acked`, in which runs are known by what they ask for: several processes that
checkpoint without pause race the writers, a single one does so too, FULL checkpoints take the
writers' lock, and under an ordinary load each connection checkpoints by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.counting import Arm, CountedCell
from analysis.report.acked import (
    ENOUGH,
    LOCKED,
    ONE,
    ORDINARY,
    RACING,
    AckedGroup,
    may_lose,
)
from analysis.report.acked import (
    FIXED as MENDED,
)
from analysis.report.evidence import Evidence
from analysis.report.finding import BROKEN, NONE, Finding, Part, missing
from analysis.report.markdown import Markdown, code, markdown
from analysis.statistics import median_of_blocks
from analysis.wording import duration, listed, times, whole

FIXED = ".".join(map(str, MENDED))
"""The version of SQLite that mended the race."""

NAMES = {"libsql": "libSQL", "sqlite": "Python's sqlite3"}
KEY = "lost-commits"
COMMAND = "cwkit run --scenario acked --checkpointers 3"
_DURABLE = ("off", "normal", "full", "extra")
SINGLE, FULL_ONES = "one checkpointer", "FULL checkpoints"
"""What may help, in the words of a finding."""


def acked(evidence: Evidence) -> list[tuple[Arm, CountedCell]]:
    """Every cell of the scenario `acked` with its arm."""
    return [(arm, cell) for arm, cell in evidence.cells() if arm.plan["scenario"] == "acked"]


@dataclass(frozen=True)
class Acked:
    """The runs of the scenario `acked`, by library and condition.

    main     : several checkpointers without pause, at the least durable setting that was tried.
    strict   : the same at more durable settings. ordinary : no checkpointer. single : one.
    locked   : FULL checkpoints and no others. cured : those of the last two that lost nothing for
    long enough, with a library that loses commits to several checkpointers. seldom : those of
    `strict` that had too few chances of the race to say much. short : whether a control was.
    """

    main: Sequence[AckedGroup]
    strict: Sequence[AckedGroup]
    ordinary: Sequence[AckedGroup]
    single: Sequence[AckedGroup]
    locked: Sequence[AckedGroup]
    cured: Sequence[AckedGroup]
    seldom: Sequence[AckedGroup]
    short: bool

    @property
    def lost(self) -> list[AckedGroup]:
        return [group for group in self.main if group.losses]

    @property
    def mended(self) -> list[AckedGroup]:
        """The controls that lost nothing; none where a mended version lost something, too."""
        kept = [group for group in self.main if _fixed(group) and not group.losses]
        return [] if any(map(_fixed, self.lost)) else kept


def arms_of(evidence: Evidence) -> Acked:
    """The runs of the scenario, of the report and of a sweep."""
    found = evidence.facts.acked
    many = found.of(RACING)
    least = min(map(_durable, many), default=0)
    main = [group for group in many if _durable(group) == least]
    mended = [group for group in main if _fixed(group) and not group.losses]
    return Acked(
        main=main,
        strict=[group for group in many if _durable(group) > least],
        seldom=[g for g in many if _durable(g) > least and not g.losses and found.seldom(g)],
        ordinary=found.of(ORDINARY),
        single=found.of(ONE),
        locked=found.of(LOCKED),
        cured=found.cures,
        short=any(found.times_as_long(group) < ENOUGH for group in mended),
    )


def losing_place(evidence: Evidence) -> str:
    """Under which checkpoints commits were lost: a single process needs no second one to race."""
    one = _any_lost(arms_of(evidence).single)
    who = "a process checkpoints" if one else "several processes checkpoint"
    return f"where {who} without pause"


def acknowledged(evidence: Evidence) -> Finding:
    """Does every acknowledged commit stay?"""
    found = arms_of(evidence)
    if not found.main:
        return missing(KEY, "Whether every acknowledged commit stays", COMMAND)
    if not found.lost:
        return _none_lost(found)
    names = list(dict.fromkeys(map(_name, found.lost)))
    sentence = f"{listed(names)} {'lose' if len(names) > 1 else 'loses'} acknowledged commits"
    sentence += f" {losing_place(evidence)}"
    if any(map(_fixed, found.lost)):
        sentence = f"Acknowledged commits were lost by SQLite {FIXED} or later too"
    first = found.lost[0]
    return Finding(
        KEY,
        BROKEN,
        sentence,
        lead=f"after {listed([_seconds(arm) for arm in found.lost])}{_middle(found.lost)}",
        numbers=[*_helped(found), *_ordinary(found)],
        holds=_where(found),
        command=COMMAND,
        runs=code(_run(first)),
        parts=[_part(arm) for arm in found.main],
        grave=True,
    )


def cures(evidence: Evidence) -> list[str]:
    """What was measured to help, for long enough."""
    found = arms_of(evidence)
    helps = [f"SQLite {FIXED} or later"] if found.mended and not found.short else []
    if any(group.first.load == ONE for group in found.cured):
        helps.insert(0, "one checkpointing connection")
    if any(group.first.load == LOCKED for group in found.cured):
        helps.append("FULL checkpoints with automatic ones off")
    return helps


def either(helps: Sequence[str]) -> str:
    """Cures, any of which will do. A comma parts them, for one of them has an "or" in itself.

    >>> either(["SQLite 3.51.3 or later", "FULL checkpoints"])
    'SQLite 3.51.3 or later, or FULL checkpoints'
    """
    return ", or ".join(helps)


def _none_lost(found: Acked) -> Finding:
    every = [*found.main, *found.strict, *found.ordinary, *found.single, *found.locked]
    lost = next((group for group in every if group.losses), None)
    said = "No acknowledged commit was seen to be lost, which is no proof that none can be"
    runs = [code(_run(group)) for group in found.main]
    if lost is not None:
        said = f"{_name(lost)} lost acknowledged commits, but not beside several checkpointers"
    return Finding(
        KEY,
        BROKEN if lost else NONE,
        said,
        numbers=[f"{_name(arm)} {_version(arm)}: {_length(arm)}" for arm in found.main],
        holds=f"synchronous {_setting(lost)}, no crash" if lost else "",
        command=COMMAND,
        runs=Markdown(", ").join(runs),
        parts=[_part(arm) for arm in found.main],
        grave=lost is not None,
        sought=lost is None,
    )


def _part(group: AckedGroup) -> Part:
    """Whether the library lost a commit, which has no interval."""
    return Part(group.first.engine, median_of_blocks([]), BROKEN if group.losses else NONE)


def _where(found: Acked) -> str:
    """The conditions, and those under which it was looked for and not seen."""
    names = set(map(_name, found.lost))
    strict = sorted((group for group in found.strict if _name(group) in names), key=_durable)
    off = [_setting(found.main[0]), *(_setting(group) for group in strict if group.losses)]
    also = ["under ordinary load"] if _any_lost(found.ordinary) else []
    also += [f"with {FULL_ONES}"] if _any_lost(found.locked) else []
    spared = list(dict.fromkeys(_setting(group) for group in strict if not group.losses))
    text = f"synchronous {listed(off)}, no crash"
    seldom = any(group in found.seldom for group in strict)
    tried = "too few chances to tell" if seldom else "not seen"
    text += f"; {tried} at synchronous {listed(spared, 'or')}" if spared else ""
    return text + (f"; also {listed(also)}" if also else "")


def _helped(found: Acked) -> list[str]:
    """What helped, with how long it was tried."""
    kept = [*found.mended, *found.cured]
    parts = [f"SQLite {FIXED} or later"] if found.mended else []
    parts += [SINGLE if group.first.load == ONE else FULL_ONES for group in found.cured]
    out = []
    if kept:
        least = duration(min(group.seconds for group in kept) * 1e9)
        sure = ": too short" if found.short else ""
        out.append(f"Cure: {either(parts)} (none lost in {least}{sure})")
    if not found.mended:
        out.append("no control held, so suspect the test")
    spared = [_name(group) for group in found.main if not _fixed(group) and not group.losses]
    return [*out, *([f"not seen in {listed(spared)}, which was luck"] if spared else [])]


def _ordinary(found: Acked) -> list[str]:
    """How an ordinary load fared, in which connections checkpoint by themselves."""
    if lost := [group for group in found.ordinary if group.losses]:
        return [f"ordinary load lost some after {_seconds(lost[0])}"]
    if found.ordinary:
        many = whole(sum(group.acknowledged for group in found.ordinary))
        return [f"ordinary load lost 0 of {many}"]
    return []


def _any_lost(groups: Sequence[AckedGroup]) -> bool:
    return any(group.losses for group in groups)


def _setting(group: AckedGroup) -> str:
    return group.first.synchronous.lower()


def _durable(group: AckedGroup) -> int:
    setting = _setting(group)
    return _DURABLE.index(setting) if setting in _DURABLE else len(_DURABLE)


# --- a library under a condition ----------------------------------------------------------------


def _run(group: AckedGroup) -> str:
    """A run of it: the first that lost a commit, where there is one."""
    row = (group.losses or group.rows)[0]
    return f"{row.experiment}/{row.run}"


def _name(group: AckedGroup) -> str:
    """The library that checkpointed, because its checkpoints are what races."""
    return NAMES.get(group.first.engine, group.first.engine)


def _version(group: AckedGroup) -> str:
    return group.first.version or "of unknown version"


def _fixed(group: AckedGroup) -> bool:
    """Whether the library that checkpointed is one in which the race is mended."""
    return may_lose(group.first.version) is False


def _seconds(group: AckedGroup) -> str:
    """How long its runs were; of those that lost a commit where there are any."""
    rows = group.losses or group.rows
    return duration(float(np.median([row.seconds for row in rows])) * 1e9)


def _middle(groups: Sequence[AckedGroup]) -> str:
    """That their times are medians, where they are of more than one loss."""
    return " in the median" if any(len(group.losses) > 1 for group in groups) else ""


def _length(group: AckedGroup) -> str:
    runs = times(len(group.rows), "run")
    return f"{runs} of {_seconds(group)} with {whole(group.acknowledged)} acknowledged commits"


def loss(evidence: Evidence) -> Markdown:
    """The first loss in full, "" where nothing was lost: what was told, and what was not there."""
    for group in evidence.facts.acked.losers:
        row = group.losses[0]
        return markdown("{}: {}.", code(f"{row.experiment}/{row.run}"), row.sentence.rstrip("."))
    return Markdown()
