"""REPORT.md from a folder of experiments: counts to sentences, tables and charts.

The same runs give the same bytes: no date of its own, no path of the machine, nothing drawn at
random without a seed. A cell that was refused or failed is shown as such and stops nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from analysis.counting import FOREIGN_LIMIT, Measured, slumps
from analysis.report import findings, isolation, replica, tables
from analysis.report import models as report_models
from analysis.report import sweeps as report_sweeps
from analysis.report.charts import charts
from analysis.report.claims import claims
from analysis.report.evidence import Evidence, read_evidence
from analysis.report.markdown import FILTERS, Markdown, code, markdown
from analysis.statistics import FEWEST_BLOCKS, SHORT, UNSTEADY
from analysis.wording import Table, percent, times
from workloads.files import replace, resolved
from workloads.records import Retry

TEMPLATE = "report.md.j2"
MOST_SLUMPS = 5
"""At most so many runs of an experiment that stood still or slumped are listed."""


def write_report(folder: Path, out: Path, figures: Path, sweeps: Sequence[Path] = ()) -> None:
    """Write `out` (REPORT.md), and its charts and tables into the folder `figures`, from `folder`.

    sweeps : folders of sweeps to report beside those that the folder names itself.
    Raises RunError where `folder` holds no experiment; OSError where nothing can be written.
    """
    evidence = read_evidence(folder, sweeps)
    template = _environment().get_template(TEMPLATE)
    text = template.render(_sections(evidence, Path(out), Path(figures)))
    text = _without(text, Path(folder))
    out = Path(out)
    if not out.parent.is_dir():  # not for /dev/stdout, whose folder is there
        out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, text, named=True)


def _without(text: str, folder: Path) -> str:
    """The text without the path of the runs, so that they give the same bytes wherever they lie.

    A folder's name may be a word or a part of one: it is a path only where a separator stands in
    it or behind it.
    """
    for path in (str(resolved(folder)), str(folder)):
        for form in (path, Markdown.escape(path)):
            own = r"(?<![\w./-])" + re.escape(str(form))
            text = re.sub(own + re.escape(os.sep), "", text)
            if os.sep in path:
                text = re.sub(own + r"(?![\w-])", "the runs' folder", text)
    return text


def _sections(evidence: Evidence, out: Path, folder: Path) -> dict[str, Any]:
    """The whole report as data for its template."""
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
        "charts": charts(evidence, out, folder),
        "work": tables.work_table(evidence),
        "sweeps": [
            report_sweeps.section(measured, evidence.facts.sweeps[name], out, folder)
            for name, measured in evidence.sweeps.items()
        ],
        "models": report_models.section(evidence, out, folder),
        "experiments": [
            _experiment(evidence, measured) for measured in evidence.experiments.values()
        ],
        "refusals": tables.all_refusals_table(evidence),
        "kinds": tables.refusal_kinds(evidence),
        "checks": tables.checks_table(evidence),
        "claims": claims(evidence),
        "served": replica.section(evidence.served),
        "method": _method(evidence),
        "machine": _machine(evidence),
        "libraries": _libraries(evidence),
        "pragmas": tables.pragmas_table(evidence),
        "command": _command(evidence),
        "seed": evidence.seed,
        "started": evidence.suite.started,
        "quick": evidence.suite.quick,
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,  # with `finalize`: a string that is not Markdown is escaped
        finalize=Markdown.escape,
    )
    environment.filters |= FILTERS
    return environment


def _experiment(evidence: Evidence, measured: Measured) -> dict[str, Any]:
    shown: list[tuple[str, Table]] = [
        ("Latency of a whole committed transaction, and its parts", tables.latency_table(measured)),
        ("Each worker", tables.fairness_table(measured)),
        ("Attempts, each in exactly one column", tables.attempts_table(measured)),
        ("Where the workers' time went", tables.effort_table(measured)),
        ("The write-ahead log", tables.wal_table(measured)),
        ("What the arms differ in", tables.arms_table(measured)),
    ]
    absent = []
    for arm in measured.arms.values():
        whys = dict.fromkeys(
            f"{cell.state}: {cell.failure or cell.contaminated}"
            for cell in arm.cells
            if cell.failure or cell.contaminated
        )
        blocks = [cell for cell in arm.cells if cell.failure or cell.contaminated]
        absent += [
            f"{arm}, {len(blocks)} of {len(arm.cells)} blocks: {why.rstrip('.')}."
            for why in list(whys)[:3]
        ]
    return {
        "name": measured.name,
        "question": measured.question,
        "seed": measured.seed,
        "blocks": len(measured.blocks),
        "rates": tables.rates_table(evidence, measured),
        "tables": [(title, table) for title, table in shown if table.rows],
        "absent": absent,
        "slumps": [
            f"b{block:02d}, {arm}: {why}." for (block, arm), why in sorted(slumps(measured).items())
        ][:MOST_SLUMPS],
        "controls": [
            f"{again} / {one}: {measured.ratio(again, one).text()}" for one, again in measured.twins
        ],
    }


def _missing(evidence: Evidence) -> list[str]:
    """Engines that were missing, the questions left open without them, and how to get them."""
    lost = {
        "sqlite-concurrent": "Without it nothing here says what BEGIN CONCURRENT does for libSQL",
        "libsql": "Without it there is no libSQL side to compare with",
        "sqlite-latest": "Without it only one fixed version controls the search for lost commits",
        "turso": "Without it nothing is said about Turso's row-level BEGIN CONCURRENT",
    }
    lines = []
    for probe in evidence.probes.values():
        if probe.missing:
            part = lost.get(probe.engine, f"Without it the arms of {probe.engine} are missing")
            lines.append(f"{probe.engine}: {probe.missing.rstrip('.')}. {part}.")
    known = {probe.engine for probe in evidence.probes.values() if probe.missing}
    absent: dict[str, None] = {}
    for arm, cell in evidence.cells():
        if cell.state == "missing" and arm.engine not in known:
            why = cell.failure.rstrip(".")
            absent[markdown("{}, {}: {}.", code(arm.measured.name), arm, why)] = None
    return lines + list(absent)


# --- method and machine -----------------------------------------------------------------------


def _method(evidence: Evidence) -> dict[str, str]:
    """The numbers in the method's sentences, from the manifests."""
    cells = [cell for _, cell in evidence.cells() if cell.counted is not None]
    seconds = [c.counted.seconds for c in cells if c.counted]
    foreign = [c.manifest.foreign for c in cells if c.manifest]
    plans = [c.manifest.plan for c in cells if c.manifest]
    steady = [c.counted.steady for c in cells if c.counted and c.counted.steady]
    moved = [s for s in steady if s.warmup_s > s.planned_s]
    return {
        "moved": times(len(moved), "run"),
        "unsteady": str(sum(s.state == UNSTEADY for s in steady)),
        "short": str(sum(s.state == SHORT for s in steady)),
        "runs": times(len(cells), "run"),
        "seconds": " to ".join(
            dict.fromkeys(f"{edge(seconds, default=0.0):.3g}" for edge in (min, max))
        ),
        "warmups": ", ".join(f"{s:g}" for s in sorted({p.warmup_s for p in plans})),
        "retries": ", ".join(sorted({_retry_policy(p.retry) for p in plans})),
        "loops": ", ".join(sorted({"open" if p.rate else "closed" for p in plans})),
        "fewest": str(FEWEST_BLOCKS),
        "limit": percent(cells[0].foreign_limit if cells else FOREIGN_LIMIT),
        "dropped": f"{sum(bool(c.contaminated) for c in cells)} of {len(cells)}",
        "foreign": percent(max((f.cpu_share for f in foreign), default=0.0)),
        "steal": percent(max((f.steal_share for f in foreign), default=0.0)),
    }


