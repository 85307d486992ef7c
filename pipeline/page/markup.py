"""HTML and SVG as text. Whatever is no `Markup` is escaped, so texts from outside cannot be more than text."""

import re
from collections.abc import Iterable
from html import escape

_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that no page may hold, or that would turn the text around them."""

_VOID = frozenset(("meta", "path", "rect"))
"""Elements that hold nothing. Those of SVG have to be closed."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]


def element(name: str, /, *children: Child, **attributes: str | int | None) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: elements, texts, which are escaped, and any iterables of these. None is left out.
        attributes: by their names, `class_` for `class` and `_` for `-`. None is left out.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{_inside(children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Elements and texts, one after the other."""
    return Markup(_inside(children))


def raw(text: str) -> Markup:
    """Text of this project's own that is no HTML and needs no escaping, such as a style sheet."""
    return Markup(text)


def short(text: str, most: int) -> str:
    """The text, cut to `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _inside(children: Iterable[Child]) -> str:
    pieces: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            pieces.append(child)
        elif isinstance(child, str | int):
            pieces.append(_text(str(child)))
        else:
            pieces.append(_inside(child))
    return "".join(pieces)


def _text(text: str) -> str:
    return escape(_UNSHOWN.sub("\ufffd", text))
