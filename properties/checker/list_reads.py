"""Reads of lists: anomalies that show inside one transaction, or between the reads of a few.

`internal` and `future-read` need one transaction. `lost-update` needs two that read one version.
`fractured-read` needs one that saw only a part of what another wrote.
"""

from __future__ import annotations

import numpy as np

from properties.checker.graph import WR, Reduced
from properties.checker.list_edges import Lists
from properties.checker.verdict import Witness, elide
from workloads.records import READ, TXN_COMMITTED, WRITE, History, show


def repeated_keys(history: History, op_txn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Operations of committed transactions that use their key more than once.

    Returns operations sorted by transaction, key and place, and the number of each one's group.
    """
    codes = op_txn.astype(np.int64) * max(len(history.keys), 1) + history.op_key
    longest = int(np.diff(history.op_start).max(initial=0))
    if longest <= 16:
        # Transactions are short: comparing with the next few operations is cheaper than sorting.
        again = np.zeros(len(codes), bool)
        for lag in range(1, longest):
            same = codes[lag:] == codes[:-lag]
            again[lag:] |= same
            again[:-lag] |= same
        ops = np.flatnonzero(again)
    else:
        ops = np.arange(len(codes))
    ops = ops[history.txn_outcome[op_txn[ops]] == TXN_COMMITTED]
    ops = ops[np.argsort(codes[ops], kind="stable")]
    new = np.ones(len(ops), bool)
    new[1:] = codes[ops[1:]] != codes[ops[:-1]]
    return ops, np.cumsum(new) - 1


def judge_lists(lists: Lists) -> None:
    """Find internal, future-read and lost-update and add them to the findings."""
    h = lists.h
    ops, group = repeated_keys(h, lists.op_txn)
    given = (h.op_kind[ops] == WRITE) | (h.op_length[ops] >= 0)
    ops, group = ops[given], group[given]
    if not len(ops):
        return
    writes = h.op_kind[ops] == WRITE
    bad_read = np.zeros(len(h.op_kind), bool)
    bad_read[lists.reads[lists.bad]] = True
    places = np.arange(len(ops))
    start = np.searchsorted(group, group)
    appended = np.cumsum(writes)
    read_before = np.maximum.accumulate(np.where(~writes, places, -1))
    read_before = np.concatenate(([-1], read_before[:-1]))
    read_before = np.where(read_before >= start, read_before, -1)
    base = np.where(read_before >= 0, appended[read_before], appended[start] - writes[start])
    since = appended - base
    length = h.op_length[ops]
    reads = np.flatnonzero(~writes)
    before = read_before[reads]
    expected = np.where(before >= 0, length[before], 0) + since[reads]
    wrong = np.where(before >= 0, length[reads] != expected, length[reads] < expected)
    suspects = set(group[reads[wrong]].tolist())
    suspects |= set(group[_misplaced(lists, ops, group, writes, appended)].tolist())
    suspects |= set(group[bad_read[ops]].tolist())
    own = np.flatnonzero(writes & (read_before >= 0) & lists.seen[ops])
    own = own[lists.place[ops[own]] >= 0]
    at = lists.place[ops[own]] - lists.base_start[h.op_key[ops[own]]]
    suspects |= set(group[own[length[read_before[own]] > at]].tolist())
    bounds = np.searchsorted(group, np.arange(group[-1] + 2))
    for number in sorted(suspects):
        _judge_group(lists, ops[bounds[number] : bounds[number + 1]].tolist())
    _lost_updates(lists, ops, group, writes, bad_read)


def _misplaced(
    lists: Lists, ops: np.ndarray, group: np.ndarray, writes: np.ndarray, appended: np.ndarray
) -> np.ndarray:
    """Appends that the transaction's next read of the key does not hold where they must be."""
    h = lists.h
    places = np.arange(len(ops))
    following = np.minimum.accumulate(np.where(~writes, places, len(ops))[::-1])[::-1]
    mine = np.flatnonzero(writes & (following < len(ops)))
    mine = mine[group[following[mine]] == group[mine]]
    read = following[mine]
    back = appended[read] - appended[mine] + 1
    at = h.op_value[ops[read]] + h.op_length[ops[read]] - back
    short = h.op_length[ops[read]] < back
    seen = h.elements[np.where(short, 0, at)] if len(h.elements) else np.zeros(len(mine))
    return mine[short | (seen != h.op_value[ops[mine]])]


def _judge_group(lists: Lists, ops: list[int]) -> None:
    """One transaction's operations on one key, exactly; at most one witness of each name."""
    h, findings = lists.h, lists.findings
    txn, key = int(lists.op_txn[ops[0]]), show(h.keys[h.op_key[ops[0]]])
    own: list[int] = []
    # The list that a read must find next: after any read, and after a read by name. A predicate's
    # answer binds only predicates at levels that allow phantoms.
    expected: list[int] | None = None
    by_name: list[int] | None = None
    named: set[str] = set()
    read_so_far: set[int] = set()

    def witness(name: str, seen: list[int], marks: list[int], why: str, must: list[int]) -> None:
        if name not in named:
            named.add(name)
            saw, wanted = (elide([h.decode(v) for v in values]) for values in (seen, must))
            text = why.format(key=key, saw=saw, must=wanted)
            findings.add(Witness(name, [txn], marks=[h.decode(v) for v in marks], why=text))

    for op in ops:
        if h.op_kind[op] == WRITE:
            value = int(h.op_value[op])
            if value in read_so_far and not lists.ambiguous(op):
                witness(
                    "future-read",
                    [],
                    [value],
                    "T1 read it in {key} before it appended {must}",
                    [value],
                )
            own.append(value)
            expected = None if expected is None else [*expected, value]
            by_name = None if by_name is None else [*by_name, value]
            continue
        at = int(h.op_value[op])
        seen = h.elements[at : at + int(h.op_length[op])].tolist()
        must = by_name if h.op_kind[op] == READ else None
        if must is not None and seen != must:
            why = "T1 read {key} = {saw}, but by its own operations before it must be {must}"
            witness("internal", seen, own[-1:], why, must)
        elif must is None and seen[max(len(seen) - len(own), 0) :] != own:
            why = "T1 read {key} = {saw}, but by its own operations before it must end with {must}"
            witness("internal", seen, own[-1:], why, own)
        elif expected is not None and seen != expected:
            why = (
                "T1 read {key} = {saw}, but by its own operations before it must be {must}; one of "
                "the two reads was a predicate's"
            )
            witness("internal-predicate", seen, seen[-1:], why, expected)
        # The next read must find the same as this one, also where this one was wrong.
        expected = list(seen)
        by_name = list(seen) if h.op_kind[op] == READ else by_name
        read_so_far.update(seen)


def _lost_updates(
    lists: Lists, ops: np.ndarray, group: np.ndarray, writes: np.ndarray, bad: np.ndarray
) -> None:
    h = lists.h
    first = np.flatnonzero(np.searchsorted(group, group) == np.arange(len(group)))
    has_write = np.bincount(group, writes) > 0
    first = first[(h.op_kind[ops[first]] == READ) & ~bad[ops[first]] & has_write[group[first]]]
    read = ops[first]
    codes = h.op_key[read].astype(np.int64) * (int(h.op_length.max(initial=0)) + 1)
    codes += h.op_length[read]
    order = np.argsort(codes, kind="stable")
    same = np.flatnonzero(codes[order[1:]] == codes[order[:-1]])
    for i in same[:8].tolist():
        a, b = int(read[order[i]]), int(read[order[i + 1]])
        at = int(h.op_value[a])
        seen = [h.decode(v) for v in h.elements[at : at + int(h.op_length[a])]]
        lists.findings.add(
            Witness(
                "lost-update",
                sorted((int(lists.op_txn[a]), int(lists.op_txn[b]))),
                marks=seen[-1:],
                why=f"T1 and T2 both read {show(h.keys[h.op_key[a]])} = {elide(seen)} "
                "and both appended to it",
            )
        )


def fractured_lists(lists: Lists, reduced: Reduced) -> None:
    """Readers that saw one append of a transaction and not another, found among the cycles."""
    h = lists.h
    # Only the last append that a read saw tells which version it read. An append somewhere before
    # it does not, and of repeated values and of sets nothing more is known.
    wr = np.flatnonzero(reduced.kind == WR)
    last = lists.writers.find(h.op_key[reduced.source_op[wr]], h.op_value[reduced.source_op[wr]])
    wr = wr[~lists.writers.ambiguous[last] & (h.op_length[reduced.target_op[wr]] >= 0)]
    if not len(wr):
        return
    writer, reader = reduced.names[reduced.source[wr]], reduced.names[reduced.target[wr]]
    counts = np.diff(h.op_start)[writer]
    edge = np.repeat(np.arange(len(wr)), counts)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    op = h.op_start[writer[edge]] + within
    keep = h.op_kind[op] == WRITE
    edge, op = edge[keep], op[keep]
    good = lists.reads[~lists.bad]
    codes = lists.op_txn[good].astype(np.int64) * len(h.keys) + h.op_key[good]
    order = np.argsort(codes, kind="stable")
    good, codes = good[order], codes[order]
    if not len(good):
        return
    wanted = reader[edge].astype(np.int64) * len(h.keys) + h.op_key[op]
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    read = good[at]
    place = np.where(lists.place[op] >= 0, lists.place[op] - lists.base_start[h.op_key[op]], 2**40)
    missed = (codes[at] == wanted) & (place >= h.op_length[read])
    missed &= (lists.place[op] >= 0) | ~lists.seen[op]
    ambiguous = lists.writers.find(h.op_key[op], h.op_value[op])
    missed &= ~lists.writers.ambiguous[ambiguous]
    for i in np.flatnonzero(missed)[:8].tolist():
        e, w = wr[edge[i]], int(op[i])
        saw = int(reduced.source_op[e])
        lists.findings.add(
            Witness(
                "fractured-read",
                [int(reader[edge[i]]), int(writer[edge[i]])],
                marks=[h.decode(h.op_value[saw]), h.decode(h.op_value[w])],
                why=f"T1 saw T2's append of {show(h.decode(h.op_value[saw]))} to "
                f"{show(h.keys[h.op_key[saw]])}, but not T2's append of "
                f"{show(h.decode(h.op_value[w]))} to {show(h.keys[h.op_key[w]])}",
            )
        )
