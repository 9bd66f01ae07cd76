"""`cwkit compare`: two runs, two arms or two sweeps against each other, for people and for CI.

With --json it prints one document:

    {"cwkit": 1, "document": "compare",
     "command": "cwkit compare ...",
     "status": 0,                     the exit status: 0, 1 a --fail-if, 3 cannot be decided
     "level": 0.05,
     "comparisons": [{
        "a": ..., "b": ...,           the sides as they were named
        "kind": "arms" | "runs",
        "measure": "throughput" | "abort-rate" | "first-tries" | "p50" | "p90" | "p99" |
                   "fairness" | "cpu",
        "role": "writer" | "reader",
        "blocks": 10,                 pairs of runs that were compared
        "ratio", "low", "high": B / A, the Hodges-Lehmann estimate over blocks, and its interval,
        "p", "p_family": ...,         of "test", alone, and in the family (Westfall and Young)
        "p_holm": ...,                the same as "p_family", by the name it had when it was Holm's
        "smallest": 0.04,             the smallest effect that could have been claimed (1.04)
        "family": 1,                  how many ratios were looked at in this call, all arms and
                                      measures together
        "band": 0.03,                 greatest deviation inside the A/A interval
        "verdict": "claimed" | "no difference seen" | "within the A/A band" | "not significant" |
                   "A/A control differs" | "cannot be decided" | "not comparable",
        "sentence": ...,              the verdict as a sentence
        "under_study": {fact: [a, b]},
        "values": [{"block": 0, "a": ..., "b": ...}],  tx/s, share, ns, ns, us a transaction
        "odd": 1,                     runs that stood still or slumped, and are in the ratio
        "dropped": [...], "notes": [...], "broken": [...],
        "refused": {"a": {"busy": 12}, "b": {...}},    attempts by kind of conflict
        "doubtful": {"reason", "ratio", "blocks", "values"}}],  of runs that others disturbed, where
                                      there are no others; null: none. In no verdict and no gate.
     "gates": [{"condition", "a", "b", "outcome": "passed" | "failed" | "cannot be decided",
                "p_family": ...,      of the ratio against the limit, in the family of all gates
                "p_holm": ...,        the same
                "sentence"}],
     "notes": [...]}

A number that is not known is null; a ratio to nothing is "infinite".
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from analysis import compare, counting, statistics
from analysis.cli import terminal
from analysis.cli.options import RUNS, ForeignLimitOption, JsonOption, RunsOption, command_line
from analysis.wording import number, percent, whole
from workloads import records
from workloads.errors import FolderUnwritable, PlanError
from workloads.files import FORMAT_VERSION, json_text, replace

if TYPE_CHECKING:
    from analysis.compare import Comparison, Gate, Side

ROLES = ("writer", "reader")


def compare_command(
    sides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A B…",
            help="runs, arms (FOLDER:ARM) or sweeps (FOLDER); a sweep alone: against its baseline",
        ),
    ] = None,
    sweep: Annotated[str, typer.Option(help="the folder that A and B are arms of")] = "",
    measure: Annotated[
        str,
        typer.Option(
            help="throughput, abort-rate, first-tries (their abort rate), p50, p90, p99, fairness "
            "(Jain's index) or cpu"
        ),
    ] = "throughput",
    role: Annotated[
        str,
        typer.Option(
            help="writer or reader, or one mode of several: writer:concurrent (default: writer "
            "where there are any)"
        ),
    ] = "",
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="FIELD[,FIELD]: what is under study and may differ: engine-version, commit, a "
            "field of the plan or the scenario, … (default: what two arms of one sweep differ in)"
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help='"throughput < 0.95": status 1 where all of the interval of B / A is below and p '
            "against the limit holds in the family of all gates of the call (each condition with "
            "each arm), or where B failed and A did not; may be repeated"
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="write the gates into this file too, as JUnit XML"),
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="--fail-if already where the point estimate is beyond the limit")
    ] = False,
    as_json: JsonOption = False,
    foreign_limit: ForeignLimitOption = counting.FOREIGN_LIMIT,
    runs: RunsOption = RUNS,
) -> None:
    conditions = [compare.parse_condition(text) for text in fail_if or []]
    if junit is not None and not conditions:
        raise PlanError("--junit: a file of gates needs one. Give --fail-if.")
    _known(measure, compare.MEASURES, "--measure")
    if role:
        _known(role.partition(":")[0], ROLES, "--role")
    names = [f"{sweep}:{name}" if sweep else name for name in sides or []] or [sweep]
    if names == [""]:
        raise PlanError("Compare what? Give two runs, arms (FOLDER:ARM) or sweeps (FOLDER).")
    pairs, notes = compare.pairs_of(names, runs, foreign_limit)
    factors = _factors(vary, pairs)
    measures = dict.fromkeys([measure, *(condition.measure for condition in conditions)])
    each = [compare.compare(a, b, one, role, factors) for one in measures for a, b in pairs]
    family = iter(compare.judged(each))  # all comparisons of one call are one family
    found = {one: [next(family) for _ in pairs] for one in measures}
    shown = found[measure]
    if all(one.refused for one in shown):
        raise counting.NotComparable(shown[0].refused)
    asked = [(condition, one) for condition in conditions for one in found[condition.measure]]
    gates = compare.ask(asked, strict=strict)
    broken = list(dict.fromkeys(each for one in shown for each in one.broken))
    ended = compare.status(gates, broken)
    if not gates and not any(one.decided for one in shown):
        ended = 3
    if junit is not None:
        try:
            replace(junit, compare.junit_text(gates, broken))
        except OSError as error:
            raise FolderUnwritable(f"{junit}: cannot be written ({error.strerror}).") from error
    if as_json:
        print(json_text(_document(found, gates, notes, ended)))
    else:
        _show(shown, gates, notes, terminal.console())
    raise typer.Exit(ended)


def _known(name: str, names: object, option: str) -> None:
    known = list(names)  # type: ignore[call-overload]
    if name not in known:
        raise PlanError(f"{option} {name}: there is no such one. There are: {', '.join(known)}.")


def _factors(vary: list[str] | None, pairs: list[tuple[Side, Side]]) -> frozenset[str] | None:
    """The factors that --vary names, None where the plans of the arms tell them."""
    if vary is None:
        return None
    manifests = (
        cell.manifest for pair in pairs for s in pair for cell in s.cells.values() if cell.manifest
    )
    known = {name for manifest in manifests for name in counting.facts(manifest)}
    names = [name for text in vary for name in text.split(",") if name.strip()]
    return frozenset(counting.factors_named(names, known))


def _document(
    found: dict[str, list[Comparison]], gates: list[Gate], notes: list[str], ended: int
) -> dict[str, object]:
    return {
        "cwkit": FORMAT_VERSION,
        "document": "compare",
        "command": command_line(),
        "status": ended,
        "level": statistics.LEVEL,
        "comparisons": [one.data() for of_one in found.values() for one in of_one],
        "gates": [gate.data() for gate in gates],
        "notes": notes,
    }


# --- for people -------------------------------------------------------------------------------


def _show(found: list[Comparison], gates: list[Gate], notes: list[str], console: Console) -> None:
    def print_line(line: str, style: str = "") -> None:
        console.print(line, style=style or None, soft_wrap=True)

    for line in _factor_lines(found):
        print_line(line)
    if len(found) > 1:
        console.print(_table(found))
    for one in found:
        if len(found) == 1 or one.verdict == compare.NOT_COMPARABLE:
            print_line(one.sentence(), "bold")
        if one.doubtful is not None:
            print_line(one.doubt(), "yellow")
    for line in [*_kinds(found), *_statistics(found), *_shared(found), *notes]:
        print_line(line)
    for gate in gates:
        print_line(gate.sentence, "bold red" if gate.outcome == compare.FAILED else "")


def _factor_lines(found: list[Comparison]) -> list[str]:
    """The factors, a fact with its values each; for many arms the names alone."""
    facts_of = dict.fromkeys(name for one in found for name in one.variables)
    if not facts_of:
        return []
    if len(found) > 1:
        return [f"Under study: {', '.join(facts_of)}."]
    short = counting.short
    parts = [f"{name} {short(a, b)} → {short(b, a)}" for name, (a, b) in found[0].variables.items()]
    return [f"Under study: {', '.join(parts)}."]


def _table(found: list[Comparison]) -> Table:
    one = found[0]
    several = len({each.a for each in found}) > 1
    table = Table(box=None, pad_edge=False)
    heads = ["B", *(["A"] if several else []), f"{one.measure} B / A", "blocks", "p in family"]
    for heading in (*heads, "verdict"):
        table.add_column(heading, overflow="fold", no_wrap=heading.endswith("B / A"))
    if not several:
        table.title, table.title_justify = f"A is {one.a}", "left"
    for each in found:
        table.add_row(
            each.b,
            *([each.a] if several else []),
            _in_short(each),
            f"{each.ratio.blocks}{' †' if each.slumped else ''}",
            number(each.p_family),
            each.verdict,
        )
    return table


def _in_short(found: Comparison) -> str:
    """The ratio with its interval, or with its range where the blocks are too few."""
    if found.doubtful is not None:
        return f"{_in_short(found.doubtful)} {counting.DOUBTFUL}"
    ratio = found.ratio
    if ratio.known or ratio.blocks < 2:
        return number(ratio.value) if ratio.blocks == 1 else ratio.text()
    low, high = float(ratio.each.min()), float(ratio.each.max())
    return f"{number(ratio.value)} ({number(low)} to {number(high)})"


def _statistics(found: list[Comparison]) -> list[str]:
    """The statistics behind the verdicts, once for all of them."""
    arms = [one for one in found if one.kind == "arms" and one.ratio.known]
    if not arms:
        return []
    family = arms[0].family
    text = (
        f"Hodges-Lehmann estimates over blocks; 95 % intervals and p by the {arms[0].test}, p in a "
        f"family of {family} by flipping signs of whole blocks (Westfall and Young)."
    )
    if least := [one.smallest for one in arms if not math.isnan(one.smallest)]:
        text += f" Effects that could have been claimed: from {_least(least)} on."
    bands = {one.band for one in arms if one.band == one.band}
    if bands:
        where = "" if all(one.band == one.band for one in arms) else " where there is a control"
        text += f" A/A band{where}: ±{percent(max(bands))}; smaller effects are not claimed."
    else:
        text += " Without an A/A control: nothing here says how much one arm differs from itself."
    return [text]


def _least(smallest: list[float]) -> str:
    ends = dict.fromkeys(percent(end) for end in (min(smallest), max(smallest)))
    return f"{' to '.join(ends)}{', by comparison' if len(ends) > 1 else ''}"


def _kinds(found: list[Comparison]) -> list[str]:
    """The kinds of refusal behind each abort rate, and the meaning of those kinds."""
    rates = [one for one in found if one.measure == "abort-rate" and one.values]
    sides = {name: kinds for one in rates
             for name, kinds in zip((one.a, one.b), one.kinds, strict=True)}  # fmt: skip
    lines = [
        f"Refused, {name}: "
        + (", ".join(f"{whole(n)} {kind}" for kind, n in kinds.items()) or "none")
        + "."
        for name, kinds in sides.items()
    ]
    present = {kind for kinds in sides.values() for kind in kinds}
    meanings = records.MEANINGS
    return lines + [f"{kind}: {meaning}" for kind, meaning in meanings.items() if kind in present]


def _shared(found: list[Comparison]) -> list[str]:
    """Dropped blocks, notes and broken checks, each once."""
    dropped = list(dict.fromkeys(line for one in found for line in one.ratio.dropped))
    lines = [f"Left out: {line}." for line in dropped[:10]]
    if len(dropped) > 10:
        lines.append(f"Left out: {len(dropped) - 10} more.")
    lines += dict.fromkeys(line for one in found for line in one.notes)
    broken = list(dict.fromkeys(line for one in found for line in one.broken))
    return lines + [f"BROKEN  {line}" for line in broken[:10]]


__all__ = ["compare_command"]
