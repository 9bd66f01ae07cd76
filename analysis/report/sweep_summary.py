"""The result of a sweep: its arms sorted best first, its control, its doubts and failures.

This is plain data. The command prints it, and the report shows parts of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from analysis.counting import (
    DOUBTFUL,
    Arm,
    CountedCell,
    Measured,
    Wal,
    mebibytes,
    opening_of,
    opens_connections,
    slump_clause,
    slumps,
    spare_clause,
    throughput,
)
from analysis.statistics import FEWEST_BLOCKS, Estimate
from analysis.wording import (
    DASH,
    Table,
    at_least,
    begin_label,
    duration,
    interval,
    listed,
    number,
    percent,
    times,
)
from workloads.experiments import AGAIN, DONE, FAILED, MISSING, REFUSED, Skipped, shown
from workloads.records import NetworkEntry, parts_of_mix

MOST_ROWS = 30
WORST_ROWS = 10
"""The last rows of a table that has more arms than MOST_ROWS: the worst ones."""

DOUBTFUL_SHOWN = 5
"""Arms with doubtful numbers alone that are named with the reason."""

CELLS_CSV = "cells.csv"
OF_THE_WAL = (
    "read_think_us",
    "reader_holds_s",
    "wal_autocheckpoint",
    "checkpointers",
    "checkpoint",
)
"""Axes that make the size of the WAL worth a column."""


def arms_table(measured: Measured) -> Table:
    """The arms by their throughput, the best first; at most MOST_ROWS of them."""
    role = measured.role
    measure = throughput(role)
    every = [arm.shown for arm in measured.arms.values()]
    made = {arm: arm.estimate(measure) for arm in every}
    known = [arm for arm in every if made[arm].blocks]
    order = sorted(known, key=lambda arm: (arm.measured is not measured, -made[arm].value))
    order += [arm for arm in every if not made[arm].blocks]
    reads = role == "writer" and any(arm.plan["readers"] for arm in order)
    slumped = slumps(measured)
    wal = any(axis in measured.axes for axis in OF_THE_WAL) or bool(_outgrown(measured))
    axes = _factors(measured)
    head = [
        *(axes or ["arm"]),
        "tx/s",
        "between",
        "ratio",
        "between",
        "aborts",
        "first tries",
        "p99",
    ]
    head += ["reads/s"] * reads + ["WAL", "restarts"] * wal
    opened = opens_connections(measured)
    head += ["open p50", "open p99", "ready"] * opened
    between = len(order) - MOST_ROWS + 1 if len(order) > MOST_ROWS else 0
    best = MOST_ROWS - WORST_ROWS - 1 if between else MOST_ROWS
    rows = []
    for place, arm in enumerate(order):
        if between and best <= place < best + between:
            if place == best:
                rows.append((f"… {between} more …", *[""] * (len(head) - 1)))
            continue
        rate, *between_them = _value_and_range(made[arm])
        rate += " †" if any(name == arm.name for _, name in slumped) else ""
        rate += f" {DOUBTFUL}" if made[arm].blocks and arm.measured is not measured else ""
        row = [*_name(arm, axes), rate, *between_them]
        row += [*_ratio(measured.arms[arm.name], role), *_of(arm, role)]
        if reads:
            row.append(_value_and_range(arm.estimate(throughput("reader")))[0])
        if wal:
            row += _wal(arm)
        if opened:
            row += _opening(arm, role)
        rows.append(tuple(row))
        rows += [(*row, *[""] * (len(head) - len(row))) for row in _modes(arm, len(axes) or 1)]
    return Table(tuple(head), rows, _note(measured, role))


def _modes(arm: Arm, names: int) -> list[list[str]]:
    """A row for each mode, where an arm's writers begin in several: they are counted apart."""
    rows = []
    for many, mode in parts_of_mix(arm.begin):
        role = f"writer:{mode}"
        made = arm.estimate(throughput(role))
        name = [f"· {many} {begin_label(mode)}", *[""] * (names - 1)]
        rows.append([*name, *_value_and_range(made), "", "", *_of(arm, role)])
    return rows


