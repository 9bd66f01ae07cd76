"""A TCP relay that delays: the network between clients and a server, on loopback and without root.

It is a process of its own, started by `workloads.engines.link`. What it reads at one end of a
connection it writes at the other, half the round trip later and in order. Orders come as lines on
its standard input, and an account goes back as a line for each.

The limits of the method:
- TCP's own handshake is not delayed: the kernel accepts for the relay at once. A server that
  refuses shows as a connection that is accepted and then reset.
- A message is what one read takes. Two that TCP has joined are delayed as one.
- A lost packet shows as what TCP makes of it: it, and all behind it on this connection, comes after
  a retransmission timeout of at least 200 ms, doubled for each further loss (RFC 6298; Linux's
  TCP_RTO_MIN). Fast retransmission, congestion windows and a limit of bandwidth are not modelled.
- A network that is dropped resets what is open and refuses what is new. A real one falls silent,
  and who waits for an answer learns it from a timeout: for that there is the order "hold".
- At most 1 MiB is on its way in each direction of a connection; then its sender has to wait.
- The relay costs CPU time beside what is measured, and some of its own to each round trip. So that
  is measured in each run, idle and past the relay too, and is what a chart should be drawn at; how
  late messages were under the run's load is counted.

On 2 busy cores (tools/bench/bench_relay.py) 0, 0.5, 2 and 10 ms asked became 0.03 to 0.09, 0.62,
2.17 and 10.3. A message cost 12 us of CPU time, and 8 clients of PostgreSQL on the same cores made
0.65 of the commits that they made without a relay (0.58 to 1.38 in 5 blocks).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import random
import resource
import select
import selectors
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

HOST = "127.0.0.1"
MOST_WAITING = 1 << 20
RETRANSMIT_S, MOST_LOSSES = 0.2, 6
CONNECT_S = 10.0
END, RESET = b"", None
"""What stands in a queue for the end of a stream, and for a connection that was reset."""

_PR_SET_TIMERSLACK = 29


class ExactSelector(selectors.EpollSelector):
    """Waits to the microsecond. epoll's own wait takes whole milliseconds, which asyncio rounds up:
    0.5 ms asked became 2.9. select takes microseconds, and no more than 1,024 descriptors; here it
    waits for one, which is epoll's.
    """

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


class Draws:
    """The delays of one way of one connection, s. The same seed draws the same ones."""

    def __init__(self, asked: dict[str, Any], seed: str, *, probe: bool) -> None:
        self.half, self.jitter = asked["rtt_s"] / 2, asked["jitter_s"] / 2
        self.loss = 0.0 if probe else asked["loss"]
        self.timeout = max(RETRANSMIT_S, asked["rtt_s"])
        self.random = random.Random(seed).random

    def next(self) -> float:
        delay = self.half
        if self.jitter:
            delay += self.jitter * (2 * self.random() - 1)
        if self.loss:
            lost = 0
            while lost < MOST_LOSSES and self.random() < self.loss:
                delay += self.timeout * 2**lost
                lost += 1
        return delay


class Account:
    """What the relay did, all connections together. late : over the delay that was drawn, s."""

    def __init__(self) -> None:
        self.connections = self.unreached = self.messages = self.bytes = self.cuts = 0
        self.late_s = self.most_late_s = 0.0

    def data(self) -> dict[str, Any]:
        """As a manifest has it (workloads.records.NetworkEntry)."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        counted = {name: value for name, value in vars(self).items() if not name.endswith("_s")}
        return counted | {
            "late_ms": self.late_s * 1e3 / max(self.messages, 1),
            "most_late_ms": self.most_late_s * 1e3,
            "cpu_s": used.ru_utime + used.ru_stime,
        }


