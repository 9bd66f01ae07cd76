"""Who is to blame for refused transactions: the page that each met, and the rows behind it.

Two witnesses, which know nothing of each other. `refusal_account` is the engine's own: SQLite's
begin-concurrent logs the page of the table or index that a refused commit stumbled over, and the
workers counted it. `blame` is our record: each transaction's draw, made again, says which rows it
touched, and the windows of all attempts say who committed meanwhile. An engine that validates rows
gives no account, and there the rows are all there is. On one that validates pages the two together
tell how many refusals were of transactions that had no row in common at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np

from analysis import wording
from analysis.models.touches import Drawn, transactions
from analysis.models.windows import (
    AT_ONCE,
    NoAnswer,
    NotLoaded,
    RunWindows,
    Slice,
    Windows,
    scenario_of,
    unit_of,
)
from analysis.wording import Table, percent, whole
from workloads.engines import RefusalPage, leaf_of_rows, parse_refusal_page
from workloads.errors import RunError
from workloads.records import CONFLICT, STALE, RefusalPages, Run, Tree
from workloads.scenarios import NoFootprint

SHOWN = 8
"""Lines of a table on the screen; the rest is summed in one more."""

MOST_DRAWN = 300_000
"""Transactions that `cwkit show` draws again, about a second; `cwkit conflicts` draws all."""


@dataclass(frozen=True)
class RefusalAccount:
    """The engine's own account of a run's refused commits, all its workers together.

    refused : attempts that ended with a stale snapshot, warm-up included. logged : lines the engine
        logged for them; the rest died with a worker that was killed.
    pages   : refusals by page, the most frequent first. rest : by thing, on pages not kept.
    notices : other lines that it logged -> times.
    """

    refused: int
    logged: int
    pages: tuple[tuple[RefusalPage, int], ...]
    rest: Mapping[str, int]
    notices: Mapping[str, int]

    def things(self) -> dict[tuple[str, str], int]:
        """(table or index, kind of page) -> refusals, the most first; "" where it was not kept."""
        sums: Counter[tuple[str, str]] = Counter()
        for page, times in self.pages:
            sums[page.thing, page.kind] += times
        for thing, times in self.rest.items():
            sums[thing, ""] += times
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def refusal_account(run: Run) -> RefusalAccount | None:
    """The engines' account; None for a run whose engines give none. Raises RunError."""
    reporting = {w.engine for w in run.workers if w.entry.met is not None}
    if not reporting:
        return None
    pages: Counter[RefusalPage] = Counter()
    rest: Counter[str] = Counter()
    notices: Counter[str] = Counter()
    refused = logged = 0
    for worker in (w for w in run.workers if w.engine in reporting):
        for rows in worker.rows.pieces():
            refused += int(((rows["outcome"] == CONFLICT) & (rows["conflict"] == STALE)).sum())
        account = worker.entry.met or RefusalPages()
        rest.update(account.rest)
        notices.update(account.notices)
        logged += account.said
        try:
            for text, times in account.pages.items():
                pages[parse_refusal_page(text)] += times
        except ValueError as error:
            raise RunError(
                f"{run.folder}/manifest.json: what worker {worker.worker} met cannot be read "
                f"({error}). It was cut or edited."
            ) from error
    ranked = sorted(pages.items(), key=lambda item: (-item[1], item[0]))
    return RefusalAccount(refused, logged, tuple(ranked), dict(rest), dict(notices))


class BlamedRow(NamedTuple):
    """A row that refused transactions share with the commits that they lost to."""

    table: str
    row: int
    refusals: float


@dataclass(frozen=True, eq=False)
class BlamedRows(Sequence[BlamedRow]):
    """Blamed rows, the most refusals first: made when they are looked at, for they may be millions.

    keys : of the rows, as `touched` names them. refusals : float array beside them.
    """

    touched: Drawn
    keys: np.ndarray
    refusals: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> BlamedRow: ...
    @overload
    def __getitem__(self, at: slice) -> BlamedRows: ...
    def __getitem__(self, at: int | slice) -> BlamedRow | BlamedRows:
        if isinstance(at, slice):
            return BlamedRows(self.touched, self.keys[at], self.refusals[at])
        table, row = self.touched.named(int(self.keys[at]))
        return BlamedRow(table, row, float(self.refusals[at]))


