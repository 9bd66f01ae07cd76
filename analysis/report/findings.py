"""The findings of a report: answers computed from runs, the ten that matter most first.

Each function is one question. Its sentence follows the data. Where no difference is claimed it
says so. Where the data are the opposite of what was hoped, so is the sentence. Where nothing was
measured it says so, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.counting import FOREIGN_LIMIT, cache_clause, slump_clause, spares_clause
from analysis.report import isolation
from analysis.report.commits import acknowledged, cures, either
from analysis.report.crashes import crashed
from analysis.report.evidence import Evidence, where
from analysis.report.faults import struck
from analysis.report.finding import (
    ACCEPTED,
    BROKEN,
    KEPT,
    LESS,
    MORE,
    NONE,
    REFUSED,
    UNKNOWN,
    Finding,
    few_words,
    missing,
)
from analysis.report.headline import absent, cores_of, cost, gain, mode_pair
from analysis.report.hunts import hunted
from analysis.report.limits import losing_work, read_mostly, scaling, skew
from analysis.report.markdown import Markdown, code, listed_names, markdown
from analysis.report.soaks import soaked
from analysis.report.waits import fairness, log_growth, plain, same_load
from analysis.wording import begin_label, listed, number, percent, times, whole

MOST = 10
"""The most findings of a report."""


@dataclass(frozen=True)
class Findings:
    """What the runs answer to every question that the report asks.

    every : key -> finding, the most important first. A broken promise or a lost commit comes before
    all others; the rest has a fixed order.
    """

    every: Mapping[str, Finding]

    @property
    def shown(self) -> list[Finding]:
        """The first ten that were measured and found something."""
        return self._found[:MOST]

    @property
    def stood_back(self) -> list[Finding]:
        """Those that the ten left no room for."""
        return self._found[MOST:]

    @property
    def not_found(self) -> list[Finding]:
        """What was looked for and not seen."""
        return [one for one in self.every.values() if one.measured and one.sought]

    @property
    def not_measured(self) -> list[Finding]:
        return [one for one in self.every.values() if not one.measured]

    @property
    def _found(self) -> list[Finding]:
        return [one for one in self.every.values() if one.measured and not one.sought]

    def place(self, key: str) -> int:
        """The number of a finding among the ten, from 1; 0 where it is not among them."""
        keys = [one.key for one in self.shown]
        return keys.index(key) + 1 if key in keys else 0


def tell(evidence: Evidence) -> Findings:
    """Ask every question."""
    questions = (
        acknowledged,
        promises,
        hunted,
        crashed,
        struck,
        soaked,
        mission,
        acceptance,
        gain,
        cost,
        losing_work,
        same_load,
        plain,
        log_growth,
        fairness,
        read_mostly,
        skew,
        scaling,
    )
    found = [question(evidence) for question in questions]
    # A mission that held is no news: it stands where it is asked for, or behind the ten.
    late = [one for one in found if one.key == "mission" and not one.grave]
    found = [one for one in found if one not in late] + late
    grave = [one for one in found if one.grave]
    return Findings({one.key: one for one in grave} | {one.key: one for one in found})


def findings(evidence: Evidence) -> list[Finding]:
    """At most ten, for a reader who stops after them."""
    return tell(evidence).shown


def beyond(evidence: Evidence) -> list[Markdown]:
    """What stands behind the ten: also measured, looked for and not found, not measured."""
    told = tell(evidence)
    lines = []
    for label, some in (("Also measured", told.stood_back),
                        ("Looked for and not found", told.not_found)):  # fmt: skip
        lines += [markdown("{}: {}", label, one.brief) for one in some]
    if absent_ones := told.not_measured:
        each = [
            markdown("{} ({})", one.sentence.removesuffix(": not measured"),
                     Markdown("; ").join([*one.numbers, code(one.command)]))
            for one in absent_ones
        ]  # fmt: skip
        # What was measured beside other programs is dropped, and `doubts` says so.
        dropped = any(cell.contaminated for _, cell in evidence.cells())
        label = "Not measured in this set of runs" + (
            ", or only in dropped ones" if dropped else ""
        )
        lines.append(markdown("{}: {}.", label, Markdown("; ").join(each)))
    return lines


def in_short(evidence: Evidence) -> str:
    """The answer in three sentences: which BEGIN, when it pays, and whether commits are safe."""
    told = tell(evidence).every
    parts = (_which(told), _pays(told, _on(evidence)), _safe(told, cures(evidence)))
    return " ".join(part for part in parts if part) or "These runs hold no answer."


def _which(told: Mapping[str, Finding]) -> str:
    """Which BEGIN a request that may write needs."""
    plain_one = told["plain-begin"]
    has = {
        REFUSED: "libSQL refuses BEGIN CONCURRENT",
        ACCEPTED: "libSQL accepts BEGIN CONCURRENT",
    }.get(told["acceptance"].verdict, "")
    if plain_one.verdict == REFUSED:
        why = plain_one.sentence[0].lower() + plain_one.sentence[1:]
        use = f"begin a request that may write with BEGIN IMMEDIATE, because {why}"
        return f"{has}; {use}." if has else f"{use[0].upper()}{use[1:]}."
    return f"{has}." if has else ""


def _on(evidence: Evidence) -> str:
    """The cores that the headline's numbers are of."""
    pair = mode_pair(evidence)
    cores = cores_of(pair.candidate) if pair else 0
    return f"on {times(cores, 'core')} " if cores else ""


