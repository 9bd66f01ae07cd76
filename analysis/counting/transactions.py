"""A worker's rows as transactions: where each begins and ends, and which of them were given up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workloads.records import CONFLICT, PIECE_ROWS, Retry, WorkerRecord


def parts_of(worker: WorkerRecord, most: int = PIECE_ROWS) -> Iterator[tuple[np.ndarray, bool]]:
    """A worker's rows, some whole transactions at a time, and whether others follow behind them.

    most : about so many rows at a time.
    """
    before: np.ndarray | None = None
    for part in worker.rows.transactions(most):
        if before is not None:
            yield before, True
        before = part
    if before is not None:
        yield before, False


def transactions(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each transaction of a worker begins and ends, shape (transactions,), and which one each
    attempt is of, shape (attempts,): a transaction is a stretch of rows of one txn number.
    """
    new = np.append(True, rows["txn"][1:] != rows["txn"][:-1]) if len(rows) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    lasts = np.append(starts[1:] - 1, len(rows) - 1) if len(rows) else starts
    return starts, lasts, np.cumsum(new) - 1


def given_up(rows: np.ndarray, lasts: np.ndarray, retry: Retry, more: bool = False) -> np.ndarray:
    """Which transactions, by their last rows, were left after a conflict by the policy's word.

    more : the worker's others follow behind these.

    The worker's very last one may only have met the end of the run: that is not giving up.
    """
    outcome, attempt = rows["outcome"][lasts], rows["attempt"][lasts]
    followed = np.arange(len(lasts)) < len(lasts) - (not more)
    by_policy = np.full(len(lasts), retry.policy == "none")
    if retry.most_tries:
        by_policy |= attempt >= retry.most_tries
    found: np.ndarray = (outcome == CONFLICT) & (followed | by_policy)
    return found
