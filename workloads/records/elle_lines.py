"""Operation maps, read one by one with their lines from Elle's histories in JSON or EDN.

Only the fields that a check uses are looked at: nothing else in an operation map is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from workloads.errors import HistoryError
from workloads.records.edn import EdnError, read_edn
from workloads.records.values import (
    MOST_DIGITS,
    TOO_DEEP,
    Literal,
    Pairs,
    Tagged,
    edn_text,
    plain,
    show,
)

CHUNK_BYTES = 1 << 17  # so much stays in a core's cache while it is decoded: half the time
MOST_LINE_BYTES = 1 << 28  # of one operation map, which holds millions of values then
IS_NONE = 'not an operation map: {}. It needs "type", "process" and "value"'
NO_TEXT = "no text in UTF-8"
NEMESES = ("nemesis", Literal(":nemesis"))
SUCH_AS = 'its value must be a list of operations such as ["r", "x", null]'


class Line(msgspec.Struct, gc=False):
    """One operation map. A process is an integer, a string or a Literal; value and f are not looked
    at.
    """

    type: str
    process: Any = None
    value: Any = None
    index: int | None = None
    f: Any = None


class _JsonLine(Line, gc=False):
    process: int | str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")
    f: msgspec.Raw = msgspec.Raw(b"null")


Lines = Iterator[tuple[int, Line]]
_decoder = msgspec.json.Decoder(_JsonLine)
# Nearly all operations are like this, and it is fast: keys and values are integers and strings.
# true, which Python takes for 1, is not among them.
plain_operations = msgspec.json.Decoder(list[list[str | int | list[int] | None]]).decode
_ops = msgspec.json.Decoder(list[list[Any]])


def operations_of(value: Any) -> list[list[Any]]:
    """The operations in an operation map's value, of either form.

    Raises ValueError where it holds none, RecursionError where it is nested without end.
    """
    if type(value) is msgspec.Raw:
        try:
            return _ops.decode(value)
        except msgspec.DecodeError:
            value = _leniently(bytes(value))
    value = _bare(value)
    if type(value) is not list:
        raise ValueError(SUCH_AS)
    ops = [_bare(op) for op in value]
    if not all(type(op) is list and len(op) == 3 for op in ops):
        raise ValueError(SUCH_AS)
    return [[_name(f), key, seen] for f, key, seen in ops]


# -- JSON ----------------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """JSON lines that follow one another. first : the number of the first."""

    path: Path
    first: int
    text: bytes
    lines: int

    def decoded(self) -> list[_JsonLine] | None:
        """All of them, None where not each is an operation map."""
        try:
            lines = _decoder.decode_lines(self.text)
        except (ValueError, RecursionError):
            return None
        # Blank lines make fewer.
        return lines if len(lines) == self.lines else None

    def one_by_one(self) -> Lines:
        """The operation maps with their lines. Raises HistoryError where one is none."""
        for number, text in enumerate(self.text.split(NEWLINE), self.first):
            if text.strip():
                yield number, _json_line(self.path, number, text)


def json_chunks(path: Path, file: BinaryIO, head: bytes) -> Iterator[Chunk]:
    """JSON lines in chunks: a million lines at once would cost a gigabyte."""
    number, chunk = 1, head
    while chunk:
        if not chunk.endswith(b"\n"):
            chunk += file.readline(MOST_LINE_BYTES)
        if len(chunk) > MOST_LINE_BYTES:
            raise HistoryError(
                f"{path} line {number + chunk.count(NEWLINE)}: has more than "
                f"{MOST_LINE_BYTES >> 20} MB. In JSON lines each operation map is a line."
            )
        # Three times as fast as bytes.count, where they are many.
        ends = int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == NEWLINE[0]))
        yield Chunk(path, number, chunk, ends + (not chunk.endswith(NEWLINE)))
        number += ends
        chunk = file.read(CHUNK_BYTES)


NEWLINE = b"\n"


def _json_line(path: Path, number: int, text: bytes) -> Line:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            return _line_of(_leniently(text))
        except json.JSONDecodeError:
            rule = f"cut or no JSON: {error}"
        except RecursionError:
            rule = TOO_DEEP
        except ValueError as why:
            rule = str(why)
        raise HistoryError(f"{path} line {number}: {rule}.") from None


def json_array(path: Path, raw: bytes) -> Lines:
    """The same in one array, laid out over lines in any way."""
    try:
        forms = _members(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield from _array_leniently(path, raw, error)
        return
    yield from _array_lines(path, raw, forms, 1)


_members = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _array_lines(path: Path, raw: bytes, forms: list[msgspec.Raw], number: int) -> Lines:
    """The members of an array, whose text begins on line `number`, as operation maps."""
    at = 0
    for form in forms:
        text = bytes(form)
        place = raw.find(text, at)
        number += raw.count(NEWLINE, at, place)
        yield number, _json_line(path, number, text)
        number += text.count(NEWLINE)
        at = place + len(text)


class NotInPieces(Exception):
    """Text that has to be read whole: it is damaged, or laid out in a way that has no pieces."""


MOST_ENDS = 8  # of objects, looked at from the last one of a piece on; the others may be nested
JSON_BLANKS = b" \t\r\n"
_COMMA = re.compile(rb"[ \t\r\n]*,")


def array_pieces(path: Path, blocks: Iterator[bytes]) -> Iterator[Lines]:
    """Operation maps of an array that comes in blocks, some of them at a time.

    Where the text up to the end of an object makes an array in brackets, no string and no other
    bracket is open at this place: these are the array's first members. What is told of damage is
    told of the whole text, so anything else raises NotInPieces.
    """
    block = next(blocks, b"")
    rest = block.lstrip(JSON_BLANKS)
    number, whole, enough = 1 + block.count(NEWLINE, 0, len(block) - len(rest)), True, 0
    if not rest.startswith(b"["):
        raise NotInPieces
    rest = rest[1:]
    for block in blocks:
        rest += block
        if len(rest) < enough:
            continue
        piece = _first_members(rest)
        if piece is None:
            enough = 2 * len(rest)  # so that a long map is not looked at for each of its blocks
            continue
        text, forms, end = piece
        yield _array_lines(path, text, forms, number)
        number += rest.count(NEWLINE, 0, end)
        rest, whole, enough = rest[end:], False, 0
    try:
        text = b"[" + rest
        forms = _members(text)
    except (ValueError, RecursionError):
        raise NotInPieces from None
    if not forms and not whole:  # a comma before the bracket
        raise NotInPieces
    yield _array_lines(path, text, forms, number)


def _first_members(text: bytes) -> tuple[bytes, list[msgspec.Raw], int] | None:
    """As many first members as can be told, in brackets; they; where what follows them begins."""
    end = len(text)
    for _ in range(MOST_ENDS):
        end = text.rfind(b"}", 0, end)
        if end < 0:
            return None
        comma = _COMMA.match(text, end + 1)
        if comma:
            some = b"[%b]" % text[: end + 1]
            try:
                return some, _members(some), comma.end()
            except (ValueError, RecursionError):
                pass
    return None


# The fast parser refuses half of a character, NaN, and a number of 5,000 digits wherever they are,
# also in a field that nobody reads. A line that it refuses goes to Python's own, which takes them.
_slow = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= MOST_DIGITS else Literal(digits),
    parse_float=lambda digits: float(digits) if isfinite(float(digits)) else Literal(digits),
    strict=False,
)
_BETWEEN = re.compile(r"[ \t\r\n]*(,?)[ \t\r\n]*(\]?)")


def _leniently(text: bytes) -> Any:
    """A JSON value, by the fast parser or by Python's. Raises JSONDecodeError, RecursionError."""
    return _slow.decode(text.decode(errors="surrogateescape"))