def _pays(told: Mapping[str, Finding], on: str) -> str:
    """When BEGIN CONCURRENT pays. on : what machine, with a space behind."""
    mode, loses = told["mode"], told["where-it-loses"]
    if not mode.measured:
        return ""
    alone = mode.parts[0].name == "mode"
    says = {
        MORE: "pays",
        LESS: "loses",
        NONE: "makes no claimed difference",
        UNKNOWN: "was tried in too few blocks to say whether it pays",
    }[mode.verdict]
    what = "The mode alone" if alone else "Mode and library together"
    lead = f": {mode.lead}" if mode.parts[0].estimate.known else ""
    again = ", if you rerun what it refuses" if mode.verdict == MORE else ""
    lost = loses.measured and loses.sentence.startswith("BEGIN CONCURRENT")
    also = f"; {loses.sentence.replace('BEGIN CONCURRENT', 'it', 1)}" if lost else ""
    return (
        f"{what}, by another library on libSQL's file, {says} {on}with {mode.holds}{lead}"
        f"{again}{also}."
    )


def _safe(told: Mapping[str, Finding], helps: Sequence[str]) -> str:
    """Whether acknowledged commits are safe, and what helps."""
    lost = told["lost-commits"]
    if lost.verdict != BROKEN:
        return f"{lost.sentence}." if lost.measured else ""
    tried = [f"; c{said[1:]}" for said in lost.numbers if said.startswith("Cure")]
    cure = f": use {either(helps)}" if helps else "".join(tried)
    return f"{lost.sentence} ({lost.holds}){cure}."


# --- promises, and who has the mode -------------------------------------------------------------


def promises(evidence: Evidence) -> Finding:
    """Is the isolation kept that is promised, in one file and beyond?"""
    key, command = "isolation", "pytest properties -k known_deviation"
    rows = isolation.accepted(evidence.isolation)
    if not rows:
        return missing(key, "Whether the promised isolation is kept", command)
    broken = [row for row in rows if row["deviations"]]
    schedules = whole(sum(row["schedules"] for row in rows))
    beyond_one = isolation.beyond(evidence.known)
    runs = code("isolation.json")
    if broken:
        who = list(dict.fromkeys(map(isolation.who, broken)))
        few = listed(who[:3]) if len(who) <= 3 else f"{listed(who[:2])} and {len(who) - 2} more"
        level = (broken[0]["promised"] or {}).get("level", "isolation")
        died = sum(row["died"] for row in broken)
        seen = list(dict.fromkeys(name for row in broken for name in isolation.families(row)))
        numbers = [
            f"Seen in {schedules} schedules: "
            + (listed(seen[:4]) if seen else "an effect that the model forbids")
        ]
        if died:
            numbers.append(f"{whole(died)} took the process down")
        return Finding(
            key,
            BROKEN,
            f"{few} {'break' if len(who) > 1 else 'breaks'} the promise of {level}",
            numbers=numbers,
            command=f"pytest properties --engine {broken[0]['engine']}",
            runs=runs,
            grave=True,
        )
    if beyond_one:
        return Finding(
            key,
            BROKEN,
            "Beyond one file or usual settings, promises of isolation break",
            numbers=[f"In one file with usual settings none of {schedules} schedules broke one"],
            holds=beyond_one,
            command=command,
            runs=runs,
            grave=True,
        )
    return Finding(
        key,
        NONE,
        "No broken promise of isolation was seen, which is no proof that none can be",
        numbers=[f"{schedules} schedules over {len(rows)} engines and modes"],
        command="pytest properties",
        runs=runs,
        sought=True,
    )


