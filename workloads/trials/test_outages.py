"""What works while something is gone is what was seen, and a hang ends at the limit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.trials import find_trial, outages
from workloads.trials.outage_client import ACTIONS


def test_without_a_server_the_sentence_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workloads.engines import sqld_server

    monkeypatch.setattr(sqld_server, "BUILD", tmp_path)
    with ExitStack() as stack, pytest.raises(EngineMissing, match="Get it with: make setup"):
        find_trial("outages").begin(tmp_path, stack, quick=True)


@pytest.mark.slow
def test_each_action_has_an_outcome_in_each_situation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := find_engine("libsql-replica").missing():
        pytest.skip(why)
    monkeypatch.setattr(outages, "SITUATIONS", ("nothing", "network away", "black hole"))
    monkeypatch.setattr(outages, "QUICK_LIMIT_S", 5.0)
    with ExitStack() as stack:
        client = find_trial("outages").begin(tmp_path, stack, quick=True)
        rows = client.block({}, np.random.default_rng(1))
        assert all(check["ok"] for check in client.checks())
    found = {(row["situation"], row["action"]): row["outcome"] for row in rows}
    assert {found["nothing", action] for action in ACTIONS} == {"works"}
    assert found["network away", "read"] == found["black hole", "read"] == "works"
    assert found["network away", "write"] == "fails"
    assert found["black hole", "write"] == "hangs"
