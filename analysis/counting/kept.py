"""A counted run as one row of a table, and back: what remains of it where its rows are not kept.

Every number of a run's roles is in the row, but no single transaction: percentiles are kept as
numbers, and percentiles over several such runs are unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from analysis.counting.committed import STAGES, Committed
from analysis.counting.due import Due
from analysis.counting.kinds import OfKind
from analysis.counting.standstill import Standstill
from analysis.counting.steady import Steady
from analysis.counting.tally import BATCHES, Count, Tally
from analysis.counting.wal_growth import Wal
from analysis.statistics import COUNTED, SHORT, STEADY, UNSTEADY
from workloads.records import COMMITTED, CONFLICT, CONFLICTS, OUTCOMES, PHASES
from workloads.runs import ROLES

OF_TALLY = {one.name: str(one.type) for one in fields(Tally)}
NUMBERS = tuple(name for name, kind in OF_TALLY.items() if kind in ("int", "float"))
LATER = ("server_s",)
"""Numbers that older tables lack, and that a table is without where they are 0: they are 0 then."""

OTHERS = (
    *("outcomes", "conflicts", "first_conflicts", "tries", "times", "most_ns", "waits_ns"),
    *("commits_each", "due", "batches"),
)
"""Fields of a Tally that are kept in a way of their own, or not at all (times, waits_ns)."""

OF_DUE = {one.name: str(one.type) for one in fields(Due) if one.name != "sources"}
RANKS = ("p50", "p90", "p99", "p99.9", "max")
DUE_STAGES = ("due whole", "due least")

IN_PARTS = ("ended_refused", "ended_finished")
"""Attempts that were refused, and that finished, in each of the parts of the window."""

MOST_TRIES = 1 << 17
MOST_EACH = 1024
MOST_DIGITS = 40

STATES = (STEADY, UNSTEADY, SHORT, COUNTED)


class NotKept(ValueError):
    """A row that is no run's; the text is a part of a sentence."""


# --- to a row ---------------------------------------------------------------------------------


def columns_of(counted: Count) -> dict[str, str]:
    """A counted run as text, column by column; what is 0 or unknown everywhere may be left out."""
    row = {
        "seconds": _text(counted.seconds),
        "window_first_ns": str(counted.window_ns[0]),
        "window_stop_ns": str(counted.window_ns[1]),
        "cpu_share": _text(counted.cpu_share),
    }
    if (steady := counted.steady) is not None:
        row |= {"steady": steady.state, "warmup_s": _text(steady.warmup_s)}
        row |= {"planned_warmup_s": _text(steady.planned_s)}
    if (wal := counted.wal) is not None:
        row |= {"wal_bytes_max": str(wal.bytes_max), "wal_limit_bytes": str(wal.limit_bytes)}
        row |= {"wal_off": str(int(wal.off)), "wal_exact": str(int(wal.exact)), "wal_why": wal.why}
        row["wal_restarts"] = "" if wal.restarts is None else str(wal.restarts)
    if (still := counted.standstill) is not None:
        row |= {"still_s": _text(still.lasted_s), "still_since_s": _text(still.since_s)}
    for role, tally in counted.roles.items():
        row |= {f"{role}_{name}": value for name, value in _of_tally(tally).items()}
        for kind, one in counted.of_kind(role).items():
            start = _start(role, kind)
            row |= {f"{start}committed": str(one.committed), f"{start}per_s": _text(one.per_s)}
            row[f"{start}mean_ns"] = _text(one.mean_ns)
            row |= {
                f"{start}{name}": value for name, value in _ranked("whole", one.whole_ns).items()
            }
    return row


def _start(role: str, kind: str) -> str:
    """What the columns of a kind of a role's transactions begin with."""
    return f"{role}_kind_{kind}_"


def _of_tally(tally: Tally) -> dict[str, str]:
    numbers = {name: getattr(tally, name) for name in NUMBERS}
    row = {name: _text(value) for name, value in numbers.items() if value or name not in LATER}
    row["per_s"] = _text(tally.per_s)  # for whoever reads the table
    for outcome, many in zip(OUTCOMES, tally.outcomes.tolist(), strict=True):
        row[outcome] = str(many)
    for (kind, phase), many in np.ndenumerate(tally.conflicts):
        row[_refused(kind, phase)] = str(many or "")
    for kind, many in enumerate(tally.first_conflicts.tolist()):
        row[f"first_refused_{CONFLICTS[kind] or 'other'}"] = str(many or "")
    row["tries"] = " ".join(map(str, tally.tries.tolist()))
    row["commits_each"] = " ".join(map(str, tally.commits_each.tolist()))
    for name, parts in zip(IN_PARTS, tally.batches.tolist(), strict=True):
        row[name] = " ".join(map(str, parts))
    for stage in STAGES:
        row[f"{stage}_most_ns"] = str(tally.most_ns[stage])
        row |= _ranked(stage, tally.percentiles(stage))
    if tally.due is not None:
        row |= {f"due_{name}": _text(getattr(tally.due, name)) for name in OF_DUE}
        whole = tally.whole()
        for at, stage in enumerate(DUE_STAGES):
            row |= _ranked(stage, whole[:, at])
    return row


