"""A witness as lanes: time runs down, a lane for each session, a box for each transaction.

A box reaches from where its transaction began to where it ended, so those that overlap in time
overlap on the page. The steps of a cycle are arrows between the very operations that cause them.
Each arrow can be pointed at or come to by keyboard, and then says its kind and its reason.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from properties.checker.drawing import FONT, LETTER, LINE, SMALL_LETTER, cut, paint, text_at, tip
from properties.checker.explanations import marks_of, op_lines, reason, where
from properties.checker.graph import KIND_NAMES, PROCESS, REALTIME, RW, RW_PREDICATE, Step
from properties.checker.verdict import Witness
from workloads.files import visible
from workloads.records import NEVER, TXN_OUTCOMES, History, show

MOST_LANE_TXNS = 40
"""Transactions of a drawing: of a longer cycle nobody could follow the arrows."""

MOST_OPS = 12
"""Operations in a box; of more their number is shown."""

MARGIN, GAP, STEP, HEAD = 14.0, 132.0, 12.0, 26.0  # px: around, between lanes, of time, of names
PAD = 10.0  # px within a box
REACH = 58.0  # px by which an arrow within one lane leaves it
APART = 3.0  # px by which an arrow from an operation is above one to it
CHIP_HEIGHT = 17.0  # px of an arrow's label


class Row(NamedTuple):
    """A line of a box: its operation, or -1."""

    op: int
    text: str


class Placed(NamedTuple):
    """A transaction's box: its lane, and its edges, px."""

    lane: int
    left: float
    top: float
    width: float
    bottom: float


def lanes_svg(history: History, witness: Witness) -> str:
    """The witness as lanes; "" for more transactions than can be drawn.

    The drawing is a part of an HTML page: it brings no style, and its arrows have no reasons
    without the page's list, whose items they name by `data-step`.
    """
    concerned = [*witness.txns, *(s.via for s in witness.steps if s.via >= 0)]
    txns = list(dict.fromkeys(concerned))
    if not txns or len(txns) > MOST_LANE_TXNS:
        return ""
    names = {txn: f"T{i}" for i, txn in enumerate(txns, 1)}
    marks = frozenset(marks_of(history, witness))
    rows = {txn: _rows(history, txn, names[txn], witness, marks) for txn in txns}
    boxes, heads, (width, height) = _placed(history, witness, txns, rows)
    label = f"{witness.name}: transactions {', '.join(names.values())}"
    parts = [
        (
            f'<svg class="lanes" role="group" aria-label="{_quoted(label)}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
            f'{FONT} font-size="13">'
        )
    ]
    parts += [_head(x, name, height) for x, name in heads]
    taken: list[Label] = []
    # Arrows first: one that passes a box goes behind it, and the box's text stays readable.
    for number, step in enumerate(witness.steps):
        ends = _at(rows, boxes, step)
        said = f"{names[step.source]} before {names[step.target]}"
        why = f"{said}, {KIND_NAMES[step.kind]}: {reason(history, step, names)}"
        parts.append(_arrow(step, number, ends, boxes, why, taken))
    parts += [_box(history, txn, boxes[txn], rows[txn]) for txn in txns]
    return "\n".join([*parts, "</svg>"])


def _rows(
    history: History, txn: int, name: str, witness: Witness, marks: Collection[object]
) -> list[Row]:
    lines = op_lines(history, txn, witness, marks, MOST_OPS)
    return [Row(-1, name), *(Row(op, cut(text)) for op, text in lines)]


def _foot(history: History, txn: int) -> str:
    outcome = TXN_OUTCOMES[history.txn_outcome[txn]]
    ends = "never ends" if history.txn_end[txn] == NEVER else outcome
    return cut(f"transaction {int(history.txn_label[txn])}: {ends}")


def _placed(
    history: History, witness: Witness, txns: Sequence[int], rows: dict[int, list[Row]]
) -> tuple[dict[int, Placed], list[tuple[float, str]], tuple[float, float]]:
    """Each transaction's box, each lane's left edge with its name, and the size of it all."""
    lane_of, names = _lanes(history, txns)
    widths = [len(name) * SMALL_LETTER for name in names]
    for txn in txns:
        most = max(len(row.text) * LETTER for row in rows[txn])
        most = max(most, len(_foot(history, txn)) * SMALL_LETTER)
        widths[lane_of[txn]] = max(widths[lane_of[txn]], most + 2 * PAD)
    lefts = [MARGIN]
    for width in widths:
        lefts.append(lefts[-1] + width + GAP)
    tops, bottoms = _heights(history, txns, rows)
    boxes = {
        txn: Placed(lane, lefts[lane], tops[txn], widths[lane], bottoms[txn])
        for txn, lane in lane_of.items()
    }
    within = any(lane_of[step.source] == lane_of[step.target] for step in witness.steps)
    size = (lefts[-1] + MARGIN - (0 if within else GAP), max(bottoms.values()) + MARGIN)
    return boxes, list(zip(lefts, names, strict=False)), size


