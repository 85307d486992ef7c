"""Signatures as https://www.standardwebhooks.com says (docs/spec/forwarders.md section 1, `signingSecret`)."""

import base64
import hmac
from collections.abc import Iterable
from typing import NoReturn

from transforms.forwarders.secrets import Secret

SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
"""The headers that sign a request."""


class Signer:
    """Signs requests, with several keys while they are rotated: a receiver accepts a request if one of them is its own.

    Args:
        secrets: keys in base64, with or without the prefix `whsec_`.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._keys = [signing_key(secret) for secret in secrets]

    def headers(self, message_id: str, timestamp: int, payload: bytes | Iterable[bytes]) -> dict[str, str]:
        """The headers that sign a request.

        Args:
            message_id: the record's id.
            timestamp: when this attempt is made, in whole seconds since the epoch.
            payload: the body, whole or in pieces.
        """
        beginning = b"%b.%d." % (message_id.encode(), timestamp)
        if isinstance(payload, bytes):
            digests = [hmac.digest(key, beginning + payload, "sha256") for key in self._keys]
        else:
            macs = [hmac.new(key, beginning, "sha256") for key in self._keys]
            for piece in payload:
                for mac in macs:
                    mac.update(piece)
            digests = [mac.digest() for mac in macs]
        signatures = (base64.b64encode(digest).decode() for digest in digests)
        values = (message_id, str(timestamp), " ".join(f"v1,{signature}" for signature in signatures))
        return dict(zip(SIGNATURE_HEADERS, values, strict=True))

    def __repr__(self) -> str:
        return f"Signer({len(self._keys)} keys)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer holds secrets and does not pickle")


def signing_key(secret: Secret) -> bytes:
    """The key that a signing secret spells in base64, with or without the prefix `whsec_`."""
    return base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
