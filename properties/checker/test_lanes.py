"""A counterexample as lanes: every step is an arrow with its reason, and time keeps its order."""

from __future__ import annotations

import re
from functools import cache
from xml.etree import ElementTree

import pytest

from properties.checker.catalogue import CATALOGUE
from properties.checker.decide import check
from properties.checker.examples import parse
from properties.checker.explanations import reason
from properties.checker.lanes import MOST_LANE_TXNS, lanes_svg
from properties.checker.verdict import Witness


@cache
def drawn(name: str) -> tuple[ElementTree.Element, Witness, list[str]]:
    """The example's own witness as an SVG, and the reasons of its steps."""
    history = parse(CATALOGUE[name].example, "list-append")
    witness = check(history).anomalies[name][0]
    concerned = [*witness.txns, *(s.via for s in witness.steps if s.via >= 0)]
    names = {txn: f"T{i}" for i, txn in enumerate(dict.fromkeys(concerned), 1)}
    svg = ElementTree.fromstring(lanes_svg(history, witness))
    return svg, witness, [reason(history, step, names) for step in witness.steps]


EXAMPLES = ["G0-process", "G1a", "G1c", "G-single", "G2-item", "G2-item-realtime", "G-nonadjacent"]
"""Cycles of one session and of several, of two transactions and of four; and one that is none."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_step_is_an_arrow_that_can_be_come_to_and_says_its_reason(name: str) -> None:
    svg, witness, reasons = drawn(name)
    steps = [one for one in svg.iter() if one.get("class") == "step"]
    assert [one.get("data-step") for one in steps] == [str(i) for i in range(len(witness.steps))]
    for step, why in zip(steps, reasons, strict=True):
        assert step.get("tabindex") == "0"
        assert (step.get("aria-label") or "").endswith(f": {why}")
    boxes = [one for one in svg.iter("rect") if one.get("class") == "box"]
    assert len(boxes) == len({*witness.txns, *(s.via for s in witness.steps if s.via >= 0)})


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_stands_outside_the_drawing(name: str) -> None:
    svg, _, _ = drawn(name)
    width, height = (float(svg.get(side) or 0) for side in ("width", "height"))
    for box in svg.iter("rect"):
        x, y, wide, high = (float(box.get(side) or 0) for side in ("x", "y", "width", "height"))
        assert x >= 0 and x + wide <= width and y >= 0 and y + high <= height


def test_boxes_are_as_long_as_their_transactions_overlap() -> None:
    lines = ("a 0-5 ok append:x:1 r:y:[]", "b 1-2 ok r:x:[] append:y:1", "c 7-8 ok r:x:[1]")
    history = parse(lines, "list-append")
    svg = ElementTree.fromstring(lanes_svg(history, Witness("G2-item", [0, 1, 2])))
    boxes = [one for one in svg.iter("rect") if one.get("class") == "box"]
    spans = [(float(b.get("y") or 0), float(b.get("height") or 0)) for b in boxes]
    (a, a_high), (b, b_high), (c, _) = spans
    assert a < b and b + b_high < a + a_high < c


def test_a_witness_of_very_many_transactions_is_not_drawn() -> None:
    many = MOST_LANE_TXNS + 1
    lines = [f"s{i} {i}-{i + 1} ok append:x:{i}" for i in range(many)]
    history = parse(lines, "list-append")
    assert lanes_svg(history, Witness("G0", list(range(many)))) == ""
    assert lanes_svg(history, Witness("G0", list(range(many - 1))))


def test_text_of_a_history_is_text_in_its_lanes() -> None:
    history = parse(("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1]"), "list-append")
    history.keys[0] = '"><script>alert(1)</script>\u202e\x00'
    svg = lanes_svg(history, Witness("G1a", [0, 1]))
    ElementTree.fromstring(svg)
    assert "<script" not in svg and not re.search("[\x00-\x08\u202e]", svg)
