"""The checker: which isolation levels a history keeps, and the anomalies that rule out the rest.

    verdict = check(read_history("run.jsonl"))
    verdict.valid_at("snapshot-isolation")      # True, False or "unknown"
    verdict.anomalies["G-single"][0].steps

For lists a False is proven by a witness and a True by the absence of any cycle; for registers
see `register_levels`. No time limit ever turns into a verdict; where registers cost more
steps than `effort` allows, a note says which levels stay "unknown" for that, and what to do.
"""

from __future__ import annotations

import numpy as np

from properties.checker.catalogue import CATALOGUE, DEFAULT_LEVEL, FORBIDS, LEVELS
from properties.checker.cycles import find_cycles
from properties.checker.effort import Effort
from properties.checker.graph import (
    PROCESS,
    REALTIME,
    Graph,
    Reduced,
    add_realtime_edges,
    add_session_edges,
)
from properties.checker.list_edges import Lists
from properties.checker.list_reads import fractured_lists, judge_lists
from properties.checker.list_unread import settle
from properties.checker.register_edges import add_proven_edges, observe
from properties.checker.register_levels import saturate
from properties.checker.replay import ListStore
from properties.checker.serial_order import explained_by_one_order
from properties.checker.session_facts import of_lists, of_registers
from properties.checker.session_guarantees import judge_sessions
from properties.checker.verdict import Findings, Verdict, Witness, closed
from properties.checker.write_index import packable
from workloads.records import NOT_KNOWN, TXN_COMMITTED, WRITE, History

__all__ = [
    "CATALOGUE",
    "DEFAULT_LEVEL",
    "FORBIDS",
    "LEVELS",
    "Verdict",
    "Witness",
    "check",
    "full_check",
]

CERTAIN = {"internal", "internal-predicate"}
"""Anomalies that a transaction shows by itself: no write of another explains them."""


def check(
    history: History,
    *,
    sequential_keys: bool = False,
    linearizable_keys: bool = False,
    effort: float = 1.0,
) -> Verdict:
    """Judge a history at every level in one pass.

    A small history that one serial order in real time explains keeps them all, and that is found in
    a fraction of the time. Everything else is judged by `full_check`, whose verdicts are the same.
    sequential_keys, linearizable_keys : for registers, take it as given that each key alone
        follows the sessions' order, or real time, and infer the order of versions from it. Only
        for systems that promise it whatever the level: a violation found so may be of that
        promise and not of the level.
    effort : for registers, how many times the usual work may be done before a level is "unknown".
    Raises nothing on damaged histories: what is wrong with them is an anomaly or a note.
    """
    _insist_on_registers(history, sequential_keys or linearizable_keys)
    # In such an order each key follows the sessions and real time, so the options change nothing.
    if explained_by_one_order(history):
        return Verdict(history, dict.fromkeys(LEVELS, True), {}, list(history.notes))
    return full_check(
        history,
        sequential_keys=sequential_keys,
        linearizable_keys=linearizable_keys,
        effort=effort,
    )


def full_check(
    history: History,
    *,
    sequential_keys: bool = False,
    linearizable_keys: bool = False,
    effort: float = 1.0,
) -> Verdict:
    """The verdict of `check`, by inferring the dependencies of every history, small ones too."""
    _insist_on_registers(history, sequential_keys or linearizable_keys)
    findings = Findings()
    given, history = history, packable(history)
    findings.notes.extend(history.notes)
    findings.unjudged.update(history.unjudged)
    _count_unanswered(history, findings)
    if not len(history):
        notes = ["the history is empty", *findings.notes]
        levels: dict[str, bool | str] = dict.fromkeys(LEVELS, "unknown")
        return Verdict(given, levels, {}, notes, findings.unjudged)
    if history.model == "list-append":
        levels = _check_lists(history, findings)
    else:
        trusted = (REALTIME, PROCESS) if linearizable_keys else (PROCESS,)
        levels = _check_registers(
            history, findings, trusted if linearizable_keys or sequential_keys else (), effort
        )
    if history.unjudged:
        levels = dict.fromkeys(LEVELS, "unknown")
    if not (history.txn_outcome == TXN_COMMITTED).any():
        findings.notes.append("nothing was committed: what holds, holds of nothing")
    for level in findings.ruled_out():
        levels[level] = False
    levels = closed(levels)
    if findings.unjudged:
        # An operation that was not judged may be the one that breaks the level.
        levels = {level: value and "unknown" for level, value in levels.items()}
    order = list(CATALOGUE)
    found = dict(sorted(findings.witnesses.items(), key=lambda item: order.index(item[0])))
    return Verdict(given, levels, found, findings.notes, findings.unjudged)


