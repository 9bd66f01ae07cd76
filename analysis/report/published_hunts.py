"""Published hunts: what `cwkit fuzz` did and found, kept in a file each, and read back.

A hunt takes hours, so that a report tells those that were made when somebody decided to. NAME.json
has what was hunted, for how long and how many programs, which operations met, and each finding with
its program. It may come from anybody: it is data, nothing of it is run, and what does not fit
together is refused in a sentence.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from analysis.report.published_files import Kind
from workloads.errors import RunError
from workloads.files import (
    FORMAT_VERSION,
    read_text,
    resolved,
    visible,
)
from workloads.schedules import Program, parse_program

if TYPE_CHECKING:
    from properties.hunter import Kept

HUNTS = Path("analysis/published/hunts")
FOUND = Path("examples/findings")
"""The findings that have a script of their own, said as found by this kit."""

MOST_BYTES = 4 << 20
MOST_HUNTS = 256
"""Published hunts that a report reads, and findings of the kit that it tells."""

WAY_OUT = "`cwkit fuzz --publish FOLDER` writes it anew."
MOST_KINDS = 300
"""Kinds of operation in a hunt: the grammar has some fifty."""

LONGEST = 4000
"""Characters of an engine's words that are published."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Seed = Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Word = Annotated[str, msgspec.Meta(max_length=500)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST)]
_Long = Annotated[str, msgspec.Meta(max_length=200_000)]
_Many = msgspec.Meta(max_length=1000)


class HuntedFinding(msgspec.Struct, frozen=True):
    """A finding of a hunt. The fields are those of its `finding.json`; name : of its folder.

    calls : the steps with their results, where they are none of a program (a broken contract).
    """

    name: _Word
    judge: _Word
    sentence: _Text
    expected: _Text
    seen: _Text
    when: _Text
    steps: _Count
    drawn_steps: _Count
    again: tuple[_Count, _Count]
    method: Literal["repro.py", "program", "the check"]
    program: _Long
    calls: _Long = ""

    @property
    def drawn(self) -> bool:
        """Whether it is a program that was drawn and shrunk."""
        return not self.calls

    @property
    def stands(self) -> bool:
        """Whether its script, which needs nothing but the driver, showed it each time."""
        return self.method == "repro.py" and self.again[0] == self.again[1]


class _Machine(msgspec.Struct, frozen=True):
    """Of the machine what others may know; its id and its files are not published."""

    cpu: _Word = ""
    cores: _Count = 0
    memory_bytes: _Count = 0
    kernel: _Word = ""
    cwkit_commit: _Word | None = None


class PublishedHunt(msgspec.Struct, frozen=True, dict=True):
    """NAME.json. The fields are those of `hunt.json`.

    started : when it began, UTC, "" where that is not known. version : of the cwkit. identity :
    binding, version and id of the library. minutes : asked for. pairs : (operation, operation,
    times that they were under way at once). unsure : programs that were not judged to the end, None
    where that was not counted. died : how processes of the hunt failed. races : that were run, None
    where they were not counted. not_raced : the engine's words for those that were not run.
    """

    cwkit: int
    version: _Word
    name: _Word
    started: _Word
    ended: Literal["done", "interrupted"]
    machine: _Machine
    engine: _Word
    identity: tuple[_Word, _Word, _Word]
    modes: Annotated[list[_Word], _Many]
    seed: _Seed
    without: Annotated[list[_Word], _Many]
    processes: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    minutes: _Time
    elapsed_s: _Time
    programs: _Count
    steps: _Count
    statuses: Annotated[dict[_Word, _Count], _Many]
    unsupported: _Count
    unsure: _Count | None
    known: Annotated[dict[_Word, _Count], _Many]
    refused: Annotated[dict[_Word, _Text], _Many]
    pairs: Annotated[list[tuple[_Word, _Word, _Count]], msgspec.Meta(max_length=100_000)]
    findings: Annotated[list[HuntedFinding], msgspec.Meta(max_length=10_000)]
    died: Annotated[list[_Text], _Many] = []
    races: _Count | None = None
    not_raced: Annotated[dict[_Word, _Count], _Many] = {}

    @property
    def file(self) -> str:
        return f"{self.name}.json"

    @property
    def worked_s(self) -> float:
        """The time of all its processes together."""
        return self.processes * self.elapsed_s

    @cached_property
    def known_by_now(self) -> dict[str, str]:
        """Those of its findings that are known deviations by now: name -> that one's name."""
        found = {one.name: self._known(one) for one in self.findings}
        return {name: bug for name, bug in found.items() if bug}

    def _known(self, one: HuntedFinding) -> str:
        from properties.hunter import Kept, known_as  # here: most reports have no hunt to tell

        kept = Kept("", one.judge, one.sentence, one.expected, one.seen, one.when, self.engine,
                    *self.identity, self.modes, self.seed, 0, one.steps, one.drawn_steps,
                    one.again, one.method)  # fmt: skip
        return known_as(kept, parse_program(one.program))


class KitFinding(NamedTuple):
    """A finding that has its script in a folder of FOUND."""

    folder: Path
    kept: Kept
    program: Program
    timeline: str

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def stands(self) -> bool:
        return self.kept.method == "repro.py" and self.kept.again[0] == self.kept.again[1]


# --- publishing -----------------------------------------------------------------------------------


