"""Templates to Markdown: what is no Markdown is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from analysis.report.markdown import FILTERS, Markdown


def rendered(template: str, data: Mapping[str, Any]) -> str:
    """A template with these data."""
    return environment().get_template(template).render(data).lstrip()


@cache
def environment() -> jinja2.Environment:
    """Made once: it keeps the templates that it has compiled."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,  # with `finalize`: a string that is not Markdown is escaped
        finalize=Markdown.escape,
    )
    made.filters |= FILTERS
    return made
