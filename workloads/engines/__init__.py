"""The engines under study. One engine, one file; each is asked, never assumed."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "MODES",
    "REGISTRY",
    "Engine",
    "EngineMissing",
    "Faulty",
    "FaultySession",
    "Identity",
    "LoggedSession",
    "NotRecorded",
    "Ops",
    "PassingSession",
    "Probe",
    "Promise",
    "Refusal",
    "RefusalPage",
    "Session",
    "Settings",
    "UnknownName",
    "classifier",
    "engine_names",
    "find_engine",
    "found",
    "from_dict",
    "layout_of",
    "leaf_of_rows",
    "log_path",
    "logs_of",
    "packed",
    "parse_refusal_page",
    "path_of",
    "probe",
    "reads",
    "save_history",
    "to_dict",
    "trees_of",
    "trust",
]
