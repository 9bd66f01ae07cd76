"""What a chart says of itself: its title, as far as the one rule goes, and its conditions.

A title says "times as many", "more" or "less" only where `claimed` does. Where there are too few
blocks it says that, and where nothing is compared it tells what was seen and in how many blocks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from analysis.charts import Heading
from analysis.compare import Comparison
from analysis.counting import Arm, Measured, mebibytes
from analysis.models import Prediction, Scaling, error_of
from analysis.report.chart_data import (
    PLACES,
    Effects,
    Tracks,
    growing,
    headline_arms,
    name_of,
    offered_rows,
    skewed,
    told,
    waiting,
    work_name,
)
from analysis.report.evidence import Evidence
from analysis.report.facts import CONTROL, MODE_ALONE, STUDIED, Pair, claimed, too_few
from analysis.report.load_facts import OfferedRow
from analysis.report.sweep_verdicts import LESS, MORE, Judged
from analysis.wording import begin_label, duration, listed, number, percent, times, whole

MODE = begin_label(STUDIED[1])
OTHER = begin_label(MODE_ALONE[1])

# --- conditions -------------------------------------------------------------------------------


def conditions(arms: Sequence[Arm], *more: str) -> str:
    """What the arms of a chart were measured under, in one line. more : further conditions."""
    writing = [arm for arm in arms if arm.engine != "null"]
    if not writing:
        return ""
    cells = [cell for arm in writing for cell in arm.usable if cell.counted and cell.manifest]
    cores = {cell.manifest.machine.cores for cell in cells if cell.manifest} - {None}
    works = {float(arm.field("think_us") or 0) for arm in writing}
    asleep = {arm.field("think") for arm in writing} == {"sleep"}
    durable = {str(arm.plan["synchronous"]).upper() for arm in writing}
    parts = [
        _span([float(n) for n in cores if n], "core"),
        _span([float(arm.writers) for arm in writing], "writer"),
        listed([work_name(work) for work in sorted(works)], "or") + " asleep" * asleep,
        f"synchronous {listed(sorted(durable), 'or')}",
        _seconds([cell.counted.seconds for cell in cells if cell.counted]),
        _span([float(len(arm.usable)) for arm in writing], "block"),
    ]
    files = listed(sorted({str(arm.plan["database"]) for arm in writing}))
    engines = {arm.engine for arm in writing}
    parts.append(f"{engines.pop()} on a {files} file" if len(engines) == 1 else f"{files} file")
    return " · ".join(filter(None, (*parts, *more)))


def _span(values: Iterable[float], noun: str) -> str:
    known = sorted(set(values))
    if not known:
        return ""
    if known[0] == known[-1]:
        return times(int(known[0]), noun)
    return f"{known[0]:g} to {known[-1]:g} {noun}s"


def _seconds(values: Sequence[float]) -> str:
    ends = sorted({round(value, 1) for value in values})
    if not ends:
        return ""
    return "windows of " + " to ".join(dict.fromkeys((f"{ends[0]:g}", f"{ends[-1]:g}"))) + " s"


# --- the rule's words -------------------------------------------------------------------------


def multiple(found: Comparison, noun: str = "as many") -> str:
    """A difference that is claimed: "1.6 times as many"; where it has no number, "more" or "less",
    and of times "longer" or "shorter".

    "" for what is not claimed.
    """
    if (claim := claimed(found)) not in ("more", "less"):
        return ""
    value = found.ratio.value
    if 0 < value < math.inf:
        return f"{number(value)} times {noun}"
    return {"more": "longer", "less": "shorter"}[claim] if noun == "as long" else claim


def not_claimed(found: Comparison) -> str:
    """What is said of a difference that is not claimed."""
    if claimed(found) == "none":
        return "no difference claimed"
    return too_few(found) or "not known"


def grouped(cases: Sequence[tuple[str, Comparison]], say: Callable[[str, Comparison], str]) -> str:
    """Cases as clauses: what is claimed one by one, what is not all together."""
    clauses = [say(case, found) for case, found in cases if multiple(found)]
    rest: dict[str, list[str]] = {}
    for case, found in cases:
        if not multiple(found):
            rest.setdefault(not_claimed(found), []).append(case)
    clauses += [f"{words} ({'; '.join(named)})" for words, named in rest.items()]
    return "; ".join(clauses)


# --- one chart after the other ----------------------------------------------------------------


def effects(found: Effects) -> Heading:
    """Where the mode pays, where it loses, and where nothing may be said."""
    text = grouped(
        sorted(found.told, key=lambda one: -one[1].ratio.value),
        lambda case, one: f"{multiple(one)} with {case}",
    )
    claims = any(multiple(one) for _, one in found.told)
    title = f"{MODE} commits {text}" if claims else f"{MODE}: {text}" if text else ""
    return Heading(title, conditions(found.arms), found.missing)


def growth(evidence: Evidence) -> Heading:
    """What more writers do for each system."""
    systems = growing(evidence)
    cases, ends = [], set()
    for arms in systems.values():
        if arms[0].engine == "null" or arms[0].writers == arms[-1].writers:
            continue
        one = told(evidence, Pair(arms[-1], arms[0]))
        if one is not None:
            ends.add((arms[0].writers, arms[-1].writers))
            cases.append((name_of(arms[0]), one))
    title = ""
    if len(ends) == 1:
        few, many = next(iter(ends))
        text = grouped(cases, lambda name, one: f"{multiple(one)} under {name}")
        title = f"Commits of {many} writers against {times(few, 'writer')}: {text}"
    return Heading(title, conditions([arm for arms in systems.values() for arm in arms]))


def latencies(evidence: Evidence) -> Heading:
    """The mode alone, by p50 and p99 of the headline."""
    arms = headline_arms(evidence)
    by = {arm.system: arm for arm in arms}
    base = by.get(MODE_ALONE) or by.get(CONTROL)
    title = ""
    if base is not None and STUDIED in by:
        clauses = []
        for name in ("p50", "p99"):
            if (one := told(evidence, Pair(by[STUDIED], base), name)) is not None:
                clauses.append(f"{name} {multiple(one, 'as long') or not_claimed(one)}")
        if clauses:
            title = f"{name_of(by[STUDIED])} against {name_of(base)}: {', '.join(clauses)}"
            # Who waits is one of many thousands, and in no percentile.
            longest = [tally.longest_ns for arm in (by[STUDIED], base) if (tally := arm.tally())]
            if len(longest) == 2:
                title += f"; the longest {duration(longest[0])} against {duration(longest[1])}"
    return Heading(title, conditions(arms))


def offered(evidence: Evidence) -> Heading:
    """Both modes' p99 at each load that was offered, and who was never served."""
    systems = offered_rows(evidence)
    rows = [row for each in systems.values() for row in each]
    cases = []
    for row in systems.get(STUDIED, ()):
        for other in systems.get(MODE_ALONE, ()):
            one = (
                told(evidence, Pair(row.arm, other.arm), "p99") if row.rate == other.rate else None
            )
            if one is not None:
                cases.append((load_name(row), one))
    text = grouped(cases, lambda case, one: f"{multiple(one, 'as long')} at {case}")
    known = not any(math.isnan(row.share) for row in rows)
    of = f", at loads in % of what {OTHER} can do" if known else ""
    title = f"p99 of {MODE} against {OTHER}{of}: {text}" if text else ""
    arms = [row.arm for row in rows]
    unserved = [
        f"{name_of(each[0].arm, arms)} {', '.join(whole(row.unserved) for row in each)} "
        f"(of {', '.join(whole(row.due) for row in each)})"
        for each in systems.values()
    ]
    never = f"due but not served, by load: {'; '.join(unserved)}"
    return Heading(title, conditions(arms, never) if rows else "")


