"""What a statement says of its attachments (xAPI 1.0.3, Data 2.4.11 and 2.6)."""

from typing import Any

import msgspec

from transforms.reading.exact_json import loads
from transforms.statements.members import value_of

SIGNATURE = "http://adlnet.gov/expapi/attachments/signature"
"""The `usageType` of the attachment that signs a statement."""


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """One attachment of a statement. What is no text counts as absent.

    Attributes:
        sha2: the hash of its data in hexadecimal form, as it is written.
        content_type: of its data.
        file_url: where its data can be had.
        usage_type: what it is for.
    """

    sha2: str | None = None
    content_type: str | None = None
    file_url: str | None = None
    usage_type: str | None = None

    @property
    def has_url(self) -> bool:
        """Whether its data can be had elsewhere, so that it may go without them."""
        return bool(self.file_url)


class _Object(msgspec.Struct, gc=False):
    objectType: Any = None  # noqa: N815 - xAPI's name
    attachments: Any = None


class _Statement(msgspec.Struct, gc=False):
    attachments: Any = None
    object: msgspec.Raw = msgspec.Raw(b"null")


_decode_statement = msgspec.json.Decoder(_Statement).decode
_decode_object = msgspec.json.Decoder(_Object).decode


def attachments_of(text: bytes) -> list[Attachment]:
    """The attachments of a statement, and then those of its SubStatement.

    xAPI advises to list those of a SubStatement with the statement's own, and does not forbid to list them in it.

    Args:
        text: of the statement, which has been checked to be JSON.
    """
    if b"attachments" not in text and b"\\u" not in text:
        return []
    try:
        statement = _decode_statement(text)
    except (msgspec.DecodeError, RecursionError):
        # There is more that JSON allows than the decoder reads, such as half a pair of surrogates.
        statement = _Statement(_loaded(text, "attachments"), msgspec.Raw(value_of(text, "object") or b"null"))
    found = _listed(statement.attachments)
    thing = bytes(statement.object)
    if not thing.startswith(b"{") or (b"SubStatement" not in thing and b"\\u" not in thing):
        return found
    try:
        inside = _decode_object(thing)
    except (msgspec.DecodeError, RecursionError):
        inside = _Object(_loaded(thing, "objectType"), _loaded(thing, "attachments"))
    return found + _listed(inside.attachments) if inside.objectType == "SubStatement" else found


def is_signed(attachments: list[Attachment]) -> bool:
    """Whether one of the attachments is a signature of the statement."""
    return any(attachment.usage_type == SIGNATURE for attachment in attachments)


def _loaded(text: bytes, name: str) -> Any:
    value = value_of(text, name)
    try:
        return None if value is None else loads(value)
    except RecursionError:
        return None


def _listed(attachments: Any) -> list[Attachment]:
    if not isinstance(attachments, list):
        return []
    names = ("sha2", "contentType", "fileUrl", "usageType")
    return [
        Attachment(*(value if isinstance(value := each.get(name), str) else None for name in names))
        for each in attachments
        if isinstance(each, dict)
    ]
