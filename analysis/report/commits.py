"""Whether every acknowledged commit stays."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.counting import Arm, CountedCell
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, bold, code, markdown
from analysis.wording import listed, number, times, whole


def acknowledged(evidence: Evidence) -> str:
    """Does every acknowledged commit stay?"""
    found = acked(evidence)
    if not any(cell.counted for _, cell in found):
        return "Whether every acknowledged commit stays visible: not measured in this set of runs."
    labels: dict[str, list[tuple[Arm, CountedCell]]] = {}
    for arm, cell in found:
        labels.setdefault(arm.label, []).append((arm, cell))
    # Arms that lost a commit first, the control after them.
    order = sorted(labels.items(), key=lambda item: not any(cell.broken for _, cell in item[1]))
    parts = [_kept(label, cells) for label, cells in order]
    lost = {label for label, cells in labels.items() if any(cell.broken for _, cell in cells)}
    if not lost:
        head = "No acknowledged commit was seen to be lost, which is no proof that none can be"
    elif len(lost) == len(labels):
        head = "Acknowledged commits were lost on every arm, the control too: suspect the test"
    else:
        head = f"{listed(sorted(lost))} lost acknowledged commits beside running checkpoints"
    off = {arm.plan["synchronous"] for arm, _ in found}
    how = (
        f" (synchronous {listed(sorted(off)).upper()}, no crash and no power cut; provoked by "
        "processes that checkpoint without pause: SQLite's WAL-reset race, fixed in 3.51.3; "
        "it was not tried with fsync)"
    )
    return markdown("{}{}: {}.", bold("{}", head), how, Markdown("; ").join(parts))


def acked(evidence: Evidence) -> list[tuple[Arm, CountedCell]]:
    return [(arm, cell) for arm, cell in evidence.cells() if arm.plan["scenario"] == "acked"]


def _kept(label: str, cells: list[tuple[Arm, CountedCell]]) -> str:
    counted = [cell.counted for _, cell in cells if cell.counted is not None]
    commits = sum(c.roles["writer"].committed for c in counted if "writer" in c.roles)
    version = _versions(cells)
    base = f"{label}{version}, {times(len(counted), 'run')} of {_seconds(counted)}"
    broken = [(cell, cell.broken[0]) for _, cell in cells if cell.broken]
    if not counted:
        return f"{label}: not measured ({cells[0][1].failure or 'no run'})"
    if not broken:
        return f"{base} with {whole(commits)} acknowledged commits: none lost"
    cell, finding = broken[0]
    return markdown(
        "{}: {} of {} broken (run {}: {})",
        base,
        len(broken),
        len(counted),
        code(f"{cells[0][0].measured.name}/{cell.run}"),
        finding.sentence.rstrip("."),
    )


def _seconds(counted: list[Any]) -> str:
    each = [c.seconds for c in counted]
    return f"{number(float(np.median(each)))} s" if each else "0 s"


def _versions(cells: list[tuple[Arm, CountedCell]]) -> str:
    """Versions of the library that checkpointed, because its checkpoints are what races."""
    seen = []
    for _, cell in cells:
        manifest = cell.manifest
        engine = manifest.engines.get(manifest.plan.checkpoint_engine) if manifest else None
        if engine and engine.version:
            seen.append(engine.version)
    return f" (SQLite {listed(sorted(set(seen)))})" if seen else ""
