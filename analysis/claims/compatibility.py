"""Claim 6: what differs between libSQL and SQLite, by the trial `compatibility`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from analysis.claims.claim import HOLDS, IN_PART, NOT, NOT_MEASURED, Seen, Verdict
from analysis.claims.replicas import doubted
from analysis.claims.sentence import sentence
from analysis.claims.trials import Trial
from analysis.wording import listed
from workloads.errors import RunError
from workloads.files import converted

NAME = "compatibility"
STUDIED, FILES = "libsql", "files"
KINDS = {
    "same": "alike",
    "words": "refused in other words",
    "differs": "different",
    "later": "newer than the SQLite beside it",
    "adds": "added by libSQL",
}


class Difference(msgspec.Struct, frozen=True):
    """An item of the battery, or a file that was carried. of : whose a difference is.

    here, there : the first answers that differ, this system's and SQLite's.
    """

    system: str
    about: str
    of: Literal["library", "binding"]
    kind: Literal["same", "words", "differs", "later", "adds"]
    here: str
    there: str


def differences(trial: Trial) -> list[Difference]:
    """Every item. Raises RunError where a row is not as the trial writes it."""
    place = Path(trial.place)
    return [converted(place, dict(row), Difference) for block in trial.rows for row in block]


def hundred_percent(seen: Seen) -> Verdict:
    trial = seen.trial(NAME)
    if trial.problem:
        return Verdict(NOT_MEASURED, trial.problem)
    try:
        rows = differences(trial)
    except RunError as error:
        return Verdict(NOT_MEASURED, sentence("{}.", str(error).rstrip(".")), trial.place)
    own = [row for row in rows if row.system == STUDIED]
    files = [row for row in rows if row.system == FILES]
    if not own or trial.broken:
        return Verdict(NOT_MEASURED, doubted(trial, sentence("nothing was compared")), trial.place)
    odd = [row for row in own if row.kind in ("differs", "words")]
    carried = [row for row in files if row.kind != "same"]
    verdict = HOLDS if not odd and not carried else NOT
    if verdict == NOT and not any(row.of == "library" for row in (*odd, *carried)):
        verdict = IN_PART
    library = [row.about for row in odd if row.of == "library"]
    binding = [row.about for row in odd if row.of == "binding"]
    number = sentence(
        "libsql beside {}: {} of {} items differ, {} in the library ({}) and {} in the binding "
        "({}); {} of {} files are not alike after they were carried{}; {}",
        trial.manifest.get("settings", {}).get("beside", "SQLite"),
        len(odd),
        len(own),
        len(library),
        listed(library) or "none",
        len(binding),
        listed(binding) or "none",
        len(carried),
        len(files),
        f" ({listed([row.about for row in carried])})" if carried else "",
        _others(rows),
    )
    return Verdict(verdict, number, trial.place)


def _others(rows: list[Difference]) -> str:
    counts = Counter((row.system, str(row.kind)) for row in rows)
    systems = dict.fromkeys(row.system for row in rows)
    told = [
        f"{name} {counts[name, 'differs']} different, {counts[name, 'words']} in other words"
        for name in systems
        if name not in (STUDIED, FILES)
    ]
    return listed(told) or "no server was there"