def _lanes(history: History, txns: Sequence[int]) -> tuple[dict[int, int], list[str]]:
    """Each transaction's lane: its session's, or one more where that one is still under way."""
    open_until: list[tuple[int, int]] = []  # (session, end) of each lane
    lane_of = {}
    for txn in sorted(txns, key=lambda txn: (int(history.txn_begin[txn]), txn)):
        session, begin = int(history.txn_session[txn]), int(history.txn_begin[txn])
        free = [
            lane
            for lane, (whose, end) in enumerate(open_until)
            if whose == session and end <= begin
        ]
        lane = free[0] if free else len(open_until)
        if not free:
            open_until.append((session, 0))
        open_until[lane] = (session, int(history.txn_end[txn]))
        lane_of[txn] = lane
    names = []
    for lane, (session, _) in enumerate(open_until):
        txn = next(txn for txn, where_to in lane_of.items() if where_to == lane)
        database = history.databases[history.txn_database[txn]]
        more = f", database {show(database)}" if database != "" else ""
        names.append(cut(visible(f"worker {show(history.sessions[session])}{more}")))
    return lane_of, names


def _heights(
    history: History, txns: Sequence[int], rows: dict[int, list[Row]]
) -> tuple[dict[int, float], dict[int, float]]:
    """Tops and bottoms in the order of the moments at which transactions begin and end."""
    moments = [(int(history.txn_begin[txn]), 0, txn) for txn in txns]
    moments += [(int(history.txn_end[txn]), 1, txn) for txn in txns]
    y, tops, bottoms = MARGIN + HEAD, dict[int, float](), dict[int, float]()
    for _, ends, txn in sorted(moments):
        y += STEP
        if not ends:
            tops[txn] = y
        else:
            y = max(y, tops[txn] + LINE * (len(rows[txn]) + 1) + PAD)
            bottoms[txn] = y
    return tops, bottoms


def _head(x: float, name: str, height: float) -> str:
    x += 1
    return "\n".join(
        [
            (
                f'<line class="lane" x1="{x:.0f}" y1="{MARGIN + HEAD - 6:.0f}" x2="{x:.0f}" '
                f'y2="{height - MARGIN / 2:.0f}" stroke="#888888" stroke-dasharray="1 5"/>'
            ),
            text_at(x - 1, MARGIN + 8, name, "soft", 11, ' font-weight="bold"'),
        ]
    )


def _box(history: History, txn: int, box: Placed, rows: Sequence[Row]) -> str:
    never = ' stroke-dasharray="6 4"' if history.txn_end[txn] == NEVER else ""
    parts = [
        f'<g role="group" aria-label="{_quoted(f"{rows[0].text}, {where(history, txn)}")}">',
        (
            f'<rect {paint("box")} stroke="#888888"{never} x="{box.left:.0f}" y="{box.top:.0f}" '
            f'width="{box.width:.0f}" height="{box.bottom - box.top:.0f}" rx="6"/>'
        ),
    ]
    for number, row in enumerate(rows):
        bold = ' font-weight="bold"' if not number else ""
        parts.append(text_at(box.left + PAD, _line(box, number) + 4, row.text, "ink", more=bold))
    foot = _foot(history, txn)
    parts += [text_at(box.left + PAD, box.bottom - 7, foot, "soft", 11), "</g>"]
    return "\n".join(parts)


def _line(box: Placed, number: int) -> float:
    """The middle of a box's line."""
    return box.top + PAD / 2 + LINE * (number + 0.5)


class Label(NamedTuple):
    """An arrow's label: its middle, and half its width, px."""

    x: float
    y: float
    half: float

    def meets(self, other: Label) -> bool:
        near = abs(self.x - other.x) <= self.half + other.half + 2
        return near and abs(self.y - other.y) <= CHIP_HEIGHT

    def upon(self, box: Placed) -> bool:
        beside = self.x + self.half < box.left or self.x - self.half > box.left + box.width
        over = self.y + CHIP_HEIGHT / 2 < box.top or self.y - CHIP_HEIGHT / 2 > box.bottom
        return not beside and not over