def _of(arm: Arm, role: str) -> list[str]:
    """Abort rate of all tries and of first ones, and p99, over blocks."""
    rates = [arm.refused(role, first=only) for only in (False, True)]
    _, p99, _, least = arm.percentiles(role)[2].tolist()
    return [*(percent(rate.value) if rate.blocks else DASH for rate in rates), at_least(p99, least)]


def _factors(measured: Measured) -> list[str]:
    """The axes that have several values; [] if the arms are not the points of a grid."""
    if set(measured.points) != set(measured.arms):
        return []
    return [axis for axis, values in measured.axes.items() if len(values) > 1]


def _name(arm: Arm, axes: Sequence[str]) -> list[str]:
    """An arm as the columns before its numbers: a value for each axis, the twin marked."""
    if not axes:
        return [arm.name]
    first, *others = (shown(arm.point[axis]) for axis in axes)
    twin = arm.name.endswith(AGAIN) and arm.name.removesuffix(AGAIN) in arm.measured.arms
    return [first + AGAIN if twin else first, *others]


def _value_and_range(made: Estimate) -> list[str]:
    """The estimate, and its interval in brackets or the range of too few blocks."""
    if not made.blocks:
        return [DASH, ""]
    if made.known:
        return [number(made.value), interval(made.low, made.high)]
    if made.blocks == 1:
        return [number(made.value), ""]
    low, high = float(made.each.min()), float(made.each.max())
    return [number(made.value), f"{number(low)}–{number(high)}"]


def _ratio(arm: Arm, role: str) -> list[str]:
    """The ratio to the arm's rival; a marked one where only doubtful cells give one."""
    baseline = rival(arm)
    if baseline is None:
        return [DASH, ""]
    for measured, mark in ((arm.measured, ""), (arm.measured.doubtful, f" {DOUBTFUL}")):
        one, other = (measured.arms[each.name] for each in (arm, baseline))
        if measured.not_compared(one, other):
            break
        ratio = measured.ratio(one, other, throughput(role))
        if ratio.blocks:
            value, between = _value_and_range(ratio)
            return [value + mark, between]
    return [DASH, ""]


def rival(arm: Arm) -> Arm | None:
    """The arm that another is compared with, None for none.

    In a sweep with systems it is the same point with the baseline's system; else the baseline.
    """
    baseline = arm.measured.baseline
    if baseline is None or arm is baseline:
        return None
    if "system" not in arm.point or arm.name == baseline.name + AGAIN:
        return baseline
    wanted = {**arm.point, "system": baseline.point["system"]}
    others = arm.measured.arms.values()
    return next((other for other in others if other.point == wanted != arm.point), None)


def _wal(arm: Arm) -> list[str]:
    """How large the log grew and how often it began again, medians of the usable cells."""
    logs = [c.counted.wal for c in arm.usable if c.counted and c.counted.wal]
    if not logs:
        return [DASH, DASH]
    size = mebibytes(float(np.median([log.bytes_max for log in logs])))
    known = [log.restarts for log in logs if log.restarts is not None]
    if not known:
        return [size, DASH]
    least = "" if all(log.exact for log in logs) else "≥ "
    return [size, least + number(float(np.median(known)))]


def _opening(arm: Arm, role: str) -> list[str]:
    """What opening or borrowing a connection took, and when all were ready after a cold start:
    medians over the usable cells.
    """
    each = np.array([opening_of(cell, role)[:3] for cell in arm.usable]).reshape(-1, 3)
    known = [column[~np.isnan(column)] for column in each.T]
    return [duration(float(np.median(us)) * 1e3) if len(us) else DASH for us in known]


