"""The claims, in the article's order. One claim, one entry."""

from __future__ import annotations

from analysis.claims.claim import (
    EXPERIMENT,
    FREE,
    SWEEP,
    TRIAL,
    Claim,
    Need,
)
from analysis.claims.compatibility import hundred_percent
from analysis.claims.connecting import before_the_handshake
from analysis.claims.hops import hops
from analysis.claims.nanoseconds import two_hundred_ns
from analysis.claims.outages import keeps_running
from analysis.claims.replicas import free_replica_reads
from analysis.claims.runs import (
    CEILING,
    READ_NS,
)
from analysis.claims.systems import bottleneck, cost, single_writer
from analysis.wording import duration, percent
from workloads.errors import UnknownName, nearest, shortened
from workloads.trials import TRIALS

ARTICLE = "the article that recommended libSQL"


CLAIMS: tuple[Claim, ...] = (
    Claim(
        1,
        "nanoseconds",
        "A local read takes about 200 ns",
        f"{ARTICLE}; the number goes back to a prepared statement that is stepped in C to the "
        "first row of a small table, without a look-up",
        (Need(TRIAL, "nanoseconds"), Need(EXPERIMENT, "read")),
        "A read by key through a binding in autocommit, or a reader's whole transaction, at most "
        f"{duration(READ_NS)}. The figure goes back to another thing, a prepared statement stepped "
        "in C to the first row of a small table, without a look-up: in part where that is so",
        two_hundred_ns,
    ),
    Claim(
        2,
        "hops",
        "A database in the process saves the network's hops",
        f"{ARTICLE}; it gives no number, only a network's round trip as a rule of thumb",
        (Need(SWEEP, "hops"), Need(TRIAL, "replica")),
        "A request takes longer at every server, at every number of queries and every round trip, "
        f"also where its queries are sent together (there at least {FREE:g} times as long), and "
        "the round trips alone are at least half of a PostgreSQL request at 1 ms and more, all by "
        "their intervals; in part where the queries sent together are no slower, or another cost "
        "than the hop is saved",
        hops,
    ),
    Claim(
        3,
        "connecting",
        "Before a PostgreSQL driver has finished its handshake, the query is done",
        f"{ARTICLE}; it gives no number",
        (Need(TRIAL, "connecting"),),
        "Opening a file, the first query and closing take less together than opening a connection "
        "to PostgreSQL over TCP alone, by their intervals; in part where they take less than that "
        "and more than a query through a connection that a pool keeps open",
        before_the_handshake,
    ),
    Claim(
        4,
        "reads",
        "Applications read 95 % of the time, so a single writer is enough",
        f"{ARTICLE}; the share is that of YCSB's workload B",
        (Need(SWEEP, "systems"), Need(EXPERIMENT, "read-mostly")),
        "The share of reads of your application cannot be measured here. Its second half would be "
        "confirmed at 95 % reads (YCSB B), on any number of processes, by intervals below "
        f"{FREE:g} of what BEGIN CONCURRENT and PostgreSQL commit over one writer at a time",
        single_writer,
    ),
    Claim(
        5,
        "replicas",
        "Embedded replicas make reads free",
        f"{ARTICLE}; it gives no number",
        (Need(TRIAL, "replica"),),
        f"A replica's read and a write through it both cost less than {FREE:g} times those of a "
        "plain local file, by their intervals",
        free_replica_reads,
    ),
    Claim(
        6,
        "compatibility",
        "libSQL is 100 % compatible with SQLite",
        f"{ARTICLE}; libSQL's own documentation promises to read and to write SQLite's files",
        (Need(TRIAL, "compatibility"),),
        "No statement, type or error of the battery differs, and files go both ways and stay "
        "whole; in part where only what the Python binding decides differs",
        hundred_percent,
    ),
    Claim(
        7,
        "concurrent",
        "BEGIN CONCURRENT ends the single-writer bottleneck",
        f"{ARTICLE}; it goes back to SQLite's branch begin-concurrent",
        (Need(EXPERIMENT, "headline"), Need(SWEEP, "systems")),
        "The mode alone commits more at every amount of work and on every placement that was "
        f"tried, and reaches {percent(CEILING)} of what the generator alone does",
        bottleneck,
    ),
    Claim(
        8,
        "outages",
        "If the network goes down, the application keeps running",
        f"{ARTICLE}, of embedded replicas",
        (Need(TRIAL, "outages"),),
        "Every read, write and BEGIN of a replica works while its primary cannot be reached, an "
        "application can start meanwhile, and nothing hangs; in part where reads alone go on",
        keeps_running,
    ),
    Claim(
        9,
        "cost",
        "It costs less to run than a database server",
        f"{ARTICLE}; it compares prices of hosting",
        (Need(SWEEP, "systems"),),
        "Less CPU time a committed transaction, workers and server together, than PostgreSQL, by "
        "its interval. Prices, memory, people and the cost of an outage are not measured here",
        cost,
    ),
)


def find_claim(name: str) -> Claim:
    """The claim of a name or a number. Raises UnknownName with the nearest name."""
    for claim in CLAIMS:
        if name in (claim.name, str(claim.number)):
            return claim
    near = nearest(name, [claim.name for claim in CLAIMS])
    hint = f" Did you mean {near!r}?" if near else ""
    raise UnknownName(
        f"There is no claim {shortened(name)}.{hint} `cwkit claims` lists them, by name and number."
    )


def trials_of_claims() -> tuple[str, ...]:
    """The trials that a claim needs and that there are, each once."""
    needed = [need.name for claim in CLAIMS for need in claim.needs if need.kind == TRIAL]
    return tuple(name for name in dict.fromkeys(needed) if name in TRIALS)
