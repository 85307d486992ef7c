"""Versions of xAPI: what a statement is sent as to a receiver of version 1.0.3 (docs/spec/statements.md section 5).

Version 2.0 (IEEE 9274.1.1) says more than 1.0.3 in one place: a context may have `contextAgents` and `contextGroups`.
The rest of its changes bind stores and clients, or forbid what 1.0.3 only advised against. A store of version 1.0.3
refuses every statement whose `version` does not begin with `1.0.` (Data 2.4.10), and may refuse members that it does
not know (Data 2.2).
"""

import json
import re
from typing import Any

import msgspec

from transforms.statements.attachments import attachments_of, is_signed
from transforms.statements.members import Edit, Member, edited, first_brace, members, value_of, without

FIRST = "1.0.3"
"""The version that is spoken where nothing says another."""

SECOND = "2.0.0"

_OF_THE_SECOND = frozenset({"contextAgents", "contextGroups"})
_IS_FIRST = re.compile(r"1\.0\.\d{1,9}", re.ASCII)
_IS_SECOND = re.compile(r"2\.0(?:\.\d+)?(?:[-+].*)?", re.ASCII | re.DOTALL)
_NUMBERS = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)


class NotSayableError(ValueError):
    """Version 1.0.3 cannot say what the statement says. The text says why."""


class _Head(msgspec.Struct, gc=False):
    version: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode


def speaks_second(version: str) -> bool:
    """Whether an `X-Experience-API-Version` is one of 2.0."""
    return version.strip().startswith("2.")


def own_version(text: bytes) -> str | None:
    """The statement's own `version` where that is one of 1.0, such as `1.0.1`; else None."""
    version = _version(text)
    return version if isinstance(version, str) and _IS_FIRST.fullmatch(version) else None


def as_first(text: bytes) -> bytes:
    """A statement as version 1.0.3 can say it.

    A statement of version 2.0, or of none that has what 2.0 alone has, is given without `contextAgents` and
    `contextGroups`, in its SubStatement too, and with the version 1.0.3 for its own. Every other byte is as it was. Any
    other statement is given as it is.

    Args:
        text: of the statement, which has been checked to be JSON.

    Raises:
        NotSayableError: the statement is of a later version; or it is signed, and has what would have to be cut out.
    """
    version = _version(text)
    if version is not None and not isinstance(version, str):
        return text
    if version is not None and not _IS_SECOND.fullmatch(version):
        numbers = _NUMBERS.match(version)
        if numbers and (int(numbers[1]), int(numbers[2])) > (1, 0):
            raise NotSayableError(f"the statement is of version {version[:20]}, and nobody knows it in version {FIRST}")
        return text
    cuts = _cuts(text) if b"context" in text or b"\\u" in text else []
    if cuts and is_signed(attachments_of(text)):
        raise NotSayableError(
            f"the statement is signed with contextAgents or contextGroups, which version {FIRST} does not have"
        )
    if version is not None:
        cuts += [Edit(member.value, member.end, b'"%b"' % FIRST.encode()) for member in _at(text, "version")]
    return edited(text, cuts) if cuts else text


def _version(text: bytes) -> Any:
    try:
        return _decode_head(text).version
    except (msgspec.DecodeError, RecursionError):
        # There is more that JSON allows than the decoder reads, such as half a pair of surrogates.
        value = value_of(text, "version")
        return json.loads(value) if value is not None and value.startswith(b'"') else None


def _at(text: bytes, name: str) -> list[Member]:
    return [member for member in members(text, first_brace(text)) if member.name == name]


def _cuts(text: bytes) -> list[Edit]:
    edits: list[Edit] = []
    for member in members(text, first_brace(text)):
        if text[member.value : member.value + 1] != b"{":
            continue
        if member.name == "context":
            edits += _cuts_of_context(text, member.value)
        elif member.name == "object":
            inside = list(members(text, member.value))
            if any(_is_substatement(text, each) for each in inside):
                for each in inside:
                    if each.name == "context" and text[each.value : each.value + 1] == b"{":
                        edits += _cuts_of_context(text, each.value)
    return edits


def _cuts_of_context(text: bytes, start: int) -> list[Edit]:
    return without(text, start, lambda member: member.name in _OF_THE_SECOND)


def _is_substatement(text: bytes, member: Member) -> bool:
    value = text[member.value : member.end]
    return member.name == "objectType" and value.startswith(b'"') and json.loads(value) == "SubStatement"
