"""Text in the cells of a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cells import Column, clean, columns, cut, flow, width

TEXTS = st.text(max_size=30)
SIZES = st.integers(1, 60)


@given(text=TEXTS, size=SIZES)
def test_what_is_cut_fits_and_is_a_beginning(text: str, size: int) -> None:
    text = clean(text)
    assert text.isprintable() or not text
    short = cut(text, size)
    assert width(short) <= size
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


@given(parts=st.lists(TEXTS, max_size=8), size=SIZES)
def test_parts_flow_on_lines_that_fit(parts: list[str], size: int) -> None:
    lines = flow([clean(part) for part in parts], size)
    assert all(width(line) <= size for line in lines)
    assert len(lines) <= len(parts)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5), size=SIZES, titled=st.booleans())
def test_a_table_has_a_line_for_each_row_and_each_fits(
    rows: list[tuple[str, str, str]], size: int, titled: bool
) -> None:
    header = (Column("name", least=8), Column("count", right=True), Column("more", rank=1))
    lines = columns(header, [tuple(map(clean, row)) for row in rows], size, titled=titled)
    assert len(lines) == len(rows) + titled
    assert all(width(line) <= size for line in lines)


def test_wide_letters_take_two_cells_and_accents_none() -> None:
    assert (width("漢字"), width("e\u0301"), width("é"), width("abc")) == (4, 1, 1, 3)
    assert cut("漢字漢字", 5) == "漢字…"
    assert clean("a\x1b[2Jb\nc\u202e") == "a?[2Jb?c?"


def test_columns_of_the_highest_rank_go_first_and_long_texts_give_way() -> None:
    header = (Column("name", least=8), Column("wait", right=True), Column("next", rank=1), Column("try", rank=2))
    rows = [("a very long description of it", "12", "in 3 s", "3 of 11"), ("b", "1,234", "now", "1 of 11")]
    assert columns(header, rows, 60) == [
        "name                            wait  next    try",
        "a very long description of it     12  in 3 s  3 of 11",
        "b                              1,234  now     1 of 11",
    ]
    assert columns(header, rows, 40) == [
        "name               wait  next    try",
        "a very long des…     12  in 3 s  3 of 11",
        "b                 1,234  now     1 of 11",
    ]
    assert columns(header, rows, 24) == [
        "name        wait  next",
        "a very l…     12  in 3 s",
        "b          1,234  now",
    ]
    assert columns(header, [("x", "", "", "")], 60, titled=False) == ["x"]
