"""libSQL beside its server, counted: medians of blocks, ratios, how old a replica's rows were.

What was measured is in `workloads.replica.files`; the sentences are in
`analysis.report.replica_claims`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.counting import FOREIGN_LIMIT
from analysis.report.markdown import Markdown, markdown
from analysis.statistics import PERCENTILES, Estimate, Ratio, median_of_blocks, percentiles
from analysis.wording import DASH, Table, duration, percent, times, whole
from workloads.errors import RunError
from workloads.replica import read

FOLDER = "served"
"""In a report's folder."""


AGAIN = Markdown("; `cwkit report --into` tries again")


@dataclass(frozen=True)
class Age:
    """How old a replica's rows were. Trials, and in how many the new row was seen.

    unasked : without `sync()`, while one waited. synced : after `sync()`. own : its own write.
    """

    trials: int
    unasked: int
    synced: int
    own: int


@dataclass(frozen=True)
class Served:
    """What was measured beside the server.

    problem : why nothing can be said, with the way out, as a sentence; "" where something can.
    said : the manifest. ns : arm -> int64, shape (blocks, repetitions, numbers), usable blocks.
    dropped : why blocks are missing.
    """

    problem: str
    said: Mapping[str, Any] = field(default_factory=dict)
    ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    age: Age = Age(0, 0, 0, 0)
    dropped: tuple[str, ...] = ()

    @property
    def broken(self) -> list[str]:
        """Checks that did not hold."""
        return [f"{c['check']}: {c['said']}" for c in self.said.get("checks", []) if not c["ok"]]

    @property
    def unlike(self) -> bool:
        """The plain file and the server differ in durability: their writes are not compared."""
        pragmas = self.said["pragmas"]
        return bool(pragmas["local"]["synchronous"] != pragmas["server"]["synchronous"])

    def each(self, arm: str) -> np.ndarray:
        """Block -> the median over its repetitions of a whole call, ns; shape (blocks,)."""
        return np.asarray(np.median(self.ns[arm].sum(axis=2), axis=1))

    def estimate(self, arm: str) -> Estimate:
        """A whole call's median, ns."""
        return median_of_blocks(self.each(arm), seed=_seed(arm), dropped=self.dropped)

    def ratio(self, over: str, under: str) -> Ratio:
        """The median over blocks of over / under."""
        found = median_of_blocks(self.each(over) / self.each(under), seed=_seed(over, under))
        return Ratio(
            found.value, found.low, found.high, found.each, self.dropped, over, under
        )  # fmt: skip

    def more(self, over: str, under: str, calls: int = 1) -> Estimate:
        """What a call of `over` takes more than one of `under`, ns; divided by `calls`."""
        more = (self.each(over) - self.each(under)) / calls
        return median_of_blocks(more, seed=_seed(over, under, "more"), dropped=self.dropped)

    def hop_share(self) -> Estimate:
        """Share of what a read over loopback takes more that the bare round trip is."""
        share = self.each("hop") / (self.each("read-remote") - self.each("read-local"))
        return median_of_blocks(share, seed=_seed("hop"), dropped=self.dropped)

    def busy_share(self) -> Estimate:
        """CPU time of a replica that fetches by itself while nothing happens: share of a core."""
        cpu, wall = self.ns["syncing-cpu"][:, 0].astype(float).T
        return median_of_blocks(cpu / wall, seed=_seed("syncing-cpu"), dropped=self.dropped)


NEVER = Served(
    Markdown(
        "these runs were made without it; `make setup` fetches libSQL's server and `cwkit report` "
        "measures it."
    )
)


def read_served(report: Path, limit: float = FOREIGN_LIMIT) -> Served:
    """What a report's folder holds of it. A cut folder is a problem with its words, not an error.

    limit : share of the machine's CPU time that others may use in a block, in [0, 1].
    """
    folder = Path(report) / FOLDER
    try:
        measured = read(folder)
        said = dict(measured.said)
        if not said:
            return NEVER
        if not measured.blocks:
            why = str(said.get("failure") or "it was cut").rstrip(".")
            again = "" if said.get("ended") == "missing" else AGAIN
            return Served(markdown("{}{}.", why, again), said)
        dropped, keep = [], []
        for block, foreign in enumerate(said["foreign"][: measured.blocks]):
            share = max(foreign["cpu_share"], foreign["steal_share"])
            keep.append(share <= limit)
            if share > limit:
                dropped.append(f"block {block}: others used {percent(share)} of the CPU time")
    except RunError as error:
        return Served(markdown("{}; `cwkit report` measures it anew.", str(error).rstrip(".")))
    except (KeyError, TypeError, ValueError) as error:
        why = f"{folder}: cut or edited ({type(error).__name__}: {error})"
        return Served(markdown("{}; `cwkit report` measures it anew.", why))
    if not any(keep):
        return Served(
            markdown(
                "others used more than {} of the machine's CPU time in each of its {}; close "
                "other programs, or allow them with `--foreign-limit SHARE`.",
                percent(limit),
                times(len(keep), "block"),
            ),
            said,
            dropped=tuple(dropped),
        )
    usable = np.array(keep)
    age = measured.age[usable].ravel()
    counts = (int(age[name].sum()) for name in ("seen_unasked", "seen_after_sync", "own_seen"))
    ns = {arm: each[usable] for arm, each in measured.ns.items()}
    return Served("", said, ns, Age(len(age), *counts), tuple(dropped))


