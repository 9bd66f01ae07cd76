"""Files and folders of ours, which may have come from anybody. They are read with a limit, replaced
in one step, locked, and never lead outside their folder.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "FORMAT_VERSION",
    "LOCK_FILE",
    "NAME",
    "ROOT",
    "SHARED_MEMORY",
    "STAGE",
    "Held",
    "InUse",
    "LeftOver",
    "Owner",
    "Temporary",
    "alone",
    "boot_id",
    "clear",
    "clear_stages",
    "compiled_path",
    "converted",
    "empty",
    "hold",
    "holding",
    "in_use",
    "inside",
    "json_text",
    "left_over",
    "load_compiled",
    "locked",
    "made",
    "make",
    "move_aside",
    "opened",
    "read_bytes",
    "read_json",
    "read_owner",
    "read_text",
    "read_versioned",
    "remove",
    "replace",
    "replacing",
    "resolved",
    "this_process",
    "usual_places",
    "visible",
    "within",
    "write_json",
]
