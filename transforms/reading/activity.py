"""Session activity, from JSON or from a row of Avro or Parquet: what is accepted, what is refused and why.

The rules are those of docs/spec/records.md section 1. A line is decoded in at most two steps:

1. msgspec decodes it straight into a strict shape. Nearly all lines fit.
2. A line that does not fit exactly has an extra field, or a number in another spelling, or is broken. orjson reads it
   and checks every byte. msgspec alone would not do: in fields that it ignores it lets invalid UTF-8 pass, and numbers
   that no double can hold. A line that fits the strict shape has no such fields.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
import orjson

from schemas import Activity, Response, SubscoreDefinition, Tag
from schemas.activity import Action, InputAction, Long, Number, Scalar, State, StatementAction
from transforms.reading import extended_json
from transforms.reading.instants import FIRST_MS, LAST_MS, TIME_FORMS, TimeRefusedError, is_number, read_instant
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.limits import LIMITS, MAX_LINE, ReadLimits
from transforms.reading.reasons import field_and_rule, guess
from transforms.reading.voids import NOTHING, Void

MAX_DEPTH = 1024
"""How deep arrays and objects may be nested. It is the limit of orjson, and does not depend on Python's stack."""

BOM = b"\xef\xbb\xbf"

TOO_LONG = f"longer than {MAX_LINE} bytes"

_LONG_LIMIT = 2**63

InputStatus = Literal["Incomplete", "Completed", "Discarded", "PendingScoring", "Pending Scoring"]

_Id = Annotated[str, msgspec.Meta(min_length=1)]


class ActivityError(ValueError):
    """What was read is not session activity. The text says which field is wrong, how, and what is allowed.

    Args:
        reason: what is wrong with the field, and what is allowed.
        field: the path of the field, such as `responses[0].score`; None if it is no single field.
        rule: what is wrong, without the value, so that it is the same for all values that are refused for it; None if
            the reason is to stand for itself.
    """

    def __init__(self, reason: str, field: str | None = None, rule: str | None = None) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.rule = rule

    @property
    def kind(self) -> tuple[str | None, str]:
        """The field and the rule, also where the text alone says them."""
        return (self.field, self.rule) if self.rule else field_and_rule(str(self))


class TooManyValuesError(ActivityError):
    """What was read would take too much memory, so it was not looked into."""


def check_values(text: bytes | str, limits: ReadLimits = LIMITS) -> None:
    """Raise TooManyValuesError if JSON has more values than a line, an element or a message may have.

    They are counted by the marks that stand before each: in text such marks count too.
    """
    if may_have_too_many_values(len(text), limits):
        content = text.encode() if isinstance(text, str) else text
        number = content.count(b",") + content.count(b"[") + content.count(b"{")
        if number > limits.values:
            raise TooManyValuesError(f"{number} values, of at most {limits.values}", rule="too many values")


def may_have_too_many_values(length: int, limits: ReadLimits = LIMITS) -> bool:
    """Whether JSON of so many bytes has to be counted."""
    return length > limits.values


_UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Millis = Annotated[int, msgspec.Meta(ge=FIRST_MS, le=LAST_MS)]


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

