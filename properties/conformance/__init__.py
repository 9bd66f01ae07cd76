"""Conformance: real engines, held against what their makers promise."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = ["isolation_matrix", "known_findings"]
