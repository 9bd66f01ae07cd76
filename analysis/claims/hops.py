"""Claim 2 by the sweep `hops`: how long a request of k queries takes, in the process and elsewhere.

A way is an engine, where its server is, and how a request sends its queries. Round trips are drawn
as they were measured in the runs, not as they were asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.claims.claim import FREE, HOLDS, IN_PART, NOT, NOT_MEASURED, UNDECIDED, Seen, Verdict
from analysis.claims.replicas import MOST_OF_IT, saved_hops
from analysis.claims.sentence import sentence
from analysis.counting import Arm, Count, Measured
from analysis.statistics import Estimate, Ratio
from analysis.wording import duration, interval, number, percent

HOPS = "hops"
ONE_BY_ONE, ONE_STATEMENT, PIPELINE = "one-by-one", "one-statement", "pipeline"
EMBEDDED, POSTGRES, SQLD = "libsql", "postgres", "libsql-remote"
NAMES = {
    EMBEDDED: "libSQL in the process",
    POSTGRES: "PostgreSQL",
    SQLD: "libSQL's server",
}
HOW = {ONE_BY_ONE: "", ONE_STATEMENT: "one statement", PIPELINE: "pipeline"}
TOLD_QUERIES = 10
"""Queries of the request that stands for the others in a sentence."""


def request_ns(counted: Count) -> float:
    """The mean time of a committed request, ns; nan where none was."""
    found = counted.of_kind("reader").get("request")
    return math.nan if found is None else found.mean_ns


@dataclass(frozen=True)
class Way:
    """A way to ask: arms by how many queries a request has.

    rtt_ms : the round trip as it was measured through the relay, the median of the runs; nan where
    there was no relay. asked : the plan's network.
    """

    engine: str
    asked: str
    how: str
    rtt_ms: float
    arms: Mapping[int, Arm]

    @property
    def place(self) -> str:
        """Where the server is, in words; "" for the database in the process."""
        if not math.isnan(self.rtt_ms):
            return f"{number(self.rtt_ms)} ms"
        nearest = {EMBEDDED: "", POSTGRES: "socket", SQLD: "loopback"}.get(self.engine, "")
        return {"": nearest, "tcp": "TCP"}.get(self.asked, self.asked)

    @property
    def stands_for_others(self) -> bool:
        """The nearest way to a server, or one over a round trip of some ms."""
        return not self.asked or 1 <= self.rtt_ms < 5

    @property
    def label(self) -> str:
        name = NAMES.get(self.engine, self.engine)
        more = ", ".join(filter(None, (self.place, HOW.get(self.how, self.how))))
        return f"{name} ({more})" if more else name

    def request(self, queries: int) -> Estimate:
        """The time of a request, ns."""
        return self.arms[queries].estimate(request_ns)


def ways(measured: Measured) -> list[Way]:
    """The ways of the sweep, in its order, those of which a run can be used."""
    found: dict[tuple[str, str, str], dict[int, Arm]] = {}
    again = measured.repeated
    for arm in measured.arms.values():
        if arm.name in again or arm.plan["scenario"] != "request" or not arm.usable:
            continue
        queries = arm.field("queries")
        if type(queries) is int and queries > 0:  # it may come from anybody
            key = arm.engine, str(arm.plan["network"]), str(arm.field("how"))
            found.setdefault(key, {})[queries] = arm
    return [Way(*key, _measured_rtt(arms), arms) for key, arms in found.items()]


def _measured_rtt(arms: Mapping[int, Arm]) -> float:
    known = [
        cell.manifest.network.rtt_ms
        for arm in arms.values()
        for cell in arm.usable
        if cell.manifest and cell.manifest.network and cell.manifest.network.rtt_ms
    ]
    return float(np.median(known)) if known else math.nan


def embedded(found: list[Way]) -> Way | None:
    """The database in the process, one query after the other."""
    mine = [way for way in found if (way.engine, way.how) == (EMBEDDED, ONE_BY_ONE)]
    return mine[0] if mine else None


def against(way: Way, base: Way, queries: int) -> Ratio:
    """The time of a request, over that of the same request in the process."""
    arm = way.arms[queries]
    return arm.measured.ratio(arm, base.arms[queries], request_ns)


def fitting(ratio: Ratio, queries: int) -> str:
    """How many queries in the process fit into one request, which has so many queries itself."""
    value, low, high = (queries * part for part in (ratio.value, ratio.low, ratio.high))
    if not ratio.known:
        return number(value)
    return f"{number(value)} {interval(low, high)}"


def share_of_trips(way: Way, queries: int) -> tuple[float, float, float]:
    """low, value, high of what the round trips alone are of a request, one for each query."""
    found = way.request(queries)
    trips_ns = np.float64(queries * way.rtt_ms * 1e6)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, value, high = (trips_ns / np.array([found.high, found.value, found.low])).tolist()
    return low, value, high


def hops(seen: Seen) -> Verdict:
    """Claim 2: by the sweep where it was measured, else by one client beside libSQL's server."""
    measured = seen.sweeps.get(HOPS)
    found = ways(measured) if measured is not None else []
    base = embedded(found)
    others = [way for way in found if base is not None and way.engine != EMBEDDED]
    if measured is None or base is None or not others:
        verdict = saved_hops(seen)
        if verdict.measured or verdict.runs:
            return verdict
        return Verdict(NOT_MEASURED, sentence("Not measured: `cwkit sweep hops` measures it"))
    one = [way for way in others if way.how == ONE_BY_ONE]
    fair = [way for way in others if way.how != ONE_BY_ONE]
    return Verdict(_decided(one, fair, base), sentence("{}", _told(one, fair, base)), HOPS)


