"""What is known of engines under faults and crashes, as the pages of a report tell it."""

from __future__ import annotations

from analysis.report.markdown import Markdown, markdown, public_link
from properties.known_faults import KnownFault


def known_as(known: KnownFault | None) -> Markdown:
    """As which known deviation something is known, and where others told it; "" for nothing."""
    if known is None:
        return markdown("")
    public = markdown(", {}", public_link(known.public, "")) if known.public else markdown("")
    return markdown(" Known: {}{}.", known.name, public)
