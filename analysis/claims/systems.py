"""Claims 4, 7 and 9 by the sweep `systems`: the article's systems side by side on the same work.

YCSB B by so many processes, its reads and its updates counted apart, beside each of them alone; and
the headline's work, with PostgreSQL's levels beside BEGIN CONCURRENT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.claims.claim import FREE, IN_PART, NOT, NOT_MEASURED, UNDECIDED, Seen, Verdict
from analysis.claims.runs import ends_the_bottleneck, read_mostly
from analysis.claims.sentence import joined, sentence
from analysis.counting import Arm, Count, Measure, Measured
from analysis.statistics import Ratio
from analysis.wording import duration, listed

SYSTEMS = "systems"
MIXED, READS, UPDATES, WORK = "B", "C", "update=100", "read-modify-write=100"
ONE_WRITER = ("libsql", "autocommit")
"""One writer at a time, and reads that wait for nobody."""

MODE, MODE_ALONE = ("sqlite-concurrent", "concurrent"), ("sqlite-concurrent", "immediate")
SERVER = "postgres"
TOLD_PROCESSES = 4


def mean_ns(kind: str) -> Measure:
    """A measure: the mean whole time of the writers' transactions of a kind, ns."""

    def measure(counted: Count) -> float:
        found = counted.of_kind("writer").get(kind)
        return math.nan if found is None else found.mean_ns

    return measure


def cpu_share_each(counted: Count) -> float:
    """CPU time of all cores that a committed transaction took: of workers and server together, s a
    core. A ratio of two such numbers of one machine is one of CPU times.
    """
    rate = counted.roles["writer"].per_s if "writer" in counted.roles else 0.0
    return counted.cpu_share / rate if rate else math.nan


def arms_at(measured: Measured, mix: str, processes: int | None = None) -> Iterator[Arm]:
    """Arms of a mix, in the sweep's order, of which a run can be used."""
    again = measured.repeated
    for arm in measured.arms.values():
        right = arm.field("mix") == mix and processes in (None, arm.writers)
        if right and arm.name not in again and arm.usable:
            yield arm


def processes(many: int) -> str:
    return f"{many} process{'' if many == 1 else 'es'}"


def system_of(arm: Arm) -> str:
    """The system's name in the sweep's file."""
    return str(arm.point.get("system", arm.label)).removesuffix(", work")


@dataclass(frozen=True)
class Beside:
    """What one kind of transaction takes beside the other kind, over what it takes alone.

    look : engine and mode.
    """

    system: str
    processes: int
    kind: str
    look: tuple[str, str]
    ratio: Ratio


def costs(measured: Measured) -> list[Beside]:
    """What the 5 % updates cost a read, and what the 95 % reads cost an update, on each system."""
    found = []
    for arm in arms_at(measured, MIXED):
        for kind, mix in (("read", READS), ("update", UPDATES)):
            for alone in arms_at(measured, mix, arm.writers):
                if alone.point.get("system") == arm.point.get("system"):
                    ratio = measured.ratio(arm, alone, mean_ns(kind))
                    found.append(Beside(system_of(arm), arm.writers, kind, arm.system, ratio))
    return found


# --- claim 4 ------------------------------------------------------------------------------------


def single_writer(seen: Seen) -> Verdict:
    """Claim 4: is one writer at a time enough at 95 % reads, against those that have several?"""
    measured = seen.sweeps.get(SYSTEMS)
    pairs = _others(measured) if measured is not None else []
    if measured is None or not pairs:
        return read_mostly(seen)
    ratios = [(arm, measured.ratio(arm, base)) for arm, base in pairs]
    if not all(ratio.known for _, ratio in ratios):
        verdict = UNDECIDED
    elif any(ratio.low > FREE for _, ratio in ratios):
        verdict = NOT
    else:
        verdict = IN_PART if all(ratio.high < FREE for _, ratio in ratios) else UNDECIDED
    best, ratio = max(ratios, key=lambda one: one[1].value)
    than = f"{system_of(best)} with {processes(best.writers)}: {ratio.text()} times as many"
    parts = [f"at 95 % reads the best against one writer at a time (no BEGIN) is {than} commits"]
    if verdict == UNDECIDED:
        widest, ratio = max(ratios, key=lambda one: one[1].high)
        parts.append(f"not decided for {system_of(widest)} with {processes(widest.writers)}, "
                     f"{ratio.text()} times")  # fmt: skip
    parts += [_cost_words(one) for one in costs(measured) if one.processes == TOLD_PROCESSES
              and one.system == "libsql autocommit"]  # fmt: skip
    return Verdict(verdict, joined(parts), SYSTEMS)