def _outgrown(measured: Measured) -> list[tuple[CountedCell, Wal]]:
    """Usable cells whose log outgrew its autocheckpoint tenfold."""
    usable = (cell for _, cell in sorted(measured.cells.items()) if cell.usable and cell.counted)
    logs = ((cell, cell.counted.wal) for cell in usable if cell.counted)
    return [(cell, log) for cell, log in logs if log is not None and log.why]


_OPENED = (
    " open: opening or borrowing a connection; ready: when the last worker of a cold start was."
)


def _note(measured: Measured, role: str) -> str:
    against = f"to the baseline ({measured.baseline or ''})"
    if measured.baseline and "system" in measured.baseline.point:
        against = f"to the same with {measured.baseline.point['system']}"
    blocks = max((block for block, _ in measured.cells), default=-1) + 1
    which = "transactions" if role == "writer" else "readers' transactions"
    return (
        f"tx/s: the {which} of an arm that committed, over {times(blocks, 'block')}. "
        f"ratio: {against}, block by block (both are Hodges-Lehmann estimates). between: the 95 % "
        "interval of the signed-rank test in brackets, "
        f"or from the least to the greatest of fewer than {FEWEST_BLOCKS} blocks (a narrow screen "
        "leaves it out). aborts: refused attempts, and of first tries alone."
        f"{_OPENED if opens_connections(measured) else ''}"
        f"{networks(measured)}"
    )


def networks(measured: Measured) -> str:
    """The round trips of arms with a network, as they were measured; "" where no arm has one."""
    found: dict[str, list[NetworkEntry]] = {}
    for (_, name), cell in sorted(measured.cells.items()):
        if cell.manifest and cell.manifest.network and cell.manifest.network.rtt_ms:
            asked = cell.manifest.plan.network
            found.setdefault(asked if len(asked) < 80 else name, []).append(cell.manifest.network)
    if not found:
        return ""
    told = [
        f"{asked}: asked {each[0].asked_ms:g} ms, measured {min(n.rtt_ms for n in each):.3g} to "
        f"{max(n.rtt_ms for n in each):.3g} ms"
        for asked, each in found.items()
    ]
    return f" Round trips: {'; '.join(told)} (TCP's handshake is not delayed)."


# --- sentences --------------------------------------------------------------------------------


def control_sentence(measured: Measured) -> str:
    """The A/A control in a sentence: the ratio of two arms that ask for the same."""
    twins = [pair for pair in measured.twins if measured.baseline in pair]
    if not twins:
        return "There is no A/A control: nothing says how large a ratio is by chance."
    first, again = twins[0]
    ratio = measured.ratio(again, first, throughput(measured.role))
    if not ratio.blocks:
        return f"The A/A control ({again}) has no block that can be used."
    text = f"A/A control, {again} / {first}: {ratio.text()}"
    if not ratio.known:
        return f"{text}."
    verdict = "no difference" if ratio.holds(1.0) else "a difference, where there can be none"
    return f"{text}, {verdict}: smaller ratios than that are not to be claimed."


def failure_lines(measured: Measured, states: dict[tuple[int, str], str]) -> list[str]:
    """Which cells have no result and why; [] where all have one.

    Reasons that differ only in their numbers share a line, with the reason of the first cell.
    """
    found: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], CountedCell] = {}
    for key, cell in sorted(measured.cells.items()):
        if states.get(key) in (FAILED, REFUSED, MISSING):
            why = (states[key], re.sub(r"[\d,.]+", "0", cell.failure))
            found[why] += 1
            first.setdefault(why, cell)
    lines = []
    for why, count in found.most_common():
        cell = first[why]
        where = f"b{cell.block:02d}, {cell.arm}"
        if count > 1:
            where = f"{times(count, 'cell')}, first {where}"
        lines.append(f"{why[0]}: {where}: {cell.failure}")
    return lines


