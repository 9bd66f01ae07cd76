"""Histories in and out: every form keeps every bit, and bad files are told by line and rule."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from properties.checker.examples import parse
from tools.bench.generate import generate
from workloads.errors import HistoryError
from workloads.records import (
    HISTORY_FILE,
    Builder,
    History,
    HistoryRecorder,
    Literal,
    merge,
    read_history,
)
from workloads.records.columns import load
from workloads.records.edn import read_edn
from workloads.records.elle import write_history

INVOKE = '{"index": 0, "type": "invoke", "process": 0, "value": [["append", "x", 1]]}\n'
OK = '{"index": 1, "type": "ok", "process": 0, "value": [["append", "x", 1]]}\n'


def same(a: History, b: History) -> bool:
    return [a.ops(i) for i in range(len(a))] == [b.ops(i) for i in range(len(b))] and (
        [a.sessions[s] for s in a.txn_session] == [b.sessions[s] for s in b.txn_session]
    )


@pytest.mark.parametrize("suffix", [".edn", ".json", ".jsonl", ".npz"])
@pytest.mark.parametrize("model", ["list-append", "rw-register"])
def test_a_history_comes_back_from_every_form(tmp_path: Path, suffix: str, model: str) -> None:
    history = generate(200, seed=3, model=model, failing=0.1)
    write_history(history, tmp_path / f"h{suffix}")
    again = read_history(tmp_path / f"h{suffix}")
    assert again.model == model
    assert same(history, again)
    before = history.txn_end[:, None] < history.txn_begin[None, :]
    assert (before == (again.txn_end[:, None] < again.txn_begin[None, :])).all()


def test_edn_of_jepsen_is_read() -> None:
    text = '#jepsen.history.Op{:index 0, :value [[:r :x nil] ; seen\n [:append "a b" -2N]]}\n{}'
    (line, op), second = read_edn(text)
    assert (line, op.tag) == (1, "jepsen.history.Op")
    value = [[Literal(":r"), Literal(":x"), None], [Literal(":append"), "a b", -2]]
    assert op.form == [(Literal(":index"), 0), (Literal(":value"), value)]
    assert second == (3, [])


def test_edn_in_one_vector_is_the_same_as_a_map_a_line(tmp_path: Path) -> None:
    lines = "{:type :invoke :process 0 :value [[:w 1 2]]}\n{:type :ok :process 0 :value [[:w 1 2]]}"
    (tmp_path / "lines.edn").write_text(lines)
    (tmp_path / "vector.edn").write_text(f"[{lines}]")
    assert same(read_history(tmp_path / "lines.edn"), read_history(tmp_path / "vector.edn"))


def test_what_never_ends_and_info_are_unknown_and_nemeses_are_skipped(tmp_path: Path) -> None:
    nemesis = '{"index": 9, "type": "info", "process": "nemesis", "f": "kill", "value": "n1"}\n'
    (tmp_path / "h.jsonl").write_text(INVOKE + nemesis)
    assert read_history(tmp_path / "h.jsonl").txn_outcome.tolist() == [3]
    (tmp_path / "h.jsonl").write_text(INVOKE + OK.replace('"ok"', '"info"'))
    assert read_history(tmp_path / "h.jsonl").txn_outcome.tolist() == [3]


BAD = {
    "cut": (INVOKE + OK[:30], "line 2: cut or no JSON"),
    "no invoke": (OK, "line 1: process 0 finishes a transaction (ok) that never began"),
    "wrong type": (INVOKE.replace("invoke", "begin"), "line 1: process 0 finishes"),
    "index": (INVOKE + OK.replace("1,", "0,", 1), "line 2: index 0 after 0; indexes must grow"),
    "verb": (INVOKE + OK.replace("append", "add"), "line 2: operation 'add' is not one of append"),
    "value": (INVOKE + OK.replace("[[", "[").replace("]]", "]"), "line 2: its value must be a"),
    "read": (INVOKE + OK.replace('"append", "x"', '"r", "x"'), "which is no list"),
    "field": (INVOKE + '{"process": 0}\n', "line 2: not an operation map"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_told_by_line_and_rule(tmp_path: Path, case: str) -> None:
    text, rule = BAD[case]
    path = tmp_path / "h.jsonl"
    path.write_text(text)
    with pytest.raises(HistoryError) as raised:
        read_history(path)
    assert str(path) in str(raised.value)
    assert rule in str(raised.value)


DEEP = "[" * 5000 + "]" * 5000
WRONG_LINES = {
    # The line on which the mistake is, counted from 1, not the one where it came to light.
    "never ends": [INVOKE.replace('"append"', '"add"')],
    "fails": [INVOKE.replace('"append"', '"add"'), OK.replace('"ok"', '"fail"')],
    "unknown": [INVOKE.replace('"append"', '"add"'), OK.replace('"ok"', '"info"')],
    "begins anew": [INVOKE.replace('"append"', '"add"'), INVOKE.replace("0,", "5,", 1)],
    "cut": [INVOKE[:-9]],
    "deep": [INVOKE.replace('"x"', DEEP)],
    "deep aside": [INVOKE.replace('"process"', f'"time": {DEEP}, "process"')],
    "no end": ["{"],
}


@pytest.mark.parametrize("case", WRONG_LINES)
@pytest.mark.parametrize("suffix", [".jsonl", ".edn"])
def test_the_line_of_a_mistake_is_counted_from_one(tmp_path: Path, suffix: str, case: str) -> None:
    # Two good lines, then an empty one, then the mistake: line 4.
    good = INVOKE.replace("0,", "1,", 1).replace('process": 0', 'process": 7')
    lines = [good, OK.replace("1,", "2,", 1).replace('process": 0', 'process": 7'), "\n"]
    lines += [x.replace('"index": 0', '"index": 3').replace('"index": 1', '"index": 4')
              for x in WRONG_LINES[case]]  # fmt: skip
    text = "".join(lines)
    if suffix == ".edn":
        text = re.sub(r'"(\w+)":', r":\1", text)
    (tmp_path / f"h{suffix}").write_text(text)
    with pytest.raises(HistoryError) as raised:
        read_history(tmp_path / f"h{suffix}")
    assert " line 4: " in str(raised.value), str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("text", [DEEP, "{:a " * 5000, '{"a":' * 5000, f'[{{"value": {DEEP}}}]'])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".edn"])
def test_what_is_nested_without_end_is_one_sentence(tmp_path: Path, suffix: str, text: str) -> None:
    (tmp_path / f"h{suffix}").write_text(text)
    with pytest.raises(HistoryError):
        read_history(tmp_path / f"h{suffix}")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".edn"])
@pytest.mark.parametrize("place", ['"invoke"', '"x"'])
def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path, suffix: str, place: str) -> None:
    raw = (INVOKE + OK).encode().replace(place.encode(), place.encode()[:-1] + b'\xeb"')
    (tmp_path / f"h{suffix}").write_bytes(raw)
    with pytest.raises(HistoryError, match="no text in UTF-8"):
        read_history(tmp_path / f"h{suffix}")


@pytest.mark.parametrize("text", ["{:type :ok", "[1 2}", "{:a}"])
def test_wrong_edn_is_told_by_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.edn").write_text("\n" + text)
    with pytest.raises(HistoryError, match="line 2"):
        read_history(tmp_path / "h.edn")


def test_a_cut_columnar_file_and_a_missing_one_are_told(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    generate(50, seed=1).save(path)
    assert len(load(path)) == 50
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(HistoryError, match="no whole columnar history"):
        load(path)
    with pytest.raises(HistoryError, match="there is no such file"):
        load(tmp_path / "other.npz")


COLUMNS = ("op_start", "op_key", "op_kind", "op_value", "op_length", "txn_session", "txn_outcome")


@pytest.mark.parametrize("model", ["list-append", "rw-register"])
def test_a_columnar_file_whose_columns_do_not_fit_is_told(tmp_path: Path, model: str) -> None:
    path = tmp_path / HISTORY_FILE
    for name in COLUMNS:
        history = generate(50, seed=1, model=model)
        setattr(history, name, getattr(history, name)[:-1])
        history.save(path)
        with pytest.raises(HistoryError, match="no whole columnar history"):
            load(path)
    history.txn_outcome = generate(50, seed=1, model=model).txn_outcome
    history.keys = history.keys[:-1]
    history.save(path)
    with pytest.raises(HistoryError, match="has no name"):
        load(path)
    for other in ({"a": np.zeros(3)}, {"names": np.frombuffer(b"[1]", np.uint8)}):
        np.savez(path, **other)
        with pytest.raises(HistoryError, match="no whole columnar history"):
            load(path)


def test_a_write_of_nil_and_an_unknown_verb_are_refused() -> None:
    with pytest.raises(ValueError, match="nil can't be written"):
        Builder("rw-register").add("a", 0, 1, "committed", [("w", "x", None)])
    with pytest.raises(ValueError, match="is not one of"):
        Builder("rw-register").add("a", 0, 1, "committed", [("append", "x", 1)])


def _work(path: Path, number: int) -> None:
    recorder = HistoryRecorder(path, "list-append", session=f"w{number}", database="test")
    for i in range(20):
        recorder.begin(time.monotonic_ns(), [("append", "x", number * 100 + i), ("r", "y", None)])
        ops = [("append", "x", number * 100 + i), ("r", "y", [])]
        recorder.end(time.monotonic_ns(), "committed" if i % 2 else "conflict", ops)
    recorder.begin(time.monotonic_ns(), [("append", "x", -number)])
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_records_merge_and_a_killed_writer_is_unknown_not_failed(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    paths = [tmp_path / f"worker-{i}.jsonl" for i in (1, 2)]
    workers = [spawn.Process(target=_work, args=(path, i)) for i, path in enumerate(paths, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    with open(paths[0], "ab") as file:
        file.write(b'["end",20,5')  # killed inside write(2)
    history = merge(paths)
    assert len(history) == 42
    assert sorted(history.sessions) == ["w1", "w2"]
    assert history.databases == ["test"]
    assert [history.ops(i)[0][2] for i in range(42) if history.txn_outcome[i] == 3] in (
        [-1, -2],
        [-2, -1],
    )
    assert (history.txn_begin[1:] >= history.txn_begin[:-1]).all()
    ended = history.txn_outcome != 3
    assert (history.txn_end[ended] >= history.txn_begin[ended]).all()


def test_a_record_that_ends_without_a_begin_is_told(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.jsonl"
    recorder = HistoryRecorder(path, "list-append", session="w0")
    recorder.end(5, "committed", [])
    recorder.close()
    with pytest.raises(HistoryError, match=r"line 2: transaction w0\.0 finishes but never began"):
        merge([path])
    with pytest.raises(HistoryError, match="no worker left a record"):
        merge([])


def test_transactions_added_in_any_order_are_kept_in_order_of_begin() -> None:
    history = parse(["b 5-6 ok append:x:2", "a 1-2 ok append:x:1 r:x:[1]"], "list-append")
    assert history.ops(0) == [("append", "x", 1), ("r", "x", [1])]
    assert history.ops(1) == [("append", "x", 2)]


def test_a_pipe_in_place_of_a_columnar_history_is_one_sentence_and_not_waited_for(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "history.npz")
    with pytest.raises(HistoryError, match=r"history\.npz"):
        read_history(tmp_path / "history.npz")
