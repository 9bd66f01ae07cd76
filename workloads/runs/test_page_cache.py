"""A cold run reads its data from the disk; and where that cannot be had, the manifest says so."""

import os
import tempfile
from pathlib import Path

import pytest

from workloads.runs import page_cache
from workloads.runs.conduct import run
from workloads.runs.machine import file_system
from workloads.runs.plan import make_plan

PLAN = {"scenario": "register", "params": {"rows": 5000}, "database": "sqlite", "writers": 1}
PLAN |= {"duration_s": 0.2, "warmup_s": 0.0}


def disk(tmp_path: Path) -> Path:
    if file_system(tmp_path) == "tmpfs":
        pytest.skip("the temporary folder lies in memory")
    return tmp_path


def memory() -> Path:
    if not os.access("/dev/shm", os.W_OK) or file_system(Path("/dev/shm")) != "tmpfs":
        pytest.skip("there is no tmpfs here")
    return Path("/dev/shm")


def test_a_file_on_a_disk_is_dropped_and_looking_at_it_reads_nothing(tmp_path):
    path = disk(tmp_path) / "database.db"
    path.write_bytes(os.urandom(3_000_001))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        there, pages = page_cache.resident(file.fileno())
        assert (there, pages) == (pages, 733)
        assert page_cache.drop(tmp_path, "database.db*") == 0
        assert page_cache.resident(file.fileno()) == (0, 733)


def test_no_file_and_an_empty_one_tell_nothing(tmp_path):
    assert page_cache.drop(tmp_path, "database.db*") is None
    (tmp_path / "database.db").touch()
    assert page_cache.drop(tmp_path, "database.db*") is None


def test_a_cold_run_begins_with_nothing_of_its_database_in_memory(tmp_path):
    made = run(make_plan(**PLAN, cache="cold"), tmp_path / "runs", databases=disk(tmp_path))
    assert made.manifest.ok
    assert made.manifest.cached is not None
    assert made.manifest.cached <= page_cache.RESIDENT_LIMIT


def test_on_a_file_system_that_drops_nothing_a_cold_run_says_how_much_stayed(tmp_path):
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        made = run(make_plan(**PLAN, cache="cold"), tmp_path / "runs", databases=Path(place))
    assert made.manifest.cached == 1.0


def test_a_warm_run_asks_for_nothing_and_says_nothing(tmp_path):
    made = run(make_plan(**PLAN), tmp_path / "runs")
    assert made.manifest.cached is None