# --- in the report ----------------------------------------------------------------------------


def told(served: Served) -> dict[str, Any]:
    """What the report's template shows of it."""
    return {
        "problem": served.problem,
        "conditions": conditions(served),
        "costs": costs(served),
        "ways": ways_table(served),
        "others": others_table(served),
    }


def ways_table(served: Served) -> Table:
    """The same read, write and transaction in a plain file, in a replica and over loopback."""
    head = ("median of blocks", "plain local file", "embedded replica", "server, over loopback",
            "replica / local", "server / local")  # fmt: skip
    if served.problem:
        return Table(head, [])
    rows = []
    for what, call in (
        ("read", "read one row by its key"),
        ("write", "write one row by its key"),
        ("transaction", "BEGIN IMMEDIATE, that read, that write, COMMIT"),
    ):
        arms = [f"{what}-{way}" for way in ("local", "replica", "remote")]
        compared = what == "read" or not served.unlike
        rows.append(
            (
                call,
                *(served.estimate(arm).said(duration) for arm in arms),
                *(served.ratio(a, arms[0]).said() if compared else DASH for a in arms[1:]),
            )
        )
    control = served.ratio("read-local-again", "read-local").said()
    return Table(head, rows, f"A/A control, the plain local read twice in each block: {control}.")


def others_table(served: Served) -> Table:
    """What a hop, a sync and reads beside a busy server took."""
    head = ("call", "median of blocks", "p90", "longest")
    if served.problem:
        return Table(head, [])
    every_ms = f"{served.said['settings']['sync_interval_s'] * 1e3:g} ms"
    pause = duration(served.said["settings"]["pause_beside_s"] * 1e9)
    rows = []
    for arm, call in (
        ("hop", "64 bytes there and back over loopback TCP, no database in it"),
        ("sync-idle", Markdown("`sync()`, nothing to fetch")),
        ("sync-one", Markdown("`sync()`, one commit waiting")),
        ("read-local-written", "local read while another process commits at the server"),
        ("read-replica-written", "replica's read, likewise"),
        ("read-replica-syncing", f"replica's read, likewise, and it fetches every {every_ms}"),
        ("lag", f"from a commit at the server to its sight there (fetching every {every_ms})"),
    ):
        every = served.ns[arm].sum(axis=2).ravel()
        p90 = dict(zip(PERCENTILES, percentiles(every), strict=True))["p90"]
        rows.append(
            (call, served.estimate(arm).said(duration), duration(p90), duration(every.max()))
        )
    return Table(head, rows, f"Reads beside another process come {pause} apart, on colder caches.")


def conditions(served: Served) -> str:
    """Versions, settings and what was dropped, in a few sentences."""
    if served.problem:
        return ""
    said, versions = served.said, served.said["versions"]
    settings = said["settings"]
    blocks = len(served.each("hop"))
    dropped = f"; {len(served.dropped)} more were dropped, for others used the machine" * bool(
        served.dropped
    )
    checks = said.get("checks", [])
    held = (
        f"{sum(c['ok'] for c in checks)} of {times(len(checks), 'check')} held"
        if checks
        else "it was cut before its checks"
    )
    return (
        f"{versions['sqld']}, {versions['binding']}, one client, {settings['network']}, "
        f"{settings['rows']:,} rows, autocommit where no BEGIN is named, seed {said['seed']}. "
        f"{times(blocks, 'block')}{dropped}. {held}."
    )


def costs(served: Served) -> str:
    """What a replica costs besides its writes and syncs."""
    if served.problem:
        return ""
    said = served.said
    every_ms = f"{said['settings']['sync_interval_s'] * 1e3:g} ms"
    ratio = served.ratio("read-replica-syncing", "read-replica-written")
    verdict = {
        "more": "Its reads take longer while it fetches",
        "less": "Its reads take less while it fetches",
        "none seen": "Its reads were not seen to be slower or faster while it fetches",
    }.get(ratio.verdict, "Too few blocks for a verdict on its reads while it fetches")
    return (
        f"A replica is a whole copy: {whole(said['replica_bytes'])} bytes on disk for a database "
        f"of {whole(said['database_bytes'])}, made in {duration(said['first_copy_ns'])}. Fetching "
        f"by itself every {every_ms} takes {served.busy_share().said(percent)} of a core of the "
        f"client while nothing happens. {verdict}: ratio {ratio.said()}."
    )


def _seed(*parts: str) -> int:
    return zlib.crc32("/".join(("served", *parts)).encode())
