"""Saturation at scale: the same verdicts as on small histories, and none that is not proven."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.checker import effort, newly_reached
from properties.checker import order_inference as forced
from properties.checker import register_levels as saturate
from properties.checker.brute_force import BruteForce
from properties.checker.catalogue import LEVELS, weaker_or_equal
from properties.checker.decide import full_check
from properties.checker.explanations import report
from properties.checker.graph import PROCESS, REALTIME, Graph, add_realtime_edges, add_session_edges
from properties.checker.newly_reached import ByClocks
from properties.checker.order_inference import Forced
from properties.checker.order_search import Need, Orders
from properties.checker.reachability import Bits
from properties.checker.register_edges import Registers, observe
from properties.checker.register_levels import NEEDS
from properties.checker.test_anomalies import small_histories
from properties.checker.verdict import Findings
from tools.bench.generate import generate
from workloads.records import Builder, History, read_history

HISTORIES = Path(__file__).parents[1] / "histories" / "rw-register"


def drawn(rng: random.Random, longest: int = 30) -> History:
    """Some transactions that read something recent, or older: often a violation, often none."""
    builder = Builder("rw-register")
    keys, sessions = rng.choice([1, 2, 3, 8]), rng.choice([2, 4, 8, max(8, longest // 8)])
    values: list[list[int | None]] = [[None] for _ in range(keys)]
    age, now, written = rng.choice([0.3, 1.0]), 0, 0
    free = [0] * sessions
    for _ in range(rng.randint(2, rng.choice([4, 8, longest]))):
        session = rng.randrange(sessions)
        now += rng.randint(0, 3)
        begin = max(free[session], now - rng.randint(0, 6))
        end = begin + rng.randint(1, 8)
        free[session] = end + rng.randint(0, 1)
        ops: list[tuple[str, int, int | None]] = []
        own: dict[int, int | None] = {}
        for _ in range(rng.randint(1, 4)):
            key = rng.randrange(keys)
            if rng.random() < 0.5:
                back = min(len(values[key]) - 1, int(rng.expovariate(age)))
                value = own.setdefault(key, values[key][-1 - back])
                ops.append((rng.choice(["r", "r", "rp"]), key, value))
            else:
                written += 1
                own[key] = written
                values[key].append(written)
                ops.append(("w", key, written))
        outcome = rng.choices(["committed", "unknown", "failed"], [20, 1, 1])[0]
        builder.add(session, begin, end, outcome, ops)
    return builder.build()


@pytest.mark.parametrize("chains", [True, False], ids=["chains", "bits"])
def test_what_is_forced_contradicts_itself_exactly_where_it_does_on_small_histories(
    monkeypatch: pytest.MonkeyPatch, seed: int, chains: bool
) -> None:
    if not chains:
        monkeypatch.setattr(Forced, "_room", lambda self: Bits(self.transactions))
    violated = kept = 0
    for number in range(40):
        rng = random.Random(seed * 1000 + number)
        history = drawn(rng)
        seen = observe(history, Findings())
        graph = Graph(len(history))
        add_session_edges(graph, history, seen.happened)
        add_realtime_edges(graph, history, seen.happened)
        columns = [column.tolist() for column in graph.edges()[:3]]
        given = [(u, v, kind, -1, -1, -1) for u, v, kind in zip(*columns, strict=True)]
        trusted = rng.choice([(), (), (PROCESS,), (REALTIME, PROCESS)])
        for level, need in NEEDS.items():
            small = Orders(seen, need, graph.nodes, given, trusted).close(explain=False)
            large = Forced(seen, need, trusted).close()
            assert (small is None) == (large is None), f"{level}, seed {seed}, history {number}"
            violated += large is not None
            kept += large is None
    assert violated > 50 < kept


def whole_rounds(seen: Registers, need: Need, trusted: tuple[int, ...]) -> Forced:
    """As `Forced`, but each round asks of every pair and finds all reachability anew."""
    old = Forced(seen, need, trusted)
    old._pairs_of = None
    return old


def told(forced: Forced) -> tuple[bool, set[tuple[int, ...]], list[Any]]:
    """Whether it contradicts itself; where not, what it drew and what reaches what."""
    if forced.close(explain=False) is not None:
        return True, set(), []
    columns = [np.concatenate(column).tolist() for column in zip(*forced.columns, strict=True)]
    assert forced.reach is not None
    return False, set(zip(*columns[:3], strict=True)), forced.reach.rows.tolist()


def compared(rng: random.Random, histories: int, longest: int) -> Counter[bool]:
    """How often what is looked at anew and what whole rounds look at said yes, or no: the same."""
    seen_both: Counter[bool] = Counter()
    for number in range(histories):
        history = drawn(rng, longest)
        seen = observe(history, Findings())
        trusted = rng.choice([(), (), (PROCESS,), (REALTIME, PROCESS)])
        for level, need in NEEDS.items():
            if not need.extra:
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(effort, "PAIRS", -1)  # clocks, and never bits
                patch.setattr(forced, "FEW", rng.choice([0.0, 0.05, 10.0]))
                patch.setattr(newly_reached, "ENTRIES_AT_ONCE", rng.choice([3, 1_000_000]))
                patch.setattr(newly_reached, "MOST_IN_TABLE", rng.choice([0, 4_000_000]))
                new = told(Forced(seen, need, trusted))
                patch.setattr(forced, "FEW", -1.0)
                old = told(whole_rounds(seen, need, trusted))
            assert new == old, f"{level}, history {number}: {new[0]}, not {old[0]}"
            seen_both[old[0]] += 1
    return seen_both


def test_only_what_changed_is_looked_at_and_nothing_is_missed(seed: int) -> None:
    found = compared(random.Random(seed), 150, 30) + compared(random.Random(seed), 4, 300)
    assert found[True] > 50 < found[False]


@pytest.mark.slow
def test_in_thousands_of_histories_nothing_is_missed(seed: int) -> None:
    assert min(compared(random.Random(seed), 3000, 40).values()) > 1000


FAULTS: dict[str, Callable[..., Any]] = {
    "last_seen": lambda *_: iter(()),
    "now_after": lambda *_: iter(()),
    "beginnings": lambda _: iter(()),
    "given": lambda _: iter(()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_that_is_left_out_would_be_seen(
    fault: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ByClocks, fault, FAULTS[fault])
    with pytest.raises(AssertionError, match="history"):
        compared(random.Random(seed), 300, 30)


def test_a_change_that_is_not_passed_on_would_be_seen(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = Forced._spread

    def forgetful(self: Forced, *args: Any) -> bool:
        kept = spread(self, *args)
        self._changed, self._old = self._changed[1:], self._old[1:]
        return kept

    monkeypatch.setattr(Forced, "_spread", forgetful)
    with pytest.raises(AssertionError, match="history"):
        compared(random.Random(seed), 300, 30)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_at_scale_no_verdict_differs_from_what_trying_all_orders_says(data: st.DataObject) -> None:
    history = data.draw(small_histories("rw-register"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saturate, "MOST_TRANSACTIONS", 0)
        verdict = full_check(history)
    for level, truth in BruteForce(history).levels().items():
        assert verdict.levels[level] in (truth, "unknown"), report(verdict, level)


PLANTED = (
    "long-fork-after-initialising.edn",
    "causal-cycle.jsonl",
    "causal-cycle-of-sessions.edn",
    "skew-after-initialising.jsonl",
    "fractured-after-initialising.json",
    "G2-item.jsonl",
    "G-nonadjacent-realtime.json",
)


@pytest.mark.parametrize("among", [1500, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PLANTED)
def test_an_anomaly_planted_among_many_transactions_is_found(name: str, among: int) -> None:
    assert among > saturate.MOST_TRANSACTIONS  # all orders are tried below that
    alone = read_history(HISTORIES / name)
    small = full_check(alone)
    verdict = full_check(planted(generate(among, seed=3, model="rw-register"), alone))
    violated = {level for level, value in small.levels.items() if value is False}
    assert violated == {level for level, value in verdict.levels.items() if value is False}
    assert set(small.anomalies) <= set(verdict.anomalies)
    assert all(len(w[0].steps) <= 8 for w in verdict.anomalies.values())


def planted(around: History, history: History) -> History:
    """The first history with the second in its middle, on keys and sessions of their own."""
    builder = Builder(around.model)
    middle = len(around) // 2
    moment = int(around.txn_begin[middle])
    for txn in range(len(around)):
        builder.add(*row(around, txn, "", 0))
    for txn in range(len(history)):
        builder.add(*row(history, txn, "planted ", moment))
    return builder.build()


def row(h: History, txn: int, name: str, moment: int) -> tuple:
    ops = [(f, f"{name}{key}", value) for f, key, value in h.ops(txn)]
    session = f"{name}{h.sessions[h.txn_session[txn]]}"
    begin, end = int(h.txn_begin[txn]), int(h.txn_end[txn])
    stop = end if end > 2**62 else end + moment
    return session, begin + moment, stop, int(h.txn_outcome[txn]), ops


def test_a_large_valid_history_is_proven_and_a_serial_one_at_every_level() -> None:
    verdict = full_check(generate(10_000, seed=2, model="rw-register"))
    assert not verdict.anomalies
    assert set(verdict.levels.values()) == {True}


def test_where_there_is_no_room_single_steps_are_still_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(effort, "REACH_BYTES", 0)
    history = read_history(HISTORIES / "long-fork-after-initialising.edn")
    verdict = full_check(planted(generate(1000, seed=3, model="rw-register"), history))
    assert verdict.levels["serializable"] is False
    assert False not in {verdict.levels[weak] for weak in weaker_or_equal("read-atomic")}


def blind(transactions: int) -> History:
    """Writes side by side that nobody read: any order fits, and nothing tells one."""
    builder = Builder("rw-register")
    for i in range(transactions):
        builder.add(f"w{i}", 0, 10, "committed", [("w", "x", i), ("w", "y", i)])
    return builder.build()


@pytest.fixture
def unhelped(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No order is found at the first attempt, so that the search has to."""
    monkeypatch.setattr(saturate, "_replayed", lambda _: False)
    monkeypatch.setattr(saturate, "_replayed_at_scale", lambda _: False)
    monkeypatch.setattr(Forced, "complete", lambda _: False)
    return monkeypatch


