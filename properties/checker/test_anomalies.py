"""The checker against known verdicts, brute force, and histories of known engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from properties.checker.brute_force import BruteForce
from properties.checker.catalogue import (
    CATALOGUE,
    FORBIDS,
    GUARANTEES,
    LEVELS,
    ruled_out_by,
    weaker_or_equal,
)
from properties.checker.decide import full_check
from properties.checker.examples import parse
from properties.checker.explanations import report
from properties.checker.register_levels import MOST_TRANSACTIONS
from properties.checker.session_guarantees import DAMAGE
from properties.checker.verdict import Verdict
from tools.bench.generate import generate
from workloads.records import Builder, History, read_history

HISTORIES = Path(__file__).parents[1] / "histories"
EXPECTED: dict[str, dict] = json.loads((HISTORIES / "expected.json").read_text())
MODELS = ("list-append", "rw-register")
EXAMPLES = [
    pytest.param(model, name, example, id=f"{model}-{name}")
    for name, anomaly in CATALOGUE.items()
    for model, example in zip(MODELS, (anomaly.example, anomaly.register), strict=True)
    if example
]


def holding(verdict: Verdict) -> set[str]:
    return {level for level, value in verdict.levels.items() if value is True}


def without(fails: list[str]) -> set[str]:
    return {level for level in LEVELS if not weaker_or_equal(level) & set(fails)}


# -- known verdicts ------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(EXPECTED))
def test_a_hand_made_history_gets_its_known_verdict(file: str) -> None:
    known = EXPECTED[file]
    verdict = full_check(read_history(HISTORIES / file, file.split("/")[0]))
    text = report(verdict, "strict-serializable")
    if known.get("undecided"):
        assert not verdict.anomalies, text
        assert set(verdict.levels.values()) == {"unknown"}, text
        return
    holds = without(known["fails"])
    if DAMAGE & verdict.anomalies.keys():
        holds -= GUARANTEES.keys()
    assert holding(verdict) == holds, text
    assert not known["shows"] or known["shows"] in verdict.anomalies, text
    assert known["fails"] or not verdict.anomalies, text


def test_every_history_file_is_in_the_table_and_the_table_has_both_kinds_of_each_anomaly() -> None:
    files = {str(p.relative_to(HISTORIES)) for p in HISTORIES.glob("*/*.*")}
    assert files == set(EXPECTED)
    assert len(files) >= 60
    shown = {known["shows"] for known in EXPECTED.values()}
    near = {Path(file).name.rsplit(".", 1)[0] for file in files}
    assert set(CATALOGUE) <= shown
    assert {f"no-{name}" for name in CATALOGUE} <= near


@pytest.mark.parametrize(("model", "name", "example"), EXAMPLES)
def test_the_catalogues_example_shows_its_anomaly(
    model: str, name: str, example: tuple[str, ...]
) -> None:
    verdict = full_check(parse(example, model))
    assert name in verdict.anomalies, report(verdict, "strict-serializable")
    assert not any(verdict.levels[level] is True for level in ruled_out_by(name))


@pytest.mark.parametrize("level", LEVELS)
def test_a_stronger_level_forbids_all_that_a_weaker_one_does(level: str) -> None:
    assert all(FORBIDS[weak] <= FORBIDS[level] for weak in weaker_or_equal(level))
    assert FORBIDS[level]


def test_an_empty_history_is_unknown_and_not_valid() -> None:
    assert set(full_check(parse([], "list-append")).levels.values()) == {"unknown"}


# -- brute force ---------------------------------------------------------------------------------


@st.composite
def small_histories(draw: st.DrawFn, model: str) -> History:
    """Two to four transactions whose reads are of some order of the writes, or of none."""
    lists = model == "list-append"
    write = "append" if lists else "w"
    keys = "xyz"[: draw(st.integers(1, 3))]
    shapes = draw(
        st.lists(
            st.lists(st.tuples(st.booleans(), st.sampled_from(keys)), min_size=1, max_size=3),
            min_size=2,
            max_size=4 if draw(st.integers(0, 9)) == 0 else 3,
        )
    )
    outcomes = [draw(st.sampled_from(["committed"] * 8 + ["failed", "unknown"])) for _ in shapes]
    value = 0
    programs: list[list[list]] = []
    versions: dict[str, list[int]] = {key: [] for key in keys}
    for shape in shapes:
        programs.append([])
        for writes, key in shape:
            value += 1
            programs[-1].append([write, key, value] if writes else ["r", key, None])
    for i in draw(st.permutations(range(len(programs)))):
        for f, key, wrote in programs[i]:
            if f == write and (outcomes[i] != "failed" or draw(st.integers(0, 9)) == 0):
                versions[key].append(wrote)
    sane = draw(st.booleans())
    for program in programs:
        own: dict[str, list[int]] = {key: [] for key in keys}
        for op in program:
            f, key, _ = op
            if f == write:
                own[key].append(op[2])
                continue
            mine = [o[2] for o in program if o[0] == write and o[1] == key]
            line = versions[key]
            stop = min([line.index(v) for v in mine if v in line], default=len(line))
            at = draw(st.integers(0, stop if sane else len(line)))
            if lists:
                op[2] = line[: stop if sane and own[key] else at] + (own[key] if sane else [])
            elif sane and own[key]:
                op[2] = own[key][-1]
            else:
                op[2] = line[at - 1] if at else None
    builder, free = Builder(model), dict.fromkeys("abc", 0)
    for program, outcome in zip(programs, outcomes, strict=True):
        session = draw(st.sampled_from("abc"))
        begin = free[session] + draw(st.integers(0, 6))
        end = begin + draw(st.integers(1, 6))
        free[session] = end + draw(st.integers(0, 1))
        builder.add(session, begin, end, outcome, program)
    return builder.build()


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_level_is_what_trying_all_orders_says(model: str, data: st.DataObject) -> None:
    history = data.draw(small_histories(model))
    verdict, truth = full_check(history), BruteForce(history).levels()
    event(f"serializable: {truth['serializable']}")
    got = {level: verdict.levels[level] for level in truth}
    assert got == truth, report(verdict, "strict-serializable")
    # A level is ruled out exactly if some named anomaly says so: no verdict without evidence.
    ruled_out = {level for name in verdict.anomalies for level in ruled_out_by(name)}
    assert {level for level in LEVELS if verdict.levels[level] is False} >= ruled_out
    assert all(ruled_out & weaker_or_equal(level) for level, value in got.items() if value is False)


def test_brute_force_can_tell_levels_apart() -> None:
    skew = BruteForce(parse(CATALOGUE["G2-item"].example, "list-append")).levels()
    assert skew["snapshot-isolation"] and not skew["serializable"]
    fork = BruteForce(parse(CATALOGUE["G-nonadjacent"].example, "list-append")).levels()
    assert fork["read-atomic"] and not fork["snapshot-isolation"]
    stale = BruteForce(parse(CATALOGUE["G-single-realtime"].example, "list-append")).levels()
    assert stale["strong-session-serializable"] and not stale["strong-snapshot-isolation"]


# -- histories of known engines ------------------------------------------------------------------


@st.composite
def executions(draw: st.DrawFn, model: str, *, snapshots: bool) -> History:
    """A tiny engine's history: serial, or snapshots with first committer wins."""
    lists = model == "list-append"
    builder = Builder(model)
    state: dict[str, list] = {}
    last: dict[str, int] = {}
    open_: dict[str, tuple[int, dict, list, set]] = {}
    value = 0
    for time in range(draw(st.integers(1, 60))):
        session = draw(st.sampled_from("abcd"))
        if session not in open_:
            if not snapshots and open_:
                continue
            open_[session] = (time, {k: list(v) for k, v in state.items()}, [], set())
            continue
        begin, seen, ops, wrote = open_[session]
        action = draw(st.sampled_from(("read", "write", "commit")))
        key = draw(st.sampled_from("xyz"))
        if action == "read":
            now = seen.get(key, [])
            ops.append(("r", key, list(now) if lists else (now[-1] if now else None)))
        elif action == "write":
            value += 1
            seen.setdefault(key, []).append(value)
            wrote.add(key)
            ops.append(("append" if lists else "w", key, value))
        else:
            del open_[session]
            refused = any(last.get(k, -1) > begin for k in wrote)
            if not refused:
                state.update({k: seen[k] for k in wrote})
                last.update(dict.fromkeys(wrote, time))
            builder.add(session, begin, time, "conflict" if refused else "committed", ops)
    return builder.build()


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_serial_history_never_alarms(model: str, data: st.DataObject) -> None:
    verdict = full_check(data.draw(executions(model, snapshots=False)))
    assert not verdict.anomalies, report(verdict, "strict-serializable")
    assert False not in verdict.levels.values()


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_snapshots_with_first_committer_wins_never_alarm_at_strong_snapshot_isolation(
    model: str, data: st.DataObject
) -> None:
    verdict = full_check(data.draw(executions(model, snapshots=True)))
    event(f"serializable: {verdict.levels['serializable']}")
    text = report(verdict, "strong-snapshot-isolation")
    assert verdict.levels["strong-snapshot-isolation"] is not False, text


