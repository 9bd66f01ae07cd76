"""The manifest of a run folder: its plan, its machine and its results. It is written, read and
checked here and nowhere else.

A manifest may come from anybody, so each value is checked when it is read, and a wrong one is
refused in one sentence that names the file and the key. Older manifests lack keys, so all but a few
are optional. Later ones of the same format have more keys, which are kept. A new key is one line
here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, inside, read_versioned, replace, visible
from workloads.records.mixes import modes_of_mix

MANIFEST = "manifest.json"
MOST_WORKERS = 256
"""Workers of one role. More processes measure the operating system's scheduler, not an engine."""

MOST_BYTES = 16 << 20
"""Bytes of a manifest. A run of 768 workers has 2 MB, a long layout 0.1 MB for each tree."""

LATEST_NS = 1 << 62
"""No clock of ours comes near it, 146 years after the machine's start, and sums stay int64."""

LONGEST_NS = 100_000 * 10**9
"""The longest window with its warm-up: more than a plan may ask for (`duration_s`, `warmup_s`)."""

SLACK_NS = 86_400 * 10**9
"""How far a worker's times may lie before the gate or after the run. A worker is waited for as long
as `deadline_s`, each operation's lock and its work may take."""

DEEPEST = 40
"""Levels of lists and objects in one another."""

Ns = Annotated[int, Field(strict=True, ge=0, lt=LATEST_NS)]
Number = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Cpu = Annotated[int, Field(strict=True, ge=0, lt=1 << 20)]
Text = StrictStr
Role = Literal["writer", "reader", "checkpointer"]


class Part(BaseModel):
    """The base of all parts of a manifest: keys that this cwkit does not know are kept."""

    # Built when first used: a process of a run that writes rows needs most of them never.
    model_config = ConfigDict(extra="allow", ser_json_inf_nan="strings", defer_build=True)

    def data(self) -> dict[str, Any]:
        """The keys that it has, as plain data: defaults that nobody set are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)

    def has(self, key: str) -> bool:
        """Whether the file had this key. An older one may lack it, which differs from null."""
        return key in self.model_fields_set


def build_all() -> None:
    """Build all parts now: for a process that is forked, and whose forks use them."""
    left = Part.__subclasses__()
    while left:
        part = left.pop()
        part.model_rebuild()
        left += part.__subclasses__()


class Retry(BaseModel):
    """The policy after a conflict. Each try is an attempt of its own and is recorded.

    exponential : waits uniform(0, min(cap, base * 2**(tries - 1))) ("full jitter").
    most_tries  : gives a transaction up after so many attempts; 0: only when the run ends.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["none", "immediate", "exponential"] = Field(
        "exponential", description="after a conflict: none, immediate, exponential"
    )
    base_us: float = Field(100, gt=0, le=60e6, description="exponential: first wait at most, us")
    cap_us: float = Field(50_000, gt=0, le=60e6, description="exponential: any wait at most, us")
    most_tries: int = Field(0, ge=0, le=65_000, description="give a transaction up after; 0: never")


