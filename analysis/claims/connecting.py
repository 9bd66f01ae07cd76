"""Claim 3: opening, the first query and closing, against a PostgreSQL driver's handshake."""

from __future__ import annotations

import numpy as np

from analysis.claims.claim import HOLDS, IN_PART, NOT, NOT_MEASURED, UNDECIDED, Seen, Verdict
from analysis.claims.replicas import doubted
from analysis.claims.sentence import sentence
from analysis.claims.trials import Trial
from analysis.statistics import Estimate, median_of_blocks
from analysis.wording import duration

NAME = "connecting"
STEPS = ("open", "first query", "close")
TCP, POOL = "postgres/tcp", "postgres/pool"
CONNECTING = {
    "libsql": "libsql, nobody else has the file open",
    "libsql/beside": "libsql, another connection has it open",
    "sqlite": "sqlite, nobody else has the file open",
    "sqlite/beside": "sqlite, another connection has it open",
    "libsql-remote": "libsql-remote, over HTTP on loopback",
    "postgres/socket": "PostgreSQL, over a Unix socket",
    TCP: "PostgreSQL, over TCP on loopback",
    POOL: "PostgreSQL, a connection that is kept (a pool of one)",
}


def step(trial: Trial, arm: str, number: int) -> np.ndarray:
    """Block -> the median of one of STEPS, ns; shape (blocks,)."""
    return np.asarray(np.median(trial.ns[arm][:, :, number], axis=1))


def steps(trial: Trial, arm: str) -> list[Estimate]:
    """Each of STEPS, then all of them together."""
    each = [median_of_blocks(step(trial, arm, n), dropped=trial.dropped) for n in range(3)]
    return [*each, trial.estimate(arm)]


def before_the_handshake(seen: Seen) -> Verdict:
    trial = seen.trial(NAME)
    if trial.problem:
        return Verdict(NOT_MEASURED, trial.problem)
    files = [arm for arm in ("libsql", "sqlite") if arm in trial.ns]
    if TCP not in trial.ns or not files or any(trial.ns[a].shape[2] != 3 for a in (TCP, files[0])):
        why = str(trial.manifest.get("missing", {}).get("postgres", "no PostgreSQL was there"))
        return Verdict(NOT_MEASURED, sentence("{}.", why.rstrip(".")), trial.place)
    arm = files[0]
    handshake = step(trial, TCP, 0)
    whole = trial.ratio_of(trial.each(arm), handshake, arm, TCP)
    told = sentence(
        "{}: open, first query and close {}; opening PostgreSQL over TCP, without TLS, takes {}, "
        "which is {} times as long [{}]",
        CONNECTING[arm].partition(",")[0],
        " + ".join(each.text(duration) for each in steps(trial, arm)[:3]),
        steps(trial, TCP)[0].text(duration),
        f"{1 / whole.value:.3g}",
        f"{1 / whole.high:.3g}, {1 / whole.low:.3g}" if whole.known else "no interval",
    )
    if not whole.known:
        number = sentence("Too few blocks: {}", told)
        return Verdict(UNDECIDED, doubted(trial, number), trial.place)
    verdict = HOLDS if whole.high < 1 else NOT if whole.low > 1 else UNDECIDED
    if POOL in trial.ns:
        pool = trial.ratio(arm, POOL)
        told = sentence("{}; a query through a pool of one takes {}", told,
                        trial.estimate(POOL).text(duration))  # fmt: skip
        if verdict == HOLDS and not pool.high < 1:
            verdict = IN_PART
    return Verdict(verdict, doubted(trial, told), trial.place)
