"""REPORT.md from a folder of experiments."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CELLS_CSV",
    "PUBLISHED",
    "SUITE_FILE",
    "add_sweeps",
    "against",
    "allow_foreign",
    "arms_table",
    "control_sentence",
    "designs",
    "doubt_lines",
    "failure_lines",
    "measure_suite",
    "planned",
    "publish_sweep",
    "read_suite",
    "refuse_other",
    "refuse_place",
    "skip_lines",
    "write_report",
]
