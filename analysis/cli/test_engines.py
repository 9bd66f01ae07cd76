"""`cwkit engines` tells what an engine is known for, by the version that answered."""

from __future__ import annotations

from analysis.cli.engines import engine_notes
from workloads.engines import Identity, Probe


def test_what_a_version_is_known_to_break_of_the_contract_is_told() -> None:
    for binding, known in (("pyturso 0.8.3", True), ("pyturso 9.9.9", False)):
        notes = engine_notes([Probe("turso", None, Identity(binding, "3.50.4", "", ()))])
        assert any("known to break the contract (error-kept)" in one for one in notes) is known
