"""Bank: money moves between accounts and none may appear or vanish.

A transfer reads two balances, thinks, and writes both; a lost update or a torn write changes the
total. An audit adds up all accounts in two statements of one read-only transaction, so a snapshot
that moves between two statements shows as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.records import COMMITTED, UNKNOWN, WorkerRecord
from workloads.scenarios import keys
from workloads.scenarios.drawing import always, draws_of, stream
from workloads.scenarios.footprint import Footprint, Touch, all_written, only_writes
from workloads.scenarios.keys import BLOCK
from workloads.scenarios.loading import fill, payload
from workloads.scenarios.scenario import (
    Draw,
    Finding,
    InvariantBroken,
    RunLog,
    Shape,
    WorkerContext,
)

TRANSFER, AUDIT = range(2)
READ = "SELECT balance FROM account WHERE id = ?"
WRITE = "UPDATE account SET balance = ? WHERE id = ?"
LOW_HALF = "SELECT sum(balance), count(*) FROM account WHERE id < ?"
HIGH_HALF = "SELECT sum(balance), count(*) FROM account WHERE id >= ?"

MOST_UNKNOWN = 16
"""Up to this many transfers of unknown outcome, every subset is tried as the explanation."""


class BankShape(Shape):
    """Parameters of `bank`. An audit reads every account, so tables are small by default."""

    rows: int = Field(1_000, ge=2, le=1_000_000, description="accounts")
    operations: int = Field(1, ge=1, le=1_000, description="transfers a transaction")
    start_balance: int = Field(1_000, ge=0, le=1_000_000, description="of each account")


class Bank:
    """Transfers by writers, audits by readers; balances may go below zero.

    result of a transfer: the amount it moved; of an audit: the total it saw.
    """

    name: ClassVar[str] = "bank"
    story: ClassVar[str] = (
        "Writers move money between accounts, readers audit: the total never changes, in any "
        "snapshot, and each balance is what the committed transfers make it."
    )
    kinds: ClassVar[tuple[str, ...]] = ("transfer", "audit")
    cold_start: ClassVar[bool] = True
    Params: ClassVar[type[Shape]] = BankShape

    def __init__(self, params: BankShape) -> None:
        self.params = params
        self.total = params.rows * params.start_balance

    def schema(self) -> Sequence[str]:
        return (
            (
                "CREATE TABLE account"
                "(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, pad TEXT NOT NULL)"
            ),
        )

    def load(self, session: Session, rng: np.random.Generator) -> None:
        tail = f",{self.params.start_balance},'{payload(rng, self.params.record_bytes)}')"
        accounts = (f"({i}{tail}" for i in range(self.params.rows))
        fill(session, "INSERT INTO account(id, balance, pad) VALUES", accounts)

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        if context.role == "reader":
            return always(Draw(AUDIT, ()))
        rng, rows, each = context.rng(), self.params.rows, self.params.operations
        account = keys.sampler(self.params.keys, rows, rng)

        def block() -> list[Draw]:
            n = BLOCK // each * each or each
            source, target = account(n), account(n)
            target = np.where(target == source, (source + 1) % rows, target)
            amount = rng.integers(1, 101, n)
            moves = zip(source.tolist(), target.tolist(), amount.tolist(), strict=True)
            # A transaction's transfers in a row: zip takes `each` items of one iterator at a time.
            return draws_of(
                TRANSFER, moves if each == 1 else zip(*[iter(moves)] * each, strict=True)
            )

        return stream(block)

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, rows, think = context.session.run, context.session.rows, context.think
        middle = (self.params.rows // 2,)

        def transfer(args: tuple[int, int, int]) -> int:
            source, target, amount = args
            try:
                of_source = rows(READ, (source,))[0][0]
                of_target = rows(READ, (target,))[0][0]
            except IndexError:
                raise self._missing(rows, args[:2]) from None
            think()
            run(WRITE, (of_source - amount, source))
            run(WRITE, (of_target + amount, target))
            return amount

        def transfers(args: tuple[tuple[int, int, int], ...]) -> int:
            balance: dict[int, int] = {}
            moved = 0
            for source, target, amount in args:
                for account in (source, target):
                    if account not in balance:
                        read = rows(READ, (account,))
                        if not read:
                            raise self._missing(rows, (account,))
                        balance[account] = read[0][0]
                balance[source] -= amount
                balance[target] += amount
                moved += amount
            think()
            for account, value in balance.items():
                run(WRITE, (value, account))
            return moved

        def audit(_: Any) -> int:
            low = rows(LOW_HALF, middle)[0]
            think()
            high = rows(HIGH_HALF, middle)[0]
            total = (low[0] or 0) + (high[0] or 0)
            if total != self.total and context.checked:
                raise InvariantBroken(
                    f"An audit saw a total of {total:,} in {low[1] + high[1]:,} accounts; "
                    f"transfers only move money, so it must always be {self.total:,}.",
                    seen=total,
                    expected=self.total,
                    accounts=low[1] + high[1],
                )
            return total

        return (transfer if self.params.operations == 1 else transfers), audit

    def _missing(self, rows: Callable[..., list[Any]], accounts: Sequence[int]) -> InvariantBroken:
        gone = [a for a in accounts if not rows(READ, (a,))]
        return InvariantBroken(
            f"A transfer found no account {gone}; accounts are never deleted.", accounts=gone
        )

    def footprint(self) -> Footprint:
        # Source and target are two draws; that they never are the same account is left out.
        chances = keys.probabilities(self.params.keys, self.params.rows)
        return only_writes("account", TRANSFER, 2 * self.params.operations, chances)

    def touches(self, draw: Draw) -> Sequence[Touch]:
        if draw.kind == AUDIT:
            return [Touch("account", row, False) for row in range(self.params.rows)]
        moves = (draw.args,) if self.params.operations == 1 else draw.args
        return all_written("account", dict.fromkeys(row for move in moves for row in move[:2]))

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def holds(self, session: Session) -> list[str]:
        """The total, which no transfer changes."""
        (total, count) = session.rows("SELECT sum(balance), count(*) FROM account")[0]
        if (total, count) == (self.total, self.params.rows):
            return []
        return [f"{count} accounts hold {total}; {self.params.rows:,} always hold {self.total:,}"]

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        found: dict[int, int] = dict(session.rows("SELECT id, balance FROM account"))
        total, count = sum(found.values()), len(found)
        findings = [
            Finding(
                "total",
                total == self.total and count == self.params.rows,
                f"{count:,} accounts hold {total:,}; {self.params.rows:,} were loaded with "
                f"{self.total:,}.",
                {"accounts": count, "total": total, "expected": self.total},
            ),
            self._balances(found, log),
        ]
        readers = [worker for worker in log.workers if worker.role == "reader"]
        if readers:
            findings.append(self._audits(readers))
        return findings

    def _audits(self, readers: Sequence[WorkerRecord]) -> Finding:
        audits = right = 0
        other = np.zeros(0, np.int64)
        for rows in (rows for reader in readers for rows in reader.rows.pieces()):
            seen = rows["result"][(rows["outcome"] == COMMITTED) & (rows["kind"] == AUDIT)]
            audits += len(seen)
            right += int((seen == self.total).sum())
            other = np.union1d(other, seen[seen != self.total])
        others = f"; others saw {', '.join(f'{t:,}' for t in other[:5])}" if len(other) else ""
        return Finding(
            "audits",
            len(other) == 0,
            f"{right:,} of {audits:,} audits saw {self.total:,}{others}.",
            {"audits": audits, "other_totals": other[:20].tolist()},
        )

    def _balances(self, found: Mapping[int, int], log: RunLog) -> Finding:
        """Each balance against the committed transfers, replayed.

        Exact where no outcome is unknown. Up to MOST_UNKNOWN unknown transfers some subset of
        them must explain every balance; beyond, only accounts that none of them touches are held
        to their exact balance.
        """
        moved = [0] * self.params.rows  # a list: a Counter takes as long as all the rest
        unknown: list[Counter[int]] = []
        committed = 0
        one = self.params.operations == 1
        for worker in log.workers:
            if worker.role != "writer":
                continue
            for outcome, (_, args) in log.answers(worker):
                if outcome == COMMITTED:
                    committed += 1
                    if one:
                        source, target, amount = args
                        moved[source] -= amount
                        moved[target] += amount
                    else:
                        for source, target, amount in args:
                            moved[source] -= amount
                            moved[target] += amount
                elif outcome == UNKNOWN:
                    unknown.append(self._changes(args))
        expected = Counter(dict(enumerate(moved)))
        start = self.params.start_balance
        off = {
            account: found[account] - start - expected[account]
            for account in found
            if found[account] - start != expected[account]
        }
        expectation = f"what {committed:,} committed transactions make them"
        if len(unknown) <= MOST_UNKNOWN:
            happened = explained_by(off, unknown)
            if happened is not None:
                off = {}
            if unknown:
                expectation += f", with {len(happened or ())} of {len(unknown)} of unknown outcome"
        else:
            unsure = set().union(*unknown)
            off = {account: by for account, by in off.items() if account not in unsure}
            expectation += (
                f", but for {len(unsure):,} accounts that {len(unknown):,} transactions of "
                "unknown outcome touched: those only by the total"
            )
        evidence = [
            {"account": a, "found": found[a], "expected": found[a] - by}
            for a, by in sorted(off.items())[:20]
        ]
        if not off:
            return Finding(
                "balances",
                True,
                f"{len(found):,} balances are {expectation}.",
                {"committed": committed, "unknown": len(unknown)},
            )
        examples = "; ".join(
            f"account {e['account']} holds {e['found']:,} where {e['expected']:,} is right"
            for e in evidence[:3]
        )
        return Finding(
            "balances",
            False,
            f"{len(off):,} of {len(found):,} balances are not {expectation}: {examples}.",
            {"committed": committed, "unknown": len(unknown), "accounts": evidence},
        )

    def _changes(self, args: Any) -> Counter[int]:
        balance: Counter[int] = Counter()
        for source, target, amount in (args,) if self.params.operations == 1 else args:
            balance[source] -= amount
            balance[target] += amount
        return balance


def explained_by(
    off: Mapping[int, int], unknown: Sequence[Mapping[int, int]]
) -> tuple[int, ...] | None:
    """Indexes of some of `unknown` whose changes add up to `off`; None if there are none.

    >>> explained_by({1: -5, 2: 5}, [{3: -1, 4: 1}, {1: -5, 2: 5}])
    (1,)
    """
    off = {account: by for account, by in off.items() if by}
    if not off:
        return ()
    account = next(iter(off))
    for index, change in enumerate(unknown):
        if change.get(account):
            left = Counter(off)
            left.subtract(change)
            rest = [c if i != index else {} for i, c in enumerate(unknown)]
            more = explained_by(left, rest)
            if more is not None:
                return tuple(sorted((index, *more)))
    return None
