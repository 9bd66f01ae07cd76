"""B against A, and what may be claimed of the difference."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CLAIMED",
    "FAILED",
    "MEASURES",
    "NOT_COMPARABLE",
    "UNKNOWN",
    "Comparison",
    "Gate",
    "Side",
    "aa_band",
    "ask",
    "compare",
    "deviation",
    "judged",
    "junit_text",
    "pairs_of",
    "parse_condition",
    "status",
]
