"""An anomaly in words, as a timeline with a column for each session, and as a drawing.

The words follow Elle's: let T1 = …; then T1 before T2, because …; a contradiction.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from properties.catalogue import CATALOGUE
from properties.graph import KIND_NAMES, PROCESS, REALTIME, RW, RW_PREDICATE, WR, Step
from properties.verdict import Verdict, Witness, elide, show
from workloads.history import COMMITTED, NEVER, OUTCOMES, WRITE, History


def op_text(f: str, key: Any, value: Any, marks: Sequence[Any] = ()) -> str:
    """One operation, long lists elided to their ends and to `marks`.

    >>> op_text("r", "x", [1, 2])
    'r x [1 2]'
    """
    shown = elide(value, marks) if isinstance(value, (list, tuple)) else show(value)
    return f"{f} {show(key)} {shown}"


def txn_text(history: History, txn: int, marks: Sequence[Any] = ()) -> str:
    """A transaction on one line: its operations, and where it ran."""
    unknown = history.txn_outcome[txn] != COMMITTED
    ops = [
        f"{f} {show(key)} ?" if unknown and f in ("r", "rp") else op_text(f, key, value, marks)
        for f, key, value in history.ops(txn)
    ]
    return f"{{{', '.join(ops)}}} ({where(history, txn)})"


def where(history: History, txn: int) -> str:
    """Worker, number, database and outcome of a transaction; committed goes without saying."""
    parts = [f"worker {show(history.sessions[history.txn_session[txn]])}"]
    parts.append(f"transaction {int(history.txn_label[txn])}")
    database = history.databases[history.txn_database[txn]]
    if database != "":
        parts.append(f"database {show(database)}")
    if history.txn_outcome[txn] != COMMITTED:
        parts.append(OUTCOMES[history.txn_outcome[txn]])
    return ", ".join(parts)


def marks_of(history: History, witness: Witness) -> list[Any]:
    """The values that a witness turns on."""
    marks = list(witness.marks)
    for step in witness.steps:
        for op in (step.source_op, step.target_op):
            if op >= 0 and (history.op_kind[op] == WRITE or history.model == "rw-register"):
                marks.append(history.decode(history.op_value[op]))
    return marks


def reason(history: History, step: Step, names: dict[int, str]) -> str:
    """Why a step's first transaction comes before its second, as a clause after "because"."""
    a, b = names[step.source], names[step.target]
    if step.kind == PROCESS:
        return f"both are of {show(history.sessions[history.txn_session[step.source]])}, in turn"
    if step.kind == REALTIME:
        return f"{a} ended before {b} began"
    wrote = "append" if history.model == "list-append" else "write"
    past = "appended" if history.model == "list-append" else "wrote"
    if step.source_op < 0 or step.target_op < 0:
        return "what they read says so"
    key = show(history.keys[history.op_key[step.target_op]])
    first = history.decode(history.op_value[step.source_op])
    second = history.decode(history.op_value[step.target_op])
    if step.kind == WR:
        return f"{b} observed {a}'s {wrote} of {show(first)} to {key}"
    if step.kind in (RW, RW_PREDICATE):
        by = " by a predicate" if step.kind == RW_PREDICATE else ""
        if history.model == "list-append":
            at, count = int(history.op_value[step.source_op]), history.op_length[step.source_op]
            seen = [history.decode(v) for v in history.elements[at : at + int(count)]]
            state = elide(seen, seen[-1:], 5)
        else:
            state = show(first)
        return f"{a} read {key} = {state}{by} and did not observe {b}'s {wrote} of {show(second)}"
    if step.via >= 0:
        return (
            f"both wrote {key}, and {names.get(step.via, 'a third transaction')} knew of {a} when "
            f"it read {b}'s {show(second)}"
        )
    return f"{b} {past} {show(second)} to {key} after {a} {past} {show(first)}"


def explain(history: History, witness: Witness) -> str:
    """A witness in words: the transactions, and why they contradict each other."""
    anomaly = CATALOGUE[witness.name]
    marks = marks_of(history, witness)
    concerned = list(dict.fromkeys(witness.txns))
    concerned += [s.via for s in witness.steps if s.via >= 0 and s.via not in concerned]
    names = {txn: f"T{i}" for i, txn in enumerate(dict.fromkeys(concerned), 1)}
    lines = [f"{witness.name}: {anomaly.story} ({anomaly.source})", "Let:"]
    lines += [f"  {name} = {txn_text(history, txn, marks)}" for txn, name in names.items()]
    lines.append("Then:")
    for i, step in enumerate(witness.steps):
        however = "However, " if len(witness.steps) > 1 and i == len(witness.steps) - 1 else ""
        end = ": a contradiction!" if i == len(witness.steps) - 1 else "."
        lines.append(
            f"  - {however}{names[step.source]} before {names[step.target]}, because "
            f"{reason(history, step, names)}{end}"
        )
    if witness.why:
        lines.append(f"  - {witness.why}.")
    return "\n".join(lines)


