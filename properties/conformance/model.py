"""A model of what an engine may do: snapshot isolation, first committer wins, row by row, exactly.

The model follows the events of a schedule or of the state machine. An engine may refuse what the
model allows: that is counted, as a false conflict. It may never allow what the model forbids:
that is `Forbidden`. The serializable variant also asks for an order in which the committed
transactions, run one by one, see and leave the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workloads.schedules import READS, WRITES, Op, Schema, StepResult

Rows = dict[int, Any]

EFFECTS = (*READS, *WRITES, "delete", "clash", "bad", "orphan")
"""Operations that look at the rows: the first of them fixes a transaction's snapshot."""


class Forbidden(AssertionError):
    """The engine allowed what the model forbids; the text says what, and why it may not be."""


class Refused(NamedTuple):
    """A refusal because of another transaction.

    needless : at row level and at the promised level, nothing forbade what was refused.
    """

    op: str
    kind: str
    needless: bool


def first_rows(schema: Schema) -> Rows:
    """The rows before any schedule."""
    return dict.fromkeys(range(schema.rows), () if schema.model == "list" else None)


class Run:
    """A transaction's statements on one snapshot: the rows as it sees them, what it has written."""

    def __init__(self, schema: Schema, rows: Rows) -> None:
        self.schema, self.rows = schema, dict(rows)
        self.written: set[int] = set()
        self.effects: list[tuple[int, Any]] = []  # (key, new value; None for a row that went)
        self.saved: list[tuple[str, Rows, set[int], int]] = []

    def step(self, op: Op) -> tuple[bool, Any]:
        """Whether the statement succeeds, and what it sees. A failed one has no effect."""
        name, args = op
        lists = self.schema.model == "list"
        if name in ("savepoint", "rollback_to", "release"):
            return self._savepoint(name, args[0]), None
        if name == "r":
            return True, self.rows.get(args[0], () if lists else None)
        if name == "range":
            low, high = args
            return True, tuple((k, v) for k, v in sorted(self.rows.items()) if low <= k <= high)
        if name == "where":
            least = args[0]
            found = sorted(self.rows.items())
            if lists:
                return True, tuple((k, v) for k, v in found if len(v) >= least)
            return True, tuple((k, v) for k, v in found if v is not None and v >= least)
        key = args[0]
        there = key in self.rows
        if name in ("clash", "bad"):
            return not there, None
        if name == "orphan" or (name == "insert" and there):
            return False, None
        if name == "delete":
            if there and self.schema.pinned(key):
                return False, None
            if there:
                del self.rows[key]
                self.written.add(key)
                self.effects.append((key, None))
            return True, None
        if there or name in ("put", "insert"):
            before = self.rows.get(key, ())
            self.rows[key] = (*before, args[1]) if lists else args[1]
            self.written.add(key)
            self.effects.append((key, self.rows[key]))
        return True, None

    def _savepoint(self, name: str, mark: str) -> bool:
        if name == "savepoint":
            self.saved.append((mark, dict(self.rows), set(self.written), len(self.effects)))
            return True
        places = [i for i, saved in enumerate(self.saved) if saved[0] == mark]
        if not places:
            return False
        if name == "release":
            del self.saved[places[-1] :]
        else:
            del self.saved[places[-1] + 1 :]
            _, rows, written, effects = self.saved[-1]
            self.rows, self.written = dict(rows), set(written)
            del self.effects[effects:]
        return True


@dataclass
class Member:
    """A transaction as the model knows it: its steps so far and the snapshots it may have."""

    number: int
    begin: int  # place in the schedule
    oldest: int  # the version current at its BEGIN
    newest: int | None = None  # the version current at its first look at the rows
    marked: int | None = None  # the version current at its first SAVEPOINT
    steps: list[StepResult] = field(default_factory=list)
    runs: dict[int, tuple[int, Run | None]] = field(default_factory=dict)
    """By snapshot: how many steps were run on it, and the run, None where one of them differed."""
    end: int = -1
    failed: bool = False  # a statement failed, and its engine lets it do nothing more
    version: int = -1  # the version that its commit made
    snapshot: int = -1
    written: frozenset[int] = frozenset()
    effects: tuple[tuple[int, Any], ...] = ()


