"""What `cwkit advise` measures: which engines are asked, which BEGIN modes become arms of the
experiment, and how long each of its runs may last.

Every engine is asked. Where nobody names the engines, those are measured that can say something:
the application's own in each of its modes, and every library that lets write transactions overlap,
in BEGIN IMMEDIATE and in that mode, so that the mode can be told from the library. What an engine
refuses is kept in its own words, and no other mode is run in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workloads.engines import Probe, find_engine, probe_all
from workloads.errors import EngineMissing, PlanError, RunError, UnknownName, mode_label
from workloads.experiments import AGAIN, Design, Experiment
from workloads.files import FORMAT_VERSION, read_versioned, write_json
from workloads.files import made as temporary
from workloads.runs import make_plan, prepare

ADVISE_NOTE = "advise.json"
"""Beside `experiment.json`: what was asked of the engines. Its presence tells the folder's kind."""

SECONDS, BLOCKS, LEAST_S, MOST_S, WARMUP_S = 180.0, 8, 0.2, 10.0, 0.3
BESIDE_S = 0.9
"""What a run takes beside its own time, s: to share out the time asked for. The estimate that is
shown is of runs that were made."""

LEFT_OUT_MODES = {
    "exclusive": "in WAL mode it begins as BEGIN IMMEDIATE does",
    "readonly": "nothing can be written in it",
}
CLOSED = 0.0
"""As a rate: a closed loop."""

QUESTION = "Which BEGIN for these transactions?"


class Refused(msgspec.Struct, frozen=True):
    """An engine's own words where it refused a mode. mode : as a person reads it."""

    engine: str
    mode: str
    words: str


class LeftOut(msgspec.Struct, frozen=True):
    """What is not measured, and why."""

    what: str
    why: str


class ScriptNote(msgspec.Struct, frozen=True):
    """A script, read: workloads.scenarios has the words of `shape` and `twice`."""

    name: str
    role: str
    whole: bool
    transactions: int
    shape: str
    reads: list[str]
    writes: list[str]
    twice: str
    why: str


class AdviseNote(msgspec.Struct, frozen=True):
    """`advise.json`. database : the application's own engine. foreign_limit : of its cells."""

    database: str
    refused: list[Refused]
    left_out: list[LeftOut]
    foreign_limit: float
    scripts: list[ScriptNote] = []

    def with_limit(self, limit: float) -> AdviseNote:
        """The same, where others may use so much."""
        return msgspec.structs.replace(self, foreign_limit=limit)


class Asked(NamedTuple):
    """What is to be measured: the experiment and its note."""

    design: Design
    note: AdviseNote


def ask(
    plan: Mapping[str, Any],
    *,
    engines: Sequence[str],
    writers: Sequence[int],
    rate: float,
    seconds: float | None,
    blocks: int,
    foreign_limit: float,
    notify: Callable[[str], None],
) -> Asked:
    """Ask the engines, and make the experiment of what they accept.

    plan : of a run, without mode, writers, rate and length. engines : named by the user; () for
    all. seconds : for the whole of it; None: three minutes for each load. notify : called with an
    engine's name before it is asked. Raises PlanError, UnknownName and EngineMissing, and RunFailed
    where the database cannot be loaded, before any engine is asked.
    """
    database = str(plan.get("database") or "libsql")
    writers = list(dict.fromkeys(writers)) or [4]
    loads = [CLOSED, rate] if rate else [CLOSED]
    _refuse(plan, database, engines, writers, seconds, blocks)
    _load_once({**plan, "database": database, "writers": writers[0]})
    named = list(dict.fromkeys([database, *engines])) if engines else []
    probes = probe_all(named or _all(database), notify=notify)
    refused = _refusals(probes.values())
    systems, left_out = _systems(plan, probes, database, bool(named))
    arms, points = _arms(plan, systems, writers, loads)
    total = seconds or SECONDS * len(writers) * len(loads)
    length = total / (blocks * (len(arms) + 1)) - BESIDE_S - WARMUP_S
    length = round(min(max(length, LEAST_S), MOST_S), 2)
    for values in arms.values():
        values["duration_s"] = length
        values.setdefault("warmup_s", min(WARMUP_S, length))
    baseline = next(iter(arms))
    arms[baseline + AGAIN], points[baseline + AGAIN] = arms[baseline], points[baseline]
    axes: dict[str, Any] = {"system": list(dict.fromkeys(p["system"] for p in points.values()))}
    axes |= {"writers": writers, "rate": loads}
    design = Design("advise", QUESTION, arms, blocks=blocks, seed=int(plan.get("seed") or 0),
                    baseline=baseline, axes=axes, points=points)  # fmt: skip
    return Asked(design, AdviseNote(database, refused, left_out, foreign_limit))


def _all(database: str) -> list[str]:
    from workloads.engines import engine_names

    kit = [name for name in engine_names() if name != "null" and not name.startswith("faulty-")]
    return list(dict.fromkeys([database, *kit]))


def _refuse(
    plan: Mapping[str, Any],
    database: str,
    engines: Sequence[str],
    writers: Sequence[int],
    seconds: float | None,
    blocks: int,
) -> None:
    """Refuse what cannot be run before any engine is asked."""
    if seconds is not None and not 1 <= seconds <= 86_400:
        raise PlanError(f"--seconds {seconds:g}: from 1 to 86,400, for all runs together.")
    if not 1 <= blocks <= 1000:
        raise PlanError(
            f"--blocks {blocks}: from 1 to 1,000; with fewer than 6 nothing is claimed."
        )
    for name in engines:
        find_engine(name)
    for many in writers:
        if many < 1:
            raise PlanError(f"--writers {many}: at least one must write for a mode to matter.")
        made = make_plan(**{**plan, "database": database, "writers": many})
        scripts = _transactions(made)
        if not any(one.script.transactions for one in scripts if one.role == "writer"):
            raise PlanError(
                "No script of the writers has a BEGIN, so no mode would change anything: put its "
                "statements between BEGIN; and COMMIT;, or compare engines with `cwkit sweep`."
            )


