"""The arms of an experiment, found by what their plans ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import wording as words
from analysis.counting.measured import Measured


def arms_of(grid: Measured, engine: str, begin: str | None = None, **want: Any) -> list[str]:
    """Arms whose writers use this engine and mode, and whose plan or params hold `want`."""
    found = []
    for arm in grid.arms:
        plan = grid.plan(arm)
        engines = (plan["write_engine"], plan["begin"])
        if not plan["writers"]:
            engines = (plan["read_engine"], plan["read_begin"])
        if engines[0] != engine or (begin and (engines[1] != begin or not plan["writers"])):
            continue
        if all(field(plan, key) == value for key, value in want.items()):
            found.append(arm)
    return found


def field(plan: Mapping[str, Any], key: str) -> Any:
    """A field of a plan, or of its scenario's params."""
    return plan[key] if key in plan else plan.get("params", {}).get(key)


WRITING = ("write_engine", "begin", "seed", "database", "read_engine", "read_begin")
"""Fields in which two arms may differ and still be the same work written in another way."""


def alike(grid: Measured, one: str, other: str, *but: str) -> bool:
    """Two arms ask for the same work; how it is written, and `but`, may differ."""
    plans = [
        {**plan, **plan["params"], "params": None} for plan in (grid.plan(one), grid.plan(other))
    ]
    skip = {*WRITING, *but}
    return all(plans[0].get(key) == plans[1].get(key) for key in plans[0] if key not in skip)


def look(grid: Measured, arm: str) -> tuple[str, str]:
    """(engine, BEGIN mode) of an arm's writers, or of its readers where it has no writer."""
    plan = grid.plan(arm)
    if plan["writers"]:
        return plan["write_engine"], plan["begin"]
    return plan["read_engine"], plan["read_begin"]


def label(grid: Measured, arm: str) -> str:
    """How an arm writes, or how it reads where nothing writes."""
    plan = grid.plan(arm)
    if plan["writers"]:
        return words.arm_words(plan)
    return words.arm_words(
        {
            "database": plan["database"],
            "write_engine": plan["read_engine"],
            "begin": plan["read_begin"],
        }
    )


def theta(keys: str) -> float | None:
    """The skew of a key distribution: zipfian's theta, 0 for uniform, None for others.

    >>> theta("zipfian:0.99"), theta("uniform"), theta("hotspot:80:20")
    (0.99, 0.0, None)
    """
    name, _, rest = str(keys).partition(":")
    if name == "uniform":
        return 0.0
    try:
        return float(rest or 0.99) if name == "zipfian" else None
    except ValueError:
        return None
