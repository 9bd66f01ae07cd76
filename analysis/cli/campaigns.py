"""Folders of hunts, crash and fault campaigns, and soaks: a line in `cwkit list`, and `cwkit show`.

What is shown is what the command itself printed at its end. The list reads one small file of each.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from analysis.wording import times
from workloads.errors import RunError
from workloads.files import inside, json_text, read_text, read_versioned

if TYPE_CHECKING:
    from properties.hunter import Hunted

HUNT, CRASH, FAULTS, SOAK = "hunt.json", "crash.json", "faults.json", "soak.json"
"""The files that tell these folders. The rooms define the names, too."""

MOST_BYTES = 1 << 26
"""Of the results of a fault campaign."""


# --- a line each --------------------------------------------------------------------------------


def of_a_hunt(folder: Path) -> tuple[str, str]:
    """Raises RunError for a file that is none of ours."""
    told = read_versioned(folder / HUNT)
    modes = told.get("modes")
    named = ", ".join(map(str, modes)) if isinstance(modes, list) else ""
    what = f"hunt: {told.get('engine', '')}, {named}"
    ended = told.get("ended")
    if ended == "running":
        return what, "running, or killed before it wrote what it did"
    found = [times(_findings(folder), "finding")]
    if isinstance(programs := told.get("programs"), int):
        found.insert(0, times(programs, "program"))
    if isinstance(known := told.get("known"), dict) and known:
        found.append(f"{len(known)} known")
    return what, ", ".join(found + ([] if ended == "done" else [str(ended)]))


def _findings(folder: Path) -> int:
    place = inside(folder, "findings")
    try:
        return sum(not entry.name.startswith(".") for entry in os.scandir(place) if entry.is_dir())
    except FileNotFoundError:
        return 0


def of_a_crash(folder: Path) -> tuple[str, str]:
    """Raises RunError for a file that is none of ours."""
    from properties.crashes import read_result

    read_versioned(folder / CRASH)
    if not (folder / "result.json").exists():
        return "crash campaign", f"unfinished: cwkit crash --into {folder}"
    one = read_result(folder)
    what = f"crash: {one.scenario} on {one.engine}, {one.begin}, synchronous {one.synchronous}"
    what += "" if one.journal_mode == "wal" else f", journal_mode {one.journal_mode}"
    broken: Counter[str] = Counter()
    for row in one.models:
        broken.update(row.broken)
    found = ", ".join(f"{kind} in {many}" for kind, many in sorted(broken.items()))
    result = f"{times(one.judged, 'state')}, {'BROKEN: ' + found if found else '0 broken'}"
    return what, result + (", interrupted" if one.interrupted else "")


def of_faults(folder: Path) -> tuple[str, str]:
    """Raises RunError for a file that is none of ours."""
    read_versioned(folder / FAULTS)
    told = _lines(folder / "results.jsonl")
    engines = dict.fromkeys(str(one.get("engine", "")) for one in told)
    found = Counter(str(one.get("story", "")) for one in told if one.get("found"))
    names = ", ".join(f"{name} {many}" for name, many in found.items())
    result = f"{len(told):,} told, {'FINDINGS: ' + names if names else 'no findings'}"
    return f"faults: {', '.join(engines) or 'none yet'}", result


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines that can be read: the last one of a campaign that was killed may be cut."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in read_text(path, MOST_BYTES).splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(told := json.loads(line), dict):
                    found.append(told)
    return found


def of_a_soak(folder: Path) -> tuple[str, str]:
    """Raises RunError for a file that is none of ours."""
    from properties.soaks import read_soak

    soak = read_soak(folder)
    what = f"soak: {', '.join(soak.design.engines)}, seed {soak.design.seed}"
    kinds: Counter[str] = Counter()
    for one in soak.broken:
        kinds.update({found.kind for found in one.new})
    found = ", ".join(f"{kind} in {many}" for kind, many in sorted(kinds.items())) or "no findings"
    known = f", known: {len(soak.known)}" if soak.known else ""
    result = f"{times(len(soak.rounds), 'round')}, {found}{known}"
    if soak.design.ended == "done":
        return what, result
    return what, f"{result}, {soak.design.ended or 'not over'}: cwkit soak --into {folder}"


# --- the whole ----------------------------------------------------------------------------------


def show_campaign(folder: Path, console: Console, *, as_json: bool = False) -> bool:
    """Print what the command printed at its end; False where the folder is of none of these."""
    for note, show in SHOWN.items():
        if (folder / note).exists():
            show(folder, console, as_json)
            return True
    return False


def _show_hunt(folder: Path, console: Console, as_json: bool) -> None:
    from analysis.cli.fuzz import hunt_document, tell

    hunted, told = _hunted(folder)
    if as_json:
        print(json_text(hunt_document(hunted)))
    else:
        tell(hunted, str(told["engine"]), tuple(map(str, told["modes"])), console)


def _hunted(folder: Path) -> tuple[Hunted, dict[str, Any]]:
    """A hunt as it was when it ended, and what its file says."""
    from properties.hunter import Hunted, Progress, findings_in, read_hunt

    told = read_hunt(folder)
    try:
        progress = Progress(
            **{name: told[name] for name in COUNTS if name in told},
            statuses=Counter(told.get("statuses", {})),
            known=Counter(told["known"]),
            not_raced=Counter(told.get("not_raced", {})),
            refused=dict(told["refused"]),
            pairs=Counter({(str(a), str(b)): int(many) for a, b, many in told["pairs"]}),
            findings=[path.name for path in findings_in(folder)],
        )
        progress.elapsed_s, progress.programs = float(told["elapsed_s"]), int(told["programs"])
        made = Hunted(folder, progress, str(told["ended"]), tuple(map(str, told.get("died", ()))))
        return made, {"engine": told["engine"], "modes": list(told["modes"])}
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder / HUNT}: says not what a hunt says ({type(error).__name__}: {error}). It was "
            "cut or edited."
        ) from error


COUNTS = ("drawn", "steps", "played_s", "judged_s", "unsupported", "unsure", "races")


def _show_crash(folder: Path, console: Console, as_json: bool) -> None:
    from analysis.cli.crash import tell
    from properties.crashes import read_result

    data = read_result(folder).data(folder)
    if as_json:
        print(json_text(data))
    else:
        tell(data, folder, console)


def _show_faults(folder: Path, console: Console, as_json: bool) -> None:
    from analysis.cli.faults import document, tell
    from properties.faults import read_results

    read_versioned(folder / FAULTS)
    results = read_results(folder)
    if as_json:
        print(json_text(document(folder, results, interrupted=False)))
        return
    try:
        tell(results, folder, console, interrupted=False)
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{folder}: a line of its results.jsonl has something else than a story's ({error}). "
            "It was cut or edited."
        ) from error


def _show_soak(folder: Path, console: Console, as_json: bool) -> None:
    from analysis.cli.soak import tell
    from properties.soaks import read_soak

    soak = read_soak(folder)
    if as_json:
        print(json_text(soak.data()))
    else:
        tell(soak, console)


SHOWN: dict[str, Callable[[Path, Console, bool], None]] = {
    HUNT: _show_hunt,
    CRASH: _show_crash,
    FAULTS: _show_faults,
    SOAK: _show_soak,
}
