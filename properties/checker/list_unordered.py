"""Appends without a place of their own: values appended more than once, and reads that were sets.

Neither gives an order of versions. But where a value is absent, every append of it came later.
Where it is there as often as it was appended, every append of it came before.
"""

from __future__ import annotations

import numpy as np

from properties.checker.graph import RW, RW_PREDICATE, WR, add_fan
from properties.checker.list_versions import Versions
from properties.checker.verdict import Witness, elide
from workloads.records import PREDICATE_READ, TXN_COMMITTED, Unordered, show

MOST_PAIRS = 2_000_000  # of a read and a write: beyond, fewer violations are found, none is made up


def add_repeated(lists: Versions) -> None:
    """Edges between reads and the writers of a value that several appended and somebody read."""
    writers, h = lists.writers, lists.h
    ambiguous = np.flatnonzero(writers.ambiguous & lists.value_seen)
    if not len(ambiguous):
        return
    # Where each value stands first and last in its key's longest read.
    known = np.flatnonzero(lists.flat_writer >= 0)
    first = np.full(len(writers.op), len(lists.flat_key))
    last = np.full(len(writers.op), -1)
    np.minimum.at(first, lists.flat_writer[known], known)
    np.maximum.at(last, lists.flat_writer[known], known)
    often = np.bincount(lists.flat_writer[known], minlength=len(writers.op))
    ambiguous = ambiguous[last[ambiguous] >= 0]
    # Reads in order of key and length: those without a value come first, those with it last.
    reads = np.flatnonzero(~lists.bad)
    ends = lists.base_start[lists.read_key[reads]] + lists.read_len[reads]
    order = np.lexsort((ends, lists.read_key[reads]))
    reads, ends = reads[order], ends[order]
    key = h.op_key[writers.op[ambiguous]]
    begin = np.searchsorted(lists.read_key[reads], key)
    stop = np.searchsorted(lists.read_key[reads], key, side="right")
    without = np.searchsorted(ends, first[ambiguous], side="right")
    holding = np.searchsorted(ends, last[ambiguous], side="right")
    appends = lists.write_ops[lists.happened[lists.op_txn[lists.write_ops]]]
    value = writers.find(h.op_key[appends], h.op_value[appends])
    appends = appends[np.argsort(value, kind="stable")]
    value = np.sort(value)

    def writing(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _ranges(np.searchsorted(value, some), np.searchsorted(value, some, side="right"))

    without = np.clip(without, begin, stop)
    if int((without - begin).sum()) <= MOST_PAIRS:
        of, read = _ranges(begin, without)
        _add_anti(lists, of, lists.reads[reads[read]], *writing(ambiguous), appends)
    every = often[ambiguous] == writers.possible[ambiguous]
    holding = np.clip(holding, begin, stop)
    many = (stop - holding)[every] * writers.possible[ambiguous[every]]
    if int(many.sum()) <= MOST_PAIRS:
        of, read = _ranges(holding[every], stop[every])
        pair, write = writing(ambiguous[every][of])
        op, by = lists.reads[reads[read]][pair], appends[write]
        other = lists.op_txn[op] != lists.op_txn[by]
        lists.graph.add(lists.op_txn[by[other]], lists.op_txn[op[other]], WR, by[other], op[other])


def _ranges(begin: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each range its number, once for each place in it, and those places."""
    counts = np.maximum(stop - begin, 0)
    number = np.repeat(np.arange(len(counts)), counts)
    return number, np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts - begin, counts)


def _add_anti(
    lists: Versions,
    group: np.ndarray,
    reads: np.ndarray,
    of: np.ndarray,
    write: np.ndarray,
    appends: np.ndarray,
) -> None:
    """From each read of a group to each append of that group, but a transaction's to its own."""
    appends, n = appends[write], len(lists.h)
    for anti in (RW, RW_PREDICATE):
        mine = (lists.h.op_kind[reads] == PREDICATE_READ) == (anti == RW_PREDICATE)
        readers = (group[mine], reads[mine], lists.op_txn[reads[mine]])
        add_fan(lists.graph, anti, readers, (of, appends, lists.op_txn[appends]), n)


def judge_sets(lists: Versions) -> None:
    """Judges reads that were answered with a set: garbage, aborted appends, and edges."""
    h, left = lists.h, MOST_PAIRS
    if not h.sets:
        return
    appends = lists.write_ops[np.argsort(h.op_key[lists.write_ops], kind="stable")]
    keys = h.op_key[appends]
    for op, codes in h.sets.items():
        reader, key = int(lists.op_txn[op]), int(h.op_key[op])
        if h.txn_outcome[reader] != TXN_COMMITTED:
            continue
        values = np.array(codes, np.int64)
        found = lists.writers.find(np.full(len(values), key), values)
        _witness_in_set(lists, op, values, found)
        mine = appends[np.searchsorted(keys, key) : np.searchsorted(keys, key, side="right")]
        left -= len(mine)
        if left < 0:
            continue
        mine = mine[lists.happened[lists.op_txn[mine]] & (lists.op_txn[mine] != reader)]
        of = lists.writers.find(h.op_key[mine], h.op_value[mine])
        there = np.isin(h.op_value[mine], values)
        clear = mine[there & ~lists.writers.ambiguous[of]]
        lists.graph.add(lists.op_txn[clear], np.full(len(clear), reader), WR, clear, op)
        later = mine[~there]
        kind = RW_PREDICATE if h.op_kind[op] == PREDICATE_READ else RW
        lists.graph.add(np.full(len(later), reader), lists.op_txn[later], kind, op, later)


def _witness_in_set(lists: Versions, op: int, values: np.ndarray, found: np.ndarray) -> None:
    h, reader = lists.h, int(lists.op_txn[op])
    seen = Unordered(map(h.decode, values.tolist()))
    for value, place in zip(values.tolist(), found.tolist(), strict=True):
        writer = int(lists.op_txn[lists.writers.op[place]]) if place >= 0 else reader
        if place >= 0 and not lists.aborted[writer]:
            continue
        shown, key = show(h.decode(value)), show(h.keys[h.op_key[op]])
        why = (
            f"T1 read {shown} in {key}, which nobody appended: {elide(seen, [h.decode(value)])}"
            if place < 0
            else f"T1 read {shown} in {key}, which T2 appended, and T2 was aborted"
        )
        name, others = ("garbage-read", []) if place < 0 else ("G1a", [writer])
        if not lists.findings.full(name):
            marks = [h.decode(value)]
            lists.findings.add(Witness(name, [reader, *others], marks=marks, why=why))
