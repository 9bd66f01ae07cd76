"""The conditions of two runs: what they must have in common to be compared, and where they differ.

A ratio of two runs measures the effect of one thing only if everything else is alike: the plan, the
scenario's parameters, the pragmas as each connection read them back, the libraries' versions, the
machine, the checkout. Each of these is a fact with a name. Whoever compares names the factors, and
any other fact that differs is a confounder: it refuses the comparison.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from analysis import wording
from workloads.engines import PRAGMAS, asked_pragmas, holds
from workloads.errors import PlanError, RunError, nearest, shortened
from workloads.records import Machine, Manifest
from workloads.runs import RESIDENT_LIMIT, ROLES, Plan, file_of
from workloads.scenarios import TRANSACTING, Shape

NEVER = ("machine", "oversubscribed")
"""Facts that can't be factors: the ratio would be the machines', or the neighbours'."""

ROLE_FIELDS = {
    "writer": ("write_engine", "begin", "rate"),
    "reader": ("read_engine", "read_begin", "read_rate"),
    "checkpointer": ("checkpoint", "checkpoint_engine", "checkpoint_pause_ms"),
}
"""Fields of a plan that mean nothing where the role has no worker."""

IDENTITY = ("binding", "version", "source_id", "options", "file")
"""Facts of an engine's library; file: the content of the user's file that defines the engine."""

GROUPS = {
    "engine": ("database", "write_engine", "read_engine", "checkpoint_engine"),
    "engine_version": tuple(f"{who}.{part}" for who in ("database", *ROLES) for part in IDENTITY),
    "pragmas": tuple(f"{role}.{name}" for role in ROLES for name in PRAGMAS.values()),
    "commit": ("source",),
    "loop": tuple(f"{role}.loop" for role in TRANSACTING),
}
"""Names for --vary that stand for several facts."""

OLD_NAMES = {"way": "started_by"}
"""Older names that --vary still takes."""

LIMITS = ("deadline_s", "load_limit_s", "check_limit_s")
"""Fields of a plan that decide whether a run is made, and nothing of what it measures."""

NOT_TAKEN = "(not set)"
"""Of a connection whose engine takes no pragmas, beside others that do."""

IGNORED = ("params", "retry", "cpus", *LIMITS)
MACHINE = ("kernel", "architecture", "python", "numpy", "file_system", "governor", "cores")
SURROUNDINGS = (*MACHINE, *NEVER, "commit", "source", "started_by", "jobs", "cpus")
"""Facts that no plan asks for."""


def cache_clause(manifest: Manifest) -> str:
    """That a run which was to be cold was not, without a full stop; "" where all is as asked."""
    if manifest.plan.cache != "cold" or manifest.plan.database == "null":
        return ""
    if (share := manifest.cached) is None:
        return "was to begin cold, and how much of its database was in memory is not known"
    if share <= RESIDENT_LIMIT:
        return ""
    system = manifest.machine.file_system
    return (
        f"was to begin cold, but {wording.percent(share)} of its database stayed in memory: its "
        f"file system{system and f' ({system})'} did not drop it"
    )


def pragma_clauses(manifest: Manifest) -> list[tuple[str, bool]]:
    """Each pragma that was asked for beside those of the kit's own: what every connection read
    back, without a full stop, and whether that is what was asked.
    """
    found = []
    try:
        asked = asked_pragmas(manifest.plan.pragma)
    except ValueError:
        return [(f"PRAGMA {shortened(manifest.plan.pragma)}: nobody can read it", False)]
    for name, value in asked:
        each = [entry.pragmas for entry in manifest.workers if entry.pragmas]
        answers = dict.fromkeys(pragmas.get(name, NOT_TAKEN) for pragmas in each)
        text = " or ".join(str(answer) for answer in answers) or "no connection told it"
        well = bool(answers) and all(holds(name, value, answer) for answer in answers)
        said = f"PRAGMA {name}={value}, read back: {text}"
        found.append((said if well else f"{said}; it was refused, ignored, or has no answer", well))
    return found


