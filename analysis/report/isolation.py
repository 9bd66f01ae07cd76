"""Isolation in the report: what each engine and mode promises, prevents and allows.

`python -m analysis.report.isolation FILE EXAMPLES` runs the schedules in a process of its own and
writes the matrix of properties.conformance as JSON. The rest of this module reports it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from analysis.report.markdown import Markdown, bold, markdown
from analysis.wording import DASH, Table, begin_label, listed, percent, whole
from workloads.files import read_json, write_json
from workloads.processes import die_with_parent

Rows = Sequence[Mapping[str, Any]]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Promised(msgspec.Struct):
    level: str
    source: str = ""


class _Anomaly(msgspec.Struct):
    result: str
    how: str
    story: str
    source: str
    schedule: str


class _Refusals(msgspec.Struct):
    refused: _Count
    needless: _Count


class _Row(msgspec.Struct):
    """A row of the isolation matrix, without what the report does not show.

    A mode that the engine refused has the first three fields only.
    """

    engine: str
    mode: str
    accepted: bool
    words: str = ""
    promised: _Promised | None = None
    observed: str | None = None
    anomalies: dict[str, _Anomaly] = {}
    others: dict[str, int] = {}
    schedules: _Count = 0
    died: _Count = 0
    refusals: dict[str, _Refusals] = {}
    deviations: list[str] = []


class _Known(msgspec.Struct):
    """A known deviation, looked for again with one engine and mode."""

    name: str
    sentence: str
    engine: str
    mode: str
    words: str
    seen: bool | None
    text: str


class _Kept(msgspec.Struct):
    """The content of `isolation.json`. Its version is that of its report's folder."""

    matrix: list[_Row]
    known: list[_Known]


def read_matrix(path: Path) -> tuple[Rows, Rows]:
    """Matrix and known findings of a file. Raises RunError, FileNotFoundError."""
    kept = read_json(path, kind=_Kept)
    plain = msgspec.to_builtins(kept)
    return plain["matrix"], plain["known"]


RESULTS = {"blocked": "blocked", "refused": "refused", "snapshot": "snapshot"}
"""How an anomaly was prevented: no lock to be had, refused for a conflict, or only not seen."""


def who(row: Mapping[str, Any]) -> str:
    return f"{row['engine']} {begin_label(row['mode'])}"


def accepted(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["accepted"]]


def possible(row: Mapping[str, Any]) -> list[str]:
    """Anomalies that a fixed schedule or a drawn one showed."""
    fixed = [name for name, a in row["anomalies"].items() if a["result"] == "possible"]
    return list(dict.fromkeys([*fixed, *row["others"]]))


def levels_table(rows: Rows) -> Table:
    """The promised level beside the observed one, and how many refusals were needless by rows."""
    lines = []
    for row in accepted(rows):
        refused = sum(kind["refused"] for kind in row["refusals"].values())
        needless = sum(kind["needless"] for kind in row["refusals"].values())
        lines.append(
            (
                who(row),
                row["promised"]["level"] if row["promised"] else "nothing known",
                row["observed"] or DASH,
                ", ".join(possible(row)) or "none",
                Markdown("**yes**") if row["deviations"] else "no",
                whole(row["schedules"]),
                whole(refused),
                f"{whole(needless)} ({percent(needless / refused)})" if refused else DASH,
            )
        )
    return Table(
        ("engine, mode", "promised", "observed", "anomalies seen", "breaks its promise",
         "schedules", "refusals", "needless at row level"),
        lines,
    )  # fmt: skip


def matrix_table(rows: Rows) -> Table:
    """Engine and mode against anomaly; modes with the same answers share a row."""
    names: dict[str, None] = {}
    for row in accepted(rows):
        names |= dict.fromkeys(row["anomalies"])
    together: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for row in accepted(rows):
        answers = tuple(_answer(row["anomalies"].get(name)) for name in names)
        together.setdefault(answers, {}).setdefault(row["engine"], []).append(row["mode"])
    lines = []
    for answers, engines in together.items():
        label = "; ".join(
            f"{engine} {listed([begin_label(mode) for mode in modes])}"
            for engine, modes in engines.items()
        )
        lines.append((label, *answers))
    return Table(("engine, mode", *names), lines)


def _answer(anomaly: Mapping[str, Any] | None) -> str:
    if anomaly is None:
        return "not tried"
    if anomaly["result"] == "prevented":
        return RESULTS.get(anomaly["how"], anomaly["how"])
    return Markdown("**possible**") if anomaly["result"] == "possible" else anomaly["result"]


def witnesses(rows: Rows) -> list[dict[str, str]]:
    """Each anomaly that is possible somewhere, with its story, source and schedule, and where."""
    shown: dict[tuple[str, str], dict[str, Any]] = {}
    for row in accepted(rows):
        for name, anomaly in row["anomalies"].items():
            if anomaly["result"] == "possible":
                key = (name, anomaly["schedule"])
                shown.setdefault(key, {**anomaly, "name": name, "where": []})["where"].append(
                    who(row)
                )
    return [one | {"where": listed(one["where"])} for one in shown.values()]


