"""The highest rate that meets an objective."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "DOCUMENT",
    "LONGEST_S",
    "MOST_REPEATS",
    "SEARCH",
    "SHARES",
    "STEP",
    "Found",
    "Probe",
    "Search",
    "Undecided",
    "begin",
    "parse_objectives",
    "read_rate",
    "read_search",
    "run_search",
]
