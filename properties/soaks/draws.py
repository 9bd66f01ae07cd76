"""What each round of a soak is: drawn from its seed and its number alone, and what engines allow.

The kinds come as from a deck that is shuffled anew for each engine, its modes in turn, so that none
is left out. An engine's first round is a crash campaign, whose log tells which calls it makes: the
faults of later rounds are drawn among those.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from properties.soaks.folder import NO_LIBRARY
from workloads.engines import engine_names, find_engine, modes_of
from workloads.errors import EngineMissing, PlanError
from workloads.processes import fault_library
from workloads.runs import Plan, make_plan
from workloads.scenarios import scenario_names

KINDS = ("crash", "run", "fault", "kill", "reopen")
DECK = ("run", "run", "fault", "fault", "kill", "reopen", "reopen", "crash")
"""How often each comes among eight rounds of an engine."""

WITHOUT_LIBRARY = ("run", "kill", "reopen")
OTHERS = [name for name in scenario_names() if name not in ("sql", "ledger")]
"""`sql` needs scripts of the user's."""

CHECKPOINTS = ("passive", "full", "restart", "truncate")
LATEST_SEED = 1 << 31
FAR = 1 << 20
"""Numbers of postings that a run may use before those of the next one on the same database."""

LONG_SHARE, LONG_TIMES = 0.2, 5
"""Some rounds are longer, so that what grows is seen to grow."""

ACTIONS = {
    "write": ("EIO", "ENOSPC", "short", "torn", "kill", "kill-after", "stop=200ms", "slow=2ms"),
    "sync": ("EIO", "ENOSPC", "lie", "kill", "kill-after", "stop=200ms", "slow=5ms"),
}
ELSE = ("EIO", "kill", "kill-after", "stop=200ms")
UNKNOWN_CALLS = {"write *": 200, "sync *": 100}
"""Where nothing is known of an engine's calls yet."""

TRIES = 40


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine allows. modes : those that it promises something for."""

    name: str
    modes: tuple[str, ...]
    format: str
    hosting: str
    shares: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """A database that is used on. rounds : runs that used it. earlier : postings that are there."""

    rounds: int = 0
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """One round. plan : of its run, or of the one that a campaign records. states : of crashes.

    kill : as for `Watch`. name : of its folder.
    """

    number: int
    kind: str
    plan: Plan
    states: int = 0
    kill: tuple[float, bool, int] | None = None
    name: str = field(default="")


def engines_here(asked: Sequence[str] = ()) -> tuple[list[Facts], list[str]]:
    """The embedded engines of these names, or all that are here, and sentences on the others.

    Raises PlanError for one that is no database of a file, UnknownName, EngineMissing for one that
    was asked for and is not here.
    """
    found, missing = [], []
    for name in asked or [one for one in engine_names() if not one.startswith("faulty-")]:
        engine = find_engine(name)
        if hasattr(engine, "serve") or engine.file_format == "none" or hasattr(engine, "usual"):
            if asked:
                raise PlanError(
                    f"--engines {name}: a soak is of embedded engines, and this is none."
                )
            continue
        if why := engine.missing():
            if asked:
                raise EngineMissing(f"Engine {name!r} is not to be had here: {why}")
            missing.append(f"{name} is not to be had here: {why}")
            continue
        modes = tuple(mode for mode in modes_of(engine) if mode in engine.promises)
        shares = getattr(engine, "shares", "") == "threads"
        found.append(Facts(name, modes, engine.file_format, engine.hosting, shares))
    if not found:
        raise EngineMissing("No embedded engine is to be had here. `cwkit engines` says why.")
    try:
        fault_library()
    except EngineMissing as error:
        missing.append(f"{NO_LIBRARY}: {error}")
    return found, missing


def kind_of(seed: str, visit: int, *, library: bool) -> str:
    """The kind of an engine's round, by how many it had before."""
    if library and visit == 0:
        return "crash"
    at = visit - 1 if library else visit
    deck = [kind for kind in DECK if library or kind in WITHOUT_LIBRARY]
    if at < len(each := [kind for kind in KINDS if kind in deck and kind != "crash"]):
        random.Random(f"{seed}-first").shuffle(each)
        return each[at]  # one of each before any comes twice
    turn, place = divmod(at - len(each), len(deck))
    random.Random(f"{seed}-{turn}").shuffle(deck)
    return deck[place]