def families(row: Mapping[str, Any]) -> list[str]:
    """The anomalies without their -process and -realtime variants, each once."""
    names = (name.removesuffix("-process").removesuffix("-realtime") for name in possible(row))
    return list(dict.fromkeys(names))


def deviations(rows: Rows) -> list[str]:
    """Deviations from an engine's promise, in full. The report shows them before all else."""
    return [f"{who(row)}: {deviation}" for row in accepted(rows) for deviation in row["deviations"]]


def known(rows: Rows) -> list[dict[str, str]]:
    """Known deviations that were looked for again, and where each was seen or not."""
    shown: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = shown.setdefault(row["name"], {**row, "seen": [], "not_seen": [], "text": ""})
        if row["seen"]:
            one["seen"].append(who(row))
            one["text"] = one["text"] or row["text"]
        else:
            reason = f" ({row['words']})" if row["words"] else ""
            one["not_seen"].append(f"{who(row)}{reason}")
    return [
        one | {"seen": listed(one["seen"]), "not_seen": listed(one["not_seen"])}
        for one in shown.values()
    ]


def beyond(rows: Rows) -> str:
    """What breaks a promise beyond one file or usual settings, and on which engines; "" for
    nothing.
    """
    engines: dict[str, list[str]] = {}
    for row in rows:
        if row["seen"] and row["engine"] not in engines.setdefault(row["name"], []):
            engines[row["name"]].append(row["engine"])
    together: dict[tuple[str, ...], list[str]] = {}
    for name, seen in engines.items():
        if seen:
            together.setdefault(tuple(seen), []).append(name)
    return "; ".join(f"{listed(names)} ({listed(seen)})" for seen, names in together.items())


def sentence(rows: Rows, again: Rows = ()) -> str:
    """One finding: the anomalies that each engine and mode allows, against its promise.

    again : rows of the known deviations.
    """
    if not accepted(rows):
        return markdown(
            "Isolation: not measured in this set of runs. `pytest properties` measures it."
        )
    broken = [row for row in accepted(rows) if row["deviations"]]
    allow = [row for row in accepted(rows) if possible(row) and not row["deviations"]]
    clean = [row for row in accepted(rows) if not possible(row) and not row["deviations"]]
    schedules = sum(row["schedules"] for row in accepted(rows))
    parts: list[str] = []
    for row in broken:
        promise = row["promised"]["level"] if row["promised"] else "nothing"
        if row.get("died"):
            parts.append(
                bold(
                    "{} took its process down in {} of {} schedules",
                    who(row),
                    whole(row["died"]),
                    whole(row["schedules"]),
                )
            )
            if not possible(row):
                continue
        parts.append(
            markdown(
                "{} ({} seen)",
                bold("{} breaks its promise of {}", who(row), promise),
                ", ".join(families(row)) or "an effect that the model forbids",
            )
        )
    for row in allow:
        promise = row["promised"]["level"] if row["promised"] else "nothing"
        parts.append(
            f"{who(row)} allows {listed(families(row))}, as its promise of {promise} lets it"
        )
    concurrent = [who(row) for row in clean if row["mode"] == "concurrent"]
    if concurrent:
        parts.append(f"{listed(concurrent)} showed no anomaly, nor did any mode not named here")
    elif clean:
        parts.append(f"the other {len(clean)} modes showed no anomaly")
    return markdown(
        "{}Isolation, {} schedules over {} engines and modes: {}{}.",
        _beyond(again),
        whole(schedules),
        len(accepted(rows)),
        Markdown("; ").join(parts),
        _needless(rows),
    )


def _beyond(again: Rows) -> str:
    seen = [f"{one['name']} ({one['seen']})" for one in known(again) if one["seen"]]
    if not seen:
        return ""
    text = "; ".join(seen)
    return bold("Beyond one file or usual settings, promises break: {}.", text) + " "


def _needless(rows: Rows) -> str:
    parts = []
    for row in accepted(rows):
        refused = sum(kind["refused"] for kind in row["refusals"].values())
        needless = sum(kind["needless"] for kind in row["refusals"].values())
        if row["mode"] == "concurrent" and refused:
            parts.append(f"{whole(needless)} of {whole(refused)} by {who(row)}")
    return f"; refusals that no row-level conflict asked for: {listed(parts)}" if parts else ""


def main(argv: Sequence[str]) -> int:
    """FILE EXAMPLES: run the schedules and write the matrix, whole or not at all."""
    from properties.conformance import isolation_matrix, known_findings

    path, examples = Path(argv[0]), int(argv[1])
    die_with_parent()
    rows = isolation_matrix(examples=examples, progress=lambda line: print(line, flush=True))
    write_json(path, {"matrix": rows, "known": known_findings()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
