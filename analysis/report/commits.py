"""Whether every acknowledged commit stays."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.counting import CountedCell, Measured, label
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, bold, code, markdown
from analysis.wording import listed, number, times, whole


def acknowledged(evidence: Evidence) -> str:
    """Does every acknowledged commit stay?"""
    found = acked(evidence)
    if not any(cell.counted for _, cell in found):
        return "Whether every acknowledged commit stays visible: not measured in this set of runs."
    arms: dict[str, list[tuple[Measured, CountedCell]]] = {}
    for grid, cell in found:
        arms.setdefault(label(grid, cell.arm), []).append((grid, cell))
    # What was lost first, the control after it.
    order = sorted(arms.items(), key=lambda item: not any(cell.broken for _, cell in item[1]))
    parts = [_kept(arm, cells) for arm, cells in order]
    lost = {arm for arm, cells in arms.items() if any(cell.broken for _, cell in cells)}
    if not lost:
        head = "No acknowledged commit was seen to be lost, which is no proof that none can be"
    elif len(lost) == len(arms):
        head = "Acknowledged commits were lost on every arm, the control too: suspect the test"
    else:
        head = f"{listed(sorted(lost))} lost acknowledged commits beside running checkpoints"
    off = {grid.plan(cell.arm)["synchronous"] for grid, cell in found}
    how = (
        f" (synchronous {listed(sorted(off)).upper()}, no crash and no power cut; provoked by "
        "processes that checkpoint without pause: SQLite's WAL-reset race, fixed in 3.51.3; "
        "it was not tried with fsync)"
    )
    return markdown("{}{}: {}.", bold("{}", head), how, Markdown("; ").join(parts))


def acked(evidence: Evidence) -> list[tuple[Measured, CountedCell]]:
    return [
        (grid, cell)
        for grid, cell in evidence.cells()
        if grid.plan(cell.arm)["scenario"] == "acked"
    ]


def _kept(arm: str, cells: list[tuple[Measured, CountedCell]]) -> str:
    counted = [cell.counted for _, cell in cells if cell.counted is not None]
    commits = sum(c.roles["writer"].committed for c in counted if "writer" in c.roles)
    grid = cells[0][0]
    version = _versions(cells)
    base = f"{arm}{version}, {times(len(counted), 'run')} of {_seconds(counted)}"
    broken = [(cell, cell.broken[0]) for _, cell in cells if cell.broken]
    if not counted:
        return f"{arm}: not measured ({cells[0][1].failure or 'no run'})"
    if not broken:
        return f"{base} with {whole(commits)} acknowledged commits: none lost"
    cell, finding = broken[0]
    return markdown(
        "{}: {} of {} broken (run {}: {})",
        base,
        len(broken),
        len(counted),
        code(f"{grid.name}/{cell.run}"),
        finding.sentence.rstrip("."),
    )


def _seconds(counted: list[Any]) -> str:
    each = [c.seconds for c in counted]
    return f"{number(float(np.median(each)))} s" if each else "0 s"


def _versions(cells: list[tuple[Measured, CountedCell]]) -> str:
    """Versions of the library that checkpointed: it is the checkpointer's that matters."""
    seen = []
    for _, cell in cells:
        said = cell.manifest
        engine = said.engines.get(said.plan.checkpoint_engine) if said else None
        if engine and engine.version:
            seen.append(engine.version)
    return f" (SQLite {listed(sorted(set(seen)))})" if seen else ""
