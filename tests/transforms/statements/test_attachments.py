"""What a statement says of its attachments."""

from typing import Any

import pytest

from tests.support.statements import statement, text
from transforms.statements.attachments import SIGNATURE, Attachment, attachments_of, is_signed

ONE = {"usageType": "https://u.example", "contentType": "text/plain", "sha2": "ab", "fileUrl": "https://f.example"}
TWO = {"usageType": SIGNATURE, "sha2": "cd"}
READ_ONE = Attachment("ab", "text/plain", "https://f.example", "https://u.example")
READ_TWO = Attachment("cd", None, None, SIGNATURE)


def read(**more: Any) -> list[Attachment]:
    return attachments_of(text(statement(**more)).encode())


def test_those_of_the_statement_and_of_its_substatement() -> None:
    assert read() == []
    assert read(attachments=[ONE, TWO]) == [READ_ONE, READ_TWO]
    inside = {"objectType": "SubStatement", "attachments": [TWO]}
    assert read(attachments=[ONE], object=inside) == [READ_ONE, READ_TWO]
    assert read(object=inside) == [READ_TWO]
    assert read(object={**inside, "objectType": "Activity"}) == []
    assert read(context={"attachments": [ONE]}, result={"extensions": {"attachments": [ONE]}}) == []


@pytest.mark.parametrize("odd", [None, 5, "x", {}, [], [None, 5, [], "x"]])
def test_what_is_no_list_of_attachments_has_none(odd: Any) -> None:
    assert read(attachments=odd) == []
    assert read(object={"objectType": "SubStatement", "attachments": odd}) == []


def test_what_is_no_text_is_absent_and_an_empty_url_is_none() -> None:
    assert read(attachments=[{"sha2": 5, "fileUrl": ["x"], "contentType": None}]) == [Attachment()]
    assert [each.has_url for each in read(attachments=[{"fileUrl": ""}, {"fileUrl": "https://f.example"}])] == [
        False,
        True,
    ]


def test_a_signature_is_known_by_what_it_is_for() -> None:
    assert not is_signed(read(attachments=[ONE]))
    assert is_signed(read(attachments=[ONE, TWO]))


@pytest.mark.parametrize("beside", ['"\\ud83d"', "[" * 1020 + "]" * 1020, "9" * 5000])
def test_what_else_the_statement_holds_makes_no_difference(beside: str) -> None:
    two = f'[{text(TWO)[:-1]},"length":{"9" * 5000}}}]'
    inside = f'{{"objectType":"SubStatement", "attachments": {two}}}'[:-1] + f', "beside": {beside}}}'
    whole = f'{{"beside":{beside}, "att\\u0061chments" : {text([ONE])}, "object": {inside}}}'
    assert attachments_of(whole.encode()) == [READ_ONE, READ_TWO]