LIMITS = {
    "steps of inference": (500, "INFERENCE_STEPS", 100, "not drawn to its end within 100 steps"),
    "memory": (500, "REACH_BYTES", 10_000, "MB"),
    "steps of a search": (12, "SEARCH_STEPS", 4_000, "no order of the writes that fits was found"),
    "steps of a large search": (500, "SEARCH_STEPS", 4_000, "no order of the writes that fits"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_what_stays_unknown_for_want_of_effort_says_why_and_what_to_do(
    limit: str, unhelped: pytest.MonkeyPatch
) -> None:
    transactions, name, value, reason = LIMITS[limit]
    unhelped.setattr(effort, "SEARCH_STEPS", 4_000)
    unhelped.setattr(effort, name, value)
    verdict = full_check(blind(transactions))
    unknown = [level for level in LEVELS if verdict.levels[level] == "unknown"]
    assert unknown
    note = verdict.notes[-1]
    assert note.startswith(", ".join(unknown) + ": unknown because ") and "--effort 10" in note
    assert reason in note


@pytest.mark.parametrize("transactions", [12, 401])
def test_more_effort_decides_what_less_leaves_unknown(
    transactions: int, unhelped: pytest.MonkeyPatch
) -> None:
    unhelped.setattr(effort, "SEARCH_STEPS", 4_000)
    history = blind(transactions)
    little, much = full_check(history), full_check(history, effort=1_000_000)
    assert "unknown" in little.levels.values() and "unknown" not in much.levels.values()
    assert little.notes and not much.notes
