"""The trials in the report: what a read is made of, and what connecting takes.

Each of them is a part of a page: its answer, its chart where it has one, and its table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.charts import Heading, Stack, shares_of_a_read
from analysis.claims import CONNECTING, READ_KINDS, Trial, bars, fastest, read_programs, steps
from analysis.report.charts import Chart, drawn
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, markdown, said
from analysis.wording import Table, duration, percent, times

GROUPS = {
    "transaction": "within a transaction that is open",
    "autocommit": "each read in a transaction of its own",
}


def section(evidence: Evidence, page: Path, figures: Path) -> dict[str, Any]:
    """The parts of the trials, as data for the report's template."""
    reads, opened = evidence.trial("nanoseconds"), evidence.trial("connecting")
    return {
        "reads": {
            "problem": said(reads.problem),
            "chart": read_chart(reads, page, figures),
            "table": read_table(reads),
            "alone": alone_table(reads),
            "conditions": conditions(reads),
        },
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
    title = "What a read by its key is made of"
    heading = Heading(conditions=times(trial.blocks, "block"))
    why = "the reads in C and through the bindings were not measured"
    path = figures / "nanoseconds.svg"
    return drawn(title, path, page, shares_of_a_read, stacks, why, heading=heading)


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