class RecordedPlan(Part):
    """The plan of a run as plain data. `workloads.runs.plan.Plan` is the same, made to be run.

    Counts are workers of each role, times are in the unit of their name. A field with a description
    is an option of `cwkit run` and `cwkit search`, with the description as its help
    (analysis.cli.options.plan_options).
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    scenario: str = Field("bank", description="a name, or path.py:Name")
    params: dict[str, Any] = Field(default_factory=dict)
    database: str = Field("libsql", description="engine that creates and checks it")
    """Engine that creates and loads the database, and that checks it afterwards."""
    writers: int = Field(
        4,
        ge=0,
        le=MOST_WORKERS,
        description="processes that write; of several modes: 2:concurrent,2:immediate",
        json_schema_extra={"text": True},
    )
    write_engine: str = Field("", description="their engine (default: --database)")
    begin: str = Field(
        "immediate",
        description="their BEGIN: deferred, immediate, exclusive, concurrent; of a server its "
        "level; autocommit where the scenario needs no BEGIN (default: immediate, or what is usual "
        "there)",
    )
    readers: int = Field(
        0,
        ge=0,
        le=MOST_WORKERS,
        description="processes that only read (default: 0, or the scenario's)",
    )
    read_engine: str = Field("", description="their engine (default: --database)")
    read_begin: str = Field(
        "deferred", description="their BEGIN mode (default: deferred, or what is usual there)"
    )
    reader_holds_s: float = Field(
        0,
        ge=0,
        le=86_400,
        description="a reader keeps its snapshot: its transaction stays open so long, and reads "
        "again and again; 0: as long as it reads once",
    )
    checkpointers: int = Field(
        0, ge=0, le=MOST_WORKERS, description="processes that only checkpoint"
    )
    checkpoint: Literal["passive", "full", "restart", "truncate"] = Field(
        "passive", description="passive, full, restart or truncate"
    )
    checkpoint_engine: str = Field("", description="their engine (default: --database)")
    checkpoint_pause_ms: float = Field(0, ge=0, le=60_000, description="mean pause between two")
    duration_s: float = Field(
        10, gt=0, le=86_400, description="measured part, s (default: 10, or the scenario's own)"
    )
    warmup_s: float = Field(
        1, ge=0, le=3_600, description="excluded part before it, s (default: 1, or its own)"
    )
    transactions: int = Field(0, ge=0, description="of each worker; 0: by duration")
    """Transactions of each writer and reader; 0: until the duration ends, which stays a limit."""
    rate: float = Field(
        0, ge=0, le=10_000_000, description="open loop: writes started a second; 0: closed"
    )
    """Open loop: transactions a second that all writers together should start; 0: closed loop."""
    stages: str = Field(
        "",
        description="open loop in stages, which are the measured part: 10s:100/s,30s:400/s",
    )
    """Then `rate` is the mean of all stages, and `duration_s` is their length."""
    read_rate: float = Field(0, ge=0, le=10_000_000, description="the same for the readers")
    retry: Retry = Retry()
    journal_mode: (
        Literal["wal", "delete", "truncate", "persist", "memory", "off", "mvcc"] | None
    ) = Field(None, description="PRAGMA (default: wal)")
    synchronous: Literal["off", "normal", "full", "extra"] = Field(
        "normal", description="PRAGMA: off, normal, full, extra (default: normal, or its own)"
    )
    busy_timeout_ms: int = Field(2000, ge=0, le=600_000, description="PRAGMA")
    cache_size: int = Field(
        -16000, ge=-(2**31), lt=2**31, description="PRAGMA: pages, or KiB if negative"
    )
    page_bytes: Literal[512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] = Field(
        4096, description="PRAGMA page_size of the new database"
    )
    cache: Literal["warm", "cold"] = Field(
        "warm", description="the database in memory when the run begins: warm, cold (dropped)"
    )
    """Warm: as loading or copying left it. Cold: the kernel was asked to drop it from memory."""
    wal_autocheckpoint: int = Field(1000, ge=0, lt=2**31, description="PRAGMA: pages; 0: none")
    mmap_bytes: int = Field(0, ge=0, lt=2**62, description="PRAGMA mmap_size")
    pragma: str = Field(
        "",
        description="NAME=VALUE of another PRAGMA for every connection; may be given several times",
        json_schema_extra={"repeated": True},
    )
    """Several are joined by commas."""
    fault: str = Field(
        "",
        description="CALL:FILE:N:WHAT lets this call of a worker on a file of the database fail, "
        "as in sync:*-wal:3:EIO; may be given several times",
        json_schema_extra={"repeated": True},
    )
    """Several are joined by commas."""
    autocommit: bool = Field(
        False,
        description="writers and readers without BEGIN: each statement commits by itself, where a "
        "transaction has one that changes anything",
    )
    """Older runs say it by their modes alone, as do those of `begin` autocommit."""
    connection: str = Field(
        "kept",
        description="each worker's: kept, per-transaction, shared, or pool:N: threads of one "
        "process that borrow",
    )
    """Older runs, which do not say it, kept theirs."""
    cold_start: bool = Field(
        False,
        description="all workers open a file that does not exist yet, at the same moment, and "
        "create the schema where it is missing",
    )
    network: str = Field(
        "",
        description="between clients and server: tcp, or rtt=2ms[,jitter=0.5ms][,loss=1%]"
        "[,drop=2..4] through a relay of ours (default: the server's nearest way)",
    )
    """"" where the engine has its nearest way: a Unix socket, or loopback (workloads.engines)."""
    sync: str = Field(
        "begin",
        description="a replica fetches: begin (a reader's, before each transaction), never, or "
        "every so often, as 10ms",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="draws the same transactions again")
    pin: bool = Field(False, description="one CPU for each worker, in turn")
    """Give each worker one CPU of those the run may use, in turn."""
    cpus: tuple[int, ...] = ()
    start: Literal["fork", "exec"] = Field(
        "exec", description="how processes start: fork or exec (default: fork, where it can be)"
    )
    """Older runs, which do not say it, started theirs by exec."""
    loop: Literal["C", "Python"] = Field(
        "Python", description="the workers' hot loop: C or Python (default: C, where it is built)"
    )
    """Older runs, which do not say it, had the loop in Python. Each worker says what it had."""
    deadline_s: float = Field(
        15, gt=0, le=3_600, description="wait so long for a worker that hangs, s"
    )
    """How long after the run's end, or without any progress at all, a worker is waited for."""
    load_limit_s: float = Field(900, gt=0, le=86_400, description="loading it may take so long, s")
    """How long loading the database may take."""
    check_limit_s: float = Field(
        900, gt=0, le=86_400, description="checking it may take so long, s"
    )
    """How long checking it afterwards may take."""

    @model_validator(mode="before")
    @classmethod
    def _engine_of_each_role(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values = dict(values)
            for field in ("write_engine", "read_engine", "checkpoint_engine"):
                values[field] = values.get(field) or values.get("database", "libsql")
        return values

    def roles(self) -> list[tuple[str, str, str]]:
        """(role, engine, BEGIN mode) of each worker, by worker number."""
        return (
            [("writer", self.write_engine, m) for m in modes_of_mix(self.begin, self.writers)]
            + [("reader", self.read_engine, self.read_begin)] * self.readers
            + [("checkpointer", self.checkpoint_engine, "")] * self.checkpointers
        )

    def engines(self) -> tuple[str, ...]:
        """Every engine the run opens the database with, the database's own first."""
        return tuple(dict.fromkeys([self.database, *(engine for _, engine, _ in self.roles())]))


class ScenarioEntry(Part):
    """The workload, so that a reader need not load it where it is a file of the user's."""

    name: Text = ""
    params: dict[Text, Any] = Field(default_factory=dict)  # with the defaults that were taken
    kinds: tuple[Text, ...] = ()  # names of its transaction kinds, by number


class EngineEntry(Part):
    """An engine's description of itself; every field is "" where it was never asked."""

    binding: Text = ""
    version: Text = ""
    source_id: Text = ""
    options: tuple[Text, ...] = ()
    file_format: Text = ""  # engines of one format can open each other's files
    hosting: Text = ""  # "process" or "thread"
    unit: Text = ""  # what BEGIN CONCURRENT is refused over: "page" or "row"


class RefusalPages(Part):
    """The pages over which an engine refused commits (workloads.engines.conflict_log)."""

    said: Number = 0
    pages: dict[Text, Number] = Field(default_factory=dict)
    rest: dict[Text, Number] = Field(default_factory=dict)
    notices: dict[Text, Number] = Field(default_factory=dict)


class StartRefusal(Part):
    """What an engine answered to a worker that was starting, and how often."""

    at: Text = ""  # open, PRAGMA NAME, schema, ...
    message: Text = ""  # the engine's own
    outcome: Text = ""
    times: Number = 0


class ColdStart(Part):
    """A worker's start on a database file that did not exist yet (workloads.runs.cold_start)."""

    tries: Number = 0  # of opening
    schema_tries: Number = 0
    opened_ns: Ns | None = None  # since the gate; None: it never was
    ready_ns: Ns | None = None  # and its schema was there
    created: StrictBool = False  # it found no schema, and made it
    refused: tuple[StartRefusal, ...] = ()


class WorkerEntry(Part):
    """One worker: what it was, how it ended, and its own account of that."""

    worker: Annotated[int, Field(strict=True, ge=0, lt=3 * MOST_WORKERS)]
    role: Role
    number: Annotated[int, Field(strict=True, ge=0, lt=MOST_WORKERS)]  # within its role
    engine: Text
    begin: Text
    pid: Number = 0
    state: Text = "finished"
    account: Text = ""
    opened: StrictBool = True  # it came as far as its first row
    pragmas: dict[Text, Any] = Field(default_factory=dict)  # as read back
    loop: Literal["", "C", "Python"] = ""  # "": a checkpointer, or an older run: Python
    cpu_s: Amount | None = None
    cpus: tuple[Cpu, ...] = ()
    idle_checkpoints: Number = 0
    busy_checkpoints: Number = 0
    reconnects: Number = 0  # connections that were lost and made anew
    met: RefusalPages | None = None  # None: its engine does not log them
    start: ColdStart | None = None  # None: it found its database loaded


class Window(Part):
    """When the gate opened, and the measured part, ns on the machine's monotonic clock."""

    start_ns: Ns = -1  # where an older manifest lacks it: measure_ns
    measure_ns: Ns
    stop_ns: Ns

    @model_validator(mode="after")
    def _runs_forward(self) -> Window:
        if self.start_ns < 0:
            self.__dict__["start_ns"] = self.measure_ns  # not set, so that it is not written
        if not self.start_ns <= self.measure_ns <= self.stop_ns <= self.start_ns + LONGEST_NS:
            raise ValueError(
                "start_ns, measure_ns and stop_ns follow each other, within "
                f"{LONGEST_NS // 10**9:,} s"
            )
        return self

    @property
    def possible_ns(self) -> tuple[int, int]:
        """(first, last) time that the clocks of its workers can have shown.

        All times are possible where the gate never opened, or where the run was killed before its
        manifest had the window.
        """
        if self.stop_ns == 0:
            return 0, LATEST_NS
        return max(self.start_ns - SLACK_NS, 0), self.stop_ns + SLACK_NS


class FindingEntry(Part):
    """The result of one check of the database after the run."""

    check: Text = ""
    ok: StrictBool
    checked: StrictBool = True  # False: it could not be made; then it is not ok, and not broken
    sentence: Text = ""
    evidence: dict[Text, Any] = Field(default_factory=dict)


class TroubleEntry(Part):
    """Why the run is not well although its checks may hold (workloads.runs.trouble)."""

    kind: Text = ""
    sentence: Text = ""
    attempts: Number = 0


class UnderWay(Part):
    """The state from which another process finishes a run (workloads.runs.recovery)."""

    stage: Text  # loading, starting, measuring, ending, checking, finishing
    home: Text = ""  # its temporary folder, which holds the database
    keep_database: StrictBool = False
    pid: Number = 0  # of its process, which began then, in the kernel's ticks
    start_ticks: Number = 0
    boot_id: Text = ""  # of the machine since its last start


class Machine(Part):
    """Where it ran and by which code (workloads.runs.machine)."""

    id: Text = ""  # "" in older manifests
    cpu: Text = ""
    cores: Number | None = None
    cores_of_machine: Number | None = None
    memory_bytes: Number | None = None
    kernel: Text = ""
    architecture: Text = ""
    python: Text = ""
    numpy: Text = ""
    file_system: Text = ""
    governor: Text = ""
    cwkit_commit: Text | None = None
    cwkit_source: Text | None = None
    files: dict[Text, Text] | None = None  # the user's own -> a hash of each


class ServerEntry(Part):
    """A server that somebody else runs: where it is, and what it has, which nobody asked for."""

    where: Text = ""
    server_version: Text = ""
    fsync: Text = ""
    synchronous_commit: Text = ""
    full_page_writes: Text = ""


class NetworkEntry(Part):
    """The relay between clients and server: what was asked, measured and counted in the run.

    rtt_ms, direct_ms : medians of round trips of one byte through the relay, and past it, measured
        before the window. late_ms, most_late_ms : how long after its time a message went on in
        the run, the mean and the most.
    """

    asked_ms: Amount = 0.0
    rtt_ms: Amount = 0.0
    direct_ms: Amount = 0.0
    connections: Number = 0
    unreached: Number = 0  # the server did not take them
    messages: Number = 0
    bytes: Number = 0
    cuts: Number = 0
    late_ms: Amount = 0.0
    most_late_ms: Amount = 0.0
    cpu_s: Amount = 0.0
    failed: Text = ""  # how the relay ended before the run did


class FaultHit(Part):
    """A moment at which a fault struck. at_ns : as in the window. role, number : the worker whose
    attempt was under way, "" for none. phase : of that attempt. outcome, message : how it ended.
    """

    at_ns: Ns = 0
    role: Text = ""
    number: Number = 0
    phase: Text = ""
    outcome: Text = ""
    message: Text = ""


class FaultEntry(Part):
    """One fault of a run. rule : as the user gave it. matched, fired : calls that it met, and those
    that it let fail. hits : the first of those moments. longest_block_ns : from such a moment to
    the next commit of a writer in another process, the longest; None: there was none.
    """

    rule: Text = ""
    matched: Number = 0
    fired: Number = 0
    hits: tuple[FaultHit, ...] = ()
    longest_block_ns: Number | None = None


class Foreign(Part):
    """Whose CPU time it was in the measured window (workloads.runs.machine.CpuMeter)."""

    cpu_share: Amount = 0.0
    steal_share: Amount = 0.0
    total_cpu_s: Amount = 0.0
    own_cpu_s: Amount = 0.0
    conductor_cpu_s: Amount = 0.0
    server_cpu_s: Amount | None = None  # in own_cpu_s; None: it had no server; or an older run


class WalEntry(Part):
    """The database's write-ahead log in the measured window (workloads.runs.wal)."""

    bytes_max: Number = 0
    restarts: Number = 0
    exact: StrictBool = False  # false: it may have begun again more often


Pressure = dict[Text, dict[Text, Amount]]
"""Resource ("cpu", "io", "memory") -> "some" and "full" -> share of the window's time."""


class Conduct(Part):
    """Who started the run, and beside how many others."""

    started_by: Text = Field("", alias="way")  # on disk under its older name
    jobs: Number = 0  # cells at a time; 0: not said
    oversubscribed: StrictBool = False
    cpus: tuple[Cpu, ...] = ()


class Tree(Part):
    """One b-tree of the database file (workloads.engines.pages)."""

    root: Number = 0
    cells: Number = 0
    leaves: Number = 0
    interior: Number = 0
    pages: Text = ""
    above: Text = ""


Trees = dict[Text, Tree | Text]
"""By name ("table t", "index t.i"); "why" -> the reason, where nothing is known of them."""


class Layout(Part):
    """The database file's b-trees, as it was loaded and as the run left it; or why not."""

    loaded: Trees = Field(default_factory=dict)
    left: Trees = Field(default_factory=dict)


class Manifest(Part):
    """All of it. The order of the fields is that of the file."""

    cwkit: int = FORMAT_VERSION
    run: Annotated[str, Field(strict=True, min_length=1, max_length=255)]
    id: Text = ""  # drawn for this run alone; "" in older manifests
    command: Text = ""
    seed: Number = 0
    started: Text = ""
    scenario: ScenarioEntry = Field(default_factory=ScenarioEntry)
    plan: RecordedPlan
    machine: Machine = Field(default_factory=Machine)
    ended: Text = "duration"
    ok: StrictBool = False
    conduct: Conduct = Field(default_factory=Conduct)
    layout: Layout = Field(default_factory=Layout)
    workers: Annotated[list[WorkerEntry], Field(max_length=3 * MOST_WORKERS)]
    engines: dict[Text, EngineEntry] = Field(default_factory=dict)
    window: Window
    foreign: Foreign = Field(default_factory=Foreign)
    findings: list[FindingEntry] = Field(default_factory=list)
    troubles: list[TroubleEntry] | None = None  # None: an older run; its rows show it
    wal_bytes_max: Number = 0
    wal: WalEntry | None = None  # None: no log of SQLite's format was there; or an older run
    pressure: Pressure | None = None  # None: this kernel does not tell; or an older run
    cached: Amount | None = None  # share of a cold run's database that was in memory all the same
    server: ServerEntry | None = None  # None: of the run's own, or none at all
    network: NetworkEntry | None = None  # None: no relay was asked for
    faults: tuple[FaultEntry, ...] = ()  # none: none was asked for
    unchecked: Text = ""  # why the database was not checked
    database_kept: Text = ""  # why it could not be kept
    recovered: Text = ""  # the stage in which its process was killed, where another finished it
    under_way: UnderWay | None = None  # None: it is over

    @field_validator("plan", mode="before")
    @classmethod
    def _names_its_parts(cls, plan: Any) -> Any:
        if isinstance(plan, dict):
            for key in ("scenario", "database"):
                if key not in plan:
                    raise ValueError(f"lacks {key}")
        return plan

    @model_validator(mode="after")
    def _no_worker_twice(self) -> Manifest:
        if len({entry.worker for entry in self.workers}) < len(self.workers):
            raise ValueError("workers: two have the same number")
        if len({(entry.role, entry.number) for entry in self.workers}) < len(self.workers):
            raise ValueError("workers: two of one role have the same number")
        return self

    @property
    def broken(self) -> list[FindingEntry]:
        """Checks that did not hold."""
        return [finding for finding in self.findings if finding.checked and not finding.ok]

    @property
    def unmade(self) -> list[FindingEntry]:
        """Checks that could not be made: nobody knows whether they hold."""
        return [finding for finding in self.findings if not finding.checked]

    def over(self) -> None:
        """Mark the run as complete: `under_way` is not written any more."""
        self.under_way = None
        self.model_fields_set.discard("under_way")


Of = TypeVar("Of", bound=BaseModel)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run folder. Raises RunError with the reason and the way out."""
    folder = Path(folder)
    path = inside(folder, MANIFEST)
    try:
        data = read_versioned(path, dict, "The run has to be made again.", MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise RunError(
                f"{folder}: there is no such run. `cwkit list` shows those there are."
            ) from None
        raise RunError(
            f"{folder}: not a run folder (it has no {MANIFEST}). Try `cwkit list`."
        ) from None
    return checked(Manifest, data, path)


def checked(kind: type[Of], data: Any, path: Path) -> Of:
    """Plain data out of a file as a model. Raises RunError that names the file and the key."""
    if _deeper_than(data, DEEPEST):
        raise RunError(f"{path}: its values are nested too deep. It was cut or edited.")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise RunError(f"{path}: {_complaint(error)}. It was cut or edited.") from None


def _complaint(error: ValidationError) -> str:
    """The first complaint: the key, the rule, and the value where it is short."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    rule = str(first["msg"]).removeprefix("Value error, ")
    value = first.get("input")
    plain = first["type"] not in ("missing", "value_error") and not isinstance(value, (dict, list))
    shown = f" (it is {_short(value)})" if plain else ""
    if first["type"] == "missing":
        return f"lacks {_short(where, quoted=False)}"
    rule = f"{rule[0].lower()}{rule[1:]}".rstrip(".")
    return visible(f"`{_short(where, quoted=False)}`: {rule}{shown}" if where else f"{rule}{shown}")


def _short(value: Any, *, quoted: bool = True) -> str:
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = visible(json.dumps(value) if quoted else value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _deeper_than(value: Any, levels: int) -> bool:
    here = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for value in here:
            if isinstance(value, Mapping):
                inner += [v for v in value.values() if isinstance(v, (dict, list))]
            elif isinstance(value, list):
                inner += [v for v in value if isinstance(v, (dict, list))]
        if not inner:
            return False
        here = inner
    return True


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace manifest.json in one step, so that a reader sees the old one or the new one."""
    # Formatted afterwards: with an indent, json.dumps does all in Python, at ten times the cost.
    text = msgspec.json.format(json.dumps(_readable(manifest.data())), indent=1)
    replace(Path(folder) / MANIFEST, text + "\n")


def _readable(value: Any) -> Any:
    """Plain data that every reader of JSON takes. NaN, infinities and halves of characters become
    text: an engine's message or a scenario's evidence may hold them.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _readable(value) for key, value in value.items()}
    if isinstance(value, list):
        return [_readable(value) for value in value]
    return value
