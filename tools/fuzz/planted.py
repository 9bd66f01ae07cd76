"""A fuzzer of a command in which everything goes wrong: the negative control of the harness.

It imports little: each process that it ends, or that plays an input alone, starts anew.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from tools import fuzz

PLANTED = {
    "fine": "",
    "refused": "",
    "raises": "traceback: ",
    "exits_so": "status: 77",
    "says_nothing": "status: 2 without a sentence",
    "hangs": "hang: no end within 4 s",
    "reads_a_fifo": "hang: no end within 4 s",
    "takes_memory": "memory: ",
    "dies": "died: by SIGSEGV",
    "runs_the_input": "evil: ",
    "runs_it_apart": "evil: ",
    "leaves_the_folder": "out of place: touched precious/",
    "looks_outside": "out of place: touched precious/",
    "goes_online": "out of place: connected to",
    "leaves_a_process": "left running: sleep 1000000",
    "warns": "warning: ",
    "is_loud": "judged: too loud",
}
"""Planted fault -> how the complaint begins, "" where there is none."""


class Planted(fuzz.Fuzzer):
    """A made-up command whose input names what goes wrong."""

    def prepare(self, base: Path, seed: int) -> None:
        (base / "faults").write_text(" ".join(PLANTED))

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        fault = rng.choice((base / "faults").read_text().split())
        (where / "fault").write_text(fault)
        return [["fine"], [fault]]

    def import_all(self) -> None:
        """Nothing: its calls are methods."""

    def call(self, argv: Sequence[str]) -> None:
        getattr(self, argv[0])()

    def judge(self, call: fuzz.Call) -> str:
        return "too loud" if "!" in call.out else ""

    def fine(self) -> None:
        print("well")
        sys.exit(0)

    def refused(self) -> None:
        print("a sentence", file=sys.stderr)
        sys.exit(2)

    def raises(self) -> None:
        raise ValueError(Path("fault").read_text())

    def exits_so(self) -> None:
        sys.exit(77)

    def says_nothing(self) -> None:
        sys.exit(2)

    def hangs(self) -> None:
        time.sleep(1e6)

    def reads_a_fifo(self) -> None:
        os.mkfifo("pipe")
        Path("pipe").read_text()

    def takes_memory(self) -> None:
        bytearray(3 << 30)

    def dies(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def runs_the_input(self) -> None:
        exec(compile(Path(fuzz.EVIL).read_text(), os.path.abspath(fuzz.EVIL), "exec"), {})

    def runs_it_apart(self) -> None:
        subprocess.run([sys.executable, fuzz.EVIL], check=True)

    def leaves_the_folder(self) -> None:
        (Path("..") / fuzz.PRECIOUS / "more").write_text("")

    def looks_outside(self) -> None:
        os.listdir(Path("..") / fuzz.PRECIOUS)

    def goes_online(self) -> None:
        with socket.socket() as made:
            made.connect(("192.0.2.1", 80))

    def leaves_a_process(self) -> None:
        subprocess.Popen(["sleep", "1000000"], start_new_session=True)

    def warns(self) -> None:
        warnings.warn("something", stacklevel=1)

    def is_loud(self) -> None:
        print("well!")