def _ranked(stage: str, found: np.ndarray) -> dict[str, str]:
    values = zip(RANKS, found.tolist(), strict=True)
    return {f"{stage.replace(' ', '_')}_{rank}_ns": _text(value) for rank, value in values}


def _refused(kind: int, phase: int) -> str:
    return f"refused_{CONFLICTS[kind] or 'other'}_{PHASES[phase] or 'somewhere'}"


def _text(value: float) -> str:
    """A number as text that is read back as the same number; "" for one that is not known."""
    return "" if math.isnan(value) else repr(value)


# --- from a row -------------------------------------------------------------------------------


def count_of(run: str, row: Mapping[str, str]) -> Count:
    """A row of `columns_of` as the run that it was, without its workers and its transactions.

    Raises NotKept, in words, for a row that is none.
    """
    window = (_whole(row, "window_first_ns"), _whole(row, "window_stop_ns"))
    seconds = _real(row, "seconds")
    if not window[0] <= window[1] or abs(seconds - (window[1] - window[0]) / 1e9) > 1e-6:
        raise NotKept("its window and its seconds do not agree")
    roles = {
        role: _tally(dict(_part(row, role)), seconds, f"{role}_")
        for role in ROLES
        if row.get(f"{role}_workers")
    }
    if not roles:
        raise NotKept("it has no worker")
    return Count(
        run, seconds, (), roles, _steady(row, window), {}, window, _wal(row), _still(row),
        _real(row, "cpu_share"), kept={role: _kinds(row, role, tally, seconds)
                                       for role, tally in roles.items()},
    )  # fmt: skip


def _kinds(row: Mapping[str, str], role: str, tally: Tally, seconds: float) -> dict[str, OfKind]:
    """What is kept of each kind of a role's transactions; {} where an older row has nothing."""
    first, last = f"{role}_kind_", "_committed"
    names = [
        name.removeprefix(first).removesuffix(last)
        for name, value in row.items()
        if name.startswith(first) and name.endswith(last) and value
    ]
    found = {}
    for name in names:
        start = _start(role, name)
        many = _whole(row, f"{start}committed")
        ranks = [_real(row, f"{start}whole_{rank}_ns", infinite=True) for rank in RANKS]
        per_s, mean_ns = many / seconds if seconds else math.nan, _real(row, f"{start}mean_ns")
        found[name] = OfKind(many, per_s, mean_ns, np.array(ranks))
    if sum(one.committed for one in found.values()) > tally.committed:
        raise NotKept("its commits and those of each kind do not agree")
    return found


def _part(row: Mapping[str, str], role: str) -> Iterator[tuple[str, str]]:
    start = f"{role}_"
    for name, value in row.items():
        if name.startswith(start):
            yield name.removeprefix(start), value


def _steady(row: Mapping[str, str], window: tuple[int, int]) -> Steady | None:
    if not (state := row.get("steady", "")):
        return None
    if state not in STATES:
        raise NotKept("`steady` is none of its words")
    return Steady(state, window, _real(row, "warmup_s"), _real(row, "planned_warmup_s"))


def _wal(row: Mapping[str, str]) -> Wal | None:
    if not row.get("wal_bytes_max"):
        return None
    if not (limit := _whole(row, "wal_limit_bytes")):
        raise NotKept("`wal_limit_bytes` is 0")
    restarts = _whole(row, "wal_restarts") if row.get("wal_restarts") else None
    off, exact = (_whole(row, name) > 0 for name in ("wal_off", "wal_exact"))
    return Wal(_whole(row, "wal_bytes_max"), limit, off, restarts, exact, row.get("wal_why", ""))


def _still(row: Mapping[str, str]) -> Standstill | None:
    if not row.get("still_s"):
        return None
    return Standstill(_real(row, "still_s"), _real(row, "still_since_s"))