# -- size and damage -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_benchs_valid_history_is_valid(model: str) -> None:
    verdict = full_check(
        generate(2000 if model == MODELS[0] else 200, seed=5, model=model, keys=10)
    )
    assert not verdict.anomalies, report(verdict, "strict-serializable")
    assert verdict.levels["strict-serializable"] is True


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [n for n, a in CATALOGUE.items() if a.example and a.register])
def test_a_planted_anomaly_is_found_among_thousands(model: str, name: str) -> None:
    size = MOST_TRANSACTIONS + 500  # more than registers are searched for an order of
    verdict = full_check(generate(size, seed=7, model=model, planted=(name,)))
    assert name in verdict.anomalies
    example = full_check(
        parse(CATALOGUE[name].example if model == MODELS[0] else CATALOGUE[name].register, model)
    )
    assert {k for k, v in verdict.levels.items() if v is False} == {
        k for k, v in example.levels.items() if v is False
    }


def test_one_huge_component_gets_a_verdict_and_short_cycles() -> None:
    # Everyone reads an empty x and appends to it unseen: each pair is a lost update.
    crowd = [f"s{i} 0-9 ok r:x:[] append:x:{i} r:y{i % 7}:[]" for i in range(3_000)]
    crowd += [f"t{i} 0-9 ok r:x:[] append:y{i % 7}:{i}" for i in range(3_000)]
    verdict = full_check(parse(crowd, "list-append"))
    assert verdict.levels["serializable"] is False
    assert len(verdict.anomalies["G2-item"][0].steps) == 2
    assert verdict.levels["read-atomic"] is True


def test_values_far_apart_are_told_apart() -> None:
    far = 2**61
    lines = [
        f'a 0-1 ok append:x:{far} append:x:{-far} append:x:"{far}"',
        f'b 2-3 ok r:x:[{far},{-far},"{far}"]',
        f"c 4-5 ok r:x:[{far}]",
    ]
    verdict = full_check(parse(lines, "list-append"))
    assert {"G1b", "G-single-realtime"} <= set(verdict.anomalies)
    assert "garbage-read" not in verdict.anomalies


def test_linearizable_keys_find_what_the_history_alone_does_not_prove() -> None:
    lines = [
        "a 0-1 ok w:x:1",
        "b 2-3 ok w:x:2",
        "c 2-9 ok r:x:2",
        "c 10-11 ok w:y:1",
        "d 0-12 ok r:y:1 r:x:1",
    ]
    history = parse(lines, "rw-register")
    assert full_check(history).levels["snapshot-isolation"] is True
    assert full_check(history, linearizable_keys=True).levels["strong-snapshot-isolation"] is False
