"""Registers: a read tells which write it saw, and little about the order of the writes.

Two orders are proven: the initial state is before everything, and a version comes after the one
that its transaction read before writing it. Edges follow from the order, as for lists. A level
may force more of the order of versions; `register_levels` draws that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from properties.checker.graph import RW, RW_PREDICATE, WR, Graph, add_fan, components
from properties.checker.verdict import Findings, Witness
from properties.checker.write_index import Writers, index_writes
from workloads.records import (
    NIL,
    NOT_KNOWN,
    PREDICATE_READ,
    READ,
    TXN_COMMITTED,
    TXN_UNKNOWN,
    WRITE,
    History,
    show,
)


@dataclass
class Registers:
    """Reads from others and writes for others, of each transaction.

    read_op : shape (reads,), reads of the initial state or of another transaction's write, each
    known for certain; source is the writing operation, -1 for the initial state; first is False
    where the transaction had used the key before (such a read is an `internal` anomaly).
    final : shape (ops,), whether an operation is its transaction's last write of its key.
    doubted : shape (ops,), writes whose value an aborted transaction wrote, too: who read it read
    this one, or an aborted write. undecided : something was not judged, so nothing is proven.
    """

    h: History
    op_txn: np.ndarray
    happened: np.ndarray
    read_op: np.ndarray
    source: np.ndarray
    first: np.ndarray
    final: np.ndarray
    undecided: bool = field(default=False)
    doubted: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.doubted = np.zeros(len(self.final), bool)

    @property
    def writes(self) -> np.ndarray:
        """Final writes of what happened: the versions."""
        return np.flatnonzero(self.final & self.happened[self.op_txn])


def observe(h: History, findings: Findings) -> Registers:
    """Resolve every read to its write; adds the anomalies that single reads show."""
    op_txn = np.repeat(np.arange(len(h), dtype=np.int32), np.diff(h.op_start))
    outcome = h.txn_outcome[op_txn]
    aborted = (h.txn_outcome != TXN_COMMITTED) & (h.txn_outcome != TXN_UNKNOWN)
    writers = index_writes(h, op_txn, aborted, findings)
    final, outward, first = _within(h, op_txn, findings)
    known = (h.op_kind != WRITE) & (outcome == TXN_COMMITTED) & (h.op_value != NOT_KNOWN)
    reads = np.flatnonzero(known & outward)
    source, clear = _sources(h, op_txn, reads, writers, aborted, final, findings)
    proof = source[source >= 0]
    happened = h.txn_outcome == TXN_COMMITTED
    seen = np.bincount(op_txn[proof], minlength=len(h)) > 0
    happened |= (h.txn_outcome == TXN_UNKNOWN) & seen
    found = Registers(h, op_txn, happened, reads[clear], source[clear], first[reads[clear]], final)
    found.undecided = bool(findings.unjudged)
    found.doubted[writers.op[writers.count > writers.possible]] = True
    return found


def _within(
    h: History, op_txn: np.ndarray, findings: Findings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Final writes, reads that look outward, and first uses of a key: each of shape (ops,)."""
    is_write = h.op_kind == WRITE
    codes = op_txn.astype(np.int64) * max(len(h.keys), 1) + h.op_key
    order = np.argsort(codes, kind="stable")
    new = np.ones(len(order), bool)
    new[1:] = codes[order[1:]] != codes[order[:-1]]
    group = np.cumsum(new) - 1
    final, outward, first = is_write.copy(), ~is_write, np.ones(len(codes), bool)
    many = np.flatnonzero(np.bincount(group, minlength=1) > 1)
    bounds = np.flatnonzero(new).tolist() + [len(order)]
    for number in many:
        ops = order[bounds[number] : bounds[number + 1]].tolist()
        committed = bool(h.txn_outcome[op_txn[ops[0]]] == TXN_COMMITTED)
        _walk(h, int(op_txn[ops[0]]), ops, committed, (final, outward, first), findings)
    return final, outward, first


