"""The findings of a report: sentences computed from runs, with number, interval and run.

Each function is one question. Its sentence follows the data: where the interval holds 1 it says
that no difference was seen, where the data say the opposite of what anybody hoped it says the
opposite, and where nothing was measured it says so and why.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import isolation
from analysis.compare import FOREIGN_LIMIT, Cell, Grid, Ratio
from analysis.evidence import (
    CONTROL,
    MODE_ALONE,
    STUDIED,
    Evidence,
    Pair,
    alike,
    arms_of,
    field,
    label,
    look,
    theta,
    where,
)
from analysis.rates import Tally, abort_rate
from analysis.words import (
    begin_words,
    duration,
    interval,
    listed,
    number,
    percent,
    times,
    whole,
)

HOW = "sqlite-concurrent's BEGIN CONCURRENT on a libSQL file"
NOW = "libSQL's BEGIN IMMEDIATE"


def findings(evidence: Evidence) -> list[str]:
    """At most ten sentences; what a reader who stops after them should know."""
    questions = (
        gain,
        cost,
        acknowledged,
        acceptance,
        fairness,
        latency,
        losing_work,
        skew,
        mission,
    )
    said = [question(evidence) for question in questions]
    if any(cell.broken for _, cell in _acked(evidence)):
        said.insert(0, said.pop(2))  # a lost commit matters more than any speed
    if not evidence.isolation:
        return [*said, scaling(evidence)]
    told = isolation.sentence(evidence.isolation, evidence.known)
    # A broken promise comes first: it is what an engine developer would act on.
    broken = bool(isolation.deviations(evidence.isolation))
    return [told, *said] if broken else [*said, told]


def in_short(evidence: Evidence) -> str:
    """The answer before the numbers: may I, does it pay, what must I do. Each part is computed."""
    probe = evidence.probes.get("libsql")
    answer = probe.modes.get("concurrent") if probe else None
    said = []
    if answer is not None and not answer.accepted:
        said.append("libSQL has no BEGIN CONCURRENT to switch on")
    elif answer is not None:
        said.append("libSQL accepts BEGIN CONCURRENT here")
    pair = headline_pair(evidence)
    if pair is not None:
        grid, over, under = pair
        ratio = grid.ratio(over, under)
        work = number(field(grid.plan(over), "think_us") or 0)
        verdict = {"more": "pays", "less": "loses", "none seen": "makes no difference"}
        pays = verdict.get(ratio.verdict, "cannot be judged from so few blocks")
        said.append(
            f"another library's on libSQL's file {pays} with {work} µs of work in a transaction "
            f"({ratio.said()} times) if you rerun what it refuses"
        )
    alone = {work: ratio for work, _, ratio in work_ratios(evidence, under=MODE_ALONE)}
    if 0.0 in alone:
        verdict = {"more": "it pays too", "less": "it loses", "none seen": "no gain was seen"}
        pays = verdict.get(alone[0.0].verdict, "too few blocks to say")
        said.append(f"with none, against the same library's BEGIN IMMEDIATE, {pays}")
    if any(cell.broken for _, cell in _acked(evidence)):
        said.append(
            "and whichever you choose, do not let several processes checkpoint with a library "
            "that loses commits (finding 1)"
        )
    return f"{'; '.join(said)}." if said else "these runs hold no answer."


def headline_pair(evidence: Evidence) -> Pair | None:
    """The comparison that the report is about: with the most blocks, it is the first there is."""
    return evidence.pair(writers=4) or evidence.pair()


def gain(evidence: Evidence) -> str:
    """What would BEGIN CONCURRENT do for my writes on libSQL?"""
    pair = headline_pair(evidence)
    if pair is None:
        return _absent(evidence, "What BEGIN CONCURRENT does for throughput on libSQL")
    grid, over, under = pair
    if refused := grid.unlike(over, under):
        return refused
    ratio = grid.ratio(over, under)
    said = f"{_setting(grid, over)}, {HOW} {_commits(ratio)} {NOW}"
    rates = f"{grid.estimate(over).said()} against {grid.estimate(under).said()} tx/s"
    return f"**{said}** ({rates}; {where(grid, over, under)}){_same_twice(pair)}."


def _setting(grid: Grid, arm: str) -> str:
    plan = grid.plan(arm)
    work = field(plan, "think_us") or 0
    inside = f"{number(work)} µs of work" if work else "no work"
    durable = "" if plan["synchronous"] != "off" else " and synchronous OFF (commits may be lost)"
    return f"With {times(plan['writers'], 'writer')} and {inside} inside the transaction{durable}"


def _commits(ratio: Ratio) -> str:
    said = ratio.said()
    if ratio.verdict == "none seen":
        return f"showed no difference in throughput (ratio {said}, the interval holds 1) to"
    if ratio.verdict == "unknown":
        return f"committed {said} times as much, without an interval, as"
    only = "" if ratio.verdict == "more" else "only "
    return f"committed {only}{said} times as many transactions as"


def _same_twice(pair: Pair) -> str:
    """The A/A control of the experiment: what "no difference" looks like here."""
    twins = pair.grid.twins()
    if not twins:
        return ", without an A/A control"
    one, again = twins[0]
    ratio = pair.grid.ratio(again, one)
    if ratio.verdict in ("more", "less"):
        return (
            f"; **but the same arm run twice differs by {ratio.said()}**, so do not trust "
            "differences of that size"
        )
    return f"; the same arm run twice differs by {ratio.said()}"


def cost(evidence: Evidence) -> str:
    """And what does it cost?"""
    pair = headline_pair(evidence)
    if pair is None:
        return _absent(evidence, "What BEGIN CONCURRENT costs on libSQL")
    grid, over, under = pair
    top, bottom = grid.tally(over), grid.tally(under)
    assert top is not None and bottom is not None
    low, rate, high = top.abort_rate
    cpu = grid.ratio(over, under, lambda counted: counted.roles["writer"].cpu_us)
    dearer = "no difference was seen" if cpu.verdict == "none seen" else f"{cpu.said()} times"
    return (
        f"It costs conflicts, which the caller must retry: {percent(rate)} "
        f"{interval(low, high, percent)} of {whole(top.finished)} attempts were refused "
        f"({NOW}: {percent(bottom.abort_rate[1])} of {whole(bottom.finished)}), "
        f"{percent(top.wasted)} of the time inside attempts was wasted (against "
        f"{percent(bottom.wasted)}), and a commit took {number(top.cpu_us)} µs of CPU time, the "
        f"work inside included, against {number(bottom.cpu_us)} ({dearer}; {where(grid, over)})."
    )


def acknowledged(evidence: Evidence) -> str:
    """Does every acknowledged commit stay?"""
    found = _acked(evidence)
    if not any(cell.counted for _, cell in found):
        return "Whether every acknowledged commit stays visible: not measured in this set of runs."
    arms: dict[str, list[tuple[Grid, Cell]]] = {}
    for grid, cell in found:
        arms.setdefault(label(grid, cell.arm), []).append((grid, cell))
    # What was lost first, the control after it.
    order = sorted(arms.items(), key=lambda item: not any(cell.broken for _, cell in item[1]))
    parts = [_kept(arm, cells) for arm, cells in order]
    lost = {arm for arm, cells in arms.items() if any(cell.broken for _, cell in cells)}
    if not lost:
        head = "No acknowledged commit was seen to be lost, which is no proof that none can be"
    elif len(lost) == len(arms):
        head = "Acknowledged commits were lost on every arm, the control too: suspect the test"
    else:
        head = f"{listed(sorted(lost))} lost acknowledged commits beside running checkpoints"
    off = {grid.plan(cell.arm)["synchronous"] for grid, cell in found}
    how = (
        f" (synchronous {listed(sorted(off)).upper()}, no crash and no power cut; provoked by "
        "processes that checkpoint without pause: SQLite's WAL-reset race, fixed in 3.51.3; "
        "it was not tried with fsync)"
    )
    return f"**{head}**{how}: {'; '.join(parts)}."


def _acked(evidence: Evidence) -> list[tuple[Grid, Cell]]:
    return [(grid, cell) for grid, cell in evidence.cells() if _scenario(grid, cell) == "acked"]


def _kept(arm: str, cells: list[tuple[Grid, Cell]]) -> str:
    counted = [cell.counted for _, cell in cells if cell.counted is not None]
    commits = sum(c.roles["writer"].committed for c in counted if "writer" in c.roles)
    grid = cells[0][0]
    version = _versions(cells)
    base = f"{arm}{version}, {times(len(counted), 'run')} of {_seconds(counted)}"
    broken = [(cell, cell.broken[0]) for _, cell in cells if cell.broken]
    if not counted:
        return f"{arm}: not measured ({cells[0][1].failure or 'no run'})"
    if not broken:
        return f"{base} with {whole(commits)} acknowledged commits: none lost"
    cell, finding = broken[0]
    return (
        f"{base}: {len(broken)} of {len(counted)} broken (run `{grid.name}/{cell.run}`: "
        f"{str(finding.get('sentence', '')).rstrip('.')})"
    )


def _seconds(counted: list[Any]) -> str:
    each = [c.seconds for c in counted]
    return f"{number(float(np.median(each)))} s" if each else "0 s"


def _versions(cells: list[tuple[Grid, Cell]]) -> str:
    """Versions of the library that checkpointed: it is the checkpointer's that matters."""
    seen = []
    for _, cell in cells:
        engines = cell.manifest.get("engines", {})
        asked = cell.manifest.get("plan", {}).get("checkpoint_engine", "")
        if version := engines.get(asked, {}).get("version"):
            seen.append(str(version))
    return f" (SQLite {listed(sorted(set(seen)))})" if seen else ""


