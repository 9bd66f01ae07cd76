"""Direct inference: what one step proves about registers, for histories too large for more."""

from __future__ import annotations

import numpy as np

from properties.checker.graph import (
    PROCESS,
    REALTIME,
    RW,
    RW_PREDICATE,
    WR,
    WW,
    Graph,
    Reduced,
    add_fan,
    add_realtime_edges,
    add_session_edges,
)
from properties.checker.register_edges import Registers, updates, version
from properties.checker.verdict import Witness
from workloads.records import NEVER, PREDICATE_READ, TXN_COMMITTED


def beside(seen: Registers) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Readers that read something of W' and a key that W' wrote too, of somebody else.

    Returns reader, W' (transactions), the read of that key (a place in `read_op`) and the final
    write of W' to it; one row for each such pair, each of shape (pairs,).
    """
    h, op_txn = seen.h, seen.op_txn
    from_write = np.flatnonzero(seen.source >= 0)
    reader = op_txn[seen.read_op[from_write]].astype(np.int64)
    writer = op_txn[seen.source[from_write]].astype(np.int64)
    pairs = np.unique(reader * len(h) + writer)
    reader, writer = pairs // len(h), pairs % len(h)
    writes = seen.writes
    counts = np.bincount(op_txn[writes], minlength=len(h))
    starts = np.cumsum(counts) - counts
    row = np.repeat(np.arange(len(pairs)), counts[writer])
    within = np.arange(len(row)) - np.repeat(
        np.cumsum(counts[writer]) - counts[writer], counts[writer]
    )
    write = writes[starts[writer[row]] + within]
    reads = np.flatnonzero(seen.first)
    keys = max(len(h.keys), 1)
    codes = op_txn[seen.read_op[reads]].astype(np.int64) * keys + h.op_key[seen.read_op[reads]]
    order = np.argsort(codes)
    reads, codes = reads[order], codes[order]
    if not len(codes):
        return tuple(np.zeros(0, np.int64) for _ in range(4))  # type: ignore[return-value]
    wanted = reader[row] * keys + h.op_key[write]
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    read = reads[at]
    of_other = (seen.source[read] < 0) | (op_txn[seen.source[read]] != writer[row])
    fits = (codes[at] == wanted) & of_other & (reader[row] != writer[row])
    return reader[row][fits], writer[row][fits], read[fits], write[fits]


def _before_by_time(seen: Registers, by_session: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each read the latest writer of its key that had ended before (of its own session).

    Returns the reader, the place of the read in `read_op`, and the final write.
    """
    h, op_txn = seen.h, seen.op_txn
    writes = seen.writes
    writes = writes[
        (h.txn_outcome[op_txn[writes]] == TXN_COMMITTED) & (h.txn_end[op_txn[writes]] != (NEVER))
    ]
    reads = np.flatnonzero(seen.first)
    group_w = h.op_key[writes].astype(np.int64)
    group_r = h.op_key[seen.read_op[reads]].astype(np.int64)
    if by_session:
        group_w = group_w * len(h.sessions) + h.txn_session[op_txn[writes]]
        group_r = group_r * len(h.sessions) + h.txn_session[op_txn[seen.read_op[reads]]]
    time_w = h.txn_end[op_txn[writes]]
    time_r = h.txn_begin[op_txn[seen.read_op[reads]]]
    # One sorted line of ends and begins for each group: the last end before each begin. An end
    # at the very moment of a begin is not before it, but within a session it is.
    group = np.concatenate((group_w, group_r))
    time = np.concatenate((time_w, time_r))
    side = np.repeat([0 if by_session else 1, 1 if by_session else 0], [len(writes), len(reads)])
    order = np.lexsort((side, time, group))
    is_write = order < len(writes)
    last = np.maximum.accumulate(np.where(is_write, np.arange(len(order)), -1))
    mine = np.flatnonzero(~is_write & (last >= 0))
    mine = mine[group[order[last[mine]]] == group[order[mine]]]
    read, write = reads[order[mine] - len(writes)], writes[order[last[mine]]]
    return op_txn[seen.read_op[read]], read, write


def violated_in_one_step(seen: Registers, level: str, extra: tuple[int, ...]) -> Witness | None:
    """A cycle of this level among what is given and what one step infers from it, or None."""
    h, op_txn = seen.h, seen.op_txn
    graph = Graph(len(h))
    from_write = seen.source >= 0
    source, op = seen.source[from_write], seen.read_op[from_write]
    graph.add(op_txn[source], op_txn[op], WR, source, op)
    reader, _, read, write = beside(seen)
    found = [(reader, read, write)]
    if PROCESS in extra:
        add_session_edges(graph, h, seen.happened)
        found.append(_before_by_time(seen, True))
    if REALTIME in extra:
        add_realtime_edges(graph, h, seen.happened)
        found.append(_before_by_time(seen, False))
    reader, read, write = (np.concatenate(c) for c in zip(*found, strict=True))
    _, later_version, later_write = updates(seen)
    kept = (
        (seen.source[read] >= 0)
        & (op_txn[write] != op_txn[seen.source[read]])
        & (op_txn[write] != reader)
    )
    reader, write, onto = reader[kept], write[kept], seen.source[read][kept]
    graph.add(op_txn[write], op_txn[onto], WW, write, onto, reader)
    writes = seen.writes
    groups = np.concatenate((later_version, -1 - h.op_key[writes].astype(np.int64), write))
    later = np.concatenate((later_write, writes, onto))
    lowest = len(h.keys) + 1
    for kind in (RW, RW_PREDICATE):
        mine = np.flatnonzero((h.op_kind[seen.read_op] == PREDICATE_READ) == (kind != RW))
        ops = seen.read_op[mine]
        add_fan(
            graph,
            kind,
            (version(seen, mine) + lowest, ops, op_txn[ops]),
            (groups + lowest, later, op_txn[later]),
            len(h),
        )
    reduced = Reduced(graph, len(h))
    if not reduced.nodes or not len(reduced.of_level(level)[0]):
        return None
    steps = reduced.steps(reduced.any_cycle(level))
    return Witness("", [step.source for step in steps], steps)