def _walk(
    h: History,
    txn: int,
    ops: list[int],
    committed: bool,
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
    findings: Findings,
) -> None:
    """One transaction's operations on one key, in its own order."""
    final, outward, first = columns
    last = max((op for op in ops if h.op_kind[op] == WRITE), default=-1)
    # The value that a read must find next: whatever was read or written last, and likewise for what
    # was written or read by name. A predicate's answer binds only predicates at levels that allow
    # phantoms, so a read by name after it is a read of its own.
    expected: int | None = None
    by_name: int | None = None
    wrote = False  # whether `expected` is the transaction's own write
    mine: set[int] = set()
    named: set[str] = set()
    for place, op in enumerate(ops):
        value, item = int(h.op_value[op]), h.op_kind[op] != PREDICATE_READ
        first[op] = place == 0 or (h.op_kind[op] == READ and by_name is None)
        if h.op_kind[op] == WRITE:
            mine.add(value)
            final[op] = op == last
            expected = by_name = value
            wrote = True
            continue
        if not committed or value == NOT_KNOWN:
            continue
        # A repeated read of one value, or of the own write, tells nothing of others.
        outward[op] = first[op] or (value != expected and value not in mine)
        must, name = by_name if item or wrote else None, "internal"
        if must is None:
            must, name = expected, "internal-predicate"
        if must is not None and value != must and name not in named:
            named.add(name)
            findings.add(
                Witness(
                    name,
                    [txn],
                    marks=[h.decode(value)],
                    why=f"T1 read {show(h.keys[h.op_key[op]])} = {show(h.decode(value))}, but by "
                    "its own operations before it must be "
                    f"{show(h.decode(must))}",
                )
            )
        wrote = wrote and value == expected
        expected = value
        by_name = value if item else by_name


def _sources(
    h: History,
    op_txn: np.ndarray,
    reads: np.ndarray,
    writers: Writers,
    aborted: np.ndarray,
    final: np.ndarray,
    findings: Findings,
) -> tuple[np.ndarray, np.ndarray]:
    """The write that each read saw (-1: the initial state), and which of them are clear."""
    value = h.op_value[reads]
    nil = value == NIL
    at = writers.find(h.op_key[reads], np.where(nil, 0, value))
    at[nil] = -1
    known = at >= 0
    source = np.full(len(reads), -1, np.int64)
    source[known] = writers.op[at[known]]
    ambiguous = np.zeros(len(reads), bool)
    ambiguous[known] = writers.ambiguous[at[known]]
    writer = op_txn[source] if len(op_txn) else source
    own = known & (writer == op_txn[reads])
    gone = known & aborted[writer]
    clear = (nil | known) & ~ambiguous & ~own & ~gone
    middle = clear & known & ~final[source]
    cases = (
        ("garbage-read", ~nil & ~known, "T1 read {key} = {value}, which nobody wrote"),
        (
            "future-read",
            own & ~ambiguous & (source > reads),
            "T1 read {key} = {value} before it wrote it",
        ),
        ("G1a", gone, "T1 read {key} = {value}, which T2 wrote, and T2 was aborted"),
        ("G1b", middle, "T1 read {key} = {value}, which T2 wrote and then wrote over"),
    )
    for name, which, why in cases:
        for i in np.flatnonzero(which)[:8].tolist():
            shown = h.decode(value[i])
            txns = [int(op_txn[reads[i]])]
            if name.startswith("G1"):
                txns.append(int(writer[i]))
            findings.add(
                Witness(
                    name,
                    txns,
                    marks=[shown],
                    why=why.format(key=show(h.keys[h.op_key[reads[i]]]), value=show(shown)),
                )
            )
    return source, clear