def acceptance(evidence: Evidence) -> str:
    """Does libSQL itself accept it?"""
    probe = evidence.probes.get("libsql")
    answer = probe.modes.get("concurrent") if probe else None
    if probe is None or answer is None:
        why = f": {probe.missing}" if probe and probe.missing else ""
        return f"Whether libSQL itself accepts BEGIN CONCURRENT was not asked here{why}."
    version = probe.identity.binding if probe.identity else "libSQL"
    if not answer.accepted:
        return (
            f"libSQL itself ({version}) refuses BEGIN CONCURRENT (“{answer.words}”), so that its "
            "gain is to be had only by another library that writes to libSQL's file."
        )
    acts = {True: "and writers overlap", False: "but acts as a single writer"}
    how = acts[answer.overlaps] if answer.overlaps is not None else "(overlap not tried)"
    return f"libSQL itself ({version}) accepts BEGIN CONCURRENT {how}."


def fairness(evidence: Evidence) -> str:
    """Who gets to write?"""
    pair = headline_pair(evidence)
    if pair is None:
        return _absent(evidence, "Fairness between writers")
    grid, over, under = pair
    parts = []
    for arm, name in ((under, NOW), (over, HOW)):
        index = grid.estimate(arm, lambda counted: counted.roles["writer"].fairness)
        tally = grid.tally(arm)
        assert tally is not None
        worst = grid.estimate(arm, lambda counted: counted.roles["writer"].worst_share)
        parts.append(
            f"under {name} Jain's index is {index.said()}, the worst-served writer gets "
            f"{percent(worst.value)} of the commits and the longest wait was "
            f"{duration(tally.longest_ns)}"
        )
    writers = grid.plan(over)["writers"]
    even = f"1 is even, {number(1 / writers)} is one writer that has everything"
    even += f"; windows of {grid.plan(over)['duration_s']:g} s, so longer waits are cut"
    return f"Fairness ({even}): {'; '.join(parts)} ({where(grid, over, under)})."


