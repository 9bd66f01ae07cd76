"""Faults: a registry of stories, each told of each engine and mode, and what was left after it."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "STORIES",
    "Case",
    "Story",
    "StoryResult",
    "campaign",
    "cases_of",
    "default_engines",
    "find_stories",
    "read_results",
]
