"""The page of the article's systems: what a query takes, what the way to it takes, and what reads
and writes cost each other, by the sweeps `hops` and `systems` and the claims' trials.

The numbers come from `analysis.claims`; here they become sentences, tables and charts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.charts import Heading, Line, Panel, beside_each_other, request_times
from analysis.claims import (
    HOPS,
    MIXED,
    ONE_BY_ONE,
    READS,
    SYSTEMS,
    UPDATES,
    Beside,
    Way,
    against,
    arms_at,
    broken,
    costs,
    cpu_ns,
    embedded,
    fitting,
    processes,
    system_of,
    ways,
    work_ratios,
)
from analysis.counting import Arm, Count, Measured, OfKind, cells_table, write_csv
from analysis.report.charts import Chart, address_of, drawn
from analysis.report.evidence import Evidence
from analysis.report.ledger import Entry, ledger
from analysis.report.markdown import Markdown, bold, code, markdown, said
from analysis.report.published import Published
from analysis.report.sweep_summary import control_sentence, doubt_lines
from analysis.report.trials import read_chart
from analysis.statistics import Estimate
from analysis.wording import DASH, Table, duration, percent

TOLD_HERE = (HOPS, SYSTEMS)
"""Sweeps that are told on this page, and by their table alone on the page of sweeps."""

CLAIMED = (1, 2, 4, 7, 9)
"""Numbers of the claims that are told here."""


def section(evidence: Evidence, page: Path, figures: Path) -> dict[str, Any]:
    """The page's data. Draws its charts."""
    entries = [entry for entry in ledger(evidence) if entry.of.number in CLAIMED]
    reads = evidence.trial("nanoseconds")
    return {
        "claims": _claims_table(entries),
        "reads": {"problem": said(reads.problem), "chart": read_chart(reads, page, figures)},
        "hops": _hops(evidence, page, figures),
        "systems": _systems(evidence, page, figures),
    }


def answer(evidence: Evidence, data: Any) -> str:
    """The page in one sentence."""
    parts = [part for part in (data["hops"].get("short"), data["systems"].get("short")) if part]
    if not parts:
        return markdown(
            "Not measured; {} and {} measure it, each in about ten minutes.",
            code("cwkit sweep hops"),
            code("cwkit sweep systems"),
        )
    return markdown("{}.", Markdown("; ").join(parts))


def _claims_table(entries: Sequence[Entry]) -> Table:
    rows = [(entry.claim, bold("{}", entry.verdict), entry.number) for entry in entries]
    return Table(("claim", "verdict", "number"), rows)


def _head(evidence: Evidence, name: str, page: Path, figures: Path) -> dict[str, Any]:
    """What is told of both sweeps: why there is nothing, or as of when, and where all of it is."""
    measured = evidence.sweeps.get(name)
    if measured is None:
        return {
            "problem": markdown(
                "Not measured: {} measures it in about ten minutes, and {} tells it.",
                code(f"cwkit sweep {name} --into FOLDER --publish"),
                code("cwkit report --only-write --into REPORT"),
            )
        }
    published: Published | None = evidence.published.get(name)
    table = published.table if published else figures / f"sweep-{name}.csv"
    if not published:
        states = {key: cell.state for key, cell in measured.cells.items()}
        figures.mkdir(parents=True, exist_ok=True)
        write_csv(cells_table(measured, states), table)
    return {
        "problem": "",
        "question": measured.question,
        "published": published.sentence() if published else "",
        "control": control_sentence(measured),
        "csv": table.name,
        "csv_src": address_of(table, page),
        "note_src": address_of(published.note, page) if published else "",
        "doubts": doubt_lines(measured),
    }


# --- hops ---------------------------------------------------------------------------------------


def _hops(evidence: Evidence, page: Path, figures: Path) -> dict[str, Any]:
    data = _head(evidence, HOPS, page, figures)
    measured = evidence.sweeps.get(HOPS)
    found = ways(measured) if measured is not None else []
    base = embedded(found)
    path = figures / "hops.svg"
    if measured is None or base is None:
        chart = drawn("A request over the network", path, page, request_times, [], "not measured")
        why = data["problem"] or "Not measured: no run with the database in the process is sound."
        return data | {"problem": why, "chart": chart}
    heading = Heading(_hops_title(found, base), _hops_conditions(measured))
    chart = drawn(
        "A request over the network", path, page, request_times, hops_lines(found), "",
        heading=heading,
    )  # fmt: skip
    return data | {
        "short": _hops_short(found, base),
        "chart": chart,
        "times": _times_table(found),
        "fits": _fits_table(found, base),
    }


def hops_lines(found: Sequence[Way]) -> list[Line]:
    """A line for each way, with the look of its engine."""
    lines = []
    seen: dict[str, int] = {}
    for way in found:
        n = seen.setdefault(way.engine, 0)
        seen[way.engine] += 1
        look = way.engine, f"way {n % 7}"
        points: dict[float, Estimate | None] = {float(k): way.request(k) for k in sorted(way.arms)}
        lines.append(_line(way.label, look, points, hollow=way.how != ONE_BY_ONE))
    return lines


