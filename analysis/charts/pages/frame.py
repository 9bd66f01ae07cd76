"""The frame of a page: one HTML file that asks for nothing and runs only what we put into it.

What it shows comes from anybody: names of files, error messages, values of a history. Three things
keep them text. The templates escape all that they are given. Data for a script is JSON in which no
character ends an element. And a Content-Security-Policy names each of our scripts by its hash:
another one would not run even if it got in, and no request leaves the page.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.charts.svg import DARK, DARK_INK, FONTS, INK, LIGHT
from workloads.errors import RunError
from workloads.files import visible

HERE = Path(__file__).resolve().parent

BUNDLE = ("plotly", "package_data/plotly.min.js")
"""The plotting library: a package, and the file in it that a browser runs."""


def page(template: str, title: str, script: str, *, data: Any = None, **given: Any) -> str:
    """A page from one of the templates beside this file.

    script : the file of ours that it runs. data : what that gets as JSON; the page then has the
    plotting library, too. given : names of the template.
    Raises RunError where the library is not installed.
    """
    style = f":root{{--light:{LIGHT};--light-ink:{INK};--dark:{DARK};--dark-ink:{DARK_INK};"
    style += f"--fonts:{FONTS}}}\n{_text('page.css')}"
    ours = _text(script)
    library, digest = ("", "") if data is None else packed()
    hashes = [_hash(ours.encode()), *filter(None, [digest])]
    return (
        _templates()
        .get_template(template)
        .render(
            title=title,
            policy=_policy(hashes, style, plotted=bool(library)),
            style=Markup(style),
            script=Markup(ours),
            data=Markup(in_script(data)) if library else "",
            library=Markup(library),
            **given,
        )
    )


def _policy(hashes: list[str], style: str, *, plotted: bool) -> str:
    """Nothing from anywhere; scripts by their hash. The plotting library writes styles itself."""
    styles = "'unsafe-inline'" if plotted else _hash(style.encode())
    parts = ("default-src 'none'", f"script-src {' '.join(hashes)}", f"style-src {styles}",
             "img-src data:" if plotted else "img-src 'none'", "base-uri 'none'",
             "form-action 'none'")  # fmt: skip
    return "; ".join(parts)


def _hash(content: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def in_script(data: Any) -> str:
    r"""JSON for a script element: ASCII, and nothing in it ends the element or opens a comment.

    >>> in_script("</script><!-- \u2028")
    '"\\u003c/script\\u003e\\u003c!-- \\u2028"'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for one in "<>&":
        text = text.replace(one, f"\\u{ord(one):04x}")
    return text


@cache
def packed() -> tuple[str, str]:
    """The plotting library as a page has it, in a third of its size, and the hash of it unpacked.

    Raises RunError where it is not here.
    """
    library = bundle()
    return base64.b64encode(gzip.compress(library, 9, mtime=0)).decode(), _hash(library)


def bundle() -> bytes:
    """The plotting library as its package has it, whole. Raises RunError where it is not here."""
    package, inside = BUNDLE
    spec = find_spec(package)  # finds it without running any of it
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for place in places:
        path = Path(place) / inside
        if path.is_file():
            return path.read_bytes()
    raise RunError(f"A page with charts needs the package {package}, which is not here. "
                   "Run: make setup")  # fmt: skip


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    made.filters["capitalised"] = lambda text: text[:1].upper() + text[1:]
    return made


def _shown(value: Any) -> Any:
    """Text with what would act in it (bidirectional marks, control characters) written out."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
