"""What a text says when it is decoded, and where in the text each part of that stands.

A receiver that repeats what it was sent may have quoted, escaped, packed or wrapped it, and more than once. So a text
is decoded in every way that something in it asks for, and what comes of it again. What the text is in truth is not
asked: of the decodings of a text that was never encoded, none says anything.
"""

import re
from binascii import a2b_base64
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from html import unescape
from itertools import accumulate

MOST_LAYERS = 2
"""How many encodings are taken off, one below the other: such as JSON in which there is base64. Percent-encoding counts
once though it is doubled, and so do blanks and line ends."""

SHORTEST_PACKED = 4
"""Bytes of the shortest text that is looked for in hexadecimal, base64 and UTF-16. Shorter ones occur by chance."""

SHORTEST_WRAPPED = 8
"""Bytes of the shortest text that is looked for across blanks and line ends, where words run together."""

_BREAK = b"\xff"
"""What stands between two parts that were decoded, in the place of what was not. It is in no text."""

Piece = tuple[int, int]
"""How many bytes of a text say how many bytes decoded. Of the latter each stands for as many of the former."""


class Decoded:
    """A text that was decoded, or has not been yet.

    Args:
        data: what it says.
        source: what was decoded; None for a text as it came.
        pieces: returns the pieces from the beginning of `source` to its end. It is asked only if something is found.
        shortest: bytes of the shortest text that is to be looked for in this one, if that is not as in `source`.

    Attributes:
        data: as above.
        shortest: as above.
        is_last: whether it need not be decoded any further.
    """

    __slots__ = ("_bounds", "_pieces", "_source", "_spaceless", "data", "is_last", "shortest")

    def __init__(
        self,
        data: bytes,
        source: "Decoded | None" = None,
        pieces: Callable[[], Iterable[Piece]] = tuple,
        *,
        shortest: int = 0,
    ) -> None:
        self.data = data
        self.shortest: int = max(shortest, source.shortest if source else 0)
        self.is_last = False
        self._source = source
        self._pieces = pieces
        self._bounds: tuple[list[int], list[int]] | None = None
        self._spaceless: Decoded | None = None

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where in the text as it came the bytes from `start` to `end` of `data` stand: its first byte, and the end."""
        if self._source is None:
            return start, end
        if self._bounds is None:
            pieces = list(self._pieces())
            self._bounds = (
                list(accumulate((length for length, _ in pieces), initial=0)),
                list(accumulate((size for _, size in pieces), initial=0)),
            )
        sources, sizes = self._bounds
        first = bisect_right(sizes, start) - 1
        last = bisect_right(sizes, end - 1) - 1
        length, size = sources[first + 1] - sources[first], sizes[first + 1] - sizes[first]
        source_start = sources[first] + (start - sizes[first]) * length // size
        length, size = sources[last + 1] - sources[last], sizes[last + 1] - sizes[last]
        source_end = sources[last] - (sizes[last] - end) * length // size
        return self._source.place(source_start, source_end)

    def spaceless(self) -> "Decoded":
        """The same without blanks and line ends."""
        if self._spaceless is None:
            bare = self.data.translate(None, _SPACE)
            is_bare = len(bare) == len(self.data)
            self._spaceless = self if is_bare else Decoded(bare, self, lambda: _pieces(self.data, _SPACES, _nothing))
        return self._spaceless

    def legible(self, least: int) -> "Decoded":
        """Of what was unpacked only the runs of ASCII of at least so many bytes, since most is no text."""
        legible = re.compile(rb"[\0\t-\r\x1b-\x7e]{%d,}" % least)
        runs = legible.findall(self.data)
        before = b"" if runs and self.data.startswith(runs[0]) else _BREAK
        after = b"" if runs and self.data.endswith(runs[-1]) else _BREAK

        def pieces() -> Iterator[Piece]:
            return _pieces(self.data, legible, lambda run: run[0], between=1)

        return Decoded(before + _BREAK.join(runs) + after, self, pieces)


def _marks(letters: bytes) -> bytes:
    """A table for `bytes.translate` that makes x of the letters and a dot of all others."""
    return bytes(b"x"[0] if byte in letters else b"."[0] for byte in range(256))


_LEGIBLE = _marks(bytes([0, *range(9, 14), 27, *range(32, 127)]))
_HEX = _marks(b"0123456789abcdefABCDEF")
_BASE64 = _marks(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_SPACE = b" \t\r\n"
_SPACES = re.compile(rb"[ \t\r\n]+")


def _nothing(_: re.Match[bytes]) -> bytes:
    return b""


def _pieces(
    data: bytes, pattern: re.Pattern[bytes], said: Callable[[re.Match[bytes]], bytes], *, between: int | None = None
) -> Iterator[Piece]:
    """The pieces of a text in which matches say something else.

    Args:
        between: how many bytes what is between matches says; None: as many as it has.
    """
    end = 0
    for match in pattern.finditer(data):
        start = match.start()
        if start > end:
            yield start - end, start - end if between is None else between
        end = match.end()
        yield end - start, len(said(match))
    if len(data) > end:
        yield len(data) - end, len(data) - end if between is None else between


@dataclass(frozen=True, slots=True)
class Sought:
    """What is known of the texts that are looked for, so that a text need not be decoded to no purpose.

    Attributes:
        shortest: bytes of the shortest one. Runs of hexadecimal or base64 that are too short to hold it are left out.
        has_blanks: some have blanks, which a form writes as `+`.
        is_ascii: those that are text are of ASCII alone.
        has_keys: some are bytes that are no text.
    """

    shortest: int
    has_blanks: bool
    is_ascii: bool
    has_keys: bool


def decodings(text: bytes, sought: Sought, *, cut: bool) -> Iterator[Decoded]:
    """The text as it is, and all that it says when it is decoded, in up to `MOST_LAYERS` layers.

    Args:
        text: in any encodings.
        sought: what is looked for.
        cut: the text was cut, so that the last escape in it may be one half. It is left out.
    """
    if cut:
        sought = replace(sought, shortest=SHORTEST_PACKED)
    layer = [Decoded(text)]
    if (bare := layer[0].spaceless()) is not layer[0]:
        layer.append(Decoded(bare.data, bare, lambda: [(len(bare.data),) * 2], shortest=SHORTEST_WRAPPED))
    known = {decoded.data for decoded in layer}
    for _ in range(MOST_LAYERS):
        yield from layer
        below: list[Decoded] = []
        for decoded in layer:
            if decoded.is_last:
                continue
            for other in _decoded(decoded, sought, cut):
                if other.data not in known:
                    known.add(other.data)
                    below.append(other)
        layer = below
    yield from layer


def _decoded(source: Decoded, sought: Sought, cut: bool) -> Iterator[Decoded]:
    for escapes in _ESCAPES:
        yield from escapes.decoded(source, cut)
    if sought.has_blanks and b"+" in source.data:
        form = Decoded(source.data.replace(b"+", b" "), source, lambda: [(len(source.data),) * 2])
        yield from (form, *_PERCENT.decoded(form, cut))
    if not sought.is_ascii:
        yield from _LATIN_1.decoded(source, cut)
    for unpack in (_hexadecimal, _base64, _utf_16):
        for unpacked in unpack(source, sought):
            if sought.is_ascii and _has_run(unpacked.data, _LEGIBLE, sought.shortest):
                yield unpacked.legible(sought.shortest)
            # What is packed or escaped below this is text. So a key need not be looked for any further.
            unpacked.is_last = sought.is_ascii
            if not sought.is_ascii or sought.has_keys:
                yield unpacked


def _has_run(data: bytes, marks: bytes, least: int) -> bool:
    """Whether so many bytes in a row are marked. It is much faster than to search for the runs, which are rare."""
    return b"x" * least in data.translate(marks)


@dataclass(frozen=True, slots=True)
class _Escapes:
    """Escapes of one kind.

    Attributes:
        mark: is in each of them.
        pattern: of one.
        half: of what may be left of one at the end of a text that was cut.
        said: what one stands for.
        is_doubled: it is often applied twice.
    """

    mark: bytes
    pattern: re.Pattern[bytes]
    half: re.Pattern[bytes]
    said: Callable[[re.Match[bytes]], bytes]
    is_doubled: bool = False

    def decoded(self, source: Decoded, cut: bool) -> Iterator[Decoded]:
        """The text with what its escapes stand for, if it has any; and that decoded again, if it often is."""
        if self.mark not in source.data:
            return
        half = self.half.search(source.data, max(0, len(source.data) - 40)) if cut else None
        whole = source.data if half is None else source.data[: half.start()]

        def pieces() -> Iterator[Piece]:
            yield from _pieces(whole, self.pattern, self.said)
            yield len(source.data) - len(whole), 0

        once = Decoded(self.pattern.sub(self.said, whole), source, pieces)
        yield once
        if self.is_doubled:
            yield from replace(self, is_doubled=False).decoded(once, cut)


def _pattern(template: bytes) -> re.Pattern[bytes]:
    """Compile a template, in which H is a hexadecimal digit, and HIGH and LOW are the halves of a surrogate pair."""
    template = template.replace(b"HIGH", b"[dD][89abAB]HH").replace(b"LOW", b"[dD][c-fC-F]HH")
    return re.compile(template.replace(b"H", b"[0-9a-fA-F]"))


_BYTES = {f"{n:02x}".encode(): bytes([n]) for n in range(256)}
_LETTERS = dict(zip(b"abefnrtv", b"\a\b\x1b\f\n\r\t\v", strict=True))


def _utf_16_units(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode()).decode("utf-16-be", "replace").encode()


def _character(code: int) -> bytes:
    return chr(code).encode("utf-8", "replace") if code <= 0x10FFFF else _BREAK


def _percent(match: re.Match[bytes]) -> bytes:
    high, low, unit, byte = match.groups()
    return _BYTES[byte.lower()] if byte else _utf_16_units(unit or high + low)


def _backslash(match: re.Match[bytes]) -> bytes:
    high, low, unit, code, byte, octal, letter, other = match.groups()
    if byte:
        return _BYTES[byte.lower()]
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    if letter:
        return bytes([_LETTERS[letter[0]]])
    if code:
        return _character(int(code, 16))
    return _utf_16_units(unit or high + low) if unit or high else other or b""


def _entity(match: re.Match[bytes]) -> bytes:
    decimal, digits = match.groups()
    if decimal or digits:
        return _character(int(decimal) if decimal else int(digits, 16))
    return unescape(match[0].decode()).encode("utf-8", "replace")


def _equals(match: re.Match[bytes]) -> bytes:
    return _BYTES[match[1].lower()] if match[1] else b""


_PERCENT = _Escapes(
    b"%",
    _pattern(rb"%[uU](HIGH)%[uU](LOW)|%[uU](HHHH)|%(HH)"),
    _pattern(rb"(?:%[uU]HIGH)?%(?:[uU]H{0,3}|H)?\Z|%[uU]HIGH\Z"),
    _percent,
    is_doubled=True,
)
_ESCAPES = (
    _PERCENT,
    _Escapes(
        b"\\",
        # JSON's, and those of JavaScript, Python, C and Java. One at the end of a line joins it to the next.
        _pattern(
            rb"\\(?:u(HIGH)\\u(LOW)|u(HHHH)|(?:[uU]\{|U00)(H{1,6})\}?|[xX](HH)|([0-7]{1,3})|([abefnrtv])|\r?\n|([^0-9A-Za-z\s]))"
        ),
        _pattern(rb"(?:\\uHIGH)?\\(?:u(?:H{0,3}|\{H{0,6})|UH{0,7}|xH?|[0-7]{1,2})?\Z|\\uHIGH\Z"),
        _backslash,
    ),
    _Escapes(
        b"&",
        _pattern(rb"&(?:#([0-9]{1,7});?|#[xX](H{1,6});?|[A-Za-z][0-9A-Za-z]{1,31};?)"),
        _pattern(rb"&(?:#(?:[0-9]*|[xX]H*)|[0-9A-Za-z]{0,32})\Z"),
        _entity,
    ),
    # Quoted-printable.
    _Escapes(b"=", _pattern(rb"=(?:(HH)|[ \t]*\r?\n)"), _pattern(rb"=H?\Z"), _equals),
)

# UTF-8 that was read as Latin-1, so that its bytes have become characters.
_LATIN_1 = _Escapes(
    b"",
    re.compile(rb"[\xc2\xc3][\x80-\xbf]"),
    re.compile(rb"[\xc2\xc3]\Z"),
    lambda match: match[0].decode().encode("latin-1"),
)

# The last ones are what may be left of one at the end of a text that was cut.
_SEPARATOR = _pattern(rb"[:,+-]{0,2}0[xX](?=HH)|[:,+-](?=HH)|[:,+-]{0,2}0[xX]H?\Z|[:,+-]{1,2}H?\Z")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")

_Run = list[tuple[int, bytes]]
"""A run of packed text, in parts: so many bytes, and what they say."""


def _hexadecimal(source: Decoded, sought: Sought) -> Iterator[Decoded]:
    """Runs of hexadecimal digits, with or without separators, from the first digit and from the second."""
    spaceless = source.spaceless()
    packed = spaceless
    if _SEPARATOR.search(spaceless.data):
        digits = _SEPARATOR.sub(b"", spaceless.data)
        packed = Decoded(digits, spaceless, lambda: _pieces(spaceless.data, _SEPARATOR, _nothing))
    least = 2 * sought.shortest
    if not _has_run(packed.data, _HEX, least):
        return
    runs = list(re.finditer(rb"[0-9a-fA-F]{%d,}" % least, packed.data))
    for skipped in (0, 1):
        yield _unpacked(packed, runs, partial(_of_hexadecimal, skipped))


def _of_hexadecimal(skipped: int, run: re.Match[bytes]) -> _Run:
    digits = run[0][skipped:]
    even = len(digits) // 2 * 2
    return [(skipped, b""), (even, bytes.fromhex(digits[:even].decode())), (len(digits) - even, b"")]


def _base64(source: Decoded, sought: Sought) -> Iterator[Decoded]:
    """Runs of base64 of either alphabet, from each of the first four characters."""
    packed = source.spaceless()
    least = -(-4 * sought.shortest // 3)
    if not _has_run(packed.data, _BASE64, least):
        return
    runs = list(re.finditer(rb"[0-9A-Za-z+/_-]{%d,}={0,2}" % least, packed.data))
    for skipped in range(4):
        yield _unpacked(packed, runs, partial(_of_base64, skipped))


def _of_base64(skipped: int, run: re.Match[bytes]) -> _Run:
    letters = run[0].rstrip(b"=")[skipped:].translate(_TO_STANDARD)
    whole = len(letters) // 4 * 4
    # What is left over is a byte or two, or nothing that counts. The padding belongs to it.
    rest = a2b_base64(letters[whole:] + b"==") if len(letters) - whole > 1 else b""
    return [(skipped, b""), (whole, a2b_base64(letters[:whole])), (len(run[0]) - skipped - whole, rest)]


def _unpacked(source: Decoded, runs: list[re.Match[bytes]], said: Callable[[re.Match[bytes]], _Run]) -> Decoded:
    """What runs say; of all else only that it is there."""
    parts: _Run = []
    end = 0
    for run in runs:
        if run.start() > end:
            parts.append((run.start() - end, _BREAK))
        parts += said(run)
        end = run.end()
    if end < len(source.data):
        parts.append((len(source.data) - end, _BREAK))

    def pieces() -> Iterator[Piece]:
        return ((length, len(said)) for length, said in parts)

    return Decoded(b"".join([said for _, said in parts]), source, pieces, shortest=SHORTEST_PACKED)


def _utf_16(source: Decoded, _: Sought) -> Iterator[Decoded]:
    """The text as UTF-16 of either byte order, from the first byte and from the second, if it looks like that."""
    for start in (0, 1):
        units = source.data[start : start + (len(source.data) - start) // 2 * 2]
        for codec, high in (("utf-16-le", 1), ("utf-16-be", 0)):
            # Two characters in a row of which the upper byte is zero, as it is in ASCII and Latin-1.
            if b"\0\0" not in units[high::2]:
                continue
            text = units.decode(codec, "replace")
            pieces = partial(_pieces_of_utf_16, text, start, len(source.data))
            yield Decoded(text.encode(), source, pieces, shortest=SHORTEST_PACKED)


def _pieces_of_utf_16(text: str, start: int, end: int) -> Iterator[Piece]:
    yield start, 0
    for part in re.finditer(r"[\0-\x7f]+|[^\0-\x7f]", text):
        size = 4 if part[0] > "\uffff" else 2 * len(part[0])
        yield size, len(part[0].encode())
        start += size
    yield end - start, 0
