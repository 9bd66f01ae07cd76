"""The trials in the report: what a read is made of, and what connecting takes.

Each of them is a part of a page: its answer, its chart where it has one, and its table.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from analysis.charts import Heading, Stack, shares_of_a_read
from analysis.claims import (
    CONNECTING,
    KINDS,
    READ_KINDS,
    Happened,
    Trial,
    bars,
    differences,
    fastest,
    happened,
    read_programs,
    steps,
)
from analysis.report.charts import Chart, drawn
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, code, markdown, ours, said
from analysis.wording import DASH, Table, duration, listed, percent, times
from workloads.errors import RunError

GROUPS = {
    "transaction": "within a transaction that is open",
    "autocommit": "each read in a transaction of its own",
}


def section(evidence: Evidence) -> dict[str, Any]:
    """The parts of the trials, as data for the report's template."""
    reads, opened = evidence.trial("nanoseconds"), evidence.trial("connecting")
    return {
        "reads": {
            "problem": said(reads.problem),
            "table": read_table(reads),
            "alone": alone_table(reads),
            "conditions": conditions(reads),
        },
        "outages": outages_part(evidence.trial("outages")),
        "compatibility": compatibility_part(evidence.trial("compatibility")),
        "connecting": {
            "problem": said(opened.problem),
            "table": connecting_table(opened),
            "conditions": conditions(opened),
        },
    }


def conditions(trial: Trial) -> Markdown:
    """Versions, blocks, and what was not there, in a few sentences."""
    if trial.problem:
        return Markdown()
    manifest = trial.manifest
    versions = "; ".join(f"{name}: {text}" for name, text in manifest.get("versions", {}).items())
    settings = ", ".join(f"{key} {value}" for key, value in manifest.get("settings", {}).items())
    dropped = f"; {len(trial.dropped)} more were dropped, for others used the machine"
    absent = "".join(f" {why.rstrip('.')}." for why in manifest.get("missing", {}).values())
    return markdown(
        "{}{}, seed {}. {}. {}.{}",
        times(trial.blocks, "block"),
        dropped if trial.dropped else "",
        manifest.get("seed", 0),
        settings,
        versions,
        absent,
    )


def read_chart(trial: Trial, page: Path, figures: Path) -> Chart:
    """One bar a binding: engine, binding, Python."""
    stacks = [
        Stack(
            bar.binding,
            GROUPS[bar.kind],
            {part: each.value for part, each in bar.parts.items()},
            bar.whole.value,
            bar.whole.low,
            bar.whole.high,
        )
        for bar in sorted(bars(trial), key=lambda bar: list(GROUPS).index(bar.kind))
    ]
    title = read_title(trial)
    heading = Heading(conditions=times(trial.blocks, "block"))
    why = "the reads in C and through the bindings were not measured"
    path = figures / "nanoseconds.svg"
    return drawn(title, path, page, shares_of_a_read, stacks, why, heading=heading)


TITLED = {"transaction": "within an open transaction", "autocommit": "in autocommit"}


def read_title(trial: Trial) -> str:
    """What the library alone is of a read through libSQL's binding, else the first."""
    shown = bars(trial)
    name = next((bar.binding for bar in shown if bar.binding == "libsql"), "")
    mine = [bar for bar in shown if bar.binding == name] or shown[:1]
    parts = [
        f"{percent(bar.parts['engine'].value / bar.whole.value)} {TITLED[bar.kind]}" for bar in mine
    ]
    if not parts:
        return "What a read by its key is made of"
    said = "Of a read by its key through {}, the library alone takes {}"
    return said.format(mine[0].binding, listed(parts))


def read_table(trial: Trial) -> Table:
    """The same in numbers."""
    head = ("binding", "a read by its key", "whole", "engine", "binding", "Python", "engine is of")
    rows = [
        (
            bar.binding,
            GROUPS[bar.kind],
            bar.whole.text(duration),
            *(bar.shares[part].text(percent) for part in ("engine", "binding", "Python")),
            version_of(trial, bar.of),
        )
        for bar in bars(trial)
    ]
    return Table(head, rows, "Of each block the fastest batch counts: what others do only adds.")


