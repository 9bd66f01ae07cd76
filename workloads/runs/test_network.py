"""A run through a network: asked for in words, measured, cut and healed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workloads.engines import find_engine
from workloads.errors import PlanError
from workloads.runs import make_plan, run

SERVED = {"scenario": "counter", "database": "postgres", "begin": "serializable", "writers": 2}
why = find_engine("postgres").missing()
here = pytest.mark.skipif(why is not None, reason=f"{why}")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"network": "tcp"}, "network: libsql has no server, so there is no network to it"),
        ({"network": "rtt=1"}, "network: rtt='1' is no time with its unit"),
        pytest.param(
            {**SERVED, "network": "rtt=0,drop=4..5", "duration_s": 3},
            "network: drop begins at 4 s, and the measured part ends at 3 s",
            marks=here,
        ),
    ],
)
def test_a_network_that_cannot_be_had_is_refused_before_anything_starts(
    asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlanError, match="network: ") as refused:
        make_plan(**asked)
    assert str(refused.value).startswith(said)


@here
def test_a_run_through_a_network_that_is_cut_measures_it_and_goes_on(tmp_path: Path) -> None:
    plan = make_plan(
        **SERVED, network="rtt=1ms,drop=0.2..0.3", duration_s=2, warmup_s=0, synchronous="off",
        params={"think_us": 5000, "think": "sleep"},
    )  # fmt: skip
    made = run(plan, tmp_path)
    network = made.manifest.network
    assert network is not None and not network.failed
    assert network.rtt_ms >= 1 > network.direct_ms and network.asked_ms == 1
    assert network.cuts == 1 and network.messages > 0 and network.cpu_s > 0
    assert network.connections >= 4  # two, and each again after the cut
    assert sum(entry.reconnects for entry in made.manifest.workers) >= 2
    assert made.manifest.ended == "duration"
    assert not made.manifest.broken
