"""Decoders of a part of a JSON object: what some paths lead to in it.

What no path leads to is passed over by the decoder, which takes a fraction of the time that its values would take.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypedDict

import msgspec

Path = tuple[str, ...]
"""The names on the way to a value."""

Tree = dict[str, "Tree | None"]
"""The names that are looked at in an object, each with those inside of it; None: all that is inside."""


def view_of(paths: Iterable[Path]) -> Callable[[bytes], Any]:
    """A function that decodes what `paths` lead to in a JSON object.

    Its value and that of the whole object look the same to a query of these paths: an array has all its items, and of
    an object in it there is what the paths lead to. It raises msgspec.DecodeError for a number that no double holds.

    Args:
        paths: from the object on. The empty path leads to all of it.
    """
    return msgspec.json.Decoder(_type(_tree(paths))).decode


def _tree(paths: Iterable[Path]) -> Tree | None:
    inside: dict[str, list[Path]] = {}
    for path in paths:
        if not path:
            return None
        inside.setdefault(path[0], []).append(path[1:])
    return {name: _tree(below) for name, below in inside.items()}


def _type(tree: Tree | None) -> Any:
    """The type that msgspec is to decode. What is no object is taken as it is."""
    if tree is None:
        return Any
    fields = {name: _type(inner) for name, inner in tree.items()}
    view: Any = TypedDict("View", fields, total=False)  # type: ignore[misc]
    # The name of a path may be the index of an item, inside of which the path goes on.
    item: Any = Any if any(map(str.isdecimal, tree)) else view | list[Any] | str | int | float | bool | None
    items: Any = list[item]
    return view | items | str | int | float | bool | None
