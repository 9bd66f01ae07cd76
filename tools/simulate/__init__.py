"""Simulations of the statistics: how often an interval holds the truth that was planted, how often
a report claims a difference where there is none, and how large one must be to be found.

Nothing here is measured: the numbers are drawn, by number and seed, and their truth is known. The
procedures are those that the commands use. `make simulate` writes their table.
"""

from tools.simulate.cases import CASES, Case, Row
from tools.simulate.table import COLUMNS, PUBLISHED, faults, read_table, run_case, write_table

__all__ = [
    "CASES",
    "COLUMNS",
    "PUBLISHED",
    "Case",
    "Row",
    "faults",
    "read_table",
    "run_case",
    "write_table",
]
