"""Whether texts are UTF-8, found out for many at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.reading.utf8 import are_utf8

_PIECES = st.sampled_from(
    [b"a", b"\n", "é".encode(), "€".encode(), "😀".encode(), b"\xc3", b"\xed\xa0", b"\x80", b"\xff"]
)
_TEXTS = st.lists(st.lists(_PIECES, max_size=4).map(b"".join) | st.binary(max_size=6), max_size=4)


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(_TEXTS)
def test_it_says_what_decoding_each_would(texts: list[bytes]) -> None:
    assert are_utf8(texts) == all(map(_decodes, texts))


@pytest.mark.parametrize("letter", ["é", "€", "😀"])
def test_a_letter_is_not_made_up_of_two_texts(letter: str) -> None:
    encoded = letter.encode()
    for cut in range(1, len(encoded)):
        assert not are_utf8([encoded[:cut], encoded[cut:]])
