"""A witness as a drawing: a box for each transaction, an arrow for each step, the reasons below.

The SVG stands alone and needs no graphviz. Colours are plain attributes, which every viewer knows.
A viewer that knows styles follows the reader's dark page. Letters have one width, so boxes fit.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from properties.checker.catalogue import CATALOGUE
from properties.checker.explanations import marks_of, op_texts, reason, where
from properties.checker.graph import KIND_NAMES, PROCESS, REALTIME, RW, RW_PREDICATE, Step
from properties.checker.verdict import Witness
from workloads.files import visible
from workloads.records import History

MOST_OPS, MOST_LETTERS = 8, 56  # in a box; of more their number is shown, or their middle is cut
MOST_ROUND = 24  # boxes on an ellipse
LETTER, SMALL_LETTER, LINE = 7.9, 6.7, 17.0  # px: widths at 13 and 11 px, height of a line
GAP, MARGIN = 64.0, 20.0  # px between boxes, around everything
BEND = 18.0  # px by which an arrow is drawn away from the straight line
WRAP = 96  # letters of a line of text above and below, at least

# class -> (attribute, light, dark)
COLOURS = {
    "page": ("fill", "#ffffff", "#1b1b1b"),
    "ink": ("fill", "#1a1a1a", "#eeeeee"),
    "soft": ("fill", "#666666", "#aaaaaa"),
    "box": ("fill", "#f4f4f0", "#2b2b2b"),
    "data": ("stroke", "#0b5cad", "#7db7ff"),
    "anti": ("stroke", "#b3261e", "#ff8a80"),
    "time": ("stroke", "#2e7d32", "#8bd48f"),
}
# A label stands on its arrow, on a little of the page.
HALO = ' text-anchor="middle" paint-order="stroke" stroke-width="6" stroke="#ffffff"'
FONT = "font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\""


class Box(NamedTuple):
    """A transaction's box: its middle and its size, px."""

    x: float
    y: float
    width: float
    height: float


def svg(history: History, witness: Witness, more: Sequence[str] = ()) -> str:
    """The witness as a drawing; one that is no cycle as its transactions, side by side.

    more : lines to stand below the reasons, such as operations that were not judged.
    """
    txns = list(dict.fromkeys(witness.txns))
    names = {txn: f"T{i}" for i, txn in enumerate(txns, 1)}
    names.update({s.via: "a third" for s in witness.steps if s.via >= 0 and s.via not in names})
    marks = frozenset(marks_of(history, witness))
    texts = {
        txn: [cut(text) for text in op_texts(history, txn, witness, marks, MOST_OPS)]
        for txn in txns
    }
    title = f"{witness.name}: {CATALOGUE[witness.name].story}"
    why = [
        f"{names[s.source]} before {names[s.target]}: {reason(history, s, names)}"
        for s in witness.steps
    ] or [witness.why]
    places = _places([_size(texts[t], where(history, t)) for t in txns], bool(witness.steps))
    columns = max(WRAP, int(max(b.x + b.width / 2 for b in places) / SMALL_LETTER))
    head = textwrap.wrap(title, columns)
    room = LINE if witness.steps else 0.0  # for arrows that bend beyond the boxes
    down = MARGIN + LINE * (len(head) + 1) + room
    boxes = {t: b._replace(x=b.x + MARGIN, y=b.y + down) for t, b in zip(txns, places, strict=True)}
    foot = max(b.y + b.height / 2 for b in boxes.values()) + MARGIN + LINE + room
    notes = [
        line
        for text in [*why, *more]
        for line in textwrap.wrap(text, columns, subsequent_indent="  ")
    ]
    right = max(b.x + b.width / 2 for b in boxes.values())
    right = max([right, *(MARGIN + len(x) * LETTER for x in head)])
    right = max([right, *(MARGIN + len(x) * SMALL_LETTER for x in notes)])
    width, height = right + MARGIN, foot + LINE * len(notes)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" {FONT} font-size="13">'
        ),
        f"<title>{html.escape(visible(witness.name))}</title><style>{style()}</style>",
        (
            f'<polygon {paint("page")} points="0,0 {width:.0f},0 {width:.0f},{height:.0f} '
            f'0,{height:.0f}"/>'
        ),
    ]
    parts += [text_at(MARGIN, MARGIN + LINE * i + 10, x, "ink") for i, x in enumerate(head)]
    middle = (sum(b.x for b in boxes.values()) / len(boxes), sum(b.y for b in boxes.values()))
    middle = (middle[0], middle[1] / len(boxes))
    parts += [_arrow(step, boxes, middle) for step in witness.steps]
    parts += [_box(boxes[t], names[t], texts[t], where(history, t)) for t in txns]
    parts += [text_at(MARGIN, foot + LINE * i, x, "soft", 11) for i, x in enumerate(notes)]
    return "\n".join([*parts, "</svg>", ""])


