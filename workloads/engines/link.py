"""The network between clients and a server, as its owner holds it: the relay's process, its orders,
and the round trip through it as it was measured.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workloads.engines.network import Delay
from workloads.errors import RunFailed
from workloads.processes import describe_end, end, python, start

START_LIMIT_S, ANSWER_LIMIT_S, END_LIMIT_S = 20.0, 10.0, 2.0
PROBE_S, LEAST_PROBES, MOST_PROBES, SKIPPED = 0.3, 5, 40, 2
"""A probe's time, its fewest and most round trips, and how many at its beginning do not count."""


class Link:
    """A network of its own between whoever connects to `port` and a server.

    to : the server's host and port. seed : draws jitter and loss.
    last_words : the file for what the relay says. Raises RunFailed where it does not start.
    """

    def __init__(
        self,
        asked: Delay,
        to: tuple[str, int],
        last_words: Path,
        *,
        seed: int = 0,
        inherit: Sequence[int] = (),
    ) -> None:
        self.asked = asked
        text = json.dumps(asdict(asked) | {"to": to, "seed": seed})
        self.child = start(
            "relay",
            python("workloads.engines.relay", text),
            last_words=last_words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            inherit=inherit,
            method="exec",
        )
        self._read = b""
        try:
            ports = self._answer(START_LIMIT_S)
        except BaseException:
            self.close()
            raise
        self.port: int = ports["port"]
        self._through: int = ports["through"]
        self._direct: int = ports["direct"]

    @property
    def pid(self) -> int:
        return self.child.process.pid

    def opened(self, at_ns: int) -> None:
        """Tell it when the measured window begins: `drop` counts from there."""
        self._order("opened", at_ns)

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        self._order("cut")

    def hold(self) -> None:
        """Fall silent: nothing arrives at either side, and nobody is told."""
        self._order("hold")

    def heal(self) -> None:
        """After `cut` or `hold`: there is a network again."""
        self._order("heal")

    def count(self) -> dict[str, Any]:
        """What it has done until now: connections, messages and bytes, how late messages were (ms),
        CPU seconds (workloads.records.NetworkEntry). Raises RunFailed where it is gone.
        """
        return self._order("count")

    def measure(self) -> dict[str, float]:
        """Round trips of one byte to an echo in the relay's process, with the delay and without it:
        medians, ms. Losses and cuts do not concern them.
        """
        ports = {"rtt_ms": self._through, "direct_ms": self._direct}
        return {
            name: statistics.median(self._round_trips(port)) * 1e3 for name, port in ports.items()
        }

    def _round_trips(self, port: int) -> list[float]:
        trips: list[float] = []
        limit_s = 10 + 4 * self.asked.rtt_s
        with socket.create_connection(("127.0.0.1", port), limit_s) as one:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            until = time.perf_counter() + PROBE_S
            while len(trips) < SKIPPED + LEAST_PROBES or (
                len(trips) < SKIPPED + MOST_PROBES and time.perf_counter() < until
            ):
                begun = time.perf_counter()
                one.sendall(b"?")
                if not one.recv(1):
                    raise RunFailed(f"The network's relay ended: {describe_end(self.child)}.")
                trips.append(time.perf_counter() - begun)
        return trips[SKIPPED:]

    def _order(self, *words: Any) -> dict[str, Any]:
        assert self.child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.process.stdin.write(json.dumps(words).encode() + b"\n")
        return self._answer(ANSWER_LIMIT_S)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        out = self.child.process.stdout
        assert out is not None
        until = time.monotonic() + limit_s
        while b"\n" not in self._read:
            ready, _, _ = select.select([out], [], [], max(until - time.monotonic(), 0))
            text = out.read(1 << 16) if ready else b""
            if not text:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.child.process.wait(0.5)
                why = (
                    describe_end(self.child)
                    if self.child.process.poll() is not None
                    else (f"no answer within {limit_s:g} s")
                )
                raise RunFailed(f"The network's relay failed: {why}.", self.child.stderr_text())
            self._read += text
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the relay. What is connected through it is reset."""
        process = self.child.process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_LIMIT_S)
        if process.poll() is None:
            end(process)
