"""The table of the simulations: made, written, read again, and judged."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from analysis.statistics import abort_rate, seed_of
from tools.simulate.cases import COVERAGE, FALSE, Case, Row
from workloads.files import replace as replace_file

PUBLISHED = Path(__file__).resolve().parents[2] / "analysis" / "published" / "simulations.csv"
COLUMNS = Row._fields
WITHIN = (0.93, 0.97)
"""What an interval of nominally 95 % must cover where something is claimed by it."""

MOST_FALSE = 0.05


def run_case(case: Case, *, seed: int = 412, tries: int = 0) -> Row:
    """Try a case many times. tries : how often, 0 for as often as the table says."""
    many = tries or case.tries
    rng = np.random.default_rng([seed, seed_of(case.name, case.what)])
    answers = [answer for _ in range(many) if (answer := case.attempt(rng)) is not None]
    low, observed, high = abort_rate(sum(answers), len(answers))
    return Row(case.name, case.what, case.nominal, observed, low, high, len(answers))


def faults(rows: Iterable[Row]) -> list[str]:
    """Cases that are not as they are claimed to be, beyond what the number of tries leaves open."""
    found = []
    for row in rows:
        if row.what == COVERAGE and not (row.high >= WITHIN[0] and row.low <= WITHIN[1]):
            found.append(f"{row.case}: {row.what} in {row.observed:.1%}, not in 93 to 97 %")
        if row.what == FALSE and row.low > MOST_FALSE:
            found.append(
                f"{row.case}: {row.what} in {row.observed:.1%}, more than {MOST_FALSE:.0%}"
            )
    return found


def write_table(rows: Iterable[Row], path: Path = PUBLISHED) -> None:
    """Write the rows as CSV. A share has four decimals; an unknown one is empty."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        shares = ["" if math.isnan(share) else f"{share:.4f}" for share in row[2:6]]
        writer.writerow([row.case, row.what, *shares, row.tries])
    replace_file(path, out.getvalue())


def read_table(path: Path = PUBLISHED) -> list[Row]:
    """The rows of a table that `write_table` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                one["case"],
                one["what"],
                float(one["nominal"] or "nan"),
                float(one["observed"]),
                float(one["low"]),
                float(one["high"]),
                int(one["tries"]),
            )
            for one in csv.DictReader(file)
        ]
