"""The rows that a run's transactions touched: drawn again from its seed when they are asked for.

Each writer's transactions are drawn one after the other, and are let go when later ones are asked
for: a run may have 24 million of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.models.windows import NoAnswer, Windows, scenario_of
from workloads.records import Run, WorkerRecord
from workloads.runs import context_of

MOST_TOUCHES = 50_000_000
"""Operations of all transactions of a run that are drawn again: two or three minutes."""

TASTED = 200
"""Transactions that are drawn to see how many rows one touches."""

Touches = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class _Writer:
    """One writer's draws. Kept is what its transactions from `first` on touched.

    bases : the tables that it has touched, in the order in which it met them -> what a row's id is
        added to. offsets : where each transaction's keys begin, and last where they end.
    """

    draw: Callable[[], Any]
    bases: dict[str, int] = field(default_factory=dict)
    first: int = 0
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    wrote: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))

    def let_go(self, before: int) -> None:
        """Forget the transactions before one."""
        many = min(before - self.first, len(self.offsets) - 1)
        if many > 0:
            at = self.offsets[many]
            self.keys, self.wrote = self.keys[at:], self.wrote[at:]
            self.offsets = self.offsets[many:] - at
            self.first += many

    def of(self, txn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(how many each touches, keys, wrote) of transactions that are kept."""
        begins, many = self.offsets[txn - self.first], np.diff(self.offsets)[txn - self.first]
        # The places begins[i], begins[i] + 1, … of each, without a loop over transactions.
        skipped = np.repeat(np.cumsum(many) - many, many)
        places = np.repeat(begins, many) + np.arange(many.sum()) - skipped
        return many, self.keys[places], self.wrote[places]


class Drawn:
    """The rows that each transaction of each writer touches.

    tables : names. A row's key is its table's index here << 48, plus its id (which may be -1).
    """

    def __init__(self, run: Run) -> None:
        """Raises NoAnswer where the scenario does not say what a draw touches."""
        plan, scenario = scenario_of(run)
        touches: Any = getattr(scenario, "touches", None)
        if touches is None:
            raise NoAnswer(
                run.name,
                f"the scenario {plan.scenario!r} does not say which rows a transaction touches "
                "(`touches`).",
            )
        touched = transactions(run) * plan.shape().operations
        if touched > MOST_TOUCHES:
            raise NoAnswer(
                run.name, f"its transactions' {touched:,} operations are not drawn again."
            )
        self.tables: list[str] = []
        self._touches = touches
        self._writers: list[_Writer] = []
        self._longest = [_most_txn(worker) for worker in run.role("writer")]
        for worker in run.role("writer"):
            if worker.worker >= len(plan.roles()):
                raise NoAnswer(run.name, f"its plan has no worker {worker.worker}: it was edited.")
            self._writers.append(_Writer(scenario.draw(context_of(plan, worker.worker))))

    def of(self, some: Windows) -> Touches:
        """All touches of some attempts: (index into them, key, wrote), writer by writer.

        No earlier transaction of the same writers can be asked for later.
        """
        parts: list[Touches] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))]
        for number, writer in enumerate(self._writers):
            at = np.flatnonzero(some.worker == number)
            if not len(at):
                continue
            txn = some.txn[at]
            writer.let_go(int(txn.min()))
            self._draw(writer, int(txn.max()) + 1)
            many, keys, wrote = writer.of(txn)
            parts.append((np.repeat(at, many), keys, wrote))
        index, key, wrote = (np.concatenate(part) for part in zip(*parts, strict=True))
        return index, key, wrote

    def a_transaction(self) -> float:
        """How many rows a transaction touches, by the first few; 1 or more."""
        many = 0
        for writer, longest in zip(self._writers, self._longest, strict=True):
            if some := min(longest + 1, TASTED):
                self._draw(writer, some)
                many = max(many, int(writer.offsets[-1]) // some)
        return max(many, 1)

    def _draw(self, writer: _Writer, upto: int) -> None:
        """Have a writer's transactions before `upto` drawn."""
        touches, draw, bases = self._touches, writer.draw, writer.bases
        keys, wrote, ends = array("q"), bytearray(), array("q")
        for _ in range(writer.first + len(writer.offsets) - 1, upto):
            for table, row, write in touches(draw()):
                base = bases.get(table)
                if base is None:
                    base = bases[table] = self._place(table) << 48
                keys.append(base + row)
                wrote.append(write)
            ends.append(len(keys))
        if not ends:
            return
        later = writer.offsets[-1] + np.frombuffer(ends, np.int64)
        writer.offsets = np.append(writer.offsets, later)
        writer.keys = np.append(writer.keys, np.array(keys, np.int64))
        writer.wrote = np.append(writer.wrote, np.array(wrote, bool))

    def _place(self, table: str) -> int:
        if table not in self.tables:
            self.tables.append(table)
        return self.tables.index(table)

    def named(self, key: int) -> tuple[str, int]:
        """(table, id) of a key."""
        table = (key + (1 << 47)) >> 48
        return self.tables[table], key - (table << 48)

    def ranks(self, keys: np.ndarray) -> np.ndarray:
        """Keys as numbers in an order that does not depend on who was asked about first: that of
        the tables as the first writer met them, then the second, and so on.
        """
        met = dict.fromkeys(table for writer in self._writers for table in writer.bases)
        places = {table: place for place, table in enumerate(met)}
        new = np.array([places.get(table, 0) for table in self.tables], np.int64)
        table = (keys + (1 << 47)) >> 48
        found: np.ndarray = keys + (new[table] - table << 48)
        return found


def transactions(run: Run) -> int:
    """How many transactions `Drawn` may have to draw again."""
    return sum(_most_txn(w) + 1 for w in run.role("writer"))


def _most_txn(worker: WorkerRecord) -> int:
    """The greatest number of a worker's transactions; -1 where it made none."""
    return max(int(rows["txn"].max()) if len(rows) else -1 for rows in worker.rows.pieces())
