"""A soak's folder, read and written; what it did so far follows from the lines of its rounds.

    soak.json      what was asked                    rounds.jsonl   a line for each whole round
    rounds/        the rounds' own folders: those with findings, and the newest of the sound ones
    set-aside/     rounds that were interrupted      kept/          databases that are used on

A folder may come from anybody. Each line is checked when it is read.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from properties.known_faults import known_fault
from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, read_text, read_versioned, visible, write_json

SOAK, LINES, ROUNDS, ASIDE, KEPT = "soak.json", "rounds.jsonl", "rounds", "set-aside", "kept"
NO_LIBRARY = "No faults and no crash campaigns"
"""How a sentence of `missing` begins where none are drawn."""

MOST_BYTES = 1 << 28
"""Of the lines of a soak: a million rounds, more than a year of them."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Number = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Word = Annotated[str, msgspec.Meta(max_length=500)]
_Text = Annotated[str, msgspec.Meta(max_length=4000)]


class Found(msgspec.Struct, frozen=True):
    """What is wrong in a round. kind : lost, torn, integrity, doubled, hang, death, leak, ...

    known : the name of the known deviation that it is (properties.known_faults), "" for none.
    """

    kind: _Word
    sentence: _Text
    known: _Word = ""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One whole round, as its line.

    folder : its name in `rounds`, "" where nothing could be run; `note` then says why. at_s : how
    long the soak had gone on when it was over. faults : calls that did what a rule asked for.
    killed : processes. states : of crashes, opened and judged. rss_bytes, descriptors, wal_bytes :
    the most of one process, and of the log. rss_per_commit, descriptors_per_commit : how one grew
    in proportion to commits over the last two thirds of the round, 0 where it did not.
    calls : of a recorded run, "call file" -> how many. rules : of --fault.
    """

    number: _Count
    kind: _Word
    engine: _Word
    mode: _Word
    scenario: _Word
    seed: _Count
    folder: _Word = ""
    note: _Text = ""
    version: _Word = ""
    at_s: _Number = 0.0
    seconds: _Number = 0.0
    acknowledged: _Count = 0
    faults: _Count = 0
    killed: _Count = 0
    states: _Count = 0
    findings: list[Found] = []
    rss_bytes: _Count = 0
    rss_per_commit: _Number = 0.0
    descriptors: _Count = 0
    descriptors_per_commit: _Number = 0.0
    wal_bytes: _Count = 0
    calls: dict[_Word, _Count] = {}
    rules: list[_Word] = []

    @property
    def new(self) -> list[Found]:
        """What was found and is not known."""
        return [one for one in self.findings if not one.known]

    @property
    def known(self) -> list[str]:
        """The names of the known deviations that it shows."""
        return list(dict.fromkeys(one.known for one in self.findings if one.known))


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """`soak.json`: what was asked. seconds : measured in a usual round. rounds : 0: until the time
    is over. missing : sentences on what is not to be had here. ended : "" while it goes on.
    only : the one round that it is of, None for all. rules : of that round's --fault.
    """

    cwkit: int = FORMAT_VERSION
    version: _Word = ""
    started: _Word = ""
    command: _Text = ""
    machine: dict[str, Any] = {}
    seed: _Count
    engines: Annotated[list[_Word], msgspec.Meta(min_length=1, max_length=100)]
    asked_s: _Number
    seconds: _Number
    rounds: _Count = 0
    missing: list[_Text] = []
    ended: _Word = ""
    only: _Count | None = None
    rules: list[_Word] = []

    @property
    def first(self) -> int:
        """The number of its first round."""
        return self.only or 0

    def repeat(self, one: Round) -> str:
        """The command that draws a round of it again, "" where it would be another one."""
        return repeat_command(
            self.seed, self.engines, self.seconds, one.number, one.rules, self.missing
        )


def repeat_command(
    seed: int,
    engines: Sequence[str],
    seconds: float,
    number: int,
    rules: Sequence[str],
    missing: Sequence[str] = (),
) -> str:
    """The command that draws one round of a soak again, "" where it would be another one: without
    the library for faults, as `missing` says, no faults were drawn.

    >>> repeat_command(7, ["turso"], 3.0, 12, ["sync:*-log:4:EIO"])
    "cwkit soak --seed 7 --engines turso --seconds 3 --only-round 12 --fault 'sync:*-log:4:EIO'"
    """
    if any(text.startswith(NO_LIBRARY) for text in missing):
        return ""
    faults = "".join(f" --fault {shlex.quote(rule)}" for rule in rules)
    names = shlex.quote(",".join(engines))
    return (
        f"cwkit soak --seed {seed} --engines {names} --seconds {seconds:g} --only-round {number}"
        f"{faults}"
    )


@dataclass(frozen=True)
class Soak:
    """A soak, as far as it is. set_aside : rounds that were interrupted."""

    folder: Path
    design: Design
    rounds: list[Round]
    set_aside: int = 0

    @property
    def elapsed_s(self) -> float:
        """How long it went on, all its sittings together."""
        return self.rounds[-1].at_s if self.rounds else 0.0

    @property
    def broken(self) -> list[Round]:
        """The rounds with findings that are not known."""
        return [one for one in self.rounds if one.new]

    @property
    def known(self) -> dict[str, list[Round]]:
        """The rounds that show each known deviation, by its name."""
        found: dict[str, list[Round]] = {}
        for one in self.rounds:
            for name in one.known:
                found.setdefault(name, []).append(one)
        return dict(sorted(found.items()))

    def data(self) -> dict[str, Any]:
        """As a document (docs/json.md)."""
        design = self.design
        return {
            "cwkit": FORMAT_VERSION,
            "document": "soak",
            "folder": str(self.folder),
            "seed": design.seed,
            "engines": design.engines,
            "asked_s": design.asked_s,
            "elapsed_s": self.elapsed_s,
            "ended": design.ended,
            "missing": design.missing,
            "rounds": len(self.rounds),
            "set_aside": self.set_aside,
            "rows": [msgspec.to_builtins(row) for row in rows_of(self.rounds)],
            "broken": [
                {"number": one.number, "kind": one.kind, "engine": one.engine, "mode": one.mode,
                 "scenario": one.scenario, "seed": one.seed, "folder": one.folder,
                 "rules": one.rules, "repeat": design.repeat(one),
                 "findings": msgspec.to_builtins(one.findings)}
                for one in self.broken
            ],
            "known": [_known(name, each) for name, each in self.known.items()],
        }  # fmt: skip


def _known(name: str, rounds: Sequence[Round]) -> dict[str, Any]:
    """A known deviation and the rounds that showed it, of which the first ones stay."""
    bug = known_fault(name)
    return {
        "name": name,
        "sentence": bug.sentence if bug else "",
        "public": bug.public if bug else "",
        "command": bug.command if bug else "",
        "engines": sorted({f"{one.engine}, {one.mode}" for one in rounds}),
        "rounds": len(rounds),
        "first": rounds[0].number,
        "folder": rounds[0].folder,
    }


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """All rounds of one engine in one mode, added up. findings : kind -> rounds that show it and
    are not known for it. known : name of a known deviation -> rounds that show it.
    """

    engine: _Word
    version: _Word
    mode: _Word
    rounds: _Count
    kinds: dict[_Word, _Count]
    not_run: _Count
    acknowledged: _Count
    faults: _Count
    killed: _Count
    states: _Count
    findings: dict[_Word, _Count]
    known: dict[_Word, _Count] = {}
    rss_bytes: _Count
    rss_per_commit: _Number
    descriptors: _Count
    wal_bytes: _Count
    seeds: tuple[_Count, _Count]


def rows_of(rounds: Sequence[Round]) -> list[Row]:
    """A row for each engine and mode, in the order in which they came."""
    found: dict[tuple[str, str], list[Round]] = {}
    for one in rounds:
        found.setdefault((one.engine, one.mode), []).append(one)
    rows = [_row(engine, mode, each) for (engine, mode), each in found.items()]
    return sorted(rows, key=lambda row: [*found].index((row.engine, row.mode)))


def _row(engine: str, mode: str, each: Sequence[Round]) -> Row:
    findings: Counter[str] = Counter()
    known: Counter[str] = Counter()
    for one in each:
        findings.update({each_found.kind for each_found in one.new})
        known.update(one.known)
    return Row(
        engine=engine,
        version=next((one.version for one in each if one.version), ""),
        mode=mode,
        rounds=len(each),
        kinds=dict(Counter(one.kind for one in each)),
        not_run=sum(bool(one.note) for one in each),
        acknowledged=sum(one.acknowledged for one in each),
        faults=sum(one.faults for one in each),
        killed=sum(one.killed for one in each),
        states=sum(one.states for one in each),
        findings=dict(sorted(findings.items())),
        known=dict(sorted(known.items())),
        rss_bytes=max(one.rss_bytes for one in each),
        rss_per_commit=max(one.rss_per_commit for one in each),
        descriptors=max(one.descriptors for one in each),
        wal_bytes=max(one.wal_bytes for one in each),
        seeds=(min(one.seed for one in each), max(one.seed for one in each)),
    )


# --- reading and writing --------------------------------------------------------------------------


def read_soak(folder: Path) -> Soak:
    """A soak by its folder. Raises RunError where it is none, or was edited."""
    try:
        design: Design = read_versioned(folder / SOAK, Design)
    except FileNotFoundError:
        raise RunError(f"{folder}: is no soak's folder (it has no {SOAK}).") from None
    aside = folder / ASIDE
    many = sum(1 for _ in aside.iterdir()) if aside.is_dir() else 0
    return Soak(folder, design, _read_lines(folder / LINES, design.first), many)


def _read_lines(path: Path, first: int) -> list[Round]:
    """A last line that was cut is left out: its round is done again."""
    try:
        text = read_text(path, MOST_BYTES)
    except FileNotFoundError:
        return []
    *whole, _ = text.split("\n")
    found: list[Round] = []
    for number, line in enumerate(whole, 1):
        try:
            one = msgspec.json.decode(line, type=Round)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RunError(f"{path} line {number}: {visible(error)}. It was edited.") from error
        if one.number != first + len(found):
            raise RunError(
                f"{path} line {number}: round {one.number} where {first + len(found)} belongs. "
                "Edited."
            )
        found.append(one)
    return found


def write_design(folder: Path, design: Design) -> None:
    """Whole or not at all."""
    write_json(folder / SOAK, msgspec.to_builtins(design))


def add_line(folder: Path, one: Round) -> None:
    """A round is whole once its line is there. What was cut of an earlier line is removed."""
    path = folder / LINES
    with path.open("a+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size and not (content := file.read()).endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
        file.write(msgspec.json.encode(one) + b"\n")
