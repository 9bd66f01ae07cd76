"""What the ledger says of a COMMIT that was refused."""

from workloads.scenarios.ledger import refused_and_there


def test_what_was_refused_and_is_there_is_told_where_somebody_committed_after_it():
    refused = {(0, 7): (100, "disk I/O error"), (1, 2): (300, "disk I/O error")}
    whole = {(0, 7), (1, 2), (1, 1)}
    assert refused_and_there(refused, whole, 200) == [((0, 7), "disk I/O error")]
    assert not refused_and_there(refused, {(1, 1)}, 400)
