"""Whether every acknowledged commit stays: the words and the table of `facts.acked`.

Each function is one sentence, and each has the condition in its own words, so that it may stand
anywhere. None of them claims more than the runs: that nothing was lost is told with how much was
tried.
"""

from __future__ import annotations

from analysis.report.acked import (
    ENOUGH,
    ONE,
    ORDINARY,
    RACING,
    Acked,
    AckedGroup,
    libraries,
    may_lose,
    seconds_of,
)
from analysis.report.markdown import Markdown, bold, code, markdown
from analysis.wording import DASH, Table, listed, number, times, whole

CALM = "no crash and no power cut"
"""Part of every condition: a loss here is no matter of durability."""


def short(found: Acked) -> Markdown:
    """The finding: who lost commits, under which condition, how soon, and what kept them."""
    raced = [group for group in found.losers if group.first.load == RACING]
    if not raced:
        return losses(found)
    where = (raced[0].first.condition, raced[0].first.synchronous)
    mine = [g for g in raced if (g.first.condition, g.first.synchronous) == where]
    each = [markdown("{} after {}", g.first.engine, seconds_of(g.losses)) for g in mine]
    head = markdown(
        "{} with {}, synchronous {}, {}: {} (run {}).",
        bold("{} lost acknowledged commits", listed([g.first.short_name for g in mine])),
        *where,
        CALM,
        Markdown(", ").join(each),
        code(f"{mine[0].losses[0].experiment}/{mine[0].losses[0].run}"),
    )
    lines = [head]
    if elsewhere := [g for g in found.losers if g not in mine]:
        lines.append(markdown("{}.", Markdown("; ").join(map(_also, elsewhere))))
    if rest := _without_loss(found):
        lines.append(markdown("No commit was lost {}.", listed(rest)))
    if len(found.of(RACING)) > 1 and all(group.losses for group in found.of(RACING)):
        lines.append(markdown("Every library that was raced lost some: suspect the test."))
    return Markdown(" ").join(lines)


def _also(group: AckedGroup) -> Markdown:
    """A loss under another condition than the first."""
    row = group.losses[0]
    if row.load == ONE:
        return markdown(
            "A single process that checkpoints is no cure: {} lost some after {}",
            row.engine,
            seconds_of(group.losses),
        )
    return markdown(
        "{} lost some too with {}, after {}", row.engine, _where(group), seconds_of(group.losses)
    )


def _without_loss(found: Acked) -> list[str]:
    """In which runs none was lost, each with its time or commits, the shortest words first."""
    parts = []
    if fixed := found.controls:
        names = listed([group.first.short_name for group in fixed])
        many = _many_times(found, *fixed)
        parts.append(f"by {names} ({number(sum(g.seconds for g in fixed))} s, {many})")
    for group in found.spared:
        how = (
            "by one process that checkpoints" if group.first.load == ONE else "by FULL checkpoints"
        )
        seconds = number(group.seconds)
        parts.append(f"by {group.first.engine} {how} ({seconds} s, {_many_times(found, group)})")
    if calm := [group for group in found.of(ORDINARY) if not group.losses]:
        commits = times(sum(group.acknowledged for group in calm), "commit")
        parts.append(f"under ordinary loads ({commits}, which is no proof)")
    return parts


def _many_times(found: Acked, *groups: AckedGroup) -> str:
    """The least multiple of what the race needed, with a warning where it is too short."""
    least = min(map(found.times_as_long, groups))
    short = "" if least >= ENOUGH else ": too short for a control"
    return f"{number(least)} times what the race needed{short}"


def told(found: Acked) -> list[Markdown]:
    """Everything that the runs say, a sentence a line."""
    if not found.groups:
        return []
    lines = [losses(found), *controls(found), *quiet(found), cure(found), *affected(found)]
    return [line for line in lines if line]


def losses(found: Acked) -> Markdown:
    """Which libraries lost commits, under which condition, how soon; or that none did."""
    if not found.losers:
        return markdown(
            "{}: {}.",
            bold("No acknowledged commit was seen to be lost, which is no proof that none can be"),
            Markdown("; ").join(_kept(group) for group in found.groups[:4]),
        )
    parts = []
    for where in dict.fromkeys(_where(group) for group in found.losers):
        mine = [group for group in found.losers if _where(group) == where]
        each = Markdown("; ").join(_lost(group) for group in mine)
        head = bold("{} lost acknowledged commits", libraries(mine))
        parts.append(markdown("{} with {} ({}): {}.", head, where, CALM, each))
    raced = found.of(RACING)
    if len(raced) > 1 and all(group.losses for group in raced):
        parts.append(markdown("Every library that was raced lost some: suspect the test."))
    return Markdown(" ").join(parts)


def _where(group: AckedGroup) -> str:
    return f"{group.first.condition}, synchronous {group.first.synchronous}"


