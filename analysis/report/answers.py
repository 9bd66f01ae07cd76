"""Each page's answer in one sentence, computed from what the page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.compare import Comparison
from analysis.report import isolation
from analysis.report.acked import acked_of, is_acked
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, code, listed, listed_names, markdown, said
from analysis.report.sweep_verdicts import LESS, MORE
from analysis.report.told import claimed
from analysis.wording import number, times, whole

Data = Mapping[str, Any]

NEITHER = {"none": "no difference is claimed at", "unknown": "too few blocks to say at"}


def isolated(evidence: Evidence, data: Data) -> str:
    """Which promises of isolation hold."""
    rows = isolation.accepted(evidence.isolation)
    if not rows:
        return markdown("Not measured in these runs; `pytest properties` measures it.")
    broken = [isolation.who(row) for row in rows if row["deviations"]]
    allow = [
        f"{isolation.who(row)} allows {', '.join(isolation.families(row))}, as promised"
        for row in rows
        if isolation.possible(row) and not row["deviations"]
    ]
    beyond = [one["name"] for one in isolation.known(evidence.known) if one["seen"]]
    parts = [
        f"{', '.join(broken)} broke what is promised" if broken else "none broke its promise",
        *allow,
    ]
    if beyond:
        parts.append(f"beyond one file or usual settings promises break ({', '.join(beyond)})")
    return markdown(
        "{} engines and modes were tried on one file in {} schedules ({}): {}.",
        len(rows),
        whole(sum(row["schedules"] for row in rows)),
        code("isolation.json"),
        "; ".join(parts),
    )


def counted(evidence: Evidence, data: Data) -> str:
    """How many comparisons of throughput claim a difference, and the extremes."""
    names = {id(measured): name for name, measured in evidence.experiments.items()}
    found = [
        (names.get(pair[0], ""), one)
        for (pair, measure), one in evidence.facts.telling.found.items()
        if measure == "throughput"
    ]
    runs = times(sum(cell.counted is not None for _, cell in evidence.cells()), "run")
    if not found:
        return f"{runs}, in none of which two arms can be compared."
    counts = Counter(claimed(one) for _, one in found)
    parts = [f"more at {counts['more']}", f"less at {counts['less']}"]
    parts += [f"{words} {counts[name]}" for name, words in NEITHER.items() if counts[name]]
    return markdown(
        "In {} of {}, of {}, a system commits {}: {}.",
        times(len(found), "comparison"),
        "throughput at the same work",
        runs,
        ", ".join(parts),
        _extremes(found),
    )


def _extremes(found: Sequence[tuple[str, Comparison]]) -> Markdown:
    ranked = sorted((f for f in found if f[1].ratio.blocks), key=lambda f: f[1].ratio.value)
    ends = ranked if len(ranked) < 2 else [ranked[0], ranked[-1]]
    texts = [
        markdown("{} times ({}: {} against {})", one.ratio.text(), code(name), one.b, one.a)
        for name, one in ends
    ]
    return markdown("from {} to {}", *texts) if len(texts) == 2 else Markdown("").join(texts)


def swept(evidence: Evidence, data: Data) -> str:
    """What each sweep claims."""
    if not evidence.sweeps:
        return markdown(
            "No sweep is told here; `cwkit sweep landscape` measures one and "
            "`cwkit report --only-write --into REPORT --sweep FOLDER` tells it."
        )
    parts = []
    for name, measured in evidence.sweeps.items():
        called = code(name)
        if name in evidence.published:
            called = markdown("{} (of {})", called, evidence.published[name].date)
        if is_acked(measured):
            found = acked_of([measured])
            parts.append(
                markdown(
                    "{} lost commits in {} of {} libraries and conditions",
                    called,
                    len(found.losers),
                    len(found.groups),
                )
            )
            continue
        judged = evidence.facts.sweeps[name]
        counts = Counter(one.verdict for one in judged)
        parts.append(
            markdown(
                "{} claims more at {} and less at {} of {}",
                called,
                counts[MORE],
                counts[LESS],
                times(len(judged), "comparison"),
            )
        )
    return markdown("The sweep {}.", Markdown("; ").join(parts))


def modelled(evidence: Evidence, data: Data) -> str:
    """How well the models fit."""
    models = data["models"]
    fits = [fit for fit in evidence.facts.fits if fit.scaling.law is not None]
    parts = []
    if models["error"] is not None:
        parts.append(
            markdown(
                "The model of conflicts is off by a factor of {} in the median of {} ({})",
                number(models["error"].median),
                times(models["error"].arms, "arm"),
                listed_names(models["studied"]),
            )
        )
    else:
        parts.append(
            Markdown("No run says what its transactions touch, so no refusal is predicted")
        )
    if fits:
        parts.append(
            markdown(
                "the law of growth fits {} of {} ({})",
                len(fits),
                times(len(evidence.facts.fits), "set") + " of arms",
                listed_names(fit.measured.name for fit in fits),
            )
        )
    else:
        parts.append(Markdown("no experiment has enough numbers of writers to fit a law of growth"))
    return markdown("{}.", Markdown("; ").join(parts))


def beside_the_server(evidence: Evidence, data: Data) -> str:
    """What a replica and a server cost."""
    served = evidence.served
    if served.problem:
        return markdown("Not measured: {}", said(served.problem))
    return markdown(
        "A read of an embedded replica takes {} times one of a plain local file, and a read at the "
        "server over loopback {} times ({}, one client).",
        served.ratio("read-replica", "read-local").text(),
        served.ratio("read-remote", "read-local").text(),
        code(served.place),
    )


def measured(evidence: Evidence, data: Data) -> str:
    """What the intervals cover, and how many runs stand behind them."""
    how = data["method"]
    places = {cell.place for _, cell in evidence.cells() if cell.manifest}
    on = "one machine" if len(places) < 2 else times(len(places), "machine")
    return (
        f"Every interval covers one sitting on {on}: {how['runs']} of {how['seconds']} s each; "
        f"{how['dropped']} runs were dropped because others used the machine."
    )


def made_on(evidence: Evidence, data: Data) -> str:
    """The machine, and who accepts BEGIN CONCURRENT there."""
    machine = data["machine"]
    if not machine:
        return "No run left a description of the machine."
    asked = {
        name: probe.modes["concurrent"].accepted
        for name, probe in evidence.probes.items()
        if "concurrent" in probe.modes and name != "null"
    }
    takes = [name for name, accepted in asked.items() if accepted]
    refuses = [name for name, accepted in asked.items() if not accepted]
    answers = [
        markdown("{} {} BEGIN CONCURRENT", listed([code(name) for name in names]), verb)
        for names, verb in ((takes, "took"), (refuses, "refused"))
        if names
    ]
    said = (
        Markdown(" and ").join(answers)
        if answers
        else Markdown("no engine was asked for BEGIN CONCURRENT")
    )
    cores = machine.get("cores")
    return markdown(
        "Made on {}{}, with {}; {}.",
        f"{times(int(cores), 'core')} of " if cores else "",
        str(machine.get("cpu") or "an unnamed CPU"),
        str(machine.get("file system") or "an unnamed file system"),
        said,
    )
