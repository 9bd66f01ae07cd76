"""A recorded attempt survives its worker, and a folder that cannot be read says why."""

import json
import os
import struct

import numpy as np
import psutil
import pytest

from workloads.records import attempts as rec
from workloads.records.manifest import FindingEntry, read_manifest, write_manifest


def write_rows(folder, count, *, rows=8, close=True, worker=0):
    recorder = rec.AttemptRecorder(folder, worker, rows=rows)
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
    recorder = rec.AttemptRecorder(tmp_path, 3, rows=4)
    assert [recorder.message(w) for w in ("locked", "full\nstop", "locked")] == [1, 2, 1]
    assert rec.read_messages(tmp_path, 3) == ("locked", "full\nstop")


def test_words_cut_by_a_kill_cost_only_the_newest(tmp_path):
    recorder = rec.AttemptRecorder(tmp_path, 0, rows=4)
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


def edited(**changes):
    """Change keys of the manifest."""
    return lambda folder: write_run(folder, **changes)


def written(data):
    """Replace the manifest's text; {} stands for the old one."""
    return lambda folder: (folder / "manifest.json").write_bytes(
        data.replace(b"{}", (folder / "manifest.json").read_bytes())
    )


def worker(**changes):
    entry = {"worker": 0, "role": "writer", "number": 0, "engine": "sqlite", "begin": "immediate"}
    return entry | changes


DESCR = repr(rec.ATTEMPT.descr)


def header(descr=DESCR, fortran="False", shape="(8,)"):
    """Replace the header of the attempts; the same rows follow it."""

    def harm(folder):
        path = rec.segment_path(folder, 0, 0)
        data = path.read_bytes()
        text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
        path.write_bytes(data[:8] + struct.pack("<I", len(text)) + text + data[-8 * 64 :])

    return harm


def row(field, value):
    """One row, edited."""

    def harm(folder):
        path = rec.segment_path(folder, 0, 0)
        rows = np.load(path)
        rows[field][2] = value
        np.save(path, rows)

    return harm


