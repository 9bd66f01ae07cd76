"""A hunt's folder: what was hunted, how far it came, and a folder for each finding.

A finding's folder has `program.txt` (which pastes back), `finding.json`, `timeline.txt` and
`repro.py`. It gets its name only when all of that is in it, so that a hunt that is killed leaves
whole findings.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from properties.hunter.hunt import Finding
from properties.hunter.judges import Found
from properties.hunter.known import looks_like, of_engine, recognised
from properties.hunter.reference import Wrong, shown
from properties.hunter.script import can_tell, script
from workloads.engines import Engine, Identity, Script
from workloads.errors import RunError
from workloads.files import (
    FORMAT_VERSION,
    converted,
    inside,
    read_text,
    read_versioned,
    write_json,
)
from workloads.files import (
    made as made_folder,
)
from workloads.processes import start, wait
from workloads.schedules import Played, Program, parse_program

HUNT, FINDING, PROGRAM = "hunt.json", "finding.json", "program.txt"
TIMELINE, REPRO = "timeline.txt", "repro.py"
THERE = 1
"""The status by which a script says that the bug is there."""

CANNOT_TELL = 2

TRIES, TRY_LIMIT_S = 10, 40.0
"""How often a script is run before its finding is believed, and how long each time."""

COLUMN = 44


class Kept(msgspec.Struct):
    """A finding as it is kept. again : (times that it showed, times that it was tried). method :
    by what it was tried: "repro.py", or "program" where no script can play it. no_script : why.
    known : a known deviation of the family that it looks like (known.py). check : the name of the
    contract's check, of a finding of the judge "contract", which has no program.

    What people add to one of examples/findings: title, what is wrong in a sentence; public, the
    address of a public report, "" where none was found; also, in which other versions it is.
    """

    signature: str
    judge: str
    sentence: str
    expected: str
    seen: str
    when: str
    engine: str
    binding: str
    version: str
    source_id: str
    modes: list[str]
    seed: int
    index: Annotated[int, msgspec.Meta(ge=0)]
    steps: Annotated[int, msgspec.Meta(ge=0)]
    drawn_steps: Annotated[int, msgspec.Meta(ge=0)]
    again: tuple[int, int]
    method: str
    known: str = ""
    cwkit: int = FORMAT_VERSION
    title: str = ""
    public: str = ""
    check: str = ""
    also: str = ""
    no_script: str = ""


def keep(
    folder: Path,
    finding: Finding,
    *,
    engine: Engine,
    name: str,
    identity: Identity,
    modes: tuple[str, ...],
    seed: int,
    first: tuple[str, ...],
    shows: Callable[[], bool],
) -> Path | None:
    """Write a finding into a folder of its own, and try its script. None where it is there already.

    first : statements that each connection runs first. shows : plays the program once more and
    says whether it shows the same, for a finding that no script can tell.
    """
    target = folder / "findings" / name_of(finding)
    if target.exists():
        return None
    with in_making(folder) as making:
        program = finding.played.program
        (making / PROGRAM).write_text(f"{program}\n", encoding="utf-8")
        (making / TIMELINE).write_text(told(finding), encoding="utf-8")
        method, shown, why = "program", 0, _why_no_script(engine, name, finding)
        if not why:
            made: Script = engine.script()  # type: ignore[attr-defined]
            version = " ".join(filter(None, identity[:2]))
            (making / REPRO).write_text(
                script(
                    finding.found,
                    finding.played,
                    version=version,
                    driver=made.lines,
                    first=first,
                    own_arguments=getattr(engine, "arguments", ()),
                    apart=engine.hosting == "process",
                ),
                encoding="utf-8",
            )
            ends = [_unless_killed(making / REPRO, made) for _ in range(TRIES)]
            shown, method = ends.count(THERE), REPRO
            if not shown:
                method, why = "program", f"{REPRO} shows it in 0 of {TRIES} tries"
                why += ", for it does not run" if CANNOT_TELL in ends else ""
        if method != REPRO:
            shown = sum(shows() for _ in range(TRIES))
        alike = looks_like(finding.found, program, identity.binding)
        wrong = finding.found.wrong
        kept = Kept(
            finding.signature, wrong.judge, wrong.sentence, wrong.expected, wrong.seen,
            finding.found.when, name, *identity[:3], list(modes), seed, finding.index,
            len(program.steps), len(finding.original.steps), (shown, TRIES), method,
            alike, no_script=why,
        )  # fmt: skip
        write_json(making / FINDING, msgspec.to_builtins(kept))
        try:
            os.rename(making, target)
        except OSError:
            if target.exists():  # another process was faster
                return None
            raise
    return target


def _why_no_script(engine: Engine, name: str, finding: Finding) -> str:
    """Why no script can tell a finding, "" where one can."""
    if not hasattr(engine, "script"):
        return (
            f"{name} has no `script()`, which says how its driver is imported (Engine in "
            "workloads/engines/engine.py)"
        )
    if can_tell(finding.found, finding.played):
        return ""
    apart = finding.played.program.apart
    return "its sessions have processes of their own" if apart else "a script cannot tell it"


@contextlib.contextmanager
def in_making(folder: Path) -> Iterator[Path]:
    """A folder for a finding that is not whole yet, to be renamed to one in `findings`.

    It lies in a temporary folder of the hunt's, so that it is known for one if we are killed.
    """
    (folder / "findings").mkdir(parents=True, exist_ok=True)
    with made_folder("finding", within=folder) as own:
        making = own / "whole"
        making.mkdir()
        yield making


def name_of(finding: Finding) -> str:
    """A folder's name: the judge, and a hash of the signature."""
    digest = hashlib.sha256(finding.signature.encode()).hexdigest()[:8]
    return f"{finding.found.wrong.judge.replace(' ', '-')}-{digest}"