class Model:
    """Snapshot isolation, or its serializable variant, told event by event.

    level : "serializable" or above asks for a serial order; anything else for snapshots only.
    at_begin : for each session, whether its engine takes a snapshot at BEGIN (True) or at the
        first look at rows (False); None or nothing where it is not known: then either may be.
        A SAVEPOINT before that first look may take it too: Turso's does, SQLite's does not.
    aborts : for each session, whether a statement that fails ends what its transaction can do, as
        in PostgreSQL: what follows fails as well, up to ROLLBACK or ROLLBACK TO.
    versions[i] : the rows after the i-th commit that wrote.
    """

    def __init__(
        self,
        schema: Schema,
        level: str = "snapshot-isolation",
        at_begin: Sequence[bool | None] = (),
        aborts: Sequence[bool] = (),
    ) -> None:
        self.schema, self.level, self.at_begin = schema, level, at_begin
        self.aborts = aborts
        self.serializable = "serializable" in level
        self.versions: list[Rows] = [first_rows(schema)]
        self.committed: list[Member] = []
        self.open: dict[int, Member] = {}
        self.refused: list[Refused] = []

    @property
    def left(self) -> Rows:
        """The rows that the committed transactions leave."""
        return self.versions[-1]

    # --- events -----------------------------------------------------------------------------

    def see(self, event: StepResult) -> None:
        """Follow one event. Raises Forbidden."""
        name, status = event.op.name, event.status
        if status == "blocked":
            return
        if status == "unknown":
            raise Forbidden(f"nobody can know how {_step(event)} ended: {event.message}")
        if name == "begin":
            if status == "ok":
                self.open[event.session] = Member(event.txn, event.at, len(self.versions) - 1)
            elif status == "conflict":
                self.refused.append(Refused("begin", event.kind, True))
            return
        alone = event.session not in self.open
        if alone:
            self.open[event.session] = Member(event.txn, event.at, len(self.versions) - 1)
        member = self.open[event.session]
        if name == "rollback":
            del self.open[event.session]
        elif status == "conflict":
            self.refused.append(Refused(name, event.kind, self._allows(event.session, event)))
            del self.open[event.session]
        elif status == "ended":
            if not member.failed:
                self._must_fail(member, event)
            del self.open[event.session]
        elif name == "commit":
            self._commit(event.session, event.at)
        else:
            self._statement(member, event)
            if alone:
                self._commit(event.session, event.at)

    def finish(self, final: Rows) -> None:
        """Compare the rows left at the end with the model's. Raises Forbidden."""
        if final != self.versions[-1]:
            raise Forbidden(
                f"the database ends with {final}, and the committed transactions leave "
                f"{self.versions[-1]}: an effect was lost, or one that was undone is there."
            )

    # --- statements -------------------------------------------------------------------------

    def _statement(self, member: Member, event: StepResult) -> None:
        now = len(self.versions) - 1
        if member.failed and event.status == "failed":
            return  # because of the one before it
        if event.op.name == "rollback_to":
            member.failed = False
        if member.marked is None and event.op.name == "savepoint":
            member.marked = now
        if member.newest is None and event.op.name in EFFECTS:
            member.oldest, member.newest = self._taken(event.session, member)
        member.steps.append(event)
        if event.status == "failed" and self.aborts and self.aborts[event.session]:
            member.failed = True
        if self._snapshots(member):
            return
        if event.status == "failed":
            self._must_fail(member, event)
            return
        self._take_back(member)
        could = sorted({str(self._outcome(member, event.op, s)) for s in self._snapshots(member)})
        raise Forbidden(
            f"{_step(event)} {_answer(event)}; with the transaction's own writes on any snapshot "
            f"that it may have it could only be: {' or '.join(could)}."
        )

    def _taken(self, session: int, member: Member) -> tuple[int, int]:
        """The oldest and the newest snapshot of a transaction that first looks at rows now."""
        now = len(self.versions) - 1
        known = self.at_begin[session] if self.at_begin else None
        if known is None:
            return member.oldest, now
        if known:
            return member.oldest, member.oldest
        return (now if member.marked is None else member.marked), now

    def _must_fail(self, member: Member, event: StepResult) -> None:
        """A statement or COMMIT that failed although nothing in its snapshot makes it.

        Allowed where another transaction has touched the row: the engine refuses, in the words of
        a constraint, what it would have to refuse at COMMIT.
        """
        if event.op.name == "commit":
            raise Forbidden(f"{_step(event)} failed for no reason of its own: {event.message}")
        if member.steps and member.steps[-1] is event:
            self._take_back(member)
        runs = [self._run(member, s) for s in self._snapshots(member)]
        if any(not run.step(event.op)[0] for run in runs if run):
            return
        key = event.op.args[0] if event.op.args else None
        others: list[set[int] | frozenset[int]] = [
            m.written for m in self.committed if m.version > member.oldest
        ]
        others += [self._written(m) for m in self.open.values() if m is not member]
        if not any(key in written for written in others):
            raise Forbidden(
                f"{_step(event)} failed and no row of its snapshot says why: {event.message}"
            )
        self.refused.append(Refused(event.op.name, "constraint", True))

    def _snapshots(self, member: Member) -> list[int]:
        newest = len(self.versions) - 1 if member.newest is None else member.newest
        return [s for s in range(member.oldest, newest + 1) if self._run(member, s) is not None]

    def _run(self, member: Member, snapshot: int) -> Run | None:
        """The transaction on one snapshot, or None where it would have seen something else.

        The run is kept and goes on where it was: from the first step each time, a transaction would
        cost the square of its steps.
        """
        done, run = member.runs.get(snapshot, (0, None))
        if not done:
            run = Run(self.schema, self.versions[snapshot])
        if run is not None and done < len(member.steps):
            run = go_on(run, member.steps[done:])
        member.runs[snapshot] = len(member.steps), run
        return run

    def _take_back(self, member: Member) -> None:
        """Forget the newest step, and every run that it is a part of."""
        member.steps.pop()
        member.runs.clear()

    def _outcome(self, member: Member, op: Op, snapshot: int) -> Any:
        run = replay(self.schema, self.versions[snapshot], member.steps)
        if run is None:
            return "nothing"
        good, value = run.step(op)
        return value if good else "an error"

    def _written(self, member: Member) -> set[int]:
        found: set[int] = set()
        for snapshot in self._snapshots(member):
            run = self._run(member, snapshot)
            found |= run.written if run else set()
        return found

    # --- commits ----------------------------------------------------------------------------

    def _commit(self, session: int, at: int) -> None:
        member = self.open.pop(session)
        member.end = at
        possible = self._snapshots(member)
        good = [s for s in possible if self._first_committer(member, s) is None]
        if not good:
            rival, keys = self._first_committer(member, possible[-1]) or (None, set())
            raise Forbidden(
                f"transaction {member.number} committed writes of {_keys(keys)}, which transaction "
                f"{rival.number if rival else '?'} had written and committed after its snapshot: "
                "the first committer wins, so this is a lost update."
            )
        member.snapshot = good[-1]
        run = self._run(member, member.snapshot)
        assert run is not None
        member.written, member.effects = frozenset(run.written), tuple(run.effects)
        if run.written:
            rows = dict(self.versions[-1])
            for key in run.written:
                rows.pop(key, None)
                if key in run.rows:
                    rows[key] = run.rows[key]
            self.versions.append(rows)
            member.version = len(self.versions) - 1
        self.committed.append(member)
        if self.serializable and not self._serial(self.committed, self.versions[-1]):
            raise Forbidden(
                f"no order of the committed transactions {[m.number for m in self.committed]}, run "
                "one by one, lets each see what it saw: this is not serializable."
            )

    def _first_committer(self, member: Member, snapshot: int) -> tuple[Member, set[int]] | None:
        """Who has committed, after the snapshot, a row that the transaction writes."""
        run = self._run(member, snapshot)
        assert run is not None
        for other in self.committed:
            if other.version > snapshot and (both := other.written & run.written):
                return other, set(both)
        return None

    def _serial(self, members: Sequence[Member], final: Rows) -> bool:
        first = self.versions[0]
        return serial_order(self.schema, first, members, final, strict=True) is not None or (
            "strict" not in self.level
            and serial_order(self.schema, first, members, final, strict=False) is not None
        )

    def _allows(self, session: int, event: StepResult) -> bool:
        """Whether the model would let the refused transaction take this step and then commit."""
        member = self.open[session]
        oldest, newest = member.oldest, member.newest
        if newest is None:
            oldest, newest = self._taken(session, member)
        tried = Member(member.number, member.begin, oldest, newest, steps=list(member.steps))
        tried.end = event.at
        if event.op.name in EFFECTS and event.op.name not in READS:
            good = replace_status(event, "ok")
            tried.steps.append(good)
        rivals = [self._written(m) for s, m in self.open.items() if s != session]
        for snapshot in self._snapshots(tried):
            run = self._run(tried, snapshot)
            assert run is not None
            if self._first_committer(tried, snapshot) or any(run.written & w for w in rivals):
                continue
            if not self.serializable:
                return True
            final = {k: v for k, v in self.versions[-1].items() if k not in run.written}
            final |= {k: run.rows[k] for k in run.written if k in run.rows}
            if self._serial([*self.committed, tried], final):
                return True
        return False


