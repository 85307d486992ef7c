"""What any place of a document may hold, whether its field is known or not (docs/spec/forwarders.md section 1).

A document travels as JSON, is kept as JSON in SQLite and as BSON in MongoDB, and is read by programs whose numbers are
doubles. What one of these cannot give back as it was is refused wherever a document comes in, so that no document can
make a list of documents unreadable.
"""

import math

from schemas.json_values import JsonObject
from transforms.forwarders.checks import has_control_character
from transforms.query.parse import MAX_DEPTH

INVALID = "_invalid"
"""The field by which a service says that it holds a document that it cannot give back, and why."""

_LEAST, _MOST = -(2**63), 2**63 - 1
"""The whole numbers of BSON."""

_MOST_TOLD = 20
"""Places that are told of one document."""

DEPTH_MESSAGE = f"is nested more than {MAX_DEPTH} deep"


_HALF = "holds half of a surrogate pair"


def value_faults(content: JsonObject) -> list[tuple[str, str]]:
    """What in a document could not be given back as it is.

    Args:
        content: as it was parsed. Floats may be infinite, as Python makes `1e400`.

    Returns:
        The place of each such value, such as `labels[2].count`, and the rest of a sentence that begins with the place.
        At most 20 of them.
    """
    found: list[tuple[str, str]] = []
    _collect(content, "", 1, found)
    return found


def _collect(value: object, path: str, depth: int, found: list[tuple[str, str]]) -> None:
    if len(found) >= _MOST_TOLD:
        return
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            found.append((path, DEPTH_MESSAGE))
        elif isinstance(value, dict):
            for name, member in value.items():
                place = f"{path}.{name}" if path else name
                if has_control_character(name):
                    found.append((place, "is a name that holds a control character"))
                elif _has_half_a_pair(name):
                    found.append((place, f"is a name that {_HALF}"))
                _collect(member, place, depth + 1, found)
        else:
            for index, member in enumerate(value):
                _collect(member, f"{path}[{index}]", depth + 1, found)
    elif problem := _problem(value):
        found.append((path, problem))


def _problem(value: object) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "holds a NUL, which is a control character"
        return _HALF if _has_half_a_pair(value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "is a number beyond the range of a double: write it as a text"
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return "is a whole number of more than 64 bits: write it as a text"
    return None


def _has_half_a_pair(text: str) -> bool:
    """Whether a text has no form in UTF-8."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
