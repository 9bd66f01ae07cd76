"""Soaks: rounds of every kind on every engine, drawn at random, for hours, and what they found."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "KINDS",
    "MOST_SOUND_BYTES",
    "SOAK",
    "Design",
    "Found",
    "Round",
    "Row",
    "Soak",
    "Soaking",
    "begin_soak",
    "engines_here",
    "read_soak",
    "repeat_command",
    "resume_soak",
    "rows_of",
]
