"""The trials that time single calls: every arm has its numbers, and what is missing is said."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.trials import connecting, find_trial, nanoseconds


def one_block(name: str, home: Path) -> dict[str, np.ndarray]:
    """One block of a trial in this process, checked. arm -> its numbers."""
    with ExitStack() as stack:
        client = find_trial(name).begin(home, stack, quick=True)
        ns = {arm: np.zeros(shape, np.int64) for arm, shape in client.arms.items()}
        client.block(ns, np.random.default_rng(1))
        assert all(check["ok"] for check in client.checks())
    return ns


def test_a_read_is_timed_in_c_and_through_each_binding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any((nanoseconds.BUILD / name).is_file() for name in nanoseconds.PROGRAMS):
        pytest.skip(nanoseconds._why_missing())
    monkeypatch.setattr(nanoseconds, "BINDINGS", ("sqlite", "libsql"))
    monkeypatch.setattr(nanoseconds, "CALLS", 2)
    monkeypatch.setattr(nanoseconds, "C_CALLS", 2)
    ns = one_block("nanoseconds", tmp_path)
    assert {"python/empty", "sqlite/transaction", "libsql/autocommit"} <= set(ns)
    assert all((each > 0).all() for each in ns.values())


def test_where_the_c_program_is_not_built_the_sentence_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanoseconds, "BUILD", tmp_path)
    (tmp_path / "why-missing.txt").write_text("there is no C compiler.\n")
    with pytest.raises(EngineMissing, match=r"in C are missing: there is no C compiler\. Get them"):
        one_block("nanoseconds", tmp_path)


def test_opening_a_file_is_timed_with_and_without_another_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "SERVERS", ())
    ns = one_block("connecting", tmp_path)
    assert set(ns) == {"libsql", "libsql/beside", "sqlite", "sqlite/beside"}
    assert all((each > 0).all() for each in ns.values())


@pytest.mark.slow
def test_a_driver_of_postgresql_is_timed_over_its_socket_over_tcp_and_kept(tmp_path: Path) -> None:
    if why := find_engine("postgres").missing():
        pytest.skip(why)
    ns = one_block("connecting", tmp_path)
    assert {connecting.SOCKET, connecting.TCP, connecting.POOL} <= set(ns)
    assert all((each > 0).all() for each in ns.values())
