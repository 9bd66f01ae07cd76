"""Published crash campaigns: what `cwkit crash` judged, kept in a file each, and read back.

NAME.json has what was recorded, how many states of each model were opened, and what they showed. It
may come from anybody: it is data, and what does not fit together is refused in a sentence.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from analysis.report.published_files import Kind
from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, read_json, resolved, visible

if TYPE_CHECKING:
    from workloads.records import RecordedPlan

CRASHES = Path("analysis/published/crashes")
MOST_BYTES, MOST_CRASHES = 1 << 20, 512
WAY_OUT = "`cwkit crash --publish FOLDER` writes it anew."
LEVELS = ("full", "normal", "off", "extra")

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Seed = Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
_Word = Annotated[str, msgspec.Meta(max_length=500)]
_Text = Annotated[str, msgspec.Meta(max_length=4000)]
_Counts = Annotated[dict[_Word, _Count], msgspec.Meta(max_length=100)]


class CrashRow(msgspec.Struct, frozen=True):
    """The states of one model. broken, allowed : kind of fault -> states that show it.

    lost_in : states that lack acknowledged transactions. most_lost : in one of them.
    """

    model: _Word
    states: _Count
    broken: _Counts
    allowed: _Counts
    lost_in: _Count
    most_lost: _Count


class _Machine(msgspec.Struct, frozen=True):
    """Of the machine what others may know."""

    cpu: _Word = ""
    cores: _Count = 0
    kernel: _Word = ""
    file_system: _Word = ""
    cwkit_commit: _Word | None = None


class PublishedCrash(msgspec.Struct, frozen=True):
    """NAME.json. The fields are those of a campaign's `result.json`.

    started : when its run began, UTC. first_broken : kind -> a sentence on one of the states.
    version, binding : of the library, and of the package by which it was called. command : makes
    one like it.
    """

    cwkit: int
    name: _Word
    started: _Word
    machine: _Machine
    engine: _Word
    version: _Word
    begin: _Word
    synchronous: _Word
    scenario: _Word
    writers: _Count
    checkpointers: _Count
    fault: _Word
    seed: _Seed
    records: _Count
    acknowledged: _Count
    unexplained: Annotated[list[_Text], msgspec.Meta(max_length=100)]
    interrupted: bool
    judged: _Count
    same: _Count
    models: Annotated[list[CrashRow], msgspec.Meta(max_length=20)]
    first_broken: Annotated[dict[_Word, _Text], msgspec.Meta(max_length=100)] = {}
    binding: _Word = ""
    journal_mode: _Word = "wal"
    command: _Text = ""

    @property
    def file(self) -> str:
        return f"{self.name}.json"

    @property
    def broken(self) -> int:
        """How often a state showed what is promised not to be; 0 for a sound engine."""
        return sum(sum(row.broken.values()) for row in self.models)

    def row(self, model: str) -> CrashRow | None:
        """The states of a model."""
        return next((row for row in self.models if row.model == model), None)


def publish_crash(folder: Path, to: Path) -> tuple[Path, PublishedCrash]:
    """Write what a campaign judged into the folder `to`, as NAME.json of the campaign's folder.

    Raises RunError where it is no campaign's folder or it has not ended; OSError.
    """
    from properties.crashes import kept_in, read_kept, sentence_of
    from workloads.records import read_run

    folder = resolved(folder)
    told = read_json(folder / "result.json") if (folder / "result.json").exists() else None
    if not isinstance(told, dict):
        raise RunError(f"{folder}: no crash campaign that has ended. `cwkit crash` makes one.")
    manifest = read_run(folder / "recording").manifest
    if manifest.plan.write_engine not in manifest.engines:
        raise RunError(f"{folder}: its manifest does not tell of its engine. It was cut or edited.")
    first: dict[str, str] = {}
    for path in kept_in(folder / "states"):
        kind = path.name.partition("-")[2].replace("-", " ")
        first.setdefault(kind, sentence_of(read_kept(path))[:4000])
    data: dict[str, Any] = {
        **{key: told[key] for key in PublishedCrash.__struct_fields__ if key in told},
        "cwkit": FORMAT_VERSION,
        "name": folder.name,
        "started": manifest.started,
        "engine": str(told.get("engine", "")).rpartition("/")[2],
        "scenario": str(told.get("scenario", "")).rpartition("/")[2],
        "machine": manifest.machine.model_dump(mode="json"),
        "fault": manifest.plan.fault,
        "first_broken": first,
        "command": _command(manifest.plan, told),
        "binding": manifest.engines[manifest.plan.write_engine].binding,
    }
    return CRASH.write(folder, data, to)


USUAL: Mapping[str, Any] = {
    "begin": "", "scenario": "ledger", "synchronous": "full", "journal_mode": None,
    "page_bytes": 4096, "writers": 4, "checkpointers": 0, "checkpoint": "passive",
    "checkpoint_pause_ms": 0.0, "transactions": 100, "pragma": "",
}  # fmt: skip
"""Fields of a plan that `cwkit crash` has options for, and what they are where it has none."""


def _command(plan: RecordedPlan, told: Mapping[str, Any]) -> str:
    """The command of a campaign like this one, by what its plan says of it; "" where it had scripts
    or a scenario of the user's, whose files are not ours to name.
    """
    if plan.scenario == "sql" or ".py:" in f"{plan.scenario} {plan.write_engine}":
        return ""
    words = ["cwkit", "crash", "--engine", plan.write_engine]
    for name, value in USUAL.items():
        if (mine := getattr(plan, name)) != value:
            mine = f"{mine:g}" if isinstance(mine, float) else str(mine)
            words += [f"--{name.replace('_', '-')}", mine]
    if plan.wal_autocheckpoint not in (None, 100):
        words += ["--autocheckpoint", str(plan.wal_autocheckpoint)]
    for name, value in plan.params.items():
        words += ["--set", f"{name}={value}"]
    for rule in plan.fault.split(","):
        words += ["--fault", rule] if rule else []
    words += ["--states", str(told.get("asked", 500)), "--seed", str(plan.seed)]
    return shlex.join(words)


def read_crashes(folder: Path) -> tuple[list[PublishedCrash], list[str]]:
    """The published campaigns of a folder by name, and why others could not be read.

    A folder that is not there has none.
    """
    return CRASH.read(folder)


def _misfit(one: PublishedCrash) -> str:
    """What does not fit together, "" for nothing."""
    if one.synchronous not in LEVELS:
        return f"synchronous {visible(repr(one.synchronous[:100]))} is no level"
    if sum(row.states for row in one.models) != one.judged:
        return f"{one.judged} states and those of its models do not agree"
    if len({row.model for row in one.models}) < len(one.models):
        return "a model is there twice"
    for row in one.models:
        most = max((*row.broken.values(), *row.allowed.values(), row.lost_in), default=0)
        if most > row.states:
            return f"{row.model}: {most} of {row.states} states show something"
    return ""


CRASH = Kind(
    PublishedCrash,
    "published crash campaign",
    "crash campaigns",
    _misfit,
    WAY_OUT,
    MOST_CRASHES,
    MOST_BYTES,
)
