"""The workloads. One scenario, one file: its draws, its transactions, its invariants."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "TRANSACTING",
    "Access",
    "Draw",
    "Finding",
    "Footprint",
    "InvariantBroken",
    "NoFootprint",
    "Posting",
    "RunLog",
    "Scenario",
    "ScenarioFailed",
    "ScriptEffects",
    "Seat",
    "Shape",
    "Told",
    "Twice",
    "Watched",
    "WorkerContext",
    "effects_of",
    "find_scenario",
    "named",
    "scenario_names",
    "tells_postings",
    "with_texts",
]
