"""A search's folder: `search.json` says what is looked for, and each run is a run folder in it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from pydantic import ValidationError

from analysis.counting import FOREIGN_LIMIT, Difference, confounders, differences
from analysis.search.bisect import LONGEST_S, STEP
from analysis.search.objective import Objective, parse_objectives
from workloads.engines import find_engine
from workloads.errors import PlanError, RunError
from workloads.experiments import free_or_ours, unwritable
from workloads.files import FORMAT_VERSION, read_versioned, visible, write_json
from workloads.records import EngineEntry, Machine, Manifest
from workloads.runs import Plan, complaint_of, describe, identity_of

SEARCH, DOCUMENT = "search.json", "answer.json"
SEARCHED = ("rate", "read_rate", "duration_s", "seed")
"""Facts in which the runs of one search differ: all else must be alike, or the capacity would be
one machine's and the rates another's."""

MOST_REPEATS = 999
GRACES = 5
"""Times the limit that a window lasts at least: its last limit's worth is not judged."""

SURPLUS = 1.3
"""Samples more than are needed, so that a slow minute still has enough."""


@dataclass(frozen=True)
class Search:
    """A search's settings: all of them are in `search.json`.

    plan : as of a closed loop; rate and duration are the search's. repeats : runs at each rate, of
    which more than half must meet the objectives. step : between neighbouring rates. longest_s : a
    window is lengthened so far for the sake of enough samples.
    """

    plan: Plan
    objective: str
    repeats: int = 3
    step: float = STEP
    longest_s: float = LONGEST_S
    foreign_limit: float = FOREIGN_LIMIT

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return parse_objectives(self.objective)

    @property
    def role(self) -> str:
        return "writer" if self.plan.writers else "reader"

    def at(self, rate: float, repeat: int) -> Plan:
        """The plan of one run; rate 0 is the closed loop. Repeats share their draws at all rates.

        Raises PlanError where no window of `longest_s` could hold enough transactions.
        """
        seed = int(np.random.SeedSequence([self.plan.seed, repeat]).generate_state(1)[0])
        name = "rate" if self.role == "writer" else "read_rate"
        changes = {"seed": seed, name: rate, "duration_s": self.window_s(rate)}
        return Plan(**{**self.plan.model_dump(), **changes})

    def window_s(self, rate: float) -> float:
        """How long to measure at a rate: as the plan says, or for as long as the objectives need.

        Raises PlanError where that is longer than `longest_s`.
        """
        graces = GRACES * self._grace_s()
        needed = self._samples() / rate + self._grace_s() if rate else 0.0
        window = max(self.plan.duration_s, graces, needed)
        if window > max(self.longest_s, self.plan.duration_s):
            where = f" at {rate:,g} a second" if rate else ""
            raise PlanError(
                f'"{self.objective}" needs windows of {window:.3g} s{where} '
                f"(at least {self._samples():,.0f} transactions, and {GRACES} times the limit), "
                f"and --longest is {self.longest_s:g} s. Give a longer one, or an objective that "
                "needs less."
            )
        return float(window)

    def floor(self) -> float:
        """The lowest rate that can be judged in the longest window."""
        self.window_s(0)
        longest = max(self.longest_s, self.plan.duration_s)
        # A hundredth more: rates are rounded to three digits.
        return 1.01 * self._samples() / (longest - self._grace_s())

    def _samples(self) -> float:
        return max(objective.samples for objective in self.objectives) * SURPLUS

    def _grace_s(self) -> float:
        return max(objective.grace_ns for objective in self.objectives) / 1e9

    def data(self) -> dict[str, Any]:
        """As `search.json` has it."""
        return {
            "cwkit": FORMAT_VERSION,
            "search": self.objective,
            "plan": self.plan.model_dump(mode="json"),
            "repeats": self.repeats,
            "step": self.step,
            "longest_s": self.longest_s,
            "foreign_limit": self.foreign_limit,
        }