def latency(evidence: Evidence) -> str:
    """What does one transaction wait?"""
    pair = headline_pair(evidence)
    if pair is None:
        return _absent(evidence, "Latency")
    grid, over, under = pair
    parts = []
    for arm, name in ((under, NOW), (over, HOW)):
        tally = grid.tally(arm)
        assert tally is not None
        p50, _, p99, _, _ = tally.latency()["whole"]
        parts.append(f"{name} {duration(p50)} / {duration(p99)} / {duration(tally.longest_ns)}")
    return (
        "A transaction, retries included, took (p50 and p99 of the committed, longest of all, "
        f"pooled over the blocks, no interval; writers that got no turn are in no "
        f"percentile): {'; '.join(parts)} ({where(grid, over, under)})."
    )


def work_ratios(
    evidence: Evidence, over: tuple[str, str] = STUDIED, under: tuple[str, str] = CONTROL
) -> list[tuple[float, Pair, Ratio]]:
    """(work inside in us, arms, ratio) wherever two ways to write meet and only that work differs
    from the headline's; one ratio for each amount of work, the one of the most blocks.
    """
    best: dict[float, tuple[float, Pair, Ratio]] = {}
    head = headline_pair(evidence)
    if head is None:
        return []
    like = _work_shape(head.grid, head.over)
    for grid in evidence.grids.values():
        for top in arms_of(grid, *over):
            for bottom in arms_of(grid, *under):
                if not alike(grid, top, bottom) or _work_shape(grid, top) != like:
                    continue
                ratio = grid.ratio(top, bottom)
                work = float(field(grid.plan(top), "think_us") or 0)
                if ratio.blocks and (work not in best or ratio.blocks > best[work][2].blocks):
                    best[work] = (work, Pair(grid, top, bottom), ratio)
    return [best[work] for work in sorted(best)]