def other(name, make):
    """Put something else in a file's place."""

    def harm(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return harm


def loop(path):
    path.symlink_to(path.name)


def device(path):
    path.symlink_to("/dev/zero")


def elsewhere(path):
    (path.parent.parent / "other").write_text("{}")
    path.symlink_to("../other")


def huge(path):
    with path.open("wb") as file:
        file.truncate(1 << 42)  # 4 TiB without a byte on the disk


def rows_as_claimed(folder):
    header(shape=f"({1 << 30},)")(folder)
    path = rec.segment_path(folder, 0, 0)
    os.truncate(path, path.stat().st_size + ((1 << 30) - 8) * rec.ROW_BYTES)


MANIFEST, ROWS, MESSAGES = "manifest.json", "worker-000.npy", "worker-000.messages.jsonl"
TOO_DEEP = b"[" * 100_000


def shorter(size):
    """Keep so many bytes of the rows; below 0: all but so many."""

    def harm(folder):
        path = rec.segment_path(folder, 0, 0)
        data = path.read_bytes()
        path.write_bytes(data[: size if size >= 0 else len(data) + size])

    return harm


FORGED = {
    "NaN": (written(b'{"cwkit": 1, "run": NaN}'), "cannot be read"),
    "infinity": (written(b'{"cwkit": 1, "run": -Infinity}'), "cannot be read"),
    "a number beyond every float": (written(b'{"cwkit": 1, "run": 1e999}'), "cannot be read"),
    "5,000 digits": (written(b'{"cwkit": 1, "seed": ' + b"9" * 5000 + b"}"), "cannot be read"),
    "lists in one another": (written(b'{"cwkit": 1, "run": ' + TOO_DEEP), "nested too deep"),
    "objects in one another": (written(b'{"cwkit":' * 50_000), "nested too deep"),
    "45 levels": (edited(scenario={"params": {"a": json.loads("[" * 45 + "]" * 45)}}), "too deep"),
    "half a character": (written(b'{"cwkit": 1, "run": "\\ud800"}'), "cannot be read"),
    "no UTF-8": (written(b'{"cwkit": 1, "run": "\xff"}'), "UTF-8"),
    "a second document": (written(b"{}{}"), "cut or edited"),
    "a string for a number": (edited(seed="7"), "`seed`: input should be a valid integer"),
    "true for a number": (edited(seed=True), "`seed`"),
    "900,000 workers": (edited(workers=[worker()] * 900_000), "bytes; such a file has"),
    "100,000 workers": (edited(workers=[worker()] * 100_000), "at most 768 items"),
    "more workers in the plan": (
        edited(plan={"scenario": "bank", "database": "sqlite", "writers": 900_000}),
        r"`plan\.writers`: input should be less than or equal to 256 \(it is 900000\)",
    ),
    "a plan of nothing": (edited(plan={}), "`plan`: lacks scenario"),
    "a worker below 0": (edited(workers=[worker(worker=-1)]), r"`workers\.0\.worker`"),
    "worker 900,000": (edited(workers=[worker(worker=900_000)]), r"`workers\.0\.worker`"),
    "a worker twice": (edited(workers=[worker(), worker(number=1)]), "two have the same number"),
    "two of one number": (edited(workers=[worker(), worker(worker=1)]), "the same number"),
    "a role that is none": (edited(workers=[worker(role="king")]), r"`workers\.0\.role`"),
    "a window backwards": (
        edited(window={"start_ns": 1, "measure_ns": 9, "stop_ns": 5}), "follow each other"
    ),
    "a window of years": (
        edited(window={"start_ns": 1, "measure_ns": 1, "stop_ns": 10**17}), "within 100,000 s"
    ),
    "a window below 0": (
        edited(window={"start_ns": -5, "measure_ns": -5, "stop_ns": 5}), r"`window\.start_ns`"
    ),
    "10^15 rows": (header(shape=f"({10**15},)"), "tells of 1,000,000,000,000,000 rows"),
    "10^30 rows": (header(shape=f"({10**30},)"), "cannot be read as attempts"),
    "2^30 rows of which none is on the disk": (rows_as_claimed, "of 1,073,741,824 rows"),
    "rows below 0": (header(shape="(-1,)"), "cannot be read as attempts"),
    "an empty file of rows": (shorter(0), r"\(it is empty\)"),
    "a file of rows of a byte": (shorter(1), r"\(it ends within its header, after 1 byte\)"),
    "rows cut before the header": (shorter(9), r"\(it ends within its header, after 9 bytes\)"),
    "rows cut in the header": (shorter(100), r"\(it ends within its header, after 100 bytes\)"),
    "rows cut in a row": (shorter(-70), r"tells of 8 rows, and 442 bytes follow"),
    "rows of nobody's": (
        other(ROWS, lambda path: path.write_bytes(b"PK" * 99)), "begin with a header of numpy's"
    ),
    "rows of a later numpy": (
        other(ROWS, lambda path: path.write_bytes(b"\x93NUMPY\x07\x01" + bytes(99))),
        r"of the form 7\.1, which cwkit does not",
    ),
    "a header of nothing": (header(shape="what"), "does not say what rows follow, and how many"),
    "a table of rows": (header(shape="(2, 4)"), "other rows"),
    "Fortran's order": (header(fortran="True"), "other rows"),
    "pickled objects": (header(descr="'|O'"), "other rows"),
    "other fields": (header(descr="'<i8'"), "other rows"),
    "rows of 10^9 bytes": (header(descr="'V1000000000'"), "other rows"),
    "a literal without an end": (header(shape="(" * 900), "cut or edited"),
    "a nested literal": (header(shape="[" * 3000 + "]" * 3000), "cut or edited"),
    "an outcome that is none": (row("outcome", 9), "row 2 is of no outcome"),
    "a conflict that is none": (row("conflict", 200), "row 2 is of no conflict"),
    "a phase that is none": (row("phase", 4), "row 2 ended in no phase"),
    "transaction 4,000,000,000": (row("txn", 4_000_000_000), "row 2 has another number"),
    "a start before the machine's": (row("start_ns", -5), "row 2 has a `start_ns` outside"),
    "an end in a century": (row("end_ns", 1 << 61), "row 2 has a `end_ns` outside"),
    "an end before the start": (row("end_ns", 3), "row 2 has a `end_ns` before"),
    "an intention below 0": (row("intended_ns", -(2**63)), "row 2 has an `intended_ns`"),
    "messages that are none": (
        other(MESSAGES, lambda path: path.write_text('"a"\n7\n"b"\n')), "line 2: holds no text"
    ),
    "messages without UTF-8": (
        other(MESSAGES, lambda path: path.write_bytes(b'"\xff"\n"b"\n')), "line 1: holds no text"
    ),
    "messages nested": (
        other(MESSAGES, lambda path: path.write_bytes(TOO_DEEP + b"\n")), "line 1: holds no text"
    ),
} | {
    f"{name} {what}": (other(name, make), pattern)
    for name in (MANIFEST, ROWS, MESSAGES)
    for what, make, pattern in (
        ("a pipe", os.mkfifo, "is a pipe and no file"),
        ("a device", device, "is a symbolic link that leads out"),
        ("a folder", os.mkdir, "is a folder and no file"),
        ("a link to itself", loop, "a symbolic link that leads out"),
        ("another's file", elsewhere, "a symbolic link that leads out"),
        ("huge", huge, "bytes|cannot be read as attempts"),
    )
}  # fmt: skip


@pytest.mark.parametrize("forgery", list(FORGED))
def test_a_forged_run_is_one_sentence_before_anything_is_allocated_or_waited_for(
    tmp_path, forgery, monkeypatch
):
    folder = write_run(tmp_path / "run")
    write_rows(folder, 4)
    rec.read_run(folder)
    harm, pattern = FORGED[forgery]
    harm(folder)
    before = psutil.Process().memory_info().rss
    with pytest.raises(rec.RunError, match=pattern) as caught:
        rec.read_run(folder)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(folder)) and len(text) < 500
    assert psutil.Process().memory_info().rss - before < 256 << 20


