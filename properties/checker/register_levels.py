"""Version orders of registers: what a level forces on them, until nothing more is forced.

A reader of W's version that has seen W' (by the level's own notion of "before") proves that W'
wrote before W, and comes itself before whoever wrote after W. Contradictions are cycles. Where
nothing is contradicted and the order of all versions is settled, the level is proven to hold.
Small histories are searched for such an order (`order_search`). In large ones one is tried
(`order_inference`).
"""

from __future__ import annotations

import numpy as np

from properties.checker.catalogue import GUARANTEES, LEVELS, ruled_out_by, weaker_or_equal
from properties.checker.direct_inference import beside, violated_in_one_step
from properties.checker.effort import Effort, Exhausted
from properties.checker.graph import (
    PREFIX,
    PROCESS,
    REALTIME,
    Graph,
    Step,
    add_realtime_edges,
    add_session_edges,
    classify,
    components,
)
from properties.checker.order_inference import Forced
from properties.checker.order_search import Edge, Need, Orders, round_steps, search
from properties.checker.register_edges import Registers
from properties.checker.replay import registers_replay
from properties.checker.verdict import Findings, Witness, closed
from workloads.records import show

MOST_TRANSACTIONS = 400  # beyond, columns are faster, and a search comes after what they tell
ROUNDS = 10  # of closing, about; a search that could not afford them is not begun
ENDLESS = 1 << 62  # tries: the effort ends a search

NEEDS = {
    "repeatable-read": Need((), False, False, "G2-item"),
    "snapshot-isolation": Need((), True, True, "G-nonadjacent"),
    "serializable": Need((), False, True, "G2"),
    "strong-session-snapshot-isolation": Need((PROCESS,), True, True, "G-nonadjacent-process"),
    "strong-session-serializable": Need((PROCESS,), False, True, "G2-item-process"),
    "strong-snapshot-isolation": Need((PROCESS, REALTIME), True, True, "G-nonadjacent-realtime"),
    "strict-serializable": Need((PROCESS, REALTIME), False, True, "G2-item-realtime"),
}

# Apart from the others, which it neither stops nor proves.
PREFIX_NEED = Need((), True, True, "non-prefix-read", writers_see=False)

PLAIN = ("repeatable-read", "snapshot-isolation", "serializable")
STRONGEST, STRONGEST_SNAPSHOT = "strict-serializable", "strong-snapshot-isolation"


def saturate(
    seen: Registers,
    levels: dict[str, bool | str],
    findings: Findings,
    trusted: tuple[int, ...] = (),
    effort: Effort | None = None,
) -> dict[str, bool | str]:
    """Decide what is still "unknown" in `levels`, as far as it can be decided.

    trusted : kinds of edges (PROCESS, REALTIME) that each key's versions are known to follow.
    effort : what it may cost. Where that ends, a note says what stays unknown and what to do.
    """
    effort = Effort() if effort is None else effort
    _read_atomic(seen, levels, findings)
    happened = int(seen.happened.sum())
    if happened <= MOST_TRANSACTIONS:
        if _small(seen, levels, findings, trusted, effort):
            return dict.fromkeys(LEVELS, True)
    else:
        _large(seen, levels, findings, trusted, effort)
        if not seen.undecided:
            _search_large(seen, levels, findings, trusted, effort)
    _prefix(seen, levels, findings, trusted, effort)
    for level in ("read-uncommitted", "read-committed"):
        if levels[level] == "unknown" and not seen.undecided:
            # Any order of versions that agrees with a topological order of the wr edges will do.
            levels[level] = True
    levels = closed(levels)
    left = [level for level in LEVELS if levels[level] == "unknown" and level not in GUARANTEES]
    if note := effort.note(left):
        findings.notes.append(note)
    return levels


def _small(
    seen: Registers,
    levels: dict[str, bool | str],
    findings: Findings,
    trusted: tuple[int, ...],
    effort: Effort,
) -> bool:
    """Level by level, with a search for an order that fits; True where the strongest is proven."""
    nodes, given = _given(seen)
    known: dict[str, tuple[Orders, list[Step] | None]] = {}

    def closed_for(level: str) -> tuple[Orders, list[Step] | None]:
        if level not in known:
            orders = Orders(seen, NEEDS[level], nodes, given, trusted)
            known[level] = orders, orders.close()
        return known[level]

    # Most histories keep the strongest level, or else its kind of snapshots: what proves one of
    # these proves those below it, and real time leaves the least to be guessed.
    for level in (STRONGEST, STRONGEST_SNAPSHOT) if not seen.undecided else ():
        if False in {levels[weak] for weak in weaker_or_equal(level)}:
            continue
        orders, cycle = closed_for(level)
        if cycle is None and (_replayed(orders) or _searched(orders, effort) is True):
            levels.update(dict.fromkeys(weaker_or_equal(level), True))
            if level == STRONGEST:
                return True
    for level, need in NEEDS.items():
        if levels[level] is True:
            continue
        if any(levels[weak] is False for weak in weaker_or_equal(level)):
            levels[level] = False
            continue
        orders, cycle = closed_for(level)
        if cycle is not None:
            levels[level] = False
            _name(Witness("", [s.source for s in cycle], cycle), need, levels, findings)
        elif not seen.undecided:
            levels[level] = _prove(orders, need, levels, findings, effort)
    return False


