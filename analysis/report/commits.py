"""Whether every acknowledged commit stays: who loses some, under which conditions, and what helps.

An arm is known by what it asks for: several checkpointers without pause provoke SQLite's WAL-reset
race, one is the cure, and none is an ordinary load, whose connections checkpoint by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.counting import Arm, CountedCell
from analysis.report.evidence import Evidence
from analysis.report.finding import BROKEN, NONE, Finding, Part, missing
from analysis.report.markdown import Markdown, code, markdown
from analysis.statistics import median_of_blocks
from analysis.wording import duration, listed, times, whole

MENDED = (3, 51, 3)
"""The version of SQLite that mended the race."""

FIXED = ".".join(map(str, MENDED))

LONG_ENOUGH = 10
"""A control ran so many times as long as the slowest library needed to lose a commit."""

NAMES = {"libsql": "libSQL", "sqlite": "Python's sqlite3"}
KEY = "lost-commits"
COMMAND = "cwkit run --scenario acked --checkpointers 3"
_DURABLE = ("off", "normal", "full", "extra")


def acked(evidence: Evidence) -> list[tuple[Arm, CountedCell]]:
    """Every cell of the scenario `acked` with its arm."""
    return [(arm, cell) for arm, cell in evidence.cells() if arm.plan["scenario"] == "acked"]


@dataclass(frozen=True)
class Acked:
    """The arms of the scenario `acked` that ran, by what they ask for.

    main     : several checkpointers without pause, at the least durable setting that was tried.
    strict   : the same at more durable settings. ordinary : no checkpointer. single : one.
    """

    main: Sequence[Arm]
    strict: Sequence[Arm]
    ordinary: Sequence[Arm]
    single: Sequence[Arm]

    @property
    def lost(self) -> list[Arm]:
        return [arm for arm in self.main if _broken(arm)]

    @property
    def mended(self) -> list[Arm]:
        """The controls that lost nothing; none where a mended version lost something, too."""
        kept = [arm for arm in self.main if _fixed(arm) and not _broken(arm)]
        return [] if any(map(_fixed, self.lost)) else kept

    @property
    def helped(self) -> list[Arm]:
        """A single checkpointer, with a library that loses commits to several."""
        names = set(map(_name, self.lost))
        found = [arm for arm in self.single if _name(arm) in names]
        return [] if any(map(_broken, found)) else found


def arms_of(evidence: Evidence) -> Acked:
    """The arms of the scenario."""
    arms = list(dict.fromkeys(arm for arm, cell in acked(evidence) if cell.counted))
    many = [arm for arm in arms if arm.plan["checkpointers"] > 1]
    least = min((_durable(arm) for arm in many), default=0)
    return Acked(
        main=[arm for arm in many if _durable(arm) == least],
        strict=[arm for arm in many if _durable(arm) > least],
        ordinary=[arm for arm in arms if arm.plan["checkpointers"] == 0],
        single=[arm for arm in arms if arm.plan["checkpointers"] == 1],
    )


def acknowledged(evidence: Evidence) -> Finding:
    """Does every acknowledged commit stay?"""
    found = arms_of(evidence)
    if not found.main:
        return missing(KEY, "Whether every acknowledged commit stays", COMMAND)
    if not found.lost:
        return _none_lost(found)
    names = list(dict.fromkeys(map(_name, found.lost)))
    sentence = f"{listed(names)} {'lose' if len(names) > 1 else 'loses'} acknowledged commits"
    sentence += " where several processes checkpoint without pause"
    if any(map(_fixed, found.lost)):
        sentence = f"Acknowledged commits were lost by SQLite {FIXED} or later too"
    first = found.lost[0]
    return Finding(
        KEY,
        BROKEN,
        sentence,
        lead=f"after {listed([_seconds(arm) for arm in found.lost])}",
        numbers=[*_helped(found), *_ordinary(found)],
        holds=_where(found),
        command=COMMAND,
        runs=code(f"{first.measured.name}/{_broken(first)[0].run}"),
        parts=[_part(arm) for arm in found.main],
        grave=True,
    )


def cures(evidence: Evidence) -> list[str]:
    """What was measured to help."""
    found = arms_of(evidence)
    helps = [f"SQLite {FIXED} or later"] if found.mended else []
    return [*(["one checkpointing connection"] if found.helped else []), *helps]


def _none_lost(found: Acked) -> Finding:
    every = [*found.main, *found.strict, *found.ordinary, *found.single]
    lost = next(filter(_broken, every), None)
    said = "No acknowledged commit was seen to be lost, which is no proof that none can be"
    runs = [code(f"{arm.measured.name}/{_counted(arm)[0].run}") for arm in found.main]
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


def _part(arm: Arm) -> Part:
    """Whether the arm lost a commit, which has no interval."""
    return Part(arm.engine, median_of_blocks([]), BROKEN if _broken(arm) else NONE)


def _where(found: Acked) -> str:
    """The conditions, and those under which it was looked for and not seen."""
    names = set(map(_name, found.lost))
    strict = sorted((arm for arm in found.strict if _name(arm) in names), key=_durable)
    off = [_setting(found.main[0]), *(_setting(arm) for arm in strict if _broken(arm))]
    also = ["under ordinary load"] if any(map(_broken, found.ordinary)) else []
    also += ["with one checkpointer"] if any(map(_broken, found.single)) else []
    spared = list(dict.fromkeys(_setting(arm) for arm in strict if not _broken(arm)))
    text = f"synchronous {listed(off)}, no crash"
    text += f"; not seen at {listed(spared, 'or')}" if spared else ""
    return text + (f"; also {listed(also)}" if also else "")


def _helped(found: Acked) -> list[str]:
    """What helped, with how long it was tried."""
    parts, out = [], []
    if found.mended:
        least = duration(min(map(_took, found.mended)) * 1e9)
        parts.append(f"SQLite {FIXED} or later (none in {least})")
    if found.helped:
        parts.append(f"one checkpointer (none in {_seconds(found.helped[0])})")
    if parts:
        out.append(f"Cure: {' or '.join(parts)}")
    if not found.mended:
        out.append("no control held, so suspect the test")
    elif min(map(_took, found.mended)) < LONG_ENOUGH * max(map(_took, found.lost)):
        out.append("control too short to be sure")
    spared = [_name(arm) for arm in found.main if not _fixed(arm) and not _broken(arm)]
    return [*out, *([f"not seen in {listed(spared)}, which was luck"] if spared else [])]


def _ordinary(found: Acked) -> list[str]:
    """How an ordinary load fared, in which connections checkpoint by themselves."""
    if lost := [arm for arm in found.ordinary if _broken(arm)]:
        return [f"ordinary load lost some after {_seconds(lost[0])}"]
    if found.ordinary:
        return [f"ordinary load lost 0 of {whole(sum(map(_commits, found.ordinary)))}"]
    return []


def _setting(arm: Arm) -> str:
    return str(arm.plan["synchronous"])


def _durable(arm: Arm) -> int:
    return _DURABLE.index(_setting(arm)) if _setting(arm) in _DURABLE else len(_DURABLE)


# --- an arm of this scenario --------------------------------------------------------------------


def _counted(arm: Arm) -> list[CountedCell]:
    return [cell for cell in arm.cells if cell.counted is not None]


def _broken(arm: Arm) -> list[CountedCell]:
    return [cell for cell in _counted(arm) if cell.broken]


def _name(arm: Arm) -> str:
    """The library that checkpointed, because its checkpoints are what races."""
    engine = str(arm.plan["checkpoint_engine"] or arm.plan["database"])
    return NAMES.get(engine, engine)


def _version(arm: Arm) -> str:
    versions = []
    for cell in _counted(arm):
        manifest = cell.manifest
        engine = manifest.engines.get(manifest.plan.checkpoint_engine) if manifest else None
        if engine and engine.version:
            versions.append(engine.version)
    return listed(sorted(set(versions))) or "of unknown version"


def _fixed(arm: Arm) -> bool:
    """Whether the library that checkpointed is one in which the race is mended."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+).*", _version(arm))
    return found is not None and tuple(map(int, found.groups())) >= MENDED


def _took(arm: Arm) -> float:
    """How long its runs were, s; of those that lost a commit where there are any."""
    cells: list[Any] = _broken(arm) or _counted(arm)
    return float(np.median([cell.counted.seconds for cell in cells]))


def _seconds(arm: Arm) -> str:
    return duration(_took(arm) * 1e9)


def _length(arm: Arm) -> str:
    runs = times(len(_counted(arm)), "run")
    return f"{runs} of {_seconds(arm)} with {whole(_commits(arm))} acknowledged commits"


def _commits(arm: Arm) -> int:
    counts = [cell.counted for cell in _counted(arm) if cell.counted is not None]
    return sum(c.roles["writer"].committed for c in counts if "writer" in c.roles)


def loss(evidence: Evidence) -> Markdown:
    """The first loss in full, "" where nothing was lost: what was told, and what was not there."""
    for arm, cell in acked(evidence):
        if cell.broken:
            said = cell.broken[0].sentence.rstrip(".")
            return markdown("{}: {}.", code(f"{arm.measured.name}/{cell.run}"), said)
    return Markdown()