class StatementModel:
    """Read committed with row locks, as PostgreSQL keeps it, told event by event.

    Each statement sees what was committed when it began and what its own transaction has written;
    what a transaction has written nobody else writes before it ends. Source:
    https://www.postgresql.org/docs/current/transaction-iso.html (13.2.1)

    aborts : as of Model. refused : those that no lock of another open transaction explains are
        needless.
    """

    def __init__(self, schema: Schema, aborts: Sequence[bool] = ()) -> None:
        self.schema, self.aborts, self.rows = schema, aborts, first_rows(schema)
        self.open: dict[int, Run] = {}
        self.failed: set[int] = set()
        self.refused: list[Refused] = []

    @property
    def left(self) -> Rows:
        """The rows that the committed transactions leave."""
        return self.rows

    def see(self, event: StepResult) -> None:
        """Follow one event. Raises Forbidden."""
        name, status, session = event.op.name, event.status, event.session
        if status == "blocked":
            return
        if status == "unknown":
            raise Forbidden(f"nobody can know how {_step(event)} ended: {event.message}")
        if name == "begin":
            if status == "ok":
                self._begin(session)
            elif status == "conflict":
                self.refused.append(Refused("begin", event.kind, True))
            return
        alone = session not in self.open
        if alone:
            self._begin(session)
        if name == "rollback":
            del self.open[session]
        elif status == "conflict":
            self.refused.append(Refused(name, event.kind, not self._held(session, event.op)))
            del self.open[session]
        elif status == "ended":
            if session not in self.failed:
                self._must_fail(session, event)
            del self.open[session]
        elif name == "commit":
            self._commit(session)
        else:
            self._statement(session, event)
            if alone:
                self._commit(session)

    def finish(self, final: Rows) -> None:
        """Compare the rows left at the end with the model's. Raises Forbidden."""
        if final != self.rows:
            raise Forbidden(
                f"the database ends with {final}, and the committed transactions leave "
                f"{self.rows}: an effect was lost, or one that was undone is there."
            )

    def _begin(self, session: int) -> None:
        self.open[session] = Run(self.schema, self.rows)
        self.failed.discard(session)

    def _now(self, session: int) -> Run:
        """The transaction's run with the rows as they are committed by now."""
        run = self.open[session]
        own = {key: run.rows[key] for key in run.written if key in run.rows}
        run.rows = {k: v for k, v in self.rows.items() if k not in run.written} | own
        return run

    def _held(self, session: int, op: Op) -> bool:
        """Whether another open transaction has written what this statement looks at to write."""
        others = [run.written for s, run in self.open.items() if s != session]
        # A row's lock is asked for by its key; a key's uniqueness by that of any row.
        return any(others) if op.name in ("clash", "insert", "put", "orphan", "delete") else any(
            op.args and op.args[0] in written for written in others
        )  # fmt: skip

    def _statement(self, session: int, event: StepResult) -> None:
        run, op = self._now(session), event.op
        if event.status == "failed":
            if session not in self.failed:
                self._must_fail(session, event)
            if self.aborts and self.aborts[session]:
                self.failed.add(session)
            return
        if op.name == "rollback_to":
            self.failed.discard(session)
        before = set(run.written)
        good, value = run.step(op)
        if not good:
            raise Forbidden(f"{_step(event)} succeeded; on what is committed it could only fail.")
        if op.name in READS and value != event.value:
            raise Forbidden(
                f"{_step(event)} saw {event.value}; with the transaction's own writes on what is "
                f"committed it could only be: {value}."
            )
        others = {key for s, other in self.open.items() if s != session for key in other.written}
        if dirty := (run.written - before) & others:
            raise Forbidden(
                f"{_step(event)} wrote {_keys(dirty)}, which an open transaction had written: a "
                "dirty write."
            )

    def _must_fail(self, session: int, event: StepResult) -> None:
        run = self._now(session)
        tried = Run(self.schema, run.rows)
        tried.saved = list(run.saved)
        if event.op.name == "commit" or (
            tried.step(event.op)[0] and not self._held(session, event.op)
        ):
            raise Forbidden(f"{_step(event)} failed and no row says why: {event.message}")

    def _commit(self, session: int) -> None:
        run = self._now(session)
        del self.open[session]
        self.rows = dict(run.rows)


