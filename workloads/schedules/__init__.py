"""One schedule over several sessions, played step by step on real connections."""

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
