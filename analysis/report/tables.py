"""The report's tables: each a heading row and rows of text, ready for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from analysis.counting import (
    DOUBTFUL,
    Arm,
    Measure,
    Measured,
    Tally,
    Waits,
    joined,
    mebibytes,
    percentile_text,
    refusal_lines,
    refusals_table,
    slumps,
)
from analysis.report.evidence import Evidence
from analysis.report.facts import CONTROL, MODE_ALONE, Pair
from analysis.report.markdown import Markdown, bold, code, markdown, ours
from analysis.report.sweep_summary import networks
from analysis.wording import (
    DASH,
    Table,
    at_least,
    begin_label,
    duration,
    listed,
    number,
    percent,
    whole,
)
from workloads.engines import MODES, Probe, find_engine
from workloads.records import CONFLICTS


def of_role(role: str, name: str) -> Measure:
    """A number of a role's Tally, by its name."""
    return lambda counted: float(getattr(counted.roles[role], name))


def rates_table(evidence: Evidence, measured: Measured) -> Table:
    """Throughput with its interval, the generator's floor beside it, and what was refused."""
    rows, slumped = [], slumps(measured)
    for arm in measured.arms.values():
        tally = arm.tally(arm.role)
        if tally is None:
            rows.append((arm.name, arm.label, *_doubtful(evidence, arm)))
            continue
        aborts, first = (arm.refused(arm.role, first=only).text(percent) for only in (False, True))
        rows.append(
            (
                arm.name,
                arm.label,
                *(_throughput(arm, role) for role in ("writer", "reader")),
                _floor(evidence, arm),
                "baseline"
                if arm is measured.baseline
                else _against(evidence, arm, measured.baseline),
                aborts,
                first,
                percent(tally.wasted),
                number(tally.cpu_us),
                f"{len(arm.usable)} of {len(arm.cells)}{_marked(slumped, arm)}",
            )
        )
    head = ("arm", "how", "writers' tx/s", "readers' tx/s", "generator alone, tx/s")
    ratio = f"ratio to {measured.baseline}" if measured.baseline else "ratio"
    return Table(
        (
            *head,
            ratio,
            "abort rate [95 %]",
            "of first tries",
            "time wasted",
            "CPU µs a tx",
            "blocks used",
        ),
        rows,
        _smallest(evidence, [measured]),
    )


def _doubtful(evidence: Evidence, arm: Arm) -> tuple[str, ...]:
    """The numbers of an arm without a usable block: those of its contaminated ones, marked."""
    used, shown = f"0 of {len(arm.cells)}", arm.shown
    tally = shown.tally(arm.role)
    if tally is None:
        return (*[DASH] * 8, used)
    found = [
        *(_throughput(shown, role) for role in ("writer", "reader")),
        _floor(evidence, arm),
        DASH,
        *(shown.refused(arm.role, first=only).text(percent) for only in (False, True)),
        percent(tally.wasted),
        number(tally.cpu_us),
    ]
    marked = (text if text == DASH else f"{text} {DOUBTFUL}" for text in found)
    return (*marked, f"{used} ({DOUBTFUL} doubtful, and no evidence: {arm.doubtful})")


def _smallest(evidence: Evidence, experiments: Sequence[Measured]) -> str:
    """What is claimed below a table, and the smallest effects that it could have shown."""
    found = {one.name: evidence.facts.smallest(one) for one in experiments}
    known = {name: clause for name, clause in found.items() if clause}
    if len(experiments) == 1:
        return "".join(f"Bold is claimed; {clause}." for clause in known.values())
    each = Markdown("; ").join(markdown("{}: {}", code(n), clause) for n, clause in known.items())
    return markdown("Claims keep the one rule of the report; {}.", each) if known else ""


def _marked(slumped: Collection[tuple[int, str]], arm: Arm) -> str:
    """How many of an arm's runs stood still or made less than half of what it usually makes."""
    many = sum(name == arm.name for _, name in slumped)
    return f", {many} of them odd (†)" if many else ""


def _throughput(arm: Arm, role: str) -> str:
    if not arm.plan[role + "s"]:
        return DASH
    return arm.estimate(of_role(role, "per_s")).text()


def _floor(evidence: Evidence, arm: Arm) -> str:
    null = evidence.floor(arm)
    return DASH if null is None else number(null.estimate(of_role(null.role, "per_s")).value)