def timeline(events: Iterable[tuple[Any, str]], sessions: Sequence[Any] | None = None) -> str:
    """Steps in the order in which they happened, a column for each session.

    events : (session, text). sessions : the order of the columns; else that of appearance.

    >>> print(timeline([("a", "begin"), ("b", "begin"), ("a", "commit: ok")]))
        a           b
    1   begin       |
    2   |           begin
    3   commit: ok  |
    """
    steps = [(session, text.split("\n")) for session, text in events]
    columns = list(dict.fromkeys([*(sessions or ()), *(session for session, _ in steps)]))
    width = {
        column: max(
            [len(show(column))]
            + [len(line) for session, text in steps if session == column for line in text]
        )
        for column in columns
    }
    rows = ["    " + "  ".join(f"{show(c):{width[c]}}" for c in columns).rstrip()]
    for number, (session, text) in enumerate(steps, 1):
        for i, line in enumerate(text):
            cells = [f"{line if c == session else '|':{width[c]}}" for c in columns]
            rows.append(f"{number if i == 0 else '':<4}" + "  ".join(cells).rstrip())
    return "\n".join(rows)


def witness_timeline(history: History, witness: Witness) -> str:
    """When the transactions of a witness began and ended, a column for each session."""
    marks = marks_of(history, witness)
    txns = list(dict.fromkeys(witness.txns))
    moments: list[tuple[int, int, int, str]] = []
    for i, txn in enumerate(txns, 1):
        ops = history.ops(txn)
        known = history.txn_outcome[txn] == COMMITTED
        body = "\n".join(
            "  " + (op_text(f, k, v, marks) if known or f not in ("r", "rp") else f"{f} {k} ?")
            for f, k, v in ops
        )
        moments.append((int(history.txn_begin[txn]), 0, txn, f"T{i} begins\n{body}"))
        end = int(history.txn_end[txn])
        if end != NEVER:
            moments.append((end, 1, txn, f"T{i} {OUTCOMES[history.txn_outcome[txn]]}"))
        else:
            moments.append((NEVER, 1, txn, f"T{i} never ends"))
    moments.sort(key=lambda m: m[:3])
    return timeline([(history.sessions[history.txn_session[t]], text) for _, _, t, text in moments])


def report(verdict: Verdict, level: str) -> str:
    """The whole verdict in words: the level asked for, all levels, each anomaly's first witness."""
    holds = verdict.levels[level]
    damaged = holds is True and verdict.notes
    head = {
        True: f"valid: {level} holds" + (" (see the notes)" if damaged else ""),
        False: f"violated: {level} does not hold",
        "unknown": f"no violation found at {level}"
        if len(verdict.history)
        else "unknown: the history is empty",
    }[holds]
    words = {True: "yes", False: "no", "unknown": "no violation found"}
    lines = [head]
    lines += [f"  {name:36}{words[value]}" for name, value in verdict.levels.items()]
    lines += [f"note: {note}" for note in verdict.notes]
    for witnesses in verdict.anomalies.values():
        first = witnesses[0]
        more = f"\n  (and {len(witnesses) - 1} more)" if len(witnesses) > 1 else ""
        lines.append("\n" + explain(verdict.history, first) + more)
        lines.append("\n" + witness_timeline(verdict.history, first))
    return "\n".join(lines)


_STYLE = """
svg{--ink:#1a1a1a;--soft:#666;--box:#f4f4f0;--data:#0b5cad;--anti:#b3261e;--time:#2e7d32}
@media(prefers-color-scheme:dark){svg{--ink:#eee;--soft:#aaa;--box:#2b2b2b;--data:#7db7ff;
--anti:#ff8a80;--time:#8bd48f}}
text{font:13px sans-serif;fill:var(--ink)}.soft{font-size:11px;fill:var(--soft)}
rect{fill:var(--box);stroke:var(--soft)}path{fill:none;stroke-width:1.6}
"""
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" style="fill:context-stroke;stroke:none"/>'
    "</marker></defs>"
)


