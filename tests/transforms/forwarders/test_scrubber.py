"""Secrets in text that others have written: found in whatever encoding, and hidden without the rest."""

import base64
import html
import json
import pickle
import quopri
import string
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from transforms.forwarders.scrubber import Scrubber
from transforms.forwarders.secrets import REDACTED

HIDDEN = "correct-horse-battery"
SECRET = 'p"ss/w+rd& <é>'

Encoding = Callable[[bytes], bytes]


def of_text(encode: Callable[[str], str]) -> Encoding:
    """An encoding of text, of which bytes that are no UTF-8 are Latin-1, as a server would show them."""

    def encoded(data: bytes) -> bytes:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        return encode(text).encode()

    return encoded


def units(text: str) -> list[int]:
    data = text.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def in_base64(before: bytes, *, url: bool = False, padded: bool = True, width: int | None = None) -> Encoding:
    """The secret in a text in base64, which begins with other bytes."""

    def encoded(data: bytes) -> bytes:
        text = (base64.urlsafe_b64encode if url else base64.b64encode)(before + data)
        text = text if padded else text.rstrip(b"=")
        return text if width is None else b"\r\n".join(text[at : at + width] for at in range(0, len(text), width))

    return encoded


ENCODINGS: dict[str, Encoding] = {
    "as it is": lambda data: data,
    "hex": lambda data: data.hex().encode(),
    "hex, upper case": lambda data: data.hex().upper().encode(),
    "hex, colons": lambda data: data.hex(":").encode(),
    "hex, blanks": lambda data: data.hex(" ", 2).encode(),
    "hex, 0x": lambda data: b", ".join(b"0x%02x" % byte for byte in data),
    "base64": in_base64(b""),
    "base64 from the second byte": in_base64(b"x"),
    "base64 from the third byte": in_base64(b"xy", padded=False),
    "base64 for urls": in_base64(b"", url=True, padded=False),
    "base64 for urls from the second byte": in_base64(b"x", url=True),
    "base64 in lines": in_base64(b"x", width=8),
    "percent": of_text(lambda text: quote(text, safe="")),
    "percent, lower case": lambda data: b"".join(b"%%%02x" % byte for byte in data),
    "percent twice": of_text(lambda text: quote(quote(text, safe=""), safe="")),
    "percent, form": of_text(quote_plus),
    "percent u": of_text(lambda text: "".join(f"%u{unit:04X}" for unit in units(text))),
    "JSON": of_text(lambda text: json.dumps(text)[1:-1].replace("/", "\\/")),
    "JSON in UTF-8": of_text(lambda text: json.dumps(text, ensure_ascii=False)[1:-1]),
    "\\u": of_text(lambda text: "".join(f"\\u{unit:04x}" for unit in units(text))),
    "\\u, upper case": of_text(lambda text: "".join(f"\\u{unit:04X}" for unit in units(text))),
    "\\u{}": of_text(lambda text: "".join(f"\\u{{{ord(letter):x}}}" for letter in text)),
    "\\x": lambda data: b"".join(b"\\x%02x" % byte for byte in data),
    "octal": lambda data: b"".join(b"\\%03o" % byte for byte in data),
    "HTML": of_text(html.escape),
    "HTML, decimal": of_text(lambda text: "".join(f"&#{ord(letter)};" for letter in text)),
    "HTML, hex": of_text(lambda text: "".join(f"&#x{ord(letter):x};" for letter in text)),
    "HTML, hex, upper case": of_text(lambda text: "".join(f"&#X{ord(letter):04X};" for letter in text)),
    "UTF-16": of_text(lambda text: text.encode("utf-16-le").decode("latin-1")),
    "UTF-16, big endian": of_text(lambda text: text.encode("utf-16-be").decode("latin-1")),
    "quoted-printable": quopri.encodestring,
    "quoted-printable of all": lambda data: b"".join(b"=%02X" % byte for byte in data),
}
EACH = pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())


@EACH
@pytest.mark.parametrize("secret", [SECRET, HIDDEN, "AKIAIOSFODNN7EXAMPLE", "ключ/от дома"])
def test_finds_each_encoding(encode: Encoding, secret: str) -> None:
    found = Scrubber([secret]).scrub(b"<<" + encode(secret.encode()) + b">>")
    # Of base64 that begins with other bytes, those are left.
    assert found.startswith("<<")
    assert found.endswith(f"{REDACTED}>>")
    assert len(found) <= len(f"<<xyz{REDACTED}>>")


@pytest.mark.parametrize(
    "form",
    [
        SECRET.upper(),
        "p%22ss%2Fw%2Brd%26+%3C%C3%A9%3E",
        r"p\"ss\/w+rd& <\u00e9>",
        "p&quot;ss/w+rd&amp; &lt;&eacute;&gt;",
        "p&#34ss/w+rd&#38 &#60é&#62",
        SECRET.encode("utf-16-le"),
        SECRET.encode("utf-16-be"),
        SECRET.encode("latin-1"),
        SECRET.encode().decode("latin-1"),
        'p"ss/w+r\n  d& <é>',
        r"p\42ss/w+rd\x26\40<\xe9>",
    ],
)
def test_finds_other_spellings(form: str | bytes) -> None:
    data = form.encode() if isinstance(form, str) else form
    assert Scrubber([SECRET]).scrub(b"<<" + data + b">>") == f"<<{REDACTED}>>"