def begin(search: Search, folder: Path) -> list[Path]:
    """Write `search.json`, or see that the one there looks for the same.

    Returns what was made, the search's file and where it was not there the folder: `conduct` takes
    it back where the first run is refused.
    Raises RunError where another search is there or anything that is none, PlanError where the
    objective can't be judged at any rate, FolderUnwritable.
    """
    search.floor()
    folder = Path(folder)
    asked = json.loads(json.dumps(search.data()))
    if (folder / SEARCH).exists():
        there = read_search(folder).data()
        differs = [key for key in asked if asked[key] != json.loads(json.dumps(there[key]))]
        if "plan" in differs:
            differs.remove("plan")
            differs += [key for key in asked["plan"] if asked["plan"][key] != there["plan"][key]]
        if differs:
            raise RunError(
                f"{folder}: holds another search (it differs in {', '.join(differs)}). "
                "Give --into FOLDER alone to go on with it, or leave --into out to begin another."
            )
        return []
    free_or_ours(folder, SEARCH, "search")
    made = [folder / SEARCH] + ([] if folder.exists() else [folder])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SEARCH, asked)
    except OSError as error:
        raise unwritable(folder, error) from error
    return made


class _Kept(msgspec.Struct, frozen=True):
    """`search.json` as it stands."""

    plan: dict[str, Any]
    search: str
    repeats: Annotated[int, msgspec.Meta(ge=1, le=MOST_REPEATS)]
    step: Annotated[float, msgspec.Meta(ge=1.01, le=2)]
    longest_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    foreign_limit: Annotated[float, msgspec.Meta(ge=0, le=1)]


def read_search(folder: Path) -> Search:
    """The search of a folder. Raises RunError for one that holds none."""
    path = folder / SEARCH
    try:
        kept: _Kept = read_versioned(path, _Kept)
    except FileNotFoundError:
        raise RunError(f"{folder}: no search was begun there (it has no {SEARCH}).") from None
    try:
        plan = Plan(**kept.plan)
        parse_objectives(kept.search)
    except (ValidationError, PlanError, TypeError) as error:
        why = complaint_of(error) if isinstance(error, ValidationError) else visible(error)
        raise RunError(f"{path}: {why.rstrip('.')}. It was cut or edited.") from error
    return Search(plan, kept.search, kept.repeats, kept.step, kept.longest_s, kept.foreign_limit)


class _Answer(msgspec.Struct, frozen=True):
    """`answer.json`, as far as it is read."""

    rate_per_s: Annotated[float, msgspec.Meta(ge=0)] | None


def read_rate(folder: Path) -> float | None:
    """The rate that a finished search came to, None for no rate.

    Raises RunError; FileNotFoundError where it is not finished.
    """
    answer: _Answer = read_versioned(folder / DOCUMENT, _Answer)
    return answer.rate_per_s


# --- what may be counted together ---------------------------------------------------------------


def search_confounders(one: Manifest, other: Manifest) -> list[Difference]:
    """Differences that forbid two runs in one search, by their manifests.

    A run that came to no good end lacks facts: a fact that one of the two lacks does not count.
    """
    found = confounders(differences(one, other), SEARCHED)
    whole = one.ok and other.ok
    return [d for d in found if whole or None not in (d.a, d.b)]


def as_here(manifest: Manifest, databases: Path | None) -> Manifest:
    """The manifest of the same run if it were made here and now: machine, checkout, libraries."""
    engines = {
        # One that is missing here says so when it is run.
        name: EngineEntry(**identity_of(name))
        if entry.data() and find_engine(name).missing() is None
        else entry
        for name, entry in manifest.engines.items()
    }
    described = describe(databases or Path(tempfile.gettempdir()))
    return manifest.model_copy(update={"machine": Machine(**described), "engines": engines})


def not_one_search(folder: Path, one: str, other: str, found: Sequence[Difference]) -> RunError:
    """The refusal. one, other : names of the two for its sentence."""
    facts = ", ".join(difference.text() for difference in found[:5])
    more = f" and {len(found) - 5} facts more" if found[5:] else ""
    return RunError(
        f"{folder}: {one} and {other} differ in {facts}{more}, so that they are not of one "
        "search: the capacity would be the one's and a rate the other's. Go on with it where and "
        "as it was begun, or leave --into out to begin another."
    )
