"""Histories as others write them: what is read, what refuses nothing, and what differs by type."""

from __future__ import annotations

import io
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.cli.check import run_check
from properties.checker import Verdict, check, report
from properties.checker.brute_force import BruteForce
from properties.checker.examples import parse
from workloads.errors import HistoryError
from workloads.records import Builder, Literal, Unordered, elle_lines, read_history, show
from workloads.records import elle as elle_files
from workloads.records import history_log as records
from workloads.records.elle import write_history

STRICT = "strict-serializable"


def judged(folder: Path, name: str, text: str | bytes) -> Verdict:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return check(read_history(path))


def answer_to(folder: Path, name: str, text: str | bytes) -> str:
    """The sentence by which a file is refused."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    out = io.StringIO()
    assert run_check([path], out=out) == 2, out.getvalue()
    (line,) = out.getvalue().splitlines()
    assert line.startswith(str(path))
    return line


def op(kind: str, process: int, value: str, more: str = "", f: str = "txn") -> str:
    return f"{{:type :{kind}, :f :{f}, :value {value}, :process {process}{more}}}"


def both(process: int, invoked: str, done: str, f: str = "txn") -> list[str]:
    return [op("invoke", process, invoked, f=f), op("ok", process, done, f=f)]


GARBAGE = [*both(0, "[[:append 9 1]]", "[[:append 9 1]]"), *both(1, "[[:r 9 nil]]", "[[:r 9 [7]]]")]
MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


# -- as Clojure and Jepsen print -----------------------------------------------------------------

LAID_OUT = {
    "a map a line": "{}",
    "a vector": "[{}]",
    "a list": "({})",
    "a list with more before it": "; a comment\n  ({})\n",
    "a record's tag": "#jepsen.history.DenseHistory [{}]",
    "a byte-order mark": MARK + "{}",
    "a byte-order mark and a list": MARK + "({})",
    "something left out": '#_ {{:type "none"}} ({} #_ [1 2])',
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_a_history_is_the_same_however_it_is_laid_out(tmp_path: Path, layout: str) -> None:
    verdict = judged(tmp_path, "h.edn", LAID_OUT[layout].format("\n ".join(GARBAGE)))
    assert "garbage-read" in verdict.anomalies
    assert len(verdict.history) == 2


@pytest.mark.parametrize("name", ["h.json", "h.jsonl"])
def test_a_byte_order_mark_is_no_part_of_a_json_history(tmp_path: Path, name: str) -> None:
    write_history(
        parse(["a 0-1 ok append:x:1", "b 2-3 ok r:x:[7]"], "list-append"), tmp_path / name
    )
    text = MARK + (tmp_path / name).read_text()
    assert "garbage-read" in judged(tmp_path, name, text).anomalies


def test_a_mistake_in_a_list_is_told_by_its_line(tmp_path: Path) -> None:
    lines = ["(", *GARBAGE[:1], op("ok", 0, "[[:add 9 1]]"), ")"]
    assert "line 3: operation 'add' is not one of" in answer_to(tmp_path, "h.edn", "\n".join(lines))
    cut = "; first\n(" + GARBAGE[0][:-5]
    assert "line 2: '(' opens here and is never closed" in answer_to(tmp_path, "h.edn", cut)


@pytest.mark.parametrize("name", ["h.edn", "h.jsonl", "h.json"])
def test_utf_16_is_told_with_the_way_out(tmp_path: Path, name: str) -> None:
    assert "iconv -f UTF-16" in answer_to(tmp_path, name, "\n".join(GARBAGE).encode("utf-16"))


# -- every client operation, whatever its :f -----------------------------------------------------


@pytest.mark.parametrize("f", ["read", "write", "txn-append", "9"])
def test_an_operation_of_a_client_is_judged_whatever_its_f(tmp_path: Path, f: str) -> None:
    lines = [*GARBAGE[:2], *both(1, "[[:r 9 nil]]", "[[:r 9 [7]]]", f=f)]
    assert "garbage-read" in judged(tmp_path, "h.edn", "\n".join(lines)).anomalies
    text = "\n".join(
        json.dumps({"type": kind, "process": 1, "f": f, "value": [["r", "x", seen]]})
        for kind, seen in (("invoke", None), ("ok", [7]))
    )
    assert "garbage-read" in judged(tmp_path, "h.jsonl", text).anomalies


def test_a_long_fork_of_registers_under_other_names_is_found(tmp_path: Path) -> None:
    lines = [
        *both(0, "[[:r 0 nil] [:r 1 nil]]", "[[:r 0 1] [:r 1 nil]]", f="read"),
        *both(1, "[[:w 0 1]]", "[[:w 0 1]]", f="write"),
        *both(2, "[[:w 1 1]]", "[[:w 1 1]]", f="write"),
        *both(3, "[[:r 1 nil] [:r 0 nil]]", "[[:r 1 1] [:r 0 nil]]", f="read"),
    ]
    verdict = judged(tmp_path, "h.edn", f"[{' '.join(lines)}]")
    assert "G-nonadjacent" in verdict.anomalies
    assert verdict.levels["snapshot-isolation"] is False


def test_a_history_of_reads_alone_is_of_the_model_of_its_reads(tmp_path: Path) -> None:
    lines = both(0, "[[:r :x nil]]", "[[:r :x nil]]") + both(1, "[[:r :x nil]]", "[[:r :x 5]]")
    assert judged(tmp_path, "h.edn", "\n".join(lines)).history.model == "rw-register"
    # A text in another field is no operation.
    lines = [op("invoke", 0, "[[:w 1 1]]", more=", :error :append-entries-failed")]
    assert judged(tmp_path, "h.edn", "\n".join(lines)).history.model == "rw-register"


LOOKS_LIKE_ONE = (
    "[[:append 1 2]]",
    '"[[:append 1 2]]"',
    "nil ; [[:append 1 2]]\n",
    "#_ [:append 1 2] 3",
)


@pytest.mark.parametrize("more", LOOKS_LIKE_ONE)
def test_what_only_looks_like_an_operation_tells_of_no_model(tmp_path: Path, more: str) -> None:
    lines = [
        op("invoke", 0, "[[:r 9 nil] [:w 9 1]]", more=f", :error {more}"),
        op("ok", 0, "[[:r 9 nil] [:w 9 1]]", more=f", :error {more}"),
        *both(1, "[[:r 9 nil]]", "[[:r 9 1]]"),
    ]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert (verdict.history.model, verdict.levels[STRICT]) == ("rw-register", True)
    text = "\n".join(
        json.dumps({"error": [["append", 1, 2]], "type": kind, "process": 0, "value": value})
        for kind, value in (("invoke", [["r", "x", None]]), ("ok", [["r", "x", 7]]))
    )
    for name, whole in (("h.jsonl", text), ("h.json", f"[{text.replace(chr(10), ',')}]")):
        assert judged(tmp_path, name, whole).history.model == "rw-register"


def test_reads_before_the_first_write_are_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = both(0, "[[:r :x nil]]", "[[:r :x nil]]") * 20
    write = [op("invoke", 1, "[[:w :x 1]]"), op("info", 1, "nil"), *both(2, "[]", "[[:r :x 1]]")]
    (tmp_path / "h.edn").write_text("\n".join(reads + write))
    history = read_history(tmp_path / "h.edn")
    assert (history.model, len(history)) == ("rw-register", 22)
    assert check(history).levels[STRICT] is True
    # After very many that tell nothing it is taken for lists, and the write told by its line.
    monkeypatch.setattr(elle_files, "_MOST_WAITING", 20)
    assert "line 41: operation 'w' is not one of append" in answer_to(
        tmp_path, "h.edn", "\n".join(reads + write)
    )
    assert read_history(tmp_path / "h.edn", "rw-register").model == "rw-register"


def test_what_is_no_transaction_is_counted_by_kind_and_nothing_is_proven(tmp_path: Path) -> None:
    drain = [op("invoke", 5, "nil", f="drain"), op("ok", 5, "[1 2]", f="drain")]
    kill = [op("invoke", 6, "nil", f="kill"), op("info", 6, ":crashed", f="kill")]
    verdict = judged(tmp_path, "h.edn", "\n".join([*GARBAGE[:2], *drain, *kill, *drain]))
    assert set(verdict.levels.values()) == {"unknown"}
    assert [many for kind, many in verdict.unjudged.items() if ":f :drain" in kind] == [2]
    assert [many for kind, many in verdict.unjudged.items() if ":f :kill" in kind] == [1]
    # A value without a known writer may have been written by one of those.
    verdict = judged(tmp_path, "h.edn", "\n".join([*GARBAGE, *drain]))
    assert "garbage-read" not in verdict.anomalies
    assert "no operation wrote that was judged" in report(verdict, STRICT)


@pytest.mark.parametrize("f", ["txn", "write"])
def test_an_operation_of_another_model_is_refused_by_its_line_whatever_its_f(
    tmp_path: Path, f: str
) -> None:
    lines = [*GARBAGE[:2], *both(1, "[[:w 9 1]]", "[[:w 9 1]]", f=f)]
    assert "line 4: " in answer_to(tmp_path, "h.edn", "\n".join(lines))


EXPLAINED = {
    "a compare-and-set": (
        [("w", "1"), ("w", "2"), ("r", "2"), ("cas", "[2 1]"), ("r", "1")],
        "G-single-process",
    ),
    "another append": ([("append", "1"), ("add", "1"), ("r", "[1 1]")], "duplicate-elements"),
    "a delete": ([("w", "1"), ("delete", ":x"), ("r", "nil")], "G-single-process"),
    "a truncation": ([("append", "1"), ("truncate", "nil"), ("r", "[]")], "G-single-process"),
}


@pytest.mark.parametrize("what", EXPLAINED)
def test_what_an_operation_that_was_not_judged_may_explain_is_no_violation(
    tmp_path: Path, what: str
) -> None:
    steps, name = EXPLAINED[what]
    lines, without = [], []
    for f, value in steps:
        ours = f in ("w", "r", "append")
        operation = f"[[:{f} :x {value}]]" if ours else value
        pair = both(0, operation, operation, f="txn" if ours else f)
        lines += pair
        without += pair if ours else []
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert set(verdict.levels.values()) == {"unknown"} and not verdict.anomalies
    assert any("unless what was not judged explains it" in note for note in verdict.notes)
    # And without that operation it is one.
    verdict = judged(tmp_path, "h.edn", "\n".join(without))
    assert verdict.levels[STRICT] is False and name in verdict.anomalies


def test_what_a_transaction_shows_by_itself_nothing_explains(tmp_path: Path) -> None:
    own = both(0, "[[:w :x 1] [:r :x nil]]", "[[:w :x 1] [:r :x nil]]")
    drain = both(1, "nil", "[1 2]", f="drain")
    verdict = judged(tmp_path, "h.edn", "\n".join([*own, *drain]))
    assert "internal" in verdict.anomalies and verdict.levels["read-atomic"] is False


@pytest.mark.parametrize("ends", ["fail", "info"])
def test_that_nothing_was_committed_is_told(tmp_path: Path, ends: str) -> None:
    lines = [op("invoke", 0, "[[:append :x 1]]"), op(ends, 0, "[[:append :x 1]]")]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert "note: nothing was committed: what holds, holds of nothing" in report(verdict, STRICT)
    more = both(1, "[[:append :x 2]]", "[[:append :x 2]]")
    verdict = judged(tmp_path, "h.edn", "\n".join([*lines, *more]))
    assert "nothing was committed" not in report(verdict, STRICT)


def test_under_the_name_of_a_transaction_it_is_refused_by_its_line(tmp_path: Path) -> None:
    lines = [*GARBAGE[:2], op("invoke", 1, "nil"), op("ok", 1, "5")]
    assert "line 4: its value must be a list of operations" in answer_to(
        tmp_path, "h.edn", "\n".join(lines)
    )


def test_the_nemesis_is_no_client_and_is_told(tmp_path: Path) -> None:
    lines = [*GARBAGE[:2]]
    lines.insert(1, '{:type :info, :process :nemesis, :f :start, :value {["n1" "n2"] #{"n3"}}}')
    lines.insert(2, '{:type :info, :process "nemesis", :f :txn, :value {:a 1/2}, :index "none"}')
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert set(verdict.levels.values()) == {True}
    assert verdict.notes == ["2 operations of the nemesis are no transactions"]


# -- what nobody reads ---------------------------------------------------------------------------

UNREAD = {
    "object": '#object[java.lang.Object 0x1a2b "java.lang.Object@1a2b"]',
    "old object": "#<Object java.lang.Object@1a2b>",
    "ratio": "[1/3 -7/2 {1/2 3/4}]",
    "hexadecimal": "0x1a2b",
    "collections as keys": "{[1 2] {:a #{3}}, {:b nil} [], #{} (), nil nil}",
    "tagged": '[#inst "2026-01-01" #uuid "0" #my/record{:a 1} #:name{:b 2}]',
    "characters": r"[\a \newline \u0041 \( \; \space]",
    "pattern": '[#"[a-z]+" #\'user/x]',
    "decimals": "[1.50M 10N -3E-7M ##NaN ##-Inf 1e999]",
    "huge": "[" + "9" * 5000 + " 1." + "7" * 5000 + "]",
    "half a character": r'"\ud83d" ',
    "metadata": "^{:line 3} [4]",
    "left out": "#_ #_ 1 2 3",
    "odd symbols": "[-> <= a.b/c' $ % & |x| @y]",
    "commas": ",,, [1,,2],",
}
UNREAD_IN_JSON = {
    "not a number": b"NaN",
    "infinity": b"[Infinity, -Infinity, 1e999]",
    "huge": b"9" * 5000,
    "half a character": rb'"\ud83d"',
    "control characters": b'"a\x01\x1b[2J"',
    "no text": b'"\xff\xfe\xc3"',
    "objects": b'{"a": {"b": [null, true, {}]}}',
}


@pytest.mark.parametrize("what", UNREAD)
def test_a_field_that_nobody_reads_refuses_nothing_in_edn(tmp_path: Path, what: str) -> None:
    more = f", :error {UNREAD[what]}"
    lines = [
        op("invoke", 0, "[[:append 9 1]]", more=f", :time {UNREAD[what]}"),
        op("ok", 0, "[[:append 9 1]]", more=more).replace(
            "{:type", f"{{:latency {UNREAD[what]} :type"
        ),
    ]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert set(verdict.levels.values()) == {True}, verdict
    assert judged(tmp_path, "h.edn", f"({' '.join(lines)})").levels == verdict.levels


@pytest.mark.parametrize("what", UNREAD_IN_JSON)
@pytest.mark.parametrize("name", ["h.json", "h.jsonl"])
def test_a_field_that_nobody_reads_refuses_nothing_in_json(
    tmp_path: Path, name: str, what: str
) -> None:
    start = b'{"process": 0, "value": [["append", "x", 1]], "time": ' + UNREAD_IN_JSON[what]
    lines = [start + b', "type": "%s"}' % kind for kind in (b"invoke", b"ok")]
    text = b"[" + b",\n".join(lines) + b"]" if name == "h.json" else b"\n".join(lines)
    assert set(judged(tmp_path, name, text).levels.values()) == {True}
    # But a line that is cut is told, and so is what is read.
    assert "cut or no JSON" in answer_to(tmp_path, name, text[:-3])
    if b"\xff" in text:
        bad = text.replace(b'"x"', b'"\xff"')
        assert "no text in UTF-8" in answer_to(tmp_path, name, bad)


# -- types ---------------------------------------------------------------------------------------

ALIKE: tuple[Any, ...] = (1, 1.0, True, "1", "true", 0, False, -0.0, 0.0, None, "nil")
ALIKE_IN_EDN = (
    *(":x", '"x"', "x", '":x"', "1", "1.0", "true", '"1"', '"true"', ":true", "[1]", '"[1]"'),
    *("{:a 1}", "{:a 1.0}", '{"a" 1}', "#{1}", "1/2", "1.0M", r"\x", "#inst \"x\"", "##NaN"),
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".npz", ".edn"])
def test_keys_that_only_look_alike_are_different(tmp_path: Path, suffix: str) -> None:
    builder = Builder("list-append")
    builder.add("a", 0, 1, "committed", [("append", key, i) for i, key in enumerate(ALIKE)])
    builder.add("b", 2, 3, "committed", [("r", key, [i]) for i, key in enumerate(ALIKE)])
    write_history(builder.build(), tmp_path / f"h{suffix}")
    verdict = check(read_history(tmp_path / f"h{suffix}"))
    assert set(verdict.levels.values()) == {True}, report(verdict, STRICT)
    assert len(verdict.history.keys) == len(ALIKE)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".npz", ".edn"])
@pytest.mark.parametrize("model", ["list-append", "rw-register"])
def test_values_that_only_look_alike_are_different(tmp_path: Path, suffix: str, model: str) -> None:
    values = [value for value in ALIKE if value is not None]
    for seen, name in ((values, None), ([*values[:1], values[2], *values[1:2]], "incompatible")):
        builder = Builder(model)
        for i, value in enumerate(values):
            f = "append" if model == "list-append" else "w"
            builder.add("a", 2 * i, 2 * i + 1, "committed", [(f, "x", value)])
            answer = seen[: i + 1] if model == "list-append" else seen[min(i, len(seen) - 1)]
            builder.add("b", 2 * i + 1, 2 * i + 2, "committed", [("r", "x", answer)])
        write_history(builder.build(), tmp_path / f"h{suffix}")
        verdict = check(read_history(tmp_path / f"h{suffix}"))
        assert (verdict.levels[STRICT] is False) == bool(name), report(verdict, STRICT)
        assert len({show(value) for value in values}) == len(values)


def test_everything_of_edn_is_a_key_and_a_value_of_its_own(tmp_path: Path) -> None:
    appends = " ".join(f"[:append {key} {key}]" for key in ALIKE_IN_EDN)
    reads = " ".join(f"[:r {key} [{key}]]" for key in ALIKE_IN_EDN)
    lines = [*both(0, f"[{appends}]", f"[{appends}]"), *both(1, f"[{reads}]", f"[{reads}]")]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert set(verdict.levels.values()) == {True}, report(verdict, STRICT)
    history = verdict.history
    assert len(history.keys) == len(ALIKE_IN_EDN) == len({show(key) for key in history.keys})
    for suffix in (".edn", ".npz"):
        write_history(history, tmp_path / f"again{suffix}")
        again = read_history(tmp_path / f"again{suffix}")
        assert [again.ops(i) for i in (0, 1)] == [history.ops(i) for i in (0, 1)]
    with pytest.raises(HistoryError, match="JSON can't tell :x from x"):
        write_history(history, tmp_path / "again.jsonl")


def test_maps_and_sets_are_the_same_in_any_order(tmp_path: Path) -> None:
    write = "[[:append {:a 1, :b #{1 2}} {:c 1, :d 2}]]"
    read = "[[:r {:b #{2 1} :a 1} [{:d 2 :c 1}]]]"
    lines = [*both(0, write, write), *both(1, read, read)]
    assert set(judged(tmp_path, "h.edn", "\n".join(lines)).levels.values()) == {True}


def test_an_explanation_tells_types_apart(tmp_path: Path) -> None:
    append = '[[:append :x 1] [:append "x" 2] [:append :x "1"]]'
    lines = [*both(0, append, append), *both(1, '[[:r "x" nil]]', '[[:r "x" [1]]]')]
    text = report(judged(tmp_path, "h.edn", "\n".join(lines)), STRICT)
    assert 'append :x 1, append x 2, append :x "1"' in text
    assert "T1 read 1 in x, which nobody appended" in text


@pytest.mark.parametrize("suffix", [".edn", ".npz"])
def test_sessions_that_only_look_alike_are_different(tmp_path: Path, suffix: str) -> None:
    names = (1, 1.0, True, "1", Literal(":a"), "a")
    builder = Builder("list-append")
    for i, name in enumerate(names):  # one session: it would not see what it wrote itself
        builder.add(name, 0, 9, "committed", [("append", i, i), ("r", (i + 1) % len(names), [])])
    write_history(builder.build(), tmp_path / f"h{suffix}")
    history = read_history(tmp_path / f"h{suffix}")
    assert list(map(show, history.sessions)) == list(map(show, names))
    assert check(history).levels["strong-session-snapshot-isolation"] is True


# -- repeated values -----------------------------------------------------------------------------


def test_a_session_that_does_not_see_what_it_appended_twice_violates_its_order() -> None:
    lines = ["a 0-1 ok append:y:1", "a 2-3 ok append:y:1", "a 4-5 ok r:y:[]"]
    verdict = check(parse(lines, "list-append"))
    for level in ("strong-session-serializable", "strong-session-snapshot-isolation", STRICT):
        assert verdict.levels[level] is False
    for level in ("serializable", "snapshot-isolation", "repeatable-read", "read-committed"):
        assert verdict.levels[level] == "unknown"
    # Also where the value was read by then, and where another session appended it, too.
    others = ["b 6-7 ok append:y:1", "b 8-9 ok r:y:[1,1,1]"]
    assert check(parse(lines + others, "list-append")).levels[STRICT] is False


def test_no_intermediate_read_is_made_of_a_value_that_several_appended() -> None:
    # 1 may be the last that T appended: it did so after 2, and so did another.
    lines = [
        "a 0-9 ok append:x:2 append:x:1",
        "b 0-9 ok append:x:1",
        "c 0-9 ok r:x:[2,1]",
        "d 0-9 ok r:x:[2,1,1]",
    ]
    history = parse(lines, "list-append")
    assert BruteForce(history).levels()[STRICT]
    assert set(check(history).levels.values()) == {True}
    # And where it is certain, it is told: none of the two 1 is there.
    verdict = check(parse([*lines[:2], "c 0-9 ok r:x:[2]"], "list-append"))
    assert "G1b" in verdict.anomalies
    assert verdict.levels["read-committed"] is False


@pytest.mark.parametrize("model", ["list-append", "rw-register"])
def test_repeated_values_are_told_with_how_many(model: str) -> None:
    f, seen = ("append", "[1,1]") if model == "list-append" else ("w", "1")
    lines = [f"a 0-1 ok {f}:x:1", f"b 0-1 ok {f}:x:1", f"c 2-3 ok {f}:y:2", f"d 0-1 ok r:x:{seen}"]
    verdict = check(parse([*lines, "e 4-5 ok r:y:" + ("[]" if "[" in seen else "nil")], model))
    (kind,) = verdict.unjudged
    assert "more than once (1 to x)" in kind
    assert verdict.unjudged[kind] == 1
    assert True not in verdict.levels.values()
    assert f"not judged: 1 {kind}" in report(verdict, STRICT)


def test_a_value_that_stands_there_more_often_than_it_was_committed_was_aborted() -> None:
    lines = ["a 0-1 fail append:x:1", "b 2-3 ok append:x:1", "c 4-5 ok r:x:[1,1]"]
    verdict = check(parse(lines, "list-append"))
    assert verdict.levels["read-committed"] is False
    assert "G1a" in verdict.anomalies
    assert check(parse([*lines[:2], "c 4-5 ok r:x:[1]"], "list-append")).levels[STRICT] is True


# -- sets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["#{2 1}", "#{1 2}"])
def test_no_order_is_drawn_from_a_set(tmp_path: Path, answer: str) -> None:
    lines = [
        *both(0, "[[:append :x 1]]", "[[:append :x 1]]"),
        *both(0, "[[:append :x 2]]", "[[:append :x 2]]"),
        *both(1, "[[:r :x nil]]", f"[[:r :x {answer}]]"),
    ]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert not verdict.anomalies
    assert set(verdict.levels.values()) == {"unknown"}
    assert list(verdict.unjudged.values()) == [1]
    assert "set" in next(iter(verdict.unjudged))
    write_history(verdict.history, tmp_path / "h.npz")
    again = read_history(tmp_path / "h.npz")
    assert again.ops(2) == [
        ("r", Literal(":x"), Unordered([2, 1] if answer < "#{2" else [1, 2]))
    ] or (sorted(again.ops(2)[0][2]) == [1, 2])
    assert check(again).levels == verdict.levels


SETS = {
    "garbage": ("#{1 7}", "garbage-read", "T1 read 7 in :x, which nobody appended: #{1 7}"),
    "not seen": ("#{}", "G-single-realtime", "read :x = #{} and did not observe"),
}


@pytest.mark.parametrize("case", SETS)
def test_what_a_set_proves_is_told(tmp_path: Path, case: str) -> None:
    answer, name, why = SETS[case]
    lines = [
        *both(0, "[[:append :x 1]]", "[[:append :x 1]]"),
        *both(1, "[[:r :x nil]]", f"[[:r :x {answer}]]"),
    ]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert name in verdict.anomalies
    assert why in report(verdict, STRICT)


def test_a_read_answered_with_a_printed_object_is_not_known(tmp_path: Path) -> None:
    lazy = '#object[clojure.lang.LazySeq 0x7c0 "clojure.lang.LazySeq@7c0"]'
    lines = [*GARBAGE[:2], *both(1, "[[:r 9 nil]]", f"[[:r 9 {lazy}]]")]
    verdict = judged(tmp_path, "h.edn", "\n".join(lines))
    assert verdict.unjudged == {"reads whose answer is not known": 1}
    assert set(verdict.levels.values()) == {"unknown"}


# -- numbers -------------------------------------------------------------------------------------

OVERFLOWS = {
    "a string behind it": ("[1]", '"a"', "garbage-read"),
    "62 bits": ("[4611686018427387904]", "4611686018427387904", ""),
    "as if it were a name": ("[4611686018427387904]", '"a"', "garbage-read"),
    "below": ("[-4611686018427387904]", "-4611686018427387904", ""),
    "64 bits": ("[18446744073709551615]", "18446744073709551615", ""),
    "100 bits": ("[-1267650600228229401496703205376]", "-1267650600228229401496703205376", ""),
    "5,000 digits": (f"[{'9' * 5000}]", "9" * 5000, ""),
    "another of 5,000 digits": (f"[{'9' * 4999}8]", "9" * 5000, "garbage-read"),
    "no number": ("[NaN]", "NaN", ""),
    "beyond all": ("[1e999]", "-1e999", "garbage-read"),
    "far apart": ("[-4611686018427387903]", "4611686018427387903", "garbage-read"),
}


@pytest.mark.parametrize("case", OVERFLOWS)
def test_a_number_of_any_size_is_a_value_as_any_other(tmp_path: Path, case: str) -> None:
    seen, written, name = OVERFLOWS[case]
    lines = [
        f'{{"type": "{kind}", "process": 0, "value": [["append", "x", {written}]]}}'
        for kind in ("invoke", "ok")
    ]
    lines += [
        '{"type": "invoke", "process": 1, "value": [["r", "x", null]]}',
        f'{{"type": "ok", "process": 1, "value": [["r", "x", {seen}], ["append", "x", "b"]]}}',
    ]
    for suffix in ("jsonl", "json"):
        text = "\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]"
        verdict = judged(tmp_path, f"h.{suffix}", text)
        assert list(verdict.anomalies)[:1] == ([name] if name else []), report(verdict, STRICT)
        assert (verdict.levels[STRICT] is True) == (not name)
    if "e" not in written and "N" not in written:
        lines = [*both(0, f"[[:append :x {written}]]", f"[[:append :x {written}]]")]
        lines += both(1, "[[:r :x nil]]", f"[[:r :x {seen}]]")
        assert (judged(tmp_path, "h.edn", "\n".join(lines)).levels[STRICT] is True) == (not name)


@pytest.mark.parametrize("digits", [999, 1000, 1233, 1234, 1300, 4299, 4300, 4301, 9000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_long_number_is_one_value_whatever_stands_beside_it(
    tmp_path: Path, digits: int, sign: str
) -> None:
    number = sign + "9" * digits
    lines = [
        '{"type": "invoke", "process": 0, "value": [["append", %s, %s]]}',
        '{"type": "ok", "process": 0, "value": [["append", %s, %s]], "error": NaN}',
        '{"type": "invoke", "process": 1, "value": [["r", %s, null]], "error": "%.0s"}',
        '{"type": "ok", "process": 1, "value": [["r", %s, [%s]]]}',
    ]
    text = "\n".join(line % (number, number) for line in lines)
    assert judged(tmp_path, "h.jsonl", text).levels[STRICT] is True
    assert judged(tmp_path, "h.json", f"[{text.replace(chr(10), ', ')}]").levels[STRICT] is True
    write = f"[[:append {number} {number}N]]"
    read = both(1, f"[[:r {number}N nil]]", f"[[:r {number} [{number}]]]")
    verdict = judged(tmp_path, "h.edn", "\n".join(both(0, write, write) + read))
    assert verdict.levels[STRICT] is True
    for suffix in (".edn", ".npz"):
        write_history(verdict.history, tmp_path / f"again{suffix}")
        assert check(read_history(tmp_path / f"again{suffix}")).levels == verdict.levels


@pytest.mark.parametrize(
    "index", ["99999999999999999999", "9" * 5000, "1.5", '"7"', "4611686018427387904"]
)
def test_an_index_that_is_none_is_told_by_its_line(tmp_path: Path, index: str) -> None:
    text = f'{{"index": {index}, "type": "invoke", "process": 0, "value": [["w", "x", 7]]}}'
    assert "line 2: index " in answer_to(tmp_path, "h.jsonl", "\n" + text)
    assert len(answer_to(tmp_path, "h.jsonl", text)) < 300
    edn = f"{{:index {index}, :type :invoke, :process 0, :value [[:w :x 7]]}}"
    assert "line 1: index " in answer_to(tmp_path, "h.edn", edn)


# -- what is told --------------------------------------------------------------------------------


def test_what_is_not_judged_is_told_in_text_json_and_drawing(tmp_path: Path) -> None:
    lines = [*GARBAGE, *both(2, "[[:r 9 nil]]", "[[:r 9 #{1}]]")]
    (tmp_path / "h.edn").write_text("\n".join(lines))
    out = io.StringIO()
    run_check([tmp_path / "h.edn"], out=out, svg_file=tmp_path / "h.svg")
    assert "not judged: 1 reads of a list that were answered with a set" in out.getvalue()
    assert "not judged: 1 reads of a list" in (tmp_path / "h.svg").read_text()
    out = io.StringIO()
    run_check([tmp_path / "h.edn"], out=out, as_json=True)
    assert list(json.loads(out.getvalue())["unjudged"].values()) == [1]


def test_what_was_skipped_in_a_folder_is_not_valid(tmp_path: Path) -> None:
    write_history(parse(["a 0-1 ok append:x:1"], "list-append"), tmp_path / "fine.jsonl")
    assert run_check([tmp_path], out=io.StringIO()) == 0
    (tmp_path / "cut.jsonl").write_text('{"type": "inv')
    out = io.StringIO()
    assert run_check([tmp_path], out=out) == 3
    assert "skipped: " in out.getvalue()


@pytest.mark.parametrize("option", ["sequential_keys", "linearizable_keys"])
def test_an_option_that_does_nothing_for_the_model_is_refused(tmp_path: Path, option: str) -> None:
    write_history(parse(["a 0-1 ok append:x:1"], "list-append"), tmp_path / "lists.jsonl")
    write_history(parse(["a 0-1 ok w:x:1"], "rw-register"), tmp_path / "registers.jsonl")
    out = io.StringIO()
    assert run_check([tmp_path / "lists.jsonl"], out=out, **{option: True}) == 2  # type: ignore[arg-type]
    text = out.getvalue()
    assert f"--{option.replace('_', '-')} does nothing for list-append" in text
    assert "Leave the option out" in text
    assert "valid" not in text
    only = [tmp_path / "registers.jsonl"]
    assert run_check(only, out=io.StringIO(), **{option: True}) == 0  # type: ignore[arg-type]
    # The option decides the model of a history whose operations do not tell it.
    (tmp_path / "nothing.edn").write_text("\n".join(both(0, "[[:r 9 nil]]", "[[:r 9 nil]]")))
    assert run_check([tmp_path / "nothing.edn"], out=io.StringIO(), **{option: True}) == 0  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing of keys"):
        check(parse(["a 0-1 ok append:x:1"], "list-append"), **{option: True})


@pytest.mark.parametrize("effort", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_an_effort_that_is_none_is_refused(tmp_path: Path, effort: float) -> None:
    write_history(parse(["a 0-1 ok w:x:1"], "rw-register"), tmp_path / "h.jsonl")
    out = io.StringIO()
    assert run_check([tmp_path / "h.jsonl"], out=out, effort=effort) == 2
    assert out.getvalue().count("\n") == 1 and "Give a number above 0" in out.getvalue()
    assert run_check([tmp_path / "h.jsonl"], out=io.StringIO(), effort=0.5) == 0


def test_a_drawing_that_is_named_as_a_history_is_refused_before_anything_is_judged(
    tmp_path: Path,
) -> None:
    write_history(parse(["a 0-1 ok append:x:1"], "list-append"), tmp_path / "h.jsonl")
    out = io.StringIO()
    assert run_check([tmp_path / "h.jsonl"], out=out, svg_file="drawing.edn") == 2
    assert out.getvalue().startswith("drawing.edn: is named as a history is")


SPY = "\x1b[2J\x1b]0;title\x07\u202e</text><script>alert(1)</script>\x00&amp;\n# heading"


@pytest.mark.parametrize("suffix", [".jsonl", ".edn", ".npz"])
def test_text_of_a_history_is_data_on_screen_in_json_and_in_the_drawing(
    tmp_path: Path, suffix: str
) -> None:
    builder = Builder("list-append")
    builder.add(SPY, 0, 9, "committed", [("r", SPY, []), ("append", SPY + "y", SPY)])
    builder.add("b", 0, 9, "committed", [("r", SPY + "y", []), ("append", SPY, SPY + "!")])
    builder.notes.append(SPY) if suffix == ".npz" else None
    write_history(builder.build(), tmp_path / f"h{suffix}")
    out = io.StringIO()
    assert run_check([tmp_path / f"h{suffix}"], out=out, svg_file=tmp_path / "h.svg") == 1
    drawing = (tmp_path / "h.svg").read_text()
    for text in (out.getvalue(), drawing):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert not any(line.startswith("# heading") for line in text.splitlines())
    assert "<script" not in drawing
    out = io.StringIO()
    run_check([tmp_path / f"h{suffix}"], out=out, as_json=True)
    (line,) = out.getvalue().splitlines()
    assert line.isascii() and line.isprintable()
    json.loads(line)


# -- files that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".edn", ".json", ".jsonl", ".npz"])
def test_what_is_no_file_is_one_sentence_and_nobody_waits(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        out = io.StringIO()
        assert run_check([tmp_path / f"{name}{suffix}"], out=out) == 2
        assert "and no file" in out.getvalue()
    out = io.StringIO()
    assert run_check([tmp_path], out=out) == 2
    assert "pipe" in out.getvalue() and "skipped" in out.getvalue()
    assert run_check([tmp_path / ("n" * 300 + suffix)], out=out) == 2


def test_a_parquet_file_is_no_history(tmp_path: Path) -> None:
    assert "a history's name ends in" in answer_to(tmp_path, "h.parquet", b"PAR1\x00\x00PAR1")


@pytest.mark.parametrize("suffix", [".edn", ".json", ".jsonl"])
def test_a_file_without_an_end_is_told_before_it_is_read(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elle_files, "MOST_WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr(elle_lines, "MOST_LINE_BYTES", 1 << 20)
    monkeypatch.setattr(elle_lines, "CHUNK_BYTES", 1 << 16)
    path = tmp_path / f"h{suffix}"
    path.write_bytes(b"[" if suffix != ".jsonl" else b"{")
    for size in (1 << 30, 1 << 42):  # sparse: no disk is filled
        os.truncate(path, size)
        out = io.StringIO()
        assert run_check([path], out=out) == 2
        assert "has more than" in out.getvalue()


@pytest.mark.parametrize("suffix", [".edn", ".json", ".jsonl"])
def test_a_small_file_takes_little_memory(tmp_path: Path, suffix: str) -> None:
    write_history(parse(["a 0-1 ok append:x:1"], "list-append"), tmp_path / f"h{suffix}")
    tracemalloc.start()
    try:
        read_history(tmp_path / f"h{suffix}")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


SHAPES = {
    "a billion million rows": np.lib.format.header_data_from_array_1_0(np.zeros(1, np.int64))
    | {"shape": (10**15,)},
    "fewer than none": {"descr": "<i8", "fortran_order": False, "shape": (-5,)},
    "two dimensions": {"descr": "<i8", "fortran_order": False, "shape": (1, 1)},
    "objects": {"descr": "|O", "fortran_order": False, "shape": (1,)},
    "floats": {"descr": "<f8", "fortran_order": False, "shape": (1,)},
    "numbers in no order": {"descr": "<i8", "fortran_order": False, "shape": (3,)},
}


def test_the_record_of_a_worker_is_read_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "worker-000.history.jsonl"
    recorder = records.HistoryRecorder(path, "list-append", 0)
    recorder.begin(1, [["append", "x", 1]])
    recorder.close()
    path.write_bytes(path.read_bytes() + b'["begin", cut')
    assert len(records.merge([path])) == 1
    monkeypatch.setattr(records, "MOST_LINE_BYTES", 1 << 20)
    os.truncate(path, 1 << 42)
    with pytest.raises(HistoryError, match="line 3: has more than 1 MB"):
        records.merge([path])


HEADERS = {
    "never closed": "(" * 900,
    "closed": "[" * 900 + "]" * 900,
    "a call": "__import__('os')",
    "too long for a sentence": "{'a': " + "'b' " * 2000 + "}",
    "a number of all digits": "{'descr': '<i8', 'fortran_order': False, 'shape': ("
    + "9" * 5000
    + ",)}",
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_is_no_header_is_one_short_sentence(tmp_path: Path, what: str) -> None:
    header = HEADERS[what].encode() + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
    with zipfile.ZipFile(tmp_path / "forged.npz", "w") as forged:
        forged.writestr("names.npy", start + header)
    answer = answer_to(tmp_path, "h.npz", (tmp_path / "forged.npz").read_bytes())
    assert "no whole columnar history" in answer
    assert len(answer) < 500


@pytest.mark.parametrize("flag", [1, 0x40, 0x20])
def test_an_archive_with_a_password_is_one_sentence(tmp_path: Path, flag: int) -> None:
    parse(["a 0-1 ok append:x:1"], "list-append").save(tmp_path / "h.npz")
    data = bytearray((tmp_path / "h.npz").read_bytes())
    data[6], data[data.find(b"PK\x01\x02") + 8] = flag, flag
    (tmp_path / "h.npz").write_bytes(data)
    assert run_check([tmp_path / "h.npz"], out=io.StringIO()) in (0, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_array_is_made_that_the_file_does_not_hold(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "h.npz"
    parse(["a 0-1 ok append:x:1"], "list-append").save(path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, SHAPES[shape])
    members["txn_begin.npy"] = header.getvalue() + bytes(8)
    with zipfile.ZipFile(path, "w") as forged:
        for name, data in members.items():
            forged.writestr(name, data)
    assert "no whole columnar history" in answer_to(tmp_path, "h.npz", path.read_bytes())
    members["txn_begin.npy"] = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    assert "is compressed" in answer_to(tmp_path, "h.npz", path.read_bytes())


FORGED: dict[str, dict[str, Any]] = {
    "begins before the one before it": {"txn_begin": np.array([5, 4])},
    "ends before it begins": {"txn_end": np.array([-9, 9])},
    "reads share their elements": {"op_length": np.array([0, 3]), "op_value": np.array([1, 0])},
    "a value that has no name": {"op_value": np.array([2**62 + 7, 0])},
    "a key twice": {"keys": ["x", "x"]},
    "a name that is a value": {"others": [5]},
    "a set that nobody read": {"sets": {0: [1]}},
}


@pytest.mark.parametrize("what", FORGED)
def test_columns_that_can_not_be_are_one_sentence(tmp_path: Path, what: str) -> None:
    history = parse(["a 0-1 ok append:x:1", "b 2-3 ok r:x:[1]"], "list-append")
    for name, value in FORGED[what].items():
        setattr(history, name, value)
    history.save(tmp_path / "h.npz")
    text = (tmp_path / "h.npz").read_bytes()
    assert "no whole columnar history" in answer_to(tmp_path, "h.npz", text)