def replay(schema: Schema, rows: Rows, steps: Iterable[StepResult]) -> Run | None:
    """The steps on these rows; None where one would have had another result."""
    return go_on(Run(schema, rows), steps)


def go_on(run: Run, steps: Iterable[StepResult]) -> Run | None:
    """The run after these steps, which change it; None where one would have had another result."""
    for event in steps:
        if event.status == "failed":
            # Without an effect, whatever the reason: `_must_fail` has judged the reason.
            continue
        good, value = run.step(event.op)
        if not good or (event.op.name in READS and value != event.value):
            return None
    return run


def serial_order(
    schema: Schema, first: Rows, members: Sequence[Member], final: Rows, *, strict: bool
) -> list[int] | None:
    """An order in which the transactions, one by one, see what they saw and leave `final`.

    strict : only orders in which what ended before another began comes before it. Returns the
    transactions' numbers, or None where there is no such order. Tries the order of commits first.
    """
    hopeless: set[tuple[frozenset[int], tuple[Any, ...]]] = set()

    def go(left: list[Member], rows: Rows) -> list[int] | None:
        if not left:
            return [] if rows == final else None
        here = (frozenset(m.number for m in left), tuple(sorted(rows.items())))
        if here in hopeless:
            return None
        soonest = min(m.end for m in left)
        for member in left:
            if strict and member.begin > soonest:
                continue
            run = replay(schema, rows, member.steps)
            if run is not None:
                rest = go([m for m in left if m is not member], run.rows)
                if rest is not None:
                    return [member.number, *rest]
        hopeless.add(here)
        return None

    return go(list(members), first)


def replace_status(event: StepResult, status: str) -> StepResult:
    return event._replace(status=status)


def _step(event: StepResult) -> str:
    return f"`{event.op}` of transaction {event.txn} (session {event.session}, step {event.at})"


def _answer(event: StepResult) -> str:
    return f"saw {event.value}" if event.op.name in READS else "succeeded"


def _keys(keys: set[int]) -> str:
    return ", ".join(f"key {key}" for key in sorted(keys))
