"""multipart as a receiver reads it: with the parser of Python's `email`."""

from email.message import Message
from email.parser import BytesParser


def received(content_type: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """The headers, by their names in lower case, and the bytes of each part."""
    whole = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    assert whole.get_content_type() == "multipart/mixed"
    assert not whole.defects
    parts = list(whole.walk())[1:]
    return [({name.lower(): value for name, value in part.items()}, _bytes(part)) for part in parts]


def _bytes(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data