def _work_shape(grid: Grid, arm: str) -> tuple[Any, ...]:
    """Everything an arm does, but for how it is written and for the work inside."""
    plan = grid.plan(arm)
    params = {k: v for k, v in plan["params"].items() if k != "think_us"}
    return plan["writers"], plan["readers"], plan["scenario"], plan["rate"], sorted(
        (k, str(v)) for k, v in params.items()
    )  # fmt: skip


def losing_work(evidence: Evidence) -> str:
    """Where does the favoured mode lose?

    Against the same library's BEGIN IMMEDIATE where that was measured, since then the mode alone
    differs; libSQL's library and binding are others, and another's slowness is no gain of a mode.
    """
    alone = work_ratios(evidence, under=MODE_ALONE)
    found = alone or work_ratios(evidence)
    if not found:
        return _absent(evidence, "Where BEGIN CONCURRENT loses")
    lost = [(work, ratio) for work, _, ratio in found if ratio.verdict == "less"]
    same = [work for work, _, ratio in found if ratio.verdict == "none seen"]
    seen = ", ".join(f"{number(work)} µs {ratio.said()}" for work, _, ratio in found)
    if lost:
        works = listed([f"{number(work)} µs" for work, _ in lost])
        head = f"It loses with {works} of work inside the transaction"
    elif all(not ratio.known for _, _, ratio in found):
        head = "Where it loses cannot be told from so few blocks"
    else:
        head = "No amount of work was found here at which it loses"
    if same:
        works = listed([f"{number(work)} µs" for work in same])
        head += f", and no difference was seen with {works}"
    runs = listed(list(dict.fromkeys(f"`{pair.grid.name}`" for _, pair, _ in found)))
    against = "the same library's BEGIN IMMEDIATE, so the mode alone" if alone else NOW
    return f"{head} (throughput against {against}: {seen}; {runs}){_loses_elsewhere(evidence)}."