def network_clause(manifest: Manifest) -> str:
    """The network between the clients and the server, as it was asked for and as it was measured,
    without a full stop; "" where the run had the engine's nearest way.
    """
    asked, found = manifest.plan.network, manifest.network
    if not asked or asked == "tcp":
        return "TCP over loopback, without a relay" if asked else ""
    if found is None or not found.rtt_ms:
        return f"{asked}; its round trip was not measured"
    cuts = f"; cut {wording.times(found.cuts, 'time')}" if found.cuts else ""
    return (
        f"{asked}: round trip asked {found.asked_ms:g} ms, measured {found.rtt_ms:.3g} ms (past "
        f"the relay {found.direct_ms:.2g} ms); TCP's handshake is not delayed{cuts}; in the run "
        f"messages went on {found.late_ms:.2g} ms late in the mean, {found.most_late_ms:.3g} ms "
        f"at most; the relay used {found.cpu_s:.3g} s of CPU time"
    )


class Difference(NamedTuple):
    """A fact that two runs do not share; None where one of them has no such fact."""

    fact: str
    a: Any
    b: Any

    def text(self) -> str:
        """The fact and both its values, in a few words."""
        a, b = (short(value, other) for value, other in ((self.a, self.b), (self.b, self.a)))
        return f"{self.fact} ({a} against {b})"


class NotComparable(RunError):
    """Two runs that must not be compared; the text says which fact, and the way out."""


def facts(manifest: Manifest) -> dict[str, Any]:
    """Everything of a manifest that a comparison rests on, by name; plain values.

    Plan fields and scenario parameters stand under their own names, what each role's connections
    are and read back under `writer.version`, `writer.synchronous` and so on, the machine's and the
    checkout's under kernel, file_system, commit, ... Nothing that the run measured is among them.
    """
    plan = manifest.plan
    found = {name: value for name, value in plan.model_dump(mode="json").items()
             if name not in IGNORED}  # fmt: skip
    for role, fields in ROLE_FIELDS.items():
        if not found[f"{role}s"]:
            found = {name: value for name, value in found.items() if name not in fields}
    retry = plan.retry
    found["retry"] = retry.policy
    if retry.policy == "exponential":
        found |= {"retry_base_us": retry.base_us, "retry_cap_us": retry.cap_us}
    if retry.policy != "none":
        found["most_tries"] = retry.most_tries
    found |= {**plan.params, **manifest.scenario.params}
    return found | _libraries(manifest) | _surroundings(manifest)


def _libraries(manifest: Manifest) -> dict[str, Any]:
    """Versions and pragmas of each role, as its connections reported them."""
    found: dict[str, Any] = {}
    files = manifest.machine.files or {}
    if file := file_of(manifest.plan.scenario):
        found["scenario.file"] = files.get(file)
    who = {"database": manifest.plan.database}
    who |= {entry.role: entry.engine for entry in manifest.workers}
    for name, engine in who.items():
        identity = manifest.engines[engine].data() if engine in manifest.engines else {}
        if file := file_of(engine):
            found[f"{name}.file"] = files.get(file)
        found |= {f"{name}.{part}": identity[part] for part in IDENTITY if part in identity}
    for role in ROLES:
        entries = [entry.pragmas for entry in manifest.workers if entry.role == role]
        for pragma in dict.fromkeys(name for pragmas in entries for name in pragmas):
            values = sorted({str(pragmas.get(pragma)) for pragmas in entries if pragmas})
            found[f"{role}.{pragma}"] = " or ".join(values)
    for role in TRANSACTING:
        # As its workers had it: one whose build does not load takes the other.
        if loops := {e.loop or manifest.plan.loop for e in manifest.workers if e.role == role}:
            found[f"{role}.loop"] = " or ".join(sorted(loops))
    return found


