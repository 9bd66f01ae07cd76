"""A hunting process, `python -m properties.hunter.hunting JOB`, started by `crew` and nobody else.

It writes each finding into the hunt's folder itself, and tells its parent how far it is by a line
of JSON on its output. It ends with its parent, and its sessions' processes end with it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from properties.hunter.folder import keep
from properties.hunter.hunt import Hunter, hunt, identity_of
from workloads.engines import find_engine
from workloads.processes import die_with_parent

EACH_S = 0.5


class Teller:
    """Tells the parent what was done since the last time."""

    def __init__(self) -> None:
        self.at = 0.0
        self.hunter: Hunter | None = None

    def __call__(self, hunter: Hunter) -> None:
        self.hunter = hunter
        if time.monotonic() - self.at >= EACH_S:
            self.tell()

    def tell(self) -> None:
        if (hunter := self.hunter) is None:
            return
        self.at = time.monotonic()
        print(json.dumps({"tally": tallied(hunter)}), flush=True)


def tallied(hunter: Hunter) -> dict[str, Any]:
    """What a hunter did so far, as Progress.add takes it."""
    tally = hunter.tally
    return {
        "programs": tally.programs, "drawn": tally.drawn, "steps": tally.steps,
        "played_s": tally.played_s, "judged_s": tally.judged_s,
        "unsupported": tally.unsupported, "unsure": tally.unsure,
        "statuses": dict(tally.statuses), "refused": hunter.refused,
        "refused_schemas": sum(tally.refused.values()), "seen": sum(tally.seen.values()),
        "known": dict(tally.known), "races": tally.races, "not_raced": dict(tally.not_raced),
        "pairs": [[one, other, times] for (one, other), times in tally.pairs.items()],
    }  # fmt: skip


def _ended(number: int, frame: Any) -> None:
    """Told to end, it removes what it has made for the moment."""
    raise SystemExit(0)


def main(argv: list[str]) -> int:
    """JOB: a JSON object with the arguments of `hunt`, and the folder."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ended)
    job = json.loads(argv[0])
    engine, name, modes = find_engine(job["engine"]), job["engine"], tuple(job["modes"])
    folder, identity, teller = Path(job["folder"]), identity_of(name), Teller()
    for finding in hunt(
        name, modes, seed=job["seed"], programs=job["programs"], minutes=job["minutes"],
        process=job["process"], processes=job["processes"], on_step=teller,
        without=tuple(job["without"]),
    ):  # fmt: skip
        assert teller.hunter is not None
        kept = keep(
            folder, finding, engine=engine, name=name, identity=identity, modes=modes,
            seed=job["seed"], first=teller.hunter.stage.first,
            shows=partial(teller.hunter.shows, finding),
        )  # fmt: skip
        if kept:
            print(json.dumps({"finding": kept.name}), flush=True)
    teller.tell()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