@dataclass(frozen=True)
class Blame:
    """Refused attempts of a run by what others had done meanwhile to what they touched.

    unit     : "page" or "row", what the engine validates.
    refused  : all of them. row : another's commit in the window wrote a row that the transaction
        touched (on an engine that validates rows: wrote). page : none did, but one wrote a row of
        the same leaf page, as loaded. held : (rows) another transaction that wrote the row was
        under way and did not commit in the window. unexplained : none of these.
    rows     : the rows of `row` and `held`, the most refusals first; a refusal that has several
        counts in equal parts for each.
    committed : attempts that committed. spared : those that committed although, by our timing, they
        should have been refused. It is not 0 only because our windows are a few microseconds off;
        its size says by how much.
    """

    unit: str
    refused: int
    row: int
    page: int
    held: int
    unexplained: int
    rows: Sequence[BlamedRow]
    committed: int
    spared: int

    @property
    def false_conflicts(self) -> float:
        """Share of refusals without any row in common: what the engine's unit costs."""
        return 1 - self.row / self.refused if self.refused else float("nan")


def blame(run: Run) -> Blame:
    """Find, for every refused attempt, the rows over which it can have been refused.

    Raises NoAnswer where the engine does not say what it validates, the writers did not BEGIN
    CONCURRENT, or the scenario does not say what it touches.
    """
    unit = unit_of(run)
    _, scenario = scenario_of(run)
    touched = Drawn(run)
    try:
        footprint = scenario.footprint() if hasattr(scenario, "footprint") else None
    except NoFootprint:
        footprint = None
    found = RunWindows(run, scenario, footprint)
    leaves = _Leaves(run, touched, footprint.table) if unit == "page" and footprint else None
    counts: Counter[str] = Counter()
    guilt = _Guilt()
    for some in found.slices(int(AT_ONCE / touched.a_transaction())):
        judged = _judged(some, touched, unit, leaves)
        counts.update(judged.counts())
        guilt.add(*judged.guilty())
    return Blame(unit=unit, rows=guilt.ranked(touched), **{name: counts[name] for name in COUNTED})


COUNTED = ("refused", "row", "page", "held", "unexplained", "committed", "spared")


