"""The two kinds of input, session activity and xAPI statements, and all that depends on which of them it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from schemas import Activity
from transforms.reading.activity import ActivityDecoder
from transforms.reading.blocks import FILE_FORMATS, FileFormat
from transforms.reading.leniency import Leniency
from transforms.reading.xapi import StatementDecoder
from transforms.reading.xapi_session import resolve_session

InputFormatName = Literal["activity", "xapi"]


class Decoder(Protocol):
    """Checks a piece of input, and gives on the activity in it.

    `admit` and `admit_row` return the id of the activity's user, and the activity as a line that `decode_admitted`
    reads. They raise ActivityError when the input is refused, and PassedOverError when it is no activity and not wrong.
    """

    def admit(self, line: bytes, /) -> tuple[str, bytes]:
        """Of a line of a file, an element of a JSON array, or a message of a stream."""
        ...

    def admit_row(self, row: Mapping[str, Any], /) -> tuple[str, bytes]:
        """Of an Avro record or a Parquet row."""
        ...

    def expand(self, line: bytes, /) -> list[bytes] | None:
        """What to admit instead of a JSON object that was refused, if it is known as a wrapping of input; else None.

        Raises TooManyValuesError if that is too much.
        """
        ...

    def take_left_out(self) -> Mapping[str, int]:
        """By name, how much was left out of activity that was read since the last call."""
        ...

    def guess(self, content: bytes, /) -> str | None:
        """What refused input looks like, and what to do about that; None where nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class InputFormat:
    """How one kind of input is read.

    Attributes:
        title: what the input consists of, in words for the user.
        decoder: makes a decoder, given the organisation and the store (`lrs_id`) of activity that carries none, and
            what is read beyond the rules.
        resolve_session: completes a session's activity before it is folded (see `Derivation`); None if that is not
            needed.
        has_voids: whether some of it may say that other activity is to count as never read.
        file_formats: the formats of files that may hold such input.
        has_avro_messages: whether a message of a stream may be Avro as well as JSON.
    """

    title: str
    decoder: Callable[[str | None, str | None, Leniency], Decoder]
    resolve_session: Callable[[list[Activity]], list[Activity]] | None
    file_formats: tuple[FileFormat, ...]
    has_avro_messages: bool
    has_voids: bool


ACTIVITY = InputFormat("session activity", ActivityDecoder, None, FILE_FORMATS, has_avro_messages=True, has_voids=False)
XAPI = InputFormat(
    "xAPI statements", StatementDecoder, resolve_session, ("json", "jsonl"), has_avro_messages=False, has_voids=True
)

INPUT_FORMATS: Mapping[InputFormatName, InputFormat] = {"activity": ACTIVITY, "xapi": XAPI}
"""By what `--input_format` says."""
