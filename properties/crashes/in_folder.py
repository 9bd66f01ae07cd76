"""A crash campaign in a folder: the recording, each state's judgement, what was kept of them.

    recording/     the run, its log, its files before; states.jsonl   a line for each judged state
    contents.jsonl a line for each moment that was opened to find the commit order, if it had to be
    states/NNN/    a state that keeps less than is promised, made smaller
    crash.json     what was asked, and how it ended

It is resumed by its folder: what was judged is read back, and the same states are drawn again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from properties.crashes.campaign import POWER, Campaign, Judged, key_of, run_campaign
from properties.crashes.judging import Fault, judge, told_by, until
from properties.crashes.keeping import (
    KeptState,
    drawn_key,
    expected_in,
    keep_state,
    kept_in,
    number_of,
    plan_of,
    read_state,
    told_of,
)
from properties.crashes.opening import LIMIT_S, journal_of
from properties.crashes.recorded_run import RecordedRun, answer_of
from properties.crashes.recording import Recording, read_recording
from properties.crashes.reducing import MOST_OPENINGS, reduce_state
from properties.crashes.results import DESIGN, RESULT
from properties.crashes.states import MODELS, CrashState, Model
from workloads.engines import find_engine
from workloads.errors import PlanError, RunError
from workloads.files import LOCK_FILE, alone, json_text, made, read_versioned
from workloads.runs import Plan, Progress, past_the_library, run

RECORDING, JUDGED, KEPT = "recording", "states.jsonl", "states"
WHAT = "crash campaign"
MOST_KEPT = 3
"""States that are kept of each kind of fault; more of one kind say nothing new."""

NO_JOURNAL = ("memory", "off")
"""Journal modes that promise nothing after a crash (https://sqlite.org/pragma.html)."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Kind = Annotated[str, msgspec.Meta(pattern="^[a-z ]{1,40}$")]
"""Of a fault: a folder is named for it."""


class _AskedBefore(msgspec.Struct):
    many: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    seed: int
    models: Annotated[list[Model], msgspec.Meta(min_length=1)]
    limit_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    reduce: bool


class _Design(msgspec.Struct):
    """Of crash.json, what is needed to go on."""

    asked: _AskedBefore


class _Line(msgspec.Struct):
    """Of states.jsonl."""

    key: str
    faults: list[tuple[_Kind, str, bool]]
    lost: _Count | None
    acked: _Count
    seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What a campaign was asked. many : states. reduce : whether what is kept is made smaller."""

    many: int = 500
    seed: int = 0
    models: tuple[str, ...] = MODELS
    limit_s: float = LIMIT_S
    reduce: bool = True


@dataclass(slots=True)
class Crashed:
    """A campaign, as far as it is. kept : folders of states that keep less than is promised.

    whole : what the recorded run says of itself.
    """

    folder: Path
    recording: Recording
    asked: Asked
    campaign: Campaign
    unexplained: list[str]
    kept: list[Path] = field(default_factory=list)
    whole: RecordedRun | None = None

    @property
    def plan(self) -> Plan:
        """Of the recorded run."""
        return Plan(**self.recording.run.manifest.plan.model_dump(mode="json"))

    def data(self) -> dict[str, Any]:
        """As a document: what was asked, and a row for each model."""
        plan = self.plan
        return {
            "cwkit": 1,
            "document": "crash",
            "folder": str(self.folder),
            "engine": plan.write_engine,
            "version": self.recording.run.manifest.engines[plan.write_engine].version,
            "binding": self.recording.run.manifest.engines[plan.write_engine].binding,
            "begin": plan.begin,
            "synchronous": plan.synchronous,
            "journal_mode": journal_of(plan),
            "scenario": plan.scenario,
            "writers": plan.writers,
            "checkpointers": plan.checkpointers,
            "seed": self.asked.seed,
            "asked": self.asked.many,
            "records": len(self.recording.changes),
            "acknowledged": len(told_by(self.recording.changes).acked),
            "unexplained": self.unexplained,
            "notes": self.whole.notes if self.whole else [],
            "contents": self.whole.contents if self.whole else 0,
            "interrupted": self.campaign.interrupted,
            "judged": len(self.campaign.judged),
            "same": self.campaign.same,
            "models": [_row(model, judged) for model, judged in self.campaign.by_model().items()],
            "kept": [str(path.relative_to(self.folder)) for path in self.kept],
        }


def _row(model: str, judged: Sequence[Judged]) -> dict[str, Any]:
    lost = [one.lost for one in judged if one.lost is not None]
    broken: dict[str, int] = {}
    allowed: dict[str, int] = {}
    for one in judged:
        for into, promised in ((broken, True), (allowed, False)):
            for kind in {fault.kind for fault in one.faults if fault.promised == promised}:
                into[kind] = into.get(kind, 0) + 1
    return {
        "model": model,
        "states": len(judged),
        "broken": broken,
        "allowed": allowed,
        "lost_in": sum(one > 0 for one in lost),
        "most_lost": max(lost, default=0),
    }


def must_be_judged(plan: Plan) -> None:
    """Raises PlanError for a run whose crash states nobody could judge."""
    if plan.write_engine != plan.database:
        raise PlanError("A crash is one engine's: leave --write-engine out.")
    if plan.journal_mode in NO_JOURNAL:
        raise PlanError(
            f"--journal-mode {plan.journal_mode}: no journal is on the disk, and after any crash "
            "the database may be malformed, as documented. Choose delete, truncate or persist."
        )
    engine = find_engine(plan.write_engine)
    if plan.journal_mode and engine.file_format != "sqlite":
        raise PlanError(
            f"--journal-mode {plan.journal_mode}: {plan.write_engine} has a log of its own. Leave "
            "it out."
        )
    if why := past_the_library(engine):
        raise PlanError(
            f"--engine {plan.write_engine}: it {why}, and what the workers do to files is "
            "recorded. Take an embedded engine."
        )


def crash(
    plan: Plan,
    folder: Path,
    asked: Asked,
    *,
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    on_judged: Callable[[Judged, int], None] = lambda one, many: None,
    on_opened: Callable[[int, int], None] = lambda known, asked: None,
) -> Crashed:
    """Record a run and judge the states of crashes in it, or go on with a folder that has a part.

    Raises what `workloads.runs.run` raises, PlanError for a plan that nobody could judge, and
    RunError for a folder that is of something else.
    """
    must_be_judged(plan)
    folder.mkdir(parents=True, exist_ok=True)
    if {path.name for path in folder.iterdir()} - {RECORDING, LOCK_FILE}:
        raise RunError(f"{folder}: holds something else. Give another folder with --into.")
    with alone(folder, WHAT):
        recording = _recorded(plan, folder, asked, command, on_progress)
        return _judged(folder, recording, asked, on_judged, on_opened)


def resume(
    folder: Path,
    *,
    on_judged: Callable[[Judged, int], None] = lambda one, many: None,
    on_opened: Callable[[int, int], None] = lambda known, asked: None,
) -> Crashed:
    """Go on with a campaign that was interrupted while it judged. Raises RunError."""
    way_out = "Begin another campaign: give --into a folder that is new."
    try:
        told: _Design = read_versioned(folder / DESIGN, _Design, way_out)
    except FileNotFoundError:
        raise RunError(f"{folder}: no crash campaign to go on with. {way_out}") from None
    asked = Asked(**msgspec.structs.asdict(told.asked) | {"models": tuple(told.asked.models)})
    with alone(folder, WHAT):
        recording = read_recording(folder / RECORDING)
        return _judged(folder, recording, asked, on_judged, on_opened)


def _recorded(
    plan: Plan,
    folder: Path,
    asked: Asked,
    command: str,
    on_progress: Callable[[Progress], None] | None,
) -> Recording:
    place = folder / RECORDING
    if (place / "manifest.json").exists():
        shutil.rmtree(place)  # a recording that did not end: its campaign had not begun
    design = {"cwkit": 1, "document": "crash design", "command": command, "asked": asdict(asked)}
    made_run = run(
        plan, folder, name=RECORDING, command=command, on_progress=on_progress,
        record_changes=True,
    )  # fmt: skip
    if made_run.folder.name != RECORDING:
        raise RunError(f"{folder}: holds a recording already. Give another folder with --into.")
    (folder / DESIGN).write_text(json_text(design) + "\n", encoding="utf-8")
    return read_recording(place)


def _judged(
    folder: Path,
    recording: Recording,
    asked: Asked,
    on_judged: Callable[[Judged, int], None],
    on_opened: Callable[[int, int], None],
) -> Crashed:
    if not recording.changes:
        raise RunError(
            f"{folder}: the recorded run changed no file, so that there is nothing to judge."
        )
    before = _read_judged(folder / JUDGED)
    plan = Plan(**recording.run.manifest.plan.model_dump(mode="json"))
    crashed = Crashed(folder, recording, asked, Campaign(), recording.unexplained())
    crashed.kept = kept_in(folder / KEPT)
    kept = {drawn_key(read_state(path)) for path in crashed.kept}
    counted: dict[str, int] = {}
    for path in crashed.kept:
        kind = path.name.partition("-")[2]
        counted[kind] = counted.get(kind, 0) + 1
    waiting: list[tuple[Judged, dict[str, bytes]]] = []

    def broken(one: Judged, files: dict[str, bytes]) -> None:
        kind = one.promised[0].kind.replace(" ", "-")
        if counted.get(kind, 0) < MOST_KEPT and key_of(one.state) not in kept:
            counted[kind] = counted.get(kind, 0) + 1
            waiting.append((one, files))

    with (folder / JUDGED).open("a", encoding="utf-8") as lines, made("crash") as place:
        if lines.tell():
            lines.write("\n")  # the last line may have been cut

        def judged(one: Judged, many: int) -> None:
            lines.write(json.dumps(_line(one)) + "\n")
            lines.flush()
            on_judged(one, many)

        whole = RecordedRun(recording, plan, folder, place, asked.limit_s)
        crashed.whole = whole
        with _interruptible(crashed.campaign):
            whole.ask()
            whole.find_order(on_opened)
        if not crashed.campaign.interrupted:
            crashed.campaign = run_campaign(
                recording, place, many=asked.many, seed=asked.seed, models=asked.models,
                limit_s=asked.limit_s, on_judged=judged, on_broken=broken, before=before,
                order=whole.order, foreign=whole.foreign,
            )  # fmt: skip
        with _interruptible(crashed.campaign):
            for number, (one, files) in enumerate(waiting):
                crashed.kept.append(_keep(crashed, whole, one, files, f"reduce-{number}"))
    (folder / RESULT).write_text(json_text(crashed.data()) + "\n", encoding="utf-8")
    return crashed


@contextmanager
def _interruptible(campaign: Campaign) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        campaign.interrupted = True


def _keep(
    crashed: Crashed, whole: RecordedRun, one: Judged, files: dict[str, bytes], where: str
) -> Path:
    plan = whole.plan
    kind = one.promised[0].kind
    recording, state = crashed.recording, one.state
    replay = recording.replay()
    replay.advance(state.point)
    told = until(told_by(recording.changes), state.point)
    expected = whole.expected(state.point)
    number = 0

    def shown(other: CrashState) -> list[Fault]:
        nonlocal number
        number += 1
        answer = whole.opened(replay.files(other), f"{where}/{number}")
        power = state.model in POWER
        return judge(
            answer,
            told,
            synchronous=plan.synchronous,
            journal=journal_of(plan),
            power=power,
            expected=expected,
        )

    every = replay.all_there().pieces
    # What is common to a class of hangs would take minutes to make smaller.
    most = MOST_OPENINGS if crashed.asked.reduce and state.model != "kill" else 0
    most = min(most, 6) if kind == "hangs" else most
    reduced = reduce_state(
        state, every, lambda other: any(f.kind == kind and f.promised for f in shown(other)),
        most=most,
    )  # fmt: skip
    smaller = replay.files(reduced.state)
    last = max(map(number_of, kept_in(crashed.folder / KEPT)), default=-1)
    name = f"{last + 1:03d}-{kind.replace(' ', '-')}"
    return keep_state(
        crashed.folder / KEPT / name, one, reduced, smaller, told, plan, expected, whole.foreign
    )


def look_again(kept: KeptState, place: Path) -> list[Fault]:
    """Open a kept state again, by the engine that it was found on. Raises PlanError."""
    plan = plan_of(kept)
    told = told_of(kept)
    answer = answer_of(
        kept.files, place / "again", plan, foreign=bool(kept.told.get("foreign_keys", True))
    )
    power = kept.told["drawn_as"]["model"] in POWER
    return judge(
        answer,
        told,
        synchronous=plan.synchronous,
        journal=journal_of(plan),
        power=power,
        expected=expected_in(kept),
    )


def read_kept(folder: Path) -> KeptState:
    """A kept state. Raises RunError."""
    return read_state(folder)


# --- lines ------------------------------------------------------------------------------------


def _line(one: Judged) -> dict[str, Any]:
    return {
        "key": key_of(one.state),
        "point": one.state.point,
        "model": one.state.model,
        "pieces": len(one.state.pieces),
        "faults": [[fault.kind, fault.sentence, fault.promised] for fault in one.faults],
        "lost": one.lost,
        "acked": one.acked,
        "seconds": round(one.seconds, 4),
    }


def _read_judged(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> line of a state that was judged before. A line that was cut is left out."""
    found: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            told = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        found[told.key] = {
            "faults": [Fault(*one) for one in told.faults],
            "lost": told.lost, "acked": told.acked, "seconds": told.seconds,
        }  # fmt: skip
    return found