def _load_once(values: Mapping[str, Any]) -> None:
    """Load the database once, with the application's own engine: a schema that fails, or a script
    that names a column which is not there, is told before anything is asked. Raises RunFailed.
    """
    with temporary("advice") as folder:
        prepare(make_plan(**values), folder)


def _transactions(plan: Any) -> Sequence[Any]:
    from workloads.scenarios import find_scenario

    scenario: Any = find_scenario(plan.scenario)
    found: Sequence[Any] = scenario(plan.shape()).transactions
    return found


def _refusals(probes: Any) -> list[Refused]:
    return [
        Refused(probe.engine, mode_label(mode), answer.message)
        for probe in probes
        for mode, answer in probe.modes.items()
        if not answer.accepted
    ]


def _systems(
    plan: Mapping[str, Any], probes: Mapping[str, Probe], database: str, named: bool
) -> tuple[list[tuple[str, str]], list[LeftOut]]:
    """(engine, mode) of each arm, the baseline first, and what is left out."""
    found: list[tuple[str, str]] = []
    out: list[LeftOut] = []
    for name, probe in probes.items():
        if why := _cannot(plan, name, probe, database, named):
            out.append(LeftOut(name, why))
            continue
        own = named or name == database
        modes = [mode for mode, answer in probe.modes.items() if answer.accepted]
        if not own:
            modes = [m for m in modes if m == "immediate" or probe.modes[m].overlaps]
        found += [(name, mode) for mode in modes if mode not in LEFT_OUT_MODES]
    out += [
        LeftOut(mode_label(mode), why)
        for mode, why in LEFT_OUT_MODES.items()
        if any(mode in probe.modes and probe.modes[mode].accepted for probe in probes.values())
    ]
    mine = [system for system in found if system[0] == database]
    if not mine:
        raise PlanError(f"--database {database}: it accepts no mode that writes.")
    baseline = next((s for s in mine if s[1] == "immediate"), mine[0])
    return [baseline, *(s for s in found if s != baseline)], out


def _cannot(plan: Mapping[str, Any], name: str, probe: Probe, database: str, named: bool) -> str:
    """Why an engine is not measured, "" where it is. Raises for one that the user named."""
    try:
        if probe.missing is not None:
            raise EngineMissing(f"Engine {name!r} is not to be had here: {probe.missing}")
        if not named and name != database:
            if hasattr(find_engine(name), "serve"):
                return f"servers, which --engines {database},NAME measures"
            if not any(answer.overlaps for answer in probe.modes.values()):
                return (
                    "one write transaction at a time, in every mode; --engines "
                    f"{database},NAME measures them"
                )
        make_plan(**{**plan, "database": name})
    except EngineMissing as error:
        if name == database:
            raise
        return str(error)
    except (PlanError, UnknownName) as error:
        if named or name == database:
            raise
        return str(error)
    return ""


def _arms(
    plan: Mapping[str, Any],
    systems: Sequence[tuple[str, str]],
    writers: Sequence[int],
    loads: Sequence[float],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    for load in loads:
        for many in writers:
            for engine, mode in systems:
                system = f"{engine} {mode}"
                name = f"{system}, writers {many}" if len(writers) > 1 else system
                name += f", {load:g} per s" if load else ""
                values = {**plan, "database": engine, "begin": mode, "writers": many}
                values |= {"rate": load} if load else {}
                arms[name] = values
                points[name] = {"system": system, "writers": many, "rate": load}
    return arms, points


# --- the note ----------------------------------------------------------------------------------


def must_be_advice(experiment: Experiment) -> None:
    """Raises RunError for an experiment that is no advice's, beside whatever note."""
    design = experiment.design
    axes = {"system", "writers", "rate"}
    kinds: dict[str, Any] = {"writers": int, "duration_s": (int, float), "params": dict}
    lacks = design.baseline not in design.arms or not all(
        axes <= set(design.points.get(arm, ()))
        and all(isinstance(values.get(name), kind) for name, kind in kinds.items())
        for arm, values in design.arms.items()
    )
    if lacks or not any(not point["rate"] for point in design.points.values()):
        raise RunError(
            f"{experiment.folder}: is no advice's experiment (an arm has no system, writers, rate "
            "or scripts). It was edited."
        )


def write_note(folder: Path, note: AdviseNote) -> None:
    write_json(folder / ADVISE_NOTE, {"cwkit": FORMAT_VERSION, **msgspec.to_builtins(note)})


def read_note(folder: Path) -> AdviseNote:
    """Raises RunError; FileNotFoundError where the folder is no advice's."""
    found: AdviseNote = read_versioned(folder / ADVISE_NOTE, AdviseNote)
    return found


def with_scripts(note: AdviseNote, design: Design) -> AdviseNote:
    """The note with what its scripts do, read now where it was not before."""
    if note.scripts:
        return note
    from workloads.scenarios import effects_of, find_scenario

    try:
        plan = make_plan(**dict(design.arms[design.baseline]))
    except (EngineMissing, PlanError, UnknownName):
        return note  # another machine's: its engine or its database is not here
    scenario: Any = find_scenario(plan.scenario)
    found = [
        ScriptNote(one.name, one.role, one.whole, one.transactions, one.shape, list(one.reads),
                   list(one.writes), one.twice, one.why)
        for one in effects_of(scenario(plan.shape()))
    ]  # fmt: skip
    return msgspec.structs.replace(note, scripts=found)
