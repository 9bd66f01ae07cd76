"""libSQL beside its server, counted: medians of blocks, ratios, how old a replica's rows were.

`workloads.replica` measures it; `analysis.report.replica_claims` words it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.counting import FOREIGN_LIMIT
from analysis.report.markdown import Markdown, markdown
from analysis.statistics import (
    PERCENTILES,
    Estimate,
    Ratio,
    median_of_blocks,
    percentiles,
    ratio_over_blocks,
)
from analysis.wording import DASH, Table, duration, percent, times, whole
from workloads.errors import RunError
from workloads.replica import read

FOLDER = "served"
"""The measurement's folder in a report's folder."""


AGAIN = Markdown("; `cwkit report --into` tries again")


@dataclass(frozen=True)
class Age:
    """How old a replica's rows were: the trials, and in how many of them the new row was seen.

    unsynced : without `sync()`, while one waited. synced : after `sync()`. own : its own write.
    """

    trials: int
    unsynced: int
    synced: int
    own: int


@dataclass(frozen=True)
class Served:
    """The measurements beside libSQL's server.

    problem : why nothing was measured, with the way out, as a sentence; "" where something was.
    manifest : as it is on disk. dropped : why blocks are missing.
    ns : arm -> int64, shape (blocks, repetitions, numbers), usable blocks.
    """

    problem: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    age: Age = Age(0, 0, 0, 0)
    dropped: tuple[str, ...] = ()

    @property
    def broken(self) -> list[str]:
        """Checks that did not hold."""
        checks = self.manifest.get("checks", [])
        return [f"{each['check']}: {each['said']}" for each in checks if not each["ok"]]

    @property
    def durability_differs(self) -> bool:
        """The plain file and the server differ in durability: their writes are not compared."""
        pragmas = self.manifest["pragmas"]
        return bool(pragmas["local"]["synchronous"] != pragmas["server"]["synchronous"])

    def each(self, arm: str) -> np.ndarray:
        """Block -> the median over its repetitions of a whole call, ns; shape (blocks,)."""
        return np.asarray(np.median(self.ns[arm].sum(axis=2), axis=1))

    def estimate(self, arm: str) -> Estimate:
        """A whole call's median, ns."""
        return median_of_blocks(self.each(arm), dropped=self.dropped)

    def ratio(self, over: str, under: str) -> Ratio:
        """`over` / `under` over blocks."""
        tops, bottoms = (dict(enumerate(self.each(arm).tolist())) for arm in (over, under))
        return ratio_over_blocks(
            tops, bottoms, candidate=over, baseline=under, dropped=self.dropped
        )

    def more(self, over: str, under: str, calls: int = 1) -> Estimate:
        """The time that a call of `over` takes more than one of `under`, ns, divided by `calls`."""
        more = (self.each(over) - self.each(under)) / calls
        return median_of_blocks(more, dropped=self.dropped)

    def hop_share(self) -> Estimate:
        """The bare round trip as a share of the time that a read takes more over loopback."""
        share = self.each("hop") / (self.each("read-remote") - self.each("read-local"))
        return median_of_blocks(share, dropped=self.dropped)

    def busy_share(self) -> Estimate:
        """Share of a core that a replica uses to fetch by itself while nothing happens."""
        cpu, wall = self.ns["syncing-cpu"][:, 0].astype(float).T
        return median_of_blocks(cpu / wall, dropped=self.dropped)


NEVER = Served(
    Markdown(
        "these runs were made without it; `make setup` fetches libSQL's server and `cwkit report` "
        "measures it."
    )
)