def _array_leniently(path: Path, raw: bytes, error: Exception) -> Lines:
    text = raw.decode(errors="surrogateescape")
    number, at = 1, text.index("[") + 1
    try:
        while not (between := _BETWEEN.match(text, at))[2]:  # type: ignore[index]
            number += text.count("\n", at, between.end())  # type: ignore[union-attr]
            at = between.end()  # type: ignore[union-attr]
            form, end = _slow.raw_decode(text, at)
            yield number, _line_of(form)
            number += text.count("\n", at, end)
            at = end
        if text[between.end() :].strip():  # type: ignore[union-attr]
            raise json.JSONDecodeError("something follows the array", text, at)
    except json.JSONDecodeError:
        rule = f"cut or no JSON array: {error}"
        if isinstance(error, UnicodeDecodeError):
            rule = f"{NO_TEXT}: {error.reason}"
        raise HistoryError(f"{path}: {rule}.") from None
    except RecursionError:
        raise HistoryError(f"{path} line {number}: {TOO_DEEP}.") from None
    except ValueError as why:
        raise HistoryError(f"{path} line {number}: {why}.") from None


def _line_of(form: Any) -> Line:
    """An operation map out of a JSON object. Raises ValueError for any other object."""
    if not isinstance(form, dict):
        raise ValueError(IS_NONE.format("it is no object"))
    if not isinstance(form.get("type"), str):
        raise ValueError(IS_NONE.format("it has no type"))
    line = _line(form["type"], form)
    if _undecoded([line.type, line.process, line.value, line.f]):
        raise ValueError(NO_TEXT)
    return line