def _line(
    label: str, look: tuple[str, str], points: Mapping[float, Estimate | None], *, hollow: bool
) -> Line:
    """A line through estimates, broken where there is none."""
    known = [one if one and one.blocks else None for one in points.values()]
    reach = [_reach(one) if one else (math.nan, math.nan) for one in known]
    middle = [one.value if one else math.nan for one in known]
    return Line(
        label, look, list(points), middle, [low for low, _ in reach], [high for _, high in reach],
        hollow,
    )  # fmt: skip


def _reach(found: Estimate) -> tuple[float, float]:
    if found.known:
        return found.low, found.high
    return float(found.each.min()), float(found.each.max())


def _hops_title(found: Sequence[Way], base: Way) -> str:
    """What is seen: by the intervals, for the nearest server and over a round trip."""
    k = max(base.arms)
    parts = []
    for way in found:
        if way.engine != base.engine and way.how == ONE_BY_ONE and k in way.arms:
            ratio = against(way, base, k)
            if way.stands_for_others and ratio.known and not ratio.holds(1.0):
                parts.append(f"{way.label}: {ratio.text()} times as long")
    return f"A request of {k} queries against one in the process: {'; '.join(parts)}" * bool(parts)


def _hops_conditions(measured: Measured) -> str:
    arms = [arm for arm in measured.arms.values() if arm.usable]
    cores = {cell.manifest.machine.cores for arm in arms for cell in arm.usable if cell.manifest}
    blocks = {len(arm.usable) for arm in arms}
    rows = {n for arm in arms if type(n := arm.field("rows")) is int}
    most = f"{max(blocks)} block{'' if max(blocks) == 1 else 's'}" if blocks else ""
    there = ", ".join(f"{n} cores" for n in sorted(filter(None, cores)))
    table = f"{max(rows):,} rows in memory" if rows else ""
    return " · ".join(filter(None, (there, "one client", table, "no BEGIN", most)))


def _hops_short(found: Sequence[Way], base: Way) -> Markdown:
    k = 10 if 10 in base.arms else max(base.arms)
    parts = [f"a request of {k} queries takes {duration(base.request(k).value)} in the process"]
    for way in found:
        other = way.engine != base.engine and way.how == ONE_BY_ONE and k in way.arms
        if other and way.stands_for_others:
            parts.append(f"{duration(way.request(k).value)} at {way.label}")
    first = f"{parts[0][0].upper()}{parts[0][1:]}"
    return markdown("{} ({})", ", ".join([first, *parts[1:]]), code(HOPS))


def _times_table(found: Sequence[Way]) -> Table:
    every = sorted({k for way in found for k in way.arms})
    head = ("way", *(f"{k} quer{'y' if k == 1 else 'ies'}" for k in every))
    rows = []
    for way in found:
        known = {k: way.request(k) for k in way.arms}
        cells = [
            duration(known[k].value) if k in known and known[k].blocks else DASH for k in every
        ]
        rows.append((way.label, *cells))
    return Table(head, rows)


def _fits_table(found: Sequence[Way], base: Way) -> Table:
    """How many queries in the process fit into one request of each other way."""
    every = sorted(base.arms)
    head = ("into a request", *(f"of {k} quer{'y' if k == 1 else 'ies'}" for k in every))
    rows = []
    for way in found:
        if way is not base:
            cells = [fitting(against(way, base, k), k) if k in way.arms else DASH for k in every]
            rows.append((way.label, *cells))
    return Table(head, rows)


# --- systems ------------------------------------------------------------------------------------


def _systems(evidence: Evidence, page: Path, figures: Path) -> dict[str, Any]:
    data = _head(evidence, SYSTEMS, page, figures)
    measured = evidence.sweeps.get(SYSTEMS)
    found = costs(measured) if measured is not None else []
    chart = _costs_chart(measured, found, page, figures)
    if measured is None or not found:
        why = data["problem"] or "Not measured: no run of YCSB B and of its parts alone is sound."
        return data | {"problem": why, "chart": chart}
    return data | {
        "short": _systems_short(found),
        "chart": chart,
        "rates": _rates_table(measured),
        "costs": _costs_table(found),
        "work": _work_table(measured),
        "broken": [markdown("{}: {}", name, why) for name, why in broken(measured).items()],
    }


TITLES = {
    "read": "a read beside the 5 % updates",
    "update": "an update beside the 95 % reads",
}


def _costs_chart(
    measured: Measured | None, found: Sequence[Beside], page: Path, figures: Path
) -> Chart:
    panels = [panel for kind in TITLES if (panel := _panel(kind, found)).lines]
    heading = Heading(_costs_title(found), _costs_conditions(measured)) if panels else Heading()
    return drawn(
        "What reads and updates cost each other", figures / "systems-costs.svg", page,
        beside_each_other, panels, "not measured", heading=heading,
    )  # fmt: skip