def _others(measured: Measured) -> list[tuple[Arm, Arm]]:
    """(a system that has several writers or a server, one writer at a time) at the same point.

    One writer at a time is of the same library where that was run: the mode alone counts, and not
    which library is faster.
    """
    arms = list(arms_at(measured, MIXED))
    single = {(arm.engine, arm.writers): arm for arm in arms if arm.begin == ONE_WRITER[1]}
    found = []
    for arm in arms:
        engine = MODE[0] if arm.engine == MODE[0] else ONE_WRITER[0]
        base = single.get((engine, arm.writers)) or single.get((ONE_WRITER[0], arm.writers))
        if base is not None and arm is not base and arm.engine != ONE_WRITER[0]:
            found.append((arm, base))
    return found


def _cost_words(one: Beside) -> str:
    other = "the updates" if one.kind == "read" else "the reads"
    a = "an" if one.kind == "update" else "a"
    return (
        f"with {processes(one.processes)} of it {a} {one.kind} beside {other} takes "
        f"{one.ratio.text()} times as long as alone"
    )


# --- claim 7 ------------------------------------------------------------------------------------


def bottleneck(seen: Seen) -> Verdict:
    """Claim 7: the mode alone by the report's runs, and PostgreSQL's row locks on the same work."""
    verdict = ends_the_bottleneck(seen)
    measured = seen.sweeps.get(SYSTEMS)
    beside = _row_locks(measured) if measured is not None else []
    if not beside:
        return verdict
    number = joined([verdict.number, sentence("on the same work (`systems`): {}", listed(beside))])
    if verdict.measured:
        return verdict._replace(number=number)
    return Verdict(_by_the_mode(measured), number, SYSTEMS)


def work_ratios(measured: Measured) -> list[tuple[Arm, Ratio]]:
    """The headline's work: each system against the mode's own library with one writer at a time."""
    arms = list(arms_at(measured, WORK))
    base = next((arm for arm in arms if arm.system == MODE_ALONE), None)
    if base is None:
        return []
    return [(arm, measured.ratio(arm, base)) for arm in arms if arm is not base]


def _row_locks(measured: Measured) -> list[str]:
    found = [
        f"{system_of(arm)} commits {ratio.text()} times what branch IMMEDIATE does"
        for arm, ratio in work_ratios(measured)
        if arm.system == MODE or arm.engine == SERVER
    ]
    return found + [f"{name}, {why}" for name, why in broken(measured).items()]


def broken(measured: Measured) -> dict[str, str]:
    """System -> which of its checks did not hold: what it commits is not the work."""
    found: dict[str, str] = {}
    for arm in measured.arms.values():
        checks = {one.check for cell in arm.cells for one in cell.broken}
        if checks and arm.name not in measured.repeated:
            held = f"whose check did not hold ({', '.join(sorted(checks))})"
            found.setdefault(system_of(arm), held)
    return found


def _by_the_mode(measured: Measured | None) -> str:
    ratios = work_ratios(measured) if measured is not None else []
    mode = [ratio for arm, ratio in ratios if arm.system == MODE]
    if not mode:
        return NOT_MEASURED
    if not mode[0].known:
        return UNDECIDED
    if mode[0].low > 1:
        return IN_PART
    return NOT if mode[0].high < FREE else UNDECIDED


# --- claim 9 ------------------------------------------------------------------------------------


def cpu_ns(arm: Arm) -> float:
    """CPU time of workers and server for each committed transaction, ns."""
    cores = arm.usable[0].manifest.machine.cores if arm.usable and arm.usable[0].manifest else None
    return arm.estimate(cpu_share_each).value * (cores or math.nan) * 1e9


def cost(seen: Seen) -> Verdict:
    """Claim 9, as far as CPU time tells."""
    measured = seen.sweeps.get(SYSTEMS)
    pairs = [
        (arm, base)
        for arm, base in (_others(measured) if measured is not None else [])
        if arm.engine == SERVER
    ]
    if measured is None or not pairs:
        return Verdict(NOT_MEASURED, sentence("Not measured: `cwkit sweep systems` measures it"))
    ratios = [measured.ratio(arm, base, cpu_share_each) for arm, base in pairs]
    if not all(ratio.known for ratio in ratios):
        verdict = UNDECIDED
    elif all(ratio.low > 1 for ratio in ratios):
        verdict = IN_PART
    else:
        verdict = NOT if any(ratio.high < 1 for ratio in ratios) else UNDECIDED
    told = [
        f"{system_of(arm)} {duration(cpu_ns(arm))} a transaction with {arm.writers} processes, "
        f"{ratio.text()} times libSQL's {duration(cpu_ns(base))}"
        for (arm, base), ratio in zip(pairs, ratios, strict=True)
        if arm.writers == TOLD_PROCESSES
    ]
    rest = (
        "prices, memory, people and the cost of an outage are not measured: they are not the "
        "machine's"
    )
    return Verdict(verdict, joined([f"CPU time at 95 % reads: {'; '.join(told)}", rest]), SYSTEMS)