def acceptance(evidence: Evidence) -> Finding:
    """Does libSQL itself accept it?"""
    key, command = "acceptance", "cwkit engines"
    probe = evidence.probes.get("libsql")
    answer = probe.modes.get("concurrent") if probe else None
    if probe is None or answer is None:
        why = probe.missing if probe and probe.missing else ""
        return missing(key, "Whether libSQL accepts BEGIN CONCURRENT", command, why)
    version = probe.identity.binding if probe.identity else "libSQL"
    others = [
        name
        for name, other in evidence.probes.items()
        if name != "libsql"
        and (theirs := other.modes.get("concurrent")) is not None
        and theirs.accepted
        and theirs.overlaps
    ]
    let = "let" if len(others) > 1 else "lets"
    have = [f"{listed(others)} {let} writers overlap"] if others else []
    if not answer.accepted:
        return Finding(
            key,
            REFUSED,
            "libSQL refuses BEGIN CONCURRENT, so only another library can bring it to its file",
            numbers=[f"{version}: “{few_words(answer.message)}”", *have],
            command=command,
        )
    acts = {True: "and its writers overlap", False: "but acts as a single writer"}
    how = acts[answer.overlaps] if answer.overlaps is not None else "(overlap not tried)"
    return Finding(
        key,
        ACCEPTED,
        f"libSQL accepts BEGIN CONCURRENT {how}",
        numbers=[version, *have],
        command=command,
    )


def mission(evidence: Evidence) -> Finding:
    """Do BEGIN CONCURRENT writers and libSQL readers keep one libSQL database whole?"""
    key = "mission"
    command = (
        "cwkit run --writers 4 --write-engine sqlite-concurrent --begin concurrent --readers 4"
    )
    for arm, cell in evidence.cells():
        plan = arm.plan
        mixed = plan["database"] == "libsql" == plan["read_engine"] and plan["readers"]
        if not (mixed and plan["begin"] == "concurrent" and arm.writers):
            continue
        question = "Whether BEGIN CONCURRENT writers and libSQL readers can share a file"
        checks = cell.manifest.findings if cell.manifest else []
        if cell.counted is None or not checks:
            return missing(key, question, command, cell.failure or "nothing was checked")
        writer, reader = cell.counted.roles["writer"], cell.counted.roles["reader"]
        held = sum(check.ok for check in checks)
        took = f"{whole(writer.committed)} commits and {whole(reader.committed)} reads"
        refused = percent(writer.abort_rate[1])
        whole_one = held == len(checks)
        verdict = f"{_all(len(checks))} held"
        if not whole_one:
            said = few_words(cell.broken[0].sentence.rstrip("."))
            verdict = markdown("{} of {} checks did not hold ({})", len(checks) - held,
                               len(checks), said)  # fmt: skip
        stayed = "stays whole" if whole_one else "does not stay whole"
        return Finding(
            key,
            KEPT if whole_one else BROKEN,
            f"One libSQL database {stayed} under BEGIN CONCURRENT writers and libSQL readers",
            numbers=[
                f"{took} in {number(cell.counted.seconds)} s, {refused} refused",
                verdict,
            ],
            holds=f"{times(writer.workers, plan['write_engine'] + ' writer')} in "
            f"{begin_label(plan['begin'])}, {times(reader.workers, 'reader')}",
            command=command,
            runs=where(arm),
            grave=not whole_one,
        )
    question = "Whether BEGIN CONCURRENT writers and libSQL readers can share a file"
    return absent(evidence, key, question, command)


def _all(checks: int) -> str:
    return "its one check" if checks == 1 else f"all {checks} checks"


def doubts(evidence: Evidence) -> list[str]:
    """Doubts that a reader must know before the first number."""
    lines: list[str] = list(evidence.unread)
    lines += [f"Beside libSQL's server, a check did not hold: {w}" for w in evidence.served.broken]
    for name, trial in evidence.trials.items():
        lines += [f"Trial {name}, a check did not hold: {words}" for words in trial.broken]
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
        if (sentence := slump_clause(measured))
    ]
    if warm := [(a, c) for a, c in evidence.cells() if c.manifest and cache_clause(c.manifest)]:
        arm, cell = warm[0]
        assert cell.manifest is not None
        place = code(f"{arm.measured.name}/{cell.run}")
        many, why = times(len(warm), "run"), cache_clause(cell.manifest)
        lines.append(markdown("{} did not begin cold, the first {}: it {}.", many, place, why))
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
            markdown(
                "This is a quick report: few, short blocks.{} `make report` measures longer.",
                _undecided(evidence),
            )
        )
    return lines


def notes(evidence: Evidence) -> list[Markdown]:
    """What became of single runs, which changes no answer and stands behind them."""
    lines, total = [], sum(1 for _ in evidence.cells())
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
    if again := spares_clause(evidence.experiments.values(), total):
        lines.append(markdown("{}", again))
    return lines


def _undecided(evidence: Evidence) -> Markdown:
    """The questions that these runs leave open, with a space in front; "" where there are none."""
    names = [one.experiment for one in evidence.facts.cannot_decide]
    return markdown(" It cannot decide {}.", listed_names(names)) if names else Markdown("")
