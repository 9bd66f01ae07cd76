"""Session guarantees over histories of two replicas and their primary, also through outages.

A client that stays at one replica, through one connection, loses no guarantee. One that moves to
another replica does not see its own last writes there: that is shown, as a finding. Every replica
reads a beginning of the primary's commits. The long part, with more seeds and each fault:

    pytest --slow -s properties/conformance/test_replicas.py
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from properties.checker import explain
from properties.conformance.replicas import (
    CREATE,
    FAULTS,
    INSERT,
    MOVING,
    PRIMARY,
    READER,
    REPLICAS,
    Place,
    Played,
    Step,
    broken,
    drawn_steps,
    judged,
    play,
)
from workloads.engines import Delay, Link, Settings, find_engine, serving

WHY = find_engine("libsql-replica").missing()
here = pytest.mark.skipif(WHY is not None, reason=str(WHY))
SYNCS = ("never", "5ms")  # on demand alone, as a step; or by interval too
World = tuple[dict[str, Place], dict[str, Callable[[], None]], Callable[[], Place]]


@contextlib.contextmanager
def served(path: Path, sync: str = "never") -> Iterator[World]:
    """A writer at sqld, a relay between it and three replicas, and what can happen to these."""
    remote, replica = find_engine("libsql-remote"), find_engine("libsql-replica")
    with contextlib.ExitStack() as closing, serving(remote, path) as server:
        assert server is not None

        def opened(engine: Any, begin: str = "immediate", sync: str = sync) -> Place:
            session = engine.connect(str(path), begin=begin, settings=Settings(sync=sync))
            closing.callback(session.close)
            return Place(session, begin == "readonly")

        places = {PRIMARY: opened(remote)}
        places[PRIMARY].session.run(CREATE)
        places[PRIMARY].session.run(INSERT)
        link = Link(Delay(0.0), server.endpoint, path.with_name("relay.log"))
        closing.callback(link.close)
        server.redirect(link.port)
        places |= {name: opened(replica) for name in REPLICAS}
        places[READER] = opened(replica, "readonly", "begin")
        happens = {
            "kill": server.kill,
            "start": server.start_again,
            "cut": link.cut,
            "heal": link.heal,
        }
        yield places, happens, lambda: opened(remote)


@contextlib.contextmanager
def embedded(path: Path, replica: str) -> Iterator[World]:
    """The same with SQLite as the primary, and an engine that reads the same file."""
    with contextlib.ExitStack() as closing:

        def opened(name: str, begin: str) -> Place:
            session = find_engine(name).connect(str(path), begin=begin)
            closing.callback(session.close)
            if not hasattr(session, "sync"):
                return Place(Fresh(session), True)
            return Place(session, True)

        places = {PRIMARY: opened("sqlite", "immediate")}
        places[PRIMARY].session.run(CREATE)
        places[PRIMARY].session.run(INSERT)
        places |= {name: opened(replica, "deferred") for name in (*REPLICAS, READER)}
        yield places, {}, lambda: opened("sqlite", "deferred")


class Fresh:
    """A session that is never old."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def sync(self) -> None:
        """There is nothing to fetch."""


def told(steps: list[Step], played: Played) -> str:
    said = [explain(played.history, w) for ws in judged(played)[0].anomalies.values() for w in ws]
    return "\n".join([*map(str, steps), *played.wrong(), str(played.counts), *said])


def sound(steps: list[Step], played: Played) -> list[str]:
    """What the client that moves lost; fails where anything else did not hold."""
    whole, staying = judged(played)
    assert not broken(staying), told(steps, played)
    assert whole.levels["consistent-prefix"] is True, told(steps, played)
    assert not played.wrong(), told(steps, played)
    lost = broken(whole)
    for name, witnesses in whole.anomalies.items():
        if name in ("MYR", "N-MR"):
            assert all(f"session {MOVING} " in w.why for w in witnesses), told(steps, played)
    return lost


MOVES = [
    Step("a", "append", "a"),
    Step(MOVING, "read", "a"),
    Step(MOVING, "append", "a"),
    Step(MOVING, "read", "a"),
    Step(MOVING, "read", "b"),
    Step("b", "sync", "b"),
    Step(MOVING, "read", "b"),
    Step(PRIMARY, "append", PRIMARY, 1),
    Step("a", "sync", "a"),
    Step("a", "read", "a"),
]


# -- controls, without a server ------------------------------------------------------------------


