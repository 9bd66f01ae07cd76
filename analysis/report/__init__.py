"""REPORT.md from a folder of experiments."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CELLS_CSV",
    "HUNTS",
    "MOST_SITTINGS",
    "PUBLISHED",
    "SUITE_FILE",
    "Entry",
    "add_sweeps",
    "against",
    "allow_foreign",
    "arms_table",
    "begun_sitting",
    "cells_of",
    "control_sentence",
    "designs",
    "doubt_lines",
    "failure_lines",
    "measure_claims",
    "measure_sitting",
    "measure_suite",
    "of_sitting",
    "over_at",
    "planned",
    "publish_hunt",
    "publish_sweep",
    "read_suite",
    "refuse_other",
    "refuse_place",
    "skip_lines",
    "told_claims",
    "write_report",
]
