"""Trials: experiments that are no run of workers, such as one client that times single calls, or a
script of events. Each is a module, is measured in a process of its own, and is kept block by block.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = ["TRIALS", "Measured", "Written", "find_trial", "measure", "read", "read_manifest"]
