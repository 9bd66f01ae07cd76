"""Published soaks: what `cwkit soak` did and found, kept in a file each, and read back.

As a published hunt it is data, may come from anybody, and what does not fit together is refused in
a sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from analysis.report.published_files import Kind
from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, resolved

SOAKS = Path("analysis/published/soaks")
WAY_OUT = "`cwkit soak --publish FOLDER` writes it anew."
MOST_BYTES, MOST_SOAKS = 8 << 20, 256

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Number = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Word = Annotated[str, msgspec.Meta(max_length=500)]
_Text = Annotated[str, msgspec.Meta(max_length=4000)]
_Many = msgspec.Meta(max_length=1000)


class SoakedRow(msgspec.Struct, frozen=True, kw_only=True):
    """All rounds of one engine in one mode. The fields are those of `cwkit soak --json`."""

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


class SoakedFinding(msgspec.Struct, frozen=True):
    """What was wrong in a round. known : as which known deviation, "" for none."""

    kind: _Word
    sentence: _Text
    known: _Word = ""


class SoakedRound(msgspec.Struct, frozen=True, kw_only=True):
    """A round with findings that are not known. rules : of --fault."""

    number: _Count
    kind: _Word
    engine: _Word
    mode: _Word
    scenario: _Word
    seed: _Count
    findings: Annotated[list[SoakedFinding], msgspec.Meta(min_length=1, max_length=100)]
    rules: Annotated[list[_Word], _Many] = []


class SoakedKnown(msgspec.Struct, frozen=True, kw_only=True):
    """A known deviation. rounds : that showed it, of which `first` is the first."""

    name: _Word
    sentence: _Text
    public: _Word
    command: _Text
    engines: Annotated[list[_Word], _Many]
    rounds: _Count
    first: _Count


class _Machine(msgspec.Struct, frozen=True):
    """Of the machine what others may know; its id and its files are not published."""

    cpu: _Word = ""
    cores: _Count = 0
    memory_bytes: _Count = 0
    kernel: _Word = ""
    cwkit_commit: _Word | None = None


class PublishedSoak(msgspec.Struct, frozen=True, kw_only=True):
    """NAME.json. started : UTC. asked_s, elapsed_s : of all sittings together."""

    cwkit: int
    version: _Word
    name: _Word
    started: _Word
    ended: Literal["done", "interrupted"]
    machine: _Machine
    seed: _Count
    engines: Annotated[list[_Word], _Many]
    missing: Annotated[list[_Text], _Many]
    asked_s: _Number
    elapsed_s: _Number
    seconds: _Number
    rounds: _Count
    set_aside: _Count
    rows: Annotated[list[SoakedRow], _Many]
    broken: Annotated[list[SoakedRound], msgspec.Meta(max_length=100_000)]
    known: Annotated[list[SoakedKnown], _Many] = []

    @property
    def file(self) -> str:
        """Its name in the folder of published soaks."""
        return f"{self.name}.json"


def publish_soak(folder: Path, to: Path) -> tuple[Path, PublishedSoak]:
    """Write what a soak did and found into the folder `to`, as NAME.json of the soak's folder.

    Raises RunError where it is no soak's folder, or the soak is not over; OSError.
    """
    from properties.soaks import read_soak

    folder = resolved(folder)
    soak = read_soak(folder)
    if soak.design.ended not in ("done", "interrupted"):
        raise RunError(
            f"{folder}: the soak still runs, or was killed. `cwkit soak --into {folder}` goes on "
            "with it."
        )
    if soak.design.only is not None:
        raise RunError(f"{folder}: is one round of a soak alone. Publish the whole soak.")
    design, told = soak.design, soak.data()
    data = {
        "cwkit": FORMAT_VERSION,
        "version": design.version,
        "name": folder.name,
        "started": design.started,
        "machine": design.machine,
        "seconds": design.seconds,
        **{key: told[key] for key in PublishedSoak.__struct_fields__ if key in told},
        "engines": [name.rpartition("/")[2] for name in design.engines],
    }
    return SOAK.write(folder, data, to)


def read_soaks(folder: Path) -> tuple[list[PublishedSoak], list[str]]:
    """The published soaks of a folder by name, and why others could not be read.

    A folder that is not there has none.
    """
    return SOAK.read(folder)


def _misfit(soak: PublishedSoak) -> str:
    """What does not fit together in a soak, "" for nothing."""
    if sum(row.rounds for row in soak.rows) != soak.rounds:
        return f"{soak.rounds} rounds and those of its rows do not agree"
    shown = [*(one.number for one in soak.broken), *(one.first for one in soak.known)]
    if len({one.number for one in soak.broken}) < len(soak.broken):
        return "a round is there twice"
    if any(number >= soak.rounds for number in shown):
        return "a round with findings is none of its rounds"
    return ""


SOAK = Kind(
    PublishedSoak, "published soak", "published soaks", _misfit, WAY_OUT, MOST_SOAKS, MOST_BYTES
)