# -- EDN -----------------------------------------------------------------------------------------


def edn_lines(path: Path, raw: bytes) -> Lines:
    """EDN: a map a line, or all in one vector or list."""
    broken = 0  # the line with the first byte that is no text in UTF-8
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        broken, text = raw.count(NEWLINE, 0, error.start) + 1, raw.decode(errors="surrogateescape")
    try:
        for number, form in read_edn(text):
            try:
                line = _edn_line(form)
            except ValueError as error:
                raise EdnError(number, str(error)) from None
            if broken and _undecoded([line.type, line.process, line.value, line.f]):
                raise EdnError(number, NO_TEXT)
            yield number, line
    except EdnError as error:
        rule = NO_TEXT if broken else str(error)
        raise HistoryError(f"{path} line {broken or error.line}: {rule}.") from None


def edn_pieces(path: Path, blocks: Iterator[bytes]) -> Iterator[Lines]:
    """The same, of text that comes in blocks that end with a newline, all but the last.

    Raises NotInPieces where some of it is no EDN, or no text.
    """
    yield _edn_piece(block.decode() for block in blocks)


def _edn_piece(texts: Iterator[str]) -> Lines:
    try:
        for number, form in read_edn("", texts):
            yield number, _edn_line(form)
    except ValueError:
        raise NotInPieces from None


def _edn_line(form: Any) -> Line:
    """An operation map out of an EDN form. Raises ValueError for any other form."""
    form = _bare(form)
    if not isinstance(form, Pairs):
        raise ValueError(IS_NONE.format("it is no map"))
    fields = {_name(name): value for name, value in form if isinstance(name, (str, Literal))}
    kind = _name(fields.get("type"))
    if not isinstance(kind, str):
        raise ValueError(IS_NONE.format("it has no :type"))
    return _line(kind, fields)


def _line(kind: str, fields: Mapping[Any, Any]) -> Line:
    process, index = fields.get("process"), fields.get("index")
    if process is not None and type(process) is not int and type(process) is not str:
        process = Literal(edn_text(process))
    if process in NEMESES:
        return Line(kind, process)  # all that is looked at
    if index is not None and type(index) is not int:
        raise ValueError(f"index {show(plain(index))} is no integer")
    return Line(kind, process, fields.get("value"), index, fields.get("f"))


def _bare(form: Any) -> Any:
    """Without tags: a record is a map, `#jepsen.history.Op{…}`."""
    while isinstance(form, Tagged):
        form = form.form
    return form


def _name(form: Any) -> Any:
    """A keyword's name, where a name is what is wanted: `:append` and "append" are one."""
    if isinstance(form, Literal) and form.text.startswith(":"):
        return form.text[1:]
    return form


def _undecoded(forms: list[Any]) -> bool:
    """Whether a text in these forms has a byte that is no UTF-8 (U+DC80 to U+DCFF by then)."""
    while forms:
        form = forms.pop()
        if isinstance(form, Tagged):
            forms.append(form.form)
        elif isinstance(form, Pairs):
            forms.extend(one for pair in form for one in pair)
        elif isinstance(form, dict):
            forms.extend((*form, *form.values()))
        elif isinstance(form, (list, tuple)):
            forms.extend(form)
        elif isinstance(form, (str, Literal)) and re.search("[\udc80-\udcff]", str(form)):
            return True
    return False