def read_served(report: Path, limit: float = FOREIGN_LIMIT) -> Served:
    """Read the measurements in a report's folder. A cut folder gives a problem, not an error.

    limit : share of the machine's CPU time that others may use in a block, in [0, 1].
    """
    folder = Path(report) / FOLDER
    try:
        measured = read(folder)
        manifest = dict(measured.manifest)
        if not manifest:
            return NEVER
        if not measured.blocks:
            why = str(manifest.get("failure") or "it was cut").rstrip(".")
            again = "" if manifest.get("ended") == "missing" else AGAIN
            return Served(markdown("{}{}.", why, again), manifest)
        dropped, keep = [], []
        for block, foreign in enumerate(manifest["foreign"][: measured.blocks]):
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
            manifest,
            dropped=tuple(dropped),
        )
    usable = np.array(keep)
    age = measured.age[usable].ravel()
    counts = (int(age[name].sum()) for name in ("seen_unasked", "seen_after_sync", "own_seen"))
    ns = {arm: each[usable] for arm, each in measured.ns.items()}
    return Served("", manifest, ns, Age(len(age), *counts), tuple(dropped))


# --- in the report ----------------------------------------------------------------------------


def section(served: Served) -> dict[str, Any]:
    """The part on libSQL's server, as data for the report's template."""
    return {
        "problem": served.problem,
        "conditions": conditions(served),
        "costs": costs(served),
        "access": access_table(served),
        "others": others_table(served),
    }


def access_table(served: Served) -> Table:
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
        arms = [f"{what}-{place}" for place in ("local", "replica", "remote")]
        compared = what == "read" or not served.durability_differs
        rows.append(
            (
                call,
                *(served.estimate(arm).text(duration) for arm in arms),
                *(served.ratio(a, arms[0]).text() if compared else DASH for a in arms[1:]),
            )
        )
    control = served.ratio("read-local-again", "read-local").text()
    return Table(head, rows, f"A/A control, the plain local read twice in each block: {control}.")


def others_table(served: Served) -> Table:
    """How long a hop, a sync and reads beside a busy server took."""
    head = ("call", "median of blocks", "p90", "longest")
    if served.problem:
        return Table(head, [])
    every_ms = f"{served.manifest['settings']['sync_interval_s'] * 1e3:g} ms"
    pause = duration(served.manifest["settings"]["pause_beside_s"] * 1e9)
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
            (call, served.estimate(arm).text(duration), duration(p90), duration(every.max()))
        )
    return Table(head, rows, f"Reads beside another process come {pause} apart, on colder caches.")


def conditions(served: Served) -> str:
    """Versions, settings and what was dropped, in a few sentences."""
    if served.problem:
        return ""
    manifest, versions = served.manifest, served.manifest["versions"]
    settings = manifest["settings"]
    blocks = len(served.each("hop"))
    dropped = f"; {len(served.dropped)} more were dropped, for others used the machine" * bool(
        served.dropped
    )
    checks = manifest.get("checks", [])
    held = (
        f"{sum(c['ok'] for c in checks)} of {times(len(checks), 'check')} held"
        if checks
        else "it was cut before its checks"
    )
    return (
        f"{versions['sqld']}, {versions['binding']}, one client, {settings['network']}, "
        f"{settings['rows']:,} rows, autocommit where no BEGIN is named, seed {manifest['seed']}. "
        f"{times(blocks, 'block')}{dropped}. {held}."
    )


def costs(served: Served) -> str:
    """Costs of a replica beside its writes and syncs: disk, CPU time, slower reads."""
    if served.problem:
        return ""
    manifest = served.manifest
    disk, database = (whole(manifest[key]) for key in ("replica_bytes", "database_bytes"))
    every_ms = f"{manifest['settings']['sync_interval_s'] * 1e3:g} ms"
    ratio = served.ratio("read-replica-syncing", "read-replica-written")
    verdict = {
        "more": "Its reads take longer while it fetches",
        "less": "Its reads take less while it fetches",
        "none seen": "Its reads were not seen to be slower or faster while it fetches",
    }.get(ratio.verdict, "Too few blocks for a verdict on its reads while it fetches")
    return (
        f"A replica is a whole copy: {disk} bytes on disk for a database of {database}, made in "
        f"{duration(manifest['first_copy_ns'])}. Fetching by itself every {every_ms} takes "
        f"{served.busy_share().text(percent)} of a core of the client while nothing happens. "
        f"{verdict}: ratio {ratio.text()}."
    )
