"""Child processes: started in one way, waited for with a limit, ended with their parent. Their
last output is kept.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CALLS",
    "FAULT_MAGIC",
    "POLL_S",
    "RESERVE",
    "SUFFIX",
    "ChildProcess",
    "Copy",
    "FaultControl",
    "FaultRule",
    "Hit",
    "NotForked",
    "Original",
    "OriginalGone",
    "Process",
    "StartMethod",
    "all_of",
    "can_fork",
    "describe_end",
    "describe_status",
    "die_with_parent",
    "end",
    "end_with_parent",
    "fault_environment",
    "fault_library",
    "gist",
    "give_back",
    "hold_back",
    "keep",
    "leave",
    "note",
    "parse_rule",
    "path_of",
    "python",
    "read_account",
    "read_last_words",
    "read_open",
    "reserve",
    "serve",
    "start",
    "start_method",
    "wait",
]
