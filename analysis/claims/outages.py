"""Claim 8: what goes on while the network or the primary is gone, by the trial `outages`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from analysis.claims.claim import HOLDS, IN_PART, NOT, NOT_MEASURED, Seen, Verdict
from analysis.claims.replicas import doubted
from analysis.claims.sentence import Sentence, joined, sentence
from analysis.claims.trials import Trial
from analysis.wording import duration, listed
from workloads.errors import RunError
from workloads.files import converted

NAME = "outages"
CONTROL = "nothing"
GONE = ("network away", "black hole", "primary killed")
"""Situations in which the primary cannot be reached."""

READING = ("read", "read transaction")


class Happened(msgspec.Struct, frozen=True):
    """An action in a situation. ms : how long it took; there : whether a write is there."""

    situation: str
    action: str
    outcome: Literal["works", "fails", "hangs", "dies"]
    ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    said: str
    there: bool | None = None

    @property
    def text(self) -> str:
        """What came of it, in a few words."""
        if self.outcome == "hangs":
            return f"hangs ({self.said})"
        return f"{self.outcome}, {duration(self.ms * 1e6)}"


def happened(trial: Trial) -> list[Happened]:
    """Every action of the trial. Raises RunError where a row is not as the trial writes it."""
    rows = (row for block in trial.rows for row in block)
    return [_row(trial, dict(row)) for row in rows]


def _row(trial: Trial, row: dict[str, object]) -> Happened:
    found: Happened = converted(Path(trial.place), row, Happened)
    return found


def keeps_running(seen: Seen) -> Verdict:
    trial = seen.trial(NAME)
    if trial.problem:
        return Verdict(NOT_MEASURED, trial.problem)
    try:
        rows = happened(trial)
    except RunError as error:
        return Verdict(NOT_MEASURED, sentence("{}.", str(error).rstrip(".")), trial.place)
    well = [row for row in rows if row.situation == CONTROL]
    if not well or any(row.outcome != "works" for row in well):
        odd = listed([row.action for row in well if row.outcome != "works"]) or "nothing was tried"
        why = sentence("The control does not work while all is well: {}", odd)
        return Verdict(NOT_MEASURED, why, trial.place)
    gone = [row for row in rows if row.situation in GONE]
    works = {action: all(row.outcome == "works" for row in gone if row.action == action)
             for action in dict.fromkeys(row.action for row in gone)}  # fmt: skip
    verdict = HOLDS if all(works.values()) else NOT
    if verdict == NOT and all(works.get(action) for action in READING):
        verdict = IN_PART
    number = joined([*_clauses(gone), *_lost(rows)])
    return Verdict(verdict, doubted(trial, number), trial.place)


def _clauses(gone: list[Happened]) -> Iterator[Sentence]:
    """What works in each situation, then each other action with what came of it."""
    by = {action: [row for row in gone if row.action == action]
          for action in dict.fromkeys(row.action for row in gone)}  # fmt: skip
    well = [action for action, rows in by.items() if all(row.outcome == "works" for row in rows)]
    if well:
        yield sentence("{} {} in each situation", listed(well), "work" if well[1:] else "works")
    for action, rows in by.items():
        if action not in well:
            told = "; ".join(f"{row.situation}: {row.text}" for row in rows)
            yield sentence("{} ({})", action, told)


def _lost(rows: list[Happened]) -> Iterator[Sentence]:
    """What a replica's sync does once its primary came back empty."""
    for row in rows:
        if row.situation == "data gone" and row.action == "sync":
            before = next((one.said for one in rows if one.situation == CONTROL
                           and one.action == "read"), "")  # fmt: skip
            yield sentence(
                "where the primary comes back without its data, sync() {} and the replica has {}, "
                "before {}", row.outcome, row.said, before,
            )  # fmt: skip
