"""The messages between the kit and a bridge: JSON lines, one request and one answer.

docs/another-language.md is their description for whoever writes a bridge; here is the kit's side.
No JSON number stands for a value of the database: JavaScript's are no 64-bit integers, and JSON has
neither infinity nor a difference between 1 and 1.0.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from workloads.errors import SQLITES, shortened

PROTOCOL = 1

LOWEST, HIGHEST = -(2**63), 2**63 - 1

LEVELS = (
    *("read-uncommitted", "read-committed", "monotonic-atomic-view", "repeatable-read"),
    *("snapshot-isolation", "serializable", "strict-serializable"),
)
"""Isolation levels that a bridge may promise: those of the checker, by Elle's names."""

Plain = str | dict[str, str] | None
"""A value in a message: null, a text, or one of {"int": …}, {"real": …}, {"blob": …}."""


class NoAnswer(ValueError):
    """A message that the protocol does not have: what is wrong with it."""


class Promised(msgspec.Struct, forbid_unknown_fields=True):
    """The isolation that a mode promises, and where that is written."""

    level: str
    source: str


class Hello(msgspec.Struct):
    """What a bridge says of its engine in the handshake.

    version : the engine's; source_id : of its build, as sqlite_source_id(). file_format : "sqlite"
    (other engines of SQLite's family open its files) or "own". modes : those that it is to be asked
    for. processes : how many may have one database open. promises : mode -> the isolation level.
    usual : role -> its mode, where a plan names none.
    pragmas : whether it takes PRAGMA statements.
    """

    protocol: int
    binding: str
    version: str
    source_id: str = ""
    options: list[str] = []
    file_format: Literal["sqlite", "own"] = "sqlite"
    modes: list[str] = msgspec.field(default_factory=lambda: list(SQLITES))
    promises: dict[str, Promised] = {}
    usual: dict[str, str] = {}
    processes: Literal["many", "one"] = "many"
    pragmas: bool | None = None
    aborts: bool = False
    waits_s: float = 0.0


class Told(msgspec.Struct):
    """An error in the engine's own words.

    code : SQLite's extended result code, by which the kit classifies it where there is no `kind`;
    any other number or text is passed over.
    """

    message: str
    code: int | str | None = None
    kind: str = msgspec.field(default="", name="class")


class Answer(msgspec.Struct):
    """An answer: a hello, rows, or an error; in_transaction is the state after the request."""

    id: int
    in_transaction: bool | None = None
    rows: list[list[Plain]] | None = None
    changes: int | None = None
    error: Told | None = None
    hello: Hello | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode


def request(number: int, do: str, **more: Any) -> bytes:
    r"""A request as a line.

    >>> request(3, "run", sql="SELECT 1", params=[])
    b'{"id":3,"do":"run","sql":"SELECT 1","params":[]}\n'
    """
    return _encode({"id": number, "do": do, **more}) + b"\n"


def answer(line: bytes, number: int) -> Answer:
    """The answer to request `number`. Raises NoAnswer for any other text."""
    found = parsed(line)
    if found.id != number:
        raise NoAnswer(f"answered request {found.id} where {number} was asked: {_shown(line)}")
    return found


def parsed(line: bytes) -> Answer:
    """An answer to any request. Raises NoAnswer for any other text."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoAnswer(f"wrote {_shown(line)}, which is no answer ({error})") from None


def _shown(line: bytes) -> str:
    return shortened(line[:400].decode(errors="replace").rstrip("\n"), 120)


def plain(value: Any) -> Plain:
    """A parameter as a message has it. Raises TypeError and OverflowError, as drivers do.

    >>> [plain(value) for value in (None, "a", 2**62, float("-inf"), b"a")]
    [None, 'a', {'int': '4611686018427387904'}, {'real': '-Infinity'}, {'blob': 'YQ=='}]
    """
    kind = value.__class__
    if kind is str or value is None:
        return value
    if isinstance(value, int):
        if not LOWEST <= value <= HIGHEST:
            raise OverflowError(f"{value} does not fit into SQLite's 64-bit integers.")
        return {"int": str(int(value))}
    if isinstance(value, float):
        return {"real": _real_text(value)}
    if isinstance(value, bytes | bytearray):
        return {"blob": base64.b64encode(value).decode()}
    raise TypeError(
        f"a parameter of type {kind.__name__}: only None, int, float, str and bytes are sent."
    )


def params_of(values: Sequence[Any]) -> list[Plain]:
    if isinstance(values, dict):
        raise TypeError("parameters by name: this protocol has them by their place alone.")
    return [plain(value) for value in values]


def _real_text(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _integer(text: str) -> int:
    value = int(text)
    if not LOWEST <= value <= HIGHEST:
        raise ValueError("it has no 64 bits")
    return value


def _blob(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


READ: dict[str, Callable[[str], Any]] = {"int": _integer, "real": float, "blob": _blob}


def rows_of(found: Sequence[Sequence[Plain]]) -> list[tuple[Any, ...]]:
    """The rows of an answer. Raises NoAnswer for a value that is none.

    >>> rows_of([["a", None, {"int": "-9223372036854775808"}, {"real": "NaN"}, {"blob": "YQ=="}]])
    [('a', None, -9223372036854775808, nan, b'a')]
    """
    return [tuple(map(_value, row)) for row in found]


def _value(value: Plain) -> Any:
    if value.__class__ is not dict:
        return value
    assert isinstance(value, dict)
    try:
        ((kind, text),) = value.items()
        return READ[kind](text)
    except (KeyError, ValueError):
        raise NoAnswer(
            f'gave the value {shortened(value)}: a value is null, a text, {{"int": "…"}}, '
            '{"real": "…"} or {"blob": "base64"}'
        ) from None