def _loses_elsewhere(evidence: Evidence) -> str:
    """Other workloads in which the mode alone makes it slower."""
    said = []
    for grid in evidence.grids.values():
        for over in arms_of(grid, *STUDIED):
            for under in arms_of(grid, *MODE_ALONE):
                if not alike(grid, over, under) or field(grid.plan(over), "scenario") != "counter":
                    continue
                ratio, tally = grid.ratio(over, under), grid.tally(over)
                if ratio.verdict != "less" or tally is None:
                    continue
                said.append(
                    f"; **it loses where all writers meet on one page** (`{grid.name}`: "
                    f"{ratio.said()} times, {percent(tally.abort_rate[1])} of the attempts refused)"
                )
    return "".join(said)


def scaling(evidence: Evidence) -> str:
    """Does more writers mean more commits?"""
    for grid in evidence.grids.values():
        parts = []
        for way, name in ((CONTROL, NOW), (STUDIED, HOW)):
            arms = sorted(arms_of(grid, *way), key=lambda arm: grid.plan(arm)["writers"])
            if len(arms) < 2 or not alike(grid, arms[0], arms[-1], "writers"):
                continue
            few, many = (grid.plan(arm)["writers"] for arm in (arms[0], arms[-1]))
            ratio = grid.ratio(arms[-1], arms[0])
            if few == many or not ratio.blocks:
                continue
            verdict = {"none seen": ", no difference seen", "less": ", a loss"}
            parts.append(f"{name} {ratio.said()}{verdict.get(ratio.verdict, '')}")
        if parts:
            return (
                f"From {times(few, 'writer')} to {many} throughput changes by a factor of: "
                f"{'; '.join(parts)} (experiment `{grid.name}`)."
            )
    return _absent(evidence, "How throughput grows with writers")


def skewed(evidence: Evidence) -> list[tuple[Grid, str, float, Tally]]:
    """(experiment, arm, theta, tally) of arms whose keys' skew is studied, by theta."""
    out = []
    for grid in evidence.grids.values():
        arms = [
            (arm, theta(str(field(grid.plan(arm), "keys"))))
            for arm in grid.arms
            if look(grid, arm)[0] != "null"
        ]
        if len({skew for _, skew in arms if skew is not None}) < 2:
            continue
        for arm, skew_ in arms:
            tally = grid.tally(arm)
            if skew_ is not None and tally is not None:
                out.append((grid, arm, skew_, tally))
    return sorted(out, key=lambda row: (row[0].name, row[2], row[1]))


def skew(evidence: Evidence) -> str:
    """What do hot keys do to it?"""
    rows = [row for row in skewed(evidence) if row[1] in arms_of(row[0], *STUDIED)]
    if len(rows) < 2:
        return _absent(evidence, "The abort rate against the skew of the keys")
    said = []
    for _, _, at, tally in rows:
        low, rate, high = tally.abort_rate
        said.append(f"{percent(rate)} {interval(low, high, percent)} at theta {at:g}")
    ends = [abort_rate([t.conflicted], [t.finished])[0] for t in (rows[0][3], rows[-1][3])]
    grows = "grows with" if ends[1][0] > ends[0][2] else "was not seen to grow with"
    if ends[1][2] < ends[0][0]:
        grows = "falls with"
    return (
        f"The abort rate of {HOW} {grows} the skew of the keys: {listed(said)} "
        f"({where(rows[0][0], *[row[1] for row in rows])})."
    )