class End(asyncio.Protocol):
    """One end of a relayed connection. What it reads waits here until it is due at the other."""

    other: End
    transport: asyncio.Transport

    def __init__(self, relay: Relay, draws: Draws, account: Account) -> None:
        self.relay, self.draws, self.account = relay, draws, account
        self.queue: deque[tuple[float, bytes | None]] = deque()
        self.waiting, self.last = 0, 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.full = True  # until it is connected: a server may speak first
        self.paused = self.gone = self.done = False

    # -- what asyncio calls --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        self.waiting += len(data)
        self._put(data)
        if self.waiting > MOST_WAITING and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._put(END)
        return True  # the other way stays open

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        if not self.done:
            self._put(RESET)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.other.flush()

    # -- what comes out --

    def _put(self, what: bytes | None) -> None:
        now = self.relay.loop.time()
        # Never before what came earlier: TCP keeps the order.
        self.last = max(self.last, now + self.draws.next())
        self.queue.append((self.last, what))
        if self.timer is None:
            self.flush()

    def flush(self) -> None:
        """Write what is due, and come again when the next is."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        other, queue, account = self.other, self.queue, self.account
        while queue and not other.full and not self.relay.held:
            due, what = queue[0]
            now = self.relay.loop.time()
            if due > now:
                self.timer = self.relay.loop.call_at(due, self.flush)
                break
            queue.popleft()
            if what is RESET:
                self.reset()
                return
            if what == END:
                self._ended()
            else:
                self.waiting -= len(what)
                account.messages += 1
                account.bytes += len(what)
                account.late_s += now - due
                account.most_late_s = max(account.most_late_s, now - due)
                if not other.gone:
                    other.transport.write(what)
        if self.paused and self.waiting < MOST_WAITING // 2 and not self.gone:
            self.paused = False
            self.transport.resume_reading()

    def _ended(self) -> None:
        self.done = True
        if self.other.done:
            self.transport.close()
            self.other.transport.close()
            self.relay.ends.difference_update((self, self.other))
        elif not self.other.gone:
            self.other.transport.write_eof()

    def reset(self) -> None:
        """End both ends at once, as a reset: what is on its way is lost."""
        for end in (self, self.other):
            end.done = True
            end.queue.clear()
            if end.timer is not None:
                end.timer.cancel()
            if not end.gone and hasattr(end, "transport"):
                _reset(end.transport.get_extra_info("socket"))
                end.transport.abort()
        self.relay.ends.difference_update((self, self.other))


class Echo(asyncio.Protocol):
    """Answers with what it is told: the far end of the connections that measure the round trip."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Relay:
    """Its sockets, its connections, and whether there is a network just now."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked, self.loop = asked, asyncio.get_running_loop()
        self.account = Account()
        self.ends: set[End] = set()
        self.joining: set[asyncio.Task[None]] = set()
        self.held = self.down = False
        self.number = 0
        self.front = _listening()
        self.back, self.probe = _listening(), _listening()

    async def open(self) -> dict[str, int]:
        """Begin to listen; the ports: of the server's side, of the probe, of the probe's echo."""
        await self.loop.create_server(Echo, sock=self.back)
        echo = self.back.getsockname()
        self.loop.add_reader(self.front, self._accept, self.front, tuple(self.asked["to"]), False)
        self.loop.add_reader(self.probe, self._accept, self.probe, echo, True)
        ports = {"port": self.front, "through": self.probe, "direct": self.back}
        return {name: one.getsockname()[1] for name, one in ports.items()}

    def _accept(self, listener: socket.socket, to: tuple[str, int], probe: bool) -> None:
        while not self.held or probe:
            try:
                one, _ = listener.accept()
            except OSError:  # nobody waits any more, or there are no descriptors just now
                return
            one.setblocking(False)
            task = self.loop.create_task(self._join(one, to, probe))
            self.joining.add(task)
            task.add_done_callback(self.joining.discard)
        self.loop.remove_reader(listener)  # held: whoever waits is accepted when it is over

    async def _join(self, one: socket.socket, to: tuple[str, int], probe: bool) -> None:
        self.number += 1
        names = [f"{self.asked['seed']}-{self.number}-{way}" for way in ("there", "back")]
        account = Account() if probe else self.account
        here, there = (End(self, Draws(self.asked, n, probe=probe), account) for n in names)
        here.other, there.other = there, here
        account.connections += 1
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.loop.create_connection(lambda: there, *to)
            await self.loop.connect_accepted_socket(lambda: here, one)
        except (OSError, TimeoutError, asyncio.CancelledError):
            account.unreached += 1
            _reset(one)
            one.close()
            if hasattr(there, "transport"):
                there.done = True
                there.transport.abort()
            return
        if not probe:
            self.ends |= {here, there}

    # -- orders --

    def opened(self, at_ns: int) -> None:
        """The measured window begins at this time of the monotonic clock."""
        if self.asked["drop"] is not None:
            for seconds, what in zip(self.asked["drop"], (self.cut, self.heal), strict=True):
                self.loop.call_at(at_ns / 1e9 + seconds, what)

    def cut(self) -> None:
        """Reset what is open, and refuse what is new."""
        if self.down:
            return
        self.down = True
        self.account.cuts += 1
        self.loop.remove_reader(self.front)
        self.front.shutdown(socket.SHUT_RDWR)  # stays bound: nobody else can take its port
        for task in self.joining:
            task.cancel()
        for end in list(self.ends):
            end.reset()

    def hold(self) -> None:
        """Fall silent: nothing arrives, and nobody is told."""
        self.held = True

    def heal(self) -> None:
        """There is a network again."""
        if self.down:
            self.front.listen(socket.SOMAXCONN)
        self.down = self.held = False
        self.loop.add_reader(self.front, self._accept, self.front, tuple(self.asked["to"]), False)
        for end in list(self.ends):
            end.flush()


def _listening() -> socket.socket:
    # A port that the kernel chose is given up by `shutdown`, one that was asked for is kept.
    with _bound(0) as first:
        one = _bound(first.getsockname()[1])
    one.listen(socket.SOMAXCONN)
    one.setblocking(False)
    return one


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((HOST, port))
    return one


def _reset(one: Any) -> None:
    """Have its close send a reset, and not the end of a stream."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Orders(asyncio.Protocol):
    """Lines of JSON, [order, argument...], each answered by the account. With them it ends."""

    def __init__(self, relay: Relay, over: Callable[[], None]) -> None:
        self.relay, self.over, self.text = relay, over, b""

    def data_received(self, data: bytes) -> None:
        *lines, self.text = (self.text + data).split(b"\n")
        for line in lines:
            order, *given = json.loads(line)
            if order != "count":
                getattr(self.relay, order)(*given)
            say(self.relay.account.data())

    def connection_lost(self, error: Exception | None) -> None:
        self.over()


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _serve(asked: dict[str, Any]) -> None:
    relay, over = Relay(asked), asyncio.Event()
    ports = await relay.open()
    make = partial(Orders, relay, over.set)
    await relay.loop.connect_read_pipe(make, sys.stdin.buffer)
    say(ports)
    await over.wait()


def main(text: str) -> None:
    from workloads.processes import die_with_parent

    die_with_parent()
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # else the kernel adds up to 50 us to a wait
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(ExactSelector())) as runner:
        runner.run(_serve(json.loads(text)))


if __name__ == "__main__":
    main(sys.argv[1])
