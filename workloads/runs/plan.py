"""A plan: what a run is asked to do, validated before anything is started or written.

A `Plan` is plain data: it goes into the manifest, into an experiment's grid, and back. A plan that
makes no sense is a `PlanError` of one sentence with the way out; the command line prints it and
ends with status 2.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator

from workloads.engines import (
    AUTOCOMMIT,
    SYNCHRONOUS,
    Engine,
    Loop,
    Settings,
    asked_pragmas,
    can_loop_in_c,
    find_engine,
    modes_of,
    parse_network,
    sync_interval_s,
    usual_loop,
    usual_mode,
)
from workloads.errors import EngineMissing, PlanError, UnknownName, nearest, shortened
from workloads.files import visible
from workloads.processes import FaultRule, StartMethod, can_fork, parse_rule, start_method
from workloads.records import RecordedPlan, Retry, parts_of_mix
from workloads.runs.stages import length_s, mean_per_s, parse_stages
from workloads.runs.ways import pool_of

if TYPE_CHECKING:
    from workloads.scenarios import Scenario, Shape

ROLES = ("writer", "reader", "checkpointer")

SNAPSHOTS = (
    *("serializable", "strict-serializable", "snapshot-isolation", "strong-snapshot-isolation"),
    *("strong-session-serializable", "strong-session-snapshot-isolation"),
)
"""Isolation levels, by Elle's names, whose transactions read from one snapshot."""


MAY_HOLD_A_PASSWORD = ("pragma",)
"""Fields whose values no complaint repeats."""


class PlanErrors(PlanError):
    """Several complaints of one file, each a sentence and a line of the text."""

    several = True

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\n".join(map(visible, sentences)))


class Plan(RecordedPlan):
    """One run: the plan as it is recorded, made to be run. Nothing but its fields is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: StartMethod = Field(default_factory=start_method)
    loop: Loop = Field(default_factory=usual_loop)

    @field_validator("pragma", mode="before")
    @classmethod
    def _pragmas_are_some(cls, given: Any) -> Any:
        text = ",".join(map(str, given)) if isinstance(given, (list, tuple)) else given
        if isinstance(text, str):
            return ",".join(f"{name}={value}" for name, value in asked_pragmas(text))
        return given

    @field_validator("fault", mode="before")
    @classmethod
    def _faults_are_some(cls, given: Any) -> Any:
        texts = given.split(",") if isinstance(given, str) and given else given
        if not isinstance(texts, (list, tuple)):
            return given
        try:
            return ",".join(str(parse_rule(str(text))) for text in texts)
        except PlanError as error:  # the field's name stands before it in any case
            raise ValueError(str(error).removeprefix("--fault ")) from None

    @field_validator("connection")
    @classmethod
    def _connects_somehow(cls, given: str) -> str:
        pool_of(given)
        return given

    @field_validator("stages")
    @classmethod
    def _stages_are_some(cls, given: str) -> str:
        parse_stages(given)
        return given

    @field_validator("writers", mode="before")
    @classmethod
    def _writers_are_a_number(cls, given: Any) -> Any:
        if isinstance(given, str) and parts_of_mix(given):
            many = sum(many for many, _ in parts_of_mix(given))
            raise ValueError(f'give their number here, {many}, and begin = "{given}"')
        return given

    def recorded(self) -> RecordedPlan:
        """As it goes into a manifest: every field of it, also those that nobody gave."""
        return RecordedPlan(**self.model_dump(mode="json"))

    def settings(self) -> Settings:
        """The pragmas of every connection of this run."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def rules(self) -> tuple[FaultRule, ...]:
        """The faults that were asked for."""
        return tuple(parse_rule(text) for text in self.fault.split(",") if text)

    def shape(self) -> Shape:
        """The scenario's own parameters, validated. Raises PlanError."""
        return shape_of(self.scenario, self.params)

    def patience_s(self) -> float:
        """How long one attempt may take before its worker counts as hung, s."""
        # It may wait for a lock at each statement, and think at each operation.
        stopped_s = max((rule.waits_s for rule in self.rules()), default=0.0)
        longest = self.reader_holds_s + self.shape().longest_s(self.busy_timeout_ms / 1e3)
        return self.deadline_s + stopped_s + longest

    def files(self) -> tuple[str, ...]:
        """The user's own files that it takes engines or the scenario from, as it names them."""
        return tuple(dict.fromkeys(filter(None, map(file_of, (*self.engines(), self.scenario)))))


def file_of(name: str) -> str:
    """The file of "path.py:Class", "" of a name in a registry.

    >>> file_of("examples/engine_slower.py:Slower"), file_of("libsql")
    ('examples/engine_slower.py', '')
    """
    return name.rpartition(":")[0] if ".py:" in name else ""


