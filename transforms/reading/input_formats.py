"""The kinds of input, session activity and xAPI statements, and all that depends on which of them it is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from schemas import DERIVED_KINDS, Activity, Kind
from transforms.reading.activity import ActivityDecoder
from transforms.reading.blocks import FILE_FORMATS, FileFormat
from transforms.reading.leniency import Leniency
from transforms.reading.originals import OriginalDecoder
from transforms.reading.voids import Void
from transforms.reading.xapi import StatementDecoder
from transforms.reading.xapi_session import Resolved, resolve_session

InputFormatName = Literal["activity", "xapi", "learninglocker"]


class Decoder(Protocol):
    """Checks a piece of input, and gives on the activity in it, or the statement that it is.

    `admit` and `admit_row` return the id of the user, and a line: the activity, which `decode_admitted` reads, or the
    statement, which `decode_original` reads. They raise ActivityError when the input is refused, and PassedOverError
    when it is nothing to give on and not wrong.
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

    def take_voids(self) -> frozenset[Void]:
        """The activity that counts as never read, by the lines that were admitted since the last call."""
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
        gives_originals: whether the lines are statements, with their activity in them where they have any
            (`transforms.reading.originals`). Else they are activity.
        derives: whether records are derived of the activity.
    """

    title: str
    decoder: Callable[[str | None, str | None, Leniency], Decoder]
    resolve_session: Callable[[list[Activity]], Resolved] | None
    file_formats: tuple[FileFormat, ...]
    has_avro_messages: bool
    has_voids: bool
    gives_originals: bool = False
    derives: bool = True


ACTIVITY = InputFormat("session activity", ActivityDecoder, None, FILE_FORMATS, has_avro_messages=True, has_voids=False)
XAPI = InputFormat(
    "xAPI statements", StatementDecoder, resolve_session, ("json", "jsonl"), has_avro_messages=False, has_voids=True
)
LEARNINGLOCKER = replace(XAPI, title="documents of Learning Locker's statements")

INPUT_FORMATS: Mapping[InputFormatName, InputFormat] = {
    "activity": ACTIVITY,
    "xapi": XAPI,
    "learninglocker": LEARNINGLOCKER,
}
"""By what `--input_format` says, to derive from."""


def statement_format(
    name: InputFormatName,
    kinds: Collection[Kind],
    *,
    qualify_users: bool = False,
    include_voided: bool = False,
    stored_now: bool = False,
) -> InputFormat:
    """How statements are read that are forwarded, derived from, or both.

    Args:
        name: `xapi` or `learninglocker`.
        kinds: of the records that are wanted.
        qualify_users: see `OriginalDecoder`, as of the two that follow.
        include_voided: of statements that are forwarded.
        stored_now: of statements that are forwarded.
    """
    base = INPUT_FORMATS[name]
    derives = any(kind in kinds for kind in DERIVED_KINDS)
    if "statement" not in kinds:
        return replace(base, decoder=partial(StatementDecoder, qualify_users=qualify_users))

    decoder = partial(
        _originals,
        qualify_users=qualify_users,
        include_voided=include_voided,
        documents=name == "learninglocker",
        stored_now=stored_now,
        derives=derives,
    )
    return replace(base, decoder=decoder, gives_originals=True, derives=derives, has_voids=derives)


def _originals(
    organisation: str | None,
    lrs_id: str | None,
    leniency: Leniency,
    *,
    qualify_users: bool,
    include_voided: bool,
    documents: bool,
    stored_now: bool,
    derives: bool,
) -> OriginalDecoder:
    derive = StatementDecoder(organisation, lrs_id, leniency, qualify_users=qualify_users) if derives else None
    return OriginalDecoder(
        organisation,
        lrs_id,
        leniency,
        qualify_users=qualify_users,
        include_voided=include_voided,
        documents=documents,
        stored_now=stored_now,
        derive=derive,
    )