def _tally(row: Mapping[str, str], seconds: float, start: str) -> Tally:
    """A role's Tally. start : what the names of its columns begin with in the file."""
    try:
        tally = Tally(
            **{name: _number(row, name, OF_TALLY[name]) for name in NUMBERS},
            outcomes=np.array([_whole(row, outcome) for outcome in OUTCOMES]),
            conflicts=np.array(
                [
                    [_few(row, _refused(kind, phase)) for phase in range(len(PHASES))]
                    for kind in range(len(CONFLICTS))
                ]
            ),
            first_conflicts=np.array(
                [_few(row, f"first_refused_{kind or 'other'}") for kind in CONFLICTS]
            ),
            tries=_several(row, "tries", MOST_TRIES),
            times=Committed(),
            most_ns={stage: _whole(row, f"{stage}_most_ns") for stage in STAGES},
            waits_ns={},
            commits_each=_several(row, "commits_each", MOST_EACH),
            due=_due(row),
            batches=_parts(row),
        )
        kept = {stage: _percentiles(row, stage) for stage in STAGES}
        if tally.due is not None:
            kept |= {stage: _percentiles(row, stage) for stage in DUE_STAGES}
    except NotKept as error:
        raise NotKept(str(error).replace("`", f"`{start}", 1)) from None
    _agree(tally, seconds)
    tally.__dict__["_percentiles"] = kept  # as where they are computed: they are not anew
    return tally


def _agree(tally: Tally, seconds: float) -> None:
    """Raises NotKept where numbers that belong together do not."""
    for wrong, what in (
        (tally.seconds != seconds, "the seconds of a role and its run"),
        (tally.workers != len(tally.commits_each), "its workers and the commits of each"),
        (tally.commits_each.sum() != tally.outcomes[COMMITTED], "its commits and those of each"),
        (tally.conflicts.sum() != tally.outcomes[CONFLICT], "its conflicts and their kinds"),
        ((tally.batches[0] > tally.batches[1]).any(), "the parts of its window"),
        (tally.runs != 1, "its runs and its row"),
        (tally.first_conflicts.sum() > tally.first_finished, "its first tries"),
    ):
        if wrong:
            raise NotKept(f"{what} do not agree")


def _due(row: Mapping[str, str]) -> Due | None:
    if not row.get("due_many"):
        return None
    values = {name: _number(row, f"due_{name}", kind) for name, kind in OF_DUE.items()}
    return Due(**values, sources=())


def _percentiles(row: Mapping[str, str], stage: str) -> np.ndarray:
    start = stage.replace(" ", "_")
    return np.array([_real(row, f"{start}_{rank}_ns", infinite=True) for rank in RANKS])


def _number(row: Mapping[str, str], name: str, kind: str) -> Any:
    if name in LATER and not row.get(name):
        return 0.0
    return _whole(row, name) if kind == "int" else _real(row, name)


def _few(row: Mapping[str, str], name: str) -> int:
    return _whole(row, name) if row.get(name) else 0


def _whole(row: Mapping[str, str], name: str) -> int:
    text = row.get(name)
    if text is None:
        raise NotKept(f"`{name}` is missing")
    if not (text.isascii() and text.isdigit() and int(text[:20]) < 1 << 62 and len(text) < 20):
        raise NotKept(f"`{name}` is no whole number")
    return int(text)


def _real(row: Mapping[str, str], name: str, *, infinite: bool = False) -> float:
    text = row.get(name)
    if text is None:
        raise NotKept(f"`{name}` is missing")
    if not text:
        return math.nan
    try:
        value = float(text) if len(text) <= MOST_DIGITS else -1.0
    except ValueError:
        value = -1.0
    if not (0 <= value < math.inf or (infinite and value == math.inf)):
        raise NotKept(f"`{name}` is no number of its kind")
    return value


def _several(row: Mapping[str, str], name: str, most: int) -> np.ndarray:
    words = row.get(name, "").split()
    if not 0 < len(words) <= most:
        raise NotKept(f"`{name}` is no list of numbers")
    return np.array([_whole({name: word}, name) for word in words])


def _parts(row: Mapping[str, str]) -> np.ndarray:
    found = [_several(row, name, BATCHES) for name in IN_PARTS]
    if any(len(part) != BATCHES for part in found):
        raise NotKept(f"`{IN_PARTS[0]}` has not {BATCHES} parts")
    return np.stack(found)


__all__ = ["NotKept", "columns_of", "count_of"]
