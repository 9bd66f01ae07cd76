"""The terminal, and the one way to it: somebody else's text is shown there and never acts on it.

Whatever a command prints goes through `Terminal` (rich's tables and live lines) or through the
guarded streams (everything else: `print`, the command line's own complaints, a library's warnings).
Both show a control character as its escape (`workloads.files.visible`); nothing is rich's markup.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from analysis.cli.streams import is_quiet, let_go
from workloads.files import visible

PIPED_WIDTH = 200


class Terminal(Console):
    """rich's console for text that may come from anybody. A string is one line, or one cell.

    No emoji: `hotspot:X:Y` would lose its X to one.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(emoji=False, markup=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """As rich does it, but made visible before the layout, which counts characters."""
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does it. Text that was put into a `Text` by hand is made visible here."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible(text, keep="\n"), style)

    def on_broken_pipe(self) -> None:
        """Rich would end the command with status 1, which says that something was found."""
        self.quiet = True
        let_go(sys.stderr if self.stderr else sys.stdout)


def console(*, stderr: bool = False) -> Terminal:
    """The console of the commands: results on standard output; with `stderr`, progress.

    Progress is silent under --quiet. Colours end with NO_COLOR, which rich reads itself.
    """
    made = Terminal(stderr=stderr, quiet=stderr and is_quiet())
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED_WIDTH  # a table is folded for a screen, not for a file
    return made


def one_line(text: object, style: str = "") -> Text:
    """One line of text that may come from anybody, for a table or a group of rich's."""
    return Text(visible(text), style=style)
