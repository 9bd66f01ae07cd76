"""The workloads. One scenario, one file, one registry line.

A scenario draws its transactions from a seeded generator before they begin and without looking at
the database. So a worker's transactions can be drawn again from the seed: the check after the run
replays them and needs no tally, which a killed worker would have taken with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from workloads.engines import Session, found
from workloads.errors import UnknownName
from workloads.records import COMMITTED, UNKNOWN, WorkerRecord
from workloads.scenarios.shape import Shape as Shape


class Draw(NamedTuple):
    """A transaction, drawn and not yet run: index into `kinds`, and arguments for its body."""

    kind: int
    args: Any


class InvariantBroken(Exception):
    """Raised by a body that has seen a broken invariant. Ends the run with its evidence.

    The transaction's own row has its kind. `evidence` is plain data for the manifest. `sentence` is
    for a person: it names the acknowledged and the read values.
    """

    def __init__(self, sentence: str, **evidence: Any) -> None:
        super().__init__(sentence)
        self.sentence, self.evidence = sentence, evidence


class ScenarioFailed(Exception):
    """Raised by a body, a load or a check where the user's own text is wrong. Ends the run.

    The text is a sentence that names the file and the line.
    """


@dataclass
class WorkerContext:
    """One worker's place in a run.

    role    : "writer", "reader" or "checkpointer".
    number  : of this worker within its role, from 0; `of`: how many the role has.
    worker  : of this worker within the run, from 0.
    seed    : of this worker alone; `rng()` gives a fresh generator that always draws the same.
    session : None when draws are replayed.
    board   : int64 memoryview shared by all workers of the run, one cache line (8 slots) for each
              worker, zero at the start: `board[8 * worker + slot]`. Aligned int64 stores are seen
              whole by other processes.
    think   : does the work inside a transaction that the shape asks for. thought : when it last
              ended, one item, ns on the run's clock; 0 before the first time.
    clock   : the run's clock, ns.
    stopping: true once the run is over; a body that waits must ask it.
    checked : false on an engine that stores nothing: a body must not raise InvariantBroken there.
    """

    role: str
    number: int
    of: int
    worker: int
    seed: tuple[int, ...]
    session: Session | None = None
    board: Any = None
    think: Callable[[], None] = lambda: None
    clock: Callable[[], int] = lambda: 0
    stopping: Callable[[], bool] = lambda: False
    places: tuple[tuple[str, int], ...] = ()  # (role, number) of each worker, by worker number
    checked: bool = True
    thought: list[int] = field(default_factory=lambda: [0])

    def rng(self, stream: int = 0) -> np.random.Generator:
        return np.random.default_rng([*self.seed, stream])


class Finding(NamedTuple):
    """The result of one check of the database after a run."""

    check: str  # its name: "total", "integrity", "acknowledged rows"
    ok: bool
    sentence: str  # expected and found, with the numbers
    evidence: dict[str, Any]


TRANSACTING = ("writer", "reader")
"""The roles whose rows are the scenario's transactions. A checkpointer's rows are PRAGMAs: nothing
drew them, their `kind` means nothing, and their `result` is a number of frames."""


REPORT_EACH = 4096
"""Transactions that are replayed between two reports of progress."""


class RunLog:
    """The answers that the workers of a run got: the other side of every invariant.

    workers : the writers and the readers. A checkpointer is never among them: its rows, replayed or
        added up as transactions, would make every sound engine look broken.
    """

    def __init__(
        self,
        scenario: Scenario,
        workers: Sequence[WorkerRecord],
        context_of: Any,
        on_replay: Callable[[int], None] = lambda replayed: None,
    ) -> None:
        """on_replay : called now and then with the number of transactions replayed so far."""
        self.scenario, self._context_of, self._on_replay = scenario, context_of, on_replay
        self._replayed = 0
        self.workers = tuple(worker for worker in workers if worker.role in TRANSACTING)

    def finals(self, worker: WorkerRecord) -> np.ndarray:
        """The last attempt of each transaction of a worker, ATTEMPT array in txn order.

        A transaction with any `unknown` attempt is unknown as a whole unless it later committed.
        """
        return np.concatenate(list(self.finals_in_turn(worker)))

    def finals_in_turn(self, worker: WorkerRecord) -> Iterator[np.ndarray]:
        """The same, some thousands at a time."""
        for rows in worker.rows.transactions():
            ends = np.append(rows["txn"][1:] != rows["txn"][:-1], True)[: len(rows)]
            yield rows[ends]

    def replay(self, worker: WorkerRecord) -> Iterator[tuple[Draw, np.void]]:
        """Each transaction's draw, made again from the seed, beside its last attempt.

        Raises ValueError for a checkpointer, which draws nothing.
        """
        draw = self._draws(worker, self.scenario.draw)
        for some in self._reported(worker):
            for row in some:
                yield draw(), row

    def answers(
        self,
        worker: WorkerRecord,
        *fields: str,
        drawn: Callable[[WorkerContext], Callable[[], Any]] | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """The same as plain numbers, in a third of the time: (outcome, *fields, draw) of each
        transaction, `fields` being names of its last attempt's row.

        drawn : gives what stands for each draw, where a check needs less than all of it.
        """
        draws = iter(self._draws(worker, drawn or self.scenario.draw), None)
        names = ("outcome", *fields)
        # A zip ends with its first columns, and takes no draw too many.
        return chain.from_iterable(
            zip(*(some[name].tolist() for name in names), draws, strict=False)
            for some in self._reported(worker)
        )

    def _draws(
        self, worker: WorkerRecord, draw: Callable[[WorkerContext], Callable[[], Any]]
    ) -> Callable[[], Any]:
        if worker.role not in TRANSACTING:
            raise ValueError(f"Worker {worker.worker} is a {worker.role}: it drew no transaction.")
        return draw(self._context_of(worker))

    def _reported(self, worker: WorkerRecord) -> Iterator[np.ndarray]:
        """The finals of a worker, with a report of each REPORT_EACH of all workers' together."""
        for finals in self.finals_in_turn(worker):
            while len(finals):
                some = finals[: REPORT_EACH - self._replayed % REPORT_EACH]
                finals = finals[len(some) :]
                yield some
                self._replayed += len(some)
                if self._replayed % REPORT_EACH == 0:
                    self._on_replay(self._replayed)

    def committed(self, role: str = "writer", kind: int | None = None) -> int:
        """Transactions of a role that were acknowledged."""
        return self._count(COMMITTED, role, kind)

    def unknown(self, role: str = "writer", kind: int | None = None) -> int:
        """Transactions of a role whose outcome nobody knows."""
        return self._count(UNKNOWN, role, kind)

    def _count(self, outcome: int, role: str, kind: int | None) -> int:
        total = 0
        for worker in self.workers:
            if worker.role == role:
                for rows in worker.rows.pieces():
                    hit = rows["outcome"] == outcome
                    if kind is not None:
                        hit &= rows["kind"] == kind
                    total += int(hit.sum())
        return total


