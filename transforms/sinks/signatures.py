"""Signatures as Standard Webhooks says: https://www.standardwebhooks.com (forwarders.md section 1, `signingSecret`)."""

import base64
import hmac
from collections.abc import Iterable
from typing import NoReturn

from transforms.forwarders.secrets import Secret


class Signer:
    """Signs requests with one key or, while keys are rotated, with several: a receiver accepts if one of them fits."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._keys = [base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True) for secret in secrets]

    def headers(self, message_id: str, timestamp: int, payload: bytes) -> dict[str, str]:
        """The three headers that sign `payload`. `timestamp` is of this attempt, in whole seconds since the epoch."""
        signed = b"%b.%d.%b" % (message_id.encode(), timestamp, payload)
        signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in self._keys)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }

    def __repr__(self) -> str:
        return f"Signer({len(self._keys)} keys)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer holds secrets and does not pickle")
