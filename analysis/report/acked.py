"""The search for lost acknowledged commits: each run of the scenario `acked`, as plain facts.

Runs of the report and of a sweep `acked` are looked up by what they asked for, never by an arm's
name. `lost_commits.py` words them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_type_hints

from analysis.counting import Arm, CountedCell, Measured
from analysis.wording import Table, listed, number, times, whole

RACING, ONE, LOCKED, ORDINARY, OTHER = "racing", "one", "locked", "ordinary", "other"
"""Who checkpoints. racing: several connections without pause, beside writers that time their
commits for it. one: the same, but a single connection, and nobody else. locked: as either, but
never by PASSIVE checkpoints: FULL, RESTART and TRUNCATE take the writers' lock. ordinary: each
writer by itself, by wal_autocheckpoint. other: anything else."""

LOST, NONE, NOT_MEASURED = "lost", "none lost", "not measured"

ENOUGH = 10
"""A control is long enough if it ran so many times as long as the losing libraries needed."""

FIXED = (3, 51, 3)
"""The first SQLite without the WAL-reset race: https://sqlite.org/wal.html#walresetbug"""


class AckedRow(NamedTuple):
    """One run that looked for lost acknowledged commits.

    engine, binding, version : the library of the connections that checkpoint, for theirs decides.
    load : RACING, ONE, LOCKED, ORDINARY or OTHER. condition : the same in words, with the plan's
    numbers. seconds : measured; up to the first loss where there was one. restarts : how often the
    log began again, -1 where nobody knows. acknowledged : commits. unseen : those that a later
    reader did not find at once. lost : those that were gone after the run, too (a thousand at
    most). why : why it was not measured. sentence : the check that did not hold.
    """

    experiment: str
    run: str
    engine: str
    binding: str
    version: str
    load: str
    condition: str
    synchronous: str
    seconds: float
    restarts: int
    acknowledged: int
    unseen: int
    lost: int
    verdict: str
    why: str
    sentence: str

    @property
    def library(self) -> str:
        """The binding with its SQLite: "libsql-experimental 0.0.55 (SQLite 3.45.1)"."""
        return f"{self.binding or self.engine}{f' (SQLite {self.version})' if self.version else ''}"

    @property
    def engine_version(self) -> tuple[str, str]:
        """The engine and its SQLite, by which runs belong together; the binding's version, a
        Python's for one, does not matter where SQLite's is known.
        """
        return self.engine, self.version or self.binding

    @property
    def short_name(self) -> str:
        """The engine with its SQLite: "libsql (SQLite 3.45.1)"."""
        return f"{self.engine}{f' (SQLite {self.version})' if self.version else ''}"


class AckedGroup(NamedTuple):
    """All measured runs of one library under one condition."""

    rows: tuple[AckedRow, ...]

    @property
    def first(self) -> AckedRow:
        return self.rows[0]

    @property
    def losses(self) -> tuple[AckedRow, ...]:
        """The runs that lost a commit, the soonest first."""
        return tuple(sorted((r for r in self.rows if r.verdict == LOST), key=lambda r: r.seconds))

    @property
    def seconds(self) -> float:
        """Of all runs together."""
        return sum(row.seconds for row in self.rows)

    @property
    def acknowledged(self) -> int:
        return sum(row.acknowledged for row in self.rows)

    @property
    def unseen(self) -> int:
        return sum(row.unseen for row in self.rows)

    @property
    def lost(self) -> int:
        return sum(row.lost for row in self.rows)

    @property
    def restarts(self) -> int:
        """How often the log began again, without runs of which nobody knows."""
        return sum(row.restarts for row in self.rows if row.restarts > 0)


