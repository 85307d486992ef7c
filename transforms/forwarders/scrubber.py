"""Takes known secrets out of texts that others have written (docs/spec/forwarders.md section 1)."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NoReturn

from transforms.forwarders.encodings import SHORTEST_PACKED, SHORTEST_WRAPPED, Sought, decodings
from transforms.forwarders.secrets import REDACTED

_CUT_MINIMUM = 4
"""Bytes of a secret at the end of a text that was cut: fewer give nothing away."""


class Scrubber:
    """Replaces known secrets in text that others have written.

    A secret is found as it is, in upper or lower case, and in the encodings that `transforms.forwarders.encodings`
    takes off. One of fewer than four bytes is not looked for in base64 and the like, where it occurs by chance.

    Args:
        secrets: to be found. For basic auth pass "user:password" as well, which is sent as base64. Bytes are a secret
            that is no text, such as a key.
    """

    __slots__ = ("_forms", "_sought")

    def __init__(self, secrets: Iterable[str | bytes]) -> None:
        secrets = list(secrets)
        forms = {form.lower() for secret in secrets if secret for form in _forms(secret)}
        # The longest first, so that a search for those of some length can end.
        self._forms = sorted(forms, key=len, reverse=True)
        self._sought = Sought(
            min((len(form) for form in forms if len(form) >= SHORTEST_PACKED), default=SHORTEST_PACKED),
            has_blanks=any(b" " in form for form in forms),
            is_ascii=all(secret.isascii() for secret in secrets if isinstance(secret, str)),
            has_keys=any(isinstance(secret, bytes) for secret in secrets),
        )

    def scrub(self, text: str | bytes, *, cut: bool = False) -> str:
        """The text with redactions in the places of the secrets. Bytes that are not UTF-8 are replaced.

        Args:
            text: bytes if its encoding is not certain.
            cut: the text was cut, so that it may end with the beginning of a secret.
        """
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        end = 0
        parts: list[bytes] = []
        for start, stop in sorted(self._places(data, cut)):
            if start >= end:
                parts += data[end:start], REDACTED.encode()
            end = max(end, stop)
        return b"".join([*parts, data[end:]]).decode("utf-8", "replace")

    def _places(self, text: bytes, cut: bool) -> set[tuple[int, int]]:
        """Where secrets are, from the first byte of each to its end."""
        places: set[tuple[int, int]] = set()
        if not self._forms:
            return places
        for decoded in decodings(text, self._sought, cut=cut):
            data = decoded.data.lower()
            for form in self._forms:
                if len(form) < decoded.shortest:
                    break
                places.update(decoded.place(at, at + len(form)) for at in _found(form, data))
            if cut and (length := max((_overlap(data, form) for form in self._forms), default=0)):
                start, _ = decoded.place(len(data) - length, len(data))
                places.add((start, len(text)))
        return places

    def __repr__(self) -> str:
        return "Scrubber(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Scrubber holds secrets and does not pickle")


def _found(form: bytes, data: bytes) -> Iterator[int]:
    at = data.find(form)
    while at >= 0:
        yield at
        at = data.find(form, at + 1)


def _overlap(data: bytes, form: bytes) -> int:
    """How many bytes at the end of `data` are the beginning of `form`; 0 if they give nothing away."""
    end = data[-_CUT_MINIMUM:]
    at = form.rfind(end, 0, len(form) - 1) if len(end) == _CUT_MINIMUM else -1
    while at >= 0:
        if data.endswith(form[: at + _CUT_MINIMUM]):
            return at + _CUT_MINIMUM
        at = form.rfind(end, 0, at + _CUT_MINIMUM - 1)
    return 0


def _forms(secret: str | bytes) -> Iterator[bytes]:
    """The bytes by which a secret is found."""
    if isinstance(secret, bytes):
        yield secret
        return
    for text in {secret, secret.lower(), secret.upper()}:
        yield text.encode("utf-8", "surrogatepass")
        if len(bare := "".join(text.split())) >= SHORTEST_WRAPPED:
            yield bare.encode("utf-8", "surrogatepass")
        if not text.isascii():
            # In other encodings than UTF-8 these are other bytes. ASCII in UTF-16 is told from its zero bytes.
            yield text.encode("utf-16-le", "surrogatepass")
            yield text.encode("utf-16-be", "surrogatepass")
            with suppress(UnicodeEncodeError):
                yield text.encode("latin-1")
