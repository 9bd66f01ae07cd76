"""Text from elsewhere, made visible: nothing in it acts on a terminal, a page or a reader's eye.

An arm's name, an engine's message, a question of a sweep may come from anybody. Printed as it is,
an escape sequence would clear the screen or retitle the window, a carriage return would overwrite
the line before it, and a bidirectional override would show another text than the one that is there.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ACTS = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters of ASCII and of Latin-1: escape sequences, NUL, bell
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # invisible, or joins what it stands in
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff0-\ufffb"
    "\ud800-\udfff"  # halves of a character: no file and no terminal takes them
    "\U000e0000-\U000e0fff"  # tags
    "]"
)
_KNOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: object, keep: str = "") -> str:
    r"""The text in one line, each character that would act written as its escape.

    keep : characters that stay as they are ("\n" where the text is several lines of ours).

    >>> visible("ok\x1b[2J\u202e\n")
    'ok\\x1b[2J\\u202e\\n'
    """
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown  # nearly all text
    return _ACTS.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), shown)


def _escape(one: str) -> str:
    code = ord(one)
    if one in _KNOWN:
        return _KNOWN[one]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(data: Any, indent: int | None = 1) -> str:
    r"""JSON for a program, in ASCII without a character that a terminal acts on.

    >>> json_text({"words": "a\x7f\x9b"}, None)
    '{"words": "a\\u007f\\u009b"}'
    """
    return json.dumps(data, indent=indent).replace("\x7f", "\\u007f")