def _prefix(
    seen: Registers,
    levels: dict[str, bool | str],
    findings: Findings,
    trusted: tuple[int, ...],
    effort: Effort,
) -> None:
    """Decide consistent-prefix where no stronger level holds; of large histories by one step."""
    known = closed(levels)
    if known[PREFIX] != "unknown":
        return
    if int(seen.happened.sum()) > MOST_TRANSACTIONS:
        witness = violated_in_one_step(seen, PREFIX, ())
        cycle = witness.steps if witness else None
    else:
        nodes, given = _given(seen)
        orders = Orders(seen, PREFIX_NEED, nodes, given, trusted)
        cycle = orders.close()
        if cycle is None and not seen.undecided:
            levels[PREFIX] = _prove(orders, PREFIX_NEED, levels, findings, effort)
    if cycle is not None:
        levels[PREFIX] = False
        _name(Witness("", [s.source for s in cycle], cycle), PREFIX_NEED, levels, findings)


def _given(seen: Registers) -> tuple[int, list[Edge]]:
    """How many nodes the sessions and real time have, and their edges."""
    graph = Graph(len(seen.h))
    add_session_edges(graph, seen.h, seen.happened)
    add_realtime_edges(graph, seen.h, seen.happened)
    source, target, kind = (column.tolist() for column in graph.edges()[:3])
    edges = zip(source, target, kind, strict=True)
    return graph.nodes, [(u, v, k, -1, -1, -1) for u, v, k in edges]


def _searched(orders: Orders, effort: Effort) -> bool | str:
    """Whether some order of all versions fits, or "unknown" where the effort ends first."""
    orders.purse = effort.search()
    try:
        return search(orders, [ENDLESS])
    except Exhausted:
        effort.search_ended()
        return "unknown"
    finally:
        orders.purse = None


def _search_large(
    seen: Registers,
    levels: dict[str, bool | str],
    findings: Findings,
    trusted: tuple[int, ...],
    effort: Effort,
) -> None:
    """Search an order for what is still unknown, where the effort is enough for a few rounds."""
    if "unknown" not in levels.values():
        return
    nodes, given = _given(seen)
    for level, need in NEEDS.items():
        if any(levels[weak] is False for weak in weaker_or_equal(level)):
            levels[level] = False
        if levels[level] != "unknown":
            continue
        purse = effort.search()
        edges = len(seen.read_op) + len(seen.writes) + len(given)
        try:
            purse.spend(ROUNDS * round_steps(nodes * (1 + need.alternate), edges))
            orders = Orders(seen, need, nodes, given, trusted)
            orders.purse = purse
            if orders.close(explain=False) is None:
                orders.purse = None
                levels[level] = _prove(orders, need, levels, findings, effort)
        except Exhausted:
            effort.search_ended()


def _replayed(orders: Orders) -> bool:
    return registers_replay(orders.seen, orders.next, orders.scale, orders.need.predicates)


def _replayed_at_scale(forced: Forced) -> bool:
    return registers_replay(forced.seen, forced.following(), forced.scale, forced.need.predicates)


def _completed(forced: Forced) -> bool:
    try:
        return forced.complete()
    except Exhausted:
        forced.effort.inference_ended()
        return False


def _large(
    seen: Registers,
    levels: dict[str, bool | str],
    findings: Findings,
    trusted: tuple[int, ...],
    effort: Effort,
) -> None:
    """The strongest levels first: what they force without contradiction, the others do too."""
    cycles: dict[str, list[Step] | None] = {}

    def cycle_of(level: str) -> list[Step] | None:
        if level not in cycles:
            forced = Forced(seen, NEEDS[level], trusted, effort)
            try:
                ended = forced.reach is None
                cycles[level] = None if ended else forced.close()
            except Exhausted:
                effort.inference_ended()
                ended = True
            if ended:
                witness = violated_in_one_step(seen, level, NEEDS[level].extra)
                cycles[level] = witness.steps if witness else None
                if not witness and not seen.undecided and _replayed_at_scale(forced):
                    levels.update(dict.fromkeys(weaker_or_equal(level), True))
                return cycles[level]
            if cycles[level] is None:
                for weak in weaker_or_equal(level):
                    cycles.setdefault(weak, None)
                if not seen.undecided and (_replayed_at_scale(forced) or _completed(forced)):
                    levels.update(dict.fromkeys(weaker_or_equal(level), True))
        return cycles[level]

    def violated(level: str) -> bool:
        return any(levels[weak] is False for weak in weaker_or_equal(level))

    for level in (*(level for level in reversed(NEEDS) if level not in PLAIN), "serializable"):
        if not violated(level):
            cycle_of(level)
    for level, need in NEEDS.items():
        if violated(level):
            levels[level] = False
        elif (cycle := cycle_of(level)) is not None:
            levels[level] = False
            _name(Witness("", [s.source for s in cycle], cycle), need, levels, findings)


