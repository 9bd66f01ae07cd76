"""Crashes: every state that a crash may leave of a database, opened by its engine and judged."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "DESIGN",
    "MODELS",
    "Asked",
    "Change",
    "CrashResult",
    "Crashed",
    "Judged",
    "Recording",
    "calls_in",
    "crash",
    "kept_in",
    "look_again",
    "open_state",
    "read_kept",
    "read_recording",
    "read_result",
    "resume",
    "sentence_of",
]