Ends = tuple[float, float, float, float]


def _at(rows: dict[int, list[Row]], boxes: dict[int, Placed], step: Step) -> Ends:
    """Where an arrow begins and ends: at its operations, else at an end and at a beginning."""
    a, b = boxes[step.source], boxes[step.target]
    y1 = _of_op(rows[step.source], a, step.source_op, a.bottom - 8) - APART
    y2 = _of_op(rows[step.target], b, step.target_op, b.top + 8) + APART
    if a.lane < b.lane:
        return a.left + a.width, y1, b.left - 2, y2
    if a.lane > b.lane:
        return a.left, y1, b.left + b.width + 2, y2
    return a.left + a.width, y1, b.left + b.width + 2, y2


def _of_op(rows: Sequence[Row], box: Placed, op: int, otherwise: float) -> float:
    places = [number for number, row in enumerate(rows) if op >= 0 and row.op == op]
    return _line(box, places[0]) if places else otherwise


def _arrow(
    step: Step,
    number: int,
    ends: Ends,
    boxes: dict[int, Placed],
    why: str,
    taken: list[Label],
) -> str:
    """An arrow with its number and kind. taken : the labels so far; its own is added."""
    x1, y1, x2, y2 = ends
    if boxes[step.source].lane == boxes[step.target].lane:
        reach = max(x1, x2) + REACH * (1 + number % 3 / 2)
        across = (reach, reach)
    else:
        bend = min(abs(x2 - x1) / 2, GAP / 2) * (1 if x2 > x1 else -1)
        across = (x1 + bend, x2 - bend)
    colour = "data"
    if step.kind in (RW, RW_PREDICATE):
        colour = "anti"
    elif step.kind in (PROCESS, REALTIME):
        colour = "time"
    dashes = ' stroke-dasharray="5 4"' if colour == "time" else ""
    label = f"{number + 1} {KIND_NAMES[step.kind]}"
    half = len(label) * SMALL_LETTER / 2 + 5
    curve = ((x1, y1), (across[0], y1), (across[1], y2), (x2, y2))
    x, y = _label_at(curve, half, taken, boxes.values())
    path = f"M{x1:.1f} {y1:.1f}C{across[0]:.1f} {y1:.1f} {across[1]:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    chip = (
        f'x="{x - half:.1f}" y="{y - CHIP_HEIGHT / 2:.1f}" width="{2 * half:.1f}" '
        f'height="{CHIP_HEIGHT}" rx="8" stroke-width="1.2"'
    )
    return "\n".join(
        [
            (
                f'<g class="step" tabindex="0" role="img" data-step="{number}" '
                f'aria-label="{_quoted(why)}"><title>{html.escape(visible(why))}</title>'
            ),
            f'<path class="near" fill="none" stroke="transparent" stroke-width="16" d="{path}"/>',
            f'<path fill="none" stroke-width="1.8" {paint(colour)}{dashes} d="{path}"/>',
            tip(colour, x2 - across[1], 0.0, x2, y2),
            f'<rect class="chip {colour}" fill="#ffffff" stroke="#888888" {chip}/>',
            text_at(x, y + 4, label, "ink", 11, ' text-anchor="middle"'),
            "</g>",
        ]
    )


def _label_at(
    curve: Sequence[tuple[float, float]], half: float, taken: list[Label], boxes: Iterable[Placed]
) -> tuple[float, float]:
    """A place on a curve (Bézier's four points) for a label that is 2 * half wide: upon no box and
    no other label, if there is one; else below the others.
    """
    places = []
    for t in (0.25, 0.5, 0.75, 0.4, 0.6, 0.15, 0.85, 0.1, 0.9):
        s = 1 - t
        weights = (s**3, 3 * s * s * t, 3 * s * t * t, t**3)
        x, y = (sum(w * p[i] for w, p in zip(weights, curve, strict=True)) for i in (0, 1))
        places.append(Label(x, y, half))
    boxes = list(boxes)
    off_boxes = [one for one in places if not any(one.upon(box) for box in boxes)]
    free = [one for one in off_boxes if not any(map(one.meets, taken))]
    found = (free or off_boxes or places)[0]
    while any(map(found.meets, taken)):
        found = found._replace(y=found.y + CHIP_HEIGHT + 2)
    taken.append(found)
    return found.x, found.y


def _quoted(text: str) -> str:
    return html.escape(visible(text), quote=True)