def _surroundings(manifest: Manifest) -> dict[str, Any]:
    machine, conduct = manifest.machine, manifest.conduct.data()
    entries = machine.data()
    found = {name: entries[name] for name in MACHINE if name in entries}
    found["commit"] = machine.cwkit_commit
    if machine.cwkit_source is not None:  # a commit says nothing of what was changed since
        found["source"] = machine.cwkit_source
    found["machine"] = machine.id or _by_its_parts(machine)
    if "way" in conduct:
        found["started_by"] = conduct["way"]
    if "jobs" in conduct:
        found["jobs"] = conduct["jobs"]
    found["oversubscribed"] = manifest.conduct.oversubscribed
    if cpus := manifest.conduct.cpus or manifest.plan.cpus:
        found["cpus"] = len(cpus)  # which ones a cell got is the chance of a free slot
    return found


def _by_its_parts(machine: Machine) -> str:
    """A machine's name by its parts, for older manifests, which have no id of it."""
    # Memory as the kernel counts it changes a little with each start of the machine.
    return f"{machine.cpu}, {round((machine.memory_bytes or 0) / 2**30)} GiB"


def differences(a: Manifest, b: Manifest) -> list[Difference]:
    """Where the facts of two runs differ, in the order of the first's."""
    one, other = facts(a), facts(b)
    if bool(a.machine.id) != bool(b.machine.id):
        one["machine"], other["machine"] = _by_its_parts(a.machine), _by_its_parts(b.machine)
    names = dict.fromkeys([*one, *other])
    for unsaid in _unsaid(a) | _unsaid(b):
        names.pop(unsaid, None)
    found = [Difference(name, one.get(name), other.get(name)) for name in names]
    return [d for d in found if d.a != d.b]


def _unsaid(manifest: Manifest) -> set[str]:
    """Facts of the code that an older manifest does not tell: nothing is known of them."""
    unsaid = {"source"} if manifest.machine.cwkit_source is None else set()
    if manifest.machine.files is None:
        unsaid |= {f"{who}.file" for who in ("scenario", "database", *ROLES)}
    return unsaid


def confounders(found: Collection[Difference], factors: Collection[str]) -> list[Difference]:
    """Confounders: differences that are neither factors nor follow from a factor.

    factors : their names. Another engine brings its own version and pragmas. Another
    `synchronous` is read back as such. Where only one run has readers, the readers' fields differ
    too and need not be declared. Durability follows from nothing but `synchronous`: an engine that
    made it weaker would win by it. `null` stores nothing and so reports no durability; a server
    reports settings of its own, under which it keeps what the plan's `synchronous` asks for.
    """
    asked = {d.fact for d in found} & set(factors)
    implied = set(asked) - set(NEVER)
    engines = {"database": "database", **{f[0]: role for role, f in ROLE_FIELDS.items()}}
    engines |= {"checkpoint_engine": "checkpointer"}
    for name, who in engines.items():
        if name in asked:
            implied |= {f"{who}.{part}" for part in IDENTITY}
            implied |= {f"{who}.{p}" for p in PRAGMAS.values() if p != "synchronous"}
            # Settings that the other has not: one has fsync, one has synchronous.
            implied |= {
                d.fact for d in found if d.fact[: len(who) + 1] == f"{who}." and None in d[1:]
            }
    if "database" in asked:  # the file is another engine's: journal mode and pages follow it
        implied |= {f"{role}.{p}" for role in ROLES for p in ("journal_mode", "page_size")}
    for name, pragma in PRAGMAS.items():
        if name in asked:
            implied |= {f"{role}.{pragma}" for role in ROLES}
    if "pragma" in asked:
        texts = (text for d in found if d.fact == "pragma" for text in d[1:] if text)
        names = {part.partition("=")[0] for text in texts for part in text.split(",")}
        implied |= {f"{role}.{name}" for role in ROLES for name in names}
    if "loop" in asked:
        implied |= set(GROUPS["loop"])
    if "retry" in asked:
        implied |= {"retry_base_us", "retry_cap_us", "most_tries"}
    if "scenario" in asked:
        implied |= {"scenario.file"}
        implied |= {d.fact for d in found if _asked(d.fact) and d.fact not in Plan.model_fields}
    for role, fields in ROLE_FIELDS.items():
        if f"{role}s" in asked:
            present = [d for d in found if d.a is None or d.b is None]
            implied |= {d.fact for d in present if d.fact.startswith(f"{role}.")}
            implied |= {d.fact for d in present if d.fact in fields}
    return [d for d in found if d.fact not in implied]


