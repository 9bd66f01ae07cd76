"""The pages of a report beside REPORT.md: which there are, and what each of them shows.

Each page is a template of its own, has a one-sentence answer on top and a link back. A page is
written whether or not there is anything to show, so that none of an older report is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from analysis.counting import Measured, slumps, spare_clause
from analysis.report import (
    answers,
    crashes,
    faults,
    hunts,
    isolation,
    lost_commits,
    method,
    over_sittings,
    replica,
    replica_claims,
    soaks,
    systems,
    tables,
    trials,
)
from analysis.report import findings as report_findings
from analysis.report import models as report_models
from analysis.report import sweeps as report_sweeps
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, code, markdown
from analysis.wording import Table

MARK = "<!-- Written by `cwkit report`, which overwrites this page and removes it. -->"
"""The first line of each page. What has it and is no page any more is removed."""

MOST_SLUMPS = 5
"""At most so many runs of an experiment that stood still or slumped are listed."""

Data = Mapping[str, Any]


class Page(NamedTuple):
    """A page of the report.

    name : its file and its template are NAME.md and NAME.md.j2.
    data : (evidence, the page's path, the figures' folder) -> data of its template.
        Draws its charts.
    answer : (evidence, those data) -> its answer in one sentence.
    """

    name: str
    title: str
    data: Callable[[Evidence, Path, Path], Data]
    answer: Callable[[Evidence, Data], str]

    @property
    def file(self) -> str:
        return f"{self.name}.md"


# --- what each of them shows ------------------------------------------------------------------


def _isolation(evidence: Evidence, page: Path, figures: Path) -> Data:
    again = isolation.known(evidence.known)
    return {
        "isolation": isolation.levels_table(evidence.isolation),
        "matrix": isolation.matrix_table(evidence.isolation),
        "witnesses": isolation.witnesses(evidence.isolation),
        "known": [one for one in again if one["seen"]],
        "unseen": [one for one in again if one["not_seen"]],
        "deviations": isolation.deviations(evidence.isolation),
        "promises": tables.promises_table(evidence),
        "acked": lost_commits.table(evidence.facts.acked),
        "acked_lines": lost_commits.told(evidence.facts.acked),
    }


def _hunts(evidence: Evidence, page: Path, figures: Path) -> Data:
    return hunts.section(evidence, page)


def _crashes(evidence: Evidence, page: Path, figures: Path) -> Data:
    return crashes.section(evidence, page)


def _faults(evidence: Evidence, page: Path, figures: Path) -> Data:
    return faults.section(evidence, page)


def _soaks(evidence: Evidence, page: Path, figures: Path) -> Data:
    return soaks.section(evidence, page)


def _numbers(evidence: Evidence, page: Path, figures: Path) -> Data:
    return {
        "work": tables.work_table(evidence),
        "experiments": [
            _experiment(evidence, measured) for measured in evidence.experiments.values()
        ],
        "refusals": tables.all_refusals_table(evidence),
        "kinds": tables.refusal_kinds(evidence),
        "checks": tables.checks_table(evidence),
    }


def _sweeps(evidence: Evidence, page: Path, figures: Path) -> Data:
    """Those that were measured for this report, and those that were published earlier.

    Two have too many systems for small charts and a page of their own.
    """
    return {
        "elsewhere": [name for name in evidence.sweeps if name in systems.TOLD_HERE],
        "sweeps": [
            report_sweeps.section(
                measured,
                evidence.facts.sweeps[name],
                page,
                figures,
                evidence.published.get(name),
            )
            for name, measured in evidence.sweeps.items()
            if name not in systems.TOLD_HERE
        ],
    }


def _systems(evidence: Evidence, page: Path, figures: Path) -> Data:
    return systems.section(evidence, page, figures)


def _models(evidence: Evidence, page: Path, figures: Path) -> Data:
    return {"models": report_models.section(evidence, page, figures)}


def _server(evidence: Evidence, page: Path, figures: Path) -> Data:
    served = evidence.served
    told = {
        "free_reads": "" if served.problem else replica_claims.free_reads(served),
        "hops": "" if served.problem else replica_claims.hops(served),
    }
    parts = trials.section(evidence)
    return {"served": replica.section(served) | told, "trials": parts}


def _method(evidence: Evidence, page: Path, figures: Path) -> Data:
    table, said = method.simulations(figures)
    again = over_sittings.again(evidence)
    return {
        "method": method.numbers(evidence),
        "effort": method.effort_sentence(evidence),
        "covers": method.covers(evidence),
        "sittings": over_sittings.sentence(evidence, again),
        "over_sittings": over_sittings.table(again),
        "simulations": table,
        "undecided": [
            markdown("{}: {} ({})", code(one.experiment), one.question, one.why)
            for one in evidence.facts.cannot_decide
        ],
        "limits": method.limits(evidence),
        "simulated": said,
        "csv": method.SIMULATIONS,
        "doubts": [
            *report_findings.doubts(evidence),
            *report_findings.notes(evidence),
            *_again(evidence),
            *over_sittings.doubts(evidence),
        ],
    }


def _again(evidence: Evidence) -> list[Markdown]:
    """Of each experiment, which of its runs were made again at once."""
    return [
        markdown("{}: {}", code(measured.name), sentence)
        for measured in evidence.experiments.values()
        if (sentence := spare_clause(measured))
    ]


def _machine(evidence: Evidence, page: Path, figures: Path) -> Data:
    return {
        "machine": method.machine(evidence),
        "libraries": method.libraries(evidence),
        "pragmas": tables.pragmas_table(evidence),
        "engines": tables.engines_table(evidence),
        "missing": method.missing(evidence),
    }


PAGES = (
    Page("isolation", "What isolation each mode really gives", _isolation, answers.isolated),
    Page(hunts.NAME, "What the hunter found", _hunts, hunts.answer),
    Page(crashes.NAME, "What a crash leaves", _crashes, crashes.answer),
    Page(faults.NAME, "What faults do", _faults, faults.answer),
    Page(soaks.NAME, "What a soak found", _soaks, soaks.answer),
    Page("numbers", "The numbers of every experiment", _numbers, answers.counted),
    Page("sweeps", "Sweeps: over writers, keys and work", _sweeps, answers.swept),
    Page("models", "Models of refusals and of growth", _models, answers.modelled),
    Page("systems", "The article's systems side by side", _systems, systems.answer),
    Page("server", "Beside libSQL's server", _server, answers.beside_the_server),
    Page("method", "How it was measured, and what cannot be told", _method, answers.measured),
    Page("machine", "The machine, its engines and their settings", _machine, answers.made_on),
)


def _experiment(evidence: Evidence, measured: Measured) -> Data:
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
