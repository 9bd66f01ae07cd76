"""REPORT.md from a folder of experiments: counts to sentences, tables and charts.

The same runs give the same bytes: no date of its own, no path of the machine, nothing drawn at
random without a seed. A cell that was refused or failed is shown as such and stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from analysis import figures, findings, isolation, losing, tables
from analysis.claims import claims
from analysis.compare import FEWEST_BLOCKS, FOREIGN_LIMIT, Grid
from analysis.evidence import CONTROL, Evidence, field, label, look, read_evidence
from analysis.figures import Line, Track
from analysis.headline import headline_pair
from analysis.rates import abort_rate
from analysis.timeline import checkpoints, timeline
from analysis.words import Table, percent, times
from workloads.recording import COMMITTED, read_run

TEMPLATE = "report.md.j2"


class Chart(NamedTuple):
    """A chart in the report. src is empty where there was nothing to draw, and `why` says why."""

    title: str
    src: str
    caption: str
    why: str = ""


def write_report(folder: Path, out: Path, figures: Path) -> None:
    """Write `out` (REPORT.md) and its charts into the folder `figures`, from the runs in `folder`.

    Raises RunError where `folder` holds no experiment; OSError where nothing can be written.
    """
    evidence = read_evidence(folder)
    text = _environment().get_template(TEMPLATE).render(_told(evidence, Path(out), Path(figures)))
    for path in (str(Path(folder).resolve()), str(folder)):
        text = text.replace(f"{path}{os.sep}", "").replace(path, "the runs' folder")
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(out.name + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, out)


def _told(evidence: Evidence, out: Path, folder: Path) -> dict[str, Any]:
    """Everything the template shows."""
    return {
        "findings": findings.findings(evidence),
        "doubts": findings.doubts(evidence),
        "engines": tables.engines_table(evidence),
        "short": findings.in_short(evidence),
        "isolation": isolation.levels_table(evidence.isolation),
        "matrix": isolation.matrix_table(evidence.isolation),
        "witnesses": isolation.witnesses(evidence.isolation),
        "known": [one for one in isolation.known(evidence.known) if one["seen"]],
        "unseen": [one for one in isolation.known(evidence.known) if one["not_seen"]],
        "deviations": isolation.deviations(evidence.isolation),
        "promises": tables.promises_table(evidence),
        "missing": _missing(evidence),
        "charts": _charts(evidence, out, folder),
        "work": tables.work_table(evidence),
        "experiments": [_experiment(evidence, grid) for grid in evidence.grids.values()],
        "refusals": tables.words_table(evidence),
        "checks": tables.checks_table(evidence),
        "claims": claims(evidence),
        "method": _method(evidence),
        "machine": _machine(evidence),
        "libraries": _libraries(evidence),
        "pragmas": tables.pragmas_table(evidence),
        "command": _command(evidence),
        "seed": evidence.campaign.get("seed", next((g.seed for g in evidence.grids.values()), 0)),
        "started": evidence.campaign.get("started", ""),
        "quick": bool(evidence.campaign.get("quick")),
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML; the `cell` filter keeps tables whole
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).replace("|", "\\|").split())
    return environment


def _experiment(evidence: Evidence, grid: Grid) -> dict[str, Any]:
    shown: list[tuple[str, Table]] = [
        ("Latency of a whole committed transaction, and its parts", tables.latency_table(grid)),
        ("Each worker", tables.fairness_table(grid)),
        ("Attempts, each in exactly one column", tables.attempts_table(grid)),
        ("What the arms differ in", tables.arms_table(grid)),
    ]
    absent = []
    for arm in grid.arms:
        whys = dict.fromkeys(
            f"{cell.state}: {cell.failure or cell.contaminated}"
            for cell in grid.of(arm)
            if cell.failure or cell.contaminated
        )
        blocks = [cell for cell in grid.of(arm) if cell.failure or cell.contaminated]
        absent += [
            f"{arm}, {len(blocks)} of {len(grid.of(arm))} blocks: {why.rstrip('.')}."
            for why in list(whys)[:3]
        ]
    return {
        "name": grid.name,
        "question": grid.question,
        "seed": grid.seed,
        "blocks": len({block for block, _ in grid.cells}),
        "rates": tables.rates_table(evidence, grid),
        "tables": [(title, table) for title, table in shown if table.rows],
        "absent": absent,
        "controls": [
            f"{again} / {one}: {grid.ratio(again, one).said()}" for one, again in grid.twins()
        ],
    }


def _missing(evidence: Evidence) -> list[str]:
    """Engines that were not there, what is not answered without them, and how to get them."""
    lost = {
        "sqlite-concurrent": "Without it nothing here says what BEGIN CONCURRENT does for libSQL",
        "libsql": "Without it there is no libSQL side to compare with",
        "turso": "Without it nothing is said about Turso's row-level BEGIN CONCURRENT",
    }
    said = []
    for probe in evidence.probes.values():
        if probe.missing:
            part = lost.get(probe.engine, f"Without it the arms of {probe.engine} are missing")
            said.append(f"{probe.engine}: {probe.missing.rstrip('.')}. {part}.")
    known = {probe.engine for probe in evidence.probes.values() if probe.missing}
    absent: dict[str, None] = {}
    for grid, cell in evidence.cells():
        if cell.state == "missing" and look(grid, cell.arm)[0] not in known:
            absent[f"`{grid.name}`, {cell.arm}: {cell.failure.rstrip('.')}."] = None
    return said + list(absent)


# --- charts -----------------------------------------------------------------------------------


def _charts(evidence: Evidence, out: Path, folder: Path) -> list[Chart]:
    plans: list[tuple[str, str, Callable[..., None], list[Any], str]] = [
        ("Throughput against writers", "throughput-writers", figures.throughput_against_writers,
         _by_writers(evidence), "no experiment has one arm at several numbers of writers"),
        ("Abort rate against skew", "abort-rate-skew", figures.abort_rate_against_skew,
         _by_skew(evidence), "no experiment has keys of several skews"),
        ("Latency", "latency", figures.latency, _latencies(evidence),
         "the arms of the headline were not measured"),
        ("Each writer's share", "shares", figures.shares, _shares(evidence),
         "the arms of the headline were not measured"),
        ("Where it loses and where it wins", "crossover", figures.crossover,
         _crossover(evidence), "no two modes met with the same work"),
        ("Throughput and checkpoints along the runs", "checkpoints", figures.checkpoint_timeline,
         _tracks(evidence), "no run had checkpointers or lasted 2 s"),
    ]  # fmt: skip
    charts = []
    for title, name, draw, data, why in plans:
        path = folder / f"{name}.svg"
        empty = not data or (isinstance(data[0], Line) and figures.nothing_to_draw(data))
        if empty:
            path.unlink(missing_ok=True)  # an older report's chart would show other runs
            charts.append(Chart(title, "", "", f"Not drawn: {why}."))
            continue
        draw(data, path)
        src = os.path.relpath(path.resolve(), out.resolve().parent).replace(os.sep, "/")
        charts.append(Chart(title, src, figures.caption(draw)))
    return charts


def _by_writers(evidence: Evidence) -> list[Line]:
    for grid in evidence.grids.values():
        ways: dict[tuple[str, str], list[str]] = {}
        for arm in grid.arms:
            if grid.plan(arm)["writers"] and grid.usable(arm):
                ways.setdefault(look(grid, arm), []).append(arm)
        counts = {n for arms in ways.values() for n in (grid.plan(a)["writers"] for a in arms)}
        if len(counts) < 2:
            continue
        lines = []
        for way, arms in ways.items():
            arms.sort(key=lambda arm: grid.plan(arm)["writers"])
            estimates = [grid.estimate(arm) for arm in arms]
            low = [e.low if e.known else e.each.min() for e in estimates]
            high = [e.high if e.known else e.each.max() for e in estimates]
            lines.append(
                Line(label(grid, arms[0]), way, [grid.plan(arm)["writers"] for arm in arms],
                     [e.value for e in estimates], low, high)
            )  # fmt: skip
        if ("null", "immediate") not in ways:
            lines += _floor_line(evidence, grid, max(ways.values(), key=len))
        return lines
    return []


def _floor_line(evidence: Evidence, grid: Grid, arms: Sequence[str]) -> list[Line]:
    """The generator alone at the same numbers of writers, from wherever it was measured."""
    found = {grid.plan(arm)["writers"]: evidence.floor(grid, arm) for arm in arms}
    points = {n: at for n, at in found.items() if at is not None}
    if not points:
        return []
    values = [other.estimate(name).value for other, name in points.values()]
    return [Line("null (generator alone)", ("null", "immediate"), list(points), values)]


def _by_skew(evidence: Evidence) -> list[Line]:
    ways: dict[tuple[str, str, str], list[tuple[float, np.ndarray]]] = {}
    rows = losing.skewed(evidence)
    for grid, arm, at, tally in rows:
        if look(grid, arm)[0] != "null" and grid is rows[0][0]:
            rate = abort_rate([tally.conflicted], [tally.finished])[0]
            ways.setdefault((*look(grid, arm), label(grid, arm)), []).append((at, rate))
    lines = []
    for (engine, begin, name), points in ways.items():
        low, rate, high = np.array([rate for _, rate in points]).T
        lines.append(Line(name, (engine, begin), [at for at, _ in points], rate, low, high))
    return lines


def _headline_arms(evidence: Evidence) -> tuple[Grid | None, list[str]]:
    """The arms of the headline's experiment that do the headline's work, A/A twins once."""
    pair = headline_pair(evidence)
    if pair is None:
        return None, []
    grid = pair.grid
    again = {second for _, second in grid.twins()}
    writers = grid.plan(pair.over)["writers"]
    work = field(grid.plan(pair.over), "think_us")
    arms = [
        arm
        for arm in grid.arms
        if arm not in again
        and grid.usable(arm)
        and look(grid, arm)[0] != "null"
        and grid.plan(arm)["writers"] == writers
        and field(grid.plan(arm), "think_us") == work
    ]
    return grid, arms


def _latencies(evidence: Evidence) -> list[Line]:
    grid, arms = _headline_arms(evidence)
    lines = []
    for arm in arms:
        tally = grid.tally(arm) if grid else None
        if grid and tally:
            each = tally.latency()["whole"]
            lines.append(Line(label(grid, arm), look(grid, arm), range(len(each)), each))
    return lines


def _shares(evidence: Evidence) -> list[Line]:
    grid, arms = _headline_arms(evidence)
    lines = []
    for arm in arms:
        ranked = [
            np.sort(got)[::-1] / got.sum()
            for cell in (grid.usable(arm) if grid else [])
            if cell.counted and (got := cell.counted.roles["writer"].commits_each).sum()
        ]
        if grid and ranked:
            share = np.median(np.stack(ranked), axis=0)
            lines.append(Line(label(grid, arm), look(grid, arm), range(1, len(share) + 1), share))
    return lines


def _crossover(evidence: Evidence) -> list[Line]:
    ways: dict[tuple[str, str], None] = {}
    for grid in evidence.grids.values():
        for arm in grid.arms:
            engine, begin = look(grid, arm)
            if engine != "null" and grid.plan(arm)["writers"]:
                ways[engine, begin] = None
    lines = []
    for way in ways:
        if way == CONTROL:
            continue
        found = losing.work_ratios(evidence, over=way)
        if not found:
            continue
        ratios = [ratio for _, _, ratio in found]
        _, pair, _ = found[0]
        lines.append(
            Line(
                label(pair.grid, pair.over),
                way,
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
    for grid, cell in evidence.cells():
        if cell.counted is None or cell.folder is None or len(tracks) == 4:
            continue
        plan = cell.manifest["plan"]
        if not plan["writers"] or cell.counted.seconds < 0.2:
            continue
        if not plan.get("checkpointers") and cell.counted.seconds < 2:
            continue
        run = read_run(cell.folder)
        bins = int(min(max(cell.counted.seconds * 10, 20), 100))
        edges_s, per_s = timeline(run, bins=bins)
        made = checkpoints(run)
        made = made[made["outcome"] == COMMITTED]
        spans = np.stack([made["start_s"], made["start_s"] + made["took_s"]], axis=1)
        name = f"{grid.name}: {label(grid, cell.arm)}"
        spans = _merged(spans, cell.counted.seconds / 400)
        tracks.append(Track(name, look(grid, cell.arm), edges_s, per_s, spans))
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


# --- method and machine -----------------------------------------------------------------------


def _method(evidence: Evidence) -> dict[str, str]:
    """The numbers in the method's sentences, from the manifests."""
    cells = [cell for _, cell in evidence.cells() if cell.counted is not None]
    seconds = [c.counted.seconds for c in cells if c.counted]
    foreign = [c.manifest.get("foreign", {}) for c in cells]
    plans = [c.manifest["plan"] for c in cells]
    return {
        "runs": times(len(cells), "run"),
        "seconds": " to ".join(
            dict.fromkeys(f"{edge(seconds, default=0.0):.3g}" for edge in (min, max))
        ),
        "warmups": ", ".join(f"{s:g}" for s in sorted({p["warmup_s"] for p in plans})),
        "retries": ", ".join(sorted({_retry_words(p["retry"]) for p in plans})),
        "loops": ", ".join(sorted({"open" if p.get("rate") else "closed" for p in plans})),
        "fewest": str(FEWEST_BLOCKS),
        "limit": percent(cells[0].foreign_limit if cells else FOREIGN_LIMIT),
        "dropped": f"{sum(bool(c.contaminated) for c in cells)} of {len(cells)}",
        "foreign": percent(max((f.get("cpu_share") or 0.0 for f in foreign), default=0.0)),
        "steal": percent(max((f.get("steal_share") or 0.0 for f in foreign), default=0.0)),
    }