def _ratios(some: list[Way], base: Way) -> list[Ratio]:
    return [against(way, base, k) for way in some for k in way.arms if k in base.arms]


def _decided(one: list[Way], fair: list[Way], base: Way) -> str:
    ratios, fair_ratios = _ratios(one, base), _ratios(fair, base)
    if not ratios or not all(ratio.known for ratio in (*ratios, *fair_ratios)):
        return UNDECIDED
    if any(ratio.high < 1 for ratio in ratios):
        return NOT
    shares = [
        share_of_trips(way, k)[0]
        for way in one
        if way.engine == POSTGRES and way.rtt_ms >= 1
        for k in way.arms
    ]
    slower = all(ratio.low > 1 for ratio in ratios)
    also_fair = all(ratio.low > FREE for ratio in fair_ratios)
    most = bool(shares) and min(shares) >= MOST_OF_IT
    return HOLDS if slower and also_fair and most else IN_PART


def _told(one: list[Way], fair: list[Way], base: Way) -> str:
    k = TOLD_QUERIES if TOLD_QUERIES in base.arms else max(base.arms)
    asked = f"{k} quer{'y' if k == 1 else 'ies'}"
    parts = [f"a request of {asked} takes {base.request(k).text(duration)} in the process"]
    for way in one:
        if k in way.arms and way.stands_for_others and (way.engine == POSTGRES or not way.asked):
            ratio = against(way, base, k)
            parts.append(
                f"{way.label} {duration(way.request(k).value)}, as long as {fitting(ratio, k)} "
                "queries in the process"
            )
    together = [(against(way, base, n), way, n) for way in fair for n in way.arms if n in base.arms]
    if together:
        ratio, way, n = min(together, key=lambda one: one[0].value)
        parts.append(
            f"{n} queries sent together, {way.label}: {ratio.text()} times as long as one by one "
            "in the process"
        )
    far = [way for way in one if way.engine == POSTGRES and k in way.arms and way.rtt_ms >= 1]
    if far:
        low, share, high = share_of_trips(far[0], k)
        reach = f" {interval(low, high, percent)}" if not math.isnan(low) else ""
        parts.append(
            f"at {far[0].place} the round trips alone are {percent(share)}{reach} of "
            "PostgreSQL's request"
        )
    return "; ".join(parts)