def cut(text: str) -> str:
    """A text cut in its middle where it would not fit.

    >>> cut("r x " + "1" * 100)[26:30], len(cut("r x " + "1" * 100))
    ('11…1', 56)
    """
    half = MOST_LETTERS // 2
    return text if len(text) <= MOST_LETTERS else text[:half] + "…" + text[-(half - 1) :]


def _size(lines: Sequence[str], foot: str) -> tuple[float, float]:
    width = max(max((len(x) * LETTER for x in lines), default=0), len(foot) * SMALL_LETTER)
    return width + 24, LINE * (len(lines) + 2) + 16


def _places(sizes: Sequence[tuple[float, float]], cycle: bool) -> list[Box]:
    """Boxes side by side, or on the narrowest ellipse on which none comes near another.

    The ellipse is left by shift alone: the leftmost edge is at 0, the highest too. Very many
    transactions stand in rows: their ellipse would be mostly empty and slow to find.
    """
    if cycle and len(sizes) > MOST_ROUND:
        return _rows(sizes)
    if len(sizes) <= 2 or not cycle:
        x, boxes = 0.0, []
        tall = max(height for _, height in sizes)
        for width, height in sizes:
            boxes.append(Box(x + width / 2, tall / 2, width, height))
            x += width + 2 * GAP
        return boxes
    radius = 40.0
    while True:
        turns = [2 * math.pi * i / len(sizes) - math.pi / 2 for i in range(len(sizes))]
        boxes = [
            Box(1.5 * radius * math.cos(turn), radius * math.sin(turn), *size)
            for turn, size in zip(turns, sizes, strict=True)
        ]
        if all(_apart(a, b) for a, b in combinations(boxes, 2)):
            break
        radius += 10
    left = min(b.x - b.width / 2 for b in boxes)
    top = min(b.y - b.height / 2 for b in boxes)
    return [b._replace(x=b.x - left, y=b.y - top) for b in boxes]


def _rows(sizes: Sequence[tuple[float, float]]) -> list[Box]:
    """Rows to the right and back again in turn, so that each box stands beside the one before."""
    columns = math.isqrt(len(sizes))
    wide = max(width for width, _ in sizes) + 2 * GAP
    tall = max(height for _, height in sizes) + GAP
    boxes = []
    for at, size in enumerate(sizes):
        row, column = divmod(at, columns)
        column = columns - 1 - column if row % 2 else column
        boxes.append(Box((column + 0.5) * wide, (row + 0.5) * tall, *size))
    return boxes


def _apart(a: Box, b: Box) -> bool:
    wide = abs(a.x - b.x) >= (a.width + b.width) / 2 + GAP
    return wide or abs(a.y - b.y) >= (a.height + b.height) / 2 + GAP


def _box(box: Box, name: str, lines: Sequence[str], foot: str) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    rows = [
        (
            f'<rect {paint("box")} stroke="#888888" x="{x:.0f}" y="{y:.0f}" '
            f'width="{box.width:.0f}" height="{box.height:.0f}" rx="6"/>'
        ),
        text_at(x + 12, y + LINE + 3, name, "ink", more=' font-weight="bold"'),
    ]
    rows += [text_at(x + 12, y + LINE * (i + 2) + 5, line, "ink") for i, line in enumerate(lines)]
    rows.append(text_at(x + 12, y + box.height - 9, foot, "soft", 11))
    return "\n".join(rows)