def _against(evidence: Evidence, arm: Arm, baseline: Arm | None) -> str:
    """An arm's ratio to the baseline: bold where a difference is claimed."""
    if baseline is None or arm.engine == "null":
        return DASH
    if arm.measured.not_compared(arm, baseline):
        return "not compared"
    if baseline.role != arm.role:
        return DASH
    ratio = arm.measured.ratio(arm, baseline, of_role(arm.role, "per_s"))
    verdict = evidence.facts.verdict(Pair(arm, baseline))
    if verdict in ("more", "less"):
        return bold("{}", ratio.text())
    return ratio.text() + (", no difference is claimed" if verdict == "none" else "")


def latency_table(measured: Measured) -> Table:
    """All workers together, percentiles of whole transactions over blocks, and the worst worker."""
    rows = []
    for arm in measured.arms.values():
        for role in ("writer", "reader"):
            tally = arm.tally(role)
            if tally is None:
                continue
            each = tally.latency()
            spans = arm.percentiles(role)
            worst = [cell.counted.worst_p99(role) for cell in arm.usable if cell.counted]
            known = [pair for pair in worst if not np.isnan(pair[0])]
            rows.append(
                (
                    arm.name,
                    role,
                    *(percentile_text(span) for span in spans),
                    duration(tally.longest_ns),
                    at_least(*max(known)) if known else DASH,
                    *(duration(each[s][2]) for s in ("queueing", "begin", "work", "commit")),
                    duration(each["service"][0]),
                    duration(each["service"][2]),
                )
            )
    return Table(
        ("arm", "role", "p50", "p90", "p99", "p99.9", "max", "longest wait", "worst worker's p99",
         "p99 queueing", "p99 begin", "p99 work", "p99 commit", "service p50", "service p99"),
        rows,
    )  # fmt: skip