def updates(seen: Registers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transactions that read a version of a key first and then wrote the key.

    Returns the reads, the versions that they saw (a number for each key and source), and the
    final writes; each of shape (updates,).
    """
    h, n = seen.h, len(seen.h.keys)
    reads = np.flatnonzero(seen.first)
    writes = seen.writes
    write_codes = seen.op_txn[writes].astype(np.int64) * n + h.op_key[writes]
    order = np.argsort(write_codes)
    writes, write_codes = writes[order], write_codes[order]
    op = seen.read_op[reads]
    codes = seen.op_txn[op].astype(np.int64) * n + h.op_key[op]
    at = np.searchsorted(write_codes, codes)
    has = at < len(write_codes)
    has[has] = write_codes[at[has]] == codes[has]
    return op[has], version(seen, reads)[has], writes[at[has]]


def version(seen: Registers, reads: np.ndarray) -> np.ndarray:
    """A number for the version that each read saw: its write, or below 0 its key's beginning."""
    source = seen.source[reads]
    return np.where(source >= 0, source, -1 - seen.h.op_key[seen.read_op[reads]].astype(np.int64))


def add_proven_edges(graph: Graph, seen: Registers, findings: Findings) -> None:
    """Edges that need no level to be assumed; adds lost-update and cyclic-versions."""
    h, op_txn = seen.h, seen.op_txn
    from_write = seen.source >= 0
    source, read = seen.source[from_write], seen.read_op[from_write]
    graph.add(op_txn[source], op_txn[read], WR, source, read)
    update_read, update_version, update_write = updates(seen)
    _lost_updates(seen, update_read, update_version, findings)
    _cyclic_versions(seen, update_version, update_write, findings)
    # Whoever saw a version comes before whoever read it and wrote the next one; whoever saw the
    # beginning comes before every writer of the key.
    writes = seen.writes
    groups = np.concatenate((update_version, -1 - h.op_key[writes].astype(np.int64)))
    later = np.concatenate((update_write, writes))
    lowest = len(h.keys) + 1  # groups count from 0 in the fan
    everything = np.arange(len(seen.read_op))
    for kind in (RW, RW_PREDICATE):
        op = seen.read_op
        fits = (h.op_kind[op] == PREDICATE_READ) == (kind == RW_PREDICATE)
        mine = everything[fits]
        add_fan(
            graph,
            kind,
            (version(seen, mine) + lowest, op[mine], op_txn[op[mine]]),
            (groups + lowest, later, op_txn[later]),
            len(h),
        )


def _lost_updates(
    seen: Registers, read: np.ndarray, versions: np.ndarray, findings: Findings
) -> None:
    h = seen.h
    item = h.op_kind[read] != PREDICATE_READ
    read, versions = read[item], versions[item]
    order = np.argsort(versions, kind="stable")
    same = np.flatnonzero(versions[order[1:]] == versions[order[:-1]])
    for i in same[:8].tolist():
        a, b = int(read[order[i]]), int(read[order[i + 1]])
        value = h.decode(h.op_value[a])
        findings.add(
            Witness(
                "lost-update",
                sorted((int(seen.op_txn[a]), int(seen.op_txn[b]))),
                marks=[value],
                why=f"T1 and T2 both read {show(h.keys[h.op_key[a]])} = {show(value)} and both "
                "wrote "
                "to it",
            )
        )


def _cyclic_versions(
    seen: Registers, before: np.ndarray, after: np.ndarray, findings: Findings
) -> None:
    """A version is older than the one that was written by someone who had read it.

    Each transaction read first and wrote then, so even dirty reads can't make a circle of these.
    """
    h = seen.h
    sure = before >= 0
    sure[sure] = ~seen.doubted[before[sure]]
    source, target = before[sure], after[sure]
    # An intermediate write is a version of the same transaction, before its final one.
    if not len(source):
        return
    nodes, number = np.unique(np.concatenate((source, target)), return_inverse=True)
    a, b = number[: len(source)], number[len(source) :]
    label, cyclic = components(len(nodes), a, b)
    for component in np.unique(label[cyclic])[:8].tolist():
        ops = nodes[label == component]
        key = show(h.keys[h.op_key[ops[0]]])
        values = [h.decode(h.op_value[op]) for op in ops[:8]]
        findings.add(
            Witness(
                "cyclic-versions",
                [int(seen.op_txn[op]) for op in ops[:8]],
                marks=values,
                why=f"the values {', '.join(map(show, values))} of {key} were each written by one "
                "who had read the one before, in a circle",
            )
        )
