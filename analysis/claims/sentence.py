"""A sentence with pieces in it, for a terminal and for a report alike.

Its template is a literal of the code, where `so` marks code and **so** what is bold. A piece is
text, whatever it holds: the report escapes it, a terminal shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sentence:
    """A sentence; "" and false where there is none. pieces : text, numbers, or sentences.

    >>> str(Sentence("**{}** of {}, by `cwkit run`", ("a*b", Sentence("all {}", (2,)))))
    'a*b of all 2, by `cwkit run`'
    """

    template: str = ""
    pieces: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.template)

    def __str__(self) -> str:
        return self.template.replace("**", "").format(*self.pieces)


def sentence(template: str, *pieces: Any) -> Sentence:
    """A sentence of ours with pieces in it, as str.format takes it."""
    return Sentence(template, pieces)


def joined(parts: Sequence[Any], between: str = "; ") -> Sentence:
    """Parts as one sentence. Text among them is a piece."""
    return Sentence(between.join(["{}"] * len(parts)), tuple(parts))