def _lost(group: AckedGroup) -> Markdown:
    """How soon and how many, of the run that lost first."""
    first, many = group.losses[0], len(group.rows)
    runs = f" in {len(group.losses)} of {times(many, 'run')}" if many > 1 else ""
    gone = [
        f"{whole(first.unseen)} not there for the next reader" if first.unseen else "",
        f"{whole(first.lost)} gone after the run, too" if first.lost else "",
    ]
    missing = listed([part for part in gone if part]) or first.sentence.rstrip(".")
    return markdown(
        "{} after {}{} (run {}: {} acknowledged, {})",
        group.first.engine,
        seconds_of(group.losses),
        runs,
        code(f"{first.experiment}/{first.run}"),
        whole(first.acknowledged),
        missing,
    )


def _kept(group: AckedGroup) -> Markdown:
    return markdown(
        "{} kept all {} in {} s with {} ({})",
        group.first.library,
        times(group.acknowledged, "acknowledged commit"),
        number(group.seconds),
        _where(group),
        _runs(group),
    )


def _runs(group: AckedGroup) -> Markdown:
    """The runs behind a group."""
    first, many = group.first, len(group.rows)
    name = code(f"{first.experiment}/{first.run}")
    return markdown("run {}", name) if many == 1 else markdown("{} from {}", f"{many} runs", name)


def controls(found: Acked) -> list[Markdown]:
    """Each fixed library under the condition under which another lost commits, with the length of
    the control against what that one needed.
    """
    return [markdown("The control {}: {}.", _kept(g), _length(found, g)) for g in found.controls]


def _length(found: Acked, group: AckedGroup) -> Markdown:
    """How long runs without a loss are, against what the race needed for one."""
    many = number(found.times_as_long(group))
    if found.times_as_long(group) >= ENOUGH:
        return markdown("{} times as long as the race needed for a loss elsewhere", many)
    return markdown(
        "only {} times as long as the race needed for a loss elsewhere, which is too short for a "
        "control: {} times is asked for (`cwkit sweep acked`)",
        many,
        ENOUGH,
    )


def quiet(found: Acked) -> list[Markdown]:
    """A library that lost commits when it was raced, under other conditions without a loss: other
    levels of synchronous, and ordinary loads, with how often the log began again in both.
    """
    bad = {group.first.engine_version for group in found.losers if group.first.load == RACING}
    lines = []
    for group in found.of(RACING, ORDINARY):
        if group.losses or group.first.engine_version not in bad:
            continue
        ordinary = group.first.load == ORDINARY
        what = "Under an ordinary load" if ordinary else "Raced at another level of synchronous"
        lines.append(markdown("{} {}: 0 lost{}.", what, _kept(group), _chances(found, group)))
    return lines


def _chances(found: Acked, group: AckedGroup) -> str:
    """How often the log began again, which is a chance of the race each time, "" where unknown."""
    needed = found.chances(group)
    if not group.restarts or not needed:
        return ""
    few = ", so this says little" if found.seldom(group) else ""
    return (
        f"; the log began again {times(group.restarts, 'time')}, and up to "
        f"{times(needed, 'time')} before a loss in the race{few}"
    )


def cure(found: Acked) -> Markdown:
    """Ways to checkpoint that kept all commits on a library that loses some when it is raced."""
    lines = []
    for groups, said in (
        (found.cures, "A cure, measured"),
        ([g for g in found.spared if g not in found.cures], "Tried, and no cure yet"),
    ):
        if groups:
            parts = [markdown("{}: {}", _kept(g), _length(found, g)) for g in groups]
            lines.append(markdown("{}: {}.", said, Markdown("; ").join(parts)))
    return Markdown(" ").join(lines)


def affected(found: Acked) -> list[Markdown]:
    """Each library with its SQLite's version and what follows from it, and whether it lost some."""
    lines = []
    for library, row in {g.first.library: g.first for g in found.groups}.items():
        may = may_lose(row.version)
        if may is None:
            continue
        seen = any(other.first.library == library for other in found.losers)
        lines.append(
            markdown(
                "{} {} older than 3.51.3, the first SQLite without the WAL-reset race, and {}.",
                library,
                "is" if may else "is not",
                "was seen to lose commits" if seen else "was not seen to lose any",
            )
        )
    return lines


HEAD = (
    *("checkpoints by", "condition", "synchronous", "runs", "measured, s", "first loss, s"),
    *(
        "commits acknowledged",
        "not there for the next reader",
        "gone after the run",
        "log restarts",
    ),
    *("verdict", "run"),
)


def table(found: Acked) -> Table:
    """A row for each library and condition, those that lost commits first."""
    rows = [
        (
            group.first.library,
            group.first.condition,
            group.first.synchronous,
            whole(len(group.rows)),
            number(group.seconds),
            seconds_of(group.losses).removesuffix(" s") if group.losses else DASH,
            whole(group.acknowledged),
            whole(group.unseen),
            whole(group.lost),
            whole(group.restarts) if group.restarts else DASH,
            bold("lost in {}", len(group.losses)) if group.losses else "none lost",
            code(f"{group.first.experiment}/{group.first.run}"),
        )
        for group in found.groups
    ]
    missing = [row for row in found.rows if row.why]
    note = "; ".join(dict.fromkeys(f"{r.engine}: {r.why.rstrip('.')}" for r in missing))
    note = f"Not measured: {note}." if note else ""
    return Table(HEAD, rows, note)
