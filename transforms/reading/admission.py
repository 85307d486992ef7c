"""What a decoder refused, looked at again: it may be a wrapping of input, or several pieces of it."""

from collections.abc import Iterator

import msgspec
import orjson

from transforms.reading.activity import BOM, ActivityError, TooManyValuesError, check_values
from transforms.reading.blocks import Broken
from transforms.reading.input_formats import Decoder
from transforms.reading.json_text import JsonText

Outcome = tuple[str, bytes] | ActivityError
"""What `Decoder.admit` returns or raises."""


def admit_message(message: bytes, decoder: Decoder) -> Iterator[Outcome]:
    """The outcome for each activity in a message of a stream: what a file may hold, a message may hold."""
    try:
        check_values(message)
        yield decoder.admit(message)
        return
    except TooManyValuesError as error:
        yield error
        return
    except ActivityError as error:
        refusal = error
    if is_object(message) or not message.strip():
        yield from (outcome for _, outcome in admit_again(message, decoder, refusal))
        return
    for block in JsonText(iter([message]), by_value=True):
        if isinstance(block, Broken):
            yield ActivityError(block.reason)
            continue
        for value in block.items:
            try:
                yield decoder.admit(value)
            except ActivityError as error:
                yield from (outcome for _, outcome in admit_again(value, decoder, error))


def admit_again(line: bytes, decoder: Decoder, refusal: ActivityError) -> Iterator[tuple[bytes, Outcome]]:
    """What is to be said of a line that was refused: each piece of input in it, and its outcome.

    A line that is no wrapping of input is itself the one piece.
    """
    try:
        pieces = decoder.expand(line) if is_object(line) else None
    except TooManyValuesError as error:
        yield line, error
        return
    if pieces is None:
        yield line, refusal
        return
    for piece in pieces:
        try:
            yield piece, decoder.admit(piece)
        except ActivityError as error:
            yield piece, alone(error)


def alone(error: ActivityError) -> ActivityError:
    """`error` without what it came of, which holds the text that was read. There may be thousands of them."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def is_object(line: bytes) -> bool:
    """Whether a line is one whole JSON object, with numbers of any size."""
    line = line.removeprefix(BOM)
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        pass
    try:
        _decode_members(line)
        line.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
