"""The hunter: programs drawn over a wide grammar of SQL, played, judged, shrunk and told."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "HUNT",
    "KNOWN",
    "PROGRAM",
    "REPRO",
    "TIMELINE",
    "Hunted",
    "Kept",
    "KnownBug",
    "Progress",
    "Replayed",
    "checked_features",
    "checked_modes",
    "findings_in",
    "hunt_all",
    "known_as",
    "known_bug",
    "opened",
    "read_finding",
    "read_hunt",
    "replay",
]
