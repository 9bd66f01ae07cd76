"""Refusal pages: the page for which SQLite's begin-concurrent branch refused each commit.

The branch reports it only through SQLITE_CONFIG_LOG, one line for each refused commit. The line
names the first page, in the order of the log of changes, that the transaction had read or written
and that somebody else has written since. A worker counts the lines. Without refusals nothing is
called.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

HEAD = "cannot commit CONCURRENT transaction"
LINE = re.compile(
    r"conflict at page (\d+) \((read-only|read/write|unknown) page; part of db (table|index) (.*); "
    r"content=([0-9A-F]{2})[0-9A-F]*\.\.\.\)$",
    re.DOTALL,
)
KINDS = {"0D": "leaf", "0A": "leaf", "05": "interior", "02": "interior"}
"""First byte of a b-tree page in the file format. A page with another byte has no cells of its own
(overflow, free list), or is page 1, which begins with the file's header."""

SCHEMA = "table sqlite_schema"
"""Page 1. The branch names whatever object its cache had there last; a conflict on page 1 is
always one with a change of the schema."""

NOTABLE = {10: "I/O error", 11: "corrupt", 13: "full", 14: "cannot open", 21: "misuse",
           26: "not a database", 27: "notice", 28: "warning"}  # fmt: skip
"""Primary result codes of other lines that are kept. Refused and repeated statements are not:
the attempts' rows have those."""

HEADS_KEPT = 4096
"""The most different lines that are counted one by one while a run goes on. Where a worker's
refusals are spread over more pages, the rest is counted by object."""

PAGES_KEPT = 40
"""Pages of one worker in the manifest, the most frequent ones; the rest is summed by object."""

NOTICES_KEPT = 20


class RefusalPage(NamedTuple):
    """One page of the file, as a refused commit met it.

    thing : "table NAME" or "index TABLE.NAME", as the engine said; SCHEMA for page 1.
    kind  : "leaf", "interior" or "other", by the page's content when it was met.
    held  : "read-only" (the transaction had only read it), "read/write" or "unknown".
    """

    thing: str
    page: int
    kind: str
    held: str

    def __str__(self) -> str:
        return f"{self.thing}, page {self.page}, {self.kind}, {self.held}"


def read_line(text: str) -> RefusalPage | None:
    """One line of the engine's log; None for a line that is no refused commit.

    >>> read_line("cannot commit CONCURRENT transaction - conflict at page 157 (read/write page; "
    ...           "part of db index t.t_v; content=0A0000016804BF00...)")
    RefusalPage(thing='index t.t_v', page=157, kind='leaf', held='read/write')
    """
    found = LINE.search(text)
    if found is None:
        return None
    page, held, kind, name, byte = found.groups()
    if page == "1":
        return RefusalPage(SCHEMA, 1, "other", held)
    return RefusalPage(f"{kind} {name}", int(page), KINDS.get(byte, "other"), held)


def parse_refusal_page(text: str) -> RefusalPage:
    """The inverse of str(RefusalPage): how a page stands in the manifest. ValueError else.

    >>> parse_refusal_page(str(RefusalPage("table a, b", 7, "leaf", "read-only")))
    RefusalPage(thing='table a, b', page=7, kind='leaf', held='read-only')
    """
    try:
        thing, page, kind, held = text.rsplit(", ", 3)
        return RefusalPage(thing, int(page.removeprefix("page ")), kind, held)
    except ValueError:
        raise ValueError(f"{text!r} names no page that a commit met.") from None


class ConflictLog:
    """A callback for SQLITE_CONFIG_LOG, and its account. Called only by refused commits and by
    the few other lines a library logs; one dictionary look-up and one slice a call.
    """

    def __init__(self) -> None:
        self.heads: Counter[str] = Counter()
        self.beyond: Counter[str] = Counter()
        self.notices: Counter[tuple[int, str]] = Counter()

    def __call__(self, code: int, text: str) -> None:
        if code == 0 and text.startswith(HEAD):
            # All but the first byte of the page's content, which differs with every change of it.
            head = text[: text.rfind("content=") + 10]
            if head in self.heads or len(self.heads) < HEADS_KEPT:
                self.heads[head] += 1
            else:
                page = read_line(f"{head}...)")
                self.beyond[page.thing if page else "unread"] += 1
        elif code & 0xFF in NOTABLE:
            text = re.sub(r"/\S*/", "", text)  # a machine's folders are nobody's business
            text = re.sub(r"\d+", "N", text)[:200]
            if (code, text) in self.notices or len(self.notices) < NOTICES_KEPT:
                self.notices[code, text] += 1

    def account(self) -> dict[str, Any]:
        """Plain data for the manifest.

        said    : the number of refused commits that were logged, warm-up included.
        pages   : str(RefusalPage) -> refusals, the most frequent PAGES_KEPT.
        rest    : thing -> refusals on its other pages. pages and rest add up to `said`.
        notices : other lines worth knowing -> times; numbers in them are N.
        """
        pages: Counter[RefusalPage] = Counter()
        rest = Counter(self.beyond)
        for head, times in self.heads.items():
            page = read_line(f"{head}...)")
            if page is None:
                rest["unread"] += times
            else:
                pages[page] += times
        ranked = sorted(pages.items(), key=lambda item: (-item[1], item[0]))
        for page, times in ranked[PAGES_KEPT:]:
            rest[page.thing] += times
        return {
            "said": self.heads.total() + self.beyond.total(),
            "pages": {str(page): times for page, times in ranked[:PAGES_KEPT]},
            "rest": dict(sorted(rest.items())),
            "notices": {
                f"{NOTABLE[code & 0xFF]} {code}: {text}": times
                for (code, text), times in sorted(self.notices.items())
            },
        }
