"""One run, from its plan to its folder: processes are started, watched, ended and accounted for."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "ARRIVALS",
    "PARENT_KILLED",
    "ROLES",
    "START_LIMIT_S",
    "CpuMeter",
    "OnProgress",
    "Plan",
    "PlanErrors",
    "Progress",
    "Recovered",
    "Trouble",
    "commit",
    "complaint_of",
    "context_of",
    "describe",
    "digest",
    "disk_trouble",
    "due_before",
    "due_in_turn",
    "field_of",
    "file_of",
    "has_ended",
    "identity",
    "identity_of",
    "is_going_on",
    "make_plan",
    "must_be_over",
    "per_s",
    "prepare",
    "recover",
    "run",
    "run_of",
    "shape_of",
    "source",
    "troubles",
    "why_not",
]
