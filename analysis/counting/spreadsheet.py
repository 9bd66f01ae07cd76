"""Text in a CSV file, which a spreadsheet may open: never a formula, always one line.

RFC 4180 quotes what separates cells, but a quoted cell that begins with "=" is still computed by
the spreadsheet that opens it, and may fetch what it names. Arms' names and engines' messages may
come from anybody, so text that would begin a formula has an apostrophe in front, which spreadsheets
show as text. Numbers stay numbers, minus signs and all. Programs that need the text as it was take
Parquet (`cwkit export --format parquet`).
"""

from __future__ import annotations

import re

from workloads.files import visible

_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?[0-9][0-9,._]*(e[+-]?[0-9]+)?( ?%)?", re.IGNORECASE)


def cell_text(text: object) -> str:
    r"""Text as a cell of a CSV file has it.

    >>> cell_text("=HYPERLINK(1)"), cell_text("-12.5"), cell_text("two\nlines")
    ("'=HYPERLINK(1)", '-12.5', 'two\\nlines')
    """
    shown = visible(text)
    if shown.lstrip().startswith(_FORMULA) and not _NUMBER.fullmatch(shown):
        return f"'{shown}"
    return shown
