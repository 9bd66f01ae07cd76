"""The network that a plan asks for between clients and server: its grammar, and what was measured.

"" is the engine's nearest way, "tcp" loopback without a relay, and "rtt=2ms,jitter=1ms,loss=1%,
drop=2..4" goes through a relay of ours (workloads.engines.relay, started by `link`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from workloads.errors import PlanError, nearest, shortened

TCP = "tcp"
WAY_OUT = (
    "Give tcp, or rtt=2ms with, where wanted, jitter=0.5ms, loss=1% and drop=2..4 (seconds of the "
    "measured part), separated by commas."
)
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
MOST_RTT_S, MOST_LOSS = 10.0, 0.5


@dataclass(frozen=True)
class Delay:
    """What a relay is asked for. Times in seconds.

    rtt_s : added to each round trip, half of it each way.
    jitter_s : each way of each message takes half of rtt_s ± jitter_s, drawn uniformly.
    loss : probability that a message is lost on its way. TCP sends it again, so it comes late.
    drop : from and to, seconds of the measured window, between which there is no network; None for
        never.
    """

    rtt_s: float
    jitter_s: float = 0.0
    loss: float = 0.0
    drop: tuple[float, float] | None = None


def parse_network(text: str) -> Delay | None:
    """The relay that a plan's `network` asks for; None for "" and "tcp", which need none.

    Raises PlanError with one sentence.

    >>> parse_network("rtt=2ms,loss=1%"), parse_network("tcp")
    (Delay(rtt_s=0.002, jitter_s=0.0, loss=0.01, drop=None), None)
    """
    if text in ("", TCP):
        return None
    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        if name not in READERS:
            near = nearest(name, [*READERS, TCP])
            hint = f" Did you mean {near}?" if near else ""
            raise _wrong(f"it knows no {shortened(name)}.{hint}")
        if not equals or not value:
            raise _wrong(f"{name} has no value.")
        if name in given:
            raise _wrong(f"{name} is given twice.")
        given[name] = value
    if "rtt" not in given:
        raise _wrong("rtt is missing; rtt=0 adds nothing but the relay itself.")
    delay = Delay(
        rtt_s=_time("rtt", given["rtt"]),
        jitter_s=_time("jitter", given.get("jitter", "0")),
        loss=_share("loss", given.get("loss", "0")),
        drop=_span("drop", given["drop"]) if "drop" in given else None,
    )
    if delay.jitter_s > delay.rtt_s:
        raise _wrong(f"jitter={given['jitter']} is more than rtt={given['rtt']}.")
    return delay


def _wrong(why: str) -> PlanError:
    return PlanError(f"network: {why} {WAY_OUT}", "network")


def _time(name: str, text: str) -> float:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(us|ms|s)?", text, re.ASCII)
    if found is None or (found[2] is None and float(found[1]) != 0):
        raise _wrong(f"{name}={shortened(text)} is no time with its unit (us, ms or s).")
    seconds = float(found[1]) * UNITS[found[2] or "s"]
    if seconds > MOST_RTT_S:
        raise _wrong(f"{name}={text} is more than {MOST_RTT_S:g} s.")
    return seconds


def _share(name: str, text: str) -> float:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)(%)?", text, re.ASCII)
    share = float(found[1]) / (100 if found[2] else 1) if found else math.nan
    if not 0 <= share <= MOST_LOSS:
        raise _wrong(
            f"{name}={shortened(text)} is no share from 0 to {MOST_LOSS:g} (or 0% to 50%)."
        )
    return share


def _span(name: str, text: str) -> tuple[float, float]:
    number = r"(\d{1,6}(?:\.\d{1,6})?)s?"
    found = re.fullmatch(rf"{number}\.\.{number}", text, re.ASCII)
    if found is None or float(found[1]) >= float(found[2]):
        raise _wrong(
            f"{name}={shortened(text)} is no span FROM..TO of seconds with FROM before TO."
        )
    return float(found[1]), float(found[2])


READERS = ("rtt", "jitter", "loss", "drop")
