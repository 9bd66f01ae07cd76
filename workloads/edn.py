"""The part of EDN that histories are written in, read with line numbers, without a dependency."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(
    r"""[\s,]+ | ;[^\n]* | (?P<open>\#?\{|\[|\() | (?P<close>[\]})])
      | (?P<string>"(?:[^"\\]|\\.)*") | (?P<tag>\#[\w./:_-]+) | (?P<atom>[^\s,;()\[\]{}"]+)""",
    re.VERBOSE,
)
_CLOSES = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_WORDS = {"nil": None, "true": True, "false": False}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class EdnError(ValueError):
    """Text that is no EDN; `line` is where, counted from 1."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line = line


def read_edn(text: str) -> Iterator[tuple[int, Any]]:
    """Each top-level form with the line on which it begins. Raises EdnError.

    Keywords and symbols become strings (`:append` is "append"), vectors, lists and sets become
    lists, maps become dicts; a tag (`#jepsen.history.Op{…}`) is dropped, its form is kept.
    """
    stack: list[tuple[str, int, list[Any]]] = []
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise EdnError(line, f"{text[at : at + 20]!r} is no EDN")
        at, kind, token = match.end(), match.lastgroup, match.group()
        if kind == "open":
            stack.append((token, line, []))
        elif kind is not None and kind != "tag":
            if kind == "close":
                form, began = _close(stack, token, line)
            else:
                form, began = _atom(token, line), line
            if stack:
                stack[-1][2].append(form)
            else:
                yield began, form
        line += token.count("\n")
    if stack:
        raise EdnError(stack[0][1], f"{stack[0][0]!r} opens here and is never closed: a cut file")


def _close(stack: list[tuple[str, int, list[Any]]], token: str, line: int) -> tuple[Any, int]:
    if not stack or _CLOSES[stack[-1][0]] != token:
        raise EdnError(line, f"{token!r} closes nothing")
    opened, began, items = stack.pop()
    if opened != "{":
        return items, began
    if len(items) % 2:
        raise EdnError(began, "a map with a key and no value")
    try:
        return dict(zip(items[::2], items[1::2], strict=True)), began
    except TypeError:
        raise EdnError(began, "a map with a collection as its key") from None


def _atom(token: str, line: int) -> Any:
    if token[0] == '"':
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token[1:-1])
    if token in _WORDS:
        return _WORDS[token]
    if token[0] == ":":
        return token[1:]
    if token[0].isdigit() or (token[0] in "+-" and token[1:2].isdigit()):
        try:
            return int(token.rstrip("N"))
        except ValueError:
            pass
        try:
            return float(token.rstrip("M"))
        except ValueError:
            raise EdnError(line, f"{token!r} is no number") from None
    return token


def write_edn(form: Any) -> str:
    """One form as EDN; strings that can be keywords are written as keywords.

    >>> write_edn({"type": "ok", "value": [["append", "x", 1], ["r", "a b", None]]})
    '{:type :ok, :value [[:append :x 1] [:r "a b" nil]]}'
    """
    if isinstance(form, dict):
        return "{" + ", ".join(f"{write_edn(k)} {write_edn(v)}" for k, v in form.items()) + "}"
    if isinstance(form, (list, tuple)):
        return "[" + " ".join(map(write_edn, form)) + "]"
    if form is None or isinstance(form, bool):
        return {None: "nil", True: "true", False: "false"}[form]
    if isinstance(form, str):
        if re.fullmatch(r"[A-Za-z*!_?+<>=-][\w*!?+<>=.-]*", form, re.ASCII):
            return ":" + form
        return '"' + form.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return str(form)