@dataclass(frozen=True)
class Acked:
    """Everything that the runs of `acked` say. rows : by run, also those that were not measured."""

    rows: tuple[AckedRow, ...] = ()

    @cached_property
    def groups(self) -> tuple[AckedGroup, ...]:
        """By library, condition and synchronous; those that lost a commit first."""
        found: dict[tuple[str, ...], list[AckedRow]] = {}
        for row in self.rows:
            if row.verdict != NOT_MEASURED:
                key = (*row.engine_version, row.condition, row.synchronous)
                found.setdefault(key, []).append(row)
        made = [AckedGroup(tuple(rows)) for rows in found.values()]
        return tuple(sorted(made, key=lambda group: not group.losses))

    def of(self, *loads: str) -> tuple[AckedGroup, ...]:
        """The groups of these loads."""
        return tuple(group for group in self.groups if group.first.load in loads)

    @property
    def losers(self) -> tuple[AckedGroup, ...]:
        """The groups that lost a commit, under whatever condition."""
        return tuple(group for group in self.groups if group.losses)

    @property
    def controls(self) -> tuple[AckedGroup, ...]:
        """Libraries that never lost one, raced under a condition under which another lost some."""
        bad = {group.first.engine_version for group in self.losers}
        where = {(g.first.condition, g.first.synchronous) for g in self.losers}
        return tuple(
            group
            for group in self.of(RACING)
            if group.first.engine_version not in bad
            and (group.first.condition, group.first.synchronous) in where
        )

    def needed(self, synchronous: str) -> tuple[AckedRow, ...]:
        """The runs of raced libraries that lost a commit at a level of synchronous.

        Such a library's run that ended without a loss is among them: it needed longer than that.
        """
        return tuple(
            row
            for group in self.losers
            if group.first.load == RACING and group.first.synchronous == synchronous
            for row in group.rows
        )

    def times_as_long(self, group: AckedGroup) -> float:
        """The length of runs without a loss, as a multiple of the longest that a raced library
        needed for one at the same level of synchronous; 0 where none needed any.
        """
        longest = max((row.seconds for row in self.needed(group.first.synchronous)), default=0.0)
        return group.seconds / longest if longest else 0.0

    def chances(self, group: AckedGroup) -> int:
        """The most restarts of the log, each a chance of the race, that the group's library had in
        a run before it lost a commit; 0 where nobody knows.
        """
        mine = [
            row.restarts
            for other in self.losers
            if other.first.load == RACING
            and other.first.engine_version == group.first.engine_version
            for row in other.losses
        ]
        return max([0, *mine])

    def seldom(self, group: AckedGroup) -> bool:
        """Whether runs without a loss had too few chances of the race to say much."""
        return 0 < group.restarts < ENOUGH * self.chances(group)

    @property
    def spared(self) -> tuple[AckedGroup, ...]:
        """Ways to checkpoint under which a library that loses commits in the race lost none."""
        bad = {group.first.engine_version for group in self.losers if group.first.load == RACING}
        return tuple(
            group
            for group in self.of(ONE, LOCKED)
            if not group.losses and group.first.engine_version in bad
        )

    @property
    def cures(self) -> tuple[AckedGroup, ...]:
        """Those of `spared` that ran long enough to be called a cure."""
        return tuple(group for group in self.spared if self.times_as_long(group) >= ENOUGH)


def acked_of(measured: Iterable[Measured]) -> Acked:
    """The runs of `acked` in experiments and sweeps."""
    return Acked(tuple(row for one in measured for row in _rows(one)))


def is_acked(measured: Measured) -> bool:
    """All arms run the scenario `acked`: they are shaped to break, not to be fast."""
    return all(arm.plan["scenario"] == "acked" for arm in measured.arms.values())


def _rows(measured: Measured) -> Iterator[AckedRow]:
    for _, cell in sorted(measured.cells.items()):
        arm = measured.arms[cell.arm]
        if arm.plan["scenario"] == "acked":
            yield _row(measured, arm, cell)


def _row(measured: Measured, arm: Arm, cell: CountedCell) -> AckedRow:
    plan, manifest, counted = arm.plan, cell.manifest, cell.counted
    engine = plan["checkpoint_engine" if plan["checkpointers"] else "write_engine"]
    entry = manifest.engines.get(engine) if manifest else None
    said = {one.check: one.evidence for one in (manifest.findings if manifest else ())}
    after, during = said.get("acknowledged values", {}), said.get("during the run", {})
    broken = cell.broken
    log = counted.wal if counted else None
    writers = counted.roles.get("writer") if counted else None
    acknowledged = after.get("acknowledged", writers.committed if writers else 0)
    known = counted is not None and (bool(broken) or cell.state == "done")
    verdict = (LOST if broken else NONE) if known else NOT_MEASURED
    return AckedRow(
        experiment=measured.name,
        run=cell.run,
        engine=engine,
        binding=entry.binding if entry else "",
        version=entry.version if entry else "",
        load=load_of(plan),
        condition=condition_of(plan),
        synchronous=str(plan["synchronous"]).upper(),
        seconds=_seconds(cell),
        restarts=-1 if log is None or log.restarts is None else int(log.restarts),
        acknowledged=acknowledged if isinstance(acknowledged, int) else 0,
        unseen=_many(during.get("missing")),
        lost=_many(after.get("lost")),
        verdict=verdict,
        why="" if verdict != NOT_MEASURED else cell.failure or "no run",
        sentence=broken[0].sentence if broken else "",
    )


