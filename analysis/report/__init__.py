"""REPORT.md from a folder of experiments."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CAMPAIGN",
    "CELLS_CSV",
    "allow_foreign",
    "arms_table",
    "control_words",
    "designs",
    "doubt_words",
    "failure_words",
    "measure_suite",
    "read_campaign",
    "skip_words",
    "tell_sweeps",
    "write_report",
]
