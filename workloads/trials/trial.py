"""A trial: what it is asked for, and the registry. One trial, one module, one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from workloads.engines import found

Row = Mapping[str, Any]
"""Something that was seen and is no time: plain values by name."""

Check = dict[str, Any]
"""Keys: check (its name), ok, said (what was counted, as a sentence)."""


class Client(Protocol):
    """A trial under way, in the process that measures it.

    arms   : arm -> (repetitions in a block, numbers of a repetition). All numbers are int64, at
             least 1; ns where the trial says nothing else.
    facts  : kept in the manifest; `settings` and `versions` are among them.
    pids   : other processes whose CPU time is the trial's own and no stranger's.
    """

    arms: Mapping[str, tuple[int, int]]
    facts: Mapping[str, Any]
    pids: Sequence[int]

    def block(self, ns: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sequence[Row]:
        """Measure one block into `ns`, arm -> array of its shape. Returns what is no time."""

    def checks(self) -> Sequence[Check]:
        """What must hold at the end."""


class Trial(Protocol):
    """A trial.

    story    : its question, in a line.
    blocks   : how many at most, (usual, quick). enough_s : after this time no block beyond the
               quick number is begun, because on a busy machine a block takes long.
    limit_s  : it is ended after this time.
    timed    : its times count, so that a block during which others used the machine does not.
    """

    story: str
    blocks: tuple[int, int]
    enough_s: float
    limit_s: float
    timed: bool

    def begin(self, home: Path, stack: ExitStack, *, quick: bool) -> Client:
        """Set everything up within `home`, whose end is left to `stack`.

        Raises EngineMissing where something is not there; the sentence says what and how to get it.
        """


TRIALS: dict[str, str] = {
    "nanoseconds": "workloads.trials.nanoseconds:Nanoseconds",
    "connecting": "workloads.trials.connecting:Connecting",
    "compatibility": "workloads.trials.compatibility:Compatibility",
    "outages": "workloads.trials.outages:Outages",
    "replica": "workloads.trials.replica:Replica",
}
"""Name -> "module:Class"; the class is called without arguments and satisfies Trial."""


def find_trial(name: str) -> Trial:
    """Raises UnknownName with the nearest name."""
    made: Trial = found(name, TRIALS, "trial", "`cwkit claims` lists what needs one")()
    return made
