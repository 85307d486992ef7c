"""Session activity, from JSON or from a row of Avro or Parquet: what is accepted, what is refused and why.

The rules are those of docs/spec/records.md section 1. A line is decoded in at most two steps:

1. msgspec decodes it straight into a strict shape. Nearly all lines fit.
2. A line that does not fit exactly has an extra field, or a number in another spelling, or is broken. orjson reads it
   and checks every byte. msgspec alone would not do: in fields that it ignores it lets invalid UTF-8 pass, and numbers
   that no double can hold. A line that fits the strict shape has no such fields.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NoReturn, get_args

import msgspec
import orjson

from schemas import Activity, Response, SubscoreDefinition, Tag
from schemas.activity import Action, InputAction, Long, Number, Scalar, State, StatementAction
from schemas.times import millis_of
from transforms.reading.leniency import STRICT, Leniency

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line or element that is accepted, without the newline."""

MAX_DEPTH = 1024
"""How deep arrays and objects may be nested. It is the limit of orjson, and does not depend on Python's stack."""

BOM = b"\xef\xbb\xbf"

TOO_LONG = f"longer than {MAX_LINE} bytes"

_FIRST_MS = 946_684_800_000  # 2000-01-01
_LAST_MS = 4_133_980_800_000 - 1  # the last of 2100
_LONG_LIMIT = 2**63

InputStatus = Literal["Incomplete", "Completed", "Discarded", "PendingScoring", "Pending Scoring"]

_Id = Annotated[str, msgspec.Meta(min_length=1)]


class ActivityError(ValueError):
    """What was read is not session activity. The text says which field is wrong, how, and what is allowed."""


_UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Millis = Annotated[int, msgspec.Meta(ge=_FIRST_MS, le=_LAST_MS)]


class _Plain(Activity, frozen=True, gc=False, forbid_unknown_fields=True):
    """Activity as `encode` spells it. A line of this shape travels as it is, and is not checked again."""

    record_id: _Id
    user_id: _UserId
    session_id: _Id
    activity_id: _Id
    action: Action
    occurred_at: _Millis
    status: Literal["Incomplete", "Completed", "Discarded", "PendingScoring"] | None = None
    statement: None = None


