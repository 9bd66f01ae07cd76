"""The findings of a report: sentences computed from runs, with number, interval and run.

Each function is one question. Its sentence follows the data. Where the interval holds 1 it says
that no difference was seen. Where the data are the opposite of what was hoped, so is the sentence.
Where nothing was measured it says so, and why.
"""

from __future__ import annotations

from analysis.counting import FOREIGN_LIMIT, cache_clause, slump_clause, spare_clause
from analysis.report import isolation
from analysis.report.commits import acked, acknowledged
from analysis.report.evidence import Evidence
from analysis.report.facts import MODE_ALONE
from analysis.report.headline import absent, cost, fairness, gain, latency
from analysis.report.limits import losing_work, scaling, skew
from analysis.report.markdown import code, markdown
from analysis.wording import begin_label, duration, interval, number, percent, times, whole


def findings(evidence: Evidence) -> list[str]:
    """At most ten sentences, for a reader who stops after them."""
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
    sentences = [question(evidence) for question in questions]
    lost = any(cell.broken for _, cell in acked(evidence))
    if lost:
        sentences.insert(0, sentences.pop(2))  # a lost commit matters more than any speed
    if not evidence.isolation:
        return [*sentences, scaling(evidence)]
    promises = isolation.sentence(evidence.isolation, evidence.known)
    # A broken promise comes first: it is what an engine developer would act on.
    if isolation.deviations(evidence.isolation):
        return [promises, *sentences]
    if any(one["seen"] for one in isolation.known(evidence.known)):
        return [*sentences[:lost], promises, *sentences[lost:]]
    return [*sentences, promises]


def in_short(evidence: Evidence) -> str:
    """The answer before the numbers, all of it computed: may I, does it pay, what must I do."""
    probe = evidence.probes.get("libsql")
    answer = probe.modes.get("concurrent") if probe else None
    parts = []
    if answer is not None and not answer.accepted:
        parts.append("libSQL has no BEGIN CONCURRENT to switch on")
    elif answer is not None:
        parts.append("libSQL accepts BEGIN CONCURRENT here")
    head = evidence.facts.headline
    if head is not None:
        ratio = head.ratio
        work = number(head.pair.candidate.field("think_us") or 0)
        verdict = {"more": "pays", "less": "loses", "none seen": "makes no difference"}
        pays = verdict.get(ratio.verdict, "cannot be judged from so few blocks")
        parts.append(
            f"another library's on libSQL's file {pays} with {work} µs of work in a transaction "
            f"({ratio.text()} times) if you rerun what it refuses"
        )
    alone = {work: ratio for work, _, ratio in evidence.facts.work_rows(baseline=MODE_ALONE)}
    if 0.0 in alone:
        verdict = {"more": "it pays too", "less": "it loses", "none seen": "no gain was seen"}
        pays = verdict.get(alone[0.0].verdict, "too few blocks to say")
        parts.append(f"with none, against the same library's BEGIN IMMEDIATE, {pays}")
    if any(cell.broken for _, cell in acked(evidence)):
        place = 2 if isolation.deviations(evidence.isolation) else 1
        parts.append(
            "and whichever you choose, do not let several processes checkpoint with a library "
            f"that loses commits (finding {place})"
        )
    return f"{'; '.join(parts)}." if parts else "these runs hold no answer."


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
            f"libSQL itself ({version}) refuses BEGIN CONCURRENT (“{answer.message}”), so that its "
            "gain is to be had only by another library that writes to libSQL's file."
        )
    acts = {True: "and writers overlap", False: "but acts as a single writer"}
    how = acts[answer.overlaps] if answer.overlaps is not None else "(overlap not tried)"
    return f"libSQL itself ({version}) accepts BEGIN CONCURRENT {how}."


