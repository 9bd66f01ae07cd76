"""EDN, as far as histories use it, read with line numbers and without a dependency.

Jepsen's histories hold more than data: records, printed Java objects, the acts of a nemesis. So
every token is read as something. Only its user checks whether it has the right type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from workloads.records.values import MOST_DIGITS, TOO_DEEP, Literal, Pairs, Tagged, Unordered

_TOKEN = re.compile(
    r"""(?P<space>(?:[\s,]+|;[^\n]*)+)
      | (?P<open>\#?\{|\[|\()
      | (?P<close>[\]})])
      | (?P<string>\#?"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+")
      | (?P<letter>\\(?:[^\W_]+|[\s\S]))
      | (?P<drop>\#_|\^)
      | (?P<object>\#<[^>\n]*> | \#\#[^\s,;()\[\]{}"]+ | \#'[^\s,;()\[\]{}"]+)
      | (?P<tag>\#[^\s,;()\[\]{}"\#]+)
      | (?P<atom>[^\s,;()\[\]{}"\#][^\s,;()\[\]{}"]*)""",
    re.VERBOSE,
)
_CLOSES = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_CONSTANTS = {"nil": None, "true": True, "false": False}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([0-7]{1,3})|([\s\S]))")
_DROPS = ("#_", "^")
MOST_NESTED = 500


class EdnError(ValueError):
    """Text that is no EDN; `line` is where, counted from 1."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line = line


class _Opened:
    """A bracket that is not closed yet."""

    __slots__ = ("bracket", "dropped", "items", "line", "sequence", "tags")

    def __init__(self, bracket: str, line: int, tags: list[str]) -> None:
        self.bracket, self.line, self.tags = bracket, line, tags
        self.items: list[Any] = []
        self.sequence = bracket in "[("
        self.dropped = any(tag in _DROPS for tag in tags)


def read_edn(text: str, more: Iterator[str] | None = None) -> Iterator[tuple[int, Any]]:
    r"""Each top-level form with the line on which it begins. Raises EdnError.

    Where a form is a vector or a list, what is in it comes one by one in its place: a history is
    the same as a map a line, in `[…]`, and in `(…)`, which is how Clojure prints a sequence.

    more : what follows the text, in pieces. The text and each piece but the last end with a
        newline: no token goes on behind one but a string.

    Vectors and lists become lists, maps Pairs, sets Unordered, forms with a tag Tagged; keywords,
    symbols and whatever else JSON has no form for become Literals.

    >>> list(read_edn('({:index 0}\n [:r "x" nil])'))
    [(1, [(Literal(text=':index'), 0)]), (2, [Literal(text=':r'), 'x', None])]
    """
    stack: list[_Opened] = []
    tags: list[str] = []  # before the next form
    line, at, scan = 1, 0, _TOKEN.match
    more = more or iter(())
    while True:
        if at == len(text):
            text, at = next(more, ""), 0
            if not text:
                break
        match = scan(text, at)
        if match is None:
            longer = _with_more(text[at:], more)
            if longer is None:
                raise EdnError(line, _no_token(text, at))
            text, at = longer, 0
            continue
        at, kind, token = match.end(), match.lastgroup, match.group()
        began, line = line, line + token.count("\n")
        if kind == "space":
            continue
        if kind == "open":
            if len(stack) == MOST_NESTED:
                raise EdnError(began, TOO_DEEP)
            stack.append(_Opened(token, began, tags))
            tags = []
            continue
        if kind == "tag" or kind == "drop":
            tags.append(token)
            continue
        if kind == "close":
            if tags or not stack or _CLOSES[stack[-1].bracket] != token:
                raise EdnError(began, f"{token!r} closes nothing")
            opened = stack.pop()
            if not stack and opened.sequence and not opened.dropped:
                continue  # its items were given one by one
            form, began, tags = _close(opened), opened.line, opened.tags
        else:
            form = _atom(token)
        if tags:
            tags, form, dropped = _tagged(tags, form)
            if dropped:
                continue
        if len(stack) > 1 or (stack and not stack[0].sequence):
            stack[-1].items.append(form)
        elif not stack or not stack[0].dropped:
            yield began, form
    if stack:
        rule = f"{stack[0].bracket!r} opens here and is never closed: a cut file"
        raise EdnError(stack[0].line, rule)
    if tags:
        raise EdnError(line, f"{tags[-1]!r} stands before nothing: a cut file")


def _with_more(text: str, more: Iterator[str]) -> str | None:
    """The text with as much again of what follows it, None where nothing does."""
    pieces, size = [text], len(text)
    while size < 2 * len(text) and (piece := next(more, "")):
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces) if len(pieces) > 1 else None


def _tagged(tags: list[str], form: Any) -> tuple[list[str], Any, bool]:
    """The tags that wait for the next form, this one with its own, and whether it is left out.

    `#_` leaves out the form after it. `^` leaves out its metadata and keeps the form after that.
    """
    drops = [at for at, tag in enumerate(tags) if tag in _DROPS]
    if drops:
        return tags[: drops[-1]], form, True
    for tag in reversed(tags):
        form = Tagged(tag[1:], form)
    return [], form, False


def _no_token(text: str, at: int) -> str:
    if text[at] == '"' or text.startswith('#"', at):
        return "a string begins here and never ends: a cut file"
    return f"{text[at : at + 20]!r} is no EDN"


def _close(opened: _Opened) -> Any:
    items = opened.items
    if opened.bracket == "#{":
        return Unordered(items)
    if opened.bracket != "{":
        return items
    if len(items) % 2:
        raise EdnError(opened.line, "a map with a key and no value")
    return Pairs(zip(items[::2], items[1::2], strict=True))


def _atom(token: str) -> Any:
    first = token[0]
    if first == '"':
        return _unescaped(token[1:-1]) if "\\" in token else token[1:-1]
    if first.isdigit() or (first in "+-" and token[1:2].isdigit()):
        return _number(token)
    return _CONSTANTS[token] if token in _CONSTANTS else Literal(token)


def _number(token: str) -> Any:
    """An integer or a float; anything else that begins like a number stays as it is written.

    1N is 1; 1/2, 1.5M, 16rFF and 0x1a2b have no form in JSON.
    """
    if token.isascii() and "_" not in token and len(token) <= MOST_DIGITS:
        try:
            return int(token.removesuffix("N"))
        except ValueError:
            pass
        try:
            value = float(token)
        except ValueError:
            pass
        else:
            if value - value == 0:  # 1e999 is infinite, and not to be told from 1e998
                return value
    return Literal(token.removesuffix("N").removeprefix("+"))


def _unescaped(text: str) -> str:
    text = _ESCAPED.sub(_escape, text)
    if re.search(r"[\ud800-\udfff]", text):  # two halves that belong together are one character
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def _escape(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return chr(int(match[2], 8)) if match[2] else _ESCAPES.get(match[3], match[3])
