"""Claim 1: the library alone, then each binding, by the trial `nanoseconds`.

A call through a binding is shared out so: Python's share is the same loop around two calls of C
functions that do nothing; the engine's is the same statement stepped in C, by the library whose
version is nearest; the binding's is what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from analysis.claims.claim import HOLDS, IN_PART, NOT, NOT_MEASURED, UNDECIDED, Seen, Verdict
from analysis.claims.replicas import doubted
from analysis.claims.runs import READ_NS, single_reads
from analysis.claims.sentence import sentence
from analysis.claims.trials import NOT_THERE, Trial
from analysis.statistics import Estimate, median_of_blocks
from analysis.wording import duration, percent

NAME = "nanoseconds"
READ_KINDS = {
    "first": "the first row of a small table in memory",
    "memory": "by key, in memory, in autocommit",
    "transaction": "by key from a WAL file, within a transaction",
    "autocommit": "by key from a WAL file, in autocommit",
    "anew": "the same, prepared anew each time",
}
PARTS = ("engine", "binding", "Python")
EMPTY = "python/empty"


class Bar(NamedTuple):
    """A call through a binding. parts : of PARTS, in ns, what each takes; whole : all, ns.

    of : the C program whose engine's part it is. kind : "transaction" or "autocommit".
    """

    binding: str
    kind: str
    whole: Estimate
    parts: Mapping[str, Estimate]
    shares: Mapping[str, Estimate]
    of: str


def read_programs(trial: Trial) -> list[str]:
    """The C programs that were there, by their library: "branch", "system"."""
    firsts = [arm.split("/") for arm in trial.ns if arm.endswith("/first")]
    return [parts[1] for parts in firsts if parts[0] == "c" and len(parts) == 3]


def least(trial: Trial, arm: str) -> np.ndarray:
    """Block -> a call in the fastest of its batches, ns; shape (blocks,). What others do beside it
    only adds, and a share of two numbers that were disturbed differently says nothing.
    """
    return np.asarray(trial.ns[arm].sum(axis=2).min(axis=1), float)


def fastest(trial: Trial, arm: str) -> Estimate:
    """The same over the blocks."""
    return median_of_blocks(least(trial, arm), dropped=trial.dropped)


def bars(trial: Trial) -> list[Bar]:
    """Each binding's call, in both kinds, shared out."""
    if trial.problem or not (there := read_programs(trial)) or EMPTY not in trial.ns:
        return []
    found = []
    versions = trial.manifest.get("versions", {})
    known = {name: _number(str(versions.get(f"c/{name}", "")).split(" ")[0]) for name in there}
    for arm in trial.ns:
        binding, _, kind = arm.partition("/")
        if kind not in ("transaction", "autocommit"):
            continue
        version = _number(str(versions.get(binding, "")).rpartition(", ")[2])
        of = min(there, key=lambda name: _apart(known[name], version))
        if f"c/{of}/{kind}" in trial.ns:
            found.append(_bar(trial, binding, kind, of))
    return found


def _bar(trial: Trial, binding: str, kind: str, of: str) -> Bar:
    whole, engine = least(trial, f"{binding}/{kind}"), least(trial, f"c/{of}/{kind}")
    python = least(trial, EMPTY)
    # What is measured apart may come to more than the whole by chance: no part is negative.
    binding_ns = np.maximum(whole - engine - python, 0)
    parts = dict(zip(PARTS, (engine, binding_ns, python), strict=True))
    return Bar(
        binding,
        kind,
        median_of_blocks(whole, dropped=trial.dropped),
        {part: median_of_blocks(each, dropped=trial.dropped) for part, each in parts.items()},
        {
            part: median_of_blocks(each / whole, dropped=trial.dropped)
            for part, each in parts.items()
        },
        of,
    )


def _number(version: str) -> tuple[int, ...]:
    """A version as numbers, () for something else."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(p.isascii() and p.isdigit() for p in parts) else ()


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    if not one or not other:
        return float("inf")
    return sum(abs(a - b) * 1000.0**-n for n, (a, b) in enumerate(zip(one, other, strict=False)))


def two_hundred_ns(seen: Seen) -> Verdict:
    """By the trial; where it was not made, by a reader alone in the report's runs."""
    trial = seen.trial(NAME)
    if trial is NOT_THERE:
        return single_reads(seen)
    if trial.problem:
        return Verdict(NOT_MEASURED, trial.problem)
    there, shared = read_programs(trial), bars(trial)
    in_c = {(name, kind): fastest(trial, f"c/{name}/{kind}")
            for name in there for kind in READ_KINDS if f"c/{name}/{kind}" in trial.ns}  # fmt: skip
    if not in_c or not shared or not all(each.known for each in in_c.values()):
        few = sentence("Too few blocks: {} of {}", trial.blocks, "6 that an interval needs")
        return Verdict(UNDECIDED, few, trial.place)
    through = [bar for bar in shared if bar.kind == "autocommit"]
    looked_up = [each for (_, kind), each in in_c.items() if kind in ("memory", "transaction")]
    first = [each for (_, kind), each in in_c.items() if kind == "first"]
    if any(bar.whole.high <= READ_NS for bar in through):
        verdict = HOLDS
    elif any(each.high <= READ_NS for each in (*looked_up, *first)):
        verdict = IN_PART
    else:
        verdict = NOT
    best = min(there, key=lambda name: in_c[name, "first"].value)
    alone = "; ".join(
        f"{words} {in_c[best, kind].text(duration)}" for kind, words in READ_KINDS.items()
        if (best, kind) in in_c
    )  # fmt: skip
    told = "; ".join(
        f"{bar.binding} {bar.whole.text(duration)}, of it "
        + ", ".join(f"{part} {percent(bar.shares[part].value)}" for part in PARTS)
        for bar in through
    )
    number = sentence(
        "In C, SQLite {}: {}. Through a binding, by key in autocommit: {}",
        _version(trial, best),
        alone,
        told,
    )
    return Verdict(verdict, doubted(trial, number), trial.place)


def _version(trial: Trial, program: str) -> str:
    return str(trial.manifest.get("versions", {}).get(f"c/{program}", "")).split(" ")[0]
