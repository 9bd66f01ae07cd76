"""`python -m tools.simulate`: tries every case and writes analysis/published/simulations.csv.

Exit status: 0 every case is as it is claimed to be; 1 one is not; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from tools.simulate import CASES, PUBLISHED, Row, faults, run_case, write_table

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)


def _one(number: int, seed: int, share: float) -> Row:
    case = CASES[number]
    return run_case(case, seed=seed, tries=max(round(case.tries * share), 20))


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(min=0, help="of the draws")] = 412,
    share: Annotated[float, typer.Option(help="share of the tries, such as 0.1 for a look")] = 1.0,
    out: Annotated[Path, typer.Option(help="the table")] = PUBLISHED,
) -> None:
    numbers = range(len(CASES))
    rows = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for row in pool.map(_one, numbers, [seed] * len(CASES), [share] * len(CASES)):
            rows.append(row)
            print(f"{row.observed:7.2%}  {row.case}: {row.what}", file=sys.stderr, flush=True)
    write_table(rows, out)
    wrong = faults(rows)
    for line in wrong:
        print(line)
    print(f"{len(rows)} cases, {len(wrong)} not as claimed: {out}")
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    app()
