"""The cells of a sweep on several machines, by dask: each block whole on one machine."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = ["MachinesGone", "find_machines", "run_on_cluster"]
