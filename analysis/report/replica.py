"""libSQL beside its server in the report: its tables, conditions and costs.

`analysis.claims` counts it; `analysis.report.replica_claims` words it.
"""

from __future__ import annotations

from typing import Any

from analysis.claims import Served
from analysis.report.markdown import Markdown, said
from analysis.statistics import PERCENTILES, percentiles
from analysis.wording import DASH, Table, duration, percent, times, whole


def section(served: Served) -> dict[str, Any]:
    """The part on libSQL's server, as data for the report's template."""
    return {
        "problem": said(served.problem),
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
        f"{settings['rows']:,} rows, autocommit where no BEGIN is named, "
        f"seed {manifest.get('seed', 0)}. {times(blocks, 'block')}{dropped}. {held}."
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