def test_later_keys_are_kept_and_older_manifests_lack_some(tmp_path):
    later = {"weather": {"sky": "grey"}, "plan": {"scenario": "a", "database": "b", "vacuum": 3}}
    folder = write_run(tmp_path / "run", **later)
    found = read_manifest(folder)
    assert found.data()["weather"] == {"sky": "grey"} and found.data()["plan"]["vacuum"] == 3
    assert found.wal is None and not found.has("wal") and found.has("workers")
    write_manifest(folder, found)
    assert json.loads((folder / "manifest.json").read_text())["weather"] == {"sky": "grey"}


def test_what_is_written_can_be_read_whatever_an_engine_said(tmp_path):
    folder = write_run(tmp_path / "run")
    write_rows(folder, 1)
    found = read_manifest(folder)
    found.ended = "\ud800 and \x1b[2J"
    found.findings = [FindingEntry(check="a", ok=False, evidence={"x": [float("nan"), 1.5]})]
    write_manifest(folder, found)
    again = read_manifest(folder)
    assert again.ended == "\\ud800 and \x1b[2J"
    assert again.findings[0].evidence == {"x": ["nan", 1.5]}


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
    harm, pattern = DAMAGE[damage]
    harm(folder)
    with pytest.raises(rec.RunError, match=pattern) as caught:
        rec.read_run(folder)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_there_names_the_way_out(tmp_path):
    with pytest.raises(rec.RunError, match="cwkit list"):
        rec.read_run(tmp_path / "nothing")
