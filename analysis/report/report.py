"""REPORT.md and its pages from a folder of experiments: counts to sentences, tables and charts.

The same runs give the same bytes: no date of its own, no path of the machine, nothing drawn at
random without a seed. A cell that was refused or failed is shown as such and stops nothing.

REPORT.md is what a reader has time for: the answer, what to do, the findings. The pages beside the
figures have the rest.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.report import findings, method, over_sittings, rendering
from analysis.report.agreement import Facts, facts_of_report, write_facts
from analysis.report.charts import address_of, charts
from analysis.report.evidence import Evidence, read_evidence
from analysis.report.ledger import ledger
from analysis.report.markdown import Markdown, address, markdown
from analysis.report.pages import MARK, PAGES
from analysis.report.published_hunts import FOUND
from analysis.report.what_to_do import usual, what_to_do
from workloads.errors import RunError
from workloads.files import replace, resolved

MOST_LINES = 350
"""REPORT.md is at most so long. Its lists have limits of their own, which keep it well below."""

MOST_DOUBTS = 6
"""At most so many doubts stand before the first number. All of them stand in method.md."""


def write_report(
    folder: Path,
    out: Path,
    figures: Path,
    sweeps: Sequence[Path] = (),
    published: Path | None = None,
    hunts: Path | None = None,
    found: Path = FOUND,
    crashes: Path | None = None,
    faults: Path | None = None,
    soaks: Path | None = None,
) -> Facts:
    """Write `out` (REPORT.md), and its charts, tables and pages into `figures`, from `folder`.

    sweeps : folders of sweeps to report beside those that the folder names itself.
    published : folder of sweeps that were published earlier, which are told again.
    hunts : folder of hunts that were published, None for none. found : the kit's own findings.
    crashes : folder of crash campaigns that were published, None for none. faults, soaks : of
        these.
    Returns its findings and claims as data, which are kept with the runs (facts.json), too.
    Raises RunError where `folder` holds no experiment, or where `out` has the place of a page;
    OSError where nothing can be written.
    """
    folder, out, figures = Path(folder), Path(out), Path(figures)
    refuse_place(out, figures)
    evidence = read_evidence(
        folder, sweeps, published, hunts=hunts, found=found, crashes=crashes, faults=faults,
        soaks=soaks,
    )  # fmt: skip
    environment = rendering.environment()
    figures.mkdir(parents=True, exist_ok=True)
    shown = []
    for page in PAGES:
        path = figures / page.file
        data = page.data(evidence, path, figures)
        answer = page.answer(evidence, data)
        top = {"title": page.title, "answer": answer, "back": _back(out, path)}
        text = environment.get_template(f"{page.name}.md.j2").render({**data, "page": top})
        replace(path, _without(text.lstrip(), folder), named=True)
        shown.append({"name": page.name, "title": page.title, "answer": answer,
                      "link": address_of(path, out)})  # fmt: skip
    _remove_old_pages(figures)
    # The report comes last: what it links to is there.
    text = environment.get_template("report.md.j2").render(_sections(evidence, out, figures, shown))
    if not out.parent.is_dir():  # not for /dev/stdout, whose folder is there
        out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, _without(text.lstrip(), folder), named=True)
    facts = facts_of_report(evidence)
    with contextlib.suppress(OSError):  # runs that nobody may write beside can be counted again
        write_facts(folder, facts)
    return facts


def refuse_place(out: Path, figures: Path) -> None:
    """Raise RunError where the report would be written over one of its pages."""
    if resolved(out) in {resolved(figures / page.file) for page in PAGES}:
        raise RunError(
            f"{out}: is where a page of the report is written. Give another file with --out, or "
            "another folder with --figures."
        )


def _back(out: Path, page: Path) -> str:
    """The address of the report as its page links to it, "" where it goes to no file."""
    return "" if out.exists() and not out.is_file() else address_of(out, page)


def _remove_old_pages(figures: Path) -> None:
    """Remove pages that an older report wrote and this one has not: they would contradict it."""
    ours = {page.file for page in PAGES}
    for path in sorted(figures.glob("*.md")):
        if path.name in ours or not path.is_file():
            continue
        with path.open("rb") as file:
            written = file.readline().strip() == MARK.encode()
        if written:
            path.unlink()


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


def _sections(
    evidence: Evidence, out: Path, figures: Path, pages: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The report itself as data for its template."""
    told = findings.tell(evidence)
    links = {page["name"]: page["link"] for page in pages}
    doubts = [
        *findings.doubts(evidence),
        *over_sittings.doubts(evidence),
        *method.missing(evidence),
    ]
    doubts.sort(key=lambda line: line.startswith("`"))  # those of one experiment come last
    return {
        "conditions": usual(evidence),
        "notes": findings.notes(evidence),
        "doubts": doubts[:MOST_DOUBTS],
        "more_doubts": len(doubts[MOST_DOUBTS:]),
        "advice": [
            {**row._asdict(), "told": _told_by(row.told, told, links)}
            for row in what_to_do(evidence, told)
        ],
        "short": findings.in_short(evidence),
        "findings": findings.findings(evidence),
        "beyond": findings.beyond(evidence),
        "claims": ledger(evidence),
        "charts": charts(evidence, out, figures),
        "pages": pages,
        "links": links,
        "effort": method.effort_sentence(evidence),
        "covers": method.covers(evidence),
        "command": method.command(evidence),
        "seed": evidence.seed,
        "started": evidence.suite.started,
        "quick": evidence.suite.quick,
    }


def _told_by(key: str, told: findings.Findings, links: Mapping[str, str]) -> str:
    """Where a row's word comes from: a finding by its number, or a page."""
    if place := told.place(key):
        return f"finding {place}"
    page = key if key in links else "numbers"
    return markdown("[{}]({})", f"{page}.md", address(links[page]))