def _seconds(cell: CountedCell) -> float:
    """Of the whole window where it is known, for a count leaves out what was not steady yet."""
    if cell.manifest is not None and (window := cell.manifest.window).stop_ns:
        return (window.stop_ns - window.measure_ns) / 1e9
    return float(cell.counted.seconds) if cell.counted else 0.0


def _many(listed_ones: Any) -> int:
    return len(listed_ones) if isinstance(listed_ones, list) else 0


def load_of(plan: Mapping[str, Any]) -> str:
    """Who checkpoints in a run of this plan."""
    by_itself, many = bool(plan["wal_autocheckpoint"]), plan["checkpointers"]
    if not many:
        return ORDINARY if by_itself else OTHER
    if plan["checkpoint_pause_ms"]:
        return OTHER
    if plan["checkpoint"] != "passive":
        return OTHER if by_itself else LOCKED
    return ONE if many == 1 and not by_itself else RACING


def condition_of(plan: Mapping[str, Any]) -> str:
    """Who writes and who checkpoints in a run of this plan, in words."""
    writers, many = times(plan["writers"], "writer"), plan["checkpointers"]
    every = f"every {whole(plan['wal_autocheckpoint'])} pages"
    if not many:
        if not plan["wal_autocheckpoint"]:
            return f"{writers} and no checkpoints"
        if plan["writers"] == 1:
            return f"1 writer that checkpoints by itself {every}, and no other checkpoints"
        return f"{writers} that checkpoint by themselves {every}, and no other checkpoints"
    pause, mode = plan["checkpoint_pause_ms"], plan["checkpoint"].upper()
    how = f"with pauses of about {number(pause)} ms" if pause else "without pause"
    how += "" if mode == "PASSIVE" else f" by wal_checkpoint({mode})"
    how += "" if plan["wal_autocheckpoint"] else ", and nobody else does"
    who = "one process that checkpoints" if many == 1 else f"{many} processes that checkpoint"
    return f"{writers} and {who} {how}"


def may_lose(version: str) -> bool | None:
    """Whether a SQLite is older than the first release without the race; None where its version is
    no SQLite's. Some older branches may have the mend all the same.

    >>> may_lose("3.45.1"), may_lose("3.51.3"), may_lose("")
    (True, False, None)
    """
    try:
        return tuple(map(int, version.split("."))) < FIXED
    except ValueError:
        return None


def seconds_of(rows: Iterable[AckedRow]) -> str:
    """Their seconds, as "0.35 s" or "0.2 to 8.3 s"."""
    each = sorted(row.seconds for row in rows)
    ends = list(dict.fromkeys([number(each[0]), number(each[-1])]))
    return f"{' to '.join(ends)} s"


def libraries(groups: Iterable[AckedGroup]) -> str:
    """Their libraries, each once."""
    return listed(list(dict.fromkeys(group.first.library for group in groups)))


def rows_table(found: Acked) -> Table:
    """Every run with all that is known of it, as text; `rows_of_text` reads it back."""
    return Table(AckedRow._fields, [tuple(map(str, row)) for row in found.rows])


def rows_of_text(rows: Iterable[Mapping[str, str]]) -> Acked:
    """The runs of `rows_table`, of a CSV file that was kept, say.

    Raises ValueError for a column that is missing, or a number that is none.
    """
    made = []
    for row in rows:
        values: dict[str, Any] = {}
        for name, kind in get_type_hints(AckedRow).items():
            if name not in row:
                raise ValueError(f"there is no column {name}")
            values[name] = kind(row[name])
        made.append(AckedRow(**values))
    return Acked(tuple(made))
