"""Each claim says what it rests on, and a verdict follows planted numbers in each direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.claims import (
    CLAIMS,
    EXPERIMENT,
    HOLDS,
    IN_PART,
    NOT,
    NOT_MEASURED,
    TRIAL,
    UNDECIDED,
    Seen,
    Verdict,
    bars,
    find_claim,
    read_trial,
    trials_of_claims,
)
from analysis.claims.replicas import ARMS
from analysis.report.measurements import designs
from workloads.errors import UnknownName
from workloads.experiments import sweep_names
from workloads.trials import TRIALS, Written


def test_every_claim_says_what_it_rests_on() -> None:
    assert [claim.number for claim in CLAIMS] == list(range(1, 10))
    assert len({claim.name for claim in CLAIMS}) == 9
    experiments = {design.name for design in designs(False, 1)}
    for claim in CLAIMS:
        assert claim.words and claim.source and claim.confirms and claim.needs
        for need in claim.needs:
            there = {TRIAL: set(TRIALS), EXPERIMENT: experiments}.get(need.kind, sweep_names())
            assert need.name in there, f"{claim.name}: there is no {need.kind} {need.name}"
    assert set(trials_of_claims()) == set(TRIALS)


def test_what_was_not_measured_is_told_as_that() -> None:
    for claim in CLAIMS:
        verdict = claim.verdict(Seen())
        assert verdict.verdict == NOT_MEASURED and str(verdict.number), claim.name


def test_a_claim_is_found_by_name_and_number_and_a_typo_gets_the_nearest() -> None:
    assert find_claim("replicas") is find_claim("5")
    with pytest.raises(UnknownName, match="Did you mean 'replicas'"):
        find_claim("replica")


def planted(
    folder: Path, name: str, arms: dict[str, list[float]], blocks: int = 8, **facts: Any
) -> Path:
    """A trial with known truths. arms : arm -> what each number of a repetition is, ns."""
    shapes = {arm: [5, len(each)] for arm, each in arms.items()}
    head = {"cwkit": 1, "trial": name, "ended": "running", "seed": 1, "arms": shapes} | facts
    written, rng = Written(folder / "trials" / name, head), np.random.default_rng(7)
    for _ in range(blocks):
        ns = {
            arm: np.maximum(np.array(each) * rng.lognormal(0, 0.01, (5, len(each))), 1)
            for arm, each in arms.items()
        }
        shares = {"cpu_share": 0.0, "steal_share": 0.0}
        written.keep({arm: each.astype(np.int64) for arm, each in ns.items()}, [], shares)
    written.note(ended="done")
    return folder


def verdict_of(folder: Path, name: str, claim: str) -> Verdict:
    return find_claim(claim).verdict(Seen({name: read_trial(folder, name)}))


VERSIONS = {
    "c/branch": "3.54.0 x",
    "c/system": "3.40.1 y",
    "libsql": "libsql-experimental 0, 3.45.1",
    "sqlite-latest": "apsw 1, its wheel, 3.54.1",
}


def reads(engine: float, binding: float) -> dict[str, list[float]]:
    """A library alone that takes so many ns, and as many more through a binding."""
    arms = {f"c/{name}/{kind}": [engine] for name in ("branch", "system")
            for kind in ("first", "memory", "transaction", "autocommit", "anew")}  # fmt: skip
    arms |= {f"{name}/{kind}": [engine + binding + 50] for name in ("libsql", "sqlite-latest")
             for kind in ("transaction", "autocommit")}  # fmt: skip
    return arms | {"python/empty": [50]}


@pytest.mark.parametrize(
    ("engine", "binding", "blocks", "verdict"),
    [(200, 100, 8, HOLDS), (200, 2000, 8, IN_PART), (900, 900, 8, NOT), (200, 9, 3, UNDECIDED)],
)
def test_200_ns_by_what_the_library_and_the_bindings_took(
    tmp_path: Path, engine: float, binding: float, blocks: int, verdict: str
) -> None:
    planted(tmp_path, "nanoseconds", reads(engine, binding), blocks, versions=VERSIONS)
    assert verdict_of(tmp_path, "nanoseconds", "nanoseconds").verdict == verdict


def test_the_shares_of_a_read_are_what_was_planted(tmp_path: Path) -> None:
    planted(tmp_path, "nanoseconds", reads(1000, 950), versions=VERSIONS)
    found = bars(read_trial(tmp_path, "nanoseconds"))
    assert [(bar.binding, bar.of) for bar in found if bar.kind == "autocommit"] == [
        ("libsql", "system"),
        ("sqlite-latest", "branch"),
    ]
    for bar in found:
        shares = {part: each.value for part, each in bar.shares.items()}
        assert shares == pytest.approx({"engine": 0.5, "binding": 0.475, "Python": 0.025}, abs=0.02)


@pytest.mark.parametrize(
    ("file_ns", "open_ns", "pool_ns", "verdict"),
    [(100, 5000, 900, HOLDS), (100, 5000, 60, IN_PART), (3000, 5000, 9e4, NOT)],
)
def test_the_query_is_done_before_the_handshake_or_not(
    tmp_path: Path, file_ns: float, open_ns: float, pool_ns: float, verdict: str
) -> None:
    arms = {"libsql": [file_ns] * 3, "postgres/tcp": [open_ns, 500, 50],
            "postgres/pool": [1, pool_ns, 1]}  # fmt: skip
    planted(tmp_path, "connecting", arms)
    found = verdict_of(tmp_path, "connecting", "connecting")
    assert found.verdict == verdict, str(found.number)


def test_without_a_postgresql_the_sentence_says_which_part_is_missing(tmp_path: Path) -> None:
    why = "PostgreSQL is missing. Get it with: make setup-all"
    planted(tmp_path, "connecting", {"libsql": [9, 9, 9]}, missing={"postgres": why})
    found = verdict_of(tmp_path, "connecting", "connecting")
    assert found.verdict == NOT_MEASURED and str(found.number) == why + "."


def with_rows(folder: Path, name: str, rows: list[dict[str, Any]], **facts: Any) -> Path:
    head = {"cwkit": 1, "trial": name, "ended": "running", "timed": False} | facts
    written = Written(folder / "trials" / name, head)
    # What others used meanwhile is of no account where no time counts.
    written.keep({}, rows, {"cpu_share": 0.9, "steal_share": 0.0})
    written.note(ended="done")
    return folder


def outage(**outcomes: str) -> list[dict[str, Any]]:
    """Each action in each situation; all work but those that are named."""
    return [
        {"situation": situation, "action": action, "ms": 3.0, "said": "10 rows",
         "outcome": outcomes.get(action, "works") if situation != "nothing" else "works"}
        for situation in ("nothing", "network away", "black hole", "primary killed", "data gone")
        for action in ("read", "read transaction", "write", "sync")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ({}, HOLDS),
        ({"write": "fails"}, IN_PART),
        ({"sync": "hangs"}, IN_PART),
        ({"read": "fails"}, NOT),
    ],
)
def test_an_application_keeps_running_or_does_not(
    tmp_path: Path, outcomes: dict[str, str], verdict: str
) -> None:
    with_rows(tmp_path, "outages", outage(**outcomes))
    assert verdict_of(tmp_path, "outages", "outages").verdict == verdict


def test_where_nothing_works_while_all_is_well_nothing_is_decided(tmp_path: Path) -> None:
    rows = [row | {"outcome": "fails"} for row in outage()]
    with_rows(tmp_path, "outages", rows)
    found = verdict_of(tmp_path, "outages", "outages")
    assert found.verdict == NOT_MEASURED and "while all is well" in str(found.number)


def test_a_lost_write_is_told_before_the_numbers(tmp_path: Path) -> None:
    checks = [{"check": "acknowledged writes", "ok": False, "said": "a write is not there."}]
    with_rows(tmp_path, "outages", outage(), checks=checks)
    number = str(verdict_of(tmp_path, "outages", "outages").number)
    assert number.startswith("A check did not hold (acknowledged writes: a write is not there.)")


def item(kind: str, of: str = "library", system: str = "libsql") -> dict[str, Any]:
    return {
        "system": system,
        "about": f"{kind} {of}",
        "of": of,
        "kind": kind,
        "here": "",
        "there": "",
    }


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([item("same"), item("later"), item("adds"), item("same", system="files")], HOLDS),
        ([item("same"), item("differs", "binding")], IN_PART),
        ([item("same"), item("differs")], NOT),
        ([item("same"), item("words")], NOT),
        ([item("same"), item("differs", system="files")], NOT),
        ([], NOT_MEASURED),
    ],
)
def test_compatible_is_what_differs_in_nothing(
    tmp_path: Path, rows: list[dict[str, Any]], verdict: str
) -> None:
    with_rows(tmp_path, "compatibility", rows)
    assert verdict_of(tmp_path, "compatibility", "compatibility").verdict == verdict


@pytest.mark.parametrize("name", ["compatibility", "outages"])
def test_a_row_that_was_edited_is_a_sentence(tmp_path: Path, name: str) -> None:
    with_rows(tmp_path, name, [{"situation": "nothing", "kind": 7}])
    found = verdict_of(tmp_path, name, name)
    assert found.verdict == NOT_MEASURED and "cut or edited" in str(found.number)


@pytest.mark.parametrize("damage", ["an arm less", "one number too few", "no settings"])
def test_a_replica_trial_that_was_edited_is_a_sentence(tmp_path: Path, damage: str) -> None:
    arms: dict[str, list[float]] = {arm: [9.0] for arm in ARMS} | {"syncing-cpu": [3.0, 9.0]}
    place = {"synchronous": 1}
    facts: dict[str, Any] = {
        "settings": {"sync_interval_s": 1, "wait_unasked_s": 1, "lag_limit_s": 1,
                     "pause_beside_s": 1, "network": "", "rows": 1},
        "versions": {"sqld": "1", "binding": "2"}, "pragmas": {"local": place, "server": place},
        "first_copy_ns": 1, "replica_bytes": 1, "database_bytes": 1,
    }  # fmt: skip
    planted(tmp_path / "sound", "replica", arms, **facts)
    assert verdict_of(tmp_path / "sound", "replica", "replicas").measured
    if damage == "an arm less":
        del arms["hop"]
    elif damage == "one number too few":
        arms["syncing-cpu"] = [3.0]
    else:
        del facts["settings"]
    planted(tmp_path / "edited", "replica", arms, **facts)
    found = verdict_of(tmp_path / "edited", "replica", "replicas")
    assert found.verdict == NOT_MEASURED and "cut or edited" in str(found.number)