def publish_hunt(folder: Path, to: Path) -> tuple[Path, PublishedHunt]:
    """Write what a hunt did and found into the folder `to`, as NAME.json of the hunt's folder.

    Raises RunError where it is no hunt's folder, the hunt is not over, or a file of it cannot be
    read; OSError.
    """
    from properties.hunter import findings_in, read_finding, read_hunt

    folder = resolved(folder)
    told = read_hunt(folder)
    kept = [(path, *read_finding(path)) for path in findings_in(folder)]
    data = {
        "cwkit": FORMAT_VERSION,
        "version": told.get("version", ""),
        "name": folder.name,
        "started": told.get("started", _started(folder.name)),
        "machine": told.get("machine", {}),
        **{key: told[key] for key in PublishedHunt.__struct_fields__
           if key in told and key not in ("cwkit", "version", "started", "machine", "findings")},
        "engine": str(told.get("engine", "")).rpartition("/")[2],
        **{key: told.get(key, default) for key, default in SINCE.items()},
        "findings": [
            {"name": path.name, **{key: _shorter(getattr(one, key)) for key in OF_FINDING},
             "program": str(program), "calls": _calls(path, one.steps, program)}
            for path, one, program in kept
        ],
    }  # fmt: skip
    return HUNT.write(folder, data, to)


def _calls(path: Path, steps: int, program: Program) -> str:
    """The steps of a finding with their results, where its program has none; "" for others."""
    from properties.hunter import TIMELINE

    return read_text(path / TIMELINE, 1 << 16) if steps and not program.steps else ""


OF_FINDING = ("judge", "sentence", "expected", "seen", "when", "steps", "drawn_steps", "again",
              "method")  # fmt: skip
SINCE: dict[str, Any] = {"unsupported": 0, "unsure": None, "without": [], "died": []}
"""What hunts of an older cwkit do not say."""


def _started(name: str) -> str:
    """When a hunt began, by its folder's name, "" where that says nothing."""
    if not (found := re.match(r"(\d{8})-(\d{6})-fuzz-", name)):
        return ""
    try:
        at = datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S")
    except ValueError:
        return ""
    return f"{at.isoformat()}+00:00"


def _shorter(value: Any) -> Any:
    long = isinstance(value, str) and len(value) > LONGEST
    return f"{value[: LONGEST - 1]}…" if long else value


# --- reading --------------------------------------------------------------------------------------


def read_hunts(folder: Path) -> tuple[list[PublishedHunt], list[str]]:
    """The published hunts of a folder by name, and why others could not be read; nothing is run.

    A folder that is not there has none.
    """
    return HUNT.read(folder)


def _misfit(hunt: PublishedHunt) -> str:
    """What does not fit together in a hunt, "" for nothing."""
    if hunt.started and not _is_utc(hunt.started):
        return f"it began at {visible(repr(hunt.started))}, which is no time in UTC"
    if sum(hunt.statuses.values()) != hunt.steps:
        return f"{hunt.steps} steps and {sum(hunt.statuses.values())} results do not agree"
    if (hunt.unsure or 0) > hunt.programs:
        return f"{hunt.unsure} of {hunt.programs} programs were not judged to the end"
    pairs = [(one, other) for one, other, _ in hunt.pairs]
    if len(set(pairs)) < len(pairs) or any(one > other for one, other in pairs):
        return "a pair of operations is there twice"
    if len(kinds := {kind for pair in pairs for kind in pair}) > MOST_KINDS:
        return f"it has {len(kinds)} kinds of operation; {MOST_KINDS} is the most"
    names = [one.name for one in hunt.findings]
    if len(set(names)) < len(names):
        return "a finding is there twice"
    return next((f"the finding {visible(one.name)}: {why}" for one in hunt.findings
                 if (why := _odd(one))), "")  # fmt: skip


HUNT = Kind(
    PublishedHunt, "published hunt", "published hunts", _misfit, WAY_OUT, MOST_HUNTS, MOST_BYTES
)


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta()
    except ValueError:
        return False


def _odd(one: HuntedFinding) -> str:
    if not re.fullmatch(f"{re.escape(one.judge.replace(' ', '-'))}-[0-9a-z-]+", one.name):
        return f"the judge {visible(repr(one.judge))} does not give such a name"
    if one.again[0] > one.again[1]:
        return f"it showed in {one.again[0]} of {one.again[1]} tries"
    try:
        program = parse_program(one.program)
    except ValueError as error:
        return visible(error).rstrip(".")
    if len(program.steps) != one.steps and (program.steps or not one.calls):
        return f"its program has {len(program.steps)} steps and not {one.steps}"
    return ""


def read_found(folder: Path) -> tuple[list[KitFinding], list[str]]:
    """The findings of a folder such as FOUND, and why others could not be read."""
    from properties.hunter import TIMELINE, findings_in, read_finding

    found: list[KitFinding] = []
    unread: list[str] = []
    try:
        paths = findings_in(folder)
    except (RunError, OSError) as error:
        return [], [f"The findings of the kit are not told. {error}"]
    for path in paths[:MOST_HUNTS]:
        try:
            timeline = read_text(path / TIMELINE, 1 << 20)
            found.append(KitFinding(path, *read_finding(path), timeline))
        except (RunError, OSError) as error:
            unread.append(f"The finding {visible(path.name)} is not told. {error}")
    return found, unread
