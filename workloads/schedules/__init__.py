"""Schedules: a few sessions whose steps are taken in one given order, on real connections."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "FAST",
    "READS",
    "WRITES",
    "EngineDied",
    "Op",
    "Schedule",
    "ScheduleRun",
    "ScheduleRunner",
    "Schema",
    "SessionError",
    "StepResult",
    "pasted",
    "stderr_text",
    "timeline",
]
