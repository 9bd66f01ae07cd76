"""The report's charts: which runs each one shows, and why one is not drawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis.charts import (
    Line,
    Track,
    abort_rate_against_skew,
    checkpoint_timeline,
    crossover,
    latency,
    nothing_to_draw,
    shares,
    throughput_against_writers,
)
from analysis.charts import caption as figures_caption
from analysis.counting import Arm, checkpoints, timeline
from analysis.report.evidence import Evidence
from analysis.report.facts import CONTROL, System
from analysis.report.markdown import ours
from workloads.files import resolved
from workloads.records import COMMITTED, read_run


class Chart(NamedTuple):
    """A chart in the report. src is empty where there was nothing to draw, and `why` says why."""

    title: str
    src: str
    caption: str
    why: str = ""


def charts(evidence: Evidence, out: Path, folder: Path) -> list[Chart]:
    plans: list[tuple[str, str, Callable[..., None], list[Any], str]] = [
        ("Throughput against writers", "throughput-writers", throughput_against_writers,
         _by_writers(evidence), "no experiment has one arm at several numbers of writers"),
        ("Abort rate against skew", "abort-rate-skew", abort_rate_against_skew,
         _by_skew(evidence), "no experiment has keys of several skews"),
        ("Latency", "latency", latency, _latencies(evidence),
         "the arms of the headline were not measured"),
        ("Each writer's share", "shares", shares, _shares(evidence),
         "the arms of the headline were not measured"),
        ("Where it loses and where it wins", "crossover", crossover,
         _crossover(evidence), "no two modes met with the same work"),
        ("Throughput and checkpoints along the runs", "checkpoints", checkpoint_timeline,
         _tracks(evidence), "no run had checkpointers or lasted 2 s"),
    ]  # fmt: skip
    made = []
    for title, name, draw, data, why in plans:
        empty = not data or (isinstance(data[0], Line) and nothing_to_draw(data))
        made.append(drawn(title, folder / f"{name}.svg", out, draw, [] if empty else data, why))
    return made


def drawn(
    title: str,
    path: Path,
    out: Path,
    draw: Callable[..., None],
    data: Sequence[Any],
    why: str,
    **how: Any,
) -> Chart:
    """Draw a chart into `path` for the report `out`, or say why there is none.

    why : why `data` may be empty, in words. how : more arguments for `draw`.
    """
    if not data:
        path.unlink(missing_ok=True)  # an older report's chart would show other runs
        return Chart(title, "", "", f"Not drawn: {why}.")
    draw(data, path, **how)
    return Chart(title, address_of(path, out), ours(figures_caption(draw)))


def address_of(path: Path, out: Path) -> str:
    """A file's path as the report `out` links to it: seen from the report's folder."""
    return os.path.relpath(resolved(path), resolved(out).parent).replace(os.sep, "/")


def _by_writers(evidence: Evidence) -> list[Line]:
    for measured in evidence.experiments.values():
        systems: dict[System, list[Arm]] = {}
        for arm in measured.arms.values():
            if arm.writers and arm.usable:
                systems.setdefault(arm.system, []).append(arm)
        if len({arm.writers for arms in systems.values() for arm in arms}) < 2:
            continue
        lines = []
        for system, arms in systems.items():
            arms.sort(key=lambda arm: arm.writers)
            estimates = [arm.estimate() for arm in arms]
            low = [e.low if e.known else e.each.min() for e in estimates]
            high = [e.high if e.known else e.each.max() for e in estimates]
            lines.append(
                Line(arms[0].label, system, [arm.writers for arm in arms],
                     [e.value for e in estimates], low, high)
            )  # fmt: skip
        if ("null", "immediate") not in systems:
            lines += _floor_line(evidence, max(systems.values(), key=len))
        return lines
    return []


def _floor_line(evidence: Evidence, arms: Sequence[Arm]) -> list[Line]:
    """The generator alone at the same numbers of writers, from wherever it was measured."""
    found = {arm.writers: evidence.floor(arm) for arm in arms}
    points = {n: null for n, null in found.items() if null is not None}
    if not points:
        return []
    values = [null.estimate().value for null in points.values()]
    return [Line("null (generator alone)", ("null", "immediate"), list(points), values)]


def _by_skew(evidence: Evidence) -> list[Line]:
    found: dict[tuple[str, str, str], list[tuple[float, tuple[float, float, float]]]] = {}
    rows = evidence.facts.skew
    for arm, at, _ in rows:
        seen = arm.refused()
        if arm.measured is rows[0][0].measured and seen.blocks:
            low, high = (seen.low, seen.high) if seen.known else (seen.each.min(), seen.each.max())
            found.setdefault((*arm.system, arm.label), []).append((at, (low, seen.value, high)))
    lines = []
    for (engine, begin, name), points in found.items():
        low, rate, high = np.array([rate for _, rate in points]).T
        lines.append(Line(name, (engine, begin), [at for at, _ in points], rate, low, high))
    return lines


def _headline_arms(evidence: Evidence) -> list[Arm]:
    """The arms of the headline's experiment that do the headline's work, A/A twins once."""
    head = evidence.facts.headline
    if head is None:
        return []
    pair = head.pair
    again = pair.measured.repeated
    return [
        arm
        for arm in pair.measured.arms.values()
        if arm.name not in again
        and arm.usable
        and arm.engine != "null"
        and arm.writers == pair.candidate.writers
        and arm.field("think_us") == pair.candidate.field("think_us")
    ]


def _latencies(evidence: Evidence) -> list[Line]:
    lines = []
    for arm in _headline_arms(evidence):
        if tally := arm.tally():
            each = tally.latency()["whole"]
            each = np.where(np.isinf(each), np.nan, each)  # no place for "never" on an axis
            lines.append(Line(arm.label, arm.system, range(len(each)), each))
    return lines


def _shares(evidence: Evidence) -> list[Line]:
    lines = []
    for arm in _headline_arms(evidence):
        ranked = [
            np.sort(got)[::-1] / got.sum()
            for cell in arm.usable
            if cell.counted and (got := cell.counted.roles["writer"].commits_each).sum()
        ]
        if ranked:
            share = np.median(np.stack(ranked), axis=0)
            lines.append(Line(arm.label, arm.system, range(1, len(share) + 1), share))
    return lines


def _crossover(evidence: Evidence) -> list[Line]:
    lines = []
    for (system, baseline), found in evidence.facts.work.items():
        if baseline != CONTROL:
            continue
        ratios = [ratio for _, _, ratio in found]
        lines.append(
            Line(
                found[0].pair.candidate.label,
                system,
                [work for work, _, _ in found],
                [ratio.value for ratio in ratios],
                [r.low if r.known else r.each.min() for r in ratios],
                [r.high if r.known else r.each.max() for r in ratios],
            )
        )
    return lines


def _tracks(evidence: Evidence) -> list[Track]:
    """Runs with checkpointers, and long ones: at most four."""
    tracks: list[Track] = []
    for arm, cell in evidence.cells():
        if cell.counted is None or cell.manifest is None or cell.folder is None:
            continue
        plan = cell.manifest.plan
        if len(tracks) == 4 or not plan.writers or cell.counted.seconds < 0.2:
            continue
        if not plan.checkpointers and cell.counted.seconds < 2:
            continue
        run = read_run(cell.folder)
        bins = int(min(max(cell.counted.seconds * 10, 20), 100))
        edges_s, per_s = timeline(run, bins=bins)
        made = checkpoints(run)
        made = made[made["outcome"] == COMMITTED]
        spans = np.stack([made["start_s"], made["start_s"] + made["took_s"]], axis=1)
        name = f"{arm.measured.name}: {arm.label}"
        spans = _merged(spans, cell.counted.seconds / 400)
        tracks.append(Track(name, arm.system, edges_s, per_s, spans))
    return tracks


def _merged(spans: np.ndarray, gap: float) -> np.ndarray:
    """Spans (start, end), those closer than `gap` as one: no mark is thinner than a line anyway."""
    merged: list[list[float]] = []
    for start, end in sorted(spans.tolist()):
        if merged and start - merged[-1][1] <= gap:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.array(merged).reshape(-1, 2)