def mission(evidence: Evidence) -> str:
    """Do BEGIN CONCURRENT writers and libSQL readers keep one libSQL database whole?"""
    for grid, cell in evidence.cells():
        plan = grid.plan(cell.arm)
        mixed = plan["database"] == "libsql" == plan["read_engine"] and plan["readers"]
        if not (mixed and plan["begin"] == "concurrent" and plan["writers"]):
            continue
        if cell.counted is None:
            return f"BEGIN CONCURRENT writers beside libSQL readers: no run ({cell.failure})."
        writer, reader = cell.counted.roles["writer"], cell.counted.roles["reader"]
        checks = cell.manifest.get("findings", [])
        held = sum(bool(check.get("ok")) for check in checks)
        verdict = f"{_all(len(checks))} held" if held == len(checks) else (
            f"**{len(checks) - held} of {len(checks)} checks did not hold** "
            f"({cell.broken[0].get('sentence', '')})"
        )  # fmt: skip
        if not checks:
            verdict = "nothing was checked"
        return (
            f"A libSQL database written for {number(cell.counted.seconds)} s by "
            f"{writer.workers} {plan['write_engine']} processes in "
            f"{begin_words(plan['begin'])} and read by {reader.workers} libSQL processes took "
            f"{whole(writer.committed)} commits and {whole(reader.committed)} reads, and {verdict} "
            f"(abort rate {percent(writer.abort_rate[1])} "
            f"{interval(writer.abort_rate[0], writer.abort_rate[2], percent)}, but "
            f"{percent(writer.wasted)} of the time in attempts went into refused ones; "
            f"longest {duration(writer.longest_ns)}; run `{grid.name}/{cell.run}`)."
        )
    return _absent(evidence, "Whether BEGIN CONCURRENT writers and libSQL readers can share a file")


def _all(checks: int) -> str:
    return "its one check" if checks == 1 else f"all {checks} checks"


def _absent(evidence: Evidence, what: str) -> str:
    """Not measured, and why as far as it is known."""
    why = [
        cell.failure
        for grid, cell in evidence.cells()
        if cell.counted is None and cell.failure and cell.arm in arms_of(grid, *STUDIED)
    ]
    reason = f" ({why[0].rstrip('.')})" if why else ""
    return f"{what}: not measured in this set of runs{reason}."


def _scenario(grid: Grid, cell: Cell) -> str:
    return str(grid.plan(cell.arm)["scenario"])


def doubts(evidence: Evidence) -> list[str]:
    """What a reader must know before the first number."""
    said = list(evidence.unread)
    dropped = [(g, c) for g, c in evidence.cells() if c.contaminated]
    total = sum(1 for _ in evidence.cells())
    if dropped:
        said.append(
            f"{len(dropped)} of {total} runs were contaminated by other use of the machine and "
            "dropped with their blocks. Close other programs and run it again, or accept them by "
            "`--foreign-limit SHARE`, which the report then says."
        )
    limit = evidence.campaign.get("foreign_limit", FOREIGN_LIMIT)
    if limit > FOREIGN_LIMIT:
        said.append(
            f"Others were allowed to use up to {percent(limit)} of the machine's CPU time while it "
            f"was measured (`--foreign-limit`; the rule is {percent(FOREIGN_LIMIT)})."
        )
    pair = headline_pair(evidence)
    if pair is not None and (blocks := pair.grid.ratio(pair.over, pair.under).blocks) < 10:
        said.append(f"The headline rests on {times(blocks, 'block')}, not on ten or more.")
    failed = [
        f"`{g.name}`, block {c.block}, {c.arm}: {c.failure}"
        for g, c in evidence.cells()
        if c.state == "failed" and _scenario(g, c) != "acked"
    ]
    said += failed[:5] + ([f"and {len(failed) - 5} more."] if len(failed) > 5 else [])
    machines = {
        str([c.manifest["machine"].get(k) for k in ("cpu", "cores", "kernel", "file_system")])
        for _, c in evidence.cells()
        if c.manifest.get("machine")
    }
    if len(machines) > 1:
        said.append(
            f"These runs were made on {len(machines)} different machines or file systems: numbers "
            "of different experiments must not be compared."
        )
    if evidence.campaign.get("quick"):
        said.append("This is a quick report: few, short blocks. `make report` measures longer.")
    return said