def tried(path: Path, made: Script, times: int = TRIES, status: int = THERE) -> int:
    """Run a script some times; return how often it ended with this status."""
    return sum(_unless_killed(path, made) == status for _ in range(times))


def _unless_killed(path: Path, made: Script) -> int | None:
    """Its status; once more where somebody else killed it."""
    status = _once(path, made)
    return _once(path, made) if status == -signal.SIGKILL else status


def _once(path: Path, made: Script) -> int | None:
    with made_folder("repro") as folder:
        child = start(
            "repro",
            [sys.executable, str(path), *made.argv],
            last_words=folder / "words",
            environment={**made.environment, "TMPDIR": str(folder)},
            foreign=True,
        )
        try:
            status = wait(child, TRY_LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):  # and whatever it has started
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait(10)
        return status


def told(finding: Finding) -> str:
    """The finding for people: what is wrong, and the steps with their results."""
    return describe(finding.found, finding.played)


def describe(found: Found, played: Played) -> str:
    """What is wrong with a program that was played, and its steps with their results."""
    wrong = found.wrong
    lines = [f"{wrong.judge}: {wrong.sentence}{f', {found.when}' if found.when else ''}"]
    if wrong.expected:
        lines.append(f"right: {wrong.expected}")
    head = str(replace(played.program, steps=())).splitlines()
    lines += [f"seen:  {wrong.seen}" if wrong.seen else "", *head[:-1], ""]
    return "\n".join([*lines, *timeline(played, found.at)]) + "\n"


def timeline(played: Played, at: int) -> list[str]:
    """The steps with their results, a column for each session."""
    names = played.program.sessions
    lines = ["step  " + "".join(f"{f'session {name}':{COLUMN}}" for name in names).rstrip()]
    for number, step in enumerate(played.program.steps[: at + 1]):
        indent = " " * (COLUMN * names.index(step.session)) if step.session in names else ""
        result = played.results[number] if number < len(played.results) else None
        text = f"{step.verb} {step.text}".strip() if step.verb != "sql" else step.text
        if result is None:
            text += "  !! it never came back"
        elif result.status != "ok":
            text += f"  !! {result.status}: {result.error} {result.message}".rstrip(": ")
        elif result.rows:
            text += f"  -> {shown(result.rows)}"
        lines.append(f"{number:>4}  {indent}{text}")
    return lines


# --- reading --------------------------------------------------------------------------------------


def read_finding(folder: Path) -> tuple[Kept, Program]:
    """A finding that was kept. Raises RunError where it cannot be read."""
    path = folder / FINDING
    try:
        kept: Kept = converted(path, read_versioned(path), Kept)
        program = parse_program(read_text(folder / PROGRAM))
    except FileNotFoundError as error:
        raise RunError(f"{error.filename}: is missing, so {folder} is no finding.") from error
    except ValueError as error:
        raise RunError(f"{folder / PROGRAM}: {error}") from error
    return kept, program


def known_as(kept: Kept, program: Program) -> str:
    """The name of the known deviation that a finding which was kept is by now, "" for none."""
    wrong = Wrong(kept.judge, kept.sentence, kept.expected, kept.seen)
    found = Found(wrong, len(program.steps) - 1, kept.when)
    return recognised(found, program, of_engine(f"{kept.binding} {kept.version}"))


def read_hunt(folder: Path) -> dict[str, Any]:
    """What `hunt.json` says of a hunt that is over, also of one that was interrupted.

    Raises RunError where the folder is no hunt's, or the hunt is not over: until then it has
    written no count.
    """
    path = folder / HUNT
    try:
        told_: dict[str, Any] = read_versioned(path)
    except FileNotFoundError:
        raise RunError(
            f"{folder}: is no hunt's folder (it has no {HUNT}). `cwkit fuzz` makes one."
        ) from None
    if told_.get("ended") == "running":
        raise RunError(
            f"{folder}: the hunt still runs, or was killed before it wrote what it did. Wait for "
            "its end, or hunt anew: `cwkit fuzz`."
        )
    if told_.get("ended") == "interrupted" and "elapsed_s" not in told_:
        raise RunError(
            f"{folder}: the hunt was interrupted before it had played a program, so that there is "
            "nothing to tell of it. Hunt anew: `cwkit fuzz`."
        )
    return told_


def findings_in(folder: Path) -> list[Path]:
    """The folders of a hunt's findings, those in a folder, or the folder itself where it is one.

    Raises RunError where one is a symbolic link that leads out of it.
    """
    if (folder / FINDING).is_file():
        return [folder]
    within = inside(folder, "findings") if (folder / HUNT).is_file() else folder
    if not within.is_dir():
        return []
    names = sorted(name for name in os.listdir(within) if not name.startswith("."))
    paths = [inside(within, name) for name in names]
    return [path for path in paths if (path / FINDING).is_file()]


def write_hunt(folder: Path, told_: dict[str, Any]) -> None:
    """What was hunted and how far it came, whole or not at all."""
    write_json(folder / HUNT, {"cwkit": FORMAT_VERSION, **told_})