def _insist_on_registers(history: History, keys: bool) -> None:
    if history.model == "list-append" and keys:
        raise ValueError("lists tell their own order of versions: nothing of keys is to be assumed")


def _count_unanswered(history: History, findings: Findings) -> None:
    """Count reads whose answer has no order, or that have no answer at all."""
    if history.unjudged:
        # It may have written anything, also a value that another wrote, or have removed it.
        for name in CATALOGUE.keys() - CERTAIN:
            findings.doubt(name, f"{name} was seen, unless what was not judged explains it")
        findings.doubt("garbage-read", "a value was read that no operation wrote that was judged")
    if history.sets:
        findings.unjudged["reads of a list that were answered with a set, in no order"] = len(
            history.sets
        )
    read = (history.op_kind != WRITE) & (
        history.op_length < 0 if history.model == "list-append" else history.op_value == NOT_KNOWN
    )
    committed = np.repeat(history.txn_outcome == TXN_COMMITTED, np.diff(history.op_start))
    unanswered = int((read & committed).sum()) - len(history.sets)
    if unanswered > 0:
        findings.unjudged["reads whose answer is not known"] = unanswered


def _check_lists(history: History, findings: Findings) -> dict[str, bool | str]:
    graph = Graph(len(history))
    lists = Lists(history, graph, findings)
    happened = lists.run()
    judge_lists(lists)
    add_session_edges(graph, history, happened)
    add_realtime_edges(graph, history, happened)
    reduced = Reduced(graph, len(history))
    if reduced.nodes:
        fractured_lists(lists, reduced)
    violated = find_cycles(reduced, findings) | findings.ruled_out()
    levels: dict[str, bool | str] = {level: level not in violated for level in LEVELS}
    if reduced.nodes:
        settle(lists, reduced, levels, findings)
    levels = closed(levels)
    judge_sessions(of_lists(lists), levels, findings)
    _settle_repeated(lists, levels, findings)
    return levels


def _settle_repeated(lists: Lists, levels: dict[str, bool | str], findings: Findings) -> None:
    """Which write of a repeated value a read saw is not told; whichever it was, all may be well.

    Where one order of all in real time explains all reads, every level holds.
    """
    only = lists.writers.repeated and len(findings.unjudged) == 1
    if not only or findings.witnesses or False in levels.values():
        return
    if ListStore(lists).run():
        findings.notes += [f"{kind}, but one order explains all" for kind in findings.unjudged]
        findings.unjudged.clear()


def _check_registers(
    history: History, findings: Findings, trusted: tuple[int, ...], effort: float
) -> dict[str, bool | str]:
    seen = observe(history, findings)
    graph = Graph(len(history))
    add_proven_edges(graph, seen, findings)
    add_session_edges(graph, history, seen.happened)
    add_realtime_edges(graph, history, seen.happened)
    violated = find_cycles(Reduced(graph, len(history)), findings) | findings.ruled_out()
    levels: dict[str, bool | str] = {
        level: False if level in violated else "unknown" for level in LEVELS
    }
    levels = saturate(seen, levels, findings, trusted, Effort(effort))
    judge_sessions(of_registers(history, seen.op_txn, seen.happened), levels, findings)
    return levels