@dataclass(frozen=True, eq=False)
class _Judged:
    """Attempts, by what others had done meanwhile to what they touched: bool arrays.

    refused, writing, row, page, held : of attempts. index, key, seen : of what they touched: whose
        it was, the row, and whether it lies between the attempt and another.
    """

    refused: np.ndarray
    writing: np.ndarray
    row: np.ndarray
    page: np.ndarray
    held: np.ndarray
    index: np.ndarray
    key: np.ndarray
    seen: np.ndarray

    def counts(self) -> dict[str, int]:
        lost, did = self.refused, ~self.refused & self.writing  # one that only reads never loses
        parts = {
            "refused": lost,
            "row": lost & self.row,
            "page": lost & self.page,
            "held": lost & self.held,
            "unexplained": lost & ~self.row & ~self.page & ~self.held,
            "committed": did,
            "spared": did & (self.row | self.page),
        }
        return {name: int(which.sum()) for name, which in parts.items()}

    def guilty(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows that refused attempts share with others, how many such rows the attempt has)."""
        which = self.seen & self.refused[self.index]
        index = self.index[which]
        return self.key[which], np.bincount(index)[index] if len(index) else index


def _judged(some: Slice, touched: Drawn, unit: str, leaves: _Leaves | None) -> _Judged:
    """The attempts that a slice is about. Those beside them are in it, and are never counted."""
    every, length = some.every, len(some.every)
    asked = np.zeros(length, bool)
    asked[some.asked] = True
    index, key, wrote = touched.of(every)
    writing = _any(wrote, index, length)
    writes = _Places(index[wrote], key[wrote])
    wins = writes.at(~every.refused[writes.attempt])
    mine = asked[index] & (wrote if unit == "row" else True)
    index, key = index[mine], key[mine]
    seen = _lost_to(every, wins, index, key)
    by_row = _any(seen, index, length)
    by_page, by_hold = np.zeros(length, bool), np.zeros(length, bool)
    if leaves is not None:
        on_leaf = leaves.of(key)
        known = on_leaf >= 0
        pages = _Places(wins.attempt, leaves.of(wins.key))
        hit = _lost_to(every, pages, index[known], on_leaf[known])
        by_page = _any(hit, index[known], length) & ~by_row
    if unit == "row":
        holding = _held(every, writes, index, key) & ~seen
        by_hold = _any(holding, index, length) & ~by_row
        seen |= holding & by_hold[index]
    return _Judged(
        every.refused & asked, writing & asked, by_row, by_page, by_hold, index, key, seen
    )


class _Places(NamedTuple):
    """Places that attempts wrote: arrays of one length."""

    attempt: np.ndarray
    key: np.ndarray

    def at(self, which: np.ndarray) -> _Places:
        return _Places(self.attempt[which], self.key[which])


def _lost_to(some: Windows, writes: _Places, index: np.ndarray, key: np.ndarray) -> np.ndarray:
    """For each touch (attempt `index`, place `key`): has another written it meanwhile?"""
    at = writes.attempt
    marks = _Marks(writes.key, some.closes_ns[at], some.worker[at])
    who = some.worker[index]
    upto = marks.others(key, who, some.closes_ns[index])
    before = marks.others(key, who, some.opens_ns[index])
    lost: np.ndarray = upto > before
    return lost


def _held(some: Windows, writes: _Places, index: np.ndarray, key: np.ndarray) -> np.ndarray:
    """For each touch: was another attempt that writes the same row under way at some time?"""
    at, who = writes.attempt, some.worker[index]
    begun = _Marks(writes.key, some.opens_ns[at], some.worker[at])
    over = _Marks(writes.key, some.closes_ns[at], some.worker[at])
    shared: np.ndarray = begun.others(key, who, some.closes_ns[index]) > over.others(
        key, who, some.opens_ns[index]
    )
    return shared


class _Marks:
    """Moments at places, counted by place and worker: sorted once, asked many times."""

    def __init__(self, key: np.ndarray, at_ns: np.ndarray, worker: np.ndarray) -> None:
        self.keys = np.unique(key)
        self.moments = np.unique(at_ns)
        place = np.searchsorted(self.keys, key)
        self.span = len(self.moments) + 1
        self.workers = int(worker.max()) + 1 if len(worker) else 1
        rank = np.searchsorted(self.moments, at_ns) + 1
        self.all = np.sort(place * self.span + rank)
        self.own = np.sort((place * self.workers + worker) * self.span + rank)

    def others(self, key: np.ndarray, worker: np.ndarray, until_ns: np.ndarray) -> np.ndarray:
        """Marks at `key` of other workers, no later than `until_ns`: int64, as many as keys."""
        if not len(self.keys):
            return np.zeros(len(key), np.int64)
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        rank = np.searchsorted(self.moments, until_ns, side="right")
        every = self._counted(self.all, place, rank)
        known = worker < self.workers
        own = self._counted(
            self.own, place * self.workers + np.where(known, worker, 0), np.where(known, rank, 0)
        )
        found: np.ndarray = np.where(self.keys[place] == key, every - own, 0)
        return found

    def _counted(self, marks: np.ndarray, place: np.ndarray, rank: np.ndarray) -> np.ndarray:
        upto = np.searchsorted(marks, place * self.span + rank, side="right")
        found: np.ndarray = upto - np.searchsorted(marks, place * self.span, side="left")
        return found


def _any(flags: np.ndarray, index: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros(length, bool)
    out[index[flags]] = True
    return out


class _Leaves:
    """The leaf page of each row of a table, as it was loaded; new rows lie on the last page."""

    def __init__(self, run: Run, touched: Drawn, table: str) -> None:
        self._touched, self._table = touched, table
        tree = run.manifest.layout.loaded.get(f"table {table}")
        try:
            self._leaf = leaf_of_rows(tree) if isinstance(tree, Tree) else np.zeros(0, np.int64)
        except ValueError:
            self._leaf = np.zeros(0, np.int64)

    def of(self, key: np.ndarray) -> np.ndarray:
        """The leaf of each key, -1 where it is not known."""
        tables = self._touched.tables
        if not len(self._leaf) or self._table not in tables:
            return np.full(len(key), -1)
        row = key - (tables.index(self._table) << 48)
        inside = (row >= 0) & (row < 1 << 47)
        return np.where(inside, self._leaf[np.clip(row, 0, len(self._leaf) - 1)], -1)


class _Guilt:
    """Rows that are blamed: how often each, by the number of rows that share the blame."""

    def __init__(self) -> None:
        self._found = np.zeros((3, 0), np.int64)  # key, parts, times
        self._waiting: list[np.ndarray] = []
        self._many = 0

    def add(self, key: np.ndarray, parts: np.ndarray) -> None:
        """An attempt that has several rows gives each an equal part: `parts` says how many."""
        if not len(key):
            return
        self._waiting.append(_counted(np.stack([key, parts, np.ones_like(key)])))
        self._many += self._waiting[-1].shape[1]
        if self._many > max(self._found.shape[1], 1 << 18):
            self._merge()

    def _merge(self) -> None:
        self._found = _counted(np.concatenate([self._found, *self._waiting], axis=1))
        self._waiting, self._many = [], 0

    def ranked(self, touched: Drawn) -> Sequence[BlamedRow]:
        """Rows by refusals."""
        self._merge()
        key, parts, times = self._found
        if not len(key):
            return ()
        begins = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
        keys, sums = key[begins], np.add.reduceat(times / parts, begins)
        order = np.lexsort((touched.ranks(keys), -np.round(sums, 9)))
        return BlamedRows(touched, keys[order], sums[order])


def _counted(found: np.ndarray) -> np.ndarray:
    """Columns of (key, parts, times), in order, the times of equal ones added up."""
    found = found[:, np.lexsort((found[1], found[0]))]
    new = np.append(True, (found[:2, 1:] != found[:2, :-1]).any(axis=0))
    begins = np.flatnonzero(new[: found.shape[1]])
    if not len(begins):
        return found
    return np.concatenate([found[:2, begins], np.add.reduceat(found[2:], begins, axis=1)])


# --- tables and sentences -----------------------------------------------------------------------


def account_table(found: RefusalAccount, shown: int = SHOWN) -> Table:
    """Pages that refused commits met. A run without refusals gives a table without rows."""
    lines = [
        (times, page.thing, page.kind, str(page.page), page.held) for page, times in found.pages
    ]
    over: Counter[tuple[str, str]] = Counter()
    many: Counter[tuple[str, str]] = Counter()
    for times, thing, kind, *_ in lines[shown:]:
        over[thing, kind] += times
        many[thing, kind] += 1
    rest = [(times, thing, kind, f"{many[thing, kind]:,} others", "") for (thing, kind), times
            in sorted(over.items(), key=lambda item: (-item[1], item[0]))]  # fmt: skip
    rest += [(times, thing, "", "not kept", "") for thing, times in sorted(found.rest.items())]
    missing = found.refused - found.logged
    if missing > 0:
        rest.append((missing, "not said", "", "", ""))
    of = max(found.refused, found.logged)
    rows = [
        (whole(times), percent(times / of), *cells) for times, *cells in [*lines[:shown], *rest]
    ]
    return Table(("refusals", "share", "met at", "kind", "page", "held"), rows)


def blame_table(found: Blame, shown: int = SHOWN) -> Table:
    """Rows over which transactions were refused, and how many refusals have none."""
    rows = [
        (wording.number(round(row.refusals, 1)), percent(row.refusals / found.refused), row.table,
         "next free id" if row.row < 0 else str(row.row))
        for row in found.rows[:shown]
    ]  # fmt: skip
    left = found.rows[shown:]
    if left:
        total = sum(row.refusals for row in left)
        rows.append((wording.number(round(total, 1)), percent(total / found.refused), "",
                     f"{len(left):,} others"))  # fmt: skip
    without = found.refused - found.row - found.held
    if without:
        rows.append((whole(without), percent(without / found.refused), "", "no row in common"))
    return Table(("refusals", "share", "table", "row"), rows)


def blame_sentence(found: Blame) -> str:
    """One paragraph: how many refusals the rows explain, and how well the windows are known."""
    if not found.refused:
        return "No transaction was refused."
    share = {name: percent(getattr(found, name) / found.refused)
             for name in ("row", "page", "held", "unexplained")}  # fmt: skip
    refusals = wording.times(found.refused, "refusal")
    if found.unit == "page":
        text = (
            f"Of {refusals} {share['row']} had a row in common with a "
            f"commit that came between; {percent(found.false_conflicts)} had none, and were "
            f"refused for a page alone: {share['page']} for a leaf page as it was loaded, "
            f"{share['unexplained']} for another (a page that was split or added since, one of an "
            "index, or one above the leaves)."
        )
    else:
        text = (
            f"Of {refusals} {share['row']} wanted a row that a commit "
            f"in their window had written, {share['held']} one that another transaction held "
            f"which did not commit meanwhile; {share['unexplained']} are unexplained."
        )
    commits = wording.times(found.committed, "commit")
    return (
        f"{text} Check: {wording.whole(found.spared)} of {commits} "
        "should by this reckoning have been refused."
    )


WITH_WARMUP = (
    "Pages and rows are those of the whole run, its warm-up with it; rates and refusals are "
    "counted in its measured part."
)


def conflict_parts(run: Run, most: int = MOST_DRAWN) -> Iterable[Table | str]:
    """`cwkit show`'s tables and sentences about a run's refusals; nothing without refusals.

    most : transactions that may be drawn again for it.
    """
    told = False
    for part in _conflict_parts(run, most):
        told = told or not isinstance(part, str)
        yield part
    if told and run.manifest.plan.warmup_s > 0:
        yield WITH_WARMUP


def _conflict_parts(run: Run, most: int) -> Iterable[Table | str]:
    account = refusal_account(run)
    if account is not None:
        if account.pages or account.rest:
            yield account_table(account)
        for line, times in account.notices.items():
            yield f"The engine logged {wording.times(times, 'time')}: {line}"
    try:
        unit_of(run)
        pieces = (rows for w in run.role("writer") for rows in w.rows.pieces())
        if not any((rows["outcome"] == CONFLICT).any() for rows in pieces):
            return
        if (many := transactions(run)) > most:
            yield (
                f"The rows behind the refusals: `cwkit conflicts {run.name}` draws the run's "
                f"{many:,} transactions again."
            )
            return
        blamed = blame(run)
    except NotLoaded as error:
        yield str(error)
        return
    except NoAnswer:
        return
    if blamed.rows or account is None:
        yield blame_table(blamed)
    yield blame_sentence(blamed)