class Scenario(Protocol):
    """A workload. Instances are made as `Class(params)` with `params` of `Class.Params`.

    name, story : the registry name; one or two sentences on what it shows (printed by `cwkit list
        --scenarios` and the README).
    kinds       : names of its transaction kinds, indexed by Draw.kind and the rows' `kind`; an
        instance may have its own.
    suggests    : optional; fields of the Plan that a run of it takes where the user gave none.
    loaded_by   : optional; the parameters that schema() and load() depend on, so that runs which
        differ in others can start from copies of one database. Without it: all of them.
    late        : optional; kinds whose work comes before their first statement, so that an engine
        which takes its snapshot at the first read has none while they work.
    autocommit  : optional, of the class or of an instance; True where its transactions need no
        BEGIN, because each changes something with one statement at most. Then it may be asked for
        the mode "autocommit" of any engine.
    cold_start  : optional, of the class or of an instance; True where schema() and load() may be
        made in one transaction by whichever worker comes first (--cold-start).
    holds_no_snapshot : optional, of an instance; why its readers cannot keep a snapshot and read
        again and again in it (--reader-holds), "" where they can.
    needs       : optional; of the class and, with other parameters, of an instance: the optional
        methods of a session that it calls (`Engine.offers`).
    copy_into(path), own_database : optional; puts the database that `own_database` names at a path,
        before schema() and load(); "" for none.
    session()   : optional; (session) -> what a worker works with instead, for a scenario whose
        transactions begin elsewhere than at their beginning.
    keeps_its_connection : optional, of an instance; True where its bodies begin transactions.
    suggests_for(params) : optional, of the class; more of `suggests`, by what the user gave.
    unsuited()  : optional; (roles that have workers) -> why it cannot have them, "" else.
    holds(session) : optional; sentences on what is not true in the database and is after every
        commit, whatever the workers did; [] where all is. `cwkit crash` asks it of each state.
    read(session), post(session, posting) : optional, both; which transactions the database holds
        as a whole (`whole`, and `wrong`, sentences), and one more of them in a transaction that has
        begun. Its bodies then note `work W N` and `acked W N`, as those of `ledger` do.
    footprint() : optional; the rows that its transactions touch as chances, for a conflict model.
    touches(draw) : optional; the rows that one drawn transaction touches, for naming those that
        refused transactions met. Both: workloads.scenarios.footprint.
    """

    name: ClassVar[str]
    story: ClassVar[str]
    kinds: ClassVar[Sequence[str]]
    Params: ClassVar[type[Shape]]
    suggests: ClassVar[Mapping[str, Any]] = {}
    loaded_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Shape) -> None: ...

    def schema(self) -> Sequence[str]:
        """DDL statements, each run on its own outside a transaction."""

    def load(self, session: Session, rng: np.random.Generator) -> None:
        """Fill the tables; begins and commits on its own."""

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        """The worker's generator of transactions. Must not touch context.session."""

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        """One function for each kind: runs a drawn transaction between BEGIN and COMMIT, and
        returns the `result` of the row (int64; None is 0).
        """

    def acknowledged(self, context: WorkerContext) -> Callable[[Draw, int], None] | None:
        """Called after COMMIT returned, with the draw and the result; None where not wanted."""

    def checkpointed(self, context: WorkerContext) -> Callable[[int, int, int], None] | None:
        """For a checkpointer: called with the row (busy, log, checkpointed) that each
        PRAGMA wal_checkpoint answered, once it has returned; None where not wanted.
        """

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        """Compare the database after the run with the answers that the workers got.

        Runs in a process of its own. The runner does integrity_check itself.
        """


