"""Reachability in a large graph: a row for each node, filled in one pass in topological order.

It has two forms. Where the transactions fall into few chains, each ordered by the level, a row is a
vector clock: the newest transaction of each chain that reaches the node. Where there are no chains,
a row has one bit for each transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Reach(Protocol):
    """Which transactions reach which nodes. A transaction reaches the node that it leaves by.

    rows : shape (nodes, …). join(row, other, out=row) : numpy's own. fresh(count) : empty rows.
    """

    rows: np.ndarray
    join: Callable[..., Any]

    def fresh(self, count: int) -> list[np.ndarray]: ...

    def mark(self, row: np.ndarray, txn: int) -> None:
        """Note that the transaction itself reaches this node."""

    def has(self, txn: np.ndarray, node: np.ndarray) -> np.ndarray:
        """Whether each transaction reaches each node: bool, of the arguments' shape."""

    def group(self, txn: np.ndarray) -> np.ndarray:
        """A number for each transaction, the same for those of which the earlier one reaches the
        later one whatever is drawn.
        """

    def place(self, txn: np.ndarray) -> np.ndarray:
        """Where in its group each transaction is."""


class Clocks:
    """By chains: of[v] is the transaction's chain, place[v] where in it, both from 0."""

    join = staticmethod(np.maximum)

    def __init__(self, of: np.ndarray, place: np.ndarray) -> None:
        self._of, self._place = of, place
        self._chains = int(of.max(initial=-1)) + 1
        self.width = 4 * self._chains
        self._where = list(zip(of.tolist(), place.tolist(), strict=True))

    def fresh(self, count: int) -> list[np.ndarray]:
        self.rows = np.full((count, self._chains), -1, np.int32)
        return list(self.rows)

    def mark(self, row: np.ndarray, txn: int) -> None:
        chain, place = self._where[txn]
        row[chain] = place

    def has(self, txn: np.ndarray, node: np.ndarray) -> np.ndarray:
        return self.rows[node, self._of[txn]] >= self._place[txn]

    def reaches(self, txn: int, row: np.ndarray) -> bool:
        """Whether the transaction reaches the node of this row."""
        chain, place = self._where[txn]
        return bool(row[chain] >= place)

    def group(self, txn: np.ndarray) -> np.ndarray:
        return self._of[txn]

    def place(self, txn: np.ndarray) -> np.ndarray:
        return self._place[txn]


class Bits:
    """One bit for each transaction."""

    join = staticmethod(np.bitwise_or)

    def __init__(self, transactions: int) -> None:
        self._words = -(-transactions // 64)
        self._bit = [np.uint64(1) << np.uint64(i) for i in range(64)]

    @staticmethod
    def width(transactions: int) -> int:
        return 8 * -(-transactions // 64)

    def fresh(self, count: int) -> list[np.ndarray]:
        self.rows = np.zeros((count, self._words), np.uint64)
        return list(self.rows)

    def mark(self, row: np.ndarray, txn: int) -> None:
        row[txn >> 6] |= self._bit[txn & 63]

    def row(self, node: int) -> np.ndarray:
        return self.rows[node]

    def bit(self, row: np.ndarray, txn: int) -> bool:
        """Whether the transaction reaches the node of this row."""
        return bool(row[txn >> 6] & self._bit[txn & 63])

    def has(self, txn: np.ndarray, node: np.ndarray) -> np.ndarray:
        bits = self.rows[node, txn >> 6] >> (txn & 63).astype(np.uint64)
        return (bits & np.uint64(1)).astype(bool)

    def group(self, txn: np.ndarray) -> np.ndarray:
        return txn

    def place(self, txn: np.ndarray) -> np.ndarray:
        return np.zeros(len(txn), np.int64)
