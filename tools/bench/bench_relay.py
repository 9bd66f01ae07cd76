"""The relay between clients and a server: what it adds, and what it costs, about a minute.

Printed: the round trip measured for each one asked for; the commits of 8 clients on PostgreSQL
through a relay that adds nothing (rtt=0) over those without one, in turn; its CPU time a message;
and the bytes a second of one stream. Ratios carry over to other machines, times do not, and the
other programs of this one are in both.

Where no PostgreSQL is to be had, it says so and is no miss.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from analysis.counting import count
from workloads.engines import Link, find_engine, parse_network
from workloads.runs import make_plan, run

ASKED = ("0", "0.5ms", "2ms", "10ms")
BLOCKS, CLIENTS, SECONDS = 5, 8, 1.0
STREAM_BYTES = 256 << 20
MOST_ADDED_MS = 0.5
"""Beyond what was asked, of a round trip on a machine that has a core to spare."""


def added(place: Path) -> bool:
    """Print the round trips; whether each is no shorter than asked, and hardly longer."""
    good = True
    for asked in ASKED:
        link = Link(parse_network(f"rtt={asked}"), ("127.0.0.1", 9), place / "said")  # type: ignore[arg-type]
        try:
            trips = [link.measure() for _ in range(BLOCKS)]
        finally:
            link.close()
        wanted = link.asked.rtt_s * 1e3
        through = [trip["rtt_ms"] for trip in trips]
        past = float(np.median([trip["direct_ms"] for trip in trips]))
        middle = float(np.median(through))
        good &= wanted <= middle <= wanted + MOST_ADDED_MS
        print(
            f"asked {wanted:g} ms: measured {middle:.3f} ms ({min(through):.3f} to "
            f"{max(through):.3f} in {BLOCKS} blocks), past the relay {past:.3f} ms"
        )
    return good


def commits(place: Path) -> None:
    """Print the ratio of commits with a relay that adds nothing to those without one."""
    ratios, cpu_us = [], []
    for block in range(BLOCKS):
        per_s = {}
        for network in ("tcp", "rtt=0")[:: -1 if block % 2 else 1]:
            plan = make_plan(
                scenario="register", database="postgres", writers=CLIENTS, network=network,
                duration_s=SECONDS, warmup_s=0.2, synchronous="off", seed=block,
            )  # fmt: skip
            made = run(plan, place)
            per_s[network] = count(made).roles["writer"].per_s
            if entry := made.manifest.network:
                cpu_us.append(entry.cpu_s / entry.messages * 1e6)
        ratios.append(per_s["rtt=0"] / per_s["tcp"])
        print(f"block {block}: {per_s['tcp']:,.0f} without, {per_s['rtt=0']:,.0f} through it")
    print(
        f"{CLIENTS} clients, through the relay / without: {np.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); {np.median(cpu_us):.1f} us of CPU a message"
    )


def streamed(port: int) -> float:
    """Bytes a second of one stream from this port."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        begun, got = time.perf_counter(), 0
        while text := one.recv(1 << 20):
            got += len(text)
        assert got == STREAM_BYTES
        return got / (time.perf_counter() - begun)


def stream(place: Path) -> None:
    def serve() -> None:
        piece = bytes(1 << 20)
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as one:
                    for _ in range(STREAM_BYTES >> 20):
                        one.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        to = listener.getsockname()
        link = Link(parse_network("rtt=0"), to, place / "said")  # type: ignore[arg-type]
        try:
            pairs = [(streamed(link.port), streamed(to[1])) for _ in range(BLOCKS)]
        finally:
            link.close()
            listener.shutdown(socket.SHUT_RDWR)
    through, ratio = np.median([a for a, _ in pairs]), np.median([a / b for a, b in pairs])
    print(f"one stream: {through / 1e6:,.0f} MB/s, {ratio:.2f} of that without a relay")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        good = added(place)
        stream(place)
        if why := find_engine("postgres").missing():
            print(f"no commits: {why}")
        else:
            commits(place)
    print("ok" if good else f"MISSED: a round trip is over {MOST_ADDED_MS} ms longer than asked")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
