"""Steps of a schedule, taken in real sessions, and their results.

`StepTaker` knows nothing of databases or orders: it takes the step that its caller names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from workloads.engines import Refusal
from workloads.records import BEGIN, BUSY, COMMIT, CONFLICT, CONFLICTS, STATEMENT, UNKNOWN
from workloads.schedules.schedule import READS, SAVEPOINTS, WRITES, Op, Schema, parse

OVER = ("conflict", "ended", "unknown")
"""Statuses after which a transaction is over."""


class Stepped(Protocol):
    """The methods of a session that a StepTaker needs: see workloads.schedules.stepper and
    workloads.schedules.sessions.
    """

    def call(
        self, phase: int, sql: str = "", params: tuple[Any, ...] = (), *, reads: bool = False
    ) -> tuple[list[tuple[Any, ...]] | None, Refusal | None]: ...

    def rollback(self) -> None: ...


class StepResult(NamedTuple):
    """One step of one session, with its result.

    txn    : number of the transaction within the schedule, -1 outside one.
    status : "ok"; "failed" (the statement had no effect, the transaction goes on); "conflict",
        "ended" and "unknown" (the transaction is over: refused because of another one, for
        another cause, nobody knows); "blocked" (a patient BEGIN waits); "died" (the session's
        process did, or never came back: no step follows).
    value  : the rows that a read saw. message : the engine's own text. kind : of a conflict.
    """

    at: int
    session: int
    txn: int
    op: Op
    status: str
    value: Any = None
    message: str = ""
    kind: str = ""


@dataclass
class Txn:
    """One transaction: `begin` and `end` are places in the schedule, ops are micro-operations."""

    number: int
    session: int
    begin: int
    end: int = -1
    outcome: str = "unknown"
    ops: list[tuple[str, int, Any]] = field(default_factory=list)
    marks: list[tuple[str, int]] = field(default_factory=list)  # savepoints: name, len(ops)

    def undo_to(self, name: str) -> None:
        """ROLLBACK TO: its writes are undone, and reads of those writes prove nothing any more."""
        at = next((i for i in reversed(range(len(self.marks))) if self.marks[i][0] == name), None)
        if at is None:
            return
        start = self.marks[at][1]
        undone = self.ops[start:]
        written = {key for f, key, _ in undone if f in ("append", "w")}
        kept = [op for op in undone if op[0] in ("r", "rp") and op[1] not in written]
        self.ops[start:] = kept
        self.marks[at:] = [(name, start)]

    def release(self, name: str) -> None:
        """RELEASE: the savepoint and those after it are gone, their effects stay."""
        at = next((i for i in reversed(range(len(self.marks))) if self.marks[i][0] == name), None)
        if at is not None:
            del self.marks[at:]


class StepTaker:
    """Takes steps in sessions and keeps their results.

    note : called with (session, op) before each step and with its StepResult after it, so that the
    step is known should it never come back.
    """

    def __init__(
        self,
        sessions: Sequence[Stepped],
        schema: Schema,
        note: Callable[[tuple[int, Op] | StepResult], object] = lambda noted: None,
    ) -> None:
        self.sessions, self.schema, self.note = sessions, schema, note
        self.events: list[StepResult] = []
        self.txns: list[Txn] = []
        self.open: dict[int, Txn] = {}

    def step(self, session: int, op: Op | str, *, patient: bool = False) -> StepResult:
        """Take one step. A statement outside a transaction is one of its own."""
        if isinstance(op, str):
            op = parse(op)
        self.note((session, op))
        event = self._step(session, op, patient)
        self.note(event)
        return event

    def _step(self, session: int, op: Op, patient: bool) -> StepResult:
        handle, name, at = self.sessions[session], op.name, len(self.events)
        txn = self.open.get(session)
        if name == "begin":
            if txn is not None:
                raise ValueError(f"session {session} begins inside its own transaction.")
            txn = Txn(len(self.txns), session, at)
            _, refusal = handle.call(BEGIN)
            if refusal is None:
                self.open[session] = txn
                self.txns.append(txn)
                return self._note(session, txn.number, op, "ok")
            if patient and refusal.outcome == CONFLICT and refusal.conflict == BUSY:
                return self._note(session, -1, op, "blocked", None, refusal.message, "busy")
            self.txns.append(txn)
            return self._over(session, txn, op, refusal)
        alone = txn is None
        if txn is None:
            if name in ("commit", "rollback", "savepoint", "rollback_to", "release"):
                raise ValueError(f"session {session} has no transaction to {op}.")
            txn = Txn(len(self.txns), session, at)
            self.txns.append(txn)
        if name == "rollback":
            handle.rollback()
            txn.end, txn.outcome = at, "failed"
            del self.open[session]
            return self._note(session, txn.number, op, "ok")
        if name == "commit":
            _, refusal = handle.call(COMMIT)
            if refusal is not None:
                return self._over(session, txn, op, refusal)
            txn.end, txn.outcome = at, "committed"
            del self.open[session]
            return self._note(session, txn.number, op, "ok")
        return self._statement(session, txn, op, alone)

    def _statement(self, session: int, txn: Txn, op: Op, alone: bool) -> StepResult:
        handle, name = self.sessions[session], op.name
        if name in SAVEPOINTS:
            sql, params = f"{SAVEPOINTS[name]} {op.args[0]}", ()
        else:
            sql, params = self.schema.sql(op)
        reads = name in READS
        rows, refusal = handle.call(STATEMENT, sql, params, reads=reads)
        if refusal is not None:
            if refusal.outcome in (CONFLICT, UNKNOWN) or (refusal.over and not alone) or alone:
                return self._over(session, txn, op, refusal, alone)
            return self._note(session, txn.number, op, "failed", None, refusal.message)
        value = self.schema.seen(op, rows or []) if reads else None
        self._micro(txn, op, value)
        if alone:
            txn.end, txn.outcome = len(self.events), "committed"
        return self._note(session, txn.number, op, "ok", value)

    def _micro(self, txn: Txn, op: Op, value: Any) -> None:
        """Add the step to the transaction as the checker's micro-operations."""
        name = op.name
        if name == "r":
            txn.ops.append(("r", op.args[0], value))
        elif name == "range":
            found = dict(value)
            nothing = () if self.schema.model == "list" else None
            low, high = op.args
            for key in self.schema.keys:
                if low <= key <= high:
                    txn.ops.append(("rp", key, found.get(key, nothing)))
        elif name == "where":
            # Only what matched is known: an absent match may be a row of any other value.
            txn.ops += [("r", key, seen) for key, seen in value]
        elif name in WRITES:
            txn.ops.append(("append" if self.schema.model == "list" else "w", *op.args))
        elif name == "savepoint":
            txn.marks.append((op.args[0], len(txn.ops)))
        elif name == "rollback_to":
            txn.undo_to(op.args[0])
        elif name == "release":
            txn.release(op.args[0])

    def _over(
        self, session: int, txn: Txn, op: Op, refusal: Any, alone: bool = False
    ) -> StepResult:
        """The transaction ended with an error. If the engine left it open, it is rolled back."""
        if not refusal.over and not alone:
            self.sessions[session].rollback()
        self.open.pop(session, None)
        txn.end = len(self.events)
        status = {CONFLICT: "conflict", UNKNOWN: "unknown"}.get(refusal.outcome, "ended")
        txn.outcome = {"ended": "failed"}.get(status, status)
        kind = CONFLICTS[refusal.conflict] if status == "conflict" else ""
        return self._note(session, txn.number, op, status, None, refusal.message, kind)

    def _note(self, session: int, txn: int, op: Op, *rest: Any) -> StepResult:
        event = StepResult(len(self.events), session, txn, op, *rest)
        self.events.append(event)
        return event

    def give_up(self) -> None:
        """Roll back whatever is still open, as a closing connection would."""
        for session in sorted(self.open):
            self.step(session, "rollback")