def target_of(seed: int, number: int, engines: Sequence[Facts]) -> tuple[Facts, str, int]:
    """The engine of a round, its mode, and how many rounds the engine had before.

    Engines come in turns, in another order in each; an engine's modes come in its own order.
    """
    turn, place = divmod(number, len(engines))
    order = list(engines)
    random.Random(f"{seed}-turn-{turn}").shuffle(order)
    facts = order[place]
    return facts, facts.modes[turn % len(facts.modes)], turn


def draw_round(
    seed: int,
    number: int,
    engines: Sequence[Facts],
    *,
    seconds: float,
    library: bool,
    calls: Mapping[tuple[str, str], Mapping[str, int]],
    chains: Mapping[tuple[str, str], Chain],
    rules: Sequence[str] = (),
) -> Drawn:
    """The round of this number. calls : (engine, mode) -> "call file" -> how many a recorded run
    made. chains : (engine, mode) -> the database that is used on. rules : of --fault, in place of
    drawn ones; nothing else of a round depends on calls.

    Raises what `make_plan` raises where nothing that is drawn can be run.
    """
    facts, mode, visit = target_of(seed, number, engines)
    kind = kind_of(f"{seed}-{facts.name}", visit, library=library)
    chance = f"{seed}-{number}"
    chain = chains.get((facts.name, mode), Chain())

    def drawn_values(draw: random.Random) -> dict[str, Any]:
        values = _values(draw, facts, mode, kind, seconds)
        if kind == "reopen":
            values["params"] |= {"first": chain.rounds * FAR, "earlier": chain.earlier}
        return values

    values, plan = _first_that_goes(chance, drawn_values)
    if kind == "fault":
        known = calls.get((facts.name, mode)) or _of_engine(facts.name, calls)
        apart = facts.hosting == "process" and plan.connection[:4] not in ("shar", "pool")
        writers = values["writers"] if apart else 0

        def with_faults(draw: random.Random) -> dict[str, Any]:
            return values | {"fault": list(rules) or _faults(draw, known, writers)}

        _, plan = _first_that_goes(f"{chance}-faults", with_faults)
    return Drawn(
        number, kind, plan,
        states=_states(random.Random(f"{chance}-states"), seconds) if kind == "crash" else 0,
        kill=_kill(random.Random(f"{chance}-kill"), kind),
        name=_name(number, kind, plan),
    )  # fmt: skip


def _first_that_goes(
    chance: str, drawn: Callable[[random.Random], dict[str, Any]]
) -> tuple[dict[str, Any], Plan]:
    """The first values that go together, and their plan."""
    error: Exception | None = None
    for attempt in range(TRIES):
        values = drawn(random.Random(f"{chance}-{attempt}"))
        try:
            return values, make_plan(**values)
        except PlanError as why:  # drawn anew
            error = why
    assert error is not None
    raise error


def _of_engine(name: str, calls: Mapping[tuple[str, str], Mapping[str, int]]) -> Mapping[str, int]:
    """The calls of an engine in whatever mode they were seen."""
    return next((calls[key] for key in sorted(calls) if key[0] == name), UNKNOWN_CALLS)


def _name(number: int, kind: str, plan: Plan) -> str:
    engine = plan.database.rpartition("/")[2].replace(":", "-")
    return f"{number:05d}-{kind}-{engine}-{plan.begin}"


def _states(draw: random.Random, seconds: float) -> int:
    return draw.choice((20, 40)) if seconds >= 1 else 8


def _kill(draw: random.Random, kind: str) -> tuple[float, bool, int] | None:
    if kind == "kill" or (kind == "reopen" and draw.random() < 0.5):
        return draw.uniform(0.3, 0.9), draw.random() < 0.4, draw.randrange(64)
    return None


