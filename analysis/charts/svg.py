"""The SVG itself: what matplotlib draws, made readable to everybody.

Text is text, in a font that is everywhere. There is no ground of its own: a chart stands on a light
page or on a dark one, and the reader's browser says which. Colours of lines and marks have 3:1 on
both. Text has the page's own ink, and a rim of the page's colour: where a browser is wrong about
the page, the rim is what keeps the text readable.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

LIGHT, DARK = "#ffffff", "#0d1117"
"""The pages that a chart is made for."""

INK, DARK_INK = "#1b1f24", "#e6edf3"
"""The text on each of them."""

FONTS = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
"""The first two are as wide as what the charts are laid out with; the others are narrower."""

STYLE = f"""
*{{stroke-linejoin:round;stroke-linecap:butt}}
text{{font-family:{FONTS};fill:{INK}}}
@supports (paint-order:stroke){{text{{paint-order:stroke;stroke:{LIGHT};stroke-width:2px}}}}
@media (prefers-color-scheme:dark){{text{{fill:{DARK_INK}}}}}
@supports (paint-order:stroke){{@media (prefers-color-scheme:dark){{text{{stroke:{DARK}}}}}}}
"""

_OF_THE_SHEET = re.compile(r"(?:fill|font-family): [^;]*;? ?")


def readable(drawn: bytes, title: str, desc: str) -> bytes:
    """An SVG of matplotlib's with its title and its description, as a page can show it.

    title, desc : plain text, which is escaped here.
    """
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(drawn)
    for child in list(root):
        style = child.find(f"{{{SVG}}}style")
        if child.tag == f"{{{SVG}}}metadata":
            root.remove(child)
        elif style is not None:
            style.text = STYLE
    for text in root.iter(f"{{{SVG}}}text"):
        text.set("style", _OF_THE_SHEET.sub("", text.get("style", "")).strip())
    for place, (name, words) in enumerate((("title", title), ("desc", desc))):
        element = ElementTree.Element(f"{{{SVG}}}{name}", {"id": name})
        element.text = words
        element.tail = "\n"
        root.insert(place, element)
    root.set("role", "img")
    root.set("aria-labelledby", "title desc")
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
