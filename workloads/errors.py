"""What a user can mend, one sentence each: raised anywhere, told by the commands with status 2."""

from __future__ import annotations


class RunError(ValueError):
    """A folder or a file that cannot be read; the text says which, why, and the way out."""


class LaterVersion(RunError):
    """A file that a later cwkit wrote: what it says is not known here, so nothing is made of it."""