def _values(
    draw: random.Random, facts: Facts, mode: str, kind: str, seconds: float
) -> dict[str, Any]:
    """What `make_plan` takes."""
    sqlite = facts.format == "sqlite" and facts.hosting == "process"
    values: dict[str, Any] = {
        "database": facts.name,
        "begin": mode,
        "scenario": _scenario(draw, kind),
        "seed": draw.randrange(LATEST_SEED),
        "writers": draw.choice((1, 2, 3, 4, 6)),
        "readers": draw.choice((0, 0, 1, 2)),
        "checkpointers": draw.choice((0, 0, 0, 1)),
        # Of another format's log one has to be told: all of it is the one kind that all have.
        "checkpoint": draw.choice(CHECKPOINTS) if facts.format == "sqlite" else "truncate",
        "checkpoint_pause_ms": draw.choice((0, 5, 50)),
        "duration_s": seconds * (LONG_TIMES if draw.random() < LONG_SHARE else 1),
        "warmup_s": 0,
        "synchronous": draw.choice(("off", "normal", "full", "full", "extra")),
        "busy_timeout_ms": draw.choice((0, 50, 2000, 5000)),
        "cache_size": draw.choice((-2000, -2000, 10)),
        "wal_autocheckpoint": draw.choice((1000, 100, 10, 10_000)),
        "connection": _connection(draw, facts),
        "deadline_s": 20,
        "load_limit_s": 120,
        "check_limit_s": 240,
        "params": _params(draw),
    }
    if kind == "fault":
        values["synchronous"] = draw.choice(("full", "full", "full", "normal", "off"))
    if kind in ("crash", "reopen"):
        values |= {"readers": 0, "connection": "kept", "params": {}}
    if kind == "crash":
        values |= {
            "transactions": 30,
            "duration_s": 60,
            "busy_timeout_ms": 5000,
            "wal_autocheckpoint": draw.choice((10, 100)),
            "writers": draw.choice((2, 3)),
        }
    elif sqlite and kind != "reopen":
        values |= {
            "page_bytes": draw.choice((4096, 4096, 512, 1024, 16384)),
            "pragma": draw.choice(
                ("", "", "temp_store=memory", "cache_spill=0", "secure_delete=1")
            ),
        }
        if mode != "concurrent":
            values["mmap_bytes"] = draw.choice((0, 0, 1 << 20))
            if draw.random() < 0.2:
                values |= {"journal_mode": draw.choice(("delete", "truncate", "persist")),
                           "checkpointers": 0}  # fmt: skip
    return values


def _scenario(draw: random.Random, kind: str) -> str:
    if kind in ("crash", "reopen") or draw.random() < {"fault": 0.8, "kill": 0.5}.get(kind, 0.2):
        return "ledger"
    return draw.choice(OTHERS)


def _params(draw: random.Random) -> dict[str, Any]:
    return {
        "rows": draw.choice((16, 64, 1000)),
        "record_bytes": draw.choice((20, 120, 2000)),
        "operations": draw.choice((1, 3, 8)),
        "think_us": draw.choice((0, 0, 100)),
        "keys": draw.choice(("uniform", "zipfian:0.99", "hotspot:0.1:0.9")),
    }


def _connection(draw: random.Random, facts: Facts) -> str:
    ways = ["kept", "kept", "kept", "per-transaction"]
    return draw.choice([*ways, "shared", "pool:2"] if facts.shares else ways)


def _faults(draw: random.Random, calls: Mapping[str, int], writers: int) -> list[str]:
    """One rule or some, each at a call that the engine makes.

    writers : that have a process of their own, 0 where none has.
    """
    return [_fault(draw, calls, writers) for _ in range(draw.choice((1, 2, 3)))]


def _fault(draw: random.Random, calls: Mapping[str, int], writers: int) -> str:
    many_times = [key for key in sorted(calls) if key.partition(" ")[0] in ACTIONS]
    # The others are made when a file is opened or closed: few of them come in a run.
    key = draw.choice(many_times if many_times and draw.random() < 0.8 else sorted(calls))
    call, _, file = key.partition(" ")
    what = draw.choice(ACTIONS.get(call, ELSE))
    first = math.ceil(math.exp(draw.uniform(0, math.log(max(calls[key], 2)))))
    many = draw.choice(("", "", "", f"-{first + 3}", "+"))
    if what.startswith("slow"):
        many = "+"
    elif many == "+" and what != "lie":
        many = ""  # nobody would get over it
    who = f"@{draw.randrange(writers)}" if writers and draw.random() < 0.3 else ""
    return f"{call}:{file}:{first}{many}:{what}{who}"


def lone(engines: Sequence[Facts]) -> Iterator[tuple[str, str]]:
    """Every engine in every mode."""
    return ((facts.name, mode) for facts in engines for mode in facts.modes)
