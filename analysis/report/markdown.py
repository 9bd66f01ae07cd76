"""Markdown whose structure is ours: somebody else's text in a report stays text.

A plain string is text. Whatever it holds is escaped when it comes into the report, by default and
in one place. Structure comes from the template, or is made here:

    markdown("{} commits, against {} at the same point", bold("{}", system), base)

The template of such a sentence is a literal of the code; its pieces are escaped unless they are
`Markdown` themselves. This is markupsafe's `Markup`, which jinja2 uses for HTML, with another rule.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from analysis.claims import Sentence
from workloads.files import visible

_ANYWHERE = re.compile(
    r"[\\`*~$]"  # an escape, code, emphasis, struck out, a formula
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis too, but for those within a word
    r"|\](?=[(\[:])"  # a link, an image, a definition
    r"|<(?=[A-Za-z/!?]|$)|&(?=#?\w+;|$)"  # HTML
    r"|:(?=//)|(?<=www)\."  # an address, which GitHub makes a link of
)
_OPENS = re.compile(r"^( ?)([#>|]|[-+=](?=[ =-]|$)|\[(?=[ xX]\]))")
_NUMBERS = re.compile(r"^( ?[0-9]{1,9})([.)])(?= |$)")
"""At the beginning, where a line may be: a heading, a quotation, a table, a list, a rule."""

_AS_HTML = {"<": "&lt;", "&": "&amp;", "$": "&#36;", ":": "&#58;", ".": "&#46;"}
"""These are written as HTML: some readers of Markdown know no backslash before them."""

_PIPE = re.compile(r"(\\*)\|")


class Markdown(Markup):
    """Text that is Markdown already. `format`, `join` and `+` escape what is not."""

    __slots__ = ()

    @classmethod
    def escape(cls, text: Any, /) -> Markdown:
        r"""Text as Markdown that shows just that, in one line. Markdown stays as it is.

        >>> print(Markdown.escape("# *now* <script> [a](b) | write_write [1.6, 1.7] p < 0.05"))
        \# \*now\* &lt;script> [a\](b) | write_write [1.6, 1.7] p < 0.05
        """
        if hasattr(text, "__html__"):
            return cls(text.__html__())
        line = _inline(text)
        return cls(_NUMBERS.sub(r"\1\\\2", _OPENS.sub(r"\1\\\2", line)))


def _inline(text: object) -> str:
    """Text escaped for the middle of a line."""
    line = re.sub(" {2,}", " ", visible(text, keep="\n").replace("\n", " "))
    return _ANYWHERE.sub(lambda found: _AS_HTML.get(found[0], f"\\{found[0]}"), line)


def ours(text: str) -> Markdown:
    """Text that stands in the code, such as a docstring, and may hold Markdown."""
    return Markdown(text)


def markdown(template: str, *pieces: Any, **named: Any) -> Markdown:
    r"""A sentence of ours with pieces in it, as str.format takes it. template : a literal.

    >>> print(markdown("**{}** of {:,}", "a*b", 1200))
    **a\*b** of 1,200
    """
    return Markdown(template).format(*pieces, **named)


def said(sentence: Sentence) -> Markdown:
    """A sentence of the claims as Markdown: its pieces are text."""
    pieces = (said(each) if isinstance(each, Sentence) else each for each in sentence.pieces)
    return markdown(sentence.template, *pieces)


def bold(template: str, *pieces: Any) -> Markdown:
    """The same in bold. It is stripped, because stars after a blank would stay stars."""
    text = markdown(template, *pieces).strip()
    return Markdown(f"**{text}**") if text else Markdown()


def listed(items: Sequence[Any], last: str = "and") -> Markdown:
    """Items as a sentence lists them (`analysis.wording.listed`), each escaped where it is text."""
    if len(items) < 2:
        return Markdown("").join(items)
    return markdown("{} {} {}", Markdown(", ").join(items[:-1]), last, items[-1])


def code(text: object) -> Markdown:
    """Text as code in a line.

    >>> print(code("a`b"), code("headline/b00"))
    ``a`b`` `headline/b00`
    """
    shown = visible(text)
    if not shown.strip():
        return Markdown.escape(shown)
    ticks = "`" * _beyond(shown, 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return Markdown(f"{ticks}{pad}{shown}{pad}{ticks}")


def listed_names(names: Iterable[str]) -> Markdown:
    """Names as a sentence lists them, each as code and once."""
    return listed([code(name) for name in dict.fromkeys(names)])


def fenced(text: object) -> Markdown:
    """Lines of text as a block of code, which nothing in them closes."""
    shown = visible(text, keep="\n")
    fence = "`" * _beyond(shown, 3)
    return Markdown(f"{fence}\n{shown}\n{fence}")


def _beyond(text: str, least: int) -> int:
    return max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def table_cell(text: object) -> Markdown:
    """Text or Markdown as a cell of a table."""
    line = str(text) if isinstance(text, Markup) else _inline(text)
    return Markdown(" ".join(_PIPE.sub(_escaped_pipe, line).split()))


def _escaped_pipe(found: re.Match[str]) -> str:
    # After an odd number of backslashes the last of them has taken the pipe already.
    return found[0] if len(found[1]) % 2 else f"{found[1]}\\|"


def alt(text: object) -> Markdown:
    """Text as the alternative of an image."""
    return Markdown(re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", _inline(text)))


def address(path: object) -> Markdown:
    """A path as the address of a link or an image."""
    return Markdown(quote(os.fsencode(str(path)), safe="/.-_~+,=@"))


ADDRESS = re.compile(r"https://([\w.-]+(?:/[\w./~+=-]*)?)(?:#([\w-]+))?", re.ASCII)


def public_link(public: str, otherwise: str) -> Markdown:
    """Somebody else's report. A link is made of what is an address and nothing more."""
    if not (found := ADDRESS.fullmatch(public)):
        return markdown("{}", public or otherwise)
    place, part = map(address, found.groups(""))
    end = markdown("#{}", part) if part else ""
    return markdown("[{}](https://{}{})", public.removeprefix("https://"), place, end)


def as_html(text: object) -> Markdown:
    """Text inside an HTML element, where Markdown is not read."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markdown(shown)


FILTERS = {
    "cell": table_cell,
    "code": code,
    "fenced": fenced,
    "alt": alt,
    "bold": lambda text: bold("{}", text),
    "address": address,
    "as_html": as_html,
}
"""By the names that the template calls them."""
