"""A fault as a user names it: which call on which file, which time, and what then.

CALL:FILE:N:WHAT[@WORKER]      sync:*-wal:3:EIO    write:*:10+:ENOSPC    write:*-wal:7:torn=512
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from workloads.errors import PlanError, nearest, shortened

CALLS = {"open": 1, "write": 2, "sync": 3, "truncate": 4, "rename": 5, "unlink": 6}
"""Call -> its number in before_libc.c. `write` has all its forms; `sync` fsync and fdatasync."""

ACTIONS = {"fail": 1, "short": 2, "torn": 3, "kill": 4, "kill-after": 5, "stop": 6, "slow": 7,
           "lie": 8}  # fmt: skip
"""What is done -> its number in before_libc.c."""

ONLY = {"short": ("write",), "torn": ("write",), "lie": ("sync",)}
"""What makes sense at these calls alone."""

ALIASES = {"fsync": "sync", "fdatasync": "sync", "pwrite": "write", "pwritev": "write",
           "ftruncate": "truncate"}  # fmt: skip
MOST_MS, MOST_NUMBER = 600_000, 1 << 62
_NUMBER = re.compile(r"(?P<first>\d{1,18})(?P<more>\+|-(?P<last>\d{1,18}))?", re.ASCII)
_TIMED = re.compile(r"(?P<what>stop|slow)=(?P<number>\d{1,6})(?P<unit>ms|s)", re.ASCII)
_CUT = re.compile(r"(?P<what>short|torn)(=(?P<number>\d{1,9}))?", re.ASCII)
FORM = "CALL:FILE:N:WHAT, such as sync:*-wal:3:EIO"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault. file : a pattern for the file's name. first, last : which of the matching calls,
    counted from 1 over all processes; last None: all from the first on.

    argument : errno of `fail`, bytes of `short` and `torn`, milliseconds of `stop` and `slow`.
    worker : whose calls alone, by its number.
    """

    call: str
    file: str
    first: int
    last: int | None
    action: str
    argument: int = 0
    worker: int | None = None

    def __str__(self) -> str:
        """As a user would give it.

        >>> str(parse_rule("fsync:*-wal:2+:eio@1"))
        'sync:*-wal:2+:EIO@1'
        """
        number = f"{self.first}" if self.last == self.first else f"{self.first}-{self.last}"
        number = f"{self.first}+" if self.last is None else number
        what = self.action
        if self.action == "fail":
            what = errno.errorcode[self.argument]
        elif self.action in ("stop", "slow"):
            what = f"{self.action}={self.argument}ms"
        elif self.action in ("short", "torn") and self.argument != HALF:
            what = f"{self.action}={self.argument}"
        who = "" if self.worker is None else f"@{self.worker}"
        return f"{self.call}:{self.file}:{number}:{what}{who}"

    @property
    def kills(self) -> bool:
        """Whether the process that meets it is gone."""
        return self.action in ("kill", "kill-after", "torn")

    @property
    def fails(self) -> bool:
        """Whether the engine is told of an error that there was not, or of less than it wrote."""
        return self.action in ("fail", "short")

    @property
    def waits_s(self) -> float:
        """How long the process that meets it stands still at most, each time."""
        return self.argument / 1000 if self.action in ("stop", "slow") else 0.0


HALF = (1 << 32) - 1
"""As the bytes of a write that is cut: half of them."""


def parse_rule(text: str) -> FaultRule:
    """Raises PlanError with one sentence.

    >>> parse_rule("write:*-wal:7:torn=512")
    FaultRule(call='write', file='*-wal', first=7, last=7, action='torn', argument=512, worker=None)
    """
    main, at, who = text.rpartition("@") if re.search(r"@\d{1,4}$", text) else (text, "", "")
    parts = main.split(":")
    if len(parts) != 4 or not all(parts):
        raise _wrong(text, f"give {FORM}")
    call, file, number, what = parts
    call = ALIASES.get(call, call)
    if call not in CALLS:
        near = nearest(call, [*CALLS, *ALIASES])
        hint = f" Did you mean {near!r}?" if near else ""
        raise _wrong(text, f"{shortened(call)} is no call.{hint} There are {', '.join(CALLS)}")
    if len(file.encode()) > 63 or any(sign in file for sign in "/,") or not file.isprintable():
        raise _wrong(
            text,
            "FILE is a pattern for the name of a file, at most 63 bytes, without / and without a "
            "comma",
        )
    first, last = _range(text, number)
    action, argument = _what(text, what)
    if action in ONLY and call not in ONLY[action]:
        raise _wrong(text, f"{action!r} goes with {' and '.join(ONLY[action])} only")
    return FaultRule(call, file, first, last, action, argument, int(who) if at else None)


def _range(text: str, number: str) -> tuple[int, int | None]:
    found = _NUMBER.fullmatch(number)
    first = int(found["first"]) if found else 0
    last = int(found["last"]) if found and found["last"] else first
    if found is None or not 1 <= first <= last < MOST_NUMBER:
        raise _wrong(
            text, "N is which of these calls, from 1: 3, 3-5, or 3+ for all from the 3rd on"
        )
    return first, None if found["more"] == "+" else last


def _what(text: str, what: str) -> tuple[str, int]:
    if what in ("kill", "kill-after", "lie"):
        return what, 0
    if found := _CUT.fullmatch(what):
        return found["what"], int(found["number"]) if found["number"] else HALF
    if found := _TIMED.fullmatch(what):
        ms = int(found["number"]) * (1000 if found["unit"] == "s" else 1)
        if not 1 <= ms <= MOST_MS:
            raise _wrong(text, f"a time is at least 1 ms and at most {MOST_MS // 1000} s")
        return found["what"], ms
    number = getattr(errno, what.upper(), None)
    if isinstance(number, int) and what.upper().startswith("E"):
        return "fail", number
    raise _wrong(
        text,
        f"{shortened(what)} is nothing that can be done. There are EIO, ENOSPC and other errors, "
        "short, torn, torn=512, kill, kill-after, stop=500ms, slow=5ms, lie",
    )


def _wrong(text: str, why: str) -> PlanError:
    return PlanError(f"--fault {shortened(text)}: {why}.")
