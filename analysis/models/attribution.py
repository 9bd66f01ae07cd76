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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from analysis import wording
from analysis.models.windows import (
    Drawn,
    NoAnswer,
    NotLoaded,
    Windows,
    drawn,
    scenario_of,
    transactions,
    unit_of,
    windows,
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
    rows: tuple[BlamedRow, ...]
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
    touched = drawn(run)
    try:
        footprint = scenario.footprint() if hasattr(scenario, "footprint") else None
    except NoFootprint:
        footprint = None
    found = windows(run, scenario, footprint)
    index, key, wrote = touched.of(found.worker, found.txn)
    writing = _any(wrote, index, len(found))
    if unit == "row":
        index, key = index[wrote], key[wrote]
    writes = _writes(found, touched)
    seen = _lost_to(found, writes, index, key)
    by_row = _any(seen, index, len(found))
    by_page = np.zeros(len(found), bool)
    if unit == "page" and footprint is not None:
        leaf = _leaf_of_keys(run, touched, footprint.table)
        pages = _Writes(writes.attempt, leaf(writes.key), writes.at_ns, writes.worker)
        on_leaf = leaf(key)
        known = on_leaf >= 0
        hit = _lost_to(found, pages, index[known], on_leaf[known])
        by_page = _any(hit, index[known], len(found)) & ~by_row
    by_hold = np.zeros(len(found), bool)
    if unit == "row":
        holding = _held(found, touched, index, key) & ~seen
        by_hold = _any(holding, index, len(found)) & ~by_row
        seen |= holding & by_hold[index]
    refused = found.refused
    guilty = seen & refused[index]
    return Blame(
        unit=unit,
        refused=int(refused.sum()),
        row=int((refused & by_row).sum()),
        page=int((refused & by_page).sum()),
        held=int((refused & by_hold).sum()),
        unexplained=int((refused & ~by_row & ~by_page & ~by_hold).sum()),
        rows=_ranked(touched, index[guilty], key[guilty]),
        committed=int((~refused & writing).sum()),  # one that only reads is never refused
        spared=int((~refused & writing & (by_row | by_page)).sum()),
    )


class _Writes(NamedTuple):
    """Places that committed transactions wrote: arrays of one length."""

    attempt: np.ndarray
    key: np.ndarray
    at_ns: np.ndarray
    worker: np.ndarray


def _writes(found: Windows, touched: Drawn) -> _Writes:
    did = np.flatnonzero(~found.refused)
    at, key, wrote = touched.of(found.worker[did], found.txn[did])
    attempt = did[at[wrote]]
    return _Writes(attempt, key[wrote], found.closes_ns[attempt], found.worker[attempt])


def _lost_to(found: Windows, writes: _Writes, index: np.ndarray, key: np.ndarray) -> np.ndarray:
    """For each touch (attempt `index`, place `key`): has another written it meanwhile?"""
    marks = _Marks(writes.key, writes.at_ns, writes.worker)
    who = found.worker[index]
    upto = marks.others(key, who, found.closes_ns[index])
    before = marks.others(key, who, found.opens_ns[index])
    lost: np.ndarray = upto > before
    return lost


def _held(found: Windows, touched: Drawn, index: np.ndarray, key: np.ndarray) -> np.ndarray:
    """For each touch: was another attempt that writes the same row under way at some time?"""
    everyone = np.arange(len(found))
    at, other, wrote = touched.of(found.worker, found.txn)
    at, other = everyone[at[wrote]], other[wrote]
    who = found.worker[index]
    begun = _Marks(other, found.opens_ns[at], found.worker[at])
    over = _Marks(other, found.closes_ns[at], found.worker[at])
    shared: np.ndarray = begun.others(key, who, found.closes_ns[index]) > over.others(
        key, who, found.opens_ns[index]
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


def _leaf_of_keys(run: Run, touched: Drawn, table: str) -> Any:
    """Key -> leaf page as loaded, -1 where it is not known; new rows lie on the last page."""
    tree = run.manifest.layout.loaded.get(f"table {table}")
    try:
        leaf = leaf_of_rows(tree) if isinstance(tree, Tree) else np.zeros(0, np.int64)
    except ValueError:
        leaf = np.zeros(0, np.int64)
    first = touched.tables.index(table) << 48 if table in touched.tables else 0

    def of(key: np.ndarray) -> np.ndarray:
        if not len(leaf):
            return np.full(len(key), -1)
        row = key - first
        inside = (row >= 0) & (row < 1 << 47)
        return np.where(inside, leaf[np.clip(row, 0, len(leaf) - 1)], -1)

    return of


def _ranked(touched: Drawn, index: np.ndarray, key: np.ndarray) -> tuple[BlamedRow, ...]:
    """Rows by refusals; an attempt with several rows gives each an equal part."""
    if not len(index):
        return ()
    parts = 1 / np.bincount(index)[index]
    keys, which = np.unique(key, return_inverse=True)
    sums = np.bincount(which, parts)
    order = np.lexsort((keys, -np.round(sums, 9)))
    return tuple(BlamedRow(*touched.named(int(keys[at])), refusals=float(sums[at])) for at in order)


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


def conflict_parts(run: Run, most: int = MOST_DRAWN) -> Iterable[Table | str]:
    """`cwkit show`'s tables and sentences about a run's refusals; nothing without refusals.

    most : transactions that may be drawn again for it.
    """
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