def _panel(kind: str, found: Sequence[Beside]) -> Panel:
    mine = [one for one in found if one.kind == kind]
    every = sorted({one.processes for one in mine})
    lines = []
    for system in dict.fromkeys(one.system for one in mine):
        of_it = [one for one in mine if one.system == system]
        there = {one.processes: one.ratio for one in of_it}
        points = {float(at): there.get(many) for at, many in enumerate(every)}
        if any(ratio.blocks for ratio in there.values()):
            lines.append(_line(system, of_it[0].look, points, hollow="TCP" in system))
    return Panel(TITLES[kind], [str(n) for n in every], lines)


def _costs_title(found: Sequence[Beside]) -> str:
    """The dearest of each kind, where its interval excludes 1."""
    parts = []
    for kind, title in TITLES.items():
        known = [o for o in found if o.kind == kind and o.ratio.known and o.ratio.low > 1]
        if known:
            most = max(known, key=lambda one: one.ratio.value)
            parts.append(
                f"{title} takes up to {most.ratio.text()} times as long as alone "
                f"({most.system}, {processes(most.processes)})"
            )
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:]


def _costs_conditions(measured: Measured | None) -> str:
    if measured is None:
        return ""
    arms = list(arms_at(measured, MIXED))
    cores = {cell.manifest.machine.cores for arm in arms for cell in arm.usable if cell.manifest}
    durable = {str(arm.plan["synchronous"]).upper() for arm in arms}
    blocks = max((len(arm.usable) for arm in arms), default=0)
    keys = {str(arm.field("keys")) for arm in arms}
    parts = [", ".join(f"{n} cores" for n in sorted(filter(None, cores))), "YCSB B"]
    parts += [f"keys {', '.join(sorted(keys))}", f"synchronous {', '.join(sorted(durable))}"]
    return " · ".join(filter(None, (*parts, f"{blocks} block{'' if blocks == 1 else 's'}")))


def _systems_short(found: Sequence[Beside]) -> Markdown:
    reads = [one for one in found if one.kind == "read" and one.ratio.blocks]
    if not reads:
        return Markdown()
    most = max(reads, key=lambda one: one.ratio.value)
    text = f"at 95 % reads the updates make a read {most.ratio.text()} times as long at most"
    return markdown("{} ({}, {}; {})", text, most.system, processes(most.processes), code(SYSTEMS))


def _rates_table(measured: Measured) -> Table:
    """Of YCSB B: reads and updates a second and their times; what was refused; CPU time."""
    rows = []
    for arm in arms_at(measured, MIXED):
        cells: list[str] = []
        for kind in ("read", "update"):
            rate = arm.estimate(_of(kind, lambda one: one.per_s))
            cells.append(rate.text() if rate.blocks else DASH)
            for rank in ("p50", "p99"):
                known = arm.values(_of(kind, lambda one, rank=rank: one.rank_ns(rank)))
                cells.append(duration(float(np.median(list(known.values())))) if known else DASH)
        refused = arm.refused()
        cpu = cpu_ns(arm)
        rows.append(
            (
                system_of(arm),
                str(arm.writers),
                *cells,
                percent(refused.value) if refused.blocks else DASH,
                DASH if math.isnan(cpu) else duration(cpu),
            )
        )
    head = (
        *("system", "processes", "reads / s", "p50", "p99", "updates / s", "p50", "p99"),
        *("aborted", "CPU a transaction"),
    )
    return Table(head, rows, "CPU time is that of workers and server together.")


def _of(kind: str, value: Any) -> Any:
    """A measure of one kind of the writers' transactions."""

    def measure(counted: Count) -> float:
        found: OfKind | None = counted.of_kind("writer").get(kind)
        return math.nan if found is None else float(value(found))

    return measure


def _costs_table(found: Sequence[Beside]) -> Table:
    rows = []
    for one in found:
        if one.kind == "read":
            other = [o for o in found if (o.system, o.processes) == (one.system, one.processes)
                     and o.kind == "update"]  # fmt: skip
            rows.append(
                (
                    one.system,
                    str(one.processes),
                    one.ratio.text(),
                    other[0].ratio.text() if other else DASH,
                )
            )
    head = ("system", "processes", "a read beside updates", "an update beside reads")
    note = f"Mean times, as multiples of those of the same kind alone ({READS}; {UPDATES})."
    return Table(head, rows, note)


def _work_table(measured: Measured) -> Table:
    """The headline's work, against one writer at a time of the mode's own library."""
    ratios = work_ratios(measured)
    rows = []
    if ratios:
        base = next(arm for arm in measured.arms.values() if arm.name == ratios[0][1].baseline)
        rows.append(_work_row(base, "1"))
    rows += [_work_row(arm, ratio.text()) for arm, ratio in ratios]
    head = ("system", "commits / s", "times branch IMMEDIATE", "aborted", "CPU a commit")
    return Table(head, rows)


def _work_row(arm: Arm, ratio: str) -> tuple[str, ...]:
    refused, cpu = arm.refused(), cpu_ns(arm)
    return (
        system_of(arm),
        arm.estimate().text(),
        ratio,
        percent(refused.value) if refused.blocks else DASH,
        DASH if math.isnan(cpu) else duration(cpu),
    )


__all__ = ["TOLD_HERE", "answer", "hops_lines", "section"]