def load_name(row: OfferedRow) -> str:
    """A load, as a share of what the other mode can do where that is known."""
    if math.isnan(row.share):
        return f"{number(row.rate)} / s"
    return percent(round(row.share, 2))


def served(evidence: Evidence) -> Heading:
    """The worst-served writer of each arm, which is seen; and what is claimed of Jain's index."""
    rows = waiting(evidence)
    if not rows:
        return Heading()
    seen = [f"{percent(round(row.worst_share.value, 3))} under {name_of(row.arm)}" for row in rows]
    blocks = min(row.worst_share.blocks for row in rows)
    title = (
        f"In {times(blocks, 'window')} of {number(round(rows[0].seconds, 1))} s the worst-served "
        f"of {times(rows[0].arm.writers, 'writer')} got {listed(seen)} of the commits"
    )
    by = {row.arm.system: row.arm for row in rows}
    if STUDIED in by and MODE_ALONE in by:
        one = told(evidence, Pair(by[STUDIED], by[MODE_ALONE]), "fairness")
        if one is not None:
            said = multiple(one, "as high") or not_claimed(one)
            title += f"; Jain's index of {MODE} against {OTHER}: {said}"
    earlier = evidence.published.get(rows[0].arm.measured.name)
    when = f"measured {earlier.date}" if earlier else ""
    return Heading(title, conditions([row.arm for row in rows], when))