def fairness_table(measured: Measured) -> Table:
    """Each worker's throughput in the middle block of each arm, and the index over all blocks."""
    rows = []
    for arm in measured.arms.values():
        role = arm.role
        cells = [cell for cell in arm.usable if cell.counted]
        if not cells or cells[0].counted is None or len(cells[0].counted.of(role)) < 2:
            continue
        middle = cells[len(cells) // 2].counted
        assert middle is not None
        rows.append(
            (
                arm.name,
                arm.estimate(of_role(role, "fairness")).text(),
                percent(arm.estimate(of_role(role, "worst_share")).value),
                percent(1 / len(middle.of(role))),
                " / ".join(number(w.tally.per_s) for w in middle.of(role)),
            )
        )
    head = ("arm", "Jain's index", "worst worker's share", "even share")
    return Table((*head, "tx/s of each worker, in one block"), rows)


def attempts_table(measured: Measured) -> Table:
    """Attempts = commits + each kind of conflict + failed + unknown; usable blocks together. Where
    an arm ran in an open loop, also how many transactions were due, and how many of them served.
    """
    rows = []
    tallies = (arm.tally(role) for arm in measured.arms.values() for role in ("writer", "reader"))
    asked = any(tally is not None and tally.due is not None for tally in tallies)
    for arm in measured.arms.values():
        for role in ("writer", "reader"):
            tally = arm.tally(role)
            if tally is None:
                continue
            kinds = [whole(n) for n in tally.conflicts.sum(axis=1)[1:]]
            parts = [tally.attempts, tally.committed]
            rest = [tally.failed, tally.unknown, tally.given_up, tally.unfinished]
            due = _due(tally) if asked else []
            rows.append(
                (arm.name, role, *map(whole, parts), *kinds, *map(whole, rest), *due, _tries(tally))
            )
    head = ("arm", "role", "attempts =", "committed")
    tail = ["+ failed", "+ unknown", "given up (tx)", "unfinished (tx)"]
    tail += ["due (tx)", "served in time (tx)"] * asked
    kinds = [f"+ {kind}" for kind in CONFLICTS[1:]]
    return Table((*head, *kinds, *tail, "tries until success"), rows)


def _due(tally: Tally) -> list[str]:
    """How many transactions were due, and how many of them were served in the window."""
    if tally.due is None:
        return [DASH, DASH]
    return [whole(tally.due.many), f"{whole(tally.due.served)} ({percent(tally.due.share)})"]


def effort_table(measured: Measured) -> Table:
    """Where the workers' time went; usable blocks together. Each row adds up to all of it."""
    rows = []
    for arm in measured.arms.values():
        for role in ("writer", "reader"):
            tally = arm.tally(role)
            if tally is None or not tally.worker_ns:
                continue
            parts = (
                tally.committed_ns,
                tally.wasted_ns - tally.open_ns,
                tally.open_ns,
                tally.waiting_ns,
                tally.outside_ns,
            )
            shares = [percent(part / tally.worker_ns) for part in parts]
            rows.append((arm.name, role, f"{number(tally.worker_ns / 1e9)} s", *shares))
    return Table(
        ("arm", "role", "workers' time =", "attempts that committed", "+ wasted: refused or failed",
         "+ wasted: still open at the end", "+ waiting in BEGIN at the end", "+ between attempts"),
        rows,
    )  # fmt: skip


def _tries(tally: Tally) -> str:
    parts = [f"{k}: {whole(n)}" for k, n in enumerate(tally.tries[:4]) if k and n]
    if more := int(tally.tries[4:].sum()):
        parts.append(f"more: {whole(more)} (up to {len(tally.tries) - 1})")
    return ", ".join(parts) or DASH


def wal_table(measured: Measured) -> Table:
    """The write-ahead log of each arm's usable runs, where there is one."""
    rows = []
    for arm in measured.arms.values():
        logs = [c.counted.wal for c in arm.usable if c.counted and c.counted.wal]
        if not logs:
            continue
        sizes = [log.bytes_max for log in logs]
        known = [log.restarts for log in logs if log.restarts is not None]
        outgrown = [log.why for log in logs if log.why]
        least = "" if all(log.exact for log in logs) else "≥ "
        rows.append(
            (
                arm.name,
                mebibytes(float(np.median(sizes))),
                mebibytes(max(sizes)),
                f"{number(max(log.times for log in logs))} ×",
                f"{least}{number(float(np.median(known)))}" if known else DASH,
                f"{len(outgrown)} of {len(logs)}: {outgrown[0]}" if outgrown else "",
            )
        )
    return Table(
        ("arm", "grew to, median", "at most", "its autocheckpoint", "began again, median a run",
         "runs where it outgrew that tenfold, and why in the first"),
        rows,
    )  # fmt: skip


def work_table(evidence: Evidence) -> Table:
    """BEGIN CONCURRENT against both kinds of BEGIN IMMEDIATE, by the work in the transaction."""
    verdicts = {
        "less": "loses",
        "more": "wins",
        "none": "no difference is claimed",
        "unknown": "too few blocks to say",
    }
    rows = []
    shown: dict[Measured, None] = {}
    for baseline, name in (
        (MODE_ALONE, "the same library's BEGIN IMMEDIATE (the mode alone)"),
        (CONTROL, "libsql BEGIN IMMEDIATE (library and binding differ too)"),
    ):
        for work, pair, ratio in evidence.facts.work_rows(baseline=baseline):
            shown[pair.measured] = None
            rows.append(
                (
                    f"{number(work)} µs",
                    name,
                    pair.baseline.estimate().text(),
                    pair.candidate.estimate().text(),
                    ratio.text(),
                    verdicts[evidence.facts.verdict(pair)],
                    code(pair.measured.name),
                )
            )
    return Table(
        ("work inside", "against", "its tx/s", "BEGIN CONCURRENT, tx/s", "ratio",
         "BEGIN CONCURRENT", "experiment"),
        rows,
        _smallest(evidence, list(shown)),
    )  # fmt: skip


def all_refusals_table(evidence: Evidence) -> Table:
    """Every refusal in the runs, with the engine's own message."""
    return refusals_table(_refusals(evidence), ("engine", "begun with"), shown=30)


def refusal_kinds(evidence: Evidence) -> list[str]:
    """The meaning of that table's kinds and times."""
    return refusal_lines(_refusals(evidence))


def _refusals(evidence: Evidence) -> Waits:
    parts = []
    for _, cell in evidence.cells():
        for worker in cell.counted.workers if cell.counted else ():
            how = begin_label(worker.begin) if worker.begin else worker.role
            found = worker.tally.waits_ns.items()
            parts.append({(worker.engine, how, *kind): waits for kind, waits in found})
    return joined(parts)


def engines_table(evidence: Evidence) -> Table:
    """Each engine's answers to the probe; a refusal in its own message."""
    rows = []
    modes = list(dict.fromkeys([*MODES, *(m for p in evidence.probes.values() for m in p.modes)]))
    for probe in evidence.probes.values():
        if probe.missing or probe.identity is None:
            rows.append((probe.engine, f"not here: {probe.missing}", *[DASH] * (len(modes) + 1)))
            continue
        several = {True: "several", False: "one", None: "not asked"}[probe.several_processes]
        message = f": “{probe.processes_message}”" if probe.processes_message else ""
        rows.append(
            (
                probe.engine,
                f"{probe.identity.binding} ({probe.identity.version})",
                several + message,
                *(_mode(probe, mode) for mode in modes),
            )
        )
    return Table(("engine", "binding (library)", "processes", *map(begin_label, modes)), rows)


def _mode(probe: Probe, mode: str) -> str:
    answer = probe.modes.get(mode)
    if answer is None:
        return "not asked"
    if not answer.accepted:
        return f"refused: “{answer.message}”"
    how = {True: ", writers overlap", False: ", one writer", None: ""}[answer.overlaps]
    upgrade = f"; a write after a read is {answer.upgrade}" if answer.upgrade else ""
    return f"accepted{how}{upgrade}"


def promises_table(evidence: Evidence) -> Table:
    """The isolation that each engine's makers promise; not what was measured."""
    rows = []
    for probe in evidence.probes.values():
        try:
            promises = find_engine(probe.engine).promises
        except (ValueError, RuntimeError, ImportError):
            continue  # an engine of the runs that this checkout does not have any more
        together: dict[tuple[str, str], list[str]] = {}
        for mode, promise in promises.items():
            together.setdefault((promise.level, promise.source), []).append(begin_label(mode))
        rows += [
            (probe.engine, listed(modes), level, ours(source))
            for (level, source), modes in together.items()
        ]
    return Table(("engine", "mode", "promised isolation", "source of the promise"), rows)


def checks_table(evidence: Evidence) -> Table:
    """Which invariants were checked after the runs, how often they held, and where they did not."""
    held: dict[tuple[str, str], Counter[str]] = {}
    total: dict[tuple[str, str], Counter[str]] = {}
    broken: dict[tuple[str, str], str] = {}
    for arm, cell in evidence.cells():
        key = (arm.measured.name, arm.label)
        for finding in cell.manifest.findings if cell.manifest else ():
            check, ok = finding.check, finding.ok
            held.setdefault(key, Counter())[check] += ok
            total.setdefault(key, Counter())[check] += 1
            if not ok:
                broken.setdefault(
                    key, markdown("{}, {}: {}", code(cell.run), check, finding.sentence)
                )
    rows = []
    for key, checks in total.items():
        counts = ", ".join(f"{check} {held[key][check]} of {n}" for check, n in checks.items())
        rows.append((*key, counts, broken.get(key, "")))
    return Table(("experiment", "arm", "checks that held", "where one did not"), rows)


def pragmas_table(evidence: Evidence) -> Table:
    """The pragmas that every connection read back after it had set them."""
    seen: Counter[tuple[str, str]] = Counter()
    for _, cell in evidence.cells():
        for entry in cell.manifest.workers if cell.manifest else ():
            if entry.pragmas:
                pairs = ", ".join(f"{k} {v}" for k, v in sorted(entry.pragmas.items()))
                seen[entry.engine, pairs] += 1
    rows = [(engine, pairs, whole(n)) for (engine, pairs), n in sorted(seen.items())]
    return Table(("engine", "read back", "connections"), rows)


def arms_table(measured: Measured) -> Table:
    """The fields of their plans in which the arms differ."""
    arms = measured.arms.values()
    keys = [k for arm in arms for k in (*arm.plan, *arm.plan["params"]) if k not in HIDDEN]
    differing = [
        key for key in dict.fromkeys(keys) if len({str(arm.field(key)) for arm in arms}) > 1
    ]
    rows = [(arm.name, *(str(arm.field(key)) for key in differing)) for arm in arms]
    rows = rows if differing else []
    return Table(("arm", *differing), rows, networks(measured).strip())


HIDDEN = ("seed", "params", "read_engine", "checkpoint_engine", "cpus")
