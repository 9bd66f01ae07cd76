"""A campaign: every story of every engine and mode that was asked, kept line by line.

    results.jsonl   a line for each story told of an engine in a mode
    faults.json     what was asked

It is resumed by its folder: what has a line is not told again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from properties.faults.registry import STORIES
from properties.faults.story import CANNOT_TELL, Case, Story, StoryResult
from workloads.engines import find_engine
from workloads.errors import EngineMissing, PlanError, RunError, nearest, shortened
from workloads.files import LOCK_FILE, alone, made
from workloads.processes import fault_library
from workloads.runs import describe, past_the_library

EMBEDDED = ("libsql", "libsql-0.1", "sqlite", "sqlite-latest", "sqlite-concurrent", "turso")
"""Asked by default, as far as they are here: an engine whose workers write the file themselves."""

KILLS, QUICK_KILLS = 20, 3

WRITING = ("immediate", "concurrent")
RESULTS, DESIGN = "results.jsonl", "faults.json"
MOST_LINE = 1 << 20


def default_engines() -> list[str]:
    """The embedded engines that are here."""
    return [name for name in EMBEDDED if find_engine(name).missing() is None]


def cases_of(engines: Sequence[str], modes: Sequence[str]) -> list[tuple[str, str]]:
    """(engine, mode) of each case: the modes asked, else those for writing that it promises.

    Raises PlanError for a server and for a mode that no engine has, and EngineMissing.
    """
    found = []
    for name in engines:
        engine = find_engine(name)
        if past_the_library(engine):
            raise PlanError(
                f"--engine {name}: its files are not written by the workers, so no library can be "
                "put before them. Take an embedded engine."
            )
        if why := engine.missing():
            raise EngineMissing(f"Engine {name!r} is not to be had here: {why}")
        mine = [mode for mode in modes or WRITING if mode in engine.promises]
        found += [(name, mode) for mode in mine]
    if not found:
        raise PlanError(
            f"--begin {', '.join(modes)}: none of {', '.join(engines)} promises it. Choose "
            "immediate, or concurrent where an engine has it."
        )
    return found


def find_stories(names: Sequence[str]) -> list[Story]:
    """All of them, or those named. Raises PlanError."""
    known = {story.name: story for story in STORIES}
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f" Did you mean {near!r}?" if near else ""
            raise PlanError(f"--story {name}: there is none.{hint} There are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)] or list(STORIES)


def campaign(
    folder: Path,
    cases: Sequence[tuple[str, str]],
    stories: Sequence[Story],
    *,
    seed: int = 0,
    quick: bool = False,
    kills: int | None = None,
    command: str = "",
    on_begun: Callable[[str, str, str], None] = lambda story, engine, begin: None,
    on_told: Callable[[StoryResult], None] = lambda result: None,
) -> list[StoryResult]:
    """Tell each story of each case, and return all results, those of an earlier part first.

    kills : that `kill-often` makes of each case; None: as the campaign was begun, else KILLS.
    Raises EngineMissing where there is no library, RunError for a folder of something else, and
    KeyboardInterrupt once what was told is kept.
    """
    fault_library()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / DESIGN).exists() and {one.name for one in folder.iterdir()} - {LOCK_FILE}:
        raise RunError(f"{folder}: holds something else. Give another folder with --into.")
    with alone(folder, "campaign of faults"):
        asked = {"seed": seed, "quick": quick, "kills": kills}
        kills = _is_ours(folder, asked, command)
        results = read_results(folder)
        done = {(one.story, one.engine, one.begin, one.seed) for one in results}
        for engine, begin in cases:
            left = [one for one in stories if (one.name, engine, begin, seed) not in done]
            if not left:
                continue
            with made("faults") as place:
                case = Case(engine, begin, seed, place, quick, kills)
                for story in left:
                    on_begun(story.name, engine, begin)
                    result = tell(story, case)
                    with (folder / RESULTS).open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(result)) + "\n")
                    results.append(result)
                    on_told(result)
                    if result.found:
                        _keep(place, folder / "found" / f"{story.name}-{_plain(engine)}-{begin}")
        return results


def tell(story: Story, case: Case) -> StoryResult:
    """One story of one case. What fails in it is told, and never ends the others."""
    result = StoryResult(story.name, case.engine, case.begin, case.seed)
    begun = time.monotonic()
    if why := story.why_not(case):
        result.untold.append(why)
    else:
        try:
            story.tell(case, result)
        except (RunError, PlanError, EngineMissing) as error:
            result.untold.append(str(error))
    if result.verdict == CANNOT_TELL and not result.untold:
        result.untold.append("the fault never fired: nothing was tested")
    result.seconds = round(time.monotonic() - begun, 2)
    return result


def _keep(place: Path, into: Path) -> None:
    """Keep the runs of a story that found something, as far as they were not kept before."""
    for path in sorted(place.glob("run-*")) + sorted(place.glob("full-disk")):
        to = into / path.name
        if path.is_dir() and not to.exists() and (path / "manifest.json").exists():
            if json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("ok"):
                continue
            shutil.copytree(path, to, symlinks=True)


def _plain(name: str) -> str:
    return name.rpartition("/")[2].replace(":", "-")


def _is_ours(folder: Path, asked: dict[str, Any], command: str) -> int:
    """Begin a campaign in this folder, or go on with it. Returns how many kills it makes."""
    path = folder / DESIGN
    usual = QUICK_KILLS if asked["quick"] else KILLS
    if not path.exists():
        asked["kills"] = asked["kills"] or usual
        told = {
            "cwkit": 1, "document": "faults design", "command": command, "asked": asked,
            "machine": describe(folder),
        }  # fmt: skip
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        return int(asked["kills"])
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["document"] != "faults design":
            raise ValueError("another kind of document")
        began = before["asked"]
        kills = int(began.setdefault("kills", usual))  # an older one has none
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder}: no campaign of faults to go on with ({error}).") from error
    asked["kills"] = asked["kills"] or kills
    if began != asked:
        raise PlanError(
            f"--into {folder}: was begun with {shortened(str(began))}, and {asked} is asked now. "
            "Give the same, or another folder."
        )
    return kills


def read_results(folder: Path) -> list[StoryResult]:
    """The results that a campaign has kept. A line that was cut is left out."""
    path = folder / RESULTS
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            found.append(msgspec.json.decode(line[:MOST_LINE], type=StoryResult))
    return found