def skew(evidence: Evidence) -> Heading:
    """First tries of the studied system at both ends of the skews."""
    systems = skewed(evidence)
    arms = [arm for points in systems.values() for _, arm in points]
    title = ""
    if len(points := systems.get(STUDIED, [])) > 1:
        (low, few), (high, many) = points[0], points[-1]
        one = told(evidence, Pair(many, few), "first-tries")
        if one is not None:
            said = multiple(one, "as often") or not_claimed(one)
            title = f"First tries of {MODE} refused at theta {high:g} against {low:g}: {said}"
    return Heading(title, conditions(arms))


def cache(evidence: Evidence) -> Heading:
    """The mode alone, by where the data are."""
    rows = evidence.facts.cache
    cases = []
    for row in rows:
        if (one := told(evidence, row.pair)) is not None:
            place = PLACES.get(row.place, row.place).replace("\n", " ")
            cases.append((f"data {place}", one))
    text = grouped(cases, lambda case, one: f"{multiple(one)} with {case}")
    warm = [f"{row.place}: {row.warm}" for row in rows if row.warm]
    title = f"Commits of {MODE} against {OTHER}: {text}" if text else ""
    return Heading(title, conditions([arm for row in rows for arm in row.pair], *warm))


def swept(measured: Measured, found: Sequence[Judged]) -> Heading:
    """At how many points of a sweep each system commits more than its rival, and less."""
    rivals = dict.fromkeys((name_of(one.candidate), name_of(one.baseline)) for one in found)
    clauses = []
    for system, base in rivals:
        verdicts = Counter(
            one.verdict
            for one in found
            if (name_of(one.candidate), name_of(one.baseline)) == (system, base)
        )
        told = [f"{word} at {verdicts[word]}" for word in (MORE, LESS) if verdicts[word]]
        against = "" if system == base else f" than {base}"
        points = times(sum(verdicts.values()), "point")
        seen = listed(told) if told else "neither more nor less claimed at any"
        clauses.append(f"{system} commits {seen} of {points}{against}")
    return Heading("; ".join(clauses), conditions(list(measured.arms.values())))


def fitted(found: Sequence[tuple[Measured, Scaling]]) -> Heading:
    """Where the fitted law of each system has its peak."""
    names = [f"{one.label} {one.peak_text()}" for _, one in found if one.law is not None]
    arms = [measured.arms[arm] for measured, one in found for arm in one.arms.values()]
    title = f"Writers at the peak of the fitted law: {'; '.join(names)}" if names else ""
    return Heading(title, conditions(arms))


def predicted(made: Sequence[Prediction], studies: Iterable[Measured]) -> Heading:
    """How far off the model of refusals is. studies : the experiments that it predicted."""
    full, bare = error_of(made, "whole", "first"), error_of(made, "mean", "every")
    title = ""
    if full.arms and bare.arms:
        title = (
            f"The model is off by a factor of {number(full.median)} in the median of "
            f"{times(full.arms, 'arm')} (first tries, in full) and of {number(bare.median)} (all "
            "tries, the bare formula)"
        )
    named = {(one.name, one.engine) for one in made}
    arms = [arm for one in studies for arm in one.arms.values() if (arm.name, arm.engine) in named]
    return Heading(title, conditions(arms))


def tracks(found: Tracks) -> Heading:
    """How large the log grew, and how many checkpoints were seen."""
    if not found.drawn:
        return Heading()
    many = sum(track.many for track in found.drawn)
    by = "all" if found.own == many else whole(found.own)
    own = f", {by} of them made by a commit" if found.own else ""
    sizes = [
        f"{mebibytes(float(track.wal_bytes.max()))} under {name_of(arm)}"
        for track, arm in zip(found.drawn, found.arms, strict=True)
    ]
    title = f"The log grew to {listed(sizes)}; {times(many, 'checkpoint')} seen{own}"
    return Heading(title, conditions(found.arms))
