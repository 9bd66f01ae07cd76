"""The log over time: what was planted is seen, whoever checkpointed; and damaged files are told."""

import io
from pathlib import Path

import numpy as np
import pytest

from analysis.counting.timelines import wal_track
from analysis.synthetic import START_NS, drawn_run, write_folder
from workloads.errors import RunError
from workloads.records import WAL_LOOK, WAL_TRACK, Run, read_run, write_wal_track
from workloads.runs import make_plan
from workloads.runs import run as make_run


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def run_with(folder: Path, *looks: tuple[int, int, int, int]) -> Run:
    """A run of 1 s with a look every 100 ms: (bytes, restarts, frames, copied)."""
    rows = [(START_NS + n * 100_000_000, *look) for n, look in enumerate(looks)]
    write_folder(drawn_run(1), folder)
    write_wal_track(folder, np.array(rows, WAL_LOOK))
    return read_run(folder)


def test_a_run_without_looks_has_an_empty_track(tmp_path):
    write_folder(drawn_run(1), tmp_path)
    track = wal_track(read_run(tmp_path))
    assert [len(column) for column in track] == [0] * 5


def test_a_log_that_only_grows_was_never_checkpointed(tmp_path):
    run = run_with(tmp_path, *[(4096 * n, 0, n, 0) for n in range(8)])
    track = wal_track(run)
    assert track.bytes.tolist() == [4096 * n for n in range(8)]
    assert track.seconds == pytest.approx([n / 10 for n in range(8)])
    assert track.checkpoints.sum() == 0


def test_each_time_more_is_copied_back_is_a_checkpoint(tmp_path):
    run = run_with(tmp_path, (9, 0, 100, 0), (9, 0, 200, 150), (9, 0, 300, 150), (9, 0, 400, 380))
    assert wal_track(run).checkpoints.tolist() == [0, 1, 0, 1]


def test_a_log_that_began_again_had_been_copied_whole(tmp_path):
    run = run_with(
        tmp_path,
        (9, 0, 100, 0),
        (9, 1, 20, 0),  # one, not seen otherwise
        (9, 1, 90, 90),  # one that copied all of it
        (9, 2, 10, 0),  # that one let it begin again: no other is needed
        (9, 5, 10, 8),  # three more, and one of the log that is there now
    )
    assert wal_track(run).checkpoints.tolist() == [0, 1, 1, 0, 4]


def test_where_the_index_was_not_readable_restarts_are_counted_alone(tmp_path):
    run = run_with(tmp_path, (9, 0, -1, -1), (9, 2, -1, -1), (9, 2, 50, 20), (9, 2, -1, -1))
    assert wal_track(run).checkpoints.tolist() == [0, 2, 0, 0]


WHOLE = saved(np.zeros(3, WAL_LOOK))
BACKWARDS = saved(np.array([(9, 1, 0, 0, 0), (3, 1, 0, 0, 0)], WAL_LOOK))


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 33, WHOLE[:-1], WHOLE + b"x", WHOLE[:40], saved(np.zeros(3)), BACKWARDS]
    + [WHOLE.replace(b"(3,)", b"(9**9,)"), WHOLE.replace(b"(3,)", b"(10**15,)"), b"\0" * 200_000],
)
def test_a_file_that_is_none_of_ours_is_told_in_a_sentence(tmp_path, data):
    run = run_with(tmp_path, (9, 0, 1, 0))
    (tmp_path / WAL_TRACK).write_bytes(data)
    with pytest.raises(RunError, match=WAL_TRACK):
        wal_track(run)


@pytest.mark.parametrize("pages", [100, 0])
def test_checkpoints_that_commits_make_on_their_own_are_seen_in_a_real_run(tmp_path, pages):
    """No checkpointer: every 100 pages a commit does it; with 0 nobody does."""
    plan = make_plan(
        scenario="register", params={"rows": 500, "mix": "update=100"}, database="sqlite",
        writers=1, duration_s=0.5, warmup_s=0.1, wal_autocheckpoint=pages,
    )  # fmt: skip
    track = wal_track(make_run(plan, tmp_path))
    assert len(track.seconds) > 5
    if pages:
        assert track.checkpoints.sum() > 2
    else:
        assert track.checkpoints.sum() == 0
        assert track.bytes[-1] > track.bytes[0] > 0
