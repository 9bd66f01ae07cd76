"""Which isolation levels a history keeps, and why not."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "DEFAULT_LEVEL",
    "FORBIDS",
    "GUARANTEES",
    "KIND_NAMES",
    "LEVELS",
    "Verdict",
    "Witness",
    "caveats",
    "check",
    "explain",
    "full_check",
    "headline",
    "lanes_svg",
    "marks_of",
    "op_text",
    "reason",
    "report",
    "svg",
]
