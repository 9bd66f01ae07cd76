"""One run on one screen: what `cwkit run` prints at its end and `cwkit show RUN` prints again."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analysis.cli.terminal import Terminal, one_line
from analysis.counting import (
    DOUBTFUL,
    FOREIGN_LIMIT,
    SHOWN,
    Count,
    Measured,
    Tally,
    Waits,
    cache_clause,
    cold_start_lines,
    connection_clause,
    count,
    joined,
    latency_intervals,
    latency_stages,
    network_clause,
    opens_table,
    pragma_clauses,
    pressure_clause,
    refusal_lines,
    refusals_table,
    stages_table,
    standstill_clause,
)
from analysis.models import MOST_DRAWN, conflict_parts
from analysis.statistics import COUNTED, COVERED, PERCENTILES, STEADY, UNSTEADY
from analysis.wording import Table as Data
from analysis.wording import (
    at_least,
    begin_label,
    duration,
    interval,
    number,
    percent,
    times,
    whole,
)
from workloads.files import visible
from workloads.processes import all_of, path_of
from workloads.records import FaultEntry, FindingEntry, RecordedPlan, Run, ServerEntry
from workloads.runs import ALL_KILLED, KILLED, Trouble, fault_sentence, is_going_on, troubles
from workloads.scenarios import named

SMALL = 0.001
"""Share of the time in attempts below which it is not shown."""

ARMS_SHOWN = 30
"""Lines of refusals of an experiment, all its arms together."""

ERROR_LINES_SHOWN = 60
"""Lines of one process's standard error that are shown."""

EXPECTED_ENDS = ("duration", "transactions", "running", "check killed", "not checked", ALL_KILLED)
"""How runs end that ended as was asked, or whose end is told elsewhere."""

WORKERS_SHOWN = 16
"""A table of 256 workers hides the rest of the screen; beyond this the best and worst are shown."""


def summary(run: Run, foreign_limit: float = FOREIGN_LIMIT) -> RenderableType:
    """Everything about one run, as tables for a terminal. Never fails, however odd the run.

    foreign_limit : share of the machine's CPU time that others may use before it is doubtful.
    """
    counted, doubtful = count(run), _contaminated(run, foreign_limit)
    parts: list[RenderableType] = [*_troubles(run)]
    parts += [one_line(line) for line in _heading(run, counted)]
    parts += [one_line(f"  {line}", style="bold yellow") for line in unfinished(run)]
    if lines := cold_start_lines(run)[0]:
        parts += [one_line(f"  cold start: {lines[0]}"), *(one_line(f"    {x}") for x in lines[1:])]
    parts += [one_line(f"  {DOUBTFUL} {line}", style="bold yellow") for line in doubtful]
    mark = f" {DOUBTFUL}" if doubtful else ""
    for role in ("writer", "reader"):
        if role in counted.roles:
            parts += ["", one_line(_role_line(counted, role, mark), style="bold")]
            parts += _role_tables(run, counted, role) + _connecting(run, counted, role)
            parts += _noted(stages_table(run) if role == "writer" else None)
            for mode in counted.modes(role):
                parts += ["", one_line(_role_line(counted, mode, mark), style="bold")]
                parts += _role_tables(run, counted, mode)
    if "checkpointer" in counted.roles:
        parts += ["", one_line(_checkpoint_line(counted.roles["checkpointer"], run), style="bold")]
    if line := wal_line(run, counted):
        parts += ["", one_line(line)]
    parts += conflicts(run)
    if run.manifest.faults:
        parts += ["", *(one_line(fault_line(entry)) for entry in run.manifest.faults)]
    parts += ["", *(_finding(f) for f in run.manifest.findings)]
    said = doubts(run, counted, foreign_limit)[len(doubtful) :]  # those stand above the numbers
    parts += [one_line(line, style="yellow") for line in said]
    parts += _error_output(run)
    return Group(*parts)