def shape_of(scenario: str, params: Mapping[str, Any]) -> Shape:
    """Validate a scenario's parameters; a wrong name is answered with the nearest right one."""
    from workloads.scenarios import find_scenario  # numpy: a plan that is only read needs none

    cls = find_scenario(scenario)
    known = cls.Params.model_fields
    for name in params:
        if name not in known:
            near = nearest(name, known)
            hint = f" Did you mean {near!r}?" if near else ""
            raise PlanError(
                f"Scenario {scenario!r} has no parameter {shortened(name)}.{hint} "
                f"It has: {', '.join(known)}."
            )
    try:
        return cls.Params(**params)
    except ValidationError as error:
        raise PlanError(f"Scenario {scenario!r}: {complaint_of(error)}", field_of(error)) from error


def field_of(error: ValidationError, number: int = 0) -> str:
    """The field that a complaint of pydantic's is about, as a path with dots; "" for the whole."""
    return ".".join(str(part) for part in error.errors()[number]["loc"])


def complaint_of(error: ValidationError, number: int = 0) -> str:
    """One complaint of pydantic's, by default the first, as a sentence: field, rule, value."""
    first = error.errors()[number]
    where = field_of(error, number) or "the plan"
    value = first.get("input")
    shown = f" (got {shortened(value)})" if not isinstance(value, dict) else ""
    shown = "" if where in MAY_HOLD_A_PASSWORD else shown
    rule = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {rule[0].lower()}{rule[1:].rstrip('.')}{shown}."


def make_plan(**values: Any) -> Plan:
    """A plan that can be run, as far as one can know without opening a database.

    A value that is not given, or None, is the scenario's suggestion, or else the Plan's default.

    Raises PlanError, UnknownName or EngineMissing, each with one sentence and the way out.
    """
    from workloads.scenarios import find_scenario

    scenario = find_scenario(values.get("scenario", "bank"))
    suggested = dict(getattr(scenario, "suggests", {}))
    if more := getattr(scenario, "suggests_for", None):
        suggested |= more(values.get("params") or {})
    values = {name: value for name, value in values.items() if value is not None}
    values = suggested | values | _of_a_mix(values)
    if values.get("autocommit"):
        values |= _without_begin(values)
    if values.get("stages"):
        values |= _of_stages(values)
    _name_usual_modes(values)
    if values.get("transactions") and "warmup_s" not in values:
        values["warmup_s"] = 0.0  # who counts transactions wants all of them measured
    try:
        plan = Plan(**values)
    except ValidationError as error:
        raise PlanError(complaint_of(error), field_of(error)) from error
    _modes_exist(plan)
    if plan.writers + plan.readers + plan.checkpointers == 0:
        raise PlanError("A run needs at least one worker: give --writers or --readers.")
    if plan.writers == 0 and plan.readers == 0:
        raise PlanError("Checkpointers alone have nothing to do: give --writers or --readers.")
    if plan.rate and not plan.writers:
        raise PlanError("--rate is the writers' and there are none: give --writers or --read-rate.")
    for name in (plan.write_engine, plan.read_engine, plan.checkpoint_engine):
        find_engine(name)  # an unknown name is refused even where nobody would use it
    engines = {name: find_engine(name) for name in plan.engines()}
    for name, engine in engines.items():
        if (reason := engine.missing()) is not None:
            raise EngineMissing(f"Engine {name!r} is not to be had here: {reason}")
    _suits_the_scenario(plan, engines)
    _syncs(plan, engines)
    _takes_pragmas(plan, engines)
    _shares_connections(plan, engines)
    _starts_cold(plan, engines)
    _holds_snapshots(plan, engines)
    _formats_agree(plan, engines)
    _suits_a_server(plan, engines)
    _network_fits(plan)
    _faults_fit(plan, engines)
    if plan.start == "fork" and not can_fork():
        raise PlanError("--start fork: this system cannot fork them. Give --start exec.")
    if plan.loop == "C" and not can_loop_in_c():
        raise PlanError(
            "--loop C: the hot loop in C is not built here. Build it with make setup, or give "
            "--loop Python."
        )
    plan.shape()
    if plan.cpus:
        allowed = os.sched_getaffinity(0)
        if not set(plan.cpus) <= allowed:
            raise PlanError(f"CPUs {list(plan.cpus)}: this machine allows only {sorted(allowed)}.")
    return plan


OPTIONS = {
    "writer": ("--begin", "begin", "write_engine"),
    "reader": ("--read-begin", "read_begin", "read_engine"),
}
"""Role -> the option of its mode, and the plan's fields of its mode and of its engine."""


