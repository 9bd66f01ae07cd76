"""Register: rows read and written by key, in YCSB's core mixes or any other.

A written value names its writer, so that the last value of each row can be compared with the
writers' own records. A read-modify-write also raises the row's version, so a lost update leaves a
version too low. YCSB's ten fields of 100 bytes are one payload of `record_bytes` here.
Source: Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from workloads.engines import Session
from workloads.errors import nearest, shortened
from workloads.records import COMMITTED, UNKNOWN
from workloads.scenarios import keys
from workloads.scenarios.drawing import stream
from workloads.scenarios.footprint import Footprint, NoFootprint, Touch
from workloads.scenarios.keys import BLOCK
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.register_history import (
    INSERT,
    INSERT_SQL,
    READ,
    READ_SQL,
    RMW,
    SCAN,
    UPDATE,
    UPDATE_SQL,
    WRITE_SQL,
    logged_bodies,
    logging,
    missing,
)
from workloads.scenarios.scenario import Draw, Finding, RunLog, Shape, WorkerContext

MIXED = 5  # the kind of a transaction of several operations
OPERATIONS = ("read", "update", "insert", "scan", "read-modify-write")
WRITING = ("update", "insert", "read-modify-write")
READING = (READ, SCAN)
COUNTED = (COMMITTED, UNKNOWN)

YCSB: Mapping[str, tuple[Mapping[str, float], str]] = {
    "A": ({"read": 50, "update": 50}, "zipfian:0.99"),
    "B": ({"read": 95, "update": 5}, "zipfian:0.99"),
    "C": ({"read": 100}, "zipfian:0.99"),
    "D": ({"read": 95, "insert": 5}, "latest"),
    "E": ({"scan": 95, "insert": 5}, "zipfian:0.99"),
    "F": ({"read": 50, "read-modify-write": 50}, "zipfian:0.99"),
}
"""Workload -> (percent of each operation, distribution of the keys), as YCSB ships them."""

SCAN_SQL = "SELECT id, version, value FROM register WHERE id >= ? ORDER BY id LIMIT ?"
VERSION_SQL = "SELECT version FROM register WHERE id = ?"


def parse_mix(text: str) -> dict[str, float]:
    """Percent of each operation, summing to 100. Raises ValueError with the nearest name.

    >>> parse_mix("read=3,update=1")
    {'read': 75.0, 'update': 25.0}
    """
    if text.upper() in YCSB:
        return dict(YCSB[text.upper()][0])
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, amount = part.strip().partition("=")
        if name not in OPERATIONS:
            near = nearest(name, [*OPERATIONS, *YCSB], 0.3)
            hint = f"; did you mean {near!r}?" if near else "."
            raise ValueError(
                f"there is no operation {shortened(name)} in a mix{hint} "
                f"Give one of {', '.join(YCSB)} or NAME=SHARE of {', '.join(OPERATIONS)}"
            )
        try:
            shares[name] = float(amount) if equals else 1.0
        except ValueError:
            raise ValueError(f"the share of {name!r} must be a number, not {amount!r}") from None
        if not 0 <= shares[name] < float("inf"):
            raise ValueError(f"the share of {name!r} must not be negative")
    total = sum(shares.values())
    if total <= 0:
        raise ValueError("a mix needs at least one share above 0")
    return {name: 100 * share / total for name, share in shares.items()}


class RegisterShape(Shape):
    """Parameters of `register`."""

    mix: str = Field("A", description="YCSB's A to F, or shares: read=50,read-modify-write=50")
    keys: str = Field("", description="default: YCSB's own for A to F, else uniform")
    scan_rows: int = Field(100, ge=1, le=100_000, description="longest scan; lengths are uniform")
    history: bool = Field(
        False, description="record every read and write for `cwkit check RUN`; costs throughput"
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_of_the_mix(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("keys"):
            mix = str(values.get("mix", "A")).upper()
            values = values | {"keys": YCSB[mix][1] if mix in YCSB else "uniform"}
        return values

    @field_validator("mix")
    @classmethod
    def _mix_is_one(cls, value: str) -> str:
        parse_mix(value)
        return value


Step = tuple[int, int, int, int]
"""(operation, key, rows to scan, number of the transaction)"""


class Row(NamedTuple):
    """One row as the check found it. `writer` is None for the loaded value."""

    version: int
    writer: tuple[int, int] | None  # (worker, transaction)


class Written:
    """The workers' acknowledged writes, row by row."""

    def __init__(self) -> None:
        self.newest_start: dict[int, tuple[int, int, int]] = {}  # key -> (start_ns, worker, txn)
        self.modified: Counter[int] = Counter()
        self.maybe_modified: Counter[int] = Counter()
        self.inserted: dict[int, tuple[int, int]] = {}
        self.maybe_inserted: set[int] = set()
        self.ends: dict[tuple[int, int], int | None] = {}  # of writers still to be seen
        self.keys: dict[tuple[int, int], set[int]] = {}
        self.committed = self.unknown = 0

    def add(
        self, worker: int, txn: int, steps: Sequence[Step], sure: bool, start: int, end: int
    ) -> None:
        """One transaction that committed (`sure`) or may have."""
        if (worker, txn) in self.ends:
            self.ends[worker, txn] = end if sure else None
            self.keys[worker, txn] = {s[1] for s in steps if s[0] in (UPDATE, INSERT, RMW)}
        for operation, key, _, _ in steps:
            if operation in READING:  # twice as fast
                continue
            if operation == RMW:
                (self.modified if sure else self.maybe_modified)[key] += 1
            elif operation == INSERT:
                if sure:
                    self.inserted[key] = (worker, txn)
                else:
                    self.maybe_inserted.add(key)
            if sure:
                newest = self.newest_start.get(key)
                if newest is None or start > newest[0]:
                    self.newest_start[key] = (start, worker, txn)
        if sure:
            self.committed += 1
        else:
            self.unknown += 1