def _name(witness: Witness, need: Need, levels: dict[str, bool | str], findings: Findings) -> None:
    """Give a violation the strongest name that its own level allows.

    A cycle with inferred edges may look like G1c where the inference itself assumed a level
    above read-committed, so its looks alone must not rule out the lower levels.
    """
    suffix = "-realtime" if REALTIME in need.extra else "-process" if need.extra else ""
    predicate = "" if suffix or levels["repeatable-read"] is False else "-predicate"
    looks = classify(witness.steps).split("-process")[0].split("-realtime")[0]
    if need.alternate and need.writers_see:
        base = "G-single" if looks.startswith("G-single") else "G-nonadjacent"
        witness.name = base + suffix + predicate
    else:
        witness.name = need.name
    findings.add(witness)
    for level in ruled_out_by(witness.name):
        levels[level] = False


def _prove(
    orders: Orders, need: Need, levels: dict[str, bool | str], findings: Findings, effort: Effort
) -> bool | str:
    """True where some order of all versions fits, False where none does, else "unknown".

    All writers of a key in order, every anti-dependency drawn, and no cycle: that is the level's
    definition. Which order fits is tried, first all at once, then pair by pair.
    """
    answer = _replayed(orders) or _searched(orders, effort)
    if answer is False:
        pair = orders.unsettled()
        assert pair is not None
        a, b, key = pair
        name = need.name
        by_name = levels["repeatable-read"] is False or not need.writers_see
        if need.alternate and not need.extra and not by_name:
            name += "-predicate"
        findings.add(
            Witness(
                name,
                [a, b],
                why=f"T1 and T2 both wrote {show(orders.seen.h.keys[key])}, and with either "
                "write as the first, what was read makes a cycle",
            )
        )
        for level in ruled_out_by(name):
            levels[level] = False
    return answer


def _read_atomic(seen: Registers, levels: dict[str, bool | str], findings: Findings) -> None:
    """Decide read-atomic: exact, by one strongly connected components search.

    Whoever reads x of W and anything of W', which wrote x too, puts W' before W; whoever reads
    the initial x though it read anything of a writer of x saw that writer in part.
    """
    h, op_txn = seen.h, seen.op_txn
    reader, writer, read, write = beside(seen)
    version = seen.source[read]
    partly = version < 0
    for i in np.flatnonzero(partly)[:8].tolist():
        _fractured(seen, int(reader[i]), int(writer[i]), int(write[i]), findings)
    from_write = seen.source >= 0
    source, op = seen.source[from_write], seen.read_op[from_write]
    over = ~partly
    a = np.concatenate((op_txn[source], writer[over]))
    b = np.concatenate((op_txn[op], op_txn[version[over]]))
    if len(a):
        label, cyclic = components(len(h), a, b)
        inside = np.flatnonzero(cyclic[a] & (label[a] == label[b]))
        for i in inside[inside >= len(source)][:8].tolist():
            at = int(np.flatnonzero(over)[i - len(source)])
            _fractured(seen, int(reader[at]), int(writer[at]), int(write[at]), findings)
        if len(inside):
            levels["read-atomic"] = False
    if partly.any():
        levels["read-atomic"] = False
    if levels["read-atomic"] == "unknown" and not seen.undecided:
        levels["read-atomic"] = not any(
            level is False
            for name, level in levels.items()
            if name in weaker_or_equal("read-atomic")
        )
    assert set(levels) == set(LEVELS)


def _fractured(seen: Registers, reader: int, writer: int, write: int, findings: Findings) -> None:
    h = seen.h
    key, value = h.keys[h.op_key[write]], h.decode(h.op_value[write])
    findings.add(
        Witness(
            "fractured-read",
            [reader, writer],
            marks=[value],
            why=f"T1 read one of T2's writes, but {show(key)} as it was before T2 wrote "
            f"{show(value)}",
        )
    )
