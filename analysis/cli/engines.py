"""`cwkit engines`: each engine's identity, and its answers when it is tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analysis.cli import terminal
from analysis.cli.options import JsonOption
from workloads.engines import MODES, Probe, engine_names, find_engine, trust
from workloads.errors import mode_label
from workloads.files import json_text


def engines_command(
    names: Annotated[list[str] | None, typer.Argument(help="engines (default: all)")] = None,
    as_json: JsonOption = False,
) -> None:
    trust(*names or ())
    show_engines(names or [], as_json, terminal.console(), terminal.console(stderr=True))


def show_engines(names: list[str], as_json: bool, console: Console, waiting: Console) -> None:
    """Probe engines and print their answers; each refusal in the engine's own words.

    waiting : prints which engine is being asked.
    """
    from analysis.cli.documents import document  # here: no help needs what it imports
    from workloads.engines import probe_all, to_dict

    wanted = names or [name for name in engine_names() if not name.startswith("faulty-")]
    for name in wanted:
        find_engine(name)  # an unknown name is refused before any is asked
    asked = probe_all(wanted, notify=lambda name: waiting.print(f"asking {name} …"))
    probes = list(asked.values())
    if as_json:
        print(json_text(document("engines", engines=[to_dict(one) for one in probes])))
        return
    for modes, alike in by_modes(probes).items():
        console.print(engines_table(alike, modes))
    console.print(LEGEND, soft_wrap=True)
    for line in engine_notes(probes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def by_modes(probes: list[Probe]) -> dict[tuple[str, ...], list[Probe]]:
    """The engines by the modes that they were asked for; those of SQLite's family come first."""
    found: dict[tuple[str, ...], list[Probe]] = {MODES: []}
    for probe in probes:
        found.setdefault(tuple(probe.modes) or MODES, []).append(probe)
    return {modes: alike for modes, alike in found.items() if alike}


def engines_table(probes: list[Probe], modes: Sequence[str] = MODES) -> Table:
    """Engine, version, who may open its files, and each of its modes; LEGEND explains the words."""
    table = Table(box=None, pad_edge=False)
    for heading in ("engine", "version", "procs", *modes):
        table.add_column(heading, overflow="fold", no_wrap=heading == "engine")
    for probe in probes:
        if probe.missing or probe.identity is None:
            table.add_row(probe.engine, "not here")
            continue
        several = {True: "several", False: "one", None: "-"}[probe.several_processes]
        table.add_row(
            probe.engine,
            "-" if probe.engine == "null" else probe.identity.version,
            several,
            *(_mode(probe, mode) for mode in modes),
        )
    return table


LEGEND = (
    "accepted: it begins. 1 writer: accepted, one write transaction at a time. overlap: accepted, "
    "two write transactions were open at once and both committed. refused: in its own words below."
)


def _mode(probe: Probe, mode: str) -> str:
    answer = probe.modes.get(mode)
    if answer is None:
        return "not asked"
    if not answer.accepted:
        return "refused"
    if answer.overlaps is None:
        return "accepted"
    return "overlap" if answer.overlaps else "1 writer"


def engine_notes(probes: list[Probe]) -> list[str]:
    """Below the table: bindings, source ids, the engines' own words, promises with sources,
    and what of the adapter contract this version is known to break.
    """
    from properties.conformance import known_breaches

    lines: list[str] = []
    for probe in probes:
        lines.append("")
        if probe.missing or probe.identity is None:
            lines.append(f"{probe.engine}: {probe.missing}")
            continue
        identity: Any = probe.identity
        lines.append(f"{probe.engine}: {identity.binding}; source id {identity.source_id or '-'}")
        for mode, answer in probe.modes.items():
            if answer.message:
                lines.append(f"  {mode_label(mode)}: {answer.message}")
            if answer.upgrade:
                lines.append(
                    f"  {mode_label(mode)}: a write after a read, beside another writer and with "
                    f"a busy timeout, is {answer.upgrade}"
                )
        if probe.processes_message:
            lines.append(f"  a second process: {probe.processes_message}")
        promises = find_engine(probe.engine).promises
        together: dict[tuple[str, str], list[str]] = {}
        for mode, promise in promises.items():
            together.setdefault((promise.level, promise.source), []).append(mode)
        for (level, source), modes in together.items():
            lines.append(f"  promises {level} for {', '.join(modes)} ({source})")
        for breach in known_breaches(identity):
            lines.append(f"  known to break the contract ({breach.check}): {breach.sentence}")
    return lines
