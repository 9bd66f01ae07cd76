"""Histories of several replicas and their primary: clients, what they do in turn, and what is lost.

Clients take turns in one process, so that a history is repeated by its steps. Each keeps to its
place, through one connection: w to the primary, a and b each to a replica that fetches when a step
says so, and r, which only reads, to one that fetches before each read. The client m moves: whatever
it does, it does at the replica that its step names. Meanwhile the server is killed and started
again, or the network to the replicas is cut and heals.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from properties.checker import GUARANTEES, Verdict, check
from workloads.records import (
    BEGIN,
    COMMIT,
    COMMITTED,
    CONFLICT,
    FAILED,
    STATEMENT,
    Builder,
    History,
)

KEYS = 2
PRIMARY, REPLICAS, READER, MOVING = "w", ("a", "b"), "r", "m"
FAULTS = {"": ("", ""), "killed": ("kill", "start"), "cut": ("cut", "heal")}
"""What becomes of the server or of the network, and what ends it."""
SAID = {COMMITTED: "committed", CONFLICT: "conflict", FAILED: "failed"}
CREATE = "CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT NOT NULL)"
INSERT = "INSERT INTO item VALUES " + ", ".join(f"({key}, '')" for key in range(KEYS))
APPEND = "UPDATE item SET value = value || ? WHERE id = ?"
READ = "SELECT id, value FROM item ORDER BY id"


class Step(NamedTuple):
    """`client` does `what` ("append", "read", "sync") at `place`; or what happens to all.

    meanwhile : what happens to all before an append's COMMIT is sent.
    """

    client: str
    what: str
    place: str = ""
    key: int = 0
    meanwhile: str = ""

    def __str__(self) -> str:
        return " ".join(map(str, (part for part in self if part != "")))


def drawn_steps(rng: random.Random, count: int, fault: str = "") -> list[Step]:
    """Steps of the writer, of a client at each replica, and of one that moves between these."""
    steps: list[Step] = []
    begin, end = FAULTS[fault]
    for number in range(count):
        if begin and number == count // 3:
            inside = Step("a", "append", "a", rng.randrange(KEYS), begin)
            steps.append(rng.choice((Step("", begin), inside)))
        if end and number == 2 * count // 3:
            steps.append(Step("", end))
        away = bool(begin) and count // 3 <= number < 2 * count // 3
        client = rng.choice((PRIMARY, *REPLICAS, READER, MOVING, MOVING))
        place = client if client != MOVING else rng.choice(REPLICAS)
        if client == READER and away:
            continue  # a replica whose server is away takes 3 s to say that it cannot fetch
        whats = ["append", "read", "read", "sync"][: 3 if away or place == PRIMARY else 4]
        if client == READER:
            whats = ["read"]
        steps.append(Step(client, rng.choice(whats), place, rng.randrange(KEYS)))
    return steps


@dataclass
class Place:
    """A connection. in_transaction : whether a read is a transaction of its own, with BEGIN."""

    session: Any
    in_transaction: bool = False

    def append(self, key: int, value: int, meanwhile: Callable[[], None] | None = None) -> str:
        """The outcome of a transaction that appends a value. meanwhile : before its COMMIT."""
        phase = BEGIN
        try:
            self.session.begin()
            phase = STATEMENT
            self.session.run(APPEND, (f"{value},", key))
            phase = COMMIT
            if meanwhile is not None:
                meanwhile()
            self.session.commit()
        except Exception as error:
            return self._refused(error, phase)
        return "committed"

    def read(self) -> list[list[int]] | None:
        """All lists, as one statement saw them; None where it failed."""
        try:
            if self.in_transaction:
                self.session.begin()
            found = self.session.rows(READ)
            if self.in_transaction:
                self.session.commit()
        except Exception as error:
            self._refused(error, STATEMENT)
            return None
        return [[int(part) for part in text.split(",")[:-1]] for _, text in found]

    def _refused(self, error: BaseException, phase: int) -> str:
        refusal = self.session.refusal(error, phase)
        if not refusal.over:
            self.session.rollback()
        return SAID.get(refusal.outcome, "unknown")


@dataclass
class Played:
    """What came of the steps.

    history : with a session for each client. outcomes : of each value that was appended. last : the
    lists at the end, by place. counts : how often what came to which end, those while the server or
    the network was away apart.
    """

    history: History
    outcomes: dict[int, str]
    last: dict[str, list[list[int]] | None]
    counts: Counter[str] = field(default_factory=Counter)

    def wrong(self) -> list[str]:
        """Sentences about what was lost or doubled, and about replicas that did not catch up."""
        said: list[str] = []
        there = Counter(value for values in self.last[PRIMARY] or [] for value in values)
        for value, outcome in self.outcomes.items():
            if outcome == "committed" and not there[value]:
                said.append(f"{value} was acknowledged and is lost")
            if outcome in ("failed", "conflict") and there[value]:
                said.append(f"{value} was refused and is there")
            if there[value] > 1:
                said.append(f"{value} is there {there[value]} times")
        for place, lists in self.last.items():
            if lists != self.last[PRIMARY]:
                said.append(f"{place} has {lists} and the primary {self.last[PRIMARY]}")
        return said

    def present(self, outcome: str) -> int:
        """How many values of that outcome are there at the end."""
        there = {value for values in self.last[PRIMARY] or [] for value in values}
        return sum(1 for value, said in self.outcomes.items() if said == outcome and value in there)


def play(
    places: dict[str, Place],
    steps: Iterable[Step],
    happens: dict[str, Callable[[], None]],
    again: Callable[[], Place],
) -> Played:
    """Do the steps, and at the end let everybody fetch and read.

    happens : what "kill", "start", "cut" and "heal" do. again : a new connection to the primary.
    """
    builder, outcomes, away = Builder("list-append"), {}, False
    counts: Counter[str] = Counter()
    for number, step in enumerate(steps, 1):
        when = "away" if away else "there"
        if step.what in happens:
            happens[step.what]()
            away = step.what in ("kill", "cut")
            continue
        place, begin = places[step.place], time.monotonic_ns()
        if step.what == "append":
            meanwhile = happens.get(step.meanwhile)
            outcome = outcomes[number] = place.append(step.key, number, meanwhile)
            away = away or meanwhile is not None
            ops: Sequence[Any] = [("append", step.key, number)]
            _add(builder, step.client, begin, outcome, ops)
            at = "the primary" if step.place == PRIMARY else "a replica"
            counts[f"append {outcome} at {at}, {when}"] += 1
        elif step.what == "read":
            seen = place.read()
            if seen is not None:
                _add(builder, step.client, begin, "committed", _reads(seen))
            at = "the primary" if step.place == PRIMARY else "a replica"
            counts[f"read {'failed' if seen is None else 'committed'} at {at}, {when}"] += 1
        else:
            counts[f"sync {_synced(place)}, {when}"] += 1
    last: dict[str, list[list[int]] | None] = {PRIMARY: again().read()}
    for name in REPLICAS:
        counts[f"sync {_synced(places[name])}, at the end"] += 1
        begin, last[name] = time.monotonic_ns(), places[name].read()
        if (lists := last[name]) is not None:
            _add(builder, name, begin, "committed", _reads(lists))
    return Played(builder.build(), outcomes, last, counts)


def _reads(lists: list[list[int]]) -> list[tuple[str, int, list[int]]]:
    # One statement saw one state, so that each list is read before each other, and after it.
    return [("r", key, values) for _ in range(2) for key, values in enumerate(lists)]


def _add(builder: Builder, client: str, begin: int, outcome: str, ops: Sequence[Any]) -> None:
    builder.add(client, begin, time.monotonic_ns(), outcome, ops)


def _synced(place: Place) -> str:
    try:
        place.session.sync()
    except Exception:
        return "failed"
    return "committed"


def judged(played: Played) -> tuple[Verdict, Verdict]:
    """The verdict on all clients, and on those that stay at one place."""
    return check(played.history), check(without(played.history, MOVING))


def without(history: History, client: str) -> History:
    """The same history, in which what a client did is each a session's of its own."""
    builder = Builder(history.model)
    for i in range(len(history)):
        session = history.sessions[history.txn_session[i]]
        builder.add(
            f"{client} {i}" if session == client else session,
            int(history.txn_begin[i]),
            int(history.txn_end[i]),
            int(history.txn_outcome[i]),
            history.ops(i),
        )
    return builder.build()


def broken(verdict: Verdict) -> list[str]:
    """The session guarantees that do not hold, and consistent prefix."""
    return [level for level in (*GUARANTEES, "consistent-prefix") if verdict.levels[level] is False]