def _name_usual_modes(values: dict[str, Any]) -> None:
    """Fill in the modes that are not given: those of the engine that begins in them."""
    for role, (_, field, engine) in OPTIONS.items():
        name = values.get(engine) or values.get("database")
        if field not in values and isinstance(name, str):
            values[field] = usual_mode(find_engine(name), role)


def _of_a_mix(values: Mapping[str, Any]) -> dict[str, Any]:
    """The number of writers and their modes, where both are given in one text."""
    mix = values.get("writers")
    if not isinstance(mix, str):
        return {}
    if not (parts := parts_of_mix(mix)):
        if re.fullmatch(r"\s*[+-]?\d+\s*", mix):
            return {}
        raise PlanError(
            f"--writers {shortened(mix)}: give how many processes write, such as 4, or how many "
            "in each mode, at least one, such as 2:concurrent,2:immediate.",
            "writers",
        )
    if "begin" in values:
        raise PlanError(f"--writers {mix} has the writers' modes: leave out --begin.", "begin")
    return {"writers": sum(many for many, _ in parts), "begin": mix}


def _of_stages(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mean rate and the measured part of a plan with stages."""
    try:
        stages = parse_stages(str(values["stages"]))
    except ValueError as error:
        raise PlanError(f"stages: {error}.", "stages") from None
    found = {"rate": mean_per_s(stages), "duration_s": length_s(stages)}
    for field, option in (("rate", "--rate"), ("duration_s", "--duration")):
        if values.get(field) and values[field] != found[field]:
            raise PlanError(
                f"--stages have rates and times of their own: leave out {option}.", field
            )
    if values.get("transactions"):
        raise PlanError("--stages end by the clock: leave out --transactions.", "transactions")
    return found


def _without_begin(values: Mapping[str, Any]) -> dict[str, Any]:
    """The modes of both roles, where --autocommit was given."""
    for _, (option, field, _) in OPTIONS.items():
        if values.get(field, AUTOCOMMIT) != AUTOCOMMIT:
            raise PlanError(
                f"--autocommit leaves BEGIN out, and {option} {values[field]} asks for one. "
                "Give one of the two.",
                "autocommit",
            )
    return {field: AUTOCOMMIT for _, field, _ in OPTIONS.values()}


def _modes_in(plan: Plan, role: str) -> tuple[str, ...]:
    """The modes that the workers of a role are to begin in. Raises PlanError for an odd mix."""
    text = str(getattr(plan, OPTIONS[role][1]))
    parts = parts_of_mix(text) if role == "writer" else ()
    if parts and sum(many for many, _ in parts) != plan.writers:
        many = sum(many for many, _ in parts)
        raise PlanError(
            f"begin: {text} is {many} writers, and {plan.writers} are asked for.", "begin"
        )
    return tuple(dict.fromkeys(mode for _, mode in parts)) or (text,)


def _modes_exist(plan: Plan) -> None:
    asked = [(role, mode) for role in OPTIONS for mode in _modes_in(plan, role)]
    for role, mode in asked:
        option, _, engine = OPTIONS[role]
        name = getattr(plan, engine)
        modes = modes_of(find_engine(name))
        if mode in (*modes, AUTOCOMMIT):
            continue
        near = nearest(mode, (*modes, AUTOCOMMIT))
        hint = f" Did you mean {near!r}?" if near else ""
        raise UnknownName(
            f"{name} has no mode {shortened(mode)} ({option}).{hint} Modes: {', '.join(modes)}."
        )


def _suits_the_scenario(plan: Plan, engines: Mapping[str, Engine]) -> None:
    """Nobody works without transactions, or with a method of few engines, where that cannot be."""
    from workloads.scenarios import find_scenario

    scenario = find_scenario(plan.scenario)
    modes = [mode for _, _, mode in plan.roles()]
    if AUTOCOMMIT not in modes and not hasattr(scenario, "needs"):
        return
    made = scenario(plan.shape())
    if why := getattr(made, "unsuited", lambda roles: "")([role for role, _, _ in plan.roles()]):
        raise PlanError(f"Scenario {plan.scenario!r} {why}")
    if own := getattr(made, "own_database", ""):
        _takes_a_copy(plan, own, engines)
    if plan.connection != "kept" and getattr(made, "keeps_its_connection", False):
        raise PlanError(
            f"--connection {plan.connection}: a script that is not one transaction, from BEGIN to "
            "COMMIT, keeps its connection. Leave it out, or put BEGIN and COMMIT into the script."
        )
    for role, (option, _, engine) in OPTIONS.items():
        if not getattr(plan, f"{role}s"):
            continue
        if AUTOCOMMIT in _modes_in(plan, role) and (why := _why_no_autocommit(made)):
            raise PlanError(f"{option} {AUTOCOMMIT}: {plan.scenario} {why}")
        offers = getattr(engines[getattr(plan, engine)], "offers", ())
        for method in getattr(made, "needs", ()):
            if method not in offers:
                raise PlanError(
                    f"Scenario {plan.scenario!r} asks for a {method} with these parameters, and "
                    f"{getattr(plan, engine)} has none. Take another engine, or other parameters."
                )


def _takes_a_copy(plan: Plan, own: str, engines: Mapping[str, Engine]) -> None:
    if not Path(own).is_file():
        raise PlanError(f"--from {own}: there is no such file (from_db of a sweep's file).")
    for name, engine in engines.items():
        if hasattr(engine, "serve") or engine.file_format == "none":
            raise PlanError(
                f"--from: {name} opens no database of SQLite's format. Take another engine, or "
                "give --schema instead."
            )


def _why_no_autocommit(scenario: Scenario) -> str:
    if not getattr(scenario, "autocommit", False):
        return (
            "needs transactions with these parameters: a statement alone would not keep what it "
            "checks. Give a mode."
        )
    if getattr(scenario, "logged", None):
        return "records a history, which is one of transactions. Give a mode, or no history."
    return ""


def _syncs(plan: Plan, engines: Mapping[str, Engine]) -> None:
    try:
        sync_interval_s(plan.sync)
    except ValueError as error:
        raise PlanError(f"sync: {error}", "sync") from None
    if plan.sync != Settings().sync and not any(
        "sync" in getattr(engine, "offers", ()) for engine in engines.values()
    ):
        raise PlanError(
            f"sync: no engine of this run has replicas. Leave {plan.sync} out, or take "
            "replicas with --read-engine.",
            "sync",
        )


def _shares_connections(plan: Plan, engines: Mapping[str, Engine]) -> None:
    """The workers are threads of one process, and each may use what another has used."""
    if not pool_of(plan.connection):
        return
    used = {name for role, name, _ in plan.roles() if role != "checkpointer"}
    for name in sorted(used):
        if getattr(engines[name], "shares", "") != "threads":
            raise PlanError(
                f"connection: several threads may not use one connection of {name}. Give kept or "
                "per-transaction, or take another engine.",
                "connection",
            )


def _holds_snapshots(plan: Plan, engines: Mapping[str, Engine]) -> None:
    """A reader that is to keep a snapshot has one, and does nothing but read in it."""
    if not plan.reader_holds_s:
        return
    from workloads.scenarios import find_scenario

    promises = engines.get(plan.read_engine, find_engine(plan.read_engine)).promises
    level = promises[plan.read_begin].level if plan.read_begin in promises else ""
    made = find_scenario(plan.scenario)(plan.shape())
    why = ""
    if not plan.readers:
        why = "there are no readers. Give --readers, or leave it out."
    elif own := getattr(made, "holds_no_snapshot", ""):
        why = f"scenario {plan.scenario!r} {own}"
    elif plan.read_begin == AUTOCOMMIT:
        why = "readers without BEGIN have a snapshot for each statement. Give a mode."
    elif level not in SNAPSHOTS:
        said = f"is {level}" if level else "promises no isolation level"
        why = (
            f"BEGIN in mode {plan.read_begin} of {plan.read_engine} {said}, so that a reader has "
            "no snapshot to keep. Give another --read-begin, or another engine."
        )
    if why:
        raise PlanError(f"--reader-holds: {why}", "reader_holds_s")


def _starts_cold(plan: Plan, engines: Mapping[str, Engine]) -> None:
    """Whoever comes first makes the database: its workers can, and nothing else had to."""
    if not plan.cold_start:
        return
    from workloads.scenarios import find_scenario, scenario_names

    made = find_scenario(plan.scenario)(plan.shape())
    if not getattr(made, "cold_start", False):
        can = [name for name in scenario_names() if hasattr(find_scenario(name), "cold_start")]
        raise PlanError(
            f"--cold-start: scenario {plan.scenario!r} finds its database filled with these "
            "parameters, or does not say that whoever comes first may fill it in one transaction "
            f"(cold_start = True). Those that do: {', '.join(can)}.",
            "cold_start",
        )
    for name, engine in engines.items():
        if hasattr(engine, "serve") or engine.file_format == "none":
            raise PlanError(
                f"--cold-start: {name} keeps no file that its workers could make. Take another "
                "engine.",
                "cold_start",
            )
    for option, given in (
        (f"--connection {plan.connection}", plan.connection != "kept"),
        ("--cache cold", plan.cache == "cold"),
        ("--autocommit", AUTOCOMMIT in [mode for _, _, mode in plan.roles()]),
    ):
        if given:
            raise PlanError(
                f"--cold-start: each worker opens the file once, before which nothing of it is in "
                f"memory, and makes the schema in a transaction. Leave out {option}.",
                "cold_start",
            )


def _takes_pragmas(plan: Plan, engines: Mapping[str, Engine]) -> None:
    if plan.pragma and not any(getattr(e, "takes_pragmas", True) for e in engines.values()):
        raise PlanError(
            f"pragma: connections of {', '.join(engines)} take none. Leave {plan.pragma} out, or "
            "take another engine.",
            "pragma",
        )


def _suits_a_server(plan: Plan, engines: Mapping[str, Engine]) -> None:
    """A server checkpoints and caches by itself: nobody else can, and nobody can ask for less."""
    for name, engine in engines.items():
        if not hasattr(engine, "serve"):
            continue
        if plan.checkpointers:
            raise PlanError(f"--checkpointers: {name} checkpoints by itself. Leave them out.")
        if plan.cache == "cold":
            raise PlanError(f"--cache cold: {name} has its own cache. Leave it out.")
        most = getattr(engine, "most_durable", SYNCHRONOUS[-1])
        writes = name == plan.write_engine and plan.writers
        if writes and SYNCHRONOUS.index(plan.synchronous) > SYNCHRONOUS.index(most):
            raise PlanError(
                f"synchronous: writers of {name} have {most} at most, and {plan.synchronous} was "
                "asked for. Leave it out, or write with another engine.",
                "synchronous",
            )


def past_the_library(engine: Engine) -> str:
    """Why the library before libc in the workers does not see what an engine writes, "" where it
    does.
    """
    if engine.file_format == "none":
        return "writes no file"
    return "has its files in a server" if hasattr(engine, "serve") else ""


def _faults_fit(plan: Plan, engines: Mapping[str, Engine]) -> None:
    """The library stands before libc in the workers alone: no server's calls can fail."""
    rules = plan.rules()
    for name, engine in engines.items():
        if rules and (why := past_the_library(engine)):
            raise PlanError(
                f"--fault: {name} {why}, and faults are in the calls of the workers. Leave it "
                "out, or take an engine that writes the database's file itself."
            )
    roles = plan.roles()
    for rule in rules:
        if rule.worker is None:
            continue
        if rule.worker >= len(roles):
            raise PlanError(
                f"--fault {rule}: there is no worker {rule.worker}. They are numbered from 0 to "
                f"{len(roles) - 1}: writers, then readers, then checkpointers."
            )
        if pool_of(plan.connection) or engines[roles[rule.worker][1]].hosting == "thread":
            raise PlanError(
                f"--fault {rule}: the workers are threads of one process here, which the library "
                f"does not tell apart. Leave @{rule.worker} out."
            )


def _network_fits(plan: Plan) -> None:
    if not plan.network:
        return
    asked = parse_network(plan.network)
    if not hasattr(find_engine(plan.database), "serve"):
        raise PlanError(
            f"network: {plan.database} has no server, so there is no network to it. "
            "Leave it out, or choose an engine that is one.",
            "network",
        )
    if asked is not None and asked.drop is not None and asked.drop[0] >= plan.duration_s:
        raise PlanError(
            f"network: drop begins at {asked.drop[0]:g} s, and the measured part ends at "
            f"{plan.duration_s:g} s. Let it begin before, or measure longer (--duration).",
            "network",
        )


def _formats_agree(plan: Plan, engines: Mapping[str, Engine]) -> None:
    formats = {name: engine.file_format for name, engine in engines.items()}
    if len(set(formats.values())) > 1:
        listed = ", ".join(f"{name} ({file_format})" for name, file_format in formats.items())
        raise PlanError(
            f"These engines cannot share one database file: {listed}. "
            "Choose engines of one file format (`cwkit engines` shows it)."
        )
    threads = [name for name, engine in engines.items() if engine.hosting == "thread"]
    if threads and len(engines) > 1:
        raise PlanError(
            f"{threads[0]} locks its file to one process, so it cannot share it with "
            f"{', '.join(name for name in engines if name != threads[0])}. "
            f"Use --database {threads[0]} for every role, or leave {threads[0]} out."
        )


__all__ = [
    "Plan",
    "PlanErrors",
    "Retry",
    "complaint_of",
    "file_of",
    "make_plan",
    "shape_of",
]
