"""Made-up runs whose truth is known, for tests."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "ACKED",
    "ARMS",
    "START_NS",
    "Planted",
    "attempts",
    "drawn_run",
    "edit",
    "made_acked",
    "made_experiment",
    "made_report_folder",
    "made_run",
    "made_worker",
    "open_loop",
    "optimistic_run",
    "planted_report",
    "rated",
    "whole_report",
    "write_folder",
    "write_long_concurrent_run",
    "write_long_open_loop",
    "write_long_run",
]
