"""Reads and updates of one mix are counted apart, also where only a table of them is kept."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.counting.kept import NotKept, columns_of, count_of
from analysis.counting.tally import Count, count
from analysis.synthetic import attempts, made_run, made_worker

READ, UPDATE = 0, 1
KINDS = {"name": "register", "params": {}, "kinds": ["read", "update"]}


def mixed(kinds: list[int]) -> Count:
    """A second of one writer: a read lasts 10 us, an update 500."""
    lasts = (10, 500)
    rows = [
        {"start": 1000 * n, "worked": 1000 * n + lasts[kind], "kind": kind}
        for n, kind in enumerate(kinds)
    ]
    run = made_run([made_worker(0, attempts(*rows))], scenario=KINDS)
    return count(run, run.window_ns)


def test_what_one_kind_takes_is_not_hidden_by_the_others() -> None:
    counted = mixed([READ] * 57 + [UPDATE] * 30 + [READ] * 3)
    reads, updates = counted.of_kind("writer").values()
    assert (reads.committed, updates.committed) == (60, 30)
    assert (reads.rank_ns("p50"), updates.rank_ns("p50")) == (10_000, 500_000)
    assert (reads.mean_ns, updates.mean_ns) == (10_000, 500_000)
    assert counted.roles["writer"].percentiles("whole")[0] == 10_000


def test_a_kind_that_nobody_did_is_not_there_nor_a_role() -> None:
    assert list(mixed([UPDATE] * 30).of_kind("writer")) == ["update"]
    assert mixed([READ, UPDATE]).of_kind("reader") == {}


def test_a_kept_row_has_the_kinds_that_the_run_had() -> None:
    counted = mixed([READ, UPDATE] * 40)
    row = columns_of(counted)
    back = count_of("run", row)
    for name, one in counted.of_kind("writer").items():
        kept = back.of_kind("writer")[name]
        assert kept.committed == one.committed
        assert kept.mean_ns == one.mean_ns
        assert kept.per_s == pytest.approx(one.per_s)
        np.testing.assert_equal(kept.whole_ns, one.whole_ns)
    row["writer_kind_read_committed"] = "41"
    with pytest.raises(NotKept, match="its commits and those of each kind"):
        count_of("run", row)


def test_a_row_kept_by_an_earlier_version_has_none() -> None:
    row = {name: value for name, value in columns_of(mixed([READ, UPDATE])).items()
           if "_kind_" not in name}  # fmt: skip
    assert count_of("run", row).of_kind("writer") == {}