REGISTRY: dict[str, str] = {
    "bank": "workloads.scenarios.bank:Bank",
    "register": "workloads.scenarios.register:Register",
    "counter": "workloads.scenarios.counter:Counter",
    "ingest": "workloads.scenarios.ingest:Ingest",
    "queue": "workloads.scenarios.queue:Queue",
    "acked": "workloads.scenarios.acked:Acked",
    "ledger": "workloads.scenarios.ledger:Ledger",
    "append": "workloads.scenarios.append:Append",
    "request": "workloads.scenarios.request:Request",
    "sql": "workloads.scenarios.sql:Sql",
}


def tells_postings(scenario: Any) -> bool:
    """Whether a scenario, or its class, tells by itself which transactions a database holds."""
    return hasattr(scenario, "read") and hasattr(scenario, "post")


def scenario_names() -> Sequence[str]:
    return tuple(REGISTRY)


def find_scenario(name: str) -> type[Scenario]:
    """The scenario class of a name or of a user's own file ("path.py:Name"). UnknownName else."""
    scenario = found(name, REGISTRY, "scenario", "`cwkit list --scenarios` shows them")
    needs = ("Params", "kinds", "schema", "load", "draw", "bodies", "check")
    if lacks := [part for part in needs if not hasattr(scenario, part)]:
        raise UnknownName(f"{name!r} is no scenario: it lacks {', '.join(lacks)}.")
    return scenario


# The former names, which users' own scenarios may import.
Seat, Told = WorkerContext, RunLog
