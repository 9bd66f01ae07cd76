"""Schedules: a few sessions whose steps are taken in one given order, on real connections."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "ALL",
    "FAST",
    "READS",
    "WRITES",
    "CannotPlay",
    "Death",
    "EngineDied",
    "Op",
    "Played",
    "Program",
    "Result",
    "Schedule",
    "ScheduleRun",
    "ScheduleRunner",
    "Schema",
    "SessionError",
    "Stage",
    "Step",
    "StepResult",
    "first_word",
    "in_processes",
    "kind_of",
    "met",
    "parse_program",
    "parse_race",
    "pasted",
    "pragma",
    "race_source",
    "room",
    "stderr_text",
    "timeline",
]