def fault_line(entry: FaultEntry) -> str:
    """What a fault did, and how long others waited then."""
    block = entry.longest_block_ns
    after = f"; the others committed again within {duration(block)}" if block is not None else ""
    return f"{fault_sentence(entry)}{after}."


def _connecting(run: Run, counted: Count, role: str) -> list[RenderableType]:
    """What connecting cost, where the workers do not keep their connections."""
    return _noted(opens_table(run, role, counted.window_ns))


def _noted(table: Data | None) -> list[RenderableType]:
    """A table below a role's others, with its note; [] for none."""
    if table is None:
        return []
    parts = (plain_table(table), one_line(table.note))
    return [Padding(part, (1, 0, 0, 2), expand=False) for part in parts]


def _troubles(run: Run) -> list[RenderableType]:
    """First of all: why the numbers below are not those of the plan."""
    return [one_line(f"NOT WELL  {each.sentence}", style="bold red") for each in troubles_of(run)]


def troubles_of(run: Run) -> list[Trouble]:
    """A run's troubles, from its manifest; those of an older run from its rows."""
    recorded = run.manifest.troubles
    if recorded is None:
        return troubles(run.workers)
    return [Trouble(one.kind, one.sentence, one.attempts) for one in recorded]


def _error_output(run: Run) -> list[RenderableType]:
    """Standard error of the processes of a run that is not well."""
    parts: list[RenderableType] = []
    if run.manifest.ok:
        return parts
    for who, text in all_of(run.folder, len(run.workers)):
        shown = text.splitlines()
        left = len(shown) - ERROR_LINES_SHOWN
        parts += ["", one_line(f"{who} wrote to its standard error:", style="bold")]
        for line in shown[:ERROR_LINES_SHOWN]:
            parts.append(one_line(f"  | {visible(line)}"))
        if left > 0:
            where = path_of(run.folder, who)
            parts.append(one_line(f"  … {times(left, 'more line')} in {where}"))
    return parts


def refusals(run: Run) -> list[RenderableType]:
    """The refusals of a run's attempts, all roles together; [] for a run without any."""
    found = [
        {(role, *kind): waits for kind, waits in tally.waits_ns.items()}
        for role, tally in count(run).roles.items()
    ]
    return _refusals(joined(found), ("role",))


def arms_refusals(measured: Measured) -> list[RenderableType]:
    """The same for an experiment, arm by arm, usable blocks together."""
    found = []
    for arm in measured.arms.values():
        for role in ("writer", "reader"):
            tally = arm.tally(role)
            waits = tally.waits_ns if tally is not None else {}
            found.append({(arm.name, role, *kind): each for kind, each in waits.items()})
    return _refusals(joined(found), ("arm", "role"), ARMS_SHOWN)


def wal_line(run: Run, counted: Count) -> str:
    """How large the log grew and how often it began again; "" of older runs without one."""
    if counted.wal is not None:
        return f"log (WAL): {counted.wal.sentence()}."
    if not run.manifest.has("wal"):
        return ""
    return "log (WAL): not applicable, no log of SQLite's format was there."


def conflicts(run: Run, most: int = MOST_DRAWN) -> list[RenderableType]:
    """The pages and rows that the refused transactions met; [] for a run without any."""
    parts: list[RenderableType] = []
    for part in conflict_parts(run, most):
        shown = one_line(part) if isinstance(part, str) else plain_table(part)
        parts.append(Padding(shown, (1, 0, 0, 2), expand=False))
    return parts