def _retry_words(retry: Mapping[str, Any]) -> str:
    said = str(retry["policy"])
    if said == "exponential":
        said += f" with jitter from {retry['base_us']:g} to {retry['cap_us']:g} µs"
    most = retry.get("most_tries")
    return f"{said}, at most {most} tries" if most else f"{said}, without a limit of tries"


def _machine(evidence: Evidence) -> Mapping[str, Any]:
    for _, cell in evidence.cells():
        if machine := cell.manifest.get("machine"):
            shown = dict(machine)
            if size := shown.pop("memory_bytes", None):
                shown["memory"] = f"{size / 2**30:.1f} GiB"
            return {key.replace("_", " "): value for key, value in shown.items()}
    return {}


def _libraries(evidence: Evidence) -> Table:
    """Each engine as the runs met it, with its build options."""
    rows: dict[str, tuple[str, ...]] = {}
    for _, cell in evidence.cells():
        for engine, identity in cell.manifest.get("engines", {}).items():
            if identity and engine not in rows:
                options = ", ".join(str(option) for option in identity.get("options", ()))
                rows[engine] = (engine, *(str(identity.get(key, "")) for key in
                                ("binding", "version", "source_id")), options)  # fmt: skip
    head = ("engine", "binding", "library", "source id", "build options")
    return Table(head, [rows[engine] for engine in sorted(rows)])


def _command(evidence: Evidence) -> str:
    """The command that made the runs."""
    if command := evidence.campaign.get("command"):
        return str(command)
    commands = [str(cell.manifest.get("command", "")) for _, cell in evidence.cells()]
    return next((command for command in commands if command), "make report")
