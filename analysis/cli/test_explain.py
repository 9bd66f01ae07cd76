"""Anomalies in words, as timelines, and as drawings that any viewer can show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from analysis.cli.check import json_line
from properties.checker import check, explain, report, svg
from properties.checker.catalogue import CATALOGUE
from properties.checker.examples import parse
from properties.checker.explanations import timeline, witness_timeline
from properties.checker.verdict import elide
from workloads.records import Builder, History, Unordered

SKEW = """\
G2-item: write skew: each overwrote what the other had read (A5B) (Adya 1999, Weak Consistency)
Let:
  T1 = {r x [], append y 1} (worker a, transaction 0)
  T2 = {r y [], append x 1} (worker b, transaction 1)
Then:
  - T1 before T2, because T1 read x = [] and did not observe T2's append of 1.
  - However, T2 before T1, because T2 read y = [] and did not observe T1's append of 1: a \
contradiction!"""

SKEW_TIMELINE = """\
    a               b
1   T1 begins       |
      r x []        |
      append y 1    |
2   |               T2 begins
    |                 r y []
    |                 append x 1
3   T1 committed    |
4   |               T2 committed"""


def test_a_cycle_is_explained_in_elles_words() -> None:
    history = parse(CATALOGUE["G2-item"].example, "list-append")
    witness = check(history).anomalies["G2-item"][0]
    assert explain(history, witness) == SKEW
    squeezed = [" ".join(x.split()) for x in witness_timeline(history, witness).splitlines()]
    assert squeezed == [" ".join(x.split()) for x in SKEW_TIMELINE.splitlines()]


def test_a_timeline_of_any_schedule_has_a_column_for_each_session() -> None:
    drawn = timeline([("a", "begin"), ("b", "begin\nread"), ("a", "commit: ok")])
    lines = drawn.splitlines()
    assert lines[0].split() == ["a", "b"]
    columns = [lines[0].index("a"), lines[0].index("b")]
    assert [line[columns[0]] for line in lines[1:]] == ["b", "|", "|", "c"]
    assert [line[columns[1]] for line in lines[1:]] == ["|", "b", "r", "|"]


def test_long_lists_keep_their_ends_and_what_matters() -> None:
    assert elide(list(range(1000)), [500]) == "[0 1 … 499 500 501 … 998 999]"
    long = list(range(1, 3000))
    lines = [f"w{i} {2 * i}-{2 * i + 1} ok append:x:{i}" for i in long]
    lines += [
        f"z 9000-9001 ok r:x:{long}".replace(" ", "").replace("z9000-9001okr", "z 9000-9001 ok r"),
        f"y 9002-9003 ok r:x:{long[:1500]}".replace(", ", ","),
    ]
    history = parse(lines, "list-append")
    text = explain(history, check(history).anomalies["G-single-realtime"][0])
    assert "1500]" in text
    assert max(map(len, text.splitlines())) < 200


@pytest.mark.parametrize("name", [n for n, a in CATALOGUE.items() if a.example])
def test_every_anomaly_is_explained_and_drawn(name: str) -> None:
    history = parse(CATALOGUE[name].example, "list-append")
    witness = check(history).anomalies[name][0]
    text = explain(history, witness)
    assert text.startswith(name + ":")
    assert "(worker " in text
    assert "says so" not in text
    root = ET.fromstring(svg(history, witness))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}rect")) == len(set(witness.txns))
    assert len(root.findall(f"{space}path")) == len(witness.steps)
    assert "prefers-color-scheme" in (root.find(f"{space}style").text or "")  # type: ignore[union-attr]


def ring(count: int, name: str) -> History:
    """A cycle of so many anti-dependencies, on keys of this name."""
    builder = Builder("list-append")
    for i in range(count):
        seen = [("r", f"{name} {(i + 1) % count}", []), ("append", f"{name} {i}", i + 1)]
        others = [("append", f"{name} {i} {at}", 900 + at) for at in range(9 if i == 0 else 1)]
        builder.add(f"worker {i}", 2 * i, 100 + i, "committed", [*others, *seen])
    return builder.build()


@pytest.mark.parametrize("name", ["k", "a key of a user's own who likes them long, very long"])
@pytest.mark.parametrize("count", [*range(2, 9), 60])
def test_no_box_of_a_drawing_covers_another_and_every_text_fits(count: int, name: str) -> None:
    history = ring(count, name)
    (witness,) = check(history).anomalies["G2-item"][:1]
    root = ET.fromstring(svg(history, witness))
    space = "{http://www.w3.org/2000/svg}"
    size = ("x", "y", "width", "height")
    boxes = [[float(rect.attrib[a]) for a in size] for rect in root.iter(f"{space}rect")]
    assert len(boxes) == count
    for (x, y, width, height), (x2, y2, width2, height2) in combinations(boxes, 2):
        apart = x + width < x2 or x2 + width2 < x or y + height < y2 or y2 + height2 < y
        assert apart
    page = [float(root.attrib[a]) for a in ("width", "height")]
    for text in root.iter(f"{space}text"):
        small = text.attrib.get("font-size") == "11"
        left, down = float(text.attrib["x"]), float(text.attrib["y"])
        right = left + len(text.text or "") * (6.7 if small else 7.9)
        assert right <= page[0] and down <= page[1]
        inside = [b for b in boxes if b[0] < left < b[0] + b[2] and b[1] < down < b[1] + b[3]]
        assert all(right <= b[0] + b[2] for b in inside), text.text
    drawn = ET.tostring(root, encoding="unicode")
    assert "and 3 more" in drawn  # of the eleven, and none of those that matter
    assert "var(" not in drawn  # a viewer that does not know it would draw black boxes


def test_a_witness_of_very_many_transactions_is_told_and_drawn_in_little_time_and_space() -> None:
    history = ring(2000, "k")
    verdict = check(history)
    text = report(verdict, "serializable")
    assert "(no timeline: these are transactions of 2,000 sessions)" in text
    assert len(text) < 1_000_000
    (witness,) = verdict.anomalies["G2-item"][:1]
    assert svg(history, witness).count("<rect") == 2000
    assert len(json_line("h", verdict, "serializable")) < 3_000_000


def test_a_transaction_of_very_many_operations_is_told_by_those_that_matter() -> None:
    builder = Builder("list-append")
    many = [("append", f"other {i}", 1) for i in range(5000)]
    builder.add("a", 0, 9, "committed", [*many, ("r", "x", []), ("append", "y", 1)])
    builder.add("b", 0, 9, "committed", [*many[:1], ("r", "y", []), ("append", "x", 1)])
    text = report(check(builder.build()), "serializable")
    assert "r x [], append y 1, … and 4,902 more" in text
    assert len(text) < 30_000


def test_a_set_shows_what_matters_and_that_there_is_more() -> None:
    assert elide(Unordered(range(20)), [17]) == "#{0 1 10 11 12 13 14 17 …}"
    assert elide(Unordered(range(3))) == "#{0 1 2}"
