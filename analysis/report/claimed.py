"""The claims beside a report: what a claim needs is measured into a folder, and its verdict told.

The folder is a report's: `cwkit report --into` goes on in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from analysis.claims import CLAIMS, EXPERIMENT, SWEEP, TRIAL, Claim, Seen
from analysis.counting import FOREIGN_LIMIT, SpareRule
from analysis.report.evidence import read_evidence
from analysis.report.ledger import Entry, seen_in
from analysis.report.measurements import SPARE_S, designs, trial
from analysis.report.published import PUBLISHED, read_published
from analysis.report.suite_file import SUITE_FILE, Suite, read_suite, write_suite
from workloads.errors import FolderUnwritable
from workloads.experiments import MOST_SPARES, OnCell, run_experiment
from workloads.files import inside


def measure_claims(
    folder: Path,
    claims: Sequence[Claim],
    *,
    quick: bool,
    seed: int,
    command: str,
    on_cell: Callable[[str], OnCell],
    notify: Callable[[str], None] = print,
    foreign_limit: float = FOREIGN_LIMIT,
) -> None:
    """Measure what these claims need and what is not in the folder yet. Sweeps are not measured.

    Raises RunError where the folder holds something else, FolderUnwritable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SUITE_FILE).exists():
            started = datetime.now(UTC).isoformat(timespec="seconds")
            write_suite(folder, Suite(name=folder.name, quick=quick, seed=seed, command=command,
                                      started=started))  # fmt: skip
        suite = read_suite(folder)
        write_suite(folder, msgspec.structs.replace(suite, foreign_limit=foreign_limit))
    except OSError as error:
        raise FolderUnwritable(f"{folder}: cannot be written ({error.strerror}).") from error
    needs = dict.fromkeys(need for claim in claims for need in claim.needs)
    those = {design.name: design for design in designs(suite.quick, suite.seed or 0)}
    for need in needs:
        if need.kind == TRIAL:
            trial(folder, need.name, quick=suite.quick, seed=suite.seed or 0, notify=notify)
        elif need.kind == EXPERIMENT and need.name in those:
            run_experiment(
                those[need.name],
                inside(folder, need.name),
                started_by="report",
                command=command,
                on_cell=on_cell(need.name),
                notify=notify,
                odd=SpareRule(foreign_limit, SPARE_S),
                spares=MOST_SPARES,
            )


def cells_of(claims: Sequence[Claim], *, quick: bool, seed: int) -> list[str]:
    """The names of the report's experiments that these claims need."""
    there = {design.name for design in designs(quick, seed)}
    needs = (need for claim in claims for need in claim.needs if need.kind == EXPERIMENT)
    return [name for name in dict.fromkeys(need.name for need in needs) if name in there]


def told_claims(
    folder: Path | None, claims: Sequence[Claim] = CLAIMS, published: Path = PUBLISHED
) -> list[Entry]:
    """The claims with their verdicts, from a report's folder and from what was published.

    folder : None where there is no report. Raises RunError where it cannot be read.
    """
    needed = {need.name for claim in claims for need in claim.needs if need.kind == SWEEP}
    seen = Seen()
    if folder is not None:
        seen = seen_in(read_evidence(folder, published=published, only=needed))
    elif needed:
        found, _ = read_published(published, needed)
        seen = Seen(sweeps={one.name: one.measured for one in found})
    return [Entry(claim, claim.verdict(seen)) for claim in claims]