class _Wire(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Activity as input may spell it: a time may be text, and null stands for the default."""

    record_id: _Id
    user_id: _UserId
    session_id: _Id
    activity_id: _Id
    action: Action
    occurred_at: _Millis | str
    organisation: str | None = None
    lrs_id: str | None = None
    state: State | None = None
    seq: Long | None = None
    session_duration: Number | None = None
    num_questions: Number | None = None
    status: InputStatus | None = None
    pending_scoring: bool | None = None
    responses: list[Response] | None = None
    subscores: list[SubscoreDefinition] | None = None
    item_tags: dict[str, list[Tag]] | None = None
    metadata: dict[str, Scalar] | None = None


class _OpenWire(_Wire, gc=False, forbid_unknown_fields=False):
    """The same, but unknown fields are ignored. Only for lines that orjson has checked."""


_decode_plain = msgspec.json.Decoder(_Plain).decode
_decode_admitted = msgspec.json.Decoder(Activity).decode
_decode_strict = msgspec.json.Decoder(_Wire).decode
_decode_open = msgspec.json.Decoder(_OpenWire).decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

_TIME_FORMS = "epoch milliseconds of the years 2000 to 2100, RFC 3339 with a zone, or 'YYYY-MM-DD HH:MM:SS' in UTC"
_ALLOWED = {
    "action": "one of " + " ".join(get_args(InputAction)),
    "state": "one of " + " ".join(get_args(State)),
    "status": "one of Incomplete Completed Discarded PendingScoring",
    "occurred_at": _TIME_FORMS,
    "record_id": "a string that is not empty",
    "session_id": "a string that is not empty",
    "activity_id": "a string that is not empty",
    "user_id": "a string of 1 to 256 characters",
    "seq": "an integer of 64 bits or null",
    "metadata": "a map of string to string, number, boolean or null",
}
_STATEMENTS_ONLY = frozenset(get_args(StatementAction))
_SPECIAL = _STATEMENTS_ONLY | {"SET_STATUS"}
_FIELDS = _Wire.__struct_fields__
_COMPOUND = frozenset({"responses", "subscores", "item_tags", "metadata"})
_NESTED = {
    "responses": Response.__struct_fields__,
    "subscores": SubscoreDefinition.__struct_fields__,
}


class ActivityDecoder:
    """Reads session activity.

    Args:
        organisation: of activity that carries none (`--organisation`).
        lrs_id: the store of activity that carries none (`--lrs_id`).
    """

    def __init__(self, organisation: str | None = None, lrs_id: str | None = None, leniency: Leniency = STRICT) -> None:
        self.organisation = organisation
        self.lrs_id = lrs_id
        self.leniency = leniency

    def decode(self, line: bytes) -> Activity:
        """The activity on a line: a JSON object, which a byte order mark may precede.

        Raises:
            ActivityError: it is not activity.
        """
        return self._stamped(_activity(_read(line)))

    def admit(self, line: bytes) -> tuple[str, bytes]:
        """As `decode`, but the activity stays a line.

        Returns:
            The user id, and the line that `decode_admitted` reads. This is `line` itself if it is spelled as `encode`
            spells it and no organisation or store has to be added.

        Raises:
            ActivityError: it is not activity.
        """
        try:
            plain = _decode_plain(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            plain = None
        if plain is None or self._lacking(plain) or len(line) > MAX_LINE:
            activity = self.decode(line)
            return activity.user_id, encode(activity)
        if plain.action in _SPECIAL:
            _check_special(plain)
        return plain.user_id, line

    def decode_row(self, row: Mapping[str, Any]) -> Activity:
        """The activity in a row.

        Args:
            row: the fields of an Avro record or a Parquet row, in JSON's types, which `transforms.reading.rows` makes
                of all others. A list or a map may be a text in JSON, since Parquet has no column for maps of mixed
                values.

        Raises:
            ActivityError: it is not activity.
        """
        fields = {name: row[name] for name in _FIELDS if name in row}
        for name in _COMPOUND:
            text = fields.get(name)
            if isinstance(text, str):
                try:
                    fields[name] = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise ActivityError(f"{name}: {_syntax_reason(error, b'')}") from None
        wire = _fitted(fields)
        _check_special(wire)
        return self._stamped(_activity(wire))

    def admit_row(self, row: Mapping[str, Any]) -> tuple[str, bytes]:
        """As `decode_row`, but returns what `admit` does."""
        activity = self.decode_row(row)
        return activity.user_id, encode(activity)

    def expand(self, line: bytes) -> list[bytes] | None:
        """Activity comes without a wrapping."""
        return None

    def take_left_out(self) -> Mapping[str, int]:
        """Nothing is left out of activity."""
        return {}

    def _lacking(self, activity: Activity) -> bool:
        return (self.organisation is not None and activity.organisation is None) or (
            self.lrs_id is not None and activity.lrs_id is None
        )

    def _stamped(self, activity: Activity) -> Activity:
        if not self._lacking(activity):
            return activity
        return msgspec.structs.replace(
            activity,
            organisation=self.organisation if activity.organisation is None else activity.organisation,
            lrs_id=self.lrs_id if activity.lrs_id is None else activity.lrs_id,
        )


def encode(activity: Activity) -> bytes:
    """The activity as a line of compact JSON, which `decode_admitted` reads back as an equal activity."""
    return _encode(activity)


def decode_admitted(line: bytes) -> Activity:
    """The activity on a line that came from `admit` or `encode`. Only such a line may hold what only statements say."""
    return _decode_admitted(line)


def canonical(activity: Activity) -> bytes:
    """JSON that is the same for equal activity, however it was spelled. It decides what a duplicate is.

    It is compact UTF-8 with sorted keys. Defaults are left out, and 1.0 is spelled 1 (docs/spec/records.md section 2).
    """
    return _encode_sorted(numbers_alike(msgspec.to_builtins(activity)))


def parse_time(text: str, field: str = "occurred_at") -> int:
    """The epoch milliseconds of a time, cut off and not rounded.

    RFC 3339 is read generously (docs/spec/records.md section 1): `+0000` as well as `+00:00`, any number of digits
    after the second, T and Z in either case, a space instead of T, and a leap second as the second after it.

    Args:
        text: RFC 3339 with a zone, or `YYYY-MM-DD HH:MM:SS` in UTC.
        field: where the text stands, for the error.

    Raises:
        ActivityError: it is no such time, or not in the years 2000 to 2100.
    """
    spelled, leap = text, 0
    if spelled[16:19] == ":60":
        spelled, leap = f"{spelled[:17]}59{spelled[19:]}", 1000
    if len(spelled) > 27:  # more than microseconds, which msgspec would round
        spelled = re.sub(r"(\.\d{6})\d+", r"\1", spelled)
    try:
        moment = msgspec.convert(spelled, datetime)
    except msgspec.ValidationError:
        _refuse_time(text, field)
    if moment.tzinfo is None and not (len(text) == 19 and text[10] == " "):
        _refuse_time(text, field)
    milliseconds = millis_of(moment) + leap
    if leap and milliseconds // 1000 % 86_400:  # leap seconds end a day of UTC
        _refuse_time(text, field)
    if not _FIRST_MS <= milliseconds <= _LAST_MS:
        _refuse_time(text, field)
    return milliseconds


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Every byte of it is checked: UTF-8, escapes, nesting and numbers.

    Raises:
        ActivityError: it is no such object, or too long.
    """
    if len(line) > MAX_LINE:
        raise ActivityError(TOO_LONG)
    line = line.removeprefix(BOM)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ActivityError(_syntax_reason(error, line)) from None
    if not isinstance(value, dict):
        raise ActivityError(f"a JSON object is needed, not {_json_type(value)}")
    return value


def numbers_alike(value: Any) -> Any:
    """A value of JSON in which equal numbers are spelled alike: 1.0 becomes 1."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LONG_LIMIT:
        return int(value)
    if isinstance(value, dict):
        return {name: numbers_alike(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [numbers_alike(entry) for entry in value]
    return value


def _read(line: bytes) -> _Wire:
    """What is on a line of input, checked except for its time."""
    if len(line) > MAX_LINE:
        raise ActivityError(TOO_LONG)
    try:
        wire = _decode_strict(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        wire = _read_closely(line)
    if wire.action in _SPECIAL:
        _check_special(wire)
    return wire


def _read_closely(line: bytes) -> _Wire:
    fields = parse_object(line)
    try:
        return _decode_open(line)
    except (msgspec.DecodeError, RecursionError):
        return _fitted(fields)


def _check_special(wire: _Plain | _Wire) -> None:
    """Raise ActivityError for what only statements say, and for a SET_STATUS without a status."""
    if wire.action in _STATEMENTS_ONLY:
        raise ActivityError(f"action: not allowed (Invalid enum value {wire.action!r}); allowed: {_ALLOWED['action']}")
    if wire.action == "SET_STATUS" and wire.status is None:
        raise ActivityError(f"status: SET_STATUS needs one; allowed: {_ALLOWED['status']}")


def _activity(wire: _Wire) -> Activity:
    occurred_at = wire.occurred_at
    return Activity(
        wire.record_id,
        wire.user_id,
        wire.session_id,
        wire.activity_id,
        wire.action,
        occurred_at if isinstance(occurred_at, int) else parse_time(occurred_at),
        wire.organisation,
        wire.lrs_id,
        wire.state or "initial",
        wire.seq,
        wire.session_duration,
        wire.num_questions,
        "PendingScoring" if wire.status == "Pending Scoring" else wire.status,
        wire.pending_scoring or False,
        wire.responses or [],
        wire.subscores or [],
        wire.item_tags or {},
        wire.metadata or {},
    )


def _fitted(fields: dict[str, Any]) -> _Wire:
    """The known ones of `fields`, with numbers as the schema has them: 3.0 becomes a `seq` of 3, and 10**30 a double.

    Raises ActivityError if they do not fit the shape then.
    """
    known = {name: fields[name] for name in _FIELDS if name in fields}
    for name, nested in _NESTED.items():
        if isinstance(known.get(name), list):
            known[name] = [_only(nested, entry) for entry in known[name]]
    for entry in _dicts(known.get("responses")):
        _respell(entry, whole=("revision",), numbers=("score", "max_score"))
    for entry in _dicts(known.get("subscores")):
        if isinstance(entry.get("tags"), list):
            entry["tags"] = [_only(Tag.__struct_fields__, tag) for tag in entry["tags"]]
    if isinstance(known.get("item_tags"), dict):
        known["item_tags"] = {
            item: [_only(Tag.__struct_fields__, tag) for tag in tags] if isinstance(tags, list) else tags
            for item, tags in known["item_tags"].items()
            if tags is not None
        }
    if isinstance(known.get("metadata"), dict):
        known["metadata"] = {name: _number(value) for name, value in known["metadata"].items()}
    _respell(known, whole=("occurred_at", "seq"), numbers=("session_duration", "num_questions"))
    try:
        return msgspec.convert(known, _Wire)
    except msgspec.ValidationError as error:
        raise ActivityError(_shape_reason(str(error))) from None


def _only(names: tuple[str, ...], entry: object) -> object:
    return {name: entry[name] for name in names if name in entry} if isinstance(entry, dict) else entry


def _dicts(entries: object) -> list[dict[str, Any]]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _respell(fields: dict[str, Any], whole: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    for name in whole:
        value = fields.get(name)
        if isinstance(value, float) and value.is_integer():
            fields[name] = int(value)
    for name in numbers:
        if name in fields:
            fields[name] = _number(fields[name])


def _number(value: object) -> object:
    """An integer of more than 64 bits as a double, since Avro has no other number for it; anything else as it is."""
    if isinstance(value, int) and not -_LONG_LIMIT <= value < _LONG_LIMIT:
        return float(value)
    return value


def _refuse_time(text: str, field: str) -> NoReturn:
    raise ActivityError(f"{field}: {text[:40]!r} is not allowed; allowed: {_TIME_FORMS}") from None


def _syntax_reason(error: orjson.JSONDecodeError, line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as unicode_error:
        return f"not valid UTF-8 at byte {unicode_error.start}"
    if "infinity" in error.msg:
        return f"a number beyond double at character {error.pos}"
    if "depth" in error.msg:
        return f"nested deeper than {MAX_DEPTH} levels"
    if "surrogate" in error.msg:
        return f"a lone surrogate at character {error.pos}"
    return f"not JSON: {error.msg.partition(': line ')[0]} at character {error.pos}"


def _shape_reason(message: str) -> str:
    """The message of msgspec, with the field before it and what is allowed behind it."""
    problem, _, path = message.partition(" - at `$")
    path = path.strip("`.")
    missing = re.fullmatch(r"Object missing required field `(.*)`", problem)
    if missing:
        path, problem = f"{path}.{missing[1]}".strip("."), "missing"
    problem = problem.replace("`", "")
    if len(problem) > 80:
        problem = problem[:80] + "..."
    allowed = _ALLOWED.get(path.partition("[")[0])
    if allowed is None:
        return f"{path}: {problem}"
    return f"{path}: {'missing' if missing else 'not allowed (' + problem + ')'}; allowed: {allowed}"


def _json_type(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "a number"
