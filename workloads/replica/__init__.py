"""libSQL beside its server: the cost of a local read, a replica's sync and a hop over HTTP."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = ["measure", "read", "read_manifest"]
