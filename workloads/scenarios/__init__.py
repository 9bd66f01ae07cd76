"""The workloads. One scenario, one file: its draws, its transactions, its invariants."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "TRANSACTING",
    "Draw",
    "Finding",
    "Footprint",
    "InvariantBroken",
    "NoFootprint",
    "RunLog",
    "Scenario",
    "ScenarioFailed",
    "Seat",
    "Shape",
    "Told",
    "Watched",
    "WorkerContext",
    "find_scenario",
    "named",
    "scenario_names",
    "with_texts",
]
