"""The relay: it delays, keeps the order, loses nothing, and shows a cut as a cut."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from workloads.engines import Delay, Link, parse_network
from workloads.engines.relay import RETRANSMIT_S, Draws
from workloads.errors import PlanError, RunFailed

LIMIT_S = 20.0
MORE_THAN_FITS = 256 << 20
"""Bytes: more than the relay and the kernel's buffers hold."""


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", None),
        ("tcp", None),
        ("rtt=0", Delay(0)),
        ("rtt=500us", Delay(0.0005)),
        ("jitter=0.5ms, rtt=2ms", Delay(0.002, 0.0005)),
        ("rtt=1s,loss=1%,drop=2..4.5", Delay(1, 0, 0.01, (2, 4.5))),
        ("rtt=1ms,loss=0.5", Delay(0.001, 0, 0.5)),
    ],
)
def test_a_network_is_read_as_it_is_written(text: str, asked: Delay | None) -> None:
    assert parse_network(text) == asked


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tpc", "it knows no 'tpc'. Did you mean tcp?"),
        ("rtt=2ms,jiter=1ms", "it knows no 'jiter'. Did you mean jitter?"),
        ("rtt", "rtt has no value"),
        ("rtt=2", "is no time with its unit"),
        ("rtt=-1ms", "is no time with its unit"),
        ("rtt=nan", "is no time with its unit"),
        ("rtt=11s", "more than 10 s"),
        ("rtt=1ms,rtt=2ms", "rtt is given twice"),
        ("loss=1%", "rtt is missing"),
        ("rtt=1ms,jitter=2ms", "jitter=2ms is more than rtt=1ms"),
        ("rtt=1ms,loss=60%", "no share"),
        ("rtt=1ms,drop=4..2", "no span"),
        ("rtt=1ms,drop=4", "no span"),
        ("rtt=1ms,", "it knows no ''"),
    ],
)
def test_a_network_that_is_none_is_refused_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_network(text)
    assert why in str(refused.value) and "Give tcp, or rtt=2ms" in str(refused.value)
    assert refused.value.field == "network"


def test_the_same_seed_draws_the_same_delays_and_a_loss_is_a_retransmission() -> None:
    asked = {"rtt_s": 0.01, "jitter_s": 0.004, "loss": 0.3}
    one, same, other = (Draws(asked, seed, probe=False) for seed in ("1", "1", "2"))
    drawn = [one.next() for _ in range(200)]
    assert drawn == [same.next() for _ in range(200)]
    assert drawn != [other.next() for _ in range(200)]
    lost = [delay for delay in drawn if delay >= RETRANSMIT_S]
    assert 30 < len(lost) < 90 and max(drawn) > 0.003 + 3 * RETRANSMIT_S
    assert all(0.003 <= delay <= 0.007 for delay in drawn if delay not in lost)
    probe = Draws(asked, "1", probe=True)
    assert max(probe.next() for _ in range(200)) <= 0.007


# --- a relay ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    """It speaks first, and then says again what it is told; at the end it says goodbye."""

    def serve(one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            one.sendall(b"hello ")
            while text := one.recv(1 << 16):
                one.sendall(text)
            one.sendall(b" bye")

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def link(server: tuple[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    asked = Delay(0.004, jitter_s=0.004)
    made = Link(asked, server, tmp_path_factory.mktemp("relay") / "said", seed=7)
    yield made
    made.close()
    assert made.child.process.returncode == 0 and not made.child.stderr_text()


def connected(link: Link) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", link.port), LIMIT_S)
    try:
        assert told(one, 6) == b"hello "
    except BaseException:
        one.close()
        raise
    return one


def told(one: socket.socket, many: int) -> bytes:
    text = b""
    while len(text) < many and (more := one.recv(many - len(text))):
        text += more
    return text


def test_the_round_trip_is_no_shorter_than_asked_and_is_measured_beside_none(link: Link) -> None:
    found = link.measure()
    assert found["rtt_ms"] >= 3.0 and found["direct_ms"] < found["rtt_ms"]


def test_all_arrives_in_order_whatever_the_jitter_and_a_half_close_passes(link: Link) -> None:
    before = link.count()
    sent = bytes(range(256)) * 16
    with connected(link) as one, connected(link) as other:
        for at in range(0, len(sent), 64):
            one.sendall(sent[at : at + 64])
        assert told(one, len(sent)) == sent
        one.shutdown(socket.SHUT_WR)
        assert told(one, 100) == b" bye" and one.recv(1) == b""
        other.sendall(b"still here")
        assert told(other, 10) == b"still here"
    after = link.count()
    assert after["connections"] - before["connections"] == 2
    assert after["bytes"] - before["bytes"] >= 2 * len(sent)


def test_who_sends_faster_than_the_other_reads_has_to_wait(link: Link) -> None:
    with connected(link) as one:
        one.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < MORE_THAN_FITS:
                sent += one.send(bytes(1 << 16))
        assert sent < MORE_THAN_FITS
        one.settimeout(LIMIT_S)
        got = 0
        while got < sent:
            got += len(one.recv(1 << 20))
        assert got == sent


def test_a_cut_resets_what_is_open_and_refuses_what_is_new_until_it_heals(link: Link) -> None:
    with connected(link) as one:
        link.cut()
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connected(link)
        link.heal()
        with connected(link) as new:
            new.sendall(b"back")
            assert told(new, 4) == b"back"
    assert link.count()["cuts"] == 1


def test_a_cut_comes_and_goes_by_itself_in_the_measured_window(
    server: tuple[str, int], tmp_path: Path
) -> None:
    link = Link(Delay(0, drop=(0.0, 0.3)), server, tmp_path / "said")
    try:
        with connected(link) as one:
            link.opened(time.monotonic_ns())
            with pytest.raises(ConnectionResetError):
                one.recv(1)
        until = time.monotonic() + LIMIT_S
        refused = 0
        while time.monotonic() < until:
            try:
                connected(link).close()
                break
            except ConnectionRefusedError:
                refused += 1
                time.sleep(0.01)
        assert refused and time.monotonic() < until
    finally:
        link.close()


def test_a_network_that_falls_silent_loses_nothing(link: Link) -> None:
    with connected(link) as one:
        link.hold()
        one.sendall(b"anybody?")
        one.settimeout(0.1)
        with pytest.raises(TimeoutError):
            one.recv(1)
        link.heal()
        one.settimeout(LIMIT_S)
        assert told(one, 8) == b"anybody?"


def test_a_server_that_is_not_there_shows_as_a_reset(tmp_path: Path) -> None:
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # and does not listen
    link = Link(Delay(0), nobody.getsockname(), tmp_path / "said")
    try:
        with pytest.raises(ConnectionResetError):
            connected(link)
        assert link.count()["unreached"] == 1
        link.child.process.kill()
        with pytest.raises(RunFailed, match="relay failed: signal 9"):
            link.count()
    finally:
        link.close()
        nobody.close()


def test_a_relay_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from workloads.engines import Delay, Link
        link = Link(Delay(0), ("127.0.0.1", 9), Path(sys.argv[1]))
        print(link.pid, flush=True)
        time.sleep(600)
    """
    argv = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "said")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        relay = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.wait_procs([relay], LIMIT_S)
        assert not relay.is_running() or relay.status() == psutil.STATUS_ZOMBIE
