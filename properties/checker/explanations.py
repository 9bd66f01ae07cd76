"""An anomaly in words, and as a timeline with a column for each session.

The words follow Elle's: let T1 = …; then T1 before T2, because …; a contradiction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, islice
from typing import Any

from properties.checker.catalogue import CATALOGUE
from properties.checker.graph import PROCESS, REALTIME, RW, RW_PREDICATE, WR, Step
from properties.checker.verdict import Verdict, Witness, elide
from workloads.files import visible
from workloads.records import NEVER, TXN_COMMITTED, TXN_OUTCOMES, WRITE, History, Unordered, show

MOST_OPS = 100  # of a transaction, as text; of more their number is given
MOST_COLUMNS = 12  # of a timeline


def op_text(f: str, key: Any, value: Any, marks: Collection[Any] = ()) -> str:
    """One operation, long lists elided to their ends and to `marks`.

    >>> op_text("r", "x", [1, 2])
    'r x [1 2]'
    """
    shown = elide(value, marks) if isinstance(value, (list, tuple)) else show(value)
    return f"{f} {show(key)} {shown}"


def op_texts(
    history: History, txn: int, witness: Witness, marks: Collection[Any], most: int = MOST_OPS
) -> list[str]:
    """A transaction's operations: those that matter, and how many others there are."""
    return [text for _, text in op_lines(history, txn, witness, marks, most)]


def op_lines(
    history: History, txn: int, witness: Witness, marks: Collection[Any], most: int = MOST_OPS
) -> list[tuple[int, str]]:
    """`op_texts`, each with its operation's index; -1 for the line of how many others there are."""
    first, unknown = int(history.op_start[txn]), history.txn_outcome[txn] != TXN_COMMITTED
    ops = history.ops(txn)
    steps = [op - first for s in witness.steps for op in (s.source_op, s.target_op) if op >= 0]
    matter = [at for at in steps if 0 <= at < len(ops)] if len(ops) > most else []
    kept = sorted(islice(dict.fromkeys(chain(matter, range(len(ops)))), most))
    lines = []
    for at in kept:
        f, key, value = ops[at]
        unread = unknown and f in ("r", "rp")
        text = f"{f} {show(key)} ?" if unread else op_text(f, key, value, marks)
        lines.append((first + at, text))
    left = len(ops) - len(kept)
    return [*lines, (-1, f"… and {left:,} more")] if left else lines


def where(history: History, txn: int) -> str:
    """Worker, number, database and outcome of a transaction; committed goes without saying."""
    parts = [f"worker {show(history.sessions[history.txn_session[txn]])}"]
    parts.append(f"transaction {int(history.txn_label[txn])}")
    database = history.databases[history.txn_database[txn]]
    if database != "":
        parts.append(f"database {show(database)}")
    if history.txn_outcome[txn] != TXN_COMMITTED:
        parts.append(TXN_OUTCOMES[history.txn_outcome[txn]])
    return ", ".join(parts)


def marks_of(history: History, witness: Witness) -> list[Any]:
    """The values that a witness turns on; as a frozenset where it is asked of many."""
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
        if step.source_op in history.sets:
            state = elide(Unordered(map(history.decode, history.sets[step.source_op])))
        elif history.model == "list-append":
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
    marks = frozenset(marks_of(history, witness))
    concerned = list(dict.fromkeys(witness.txns))
    concerned += [s.via for s in witness.steps if s.via >= 0 and s.via not in concerned]
    names = {txn: f"T{i}" for i, txn in enumerate(dict.fromkeys(concerned), 1)}
    lines = [f"{witness.name}: {anomaly.story} ({anomaly.source})", "Let:"]
    for txn, name in names.items():
        ops = ", ".join(op_texts(history, txn, witness, marks))
        lines.append(f"  {name} = {{{ops}}} ({where(history, txn)})")
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


def timeline(
    events: Iterable[tuple[Any, str]],
    sessions: Sequence[Any] | None = None,
    name: Callable[[Any], str] = show,
) -> str:
    """Steps in the order in which they happened, a column for each session.

    events : (session, text). sessions : the order of the columns; else that of appearance.
    name : what a session is called.

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
            [len(name(column))]
            + [len(line) for session, text in steps if session == column for line in text]
        )
        for column in columns
    }
    rows = ["    " + "  ".join(f"{name(c):{width[c]}}" for c in columns).rstrip()]
    for number, (session, text) in enumerate(steps, 1):
        for i, line in enumerate(text):
            cells = [f"{line if c == session else '|':{width[c]}}" for c in columns]
            rows.append(f"{number if i == 0 else '':<4}" + "  ".join(cells).rstrip())
    return "\n".join(rows)


def witness_timeline(history: History, witness: Witness) -> str:
    """When the transactions of a witness began and ended, a column for each session.

    There is none for very many sessions: it would be as wide as it is long.
    """
    marks = frozenset(marks_of(history, witness))
    txns = list(dict.fromkeys(witness.txns))
    sessions = len({int(history.txn_session[txn]) for txn in txns})
    if sessions > MOST_COLUMNS:
        return f"(no timeline: these are transactions of {sessions:,} sessions)"
    moments: list[tuple[int, int, int, str]] = []
    for i, txn in enumerate(txns, 1):
        body = "\n".join(f"  {text}" for text in op_texts(history, txn, witness, marks))
        moments.append((int(history.txn_begin[txn]), 0, txn, f"T{i} begins\n{body}"))
        end = int(history.txn_end[txn])
        if end != NEVER:
            moments.append((end, 1, txn, f"T{i} {TXN_OUTCOMES[history.txn_outcome[txn]]}"))
        else:
            moments.append((NEVER, 1, txn, f"T{i} never ends"))
    moments.sort(key=lambda m: m[:3])
    # By number, since 1 and true are two sessions; by name for the reader alone.
    steps = [(int(history.txn_session[txn]), text) for _, _, txn, text in moments]
    return timeline(steps, name=lambda session: show(history.sessions[session]))


def caveats(verdict: Verdict) -> list[str]:
    """A line for each kind of operation that was not judged, and then the verdict's notes."""
    lines = [f"not judged: {many:,} {kind}" for kind, many in verdict.unjudged.items()]
    return [visible(line) for line in [*lines, *(f"note: {note}" for note in verdict.notes)]]


def headline(verdict: Verdict, level: str) -> str:
    """Whether a history keeps a level, in one line."""
    holds = verdict.levels[level]
    if holds is True:
        return f"valid: {level} holds"
    if holds is False:
        return f"violated: {level} does not hold"
    if not len(verdict.history):
        return "unknown: the history is empty"
    if verdict.unjudged:
        return f"unknown: no violation of {level} was found, and not everything was judged"
    return f"unknown: no violation of {level} was found, and nothing proves that there is none"


def report(verdict: Verdict, level: str) -> str:
    """The whole verdict in words: the level asked for, all levels, each anomaly's first witness."""
    answers = {True: "yes", False: "no", "unknown": "no violation found"}
    lines = [headline(verdict, level)]
    lines += [f"  {name:36}{answers[value]}" for name, value in verdict.levels.items()]
    lines += caveats(verdict)
    for witnesses in verdict.anomalies.values():
        first = witnesses[0]
        more = f"\n  (and {len(witnesses) - 1} more)" if len(witnesses) > 1 else ""
        lines.append("\n" + explain(verdict.history, first) + more)
        lines.append("\n" + witness_timeline(verdict.history, first))
    return "\n".join(lines)