class Register:
    """Operations by key. Writers run the whole mix, readers only its reads or scans.

    A transaction of one operation is of that operation's kind, a longer one is `mixed`.
    result of a read: the version it saw; of a read-modify-write: the version it wrote; of an
    insert: its id; of a scan: the rows it saw; otherwise 0.
    """

    name: ClassVar[str] = "register"
    story: ClassVar[str] = (
        "Rows read and written by key: YCSB's workloads A to F or any mix. Each row ends with the "
        "newest value that was acknowledged, and with a version for each read-modify-write."
    )
    kinds: ClassVar[tuple[str, ...]] = (*OPERATIONS, "mixed")
    cold_start: ClassVar[bool] = True
    Params: ClassVar[type[Shape]] = RegisterShape
    loaded_by: ClassVar[tuple[str, ...]] = ("rows", "record_bytes")
    late: ClassVar[tuple[int, ...]] = (UPDATE, INSERT)

    def __init__(self, params: RegisterShape) -> None:
        self.params = params
        self.mix = parse_mix(params.mix)
        self.logged = "rw-register" if params.history else None
        """The model of the history that a run of this leaves; makes the runner log it."""
        self._number: dict[int, Callable[[], int]] = {}

    @property
    def autocommit(self) -> bool:
        """Each transaction is one statement, which keeps by itself what the check asks for."""
        return self.params.operations == 1 and "read-modify-write" not in self.mix

    def schema(self) -> Sequence[str]:
        return (
            (
                "CREATE TABLE register"
                "(id INTEGER PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL)"
            ),
        )

    def load(self, session: Session, rng: np.random.Generator) -> None:
        tail = f",0,'load|{payload(rng, self.params.record_bytes)}')"
        fill(
            session,
            "INSERT INTO register(id, version, value) VALUES",
            (f"({i}{tail}" for i in range(self.params.rows)),
        )

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        mix = self.mix
        if context.role == "reader":
            only = "scan" if "scan" in mix and "read" not in mix else "read"
            mix = {only: 100.0}
        codes = np.array([OPERATIONS.index(name) for name in mix])
        shares = np.array(list(mix.values())) / sum(mix.values())
        rng, each, rows = context.rng(), self.params.operations, self.params.rows
        key = keys.sampler(self.params.keys, rows, rng)
        latest = keys.parse(self.params.keys).name == "latest"
        inserted = drawn = 0

        def block() -> list[Draw]:
            nonlocal inserted, drawn
            count = max(BLOCK // each, 1) * each
            operations = rng.choice(codes, count, p=shares)
            picked = key(count)
            new = operations == INSERT
            before = inserted + np.cumsum(new) - new  # own inserts before each operation
            if latest:
                # The newest rows are its own: YCSB's shared counter would make the draws depend
                # on the other workers, and nobody could draw them again.
                age = rows - 1 - picked
                own = age < before
                picked = np.where(
                    own, rows + (before - 1 - age) * context.of + context.number, picked + before
                )
                picked = np.where(own, picked, np.minimum(picked, rows - 1))
            ids = rows + before * context.of + context.number
            picked = np.where(new, ids, picked)
            inserted += int(new.sum())
            lengths = rng.integers(1, self.params.scan_rows + 1, count)
            # The number of the transaction goes into the values it writes.
            numbers = drawn + np.arange(count) // each
            drawn += count // each
            steps = list(
                zip(*(a.tolist() for a in (operations, picked, lengths, numbers)), strict=True)
            )
            if each == 1:
                return [Draw(step[0], step) for step in steps]
            return [Draw(MIXED, tuple(steps[i : i + each])) for i in range(0, count, each)]

        draws = stream(block)
        if context.session is None or not self.params.history:
            return draws
        draws, self._number[context.worker] = logging(context, draws, MIXED)
        return draws

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        if self.params.history:
            number = self._number[context.worker]
            return logged_bodies(context, number, self.params.rows, self.params.record_bytes)
        run, rows, think = context.session.run, context.session.rows, context.think
        pad = payload(np.random.default_rng(7), self.params.record_bytes)
        loaded, checked, worker = self.params.rows, context.checked, context.worker

        def read(step: Step) -> int:
            found = rows(READ_SQL, (step[1],))
            if not found:
                if step[1] < loaded and checked:
                    raise missing(step[1])
                return 0
            think()
            return int(found[0][0])

        def update(step: Step) -> int:
            think()
            run(UPDATE_SQL, (f"{worker}.{step[3]}|{pad}", step[1]))
            return 0

        def insert(step: Step) -> int:
            think()
            run(INSERT_SQL, (step[1], f"{worker}.{step[3]}|{pad}"))
            return step[1]

        def scan(step: Step) -> int:
            found = rows(SCAN_SQL, step[1:3])
            think()
            return len(found)

        def modify(step: Step) -> int:
            found = rows(VERSION_SQL, (step[1],))
            if not found:
                if step[1] < loaded and checked:
                    raise missing(step[1])
                return 0
            version = found[0][0] + 1
            think()
            run(WRITE_SQL, (version, f"{worker}.{step[3]}|{pad}", step[1]))
            return int(version)

        each = (read, update, insert, scan, modify)

        def mixed(steps: tuple[Step, ...]) -> int:
            for step in steps:
                each[step[0]](step)
            return 0

        return (*each, mixed)

    def footprint(self) -> Footprint:
        """The rows that writing transactions touch. With one operation each, only writers count.

        Raises NoFootprint for a mix without writes, and for scans beside writes in a transaction.
        With `latest` the table is taken as it was loaded: that its newest rows move is left out.
        """
        each, shares = self.params.operations, dict(self.mix)
        if each == 1:
            shares = {name: share for name, share in shares.items() if name in WRITING}
        elif shares.get("scan"):
            raise NoFootprint("transactions that scan and write: their pages are no single draws")
        total = sum(shares.values())
        if not any(shares.get(name) for name in WRITING):
            raise NoFootprint(f"the mix {self.params.mix} writes nothing")
        of = {name: shares.get(name, 0.0) / total for name in OPERATIONS}
        chances = keys.probabilities(self.params.keys, self.params.rows)
        codes = tuple(OPERATIONS.index(name) for name in WRITING)
        return Footprint(
            "register",
            codes if each == 1 else (MIXED,),
            each,
            of["read"] * chances,
            (of["update"] + of["read-modify-write"]) * chances,
            of["insert"],
            held=(each - 1) / (2 * each),
        )

    def touches(self, draw: Draw) -> Sequence[Touch]:
        steps = draw.args if draw.kind == MIXED else (draw.args,)
        found: dict[int, bool] = {}
        for operation, key, many, _ in steps:
            if operation == SCAN:
                for row in range(key, key + many):
                    found.setdefault(row, False)
            else:
                found[key] = operation != READ or found.get(key, False)
        return [Touch("register", row, wrote) for row, wrote in found.items()]

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        found = {
            int(key): Row(int(version), _writer(str(value)))
            for key, version, value in session.rows("SELECT id, version, value FROM register")
        }
        written = Written()
        written.ends = {row.writer: None for row in found.values() if row.writer}
        for worker in log.workers:
            if worker.role != "writer":
                continue
            number, add = worker.worker, written.add
            answers = log.answers(worker, "txn", "start_ns", "end_ns")
            for outcome, txn, start, end, (kind, args) in answers:
                if outcome in COUNTED:
                    steps = args if kind == MIXED else (args,)
                    add(number, txn, steps, outcome == COMMITTED, start, end)
        return [
            self._rows(found, written),
            self._values(found, written),
            self._versions(found, written),
        ]

    def _rows(self, found: Mapping[int, Row], written: Written) -> Finding:
        """Every loaded row and every acknowledged insert is there, and nothing else."""
        loaded = set(range(self.params.rows))
        lost = sorted((loaded | written.inserted.keys()) - found.keys())
        extra = sorted(found.keys() - loaded - written.inserted.keys() - written.maybe_inserted)
        sentence = f"{len(found):,} rows; {self.params.rows:,} were loaded and "
        sentence += f"{len(written.inserted):,} acknowledged inserts made more"
        if lost:
            sentence += f"; {len(lost):,} of them are lost, among them {lost[:5]}"
        if extra:
            sentence += f"; nobody was told of {len(extra):,} others, among them {extra[:5]}"
        return Finding(
            "rows", not lost and not extra, f"{sentence}.", {"lost": lost[:20], "extra": extra[:20]}
        )

    def _values(self, found: Mapping[int, Row], written: Written) -> Finding:
        """The last value of each row is one that was written to it, and none that is too old.

        Too old: another acknowledged write of the row began after this one's COMMIT had returned,
        so it came later in any order, and its value is gone. Writes of which nobody knows whether
        they happened may be there, and prove nothing against others.
        """
        wrong: list[tuple[int, str, tuple[int, int, int] | None]] = []
        for key, row in found.items():
            newest = written.newest_start.get(key)
            if row.writer is None:
                if newest and (key < self.params.rows):
                    wrong.append((key, "the loaded value", newest))
                continue
            who = f"the value of worker {row.writer[0]}'s transaction {row.writer[1]}"
            if key not in written.keys.get(row.writer, ()):
                wrong.append((key, f"{who}, which was not acknowledged", newest))
                continue
            end = written.ends[row.writer]
            if end is not None and newest and newest[0] > end:
                wrong.append((key, who, newest))
        sentence = f"the last values of {len(found):,} rows agree with {written.committed:,} "
        sentence += f"committed transactions ({written.unknown:,} of unknown outcome)"
        if wrong:
            key, what, newest = wrong[0]
            then = (
                f" although worker {newest[1]}'s transaction {newest[2]} wrote it later"
                if newest
                else ""
            )
            sentence = f"{len(wrong):,} rows hold a wrong value: row {key} holds {what}{then}"
        evidence = [{"row": key, "holds": what, "newest": newest} for key, what, newest in wrong]
        return Finding("values", not wrong, f"{sentence}.", {"wrong": evidence[:20]})

    def _versions(self, found: Mapping[int, Row], written: Written) -> Finding:
        """A version is the number of its row's committed read-modify-writes: no update is lost."""
        wrong = []
        for key in range(self.params.rows):
            least = written.modified[key]
            most = least + written.maybe_modified[key]
            if key in found and not least <= found[key].version <= most:
                wrong.append({"row": key, "version": found[key].version, "committed": least})
        total = sum(row.version for row in found.values())
        sums = (
            f"versions add up to {total:,}, from {sum(written.modified.values()):,} committed "
            f"read-modify-writes"
        )
        if wrong:
            one = wrong[0]
            sums = (
                f"{len(wrong):,} rows have lost or gained updates: row {one['row']} is at version "
                f"{one['version']} after {one['committed']} committed read-modify-writes; {sums}"
            )
        return Finding("lost updates", not wrong, f"{sums}.", {"wrong": wrong[:20]})


def _writer(value: str) -> tuple[int, int] | None:
    """(worker, transaction) from the head of a value; None for a loaded one."""
    head = value.partition("|")[0]
    if head == "load":
        return None
    worker, txn = head.split(".")[:2]  # a third part is the write's number in the history
    return int(worker), int(txn)
