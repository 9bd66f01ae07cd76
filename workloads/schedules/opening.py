"""How the sessions of a program are opened."""

from __future__ import annotations

from typing import NamedTuple

from workloads.engines import Settings


class Opening(NamedTuple):
    """How each session is opened. first : statements that each connection runs first."""

    engine: str
    path: str
    settings: Settings
    first: tuple[str, ...]
