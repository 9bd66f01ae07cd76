"""A recorded attempt survives its worker, and a folder that cannot be read says why."""

import json

import numpy as np
import pytest

from workloads import recording as rec


def write_rows(folder, count, *, rows=8, close=True, worker=0):
    recorder = rec.Recorder(folder, worker, rows=rows)
    buffer, offset, limit = recorder.buffer, recorder.offset, recorder.limit
    for txn in range(count):
        rec.OPEN_PART.pack_into(buffer, offset, 10 + txn, 10 + txn, txn, 1, 0, 0)
        if close or txn < count - 1:
            rec.CLOSE_PART.pack_into(
                buffer, offset + rec.CLOSE_AT, 200, 300, 400, -txn, 0, rec.COMMITTED, 0, 0
            )
        offset += rec.ROW_BYTES
        if offset == limit:
            buffer, offset, limit = recorder.roll()
    return recorder


def write_run(folder, **changes):
    manifest = {
        "cwkit": rec.FORMAT_VERSION,
        "run": folder.name,
        "plan": {"scenario": "bank", "database": "sqlite"},
        "window": {"start_ns": 1, "measure_ns": 1, "stop_ns": 500},
        "workers": [
            {"worker": 0, "role": "writer", "number": 0, "engine": "sqlite", "begin": "immediate"}
        ],
    }
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_every_row_comes_back_in_order_over_segments(tmp_path, count):
    write_rows(tmp_path, count)
    rows = rec.read_attempts(tmp_path, 0)
    assert rows["txn"].tolist() == list(range(count))
    assert rows["result"].tolist() == [-txn for txn in range(count)]
    assert (rows["outcome"] == rec.COMMITTED).all()


def test_trimming_gives_back_what_was_not_used_and_keeps_every_row(tmp_path):
    write_rows(tmp_path, 20)
    before = rec.read_attempts(tmp_path, 0)
    size = rec.segment_path(tmp_path, 0, 2).stat().st_size
    rec.trim(tmp_path, 0)
    assert rec.segment_path(tmp_path, 0, 2).stat().st_size == size - 4 * rec.ROW_BYTES
    assert (rec.read_attempts(tmp_path, 0) == before).all()
    rec.trim(tmp_path, 1)  # a worker without a file


def test_a_row_never_closed_is_unknown_and_not_failed(tmp_path):
    write_rows(tmp_path, 5, close=False)
    outcomes = rec.read_attempts(tmp_path, 0)["outcome"].tolist()
    assert outcomes == [rec.COMMITTED] * 4 + [rec.UNKNOWN]


def test_the_same_words_have_one_number_and_are_on_disk_at_once(tmp_path):
    recorder = rec.Recorder(tmp_path, 3, rows=4)
    assert [recorder.message(w) for w in ("locked", "full\nstop", "locked")] == [1, 2, 1]
    assert rec.read_messages(tmp_path, 3) == ("locked", "full\nstop")


def test_words_cut_by_a_kill_cost_only_the_newest(tmp_path):
    recorder = rec.Recorder(tmp_path, 0, rows=4)
    recorder.message("whole")
    with (tmp_path / "worker-000.messages.jsonl").open("a", encoding="utf-8") as file:
        file.write('"cu')
    assert rec.read_messages(tmp_path, 0) == ("whole",)


def test_a_run_comes_back_as_it_was_written(tmp_path):
    folder = write_run(tmp_path / "a")
    write_rows(folder, 20)
    run = rec.read_run(folder)
    assert run.name == "a"
    assert [(w.role, len(w.attempts)) for w in run.workers] == [("writer", 20)]


def cut_rows(folder):
    path = rec.segment_path(folder, 0, 0)
    path.write_bytes(path.read_bytes()[:200])


def empty_rows(folder):
    rec.segment_path(folder, 0, 0).write_bytes(b"")


def other_rows(folder):
    np.save(rec.segment_path(folder, 0, 0), np.arange(3))


DAMAGE = {
    "rows cut": (cut_rows, "cut or edited"),
    "rows empty": (empty_rows, "cut or edited"),
    "rows of others": (other_rows, "other rows"),
    "rows missing": (lambda folder: rec.segment_path(folder, 0, 0).unlink(), "missing"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "not a run folder"),
    "manifest cut": (
        lambda folder: (folder / "manifest.json").write_text('{"cwkit": 1, "ru'),
        "cut or edited",
    ),
    "manifest empty": (lambda folder: (folder / "manifest.json").write_text(""), "cut or edited"),
    "not ours": (lambda folder: (folder / "manifest.json").write_text("{}"), "not written by"),
    "later version": (
        lambda folder: (folder / "manifest.json").write_text(json.dumps({"cwkit": 999})),
        "later cwkit",
    ),
    "format 0": (
        lambda folder: (folder / "manifest.json").write_text('{"cwkit": 0}'),
        "none of cwkit's",
    ),
    "workers null": (
        lambda folder: write_run(folder, workers=None),
        "`workers`: input should be",
    ),
    "a worker without engine": (
        lambda folder: write_run(folder, workers=[{"worker": 0, "role": "writer"}]),
        r"lacks workers\.0\.number",
    ),
    "window cut": (lambda folder: write_run(folder, window={"start_ns": 1}), "window"),
    "scenario no table": (lambda folder: write_run(folder, scenario="bank"), "scenario"),
    "keys missing": (
        lambda folder: (folder / "manifest.json").write_text(json.dumps({"cwkit": 1})),
        "lacks",
    ),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_run_is_one_sentence(tmp_path, damage):
    folder = write_run(tmp_path / "run")
    write_rows(folder, 4)
    rec.read_run(folder)
    harm, words = DAMAGE[damage]
    harm(folder)
    with pytest.raises(rec.RunError, match=words) as caught:
        rec.read_run(folder)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_there_names_the_way_out(tmp_path):
    with pytest.raises(rec.RunError, match="cwkit list"):
        rec.read_run(tmp_path / "nothing")
