"""How numbers are spelled in a message: by the rule of docs/spec/records.md section 3, whatever the encoder does."""

import re
import struct
from fractions import Fraction

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.numbers import number_text, spelled, spelled_alike

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SPELLING = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?(?:e-?[1-9]\d*)?")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (0.00001, "0.00001"),
        (0.0000123, "0.0000123"),
        (1e-6, "1e-6"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (-1.25e-10, "-1.25e-10"),
        (5e-324, "5e-324"),
        (2.0**53, "9007199254740992"),
        (1e15, "1000000000000000"),
        (9999999999999998.0, "9999999999999998"),
        (1e16, "1e16"),
        (1e20, "1e20"),
        (1e21, "1e21"),
        (1.5e21, "1.5e21"),
        (1e23, "1e23"),
        (1.7976931348623157e308, "1.7976931348623157e308"),
    ],
)
def test_spelling(number: float, text: str) -> None:
    assert number_text(number) == text


@given(FINITE)
@example(9007199254740993.0)
@example(1e22)
@example(2.2250738585072014e-308)
def test_the_spelling_reads_back_as_the_same_double_and_has_one_form(number: float) -> None:
    text = number_text(number)
    assert SPELLING.fullmatch(text)
    assert struct.pack("d", float(text)) == struct.pack("d", number)


@given(FINITE.filter(bool))
def test_no_shorter_digits_read_back_as_the_same_double(number: float) -> None:
    """Checked with fractions: of all decimals with one digit less, the two nearest are other doubles."""
    mantissa = number_text(abs(number)).partition("e")[0].replace(".", "").strip("0")
    count = len(mantissa)
    if count == 1:
        return
    exact = Fraction(abs(number))
    power = 0
    while exact >= Fraction(10) ** (power + 1):
        power += 1
    while exact < Fraction(10) ** power:
        power -= 1
    unit = Fraction(10) ** (power - (count - 2))
    below = exact // unit * unit
    for nearest in (below, below + unit):
        try:
            assert float(nearest) != abs(number)
        except OverflowError:
            continue


@given(st.floats(1e-4, 1e15, exclude_max=True), st.booleans())
def test_the_encoder_is_left_alone_only_where_it_spells_alike(size: float, negative: bool) -> None:
    number = -size if negative else size
    assert spelled_alike(number)
    # An integral double is no part of a message: it is an integer there.
    assert orjson.dumps(number).decode() == number_text(number) + (".0" if number.is_integer() else "")


def test_what_is_encoded() -> None:
    message = {"id": "1e+16", "score": 1e16, "parts": [{"max": 1e-7, "n": 3, "half": 0.5}], "none": None}
    assert orjson.dumps(spelled(message)) == (
        b'{"id":"1e+16","score":1e16,"parts":[{"max":1e-7,"n":3,"half":0.5}],"none":null}'
    )