@pytest.mark.parametrize("replica", ["sqlite", "faulty-replica"])
def test_a_replica_that_misses_its_own_writes_is_caught_and_a_sound_one_is_not(
    tmp_path: Path, replica: str, seed: int
) -> None:
    steps = drawn_steps(random.Random(seed), 60)
    with embedded(tmp_path / "database.db", replica) as world:
        played = play(world[0], steps, *world[1:])
    if replica == "sqlite":
        assert not sound(steps, played)
    else:
        staying = judged(played)[1]
        assert "read-your-writes" in broken(staying), told(steps, played)
        assert staying.anomalies["MYR"][0].why.startswith("session ")


def test_a_client_whose_replica_answers_from_two_ages_no_longer_sees_what_it_saw(
    tmp_path: Path,
) -> None:
    reads = [Step("a", "read", "a")] * 2
    steps = [reads[0], Step(PRIMARY, "append", PRIMARY), *reads]
    with embedded(tmp_path / "database.db", "faulty-replica-moves") as world:
        played = play(world[0], steps, *world[1:])
    assert broken(judged(played)[1]) == ["monotonic-reads"], told(steps, played)


def test_what_is_lost_doubled_or_not_caught_up_is_told(tmp_path: Path) -> None:
    steps = [Step("a", "append", "a") for _ in range(3)]
    with embedded(tmp_path / "database.db", "sqlite") as world:
        played = play(world[0], steps, *world[1:])
    assert not played.wrong()
    played.last[PRIMARY] = [[1, 1, 3], []]
    played.outcomes[3] = "failed"
    said = " ".join(played.wrong())
    assert "2 was acknowledged and is lost" in said and "1 is there 2 times" in said
    assert "3 was refused and is there" in said and "a has [[1, 2, 3], []] and the primary" in said


# -- sqld and its replicas -----------------------------------------------------------------------


@here
def test_a_client_that_moves_to_another_replica_loses_its_own_writes_and_one_that_stays_does_not(
    tmp_path: Path,
) -> None:
    with served(tmp_path / "database.db") as world:
        played = play(world[0], MOVES, *world[1:])
    assert sound(MOVES, played) == ["read-your-writes", "monotonic-reads"]
    why = judged(played)[0].anomalies["MYR"][0].why
    assert f"session {MOVING} read 0 = [] in T2 after it had itself appended 3 to 0 in T1" in why


@here
@pytest.mark.parametrize("fault", ["killed", "cut"])
def test_reads_go_on_without_the_primary_and_nothing_is_lost_or_doubled(
    tmp_path: Path, fault: str, seed: int
) -> None:
    begin, end = FAULTS[fault]
    steps = drawn_steps(random.Random(seed), 10)
    steps += [Step("b", "append", "b", 0, begin), Step("a", "append", "a"), Step("a", "read", "a")]
    steps += [Step(MOVING, "read", "a"), Step("b", "read", "b"), Step("", end)]
    steps += drawn_steps(random.Random(seed), 10)
    with served(tmp_path / "database.db") as world:
        played = play(world[0], steps, *world[1:])
    sound(steps, played)
    # A connection whose write failed reads what it has. One that was in a transaction when the
    # server went away asks the server until that is back.
    assert played.counts["read committed at a replica, away"] == 2, told(steps, played)
    assert played.counts["read failed at a replica, away"] == 1, told(steps, played)
    assert not played.counts["append committed at a replica, away"], told(steps, played)
    # Its COMMIT had no answer, so that nobody knows what became of it.
    assert list(played.outcomes.values()).count("unknown") == 1, told(steps, played)
    assert played.counts["sync committed, at the end"] == len(REPLICAS)


@pytest.mark.slow
@here
@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("fault", FAULTS)
def test_many_histories_of_replicas_keep_what_a_connection_is_promised(
    tmp_path: Path, fault: str, sync: str, seed: int
) -> None:
    counts: Counter[str] = Counter()
    for number in range(20):
        place = tmp_path / str(number)
        place.mkdir()
        steps = drawn_steps(random.Random(f"{seed} {number}"), 200, fault)
        with served(place / "database.db", sync) as world:
            played = play(world[0], steps, *world[1:])
        counts.update(f"lost by {MOVING}: {level}" for level in sound(steps, played))
        counts += played.counts
        counts["acknowledged"] += sum(said == "committed" for said in played.outcomes.values())
        counts["unknown"] += sum(said == "unknown" for said in played.outcomes.values())
        counts["unknown and there"] += played.present("unknown")
    print(f"\n{fault or 'no fault'}, sync {sync}:")
    for name, many in sorted(counts.items()):
        print(f"  {many:6,} {name}")
    assert counts[f"lost by {MOVING}: read-your-writes"] or sync != "never"