@EACH
@settings(max_examples=12)
@given(data=st.data())
def test_nothing_of_a_secret_is_left_in_any_two_encodings(encode: Encoding, data: st.DataObject) -> None:
    secret = data.draw(
        st.text(string.ascii_letters + string.digits, min_size=8, max_size=24)
        | st.text(string.printable[:95], min_size=8, max_size=24).map(str.strip)
    )
    assume(len("".join(secret.split())) >= 8 and secret.lower() not in REDACTED)
    inner = data.draw(st.sampled_from(list(ENCODINGS.values())))
    # What stands next to an encoded secret may not be the beginning of an escape: that would be another text.
    before = data.draw(st.text(st.characters(codec="ascii"), max_size=20)) + data.draw(st.sampled_from(' :"<>([;'))
    after = data.draw(st.sampled_from(' "<>)];')) + data.draw(st.text(st.characters(codec="ascii"), max_size=20))
    text = before.encode() + encode(inner(secret.encode())) + after.encode()
    key = data.draw(st.sampled_from([b"", bytes(range(200, 224))]))
    left = Scrubber([secret, key]).scrub(text)
    assert REDACTED in left
    assert secret.lower() not in left.lower()
    assert encode(inner(secret.encode())) not in left.encode()
    assert len(left) <= len(before) + len(after) + len(REDACTED) + 0.5 * len(encode(inner(secret.encode()))) + 8


@EACH
@pytest.mark.parametrize("secret", [HIDDEN, "AKIAIOSFODNN7EXAMPLE"])
def test_a_secret_that_was_cut_leaves_no_more_than_three_bytes(encode: Encoding, secret: str) -> None:
    encoded = encode(secret.encode())
    scrubber = Scrubber([secret])
    for length in range(len(encoded)):
        left = scrubber.scrub(b"it was " + encoded[:length], cut=True).removeprefix("it was ").removesuffix(REDACTED)
        # The bytes before the secret in base64, and three of its own, none of which takes more than eight characters.
        assert len(left) <= len(encode(secret[:4].encode())) + 8, (length, left)


class TestScrubber:
    def test_of_secrets_that_overlap_all_is_hidden(self) -> None:
        assert Scrubber(["abc", "abcdef", ""]).scrub("abcdef abc") == f"{REDACTED} {REDACTED}"
        assert Scrubber(["user:pass", "pass-word"]).scrub("<user:pass-word>") == f"<{REDACTED}>"
        assert Scrubber(["aXaXaXaX"]).scrub("<aXaXaXaXaXaX>") == f"<{REDACTED}>"

    def test_the_end_of_a_text_that_was_cut(self) -> None:
        scrubber = Scrubber([HIDDEN])
        assert scrubber.scrub("sent corr", cut=True) == f"sent {REDACTED}"
        assert scrubber.scrub("sent correct-hors", cut=True) == f"sent {REDACTED}"
        assert scrubber.scrub("sent cor", cut=True) == "sent cor"
        assert scrubber.scrub("sent corr") == "sent corr"

    def test_of_base64_only_the_secret_is_hidden(self) -> None:
        text = base64.b64encode(f"user-of-it:{HIDDEN}".encode()).decode()
        left = Scrubber([HIDDEN]).scrub(f"Authorization: Basic {text}, and on")
        assert left == f"Authorization: Basic {text[:14]}{REDACTED}, and on"

    def test_a_key_is_found_in_hexadecimal(self) -> None:
        key = bytes(range(200, 224))
        assert Scrubber([key]).scrub(f"key {key.hex()}") == f"key {REDACTED}"

    @pytest.mark.parametrize("secret", ["a", "ab", "abc"])
    def test_a_short_secret_is_not_looked_for_where_all_occurs(self, secret: str) -> None:
        text = f"0x61, 616263, {base64.b64encode(b'xabcx').decode()}, YWJj, a\nb\nc"
        hidden = text.replace("abc", REDACTED).replace("ab", REDACTED) if secret != "a" else text
        assert Scrubber([secret]).scrub(hidden.replace("a", "_")) == hidden.replace("a", "_")
        assert (
            Scrubber([secret]).scrub(f"<{quote(secret)}> %{ord(secret[0]):x}{secret[1:]}") == f"<{REDACTED}> {REDACTED}"
        )

    def test_what_holds_no_secret_stays_as_it_is(self) -> None:
        text = json.dumps(
            {"error": "häß\u00fc %41 &amp; =3D \\u0041", "id": "0123456789abcdef", "b": "SGVsbG8gd29ybGQ="}
        )
        assert Scrubber([HIDDEN, SECRET]).scrub(text) == text
        assert Scrubber([HIDDEN]).scrub(b"\xff\xfea\0b\0") == "\ufffd\ufffda\0b\0"

    def test_nothing_to_hide(self) -> None:
        assert Scrubber([]).scrub("text", cut=True) == "text"

    def test_shows_and_sends_nothing(self) -> None:
        scrubber = Scrubber([HIDDEN])
        assert HIDDEN not in repr(scrubber)
        with pytest.raises(TypeError):
            pickle.dumps(scrubber)
