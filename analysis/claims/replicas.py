"""Claim 5, and the hop over loopback: libSQL beside its server, by the trial `replica`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec

from analysis.claims.claim import (
    FREE,
    HOLDS,
    IN_PART,
    NOT,
    NOT_MEASURED,
    UNDECIDED,
    Seen,
    Verdict,
)
from analysis.claims.sentence import Sentence, sentence
from analysis.claims.trials import NOT_THERE, Trial, read_trial
from analysis.counting import FOREIGN_LIMIT
from analysis.statistics import Estimate, Ratio, median_of_blocks
from analysis.wording import duration, percent
from workloads.errors import RunError
from workloads.files import converted

NAME = "replica"

MOST_OF_IT = 0.5
"""A part whose interval begins above this is most of the whole."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=10**9)]


class _Settings(msgspec.Struct):
    sync_interval_s: _Time
    wait_unasked_s: _Time
    lag_limit_s: _Time
    pause_beside_s: _Time
    network: str
    rows: _Count


class _Versions(msgspec.Struct):
    sqld: str
    binding: str


class _Durable(msgspec.Struct):
    synchronous: int | str


class _Durabilities(msgspec.Struct):
    local: _Durable
    server: _Durable


class _Facts(msgspec.Struct):
    """The manifest, as far as it is read of this trial alone."""

    settings: _Settings
    versions: _Versions
    pragmas: _Durabilities
    first_copy_ns: _Count
    replica_bytes: _Count
    database_bytes: _Count


class _Aged(msgspec.Struct):
    waited_ns: _Count
    seen_unasked: bool
    seen_after_sync: bool
    own_seen: bool


ARMS = (
    "hop", "read-local", "read-local-again", "read-replica", "read-remote", "write-local",
    "write-replica", "write-remote", "transaction-local", "transaction-replica",
    "transaction-remote", "sync-idle", "sync-one", "read-local-written", "read-replica-written",
    "read-replica-syncing", "syncing-cpu", "lag",
)  # fmt: skip


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
class Served(Trial):
    """The trial `replica`, counted."""

    age: Age = Age(0, 0, 0, 0)

    @property
    def durability_differs(self) -> bool:
        """The plain file and the server differ in durability: their writes are not compared."""
        pragmas = self.manifest["pragmas"]
        return bool(pragmas["local"]["synchronous"] != pragmas["server"]["synchronous"])

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


def served_of(trial: Trial) -> Served:
    """The trial as `Served`, with what it must hold checked. A damaged one has a problem."""
    if trial is NOT_THERE:
        return NEVER
    values = {each.name: getattr(trial, each.name) for each in fields(Trial)}
    if trial.problem:
        return Served(**values)
    try:
        age = _checked(trial.place, trial.manifest, trial.ns, trial.rows)
    except RunError as error:
        why = str(error).rstrip(".")
        return Served(sentence("{}; `cwkit report` measures it anew.", why), trial.place)
    return Served(**values, age=age)


def _checked(
    place: str,
    manifest: Mapping[str, Any],
    ns: Mapping[str, Any],
    rows: Sequence[Sequence[Mapping[str, Any]]],
) -> Age:
    """How old its rows were. Raises RunError where something is not as the trial writes it."""
    path = Path(place)
    converted(path, dict(manifest), _Facts)
    if lacks := [arm for arm in ARMS if arm not in ns]:
        raise RunError(f"{place}: `arms` lacks {lacks[0]}. It was cut or edited.")
    if ns["syncing-cpu"].shape[2] != 2:
        raise RunError(f"{place}: `syncing-cpu` has not two numbers. It was cut or edited.")
    aged = [converted(path, dict(row), _Aged) for block in rows for row in block]
    return Age(
        len(aged),
        sum(row.seen_unasked for row in aged),
        sum(row.seen_after_sync for row in aged),
        sum(row.own_seen for row in aged),
    )


def read_served(report: Path, limit: float = FOREIGN_LIMIT) -> Served:
    """The measurements beside libSQL's server in a report's folder."""
    return served_of(read_trial(report, NAME, limit))


NEVER = Served(
    sentence(
        "these runs were made without it; `make setup` fetches libSQL's server and `cwkit report` "
        "measures it."
    )
)


def _served(seen: Seen) -> Served:
    trial = seen.trial(NAME)
    return trial if isinstance(trial, Served) else served_of(trial)


def doubted(trial: Trial, number: Sentence) -> Sentence:
    """The number behind what did not hold, if something did not."""
    if not trial.broken:
        return number
    return sentence("**A check did not hold** ({}). {}", "; ".join(trial.broken), number)


def free_replica_reads(seen: Seen) -> Verdict:
    """Claim 5: reads through a replica against those of a plain file, and what a write pays."""
    served = _served(seen)
    if served.problem:
        return Verdict(NOT_MEASURED, served.problem)
    read = served.ratio("read-replica", "read-local")
    server = served.ratio("read-remote", "read-replica")
    told = (
        f"a replica's read {read.text()} times a local one (at the server {server.text()} times "
        f"the replica's); a write through it {duration(served.estimate('write-replica').value)}"
    )
    if not read.known:
        number = sentence("{}", f"Too few blocks: {told}")
        return Verdict(UNDECIDED, doubted(served, number), served.place)
    write: Ratio | None = None
    if not served.durability_differs:
        write = served.ratio("write-replica", "write-local")
        told += f", {write.text()} times a local one"
    cheap = read.high < FREE
    verdict = NOT if read.low > FREE else IN_PART
    if cheap and write is not None and write.high < FREE:
        verdict = HOLDS
    return Verdict(verdict, doubted(served, sentence("{}", told)), served.place)


def saved_hops(seen: Seen) -> Verdict:
    """Claim 2, as far as one client over loopback tells."""
    served = _served(seen)
    if served.problem:
        return Verdict(NOT_MEASURED, served.problem)
    read = served.ratio("read-remote", "read-local")
    share = served.hop_share()
    told = (
        f"a read over loopback {read.text()} times a local one; the bare round trip of 64 bytes is "
        f"{share.text(percent)} of the difference"
    )
    most = HOLDS if share.known and share.low >= MOST_OF_IT else IN_PART
    verdict = {"more": most, "unknown": UNDECIDED}.get(read.verdict, NOT)
    if verdict == UNDECIDED:
        told = f"Too few blocks: {told}"
    elif verdict == NOT and read.high > FREE:
        verdict, told = UNDECIDED, f"The interval is too wide: {told}"
    elif verdict == IN_PART:
        told += "; the rest is the server's and its protocol's"
    return Verdict(verdict, doubted(served, sentence("{}", told)), served.place)