_ALLOWED = {
    "action": "one of " + " ".join(get_args(InputAction)),
    "state": "one of " + " ".join(get_args(State)),
    "status": "one of Incomplete Completed Discarded PendingScoring",
    "occurred_at": TIME_FORMS,
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


_IDS = ("record_id", "user_id", "session_id", "activity_id", "organisation", "lrs_id")
_WHOLE = ("occurred_at", "seq")
_NUMBERS = ("session_duration", "num_questions")
# A count since the epoch that is too large or too small for milliseconds of 2000 to 2100 is in one of these.
_EPOCH_UNITS = {"seconds": 1000, "microseconds": 1 / 1000, "nanoseconds": 1 / 1_000_000}


class ActivityDecoder:
    """Reads session activity.

    Args:
        organisation: of activity that carries none (`--organisation`).
        lrs_id: the store of activity that carries none (`--lrs_id`).
        leniency: what is read beyond the rules.
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
        return self._stamped(self._activity(self._read(line)))

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
                check_values(text)
                try:
                    fields[name] = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise ActivityError(_syntax_reason(error, b""), name, "not JSON") from None
        wire = _Fitting(fields, self.leniency).wire()
        _check_special(wire)
        return self._stamped(self._activity(wire))

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

    def take_voids(self) -> frozenset[Void]:
        """Activity voids none."""
        return NOTHING

    def guess(self, content: bytes) -> str | None:
        """What `content`, which was refused, looks like (see `transforms.reading.reasons`)."""
        return guess(content)

    def _read(self, line: bytes) -> _Wire:
        """What is on a line of input, checked except for its time."""
        if len(line) > MAX_LINE:
            raise ActivityError(TOO_LONG)
        try:
            wire = _decode_strict(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            wire = self._read_closely(line)
        if wire.action in _SPECIAL:
            _check_special(wire)
        return wire

    def _read_closely(self, line: bytes) -> _Wire:
        fields = parse_object(line)
        try:
            return _decode_open(line)
        except (msgspec.DecodeError, RecursionError):
            return _Fitting(fields, self.leniency, line).wire()

    def _activity(self, wire: _Wire) -> Activity:
        when = wire.occurred_at
        return Activity(
            wire.record_id,
            wire.user_id,
            wire.session_id,
            wire.activity_id,
            wire.action,
            when if isinstance(when, int) else self._time(when),
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

    def _time(self, text: str) -> int:
        if self.leniency.lenient_numbers and is_number(text):
            number = _number_in(text, "occurred_at")
            if isinstance(number, int) and FIRST_MS <= number <= LAST_MS:
                return number
            raise _refused_epoch(number)
        return parse_time(text, naive_utc=self.leniency.naive_utc)

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


def decode_all_admitted(lines: list[bytes]) -> list[Activity]:
    """The activities on lines, in their order. A line is let go of when it is decoded, so that not both are held."""
    lines.reverse()
    return [_decode_admitted(lines.pop()) for _ in range(len(lines))]


def canonical(activity: Activity) -> bytes:
    """JSON that is the same for equal activity, however it was spelled. It decides what a duplicate is.

    It is compact UTF-8 with sorted keys. Defaults are left out, and 1.0 is spelled 1 (docs/spec/records.md section 2).
    """
    return _encode_sorted(numbers_alike(msgspec.to_builtins(activity)))


def parse_time(text: str, field: str = "occurred_at", *, naive_utc: bool = False) -> int:
    """The epoch milliseconds of a time, cut off and not rounded, as `read_instant` reads it.

    Args:
        text: the time.
        field: where the text stands, for the error.
        naive_utc: see `Leniency`.

    Raises:
        ActivityError: it is in no form that is read, or not in the years 2000 to 2100.
    """
    try:
        return read_instant(text, naive_utc=naive_utc)
    except TimeRefusedError as error:
        raise ActivityError(str(error), field, error.rule) from None


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
    """JSON `value` with numbers of equal value spelled alike: 1.0 as 1."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LONG_LIMIT:
        return int(value)
    if isinstance(value, dict):
        return {name: numbers_alike(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [numbers_alike(entry) for entry in value]
    return value


def _check_special(wire: _Plain | _Wire) -> None:
    """Raise ActivityError for what only statements say, and for a SET_STATUS without a status."""
    if wire.action in _STATEMENTS_ONLY:
        raise ActivityError(
            f"not allowed (Invalid enum value {wire.action!r}); allowed: {_ALLOWED['action']}",
            "action",
            "Invalid enum",
        )
    if wire.action == "SET_STATUS" and wire.status is None:
        raise ActivityError(f"SET_STATUS needs one; allowed: {_ALLOWED['status']}", "status", "missing")


class _Fitting:
    """Brings the fields of an object that does not fit as it is into the shape of activity.

    Fields that are not known are left out, values of Extended JSON become what they stand for, and numbers are spelled
    as the schema spells them: 3.0 is a `seq`, 1e30 is no long. `line` is what the fields were read from, if it was one.
    """

    def __init__(self, fields: Mapping[str, Any], leniency: Leniency, line: bytes | None = None) -> None:
        self._fields = fields
        self._lenient = leniency.lenient_numbers
        self._line = line

    def wire(self) -> _Wire:
        """The fields as activity, checked but for the time. Raises ActivityError."""
        known = {name: self._fields[name] for name in _FIELDS if name in self._fields}
        if self._lenient and self._line is not None and _may_have_ids_spelled_as_doubles(known):
            known = _with_spellings(self._line, known)
        odd: dict[str, list[str]] = {name: [] for name in known}
        if self._line is None or b'"$' in self._line or b"\\u0024" in self._line:
            known = {name: _without_types(value, odd[name]) for name, value in known.items()}
        try:
            self._fit(known)
            return msgspec.convert(known, _Wire)
        except msgspec.ValidationError as error:
            raise _told_by_its_type(_shape_error(str(error)), odd) from None

    def _fit(self, known: dict[str, Any]) -> None:
        for name, nested in _NESTED.items():
            if isinstance(known.get(name), list):
                known[name] = [_only(nested, entry) for entry in known[name]]
        for path, entry in _entries(known, "responses"):
            self._ids(entry, ("response_id", "item_reference"), path)
            self._numbers(entry, ("revision",), path, whole=True)
            self._numbers(entry, ("score", "max_score"), path)
        for path, entry in _entries(known, "subscores"):
            self._ids(entry, ("id", "title"), path)
            if isinstance(entry.get("items"), list):
                entry["items"] = [self._id(item, f"{path}items[{index}]") for index, item in enumerate(entry["items"])]
            if isinstance(entry.get("tags"), list):
                entry["tags"] = [self._tag(tag, f"{path}tags[{index}].") for index, tag in enumerate(entry["tags"])]
        if isinstance(known.get("item_tags"), dict):
            known["item_tags"] = {
                item: [self._tag(tag, f"item_tags[...][{index}].") for index, tag in enumerate(tags)]
                if isinstance(tags, list)
                else tags
                for item, tags in known["item_tags"].items()
                if tags is not None
            }
        if isinstance(known.get("metadata"), dict):
            known["metadata"] = {name: _number(value) for name, value in known["metadata"].items()}
        self._ids(known, _IDS)
        self._numbers(known, _WHOLE, whole=True)
        self._numbers(known, _NUMBERS)
        when = known.get("occurred_at")
        if isinstance(when, int | float) and not isinstance(when, bool) and not FIRST_MS <= when <= LAST_MS:
            raise _refused_epoch(when)

    def _tag(self, tag: object, path: str) -> object:
        only = _only(Tag.__struct_fields__, tag)
        if isinstance(only, dict):
            self._ids(only, ("type", "name"), path)
        return only

    def _ids(self, entry: dict[str, Any], names: tuple[str, ...], path: str = "") -> None:
        for name in names:
            if name in entry:
                entry[name] = self._id(entry[name], path + name)

    def _id(self, value: object, path: str) -> object:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return value
        spelled = _spelling(value)
        if self._lenient:
            return spelled
        raise ActivityError(
            f'{spelled[:40]} is a number where text is needed; write "{spelled[:40]}", or give --lenient_numbers',
            path,
            "a number where text is needed; write it in quotes, or give --lenient_numbers",
        )

    def _numbers(self, entry: dict[str, Any], names: tuple[str, ...], path: str = "", *, whole: bool = False) -> None:
        for name in names:
            value = entry.get(name)
            # The time may be text, and is read with more care.
            if isinstance(value, str) and is_number(value) and name != "occurred_at":
                if not self._lenient:
                    raise ActivityError(
                        f'"{value[:40]}" is a number in quotes; write {value[:40]}, or give --lenient_numbers',
                        path + name,
                        "a number in quotes; write it without quotes, or give --lenient_numbers",
                    )
                value = _number_in(value, path + name)
            if isinstance(value, float) and whole and value.is_integer():
                value = int(value)
            if value is not None:
                entry[name] = value if whole else _number(value)


class _Spelled(float):
    """A double that knows how it was written."""

    text: str

    def __new__(cls, text: str) -> "_Spelled":
        number = super().__new__(cls, text)
        number.text = text
        return number


def _with_spellings(line: bytes, known: dict[str, Any]) -> dict[str, Any]:
    """The `known` fields read from `line` once more, their doubles as `_Spelled`."""
    try:
        raw = msgspec.json.decode(line.removeprefix(BOM), type=dict[str, msgspec.Raw])
    except RecursionError:  # something deep in a field that is ignored
        return known
    return {name: json.loads(bytes(raw[name]), parse_float=_Spelled) for name in known}


def _may_have_ids_spelled_as_doubles(known: dict[str, Any]) -> bool:
    return any(isinstance(known.get(name), float) for name in _IDS) or any(known.get(name) for name in _COMPOUND)


def _spelling(value: float) -> str:
    """A number as it was written, as far as that is known: a row knows numbers alone, and 42.0 is 42 there."""
    if isinstance(value, _Spelled):
        return value.text
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number_in(text: str, path: str) -> int | float:
    """The number that `text` spells, as JSON's reader gives it. Raises ActivityError if no double can hold it."""
    try:
        number: int | float = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ActivityError(f'"{text[:40]}" is a number beyond double', path, "a number beyond double") from None
    return int(number) if isinstance(number, float) and number.is_integer() and abs(number) < _LONG_LIMIT else number


def _without_types(value: Any, odd: list[str]) -> Any:
    """odd: see `extended_json.plain`. A value that is not converted matters only if activity has the field it is in."""
    try:
        return extended_json.plain(value, odd)
    except RecursionError:
        odd.append("nested too deep")
        return value


def _told_by_its_type(error: ActivityError, odd: Mapping[str, list[str]]) -> ActivityError:
    """`error`, or why a value of Extended JSON was not converted, if it is about a field that holds such a value."""
    reasons = odd.get(re.split(r"[.\[]", error.field or "", maxsplit=1)[0])
    return ActivityError(reasons[0], error.field, reasons[0]) if reasons and "got object" in str(error) else error


def _refused_epoch(when: float) -> ActivityError:
    rule = "outside the years 2000 to 2100 in epoch milliseconds"
    for unit, factor in _EPOCH_UNITS.items():
        if FIRST_MS <= when * factor <= LAST_MS:
            rule = f"in epoch {unit}, not in milliseconds"
    shown = when if abs(when) < _LONG_LIMIT else f"{when:g}"
    return ActivityError(f"not allowed ({shown} is {rule}); allowed: {TIME_FORMS}", "occurred_at", rule)


def _entries(known: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a list, each with the beginning of the paths of its fields."""
    entries = known.get(name)
    if isinstance(entries, list):
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield f"{name}[{index}].", entry


def _only(names: tuple[str, ...], entry: object) -> object:
    return {name: entry[name] for name in names if name in entry} if isinstance(entry, dict) else entry


def _number(value: object) -> object:
    """An integer of more than 64 bits as the double that Avro would hold; anything else as it is."""
    if isinstance(value, _Spelled):
        return float(value)
    if isinstance(value, int) and not -_LONG_LIMIT <= value < _LONG_LIMIT:
        return float(value)
    return value


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


def _shape_error(message: str) -> ActivityError:
    """msgspec's message with the field first and what is allowed last."""
    problem, _, path = message.partition(" - at `$")
    path = path.strip("`.")
    missing = re.fullmatch(r"Object missing required field `(.*)`", problem)
    if missing:
        path, problem = f"{path}.{missing[1]}".strip("."), "missing"
    problem = problem.replace("`", "")
    if len(problem) > 80:
        problem = problem[:80] + "..."
    rule = "missing" if missing else problem.partition(" value '")[0]
    allowed = _ALLOWED.get(path.partition("[")[0])
    if allowed is not None:
        problem = f"{'missing' if missing else 'not allowed (' + problem + ')'}; allowed: {allowed}"
    return ActivityError(problem, path or None, rule)


def _json_type(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "a number"