def summary_lines(run: Run, width: int = 100, foreign_limit: float = FOREIGN_LIMIT) -> list[str]:
    """`summary` as plain lines."""
    console = Terminal(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(summary(run, foreign_limit))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def unfinished(run: Run) -> list[str]:
    """Why a run is not over, or that another process than its own finished it; else []."""
    manifest, left = run.manifest, run.manifest.under_way
    stage = left.stage if left is not None else "measuring"
    if left is None and manifest.ended != "running":
        sentence = (
            f"Its process was killed while {manifest.recovered}, and it was recovered: counted is "
            "what was recorded while all its workers were seen alive."
        )
        return [sentence] if manifest.recovered else []
    if is_going_on(run.folder, manifest):
        return [f"Still running ({stage}): these are the numbers of now."]
    if left is not None and manifest.database_kept:
        sentence = (
            f"Its database could not be moved into its folder ({manifest.database_kept}) and is "
            f"still in {left.home}. Free some space."
        )
    else:
        sentence = f"INTERRUPTED: its process was killed while {stage}, and nothing is checked yet."
    return [f"{sentence} Finish it with: cwkit recover {run.folder}"]


def _contaminated(run: Run, foreign_limit: float) -> list[str]:
    """Why all numbers of a run are doubtful: who else used the machine while it was measured."""
    lines, foreign = [], run.manifest.foreign
    for share, what in (
        (foreign.cpu_share, "other programs used"),
        (foreign.steal_share, "the host took"),
    ):
        if share > foreign_limit:
            lines.append(
                f"Doubtful (contaminated): {what} {percent(share)} of the machine's CPU time while "
                f"it was measured (limit {percent(foreign_limit)})."
            )
    return lines


def doubts(run: Run, counted: Count, foreign_limit: float = FOREIGN_LIMIT) -> list[str]:
    """Doubts about the numbers of a run, shown before anybody quotes them; who contaminated it is
    first.
    """
    lines = _contaminated(run, foreign_limit)
    if (network := run.manifest.network) is not None and network.failed:
        lines.append(network.failed)
    if lost := sum(entry.reconnects for entry in run.manifest.workers):
        lines.append(f"{times(lost, 'connection')} to the server had to be made anew.")
    loops = [entry.loop for entry in run.manifest.workers if entry.loop]
    if other := sum(loop != run.manifest.plan.loop for loop in loops):
        lines.append(
            f"{other} of {times(len(loops), 'worker')} had the hot loop in Python, and not, as "
            "planned, the quicker one in C: its build does not load. Run: make clean setup"
        )
    if counted.steady is not None and counted.steady.state == UNSTEADY:
        lines.append(
            "No steady state: the rate still changed in the second half of the run (MSER-5), or "
            "rises or falls all along it. Measure for longer."
        )
    lines += cold_start_lines(run)[1]
    lines += [
        f"The fault {one.rule} never fired: {times(one.matched, 'call')} matched it. Nothing was "
        "tested. Choose another call, file or number."
        for one in run.manifest.faults
        if not one.fired
    ]
    lines += [f"{said}." for said, well in pragma_clauses(run.manifest) if not well]
    if found := cache_clause(run.manifest):
        lines.append(f"It {found}.")
    if found := standstill_clause(counted):
        lines.append(f"It {found}; {pressure_clause(run.manifest)}.")
    for role, tally in counted.roles.items():
        if not tally.finished and tally.unfinished:
            lines.append(
                f"No attempt of a {role} ended in the measured window: {tally.unfinished} were "
                f"open when it closed, the oldest for {duration(tally.oldest_ns)}."
            )
    for role, why in counted.undrawn.items():
        done = times(counted.roles[role].committed, "commit")
        lines.append(f"The latencies of {role}s are those of {done} alone, not of all due: {why}")
    if counted.seconds < 0.5:
        lines.append(f"Short: only {counted.seconds:.2g} s were measured.")
    ended = run.manifest.ended
    if run.manifest.unchecked and not run.manifest.unmade:  # an older manifest's
        lines.append(f"The database was not checked: {run.manifest.unchecked}")
    if ended not in EXPECTED_ENDS:
        lines.append(f"The run ended early: {ended}.")
    for w in run.workers:
        if w.entry.state not in ("finished", "running", KILLED):
            account = w.entry.account or "no account was left"
            lines.append(f"{w.role.capitalize()} {w.number} {w.entry.state}: {account}")
    for role, tally in counted.roles.items():
        if tally.unknown:
            lines.append(
                f"{times(tally.unknown, f'{role} attempt')} ended without anybody knowing "
                "how (`unknown`)."
            )
    return lines


def _heading(run: Run, counted: Count) -> list[str]:
    plan = run.manifest.plan
    params = {**run.manifest.scenario.params, **plan.params}
    unset: tuple[Any, ...] = ("", None, [], ())
    settings = ", ".join(f"{n} {named(value)}" for n, value in params.items() if value not in unset)
    loop = f"open loop, {number(plan.rate)} a second" if plan.rate else "closed loop"
    loop += f" in the mean of its stages {plan.stages}" if plan.stages else ""
    title = f"Run {run.name}: {plan.scenario} on {plan.database}, seed {run.manifest.seed}"
    measured = (
        f"  measured {counted.seconds:.3g} s after {_warm_up(counted, plan)}, {loop}, "
        f"retry {plan.retry.policy}, synchronous {plan.synchronous}"
    )
    network = f"  network: {said}" if (said := network_clause(run.manifest)) else ""
    served = _served(run.manifest.server)
    connected = f"  {said}" if (said := connection_clause(run)) else ""
    held = f"readers keep their snapshot for {duration(plan.reader_holds_s * 1e9)}"
    pragmas = (f"  {said}" for said, well in pragma_clauses(run.manifest) if well)
    return [
        title,
        *filter(
            None,
            (
                f"  {settings}" if settings else "",
                measured,
                connected,
                f"  {held}, and read in it again and again" if plan.reader_holds_s else "",
                *pragmas,
                served,
                network,
            ),
        ),
    ]


def _served(server: ServerEntry | None) -> str:
    if server is None:
        return ""
    return (
        f"  a server that somebody else runs: {server.where}, version {server.server_version}, "
        f"fsync {server.fsync}, synchronous_commit {server.synchronous_commit}, full_page_writes "
        f"{server.full_page_writes} (as it has them, whatever was asked)"
    )


def _warm_up(counted: Count, plan: RecordedPlan) -> str:
    """The warm-up's length, and what decided it where it was not the plan alone."""
    planned = f"{plan.warmup_s:g} s of warm-up"
    found = counted.steady
    if found is None or found.state == COUNTED:
        return planned
    if found.cut:
        return f"{found.warmup_s:.3g} s of warm-up (MSER-5; {planned.partition(' of')[0]} planned)"
    return planned if found.state == STEADY else f"{planned} ({found.state})"


def _role_line(counted: Count, role: str, mark: str = "") -> str:
    tally = counted.roles[role]
    name, _, mode = role.partition(":")
    each = Counter(worker.begin for worker in counted.of(role))
    begun = ",".join(f"{many}:{one}" for one, many in each.items()) if len(each) > 1 else min(each)
    of_them = f"of these {tally.workers} by" if mode else f"{times(tally.workers, name)},"
    low, rate, high = tally.abort_rate
    line = (
        f"{of_them} {counted.of(role)[0].engine} {begin_label(begun)}: "
        f"{number(tally.per_s)} tx/s committed{mark}, abort rate {percent(rate)}"
    )
    if tally.finished:
        line += f" {interval(low, high, percent)} (from batches of this run's time)"
        line += f", of first tries {percent(tally.first_refused())}"
    return line


def _role_tables(run: Run, counted: Count, role: str) -> list[RenderableType]:
    tally = counted.roles[role]
    parts: list[RenderableType] = [
        Padding(one_line(line), (0, 0, 0, 2))
        for line in (
            rate_line(tally),
            attempts_line(tally),
            effort_line(tally),
            fairness_line(counted, role),
        )
        if line
    ]
    tables = [
        *_refusals(tally.waits_ns),
        _latency(tally, latency_stages(run, counted, role)),
        _intervals(tally),
        _workers(counted, role),
    ]
    return parts + [
        Padding(part, (0 if isinstance(part, Text) else 1, 0, 0, 2))
        for part in tables
        if part is not None
    ]


def rate_line(tally: Tally) -> str:
    """How far the rate of an open loop was missed, and what became of those due; "" if met."""
    due = tally.due
    if due is None or due.met:
        return ""
    under_way = due.begun - due.served - due.given_up - due.unknown
    unknown = f"{whole(due.unknown)} unknown, " if due.unknown else ""
    unbegun = whole(due.many - due.begun)
    oldest = f", the oldest for {duration(due.oldest_ns)}" if due.oldest_ns else ""
    many, earlier = times(due.many, "transaction"), tally.committed - due.served
    before = f" ({whole(earlier)} of the commits were due before it.)" if earlier else ""
    return (
        f"Rate not met: {number(due.asked_per_s)} a second were due, "
        f"{number(tally.per_s)} a second committed. In the window {many} "
        f"were due and {whole(due.served)} served ({percent(due.share)}); of the others "
        f"{whole(due.given_up)} failed or given up, {unknown}{whole(under_way)} under "
        f"way, {unbegun} never begun{oldest}.{before} `whole` is over all of those due."
    )


def attempts_line(tally: Tally) -> str:
    """The equation of attempts, with its numbers: every attempt is in exactly one term."""
    kinds = [f"{whole(n)} {kind} at {phase}" for kind, phase, n in tally.conflict_table()]
    conflicts = times(tally.conflicted, "conflict") + (f" ({', '.join(kinds)})" if kinds else "")
    return (
        f"{times(tally.attempts, 'attempt')} = {whole(tally.committed)} committed "
        f"+ {conflicts} + {whole(tally.failed)} failed + {whole(tally.unknown)} "
        f"unknown; {times(tally.given_up, 'transaction')} given up"
    )


def effort_line(tally: Tally) -> str:
    tries = ", ".join(f"{whole(n)} at try {k}" for k, n in enumerate(tally.tries[:5]) if n and k)
    more = int(tally.tries[5:].sum())
    if more:
        tries += f", {whole(more)} later (up to try {len(tally.tries) - 1})"
    return (
        f"wasted {percent(tally.wasted)} of the time in attempts{open_share(tally)}; "
        f"CPU {number(tally.cpu_us)} µs a transaction{_of_server(tally)}; "
        f"committed {tries or 'none'}"
    )


def _of_server(tally: Tally) -> str:
    return f", {number(tally.server_us)} of them the server's" if tally.server_s else ""


def open_share(tally: Tally) -> str:
    """How much of that time lay in attempts still open when the window closed; "" for hardly any.

    Each worker has at most one, so it is too little to show in a long window of short attempts.
    """
    text = ""
    if (share := tally.of_attempts(tally.open_ns)) >= SMALL:
        text += f", of which still open at the end {percent(share)}"
    if (share := tally.of_attempts(tally.waiting_ns)) >= SMALL:
        text += f"; waiting in BEGIN at the end {percent(share)}"
    return text


def fairness_line(counted: Count, role: str) -> str:
    """How evenly the workers of a role were served; "" where there is only one."""
    tally = counted.roles[role]
    if tally.workers < 2:
        return ""
    return (
        f"fairness: Jain's index {number(tally.fairness)} (1: all alike, "
        f"{number(1 / tally.workers)}: one has everything), worst share "
        f"{percent(tally.worst_share)} (even: {percent(1 / tally.workers)}), worst p99 "
        f"{at_least(*counted.worst_p99(role))}, longest {duration(tally.longest_ns)}"
    )


def _refusals(
    found: Waits, whose: tuple[str, ...] = (), shown: int = SHOWN
) -> list[RenderableType]:
    """Refusals with the time waited, and the meaning of their kinds."""
    if not found:
        return []
    data = refusals_table(found, whose, shown)
    lines = [data.note] * bool(data.note) + refusal_lines(found)
    return [plain_table(data, 1 + len(whose)), *map(one_line, lines)]


def _latency(tally: Tally, each: Mapping[str, np.ndarray]) -> Table:
    """Each : as of `latency_stages`."""
    table = _table("latency", *PERCENTILES)
    for stage in each:
        if stage == "queueing" and not tally.most_ns[stage]:
            continue  # a closed loop has no queue
        values = tally.whole() if stage == "whole" else np.stack([each[stage]] * 2, axis=-1)
        table.add_row(stage, *(at_least(*pair) for pair in values.tolist()))
    return table


def _intervals(tally: Tally) -> Text | None:
    """The intervals of p50 and p99 of whole transactions; None with too few of them."""
    found = dict(zip(PERCENTILES, latency_intervals(tally), strict=True))
    parts = [
        f"{name} {interval(low, high, duration)}"
        for name in ("p50", "p99")
        if np.isfinite(found[name][1])
        and not np.isnan((low := found[name][0]) + (high := found[name][2]))
    ]
    if not parts:
        return None
    low, high = map(percent, COVERED)
    return one_line(
        f"whole, 95 % within this run: {', '.join(parts)} (such intervals held the truth in {low} "
        f"to {high} of simulations; what changes from run to run is not in them)"
    )


def _workers(counted: Count, role: str) -> Table | None:
    tally, each = counted.roles[role], counted.of(role)
    if len(each) < 2:
        return None
    table = _table(
        role.partition(":")[0], "tx/s", "share", "abort rate", "p99 whole", "longest", "CPU µs a tx"
    )
    shown = list(each)
    if len(each) > WORKERS_SHOWN:
        ranked = sorted(each, key=lambda w: (-w.tally.committed, w.number))
        shown = ranked[: WORKERS_SHOWN // 2] + ranked[-WORKERS_SHOWN // 2 :]
    for w in shown:
        share = w.tally.committed / tally.committed if tally.committed else float("nan")
        table.add_row(
            str(w.number) + ("" if w.state == "finished" else f" ({w.state})"),
            number(w.tally.per_s),
            percent(share),
            percent(w.tally.abort_rate[1]),
            at_least(*w.tally.whole()[2].tolist()),
            duration(w.tally.longest_ns),
            number(w.tally.cpu_us),
        )
    return table


def _checkpoint_line(tally: Tally, run: Run) -> str:
    entries = [worker.entry for worker in run.role("checkpointer")]
    idle = sum(entry.idle_checkpoints for entry in entries)
    locked = sum(entry.busy_checkpoints for entry in entries)
    moved, failed = times(tally.committed, "checkpoint"), whole(tally.failed)
    return (
        f"{times(tally.workers, 'checkpointer')}: {moved} that moved frames; "
        f"{whole(idle)} found nothing to do, {whole(locked)} another one at work, "
        f"{failed} failed"
    )


def _finding(finding: FindingEntry) -> Text:
    mark, style = ("ok      ", "green") if finding.ok else ("BROKEN  ", "bold red")
    if not finding.checked:
        mark, style = "UNKNOWN ", "bold yellow"
    text = one_line(mark, style=style)
    text.append(visible(f"{finding.check}: {finding.sentence}"), style="default")
    return text


def plain_table(data: Data, left: int = 1) -> Table:
    """A table of words for the terminal; the first `left` columns and all of words are flush left.

    Its note is not in it.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for index, column in enumerate(data.head):
        cells = [row[index] for row in data.rows]
        worded = any(cell[:1].isalpha() for cell in cells)
        side: Any = "left" if index < left or worded else "right"
        table.add_column(column, justify=side, overflow="fold")
    for row in data.rows:
        table.add_row(*row)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table
