"""Processes that run freely: Hypothesis draws the shape of a run, the run happens for real.

Its history must be valid at the promised level and its invariant must hold. Judged as recorded
data and never shrunk: repeating a run does not repeat it.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from properties.checker import FORBIDS, Verdict, check
from properties.conformance.book import book
from properties.conformance.judge import how_many
from properties.conformance.targets import Target
from workloads.engines.history_session import history_of
from workloads.records import HISTORY_FILE, TXN_UNKNOWN, Run
from workloads.records.columns import load
from workloads.runs import make_plan, run

# Counted, not timed: how many there are in a time is chance, and few of them may meet nobody.
COUNTED = {"transactions": 200, "duration_s": 60}

shapes = st.fixed_dictionaries(
    {
        "writers": st.integers(2, 4),
        "readers": st.integers(0, 2),
        "storage": st.sampled_from(["text", "rows", "register"]),
        "rows": st.sampled_from([2, 5, 20]),
        "keys": st.sampled_from(["uniform", "zipfian:0.9"]),
        "operations": st.integers(1, 5),
        "think_us": st.sampled_from([0, 100]),
        "retry": st.sampled_from(["none", "immediate", "exponential"]),
    }
)


def ran(engine: str, mode: str, shape: dict[str, Any], seed: int, folder: Path) -> Run:
    """A short run of scenario `append`."""
    params = {k: shape[k] for k in ("storage", "rows", "keys", "operations", "think_us")}
    plan = make_plan(
        scenario="append",
        params={**params, "think": "sleep", "draws": 50},
        database=engine,
        begin=mode,
        read_begin=mode,
        writers=shape["writers"],
        readers=shape["readers"],
        retry={"policy": shape["retry"]},
        warmup_s=0,
        seed=seed,
        **COUNTED,
    )
    made = run(plan, folder)
    book().counts.add_run(made)
    return made


def judged(made: Run) -> Verdict:
    history = history_of(made.folder)
    assert len(history) > 5, f"nearly nothing ran: {made.manifest.workers}"
    return check(history)


@settings(
    # One or two runs a target here, and many at night: a run takes over a second.
    max_examples=max(1, how_many(0.02) // 5),
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(shape=shapes, number=st.integers(1, 2**31))
@pytest.mark.modes("immediate", "concurrent")
def test_free_running_processes_keep_the_promised_level(
    target: Target, seed: int, shape: dict[str, Any], number: int
) -> None:
    with TemporaryDirectory() as folder:
        made = ran(target.engine, target.mode, shape, seed + number, Path(folder))
        verdict = judged(made)
        forbidden = FORBIDS[target.promise] & set(verdict.anomalies)
        label = f"{target}, {shape}, seed {seed + number}"
        assert not forbidden, f"{label}: {forbidden}\n{verdict.anomalies}"
        assert verdict.levels[target.promise] is not False, label
        assert all(f.ok for f in made.manifest.findings), (label, made.manifest.findings)


# Names of which a run on a broken engine must show one; which one is chance.
BROKEN = {
    "faulty-lost-update": {"lost-update", "G-single", "G2-item"},
    "faulty-torn-read": {"G1b", "G0", "G1c", "fractured-read", "G-single", "G1a"},
    "faulty-silent-conflict": {"lost-update", "internal", "G-single", "incompatible-order"},
    "faulty-lost-commit": {"G-single-process", "incompatible-order", "G-single-realtime"},
}


# The other fault is caught in runs of `register`, beside this file.
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "faulty-lost-update"))
        for name in BROKEN
    ],
)
def test_a_broken_engine_s_run_is_caught_by_name(engine: str, seed: int, tmp_path: Path) -> None:
    shape = {
        "writers": 3,
        "readers": 1,
        "storage": "text",
        "rows": 1,
        "keys": "uniform",
        "operations": 4,
        "think_us": 1000,  # asleep in each transaction, so that they overlap on a busy machine, too
        "retry": "immediate",
    }
    verdict = judged(ran(engine, "deferred", shape, seed, tmp_path))
    assert BROKEN[engine] & set(verdict.anomalies), list(verdict.anomalies)
    assert verdict.levels["strict-serializable"] is False


def test_a_run_leaves_a_history_and_a_log_cut_in_its_last_line_is_still_judged(
    seed: int, tmp_path: Path
) -> None:
    shape = {
        "writers": 2,
        "readers": 0,
        "storage": "rows",
        "rows": 3,
        "keys": "uniform",
        "operations": 3,
        "think_us": 0,
        "retry": "none",
    }
    made = ran("sqlite", "immediate", shape, seed, tmp_path)
    assert len(load(made.folder / HISTORY_FILE)) == len(history_of(made.folder))
    log = sorted(made.folder.glob("worker-*.history.jsonl"))[0]
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) - 20])
    verdict = judged(made)
    assert list(verdict.history.txn_outcome).count(TXN_UNKNOWN) == 1
    assert verdict.levels["serializable"] is True