def confounders_between(a: Manifest, b: Manifest) -> list[Difference]:
    """Confounders of two runs of one experiment: differences that their plans don't ask for."""
    found = differences(a, b)
    return confounders(found, asked_for(found))


def why_not_alike(these: Collection[Difference]) -> str:
    """Why two runs are not compared, as what follows their names."""
    if any(difference.fact == "machine" for difference in these):
        return "were made on different machines"
    durable = [difference for difference in these if difference.fact.endswith(".synchronous")]
    if durable:
        return f"differ in durability, {wording.listed([d.text() for d in durable])}"
    return f"are not alike in {wording.listed([d.text() for d in these])}"


def least(these: Collection[Difference], found: Collection[Difference]) -> list[Difference]:
    """The fewest of these differences that account for all of them once they are factors."""
    named: list[Difference] = []
    known = {difference.fact for difference in found}
    for difference in these:
        if difference in confounders(found, factors_named([to_vary(one) for one in named], known)):
            named.append(difference)
    return named


def to_vary(difference: Difference) -> str:
    """The name to give to --vary for it."""
    if difference.fact in GROUPS["commit"]:
        return "commit"
    version = difference.fact in GROUPS["engine_version"]
    return ("engine_version" if version else difference.fact).replace("_", "-")


def factors_named(names: Collection[str], known: Collection[str] = ()) -> set[str]:
    """The facts that --vary names stand for. Raises PlanError for a name that is none.

    known : facts that the compared runs have beyond those of every run (their parameters).

    >>> sorted(factors_named(["engine-version"]))[:2], factors_named(["begin"])
    (['checkpointer.binding', 'checkpointer.file'], {'begin'})
    """
    every = {*Plan.model_fields, *Shape.model_fields, *SURROUNDINGS, *GROUPS, *known}
    every |= {name for group in GROUPS.values() for name in group}
    every |= {"retry_base_us", "retry_cap_us", "most_tries"}
    every -= {"params", *LIMITS, *NEVER}
    found: set[str] = set()
    for given in names:
        name = given.strip().replace("-", "_")
        name = OLD_NAMES.get(name, name)
        if name in NEVER:
            raise PlanError(
                f"--vary {given}: runs of different machines, or made beside more work than the "
                "machine has CPUs for, are never compared: the ratio would be of that."
            )
        if name not in every:
            near = nearest(name, sorted(every))
            hint = f" Did you mean {near!r}?" if near else ""
            raise PlanError(
                f"--vary {given}: no run has such a fact.{hint} Give fields of the plan or of the "
                "scenario, or engine, engine-version, pragmas, commit, kernel, file-system, …"
            )
        found |= {name, *GROUPS.get(name, ())}
    return found


def asked_for(found: Collection[Difference]) -> set[str]:
    """Those differences that two arms of one experiment were asked for, by their plans.

    The seed is never one of them: an experiment gives both arms of a block the same.
    """
    return {d.fact for d in found if _asked(d.fact)} - {"seed"}


def _asked(fact: str) -> bool:
    """Whether it is a field of a plan, or a scenario's parameter."""
    return "." not in fact and fact not in SURROUNDINGS


def short(value: Any, other: Any = None) -> str:
    r"""A fact's value in a few words; of two lists, what the other one lacks.

    >>> short(["sell.sql@9\nBEGIN;\nCOMMIT;"], ["look.sql\nSELECT 1;"])
    'with sell.sql@9 …'
    """
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        only = [_first_line(str(item)) for item in value if item not in (other or ())]
        more = " and more" if only[3:] else ""
        return f"with {wording.listed(only[:3])}{more}" if only else "-"
    text = f"{value:g}" if isinstance(value, float) else _first_line(str(value))
    return text if len(text) <= 40 else f"{text[:37]}…"


def _first_line(text: str) -> str:
    """Of a file of one's own SQL, which is its name and then its text."""
    first, more, _ = text.partition("\n")
    return first + " …" * bool(more)