def doubt_lines(measured: Measured, command: str = "cwkit sweep FILE.toml") -> list[str]:
    """Doubts about the numbers: contaminated cells, rates not met, runs that stood still, logs that
    outgrew their checkpoints, too few CPUs, runs with confounders.

    command : that goes on with the folder, to run contaminated cells again.
    """
    lines = []
    unmet = [cell for cell in measured.cells.values() if cell.state == DONE and cell.unmet]
    if unmet:
        lines.append(
            f"{times(len(unmet), 'cell')} did not meet the rate that was asked for, the "
            f"first b{unmet[0].block:02d}, {unmet[0].arm}: {unmet[0].unmet}. Percentiles are over "
            "all that were due."
        )
    if found := slump_clause(measured):
        lines.append(found)
    if found := spare_clause(measured):
        lines.append(found)
    if outgrown := _outgrown(measured):
        cell, log = outgrown[0]
        lines.append(
            f"In {times(len(outgrown), 'cell')} the log outgrew its autocheckpoint tenfold, "
            f"the first b{cell.block:02d}, {cell.arm}: it {log.sentence()}."
        )
    dirty = [cell for cell in measured.cells.values() if cell.state == DONE and cell.contaminated]
    if dirty:
        lines.append(
            f"{times(len(dirty), 'cell')} contaminated and left out of the medians, the "
            f"first in b{dirty[0].block:02d}, {dirty[0].arm}: {dirty[0].contaminated}. "
            f"`{command} --retry-contaminated` runs them again."
        )
    lines += _doubtful_lines(measured)
    if len(measured.places) > 1:
        most = next(iter(measured.places.values()))
        lines.append(
            f"The cells were made on {len(measured.places)} machines: medians are of the {most} "
            "cells of one of them, ratios of all blocks, for each block is of one machine."
        )
    over = [cell for cell in measured.cells.values() if cell.crowded]
    if over:
        lines.append(
            f"{times(len(over), 'cell')} shared CPUs with another cell (--oversubscribe): "
            "their rates say what was left for them, not what the engine can do, and no ratio is "
            "taken of them."
        )
    alike = (cell for cell in measured.cells.values() if cell.place == measured.home)
    conducts = [cell.manifest.conduct for cell in alike if cell.manifest]
    jobs = sorted({(conduct.jobs, len(conduct.cpus)) for conduct in conducts if conduct.jobs})
    if len(jobs) > 1:
        kinds = [f"{times(n, 'cell')} at a time with {times(c, 'CPU')}" for n, c in jobs]
        lines.append(
            f"The cells ran under different conditions ({listed(kinds)}), so their numbers "
            "are not to be compared."
        )
    pairs = [(arm, other) for arm in measured.arms.values() if (other := rival(arm))]
    confounded = [
        why
        for pair in pairs
        for block in measured.blocks
        if (why := measured.confounder(block, *pair))
    ]
    if confounded:
        lines.append(
            f"{times(len(confounded), 'pair')} of runs give no ratio, for they are not alike, the "
            f"first in {confounded[0]}."
        )
    return lines


def _doubtful_lines(measured: Measured) -> list[str]:
    """Which arms have doubtful numbers alone and why, in a line; [] for none."""
    found = [(arm.name, arm.doubtful) for arm in measured.arms.values() if arm.doubtful]
    if not found:
        return []
    each = [f"{name} ({why})" for name, why in found[:DOUBTFUL_SHOWN]]
    if more := len(found) - DOUBTFUL_SHOWN:
        each += [f"{more} more"] if more > 0 else []
    said = f"{DOUBTFUL} doubtful, and no evidence of anything: no cell of {listed(each)} was "
    return [f"{said}undisturbed. `--foreign-limit SHARE` allows more."]


def skip_lines(skipped: Sequence[Skipped]) -> list[str]:
    """The arms that the rules leave out, a line for each reason."""
    by_why: dict[str, list[str]] = {}
    for one in skipped:
        by_why.setdefault(one.why, []).append(one.arm)
    return [
        f"left out, {times(len(arms), 'arm')} ({arms[0]}{', …' if len(arms) > 1 else ''}): {why}"
        for why, arms in by_why.items()
    ]