def _retry_policy(retry: Retry) -> str:
    text: str = retry.policy
    if text == "exponential":
        text += f" with jitter from {retry.base_us:g} to {retry.cap_us:g} µs"
    most = retry.most_tries
    return f"{text}, at most {most} tries" if most else f"{text}, without a limit of tries"


def _machine(evidence: Evidence) -> Mapping[str, Any]:
    for _, cell in evidence.cells():
        if cell.manifest and (shown := cell.manifest.machine.data()):
            if size := shown.pop("memory_bytes", None):
                shown["memory"] = f"{size / 2**30:.1f} GiB"
            return {key.replace("_", " "): value for key, value in shown.items()}
    return {}


def _libraries(evidence: Evidence) -> Table:
    """Each engine that the runs used, with its build options."""
    rows: dict[str, tuple[str, ...]] = {}
    for _, cell in evidence.cells():
        for engine, entry in cell.manifest.engines.items() if cell.manifest else ():
            if entry.data() and engine not in rows:
                options = ", ".join(entry.options)
                rows[engine] = (engine, entry.binding, entry.version, entry.source_id, options)
    head = ("engine", "binding", "library", "source id", "build options")
    return Table(head, [rows[engine] for engine in sorted(rows)])


def _command(evidence: Evidence) -> str:
    """The command that made the runs."""
    if command := evidence.suite.command:
        return command
    commands = [cell.manifest.command for _, cell in evidence.cells() if cell.manifest]
    return next(filter(None, commands), "make report")
