"""PostgreSQL's isolation, which is known from outside: the proof that these judges see what is.

Hermitage (Kleppmann 2014, https://github.com/ept/hermitage) played the literature's schedules on
PostgreSQL's three levels, and its documentation says the same (13.2 Transaction Isolation). What
differs here from that table is a fault of ours until it is proven otherwise.
"""

from __future__ import annotations

import pytest

from properties.conformance.classics import CLASSICS, how
from properties.conformance.judge import complaint, insist
from properties.conformance.targets import Runners
from workloads.engines import find_engine

ENGINE = find_engine("postgres")
pytestmark = pytest.mark.skipif(ENGINE.missing() is not None, reason=f"{ENGINE.missing()}")

SHOWN = {
    "read-committed": {
        *("OTV", "PMP", "P4", "G-single", "G-single-predicate", "G2-item", "G2", "read-only"),
    },
    "repeatable-read": {"G2-item", "G2", "read-only"},
    "serializable": set[str](),
}
"""Level -> what it allows of `CLASSICS`. The read-only anomaly is of Fekete, O'Neil and O'Neil
2004, which Hermitage does not have: snapshot isolation allows it, and so what is weaker. OTV is
played otherwise than there, where its reads come after both writers' first writes: here one read
is before T1's commit and one behind it, a fractured read, which snapshots of statements allow."""


@pytest.mark.parametrize("name", CLASSICS)
@pytest.mark.parametrize("level", SHOWN)
def test_each_level_shows_what_its_documentation_says(
    runners: Runners, level: str, name: str
) -> None:
    classic = CLASSICS[name]
    run = runners.run("postgres", (level,) * 3, classic.schedule)
    judged = insist(run, ENGINE.promises[level].level)
    seen = bool(set(classic.names) & set(judged.anomalies))
    assert seen == (name in SHOWN[level]), (how(classic, run), complaint(judged))