def svg(history: History, witness: Witness) -> str:
    """The cycle as a drawing of its own: boxes on a circle, an arrow for each step.

    Colours follow the reader's light or dark page; where a viewer knows no styles, the text is
    black on white boxes. A witness that is no cycle is drawn as its transactions, side by side.
    """
    txns = list(dict.fromkeys(witness.txns))
    names = {txn: f"T{i}" for i, txn in enumerate(txns, 1)}
    names.update({s.via: "a third" for s in witness.steps if s.via >= 0 and s.via not in names})
    marks = marks_of(history, witness)
    texts = {t: [op_text(*op, marks) for op in history.ops(t)][:8] for t in txns}
    box: dict[int, tuple[float, float]] = {
        t: (max(len(x) for x in [*texts[t], where(history, t)]) * 7 + 20, len(texts[t]) * 16 + 46)
        for t in txns
    }
    wide, high = max(w for w, _ in box.values()), max(h for _, h in box.values())
    count = len(txns)
    radius = 0 if count == 1 else max((wide + 60) / (2 * math.sin(math.pi / count)), high + 40)
    middle_x, middle_y = radius + wide / 2 + 60, radius + high / 2 + 60
    places = {
        t: (middle_x + radius * math.cos(turn), middle_y + radius * math.sin(turn))
        for t, turn in ((t, 2 * math.pi * i / count - math.pi) for i, t in enumerate(txns))
    }
    width, height = 2 * middle_x, 2 * middle_y + 20 * (len(witness.steps) + 1)
    size = f'width="{width:.0f}" height="{height:.0f}"'
    title = html.escape(f"{witness.name}: {CATALOGUE[witness.name].story}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size}>',
        f"<title>{html.escape(witness.name)}</title><style>{_STYLE}</style>{_TIP}",
        f'<text x="12" y="22">{title}</text>',
    ]
    for step in witness.steps:
        parts.append(_arrow(step, places, box))
    for txn in txns:
        parts.append(_box(history, txn, names[txn], texts[txn], places[txn], box[txn]))
    why = [
        f"{names[s.source]} before {names[s.target]}: {reason(history, s, names)}"
        for s in witness.steps
    ] or [witness.why]
    for i, line in enumerate(why):
        y = 2 * middle_y + 20 * i
        parts.append(f'<text class="soft" x="12" y="{y:.0f}">{html.escape(line)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _box(
    history: History,
    txn: int,
    name: str,
    lines: list[str],
    at: tuple[float, float],
    size: tuple[float, float],
) -> str:
    x, y = at[0] - size[0] / 2, at[1] - size[1] / 2
    rows = [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{size[0]:.0f}" height="{size[1]:.0f}" rx="6"/>',
        f'<text x="{x + 10:.0f}" y="{y + 18:.0f}" font-weight="bold">{name}</text>',
    ]
    for i, line in enumerate(lines):
        rows.append(f'<text x="{x + 10:.0f}" y="{y + 36 + 16 * i:.0f}">{html.escape(line)}</text>')
    foot = y + size[1] - 8
    rows.append(
        f'<text class="soft" x="{x + 10:.0f}" y="{foot:.0f}">'
        f"{html.escape(where(history, txn))}</text>"
    )
    return "\n".join(rows)


def _arrow(
    step: Step, places: dict[int, tuple[float, float]], box: dict[int, tuple[float, float]]
) -> str:
    """A bent arrow from border to border; two that join the same boxes bend apart."""
    (x1, y1), (x2, y2) = places[step.source], places[step.target]
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    bend = 46.0
    cx = (x1 + x2) / 2 + (y1 - y2) / length * bend
    cy = (y1 + y2) / 2 + (x2 - x1) / length * bend
    x1, y1 = _border(x1, y1, cx, cy, box[step.source])
    x2, y2 = _border(x2, y2, cx, cy, box[step.target])
    anti = step.kind in (RW, RW_PREDICATE)
    colour = "anti" if anti else "time" if step.kind in (PROCESS, REALTIME) else "data"
    plain = {"anti": "#b3261e", "time": "#2e7d32", "data": "#0b5cad"}[colour]
    dash = ' stroke-dasharray="5 4"' if colour == "time" else ""
    label_x, label_y = (x1 + 2 * cx + x2) / 4, (y1 + 2 * cy + y2) / 4
    return (
        f'<path d="M{x1:.0f} {y1:.0f}Q{cx:.0f} {cy:.0f} {x2:.0f} {y2:.0f}" stroke="{plain}" '
        f'style="stroke:var(--{colour})" marker-end="url(#tip)"{dash}/>'
        f'<text x="{label_x + 4:.0f}" y="{label_y - 6:.0f}" text-anchor="middle">'
        f"{KIND_NAMES[step.kind]}</text>"
    )


def _border(
    x: float, y: float, towards_x: float, towards_y: float, size: tuple[float, float]
) -> tuple[float, float]:
    """Where the line from a box's middle leaves the box."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(
        (size[0] / 2 + 4) / abs(dx) if dx else math.inf,
        (size[1] / 2 + 4) / abs(dy) if dy else math.inf,
    )
    return x + dx * min(scale, 1), y + dy * min(scale, 1)
