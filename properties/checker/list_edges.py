"""The dependencies of list-append transactions, from the order of versions that `Versions` finds.

From that order follow the edges: ww between neighbours, wr from what was read last, rw to what
was appended next. Appends that nobody saw stand after the longest read, in no order.
"""

from __future__ import annotations

import numpy as np

from properties.checker.graph import RW, RW_PREDICATE, WR, WW, WW_IF, add_fan
from properties.checker.list_unordered import add_repeated, judge_sets
from properties.checker.list_versions import Versions
from properties.checker.verdict import Witness, elide
from workloads.records import PREDICATE_READ, TXN_COMMITTED, TXN_UNKNOWN, show


class Lists(Versions):
    """One judgement of a list-append history; `run` fills a graph and the findings."""

    def run(self) -> np.ndarray:
        """Fill the graph and the findings; returns which transactions happened, shape (n,)."""
        self.find()
        self._judge_bad_reads()
        self._happened()
        self._chain()
        self._ww()
        self._wr_and_rw()
        self._tails()
        add_repeated(self)
        judge_sets(self)
        self._element_anomalies()
        self._own_orders()
        return self.happened

    # -- reads that fit no order ----------------------------------------------------------------

    def _judge_bad_reads(self) -> None:
        for codes in self.h.sets.items():
            self._note_set(*codes)
        for read in np.flatnonzero(self.bad).tolist():
            key, values = int(self.read_key[read]), self._seen(read)
            at = self.writers.find(np.full(len(values), key), values)
            self.seen[self.writers.op[at[at >= 0]]] = True
            self.value_seen[at[at >= 0]] = True
            self._break_links(key, values)
            txn = int(self.op_txn[self.reads[read]])
            twice = self._duplicates(read)
            if twice:
                self._witness(
                    "duplicate-elements",
                    read,
                    [],
                    twice[0],
                    "T1 read {value} twice in {key}: {list}",
                )
            elif self.base_read[key] >= 0 and not self.findings.full("incompatible-order"):
                other = int(self.base_read[key])
                marks = self._first_difference(values, self._seen(other))
                decoded = [self.h.decode(v) for v in self._seen(other)]
                self.findings.add(
                    Witness(
                        "incompatible-order",
                        [txn, int(self.op_txn[self.reads[other]])],
                        why=f"T1 read {show(self.h.keys[key])} = "
                        f"{elide([self.h.decode(v) for v in values], marks)} and T2 read it = "
                        f"{elide(decoded, marks)}: neither begins with the other",
                        marks=marks,
                    )
                )
            for i in np.flatnonzero(at < 0).tolist():
                self._witness(
                    "garbage-read",
                    read,
                    [],
                    values[i],
                    "T1 read {value} in {key}, which nobody appended: {list}",
                )
            for place, value in zip(at.tolist(), values.tolist(), strict=True):
                writer = int(self.op_txn[self.writers.op[place]]) if place >= 0 else txn
                if self.aborted[writer]:
                    self._witness(
                        "G1a",
                        read,
                        [writer],
                        value,
                        "T1 read {value} in {key}, which T2 appended, and T2 was aborted",
                    )
            self._judge_too_many(at, read)

    def _note_set(self, op: int, codes: list[int]) -> None:
        """Counts the values of a set as seen, though in no order: somebody saw those appends."""
        if self.h.txn_outcome[self.op_txn[op]] != TXN_COMMITTED:
            return
        at = self.writers.find(np.full(len(codes), self.h.op_key[op]), np.array(codes, np.int64))
        self.seen[self.writers.op[at[at >= 0]]] = True
        self.value_seen[at[at >= 0]] = True

    def _judge_too_many(self, writers: np.ndarray, read: int = -1) -> None:
        """A value that stands there more often than all who may have appended it and committed.

        writers : of each element of a read, as places in `writers.op`, or of all the bases.
        """
        mixed = (self.writers.count > self.writers.possible) & (self.writers.possible > 0)
        if not mixed.any():
            return
        known = np.flatnonzero(writers >= 0)
        which, many = np.unique(writers[known], return_counts=True)
        too_many = (many > self.writers.possible[which]) & mixed[which]
        too_many &= many <= self.writers.count[which]  # else it is a duplicate, whoever wrote it
        for writer, often in zip(which[too_many][:8].tolist(), many[too_many], strict=False):
            self._witness(
                "G1a",
                read if read >= 0 else self._reader_of(int(known[writers[known] == writer][-1])),
                [self.aborted_writer(writer)],
                int(self.h.op_value[self.writers.op[writer]]),
                f"T1 read {{value}} {often} times in {{key}}, and T2, one of those who "
                "appended it, was aborted",
            )

    def _break_links(self, key: int, values: np.ndarray) -> None:
        """A neighbourhood of the base proves nothing once another read contradicts it.

        The base [1 2 3] says 2 before 3; a read [3 2] or [3] says otherwise: no edge is drawn.
        """
        start, stop = int(self.base_start[key]), int(self.base_start[key + 1])
        rank = {value: i for i, value in enumerate(values.tolist())}
        base = self.flat_value[start:stop].tolist()
        for i in range(1, len(base)):
            late = rank.get(base[i])
            if late is not None and rank.get(base[i - 1], len(rank)) > late:
                self.broken[start + i] = True

    # -- edges ----------------------------------------------------------------------------------

    def _happened(self) -> None:
        """Committed, or unknown with an append that a committed transaction saw."""
        proof = self.seen.copy()
        proof[self.writers.op[self.writers.ambiguous]] = False
        self.happened |= (self.h.txn_outcome == TXN_UNKNOWN) & (
            np.bincount(self.op_txn[proof], minlength=len(self.h)) > 0
        )

    def _chain(self) -> None:
        """The base's elements whose writer is known and happened, in order."""
        writer_op = (
            np.where(self.flat_writer >= 0, self.writers.op[self.flat_writer], 0)
            if (len(self.writers.op))
            else np.zeros(len(self.flat_writer), np.int64)
        )
        fits = self.flat_writer >= 0
        fits[fits] = ~self.writers.ambiguous[self.flat_writer[fits]]
        fits &= self.happened[self.op_txn[writer_op]] if len(self.op_txn) else False
        self.chain_flat = np.flatnonzero(fits)
        self.chain_op = writer_op[self.chain_flat].astype(np.int32)
        self.chain_txn = self.op_txn[self.chain_op]
        self.chain_key = self.flat_key[self.chain_flat]
        # The link to the element before is broken if any link on the way there is.
        breaks = (
            np.cumsum(self.broken)[self.chain_flat] if len(self.broken) else (np.zeros(0, np.int64))
        )
        self.linked = np.zeros(len(self.chain_flat), bool)
        self.linked[1:] = (self.chain_key[1:] == self.chain_key[:-1]) & (breaks[1:] == breaks[:-1])

    def _ww(self) -> None:
        after = np.flatnonzero(self.linked)
        after = after[self.chain_txn[after] != self.chain_txn[after - 1]]
        doubt = self._doubted()
        self.graph.add(
            self.chain_txn[after - 1],
            self.chain_txn[after],
            np.where(doubt[after - 1] | doubt[after], WW_IF, WW),
            self.chain_op[after - 1],
            self.chain_op[after],
        )

    def _doubted(self) -> np.ndarray:
        """Which of the chain's elements may be an aborted transaction's, that wrote the same."""
        more = self.writers.count > self.writers.possible
        return more[self.flat_writer[self.chain_flat]]

    def _wr_and_rw(self) -> None:
        good = np.flatnonzero(~self.bad)
        op, key, length = self.reads[good], self.read_key[good], self.read_len[good]
        txn = self.op_txn[op]
        following = np.searchsorted(self.chain_flat, self.base_start[key] + length)
        self._wr(op, key, txn, following)
        if len(self.chain_key):
            at = np.minimum(following, len(self.chain_key) - 1)
            has_next = (following < len(self.chain_key)) & (self.chain_key[at] == key)
            first = (at == 0) | (self.chain_key[np.maximum(at - 1, 0)] != key)
            sound = has_next & (self.linked[at] | first) & (self.chain_txn[at] != txn)
            kind = np.where(self.h.op_kind[op] == PREDICATE_READ, RW_PREDICATE, RW)
            self.graph.add(
                txn[sound],
                self.chain_txn[at[sound]],
                kind[sound],
                op[sound],
                self.chain_op[at[sound]],
            )
        else:
            has_next = np.zeros(len(good), bool)
        self.last_reads = op[~has_next]
        bad = np.flatnonzero(self.bad)
        if len(bad):
            self._wr_of_bad(bad)

    def _wr(self, op: np.ndarray, key: np.ndarray, txn: np.ndarray, following: np.ndarray) -> None:
        """From the last writer that a read saw, its own transaction left out, to the reader."""
        last = following - 1
        inside = self._of_key(last, key)
        own = np.zeros(len(last), bool)
        own[inside] = self.chain_txn[last[inside]] == txn[inside]
        if own.any():
            new = np.ones(len(self.chain_txn), bool)
            new[1:] = (self.chain_txn[1:] != self.chain_txn[:-1]) | (
                self.chain_key[1:] != self.chain_key[:-1]
            )
            begin = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
            last[own] = begin[last[own]] - 1
            inside = self._of_key(last, key)
        writer_op = self.chain_op[last[inside]]
        self.graph.add(self.op_txn[writer_op], txn[inside], WR, writer_op, op[inside])
        # Only where nothing but the reader's own appends came after: the transaction's own final
        # append may be one of those that can't be told from others'.
        own = (following - 1 - last)[inside]
        end = self.base_start[key[inside]] + self.h.op_length[op[inside]] - 1
        middle = ~self._finals()[writer_op] & (self.chain_flat[last[inside]] + own == end)
        for w, r in zip(writer_op[middle][:8], op[inside][middle][:8], strict=True):
            self._witness_intermediate(int(w), int(r))

    def _of_key(self, places: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Which places of the chain are of the key."""
        inside = places >= 0
        inside[inside] = self.chain_key[places[inside]] == key[inside]
        return inside

    def _witness_intermediate(self, write: int, read: int) -> None:
        value, key = self.h.decode(self.h.op_value[write]), self.h.keys[self.h.op_key[write]]
        self.findings.add(
            Witness(
                "G1b",
                [int(self.op_txn[read]), int(self.op_txn[write])],
                why=f"T1 saw {show(key)} with T2's append of {show(value)} as its last, "
                "which was not T2's final append to it",
                marks=[value],
            )
        )

    def _finals(self) -> np.ndarray:
        """Which operations are their transaction's last append to their key, shape (ops,)."""
        final = np.zeros(len(self.h.op_kind), bool)
        codes = self.op_txn[self.write_ops].astype(np.int64) * len(self.h.keys)
        codes += self.h.op_key[self.write_ops]
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        last = np.ones(len(codes), bool)
        last[:-1] = codes[1:] != codes[:-1]
        final[self.write_ops[order[last]]] = True
        return final

    def _own_orders(self) -> None:
        """A transaction's own appends to a key stand in the order in which it made them.

        Where 2 and then 3 were appended by one, [1 3] and [1 3 2] come from no order of appends,
        though no second read contradicts them.
        """
        h = self.h
        codes = self.op_txn[self.write_ops].astype(np.int64) * len(h.keys)
        codes += h.op_key[self.write_ops]
        order = np.argsort(codes, kind="stable")
        again = np.flatnonzero(codes[order[1:]] == codes[order[:-1]])
        a, b = self.write_ops[order[again]], self.write_ops[order[again + 1]]
        disordered = (self.place[b] >= 0) & ((self.place[a] < 0) | (self.place[a] > self.place[b]))
        disordered &= self.happened[self.op_txn[a]]
        a, b = a[disordered], b[disordered]
        at = self.writers.find(h.op_key[a], h.op_value[a])
        clear = ~self.writers.ambiguous[at] if len(at) else np.zeros(0, bool)
        for first, second in zip(a[clear][:8].tolist(), b[clear][:8].tolist(), strict=True):
            read = self._reader_of(int(self.place[second]))
            values = [h.decode(v) for v in self._seen(read)]
            marks = [h.decode(h.op_value[first]), h.decode(h.op_value[second])]
            self.findings.add(
                Witness(
                    "incompatible-order",
                    [int(self.op_txn[self.reads[read]]), int(self.op_txn[first])],
                    marks=marks,
                    why=f"T1 read {show(h.keys[h.op_key[first]])} = {elide(values, marks)}, but T2 "
                    f"appended {show(marks[0])} to it before {show(marks[1])}",
                )
            )

    def _wr_of_bad(self, bad: np.ndarray) -> None:
        """A read that fits no order still read from whoever appended its last element."""
        finals = self._finals()
        for read in bad.tolist():
            values, op = self._seen(read), int(self.reads[read])
            found = self.writers.find(np.full(len(values), self.read_key[read]), values)
            last = True
            for place in found[::-1].tolist():
                if place < 0 or self.writers.ambiguous[place]:
                    last = False
                    continue
                write = int(self.writers.op[place])
                txn = int(self.op_txn[write])
                if txn == self.op_txn[op] or not self.happened[txn]:
                    continue
                edge = [np.array([x]) for x in (txn, self.op_txn[op], write, op)]
                self.graph.add(edge[0], edge[1], WR, edge[2], edge[3])
                if last and not finals[write]:
                    self._witness_intermediate(write, op)
                break

    # -- appends that nobody saw ----------------------------------------------------------------

    def tails(self) -> tuple[np.ndarray, np.ndarray]:
        """Unseen appends, one for each key and transaction, and which of their transactions also
        read the last version that was seen: both of shape (tails,).
        """
        n = len(self.h)
        codes = self.h.op_key[self.unseen].astype(np.int64) * n + self.op_txn[self.unseen]
        read = self.last_reads[self.h.op_kind[self.last_reads] != PREDICATE_READ]
        readers = self.h.op_key[read].astype(np.int64) * n + self.op_txn[read]
        return self.unseen, np.isin(codes, readers)

    def _tails(self) -> None:
        """Unseen appends come after all that was seen of their key, in an order nobody knows."""
        h = self.h
        unseen = self.write_ops[~self.seen[self.write_ops]]
        unseen = unseen[self.happened[self.op_txn[unseen]]]
        # A value that nobody read was appended after all that was, however often it was appended.
        if len(unseen):
            value = self.writers.find(h.op_key[unseen], h.op_value[unseen])
            unseen = unseen[~self.value_seen[value]]
        if not len(unseen):
            return
        codes = h.op_key[unseen].astype(np.int64) * len(h) + self.op_txn[unseen]
        codes, first = np.unique(codes, return_index=True)
        unseen = unseen[first]
        key, txn = h.op_key[unseen], self.op_txn[unseen]
        self.unseen = unseen
        last = np.searchsorted(self.chain_key, key, side="right") - 1
        follows = last >= 0
        follows[follows] = self.chain_key[last[follows]] == key[follows]
        follows[follows] = self.chain_txn[last[follows]] != txn[follows]
        doubt = h.txn_outcome[txn] == TXN_UNKNOWN
        doubt[follows] |= self._doubted()[last[follows]]
        kind = np.where(doubt, WW_IF, WW)
        self.graph.add(
            self.chain_txn[last[follows]],
            txn[follows],
            kind[follows],
            self.chain_op[last[follows]],
            unseen[follows],
        )
        for anti in (RW, RW_PREDICATE):
            op = self.last_reads
            op = op[(h.op_kind[op] == PREDICATE_READ) == (anti == RW_PREDICATE)]
            add_fan(
                self.graph, anti, (h.op_key[op], op, self.op_txn[op]), (key, unseen, txn), len(h)
            )

    # -- anomalies of single elements -----------------------------------------------------------

    def _element_anomalies(self) -> None:
        """Garbage, aborted reads and dirty updates in the bases, which hold every good read."""
        nobody = np.flatnonzero(self.flat_writer < 0)
        known = np.flatnonzero(self.flat_writer >= 0)
        gone = known[self.aborted[self.op_txn[self.writers.op[self.flat_writer[known]]]]]
        for flat in nobody[:8].tolist():
            self._witness(
                "garbage-read",
                self._reader_of(flat),
                [],
                self.flat_value[flat],
                "T1 read {value} in {key}, which nobody appended: {list}",
            )
        for flat in gone[:8].tolist():
            writer = int(self.op_txn[self.writers.op[self.flat_writer[flat]]])
            self._witness(
                "G1a",
                self._reader_of(flat),
                [writer],
                self.flat_value[flat],
                "T1 read {value} in {key}, which T2 appended, and T2 was aborted",
            )
        self._judge_too_many(self.flat_writer)
        if not len(self.chain_flat):
            return
        committed = np.flatnonzero(self.h.txn_outcome[self.chain_txn] == TXN_COMMITTED)
        for flat in gone[:64].tolist():
            at = np.searchsorted(self.chain_flat[committed], flat)
            if at == len(committed) or self.chain_key[committed[at]] != self.flat_key[flat]:
                continue
            chain = int(committed[at])
            writer = int(self.op_txn[self.writers.op[self.flat_writer[flat]]])
            key = show(self.h.keys[self.flat_key[flat]])
            value = self.h.decode(self.flat_value[flat])
            onto = self.h.decode(self.h.op_value[self.chain_op[chain]])
            self.findings.add(
                Witness(
                    "dirty-update",
                    [int(self.chain_txn[chain]), writer],
                    why=f"T1 committed its append of {show(onto)} to {key} on top of T2's append "
                    "of "
                    f"{show(value)}, and T2 was aborted",
                    marks=[value, onto],
                )
            )

    def _reader_of(self, flat: int) -> int:
        """The shortest good read that saw this place of a base."""
        key = int(self.flat_key[flat])
        saw = np.flatnonzero(
            (self.read_key == key) & ~self.bad & (self.read_len > flat - self.base_start[key])
        )
        return int(saw[np.argmin(self.read_len[saw])])
