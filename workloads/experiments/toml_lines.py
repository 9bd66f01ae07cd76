"""Lines of a TOML file: the place of each value, because tomllib reads values and keeps no line.

The file has already been accepted by tomllib. This reader finds the line of each key and of each
element of an array, and does not interpret them.
"""

from __future__ import annotations

import bisect
import re
import tomllib

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:\s|#[^\n]*)*")  # blanks, line ends, comments
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})|' + r"'''.*?'''(?:'{0,2})|"
    r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'",
    re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    r"""Line (from 1) of each key, by its path of keys and of indices into arrays.

    text : a TOML document that `tomllib.loads` accepts. The line of a table is that of its header,
    or of its first mention.

    >>> lines_of("a = 1\n[b.c]\nd = [7,\n  8]\n[[e]]\nname = 'x'\n[[e]]\n")[("b", "c", "d", 1)]
    4
    """
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        # As tomllib does it: a carriage return before a line end is no part of the text.
        self.text, self.at = text.replace("\r\n", "\n"), 0
        self.ends = [found.start() for found in re.finditer("\n", self.text)]
        self.lines: dict[Path, int] = {}
        self.tables: dict[Path, int] = {}  # arrays of tables: how many there are so far

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip(_BETWEEN)
            if self.at >= len(self.text):
                return self.lines
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return found.group()

    def _note(self, path: Path, at: int) -> None:
        line = bisect.bisect_left(self.ends, at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self._skip(_BLANK)
            if self.text[self.at] in "\"'":
                parts.append(str(tomllib.loads(f"k = {self._skip(_STRING)}")["k"]))
            else:
                parts.append(self._skip(_BARE))
            self._skip(_BLANK)
            if self.text[self.at : self.at + 1] != ".":
                return tuple(parts)
            self.at += 1

    def _header(self) -> Path:
        start, many = self.at, self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        key = self._key()
        self.at += 2 if many else 1
        path: Path = ()
        for number, part in enumerate(key):
            path += (part,)
            if many and number == len(key) - 1:
                self.tables[path] = self.tables.get(path, -1) + 1
            if path in self.tables:  # [system.retry] belongs to the newest [[system]]
                path += (self.tables[path],)
        self._note(path, start)
        return path

    def _pair(self, table: Path) -> None:
        start = self.at
        path = table + self._key()
        self._note(path, start)
        self.at += 1  # "="
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self.text[self.at]
        if opening in "\"'":
            self._skip(_STRING)
        elif opening == "[":
            self._elements(path)
        elif opening == "{":
            self._inline(path)
        else:
            self._skip(_SCALAR)

    def _elements(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_BETWEEN)
            if self.text[self.at] == "]":
                break
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1
        self.at += 1

    def _inline(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BETWEEN)
            if self.text[self.at] == "}":
                break
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._pair(path)
        self.at += 1
