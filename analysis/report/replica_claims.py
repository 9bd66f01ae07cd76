"""Two claims, free reads and saved hops, answered by one client beside libSQL's server.

The sentences follow the intervals in either direction. Where one holds 1, no difference is claimed.
"""

from __future__ import annotations

from analysis.claims import Served
from analysis.report.markdown import Markdown, bold, markdown
from analysis.statistics import Estimate, Ratio
from analysis.wording import duration, percent, times

LEAST = "One client, over loopback, which is the least that a network costs."


def free_reads(served: Served) -> str:
    """Whether a replica's reads cost what local ones do, and what they cost elsewhere."""
    own = served.ratio("read-replica", "read-local")
    took = f"{_ns(served, 'read-replica')} against {_ns(served, 'read-local')}"
    verdict = {
        "more": f"Not free: a replica's read takes longer than that of a plain local file, {took}",
        "less": f"A replica's read takes less than that of a plain local file, {took}",
        "none seen": f"A replica's read costs what one of a plain local file does, {took}",
    }.get(own.verdict, f"Too few blocks for a verdict on a replica's read, {took}")
    parts = [
        f"{verdict}: ratio {own.text()}.",
        _against(served.ratio("read-remote", "read-replica")),
        _paid_for(served),
        _age(served),
    ]
    return _paragraph(served, parts)


def hops(served: Served) -> str:
    """The least cost of a database outside the process."""
    read = served.ratio("read-remote", "read-local")
    took = f"{_ns(served, 'read-remote')} against {_ns(served, 'read-local')}"
    verdict = {
        "more": f"It does: a read over loopback takes longer than a local one, {took}",
        "less": f"Not seen: a read over loopback takes less than a local one, {took}",
        "none seen": f"No difference was seen between a read over loopback and a local one, {took}",
    }.get(read.verdict, f"Too few blocks for a verdict on a read over loopback, {took}")
    parts = [f"{verdict}: ratio {read.text()}."]
    if served.durability_differs:
        parts.append("Transactions are not compared, for their durability differs.")
    else:
        more = served.more("transaction-remote", "transaction-local", calls=4)
        parts.append(
            f"BEGIN, read, update, COMMIT: {_ns(served, 'transaction-remote')} against "
            f"{_ns(served, 'transaction-local')}, ratio "
            f"{served.ratio('transaction-remote', 'transaction-local').text()}; each of its 4 "
            f"calls is a hop and takes {_longer(more)}."
        )
    if read.verdict == "more":
        share = served.hop_share()
        parts.append(
            f"The bare round trip of 64 bytes takes {_ns(served, 'hop')}, "
            f"{share.text(percent)} of what the read takes more; the rest is HTTP and the server."
        )
    else:
        parts.append(f"The bare round trip of 64 bytes takes {_ns(served, 'hop')}.")
    parts.append("A real network adds its round trip to each hop.")
    return _paragraph(served, parts)


def _paragraph(served: Served, parts: list[str]) -> str:
    doubt = []
    if served.broken:
        doubt = [bold("A check did not hold ({})", "; ".join(served.broken))]
    return Markdown(" ").join([*doubt, *(part for part in parts if part), LEAST])


def _ns(served: Served, arm: str) -> str:
    return duration(served.estimate(arm).value)


def _longer(more: Estimate) -> str:
    """A difference of times in words, whichever way it points."""
    text = more.text(duration)
    if more.known and more.low <= 0 <= more.high:
        return f"as long as a local call (difference {text})"
    if more.value > 0:
        return f"{text} longer than a local one"
    return f"less than a local one (difference {text})"


def _against(remote: Ratio) -> str:
    """A read over loopback against the replica's."""
    return {
        "more": f"A read at the server takes {remote.text()} times as long as the replica's.",
        "less": f"A read at the server takes less than the replica's: ratio {remote.text()}.",
        "none seen": f"No difference to a read at the server was seen: ratio {remote.text()}.",
    }.get(remote.verdict, f"A read at the server to the replica's: ratio {remote.text()}.")


def _paid_for(served: Served) -> str:
    """The price of fast reads: writes and syncs."""
    writes = f"a write through the replica takes {_ns(served, 'write-replica')}"
    if served.durability_differs:
        writes += " (not compared with a plain local one, for its durability differs)"
    else:
        writes += (
            f", {served.ratio('write-replica', 'write-local').text()} times a plain local one and "
            f"{served.ratio('write-replica', 'write-remote').text()} times one at the server"
        )
    return markdown(
        "Elsewhere: {}; `sync()` {} with nothing to fetch and {} with one commit.",
        writes,
        _ns(served, "sync-idle"),
        _ns(served, "sync-one"),
    )


def _age(served: Served) -> str:
    """How old a replica's rows may be."""
    age, settings = served.age, served.manifest["settings"]
    waited = duration(settings["wait_unasked_s"] * 1e9)
    lag = served.ns["lag"].ravel()
    late = int((lag >= settings["lag_limit_s"] * 1e9).sum())
    tail = (
        f"{late} of {len(lag)} were not seen within {settings['lag_limit_s']:g} s"
        if late
        else f"at most {duration(lag.max())}"
    )
    return markdown(
        "Without `sync()` {}",
        f"a commit at the server was seen in {age.unsynced} of "
        f"{times(age.trials, 'trial')} of {waited}, after it in {age.synced}, the replica's own "
        f"write at once in {age.own}; fetching every {_every(served)} a commit is seen after "
        f"{_ns(served, 'lag')}, {tail}.",
    )


def _every(served: Served) -> str:
    return duration(served.manifest["settings"]["sync_interval_s"] * 1e9)
