"""multipart/mixed, cut into its parts."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.reading import multipart
from transforms.reading.multipart import MultipartError, boundary_of, parts

BOUNDARY = b"b0und"
DATA = st.lists(
    st.sampled_from(
        [b"\r\n", b"--", b"b0und", b"--b0und", b"\r\n--b0un", b"\r\n--b0undx", b"\r", b"\n", b"data", b"\0"]
    )
).map(b"".join)


def read(content: bytes) -> list[tuple[dict[str, str], bytes]]:
    file = BytesIO(content)
    return [(dict(part.headers), b"".join(part.chunks(file))) for part in parts(file, BOUNDARY)]


@given(
    st.lists(DATA.filter(lambda data: b"\r\n--b0und\r\n" not in b"\r\n" + data + b"\r\n"), max_size=4),
    st.integers(1, 40),
)
def test_every_part_is_the_bytes_that_were_sent(contents: list[bytes], chunk: int) -> None:
    """Whatever is in it, short of the boundary on a line of its own, and however it is read."""
    if any(b"\r\n--b0und--" in b"\r\n" + data + b"\r\n" for data in contents):
        return
    body = b"".join(b"--b0und\r\nX-Number: %d\r\n\r\n%b\r\n" % pair for pair in enumerate(contents))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "CHUNK", chunk)
        patch.setattr(multipart, "_PADDING", 16)
        found = read(body + b"--b0und--\r\n") if contents else []
    assert found == [({"x-number": str(number)}, data) for number, data in enumerate(contents)]


def test_what_is_around_the_parts_is_passed_over() -> None:
    body = (
        b"a preamble\r\n--b0und \t\r\nA: 1\r\n\r\none\r\n--b0und\r\n\r\ntwo\r\n--b0und--\r\nan epilogue\r\n--b0und\r\n"
    )
    assert read(body) == [({"a": "1"}, b"one"), ({}, b"two")]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "has no part"),
        (b'{"statements":[]}', "has no part"),
        (b"--b0und\r\nA: 1\r\n\r\none", "breaks off"),
        (b"--b0und\r\nA: 1\r\n\r\none\r\n--b0und\r\n", "breaks off"),
        (b"--b0und\r\nA: 1\r\n--b0und--", "has a part without headers"),
    ],
)
def test_what_is_none_is_told(body: bytes, what: str) -> None:
    with pytest.raises(MultipartError, match=what):
        read(body)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("application/json", None),
        ("multipart/form-data; boundary=b", None),
        ("multipart/mixed; boundary=b0und", b"b0und"),
        ('Multipart/Mixed; charset=x; boundary="b 0:und"', b"b 0:und"),
    ],
)
def test_the_boundary(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("content_type", ["multipart/mixed", "multipart/mixed; boundary=" + 71 * "b"])
def test_a_boundary_is_needed(content_type: str) -> None:
    with pytest.raises(MultipartError, match="has no boundary"):
        boundary_of(content_type)
