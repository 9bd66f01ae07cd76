"""PostgreSQL instead, by the sweeps `systems` and `hops`: when it pays, and what the way costs."""

from __future__ import annotations

from typing import NamedTuple

from analysis.claims import (
    HOPS,
    MIXED,
    ONE_BY_ONE,
    SYSTEMS,
    WORK,
    against,
    arms_at,
    embedded,
    fitting,
    processes,
    system_of,
    ways,
)
from analysis.counting import Arm, Measured
from analysis.report.evidence import Evidence
from analysis.report.finding import LESS, MORE, NONE, UNKNOWN, verdict_of
from analysis.report.markdown import Markdown, code, markdown
from analysis.statistics import Ratio
from analysis.wording import duration

SERVER = "postgres"
CONTROL, ONE_WRITER = ("libsql", "immediate"), ("libsql", "autocommit")
QUERIES = 10


class Instead(NamedTuple):
    """What to do, why, and the verdict on writers at once with work inside."""

    do: str
    why: Markdown
    verdict: str


def postgres_instead(evidence: Evidence) -> Instead | None:
    """None where neither sweep was measured or published."""
    systems, hops = evidence.sweeps.get(SYSTEMS), evidence.sweeps.get(HOPS)
    work = _best(systems, WORK, CONTROL) if systems is not None else None
    mixed = _best(systems, MIXED, ONE_WRITER) if systems is not None else None
    way = _way(hops) if hops is not None else ""
    if work is None and not way:
        return None
    verdict = verdict_of(work[2]) if work is not None else UNKNOWN
    pays = {
        MORE: "For several writers at once with work inside",
        LESS: "Not for several writers at once on one machine",
        NONE: "For several writers at once it makes no claimed difference",
    }.get(verdict, "Too few blocks to say whether it pays for several writers at once")
    do = f"{pays}; for several machines, if a request sends its queries together"
    why = []
    if work is not None:
        why.append(_than("four writers with 200 µs inside", work))
    if mixed is not None:
        why.append(_than(f"95 % reads by {processes(mixed[0].writers)}", mixed))
    if way:
        why.append(markdown("{} ({})", way, code(HOPS)))
    return Instead(do, Markdown("; ").join(why), verdict)


def _than(work: str, found: tuple[Arm, Arm, Ratio]) -> Markdown:
    arm, base, ratio = found
    names = system_of(arm), ratio.text(), system_of(base)
    return markdown("{}: {} commits {} times what {} does ({})", work, *names, code(SYSTEMS))


def _best(measured: Measured, mix: str, base: tuple[str, str]) -> tuple[Arm, Arm, Ratio] | None:
    """PostgreSQL's best arm of a mix whose checks held, libSQL's beside it, and the ratio."""
    found = [
        (arm, other, measured.ratio(arm, other))
        for other in arms_at(measured, mix, 4)
        if other.system == base
        for arm in arms_at(measured, mix, 4)
        if arm.engine == SERVER
    ]
    found = [one for one in found if one[2].blocks]
    return max(found, key=lambda one: one[2].value) if found else None


def _way(measured: Measured) -> str:
    """What a request of ten queries pays on its way, one by one and together."""
    found = [way for way in ways(measured) if QUERIES in way.arms]
    base = embedded(found)
    mine = [way for way in found if way.engine == SERVER and way.stands_for_others]
    if base is None or not mine:
        return ""
    parts = []
    for way in mine:
        if way.how != ONE_BY_ONE and not way.asked:
            continue  # together over a network: that is what they would do
        took = duration(way.request(QUERIES).value)
        fit = ""
        if way.how == ONE_BY_ONE:
            fit = f", as long as {fitting(against(way, base, QUERIES), QUERIES)} in the process"
        parts.append(f"{took} at {way.label}{fit}")
    first = duration(base.request(QUERIES).value)
    return f"{QUERIES} queries take {first} in the process, {', '.join(parts)}"