def alone_table(trial: Trial) -> Table:
    """The statement stepped in C."""
    there = read_programs(trial)
    head = ("a prepared statement stepped in C", *(version_of(trial, name) for name in there))
    if trial.problem:
        return Table(head, [])
    rows = [
        (words, *(fastest(trial, f"c/{name}/{kind}").text(duration) for name in there))
        for kind, words in READ_KINDS.items()
        if all(f"c/{name}/{kind}" in trial.ns for name in there)
    ]
    return Table(head, rows)


def version_of(trial: Trial, program: str) -> str:
    text = str(trial.manifest.get("versions", {}).get(f"c/{program}", program))
    return f"SQLite {text.split(' ')[0]}, {program}"


def connecting_table(trial: Trial) -> Table:
    """Opening, the first query, closing, and all of it."""
    head = ("by its driver", "open", "first query", "close", "all of it")
    if trial.problem:
        return Table(head, [])
    rows = [
        (words, *(each.text(duration) for each in steps(trial, arm)))
        for arm, words in CONNECTING.items()
        if arm in trial.ns and trial.ns[arm].shape[2] == 3
    ]
    note = (
        "The first query on a file that nobody has open makes its write-ahead log. libpq asks the "
        "server for TLS first, which has none here."
    )
    return Table(head, rows, note)


def outages_part(trial: Trial) -> dict[str, Any]:
    """What works while something is gone, as a table, and the words of what does not."""
    told: dict[str, Any] = {"problem": said(trial.problem), "conditions": conditions(trial)}
    if trial.problem:
        return told
    try:
        rows = happened(trial)
    except RunError as error:
        return told | {"problem": markdown("{}", error)}
    situations = list(dict.fromkeys(row.situation for row in rows))
    by = {(row.action, row.situation): row for row in rows}
    cells = [
        (action, *(_in_words(by.get((action, each))) for each in situations))
        for action in dict.fromkeys(row.action for row in rows)
    ]
    note = (
        "Times are of a machine on which all of it happens at once. In `nothing` all is well. A "
        "restart opens the replica again; alone, it opens the replica's file as a plain one."
    )
    words = [
        markdown("{}, {}: {}", row.situation, row.action, code(row.said))
        for row in rows
        if row.outcome in ("fails", "dies")
    ]
    return told | {"table": Table(("action", *situations), cells, ours(note)), "words": words}


def _in_words(row: Happened | None) -> str:
    if row is None:
        return DASH
    if row.outcome == "works" and row.said:
        return f"{row.text}: {row.said}"
    return row.text


def compatibility_part(trial: Trial) -> dict[str, Any]:
    """Counts, and the list of what differs, a line each."""
    told: dict[str, Any] = {"problem": said(trial.problem), "conditions": conditions(trial)}
    if trial.problem:
        return told
    try:
        rows = differences(trial)
    except RunError as error:
        return told | {"problem": markdown("{}", error)}
    counts = Counter((row.system, str(row.kind)) for row in rows)
    systems = list(dict.fromkeys(row.system for row in rows))
    table = Table(
        ("system", *KINDS.values()),
        [(name, *(str(counts[name, kind]) for kind in KINDS)) for name in systems],
    )
    odd = [
        row for row in rows if row.kind == "differs" or (row.kind != "same" and row.system in FEW)
    ]
    listing = Table(
        ("system", "what", "how", "of", "there", "SQLite's"),
        [
            (row.system, row.about, KINDS[row.kind], row.of, code(row.here), code(row.there))
            for row in odd
        ],
    )
    return told | {"table": table, "listing": listing}


FEW = ("libsql", "files")
"""Systems of which every difference is listed; of the others those in words are counted alone."""
