"""An account has its place whatever the disk does, and a history is never cut in its middle."""

import json
import resource
import signal
from pathlib import Path

import pytest

from workloads.processes import accounts
from workloads.records import HistoryRecorder, merge

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_file_beyond():
    """Has writes beyond a number of bytes of any file fail, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_an_account_is_read_as_it_was_left_and_the_last_one_counts(tmp_path):
    accounts.reserve(tmp_path, "worker-000")
    assert accounts.read_account(tmp_path, "worker-000") == {}
    accounts.leave(tmp_path, "worker-000", {"state": "died", "account": "x" * 9_000})
    accounts.leave(tmp_path, "worker-000", {"state": "finished"})
    assert accounts.read_account(tmp_path, "worker-000") == {"state": "finished"}
    assert accounts.read_account(tmp_path, "worker-001") == {}


def test_an_account_is_read_by_any_reader_of_json(tmp_path):
    accounts.reserve(tmp_path, "check")
    accounts.leave(tmp_path, "check", {"findings": []})
    text = accounts.account_path(tmp_path, "check").read_text(encoding="utf-8")
    assert json.loads(text) == {"findings": []}


def test_on_a_full_disk_an_account_that_fits_its_place_is_whole(tmp_path, no_file_beyond):
    accounts.reserve(tmp_path, "worker-000")
    no_file_beyond(accounts.RESERVED_BYTES)
    account = {"state": "could not record", "account": "x" * 10_000, "pragmas": {"cache_size": 1}}
    accounts.leave(tmp_path, "worker-000", account)
    assert accounts.read_account(tmp_path, "worker-000") == account


def test_on_a_full_disk_a_long_account_keeps_what_it_came_to(tmp_path, no_file_beyond):
    accounts.reserve(tmp_path, "check")
    no_file_beyond(accounts.RESERVED_BYTES)
    lost = {
        "check": "rows",
        "ok": False,
        "sentence": "5 are lost",
        "evidence": {"lost": [0] * 9999},
    }
    accounts.leave(tmp_path, "check", {"findings": [lost], "layout": {"t": "x" * 9999}})
    assert accounts.read_account(tmp_path, "check") == {"findings": [lost | {"evidence": {}}]}


def test_a_place_that_cannot_be_had_is_an_error(tmp_path, no_file_beyond):
    no_file_beyond(100)
    for reserve in (
        lambda: accounts.reserve(tmp_path, "check"),
        lambda: accounts.hold_back(tmp_path),
    ):
        with pytest.raises(OSError, match="large"):
            reserve()


def test_a_record_that_met_a_full_disk_is_cut_at_its_end_alone(tmp_path, no_file_beyond):
    path = tmp_path / "worker-000.history.jsonl"
    recorder = HistoryRecorder(path, "list-append", session=0)
    no_file_beyond(400)
    done = 0

    def go_on():
        nonlocal done
        while True:
            recorder.begin(done, [("append", 1, done)])
            recorder.end(done, "committed", [("append", 1, done)])
            done += 1

    with pytest.raises(OSError, match="large"):
        go_on()
    size = path.stat().st_size
    for write in (recorder.begin, lambda *values: recorder.end(1, "committed", [])):
        with pytest.raises(OSError, match="large"):
            write(done, [])
    assert path.stat().st_size == size
    assert len(merge([path])) in (done, done + 1)


def test_a_forged_account_is_none(tmp_path):
    path = accounts.account_path(tmp_path, "check")
    for data in (b"", b"[]", b"\0" * 100, b"\xff", b"[" * 100_000, b'{"a": 1}x'):
        path.write_bytes(data)
        assert accounts.read_account(tmp_path, "check") == {}
    path.unlink()
    path.symlink_to("/dev/zero")
    assert accounts.read_account(tmp_path, "check") == {}