def _arrow(step: Step, boxes: dict[int, Box], middle: tuple[float, float]) -> str:
    """A bent arrow from border to border with its kind beside it.

    It bends away from the middle of the drawing; two boxes that are joined both ways have the
    middle between them, and there the arrows bend apart.
    """
    a, b = boxes[step.source], boxes[step.target]
    length = math.hypot(b.x - a.x, b.y - a.y) or 1.0
    across = ((b.y - a.y) / length, (a.x - b.x) / length)
    x, y = (a.x + b.x) / 2, (a.y + b.y) / 2
    outward = across[0] * (x - middle[0]) + across[1] * (y - middle[1])
    side = -1.0 if outward < -1 else 1.0
    x1, y1 = _border(a, b.x, b.y)
    x2, y2 = _border(b, a.x, a.y)
    bend = BEND
    if abs(outward) <= 1:  # the middle is between them: leave room for an arrow back
        bend = 2 * BEND
        x1, x2 = x1 + across[0] * 12, x2 + across[0] * 12
        y1, y2 = y1 + across[1] * 12, y2 + across[1] * 12
    cx = (x1 + x2) / 2 + side * across[0] * bend
    cy = (y1 + y2) / 2 + side * across[1] * bend
    anti = step.kind in (RW, RW_PREDICATE)
    colour = "anti" if anti else "time" if step.kind in (PROCESS, REALTIME) else "data"
    dash = ' stroke-dasharray="5 4"' if colour == "time" else ""
    kind = KIND_NAMES[step.kind]
    label_x, label_y = (x1 + 2 * cx + x2) / 4, (y1 + 2 * cy + y2) / 4 + 4
    return "\n".join(
        [
            (
                f'<path fill="none" stroke-width="1.6" {paint(colour)}{dash} '
                f'd="M{x1:.0f} {y1:.0f}Q{cx:.0f} {cy:.0f} {x2:.0f} {y2:.0f}"/>'
            ),
            tip(colour, x2 - cx, y2 - cy, x2, y2),
            text_at(label_x, label_y, kind, "ink label", more=HALO),
        ]
    )


def tip(colour: str, dx: float, dy: float, x: float, y: float) -> str:
    """The head of an arrow that ends at (x, y) in the direction (dx, dy): no viewer's markers."""
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    back = (x - 10 * ux, y - 10 * uy)
    points = (
        (x, y),
        (back[0] - 4.5 * uy, back[1] + 4.5 * ux),
        (back[0] + 4.5 * uy, back[1] - 4.5 * ux),
    )
    corners = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    light = COLOURS[colour][1]
    return f'<polygon class="tip {colour}" fill="{light}" stroke="none" points="{corners}"/>'


def _border(box: Box, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Where the line from a box's middle leaves the box, and a little farther."""
    dx, dy = towards_x - box.x, towards_y - box.y
    scale = min(
        (box.width / 2 + 4) / abs(dx) if dx else math.inf,
        (box.height / 2 + 4) / abs(dy) if dy else math.inf,
    )
    return box.x + dx * min(scale, 1), box.y + dy * min(scale, 1)


def text_at(x: float, y: float, text: str, colour: str, size: int = 13, more: str = "") -> str:
    small = f' font-size="{size}"' if size != 13 else ""
    return (
        f'<text {paint(colour)} x="{x:.0f}" y="{y:.0f}"{small}{more} xml:space="preserve">'
        f"{html.escape(visible(text))}</text>"
    )


def paint(name: str) -> str:
    attribute, light, _ = COLOURS[name.split()[0]]
    return f'class="{name}" {attribute}="{light}"'


def style() -> str:
    """Only what differs on a dark page; a viewer that knows no styles leaves it out."""
    rules: list[Any] = [f".{name}{{{a}:{dark}}}" for name, (a, _, dark) in COLOURS.items()]
    rules += [
        f".tip.{name}{{fill:{dark};stroke:none}}"
        for name, (a, _, dark) in COLOURS.items()
        if a == "stroke"
    ]
    rules.append(f".label{{stroke:{COLOURS['page'][2]}}}")
    return f"@media(prefers-color-scheme:dark){{{''.join(rules)}}}"
