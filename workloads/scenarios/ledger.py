"""Ledger: each transaction says how many parts it has, so that a part of one cannot pass for it.

A posting changes some accounts, inserts one row for each change and last a row that says how many
there are. Whoever looks at the database, after a crash say, can tell of each posting whether it is
there as a whole, of each account which changes made it, and of each index whether it says the same
as its table; and the numbers of a writer's postings have no gap but where one was refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from workloads.engines import Session
from workloads.errors import shortened
from workloads.processes import note
from workloads.records import CAUSES, COMMIT, COMMITTED, UNKNOWN
from workloads.scenarios import keys
from workloads.scenarios.drawing import always, stream
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

POST, AUDIT = range(2)
CHANGE = "UPDATE account SET balance = balance + ?, changes = changes + 1 WHERE id = ?"
PART = (
    "INSERT INTO part(id, writer, number, position, account, amount, pad) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
ENTRY = "INSERT INTO entry(id, writer, number, parts, amount) VALUES (?, ?, ?, ?, ?)"

ENTRIES = "SELECT writer, number, parts, amount FROM entry"
PARTS = "SELECT writer, number, position, account, amount, length(pad) FROM part"
ACCOUNTS = "SELECT id, balance, changes FROM account"
SUMS = (
    "SELECT (SELECT sum(changes) FROM account), (SELECT count(*) FROM part), "
    "(SELECT sum(parts) FROM entry)"
)

NUMBER_BITS, POSITION_BITS = 32, 8

Posting = tuple[int, int]
"""(number of the writer, number of the transaction), both from 0."""


USED_ON = ("first", "earlier")
"""Parameters of a run on a database that another one used."""


class LedgerShape(Shape):
    """Parameters of `ledger`."""

    rows: int = Field(64, ge=1, le=1_000_000, description="accounts")
    record_bytes: int = Field(120, ge=0, le=10_000, description="bytes beside each change")
    operations: int = Field(3, ge=1, le=1 << POSITION_BITS, description="changes a transaction")
    first: int = Field(
        0,
        ge=0,
        lt=1 << 31,
        description="number of each writer's first, where a database is used on",
    )
    earlier: int = Field(0, ge=0, description="postings below that number that are there already")

    def recorded(self) -> dict[str, Any]:
        """Without what only a database that is used on has, where it is not."""
        told = super().recorded()
        return told if self.first else {k: v for k, v in told.items() if k not in USED_ON}


@dataclass(slots=True)
class Book:
    """What a database of this scenario holds. whole : the postings that are there as a whole.

    wrong : sentences on everything that no set of whole postings explains.
    """

    whole: frozenset[Posting]
    wrong: list[str] = field(default_factory=list)


class Ledger:
    """Postings by writers, audits by readers.

    result of a posting: its number; of an audit: the parts that it saw.
    """

    name: ClassVar[str] = "ledger"
    story: ClassVar[str] = (
        "Each transaction changes some accounts and says how many, so that half a transaction, a "
        "change without its row and an index that differs from its table are all seen, also after "
        "a crash."
    )
    kinds: ClassVar[tuple[str, ...]] = ("posting", "audit")
    Params: ClassVar[type[Shape]] = LedgerShape

    def __init__(self, params: LedgerShape) -> None:
        self.params = params

    def schema(self) -> Sequence[str]:
        return (
            (
                "CREATE TABLE account"
                "(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, changes INTEGER NOT NULL)"
            ),
            (
                "CREATE TABLE entry(id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, "
                "number INTEGER NOT NULL, parts INTEGER NOT NULL, amount INTEGER NOT NULL)"
            ),
            "CREATE UNIQUE INDEX entry_number ON entry(writer, number)",
            (
                "CREATE TABLE part(id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, "
                "number INTEGER NOT NULL, position INTEGER NOT NULL, account INTEGER NOT NULL, "
                "amount INTEGER NOT NULL, pad TEXT NOT NULL)"
            ),
            "CREATE INDEX part_account ON part(account, amount)",
        )

    def load(self, session: Session, rng: np.random.Generator) -> None:
        accounts = (f"({number},0,0)" for number in range(self.params.rows))
        fill(session, "INSERT INTO account(id, balance, changes) VALUES", accounts)

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        if context.role == "reader":
            return always(Draw(AUDIT, ()))
        rng, each = context.rng(), self.params.operations
        account = keys.sampler(self.params.keys, self.params.rows, rng)
        many = max(BLOCK // each, 1)
        first = self.params.first

        def block() -> list[Draw]:
            nonlocal first
            accounts = account(many * each).reshape(many, each).tolist()
            amounts = rng.integers(-100, 101, (many, each)).tolist()
            first += many
            return [
                Draw(POST, (first - many + at, accounts[at], amounts[at])) for at in range(many)
            ]

        return stream(block)

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        assert context.session is not None
        run, rows, think, writer = (
            context.session.run, context.session.rows, context.think, context.number,
        )  # fmt: skip
        pad = payload(np.random.default_rng(0), self.params.record_bytes)

        def post(args: tuple[int, list[int], list[int]]) -> int:
            number, accounts, amounts = args
            key = (writer << NUMBER_BITS | number) << POSITION_BITS
            for position, (account, amount) in enumerate(zip(accounts, amounts, strict=True)):
                run(CHANGE, (amount, account))
                run(PART, (key | position, writer, number, position, account, amount, pad))
            think()
            run(ENTRY, (key, writer, number, len(accounts), sum(amounts)))
            note(f"work {writer} {number}")
            return number

        def audit(_: Any) -> int:
            changes, parts, told = (value or 0 for value in rows(SUMS)[0])
            if not changes == parts == told and context.checked:
                raise InvariantBroken(
                    f"An audit saw {changes:,} changes of accounts, {parts:,} parts and entries of "
                    f"{told:,} parts; they are always as many.",
                    changes=changes,
                    parts=parts,
                    told=told,
                )
            return int(parts)

        return post, audit

    def post(self, session: Session, posting: Posting) -> None:
        """One posting of its own in a transaction that has begun, to write on after a crash."""
        account = posting[1] % self.params.rows
        key = (posting[0] << NUMBER_BITS | posting[1]) << POSITION_BITS
        session.run(CHANGE, (1, account))
        pad = payload(np.random.default_rng(0), self.params.record_bytes)
        session.run(PART, (key, *posting, 0, account, 1, pad))
        session.run(ENTRY, (key, *posting, 1, 1))

    def acknowledged(self, context: WorkerContext) -> Callable[[Draw, int], None] | None:
        if context.role != "writer":
            return None
        writer = context.number
        return lambda draw, number: note(f"acked {writer} {number}")

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        book = self.read(session)
        acked: set[Posting] = set()
        unsure: set[Posting] = set()
        refused: dict[Posting, tuple[int, str]] = {}
        last_ns = 0
        writers = [worker for worker in log.workers if worker.role == "writer"]
        for writer, worker in enumerate(writers):
            for outcome, message, phase, cause, end_ns, draw in log.answers(
                worker, "message", "phase", "conflict", "end_ns"
            ):
                posting = writer, draw.args[0]
                if outcome == COMMITTED:
                    acked.add(posting)
                    last_ns = max(last_ns, end_ns)
                    continue
                if outcome == UNKNOWN:
                    unsure.add(posting)
                if phase == COMMIT and message and (outcome != UNKNOWN or cause in CAUSES):
                    words = worker.messages[message - 1 : message]
                    refused[posting] = end_ns, words[0] if words else "(words not kept)"
        mine = {posting for posting in book.whole if posting[1] >= self.params.first}
        there = refused_and_there(refused, book.whole, last_ns)
        told = sorted(refused.keys() & book.whole)
        lost = sorted(acked - mine)
        more = sorted(mine - acked - unsure - refused.keys())
        return [
            Finding(
                "postings",
                not book.wrong,
                "; ".join(book.wrong[:3]) or f"{len(book.whole):,} postings are there as a whole.",
                {"whole": len(book.whole), "wrong": book.wrong[:20]},
            ),
            Finding(
                "acknowledged postings",
                not lost and not more,
                f"{len(acked) - len(lost):,} of {len(acked):,} acknowledged postings are there"
                f"{named(', lost: ', lost)}{named(', there without an answer: ', more)}.",
                {"lost": lost[:20], "lost_count": len(lost), "more": more[:20]},
            ),
            *(
                [
                    Finding(
                        "refused postings",
                        not there,
                        _of_refused(refused, there, told),
                        {"refused": len(refused), "there": there[:20], "found": told[:20]},
                    )
                ]
                if refused
                else []
            ),
            *self._earlier(len(book.whole) - len(mine)),
        ]

    def _earlier(self, there: int) -> list[Finding]:
        """Whether what other runs left in this database is there still."""
        if not self.params.first:
            return []
        told = self.params.earlier
        text = f"{there:,} of {told:,} postings of earlier runs are there."
        return [Finding("earlier postings", there == told, text, {"there": there, "of": told})]

    def read(self, session: Session) -> Book:
        """What the database holds. Raises what the engine raises."""
        entries: dict[Posting, tuple[int, int]] = {}
        wrong: list[str] = []
        for writer, number, parts, amount in _numbers(session.rows(ENTRIES), "entry", wrong):
            if (writer, number) in entries:
                wrong.append(f"the entry of posting {number} of writer {writer} is there twice")
            entries[writer, number] = (parts, amount)
        found: defaultdict[Posting, list[tuple[int, int, int]]] = defaultdict(list)
        for row in _numbers(session.rows(PARTS), "part", wrong):
            writer, number, position, account, amount, pad = row
            found[writer, number].append((position, account, amount))
            if pad != self.params.record_bytes:
                wrong.append(f"a part of posting {number} of writer {writer} has {pad} bytes")
        whole = set()
        for posting in entries.keys() | found.keys():
            parts, amount = entries.get(posting, (0, 0))
            there = sorted(found.get(posting, ()))
            if (
                posting in entries
                and [position for position, _, _ in there] == list(range(parts))
                and sum(each for _, _, each in there) == amount
            ):
                whole.add(posting)
            else:
                told = f"an entry of {parts} parts" if posting in entries else "no entry"
                wrong.append(
                    f"posting {posting[1]} of writer {posting[0]} is torn: {told}, and "
                    f"{len(there)} parts"
                )
        wrong += self._accounts(session, found)
        return Book(frozenset(whole), wrong)

    def _accounts(
        self, session: Session, found: Mapping[Posting, Sequence[tuple[int, int, int]]]
    ) -> list[str]:
        changes: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        for parts in found.values():
            for _, account, amount in parts:
                changes[account][0] += amount
                changes[account][1] += 1
        wrong: list[str] = []
        rows = list(_numbers(session.rows(ACCOUNTS), "account", wrong))
        wrong += [
            f"account {number} holds {balance} by {many} changes, and its parts make "
            f"{changes[number][0]} by {changes[number][1]}"
            for number, balance, many in rows
            if [balance, many] != changes[number]
        ]
        if len(rows) != self.params.rows:
            wrong.append(f"{len(rows)} accounts are there, and {self.params.rows} were loaded")
        return wrong


def refused_and_there(
    refused: Mapping[Posting, tuple[int, str]], whole: Collection[Posting], last_ns: int
) -> list[tuple[Posting, str]]:
    """Postings whose COMMIT raised and which are there, with the words of each.

    refused : when each was, ns, and its words. last_ns : of the last acknowledgement. One that
    nobody committed after is left out: it may be what a recovery found of a log that nobody wrote
    on, and so nobody could know.
    """
    return [
        (posting, words)
        for posting, (at_ns, words) in sorted(refused.items())
        if posting in whole and at_ns < last_ns
    ]


def _of_refused(
    refused: Mapping[Posting, tuple[int, str]],
    there: Sequence[tuple[Posting, str]],
    found: Sequence[Posting],
) -> str:
    if there:
        posting, words = there[0]
        more = f"; so are {len(there) - 1:,} more" if len(there) > 1 else ""
        return (
            f'COMMIT was refused with "{words}", and the transaction is there'
            f"{named(': ', [posting])}{more}. Whoever tries it again does it twice."
        )
    unsure = f"; {len(found):,} are there that nobody committed after" if found else ""
    return (
        f"{len(refused) - len(found):,} of {len(refused):,} refused postings are not there{unsure}."
    )


def _numbers(
    rows: Sequence[tuple[Any, ...]], table: str, wrong: list[str]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, which have whole numbers alone; of another, a sentence."""
    for row in rows:
        if all(isinstance(value, int) for value in row):
            yield row
        else:
            wrong.append(f"a row of {table} holds no numbers: {shortened(repr(row))}")


def named(words: str, postings: Sequence[Posting]) -> str:
    """Some of them, for a sentence; "" for none.

    >>> named(", lost: ", [(0, 7), (1, 3)])
    ', lost: 7 of writer 0, 3 of writer 1'
    """
    if not postings:
        return ""
    shown = ", ".join(f"{number} of writer {writer}" for writer, number in postings[:5])
    more = f" and {len(postings) - 5:,} more" if len(postings) > 5 else ""
    return f"{words}{shown}{more}"
