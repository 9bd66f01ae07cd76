"""Conformance: real engines, held against what their makers promise."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CHECKS",
    "NO_CLASS_OF_A_DRIVER",
    "Check",
    "Outcome",
    "held_to",
    "isolation_matrix",
    "known_breach",
    "known_breaches",
    "known_findings",
    "named",
]
