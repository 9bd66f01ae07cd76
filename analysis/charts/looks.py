"""Colours and marks: an arm looks the same in every chart and on every page.

A page is made without matplotlib, so this stands apart from what draws with it.
"""

from __future__ import annotations

FAINT = "#767d85"
"""Axes, ticks and lines of reference: 3:1 on a light page and on a dark one, as all colours."""

STYLES = {
    ("libsql", "immediate"): ("#0072b2", "o"),
    ("libsql", "deferred"): ("#6f5fd0", "P"),
    ("sqlite-concurrent", "immediate"): ("#2b8ccc", "s"),
    ("sqlite-concurrent", "deferred"): ("#5c7fa3", "X"),
    ("sqlite-concurrent", "concurrent"): ("#d9560a", "^"),
    ("turso", "concurrent"): ("#008f6b", "D"),
    ("sqlite", "immediate"): ("#b5548f", "v"),
    ("null", ""): (FAINT, "x"),
}
"""(engine, BEGIN mode) -> colour and mark: an arm looks the same in every chart. Okabe-Ito's
colours, moved to 3:1 on white and on black; the marks differ too, for those who see no colour."""

STYLES |= {
    ("libsql", "autocommit"): ("#5d7d2e", "d"),
    ("libsql-remote", "autocommit"): ("#008f6b", "D"),
    ("libsql-replica", "autocommit"): ("#8a7000", "*"),
    ("postgres", "autocommit"): ("#a8326e", "v"),
}
OF_ENGINES = {"libsql": "#0072b2", "postgres": "#d9560a", "libsql-remote": "#008f6b"}
STYLES |= {
    (engine, f"way {n}"): (colour, mark)
    for engine, colour in OF_ENGINES.items()
    for n, mark in enumerate("os^Dvph*")
}
"""Where the engine is what lines have in common: one colour each, a mark for each way to it."""

SPARE = (("#8a7000", "*"), ("#7b5cc0", "h"), ("#b0472a", "p"), ("#5d7d2e", "d"))

OF_OUTCOMES = {
    "committed": ("#0072b2", ""),
    "conflict": ("#d9560a", "/"),
    "failed": ("#a8326e", "x"),
    "unknown": ("#8a7000", "."),
}
"""Outcome -> colour and hatching: the hatching is for those who see no colour."""


def look_of(look: tuple[str, str], n: int) -> tuple[str, str]:
    """Colour and mark of an arm, the n-th of a chart. look : (engine, BEGIN mode)."""
    if look[0] == "null":
        return STYLES["null", ""]
    return STYLES.get(look, SPARE[n % len(SPARE)])