def mission(evidence: Evidence) -> str:
    """Do BEGIN CONCURRENT writers and libSQL readers keep one libSQL database whole?"""
    for arm, cell in evidence.cells():
        plan = arm.plan
        mixed = plan["database"] == "libsql" == plan["read_engine"] and plan["readers"]
        if not (mixed and plan["begin"] == "concurrent" and arm.writers):
            continue
        if cell.counted is None:
            return f"BEGIN CONCURRENT writers beside libSQL readers: no run ({cell.failure})."
        writer, reader = cell.counted.roles["writer"], cell.counted.roles["reader"]
        checks = cell.manifest.findings if cell.manifest else []
        held = sum(check.ok for check in checks)
        verdict = f"{_all(len(checks))} held"
        if held < len(checks):
            verdict = markdown(
                "**{} of {} checks did not hold** ({})",
                len(checks) - held,
                len(checks),
                cell.broken[0].sentence,
            )
        if not checks:
            verdict = "nothing was checked"
        return markdown(
            "{}, and {} ({}; run {}).",
            f"A libSQL database written for {number(cell.counted.seconds)} s by "
            f"{writer.workers} {plan['write_engine']} processes in "
            f"{begin_label(plan['begin'])} and read by {reader.workers} libSQL processes took "
            f"{whole(writer.committed)} commits and {whole(reader.committed)} reads",
            verdict,
            f"abort rate {percent(writer.abort_rate[1])} "
            f"{interval(writer.abort_rate[0], writer.abort_rate[2], percent)}, but "
            f"{percent(writer.wasted)} of the time in attempts was wasted; "
            f"longest {duration(writer.longest_ns)}",
            code(f"{arm.measured.name}/{cell.run}"),
        )
    return absent(evidence, "Whether BEGIN CONCURRENT writers and libSQL readers can share a file")


def _all(checks: int) -> str:
    return "its one check" if checks == 1 else f"all {checks} checks"


def doubts(evidence: Evidence) -> list[str]:
    """Doubts that a reader must know before the first number."""
    lines: list[str] = list(evidence.unread)
    lines += [f"Beside libSQL's server, a check did not hold: {w}" for w in evidence.served.broken]
    lines += [
        markdown("{} was not run, for {}.", code(name), why)
        for name, why in evidence.suite.skipped.items()
    ]
    dropped = [cell for _, cell in evidence.cells() if cell.contaminated]
    total = sum(1 for _ in evidence.cells())
    if dropped:
        lines.append(
            markdown(
                "{} of {} runs were contaminated by other use of the machine and dropped with "
                "their blocks. Close other programs and run it again, or accept them by "
                "`--foreign-limit SHARE`, which the report then says.",
                len(dropped),
                total,
            )
        )
    lines += [
        markdown("{}: {}", code(measured.name), sentence)
        for measured in evidence.experiments.values()
        for sentence in (slump_clause(measured), spare_clause(measured))
        if sentence
    ]
    if warm := [(a, c) for a, c in evidence.cells() if c.manifest and cache_clause(c.manifest)]:
        arm, cell = warm[0]
        assert cell.manifest is not None
        place = code(f"{arm.measured.name}/{cell.run}")
        many, why = times(len(warm), "run"), cache_clause(cell.manifest)
        lines.append(markdown("{} did not begin cold, the first {}: it {}.", many, place, why))
    if unmet := [(a, c) for a, c in evidence.cells() if c.usable and c.unmet]:
        arm, cell = unmet[0]
        lines.append(
            markdown(
                "{} of {} runs did not meet the rate that was asked for, the first {}: {}. "
                "Percentiles are over all that were due.",
                len(unmet),
                total,
                code(f"{arm.measured.name}/{cell.run}"),
                cell.unmet,
            )
        )
    limit = evidence.foreign_limit
    if limit > FOREIGN_LIMIT:
        lines.append(
            markdown(
                "Others were allowed to use up to {} of the machine's CPU time while it was "
                "measured (`--foreign-limit`; the rule is {}).",
                percent(limit),
                percent(FOREIGN_LIMIT),
            )
        )
    head = evidence.facts.headline
    if head is not None and (blocks := head.ratio.blocks) < 10:
        lines.append(f"The headline rests on {times(blocks, 'block')}, not on ten or more.")
    failed = [
        markdown("{}, block {}, {}: {}", code(arm.measured.name), c.block, c.arm, c.failure)
        for arm, c in evidence.cells()
        if c.state == "failed" and arm.plan["scenario"] != "acked"
    ]
    lines += failed[:5] + ([f"and {len(failed) - 5} more."] if len(failed) > 5 else [])
    machines = {
        (at.cpu, at.cores, at.kernel, at.file_system)
        for _, c in evidence.cells()
        if c.manifest and (at := c.manifest.machine).data()
    }
    if len(machines) > 1:
        lines.append(
            f"These runs were made on {len(machines)} different machines or file systems: numbers "
            "of different experiments must not be compared."
        )
    if evidence.suite.quick:
        lines.append(
            markdown("This is a quick report: few, short blocks. `make report` measures longer.")
        )
    return lines
