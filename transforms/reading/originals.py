"""xAPI statements, read to be forwarded as they are (docs/spec/statements.md sections 1 and 3).

A statement stays the text that it was. Only its head is decoded: what says whose it is, when it was, and what its id
is. The rest of it is checked to be JSON, and passed over.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Protocol
from uuid import uuid5

import msgspec

from schemas.record import NAMESPACE
from schemas.times import now_ms
from transforms.reading import extended_json
from transforms.reading.activity import BOM, ActivityError, parse_object, parse_time
from transforms.reading.blocks import BLANK
from transforms.reading.document_text import plain_statement
from transforms.reading.exact_json import canonical_text, loads, loads_exactly
from transforms.reading.instants import quick_instant
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.limits import MAX_LINE
from transforms.reading.reasons import guess_of_statement
from transforms.reading.statement_exports import is_bulk_action, opened_text, parts_of
from transforms.reading.views import Path, view_of
from transforms.reading.voids import NOTHING, Void
from transforms.reading.xapi import BULK_ACTIONS, VOIDED_DOCUMENTS, PassedOverError, StatementDecoder

VOIDED_VERB = "http://adlnet.gov/expapi/verbs/voided"

INACTIVE_DOCUMENTS = "inactive_documents"
"""Counts statements whose document says that it is not active."""

NOT_DERIVED = "statements_not_derived"
"""Counts statements that are forwarded and from which nothing can be derived, such as those of no session."""

_BRACE, _CLOSING_BRACE = b"{}"
_IDENTIFIERS = ("account", "mbox", "mbox_sha1sum", "openid")


class Original(msgspec.Struct, array_like=True, gc=False):
    """A statement as it travels from reading to delivery.

    Attributes:
        id: its own in lower case, or one that was made of its content.
        timestamp: epoch ms, see `schemas.Record`.
        stored: epoch ms; None if it does not say.
        organisation: that its document names, or that statements without one are stamped with.
        lrs_id: as `organisation`, of the store.
        voids: the id of the statement that it voids, in lower case.
        text: the statement, in one line.
        document: what Learning Locker's document has besides, as JSON; None where there is no such document.
        activity: the activity that the statement is, as `decode_admitted` reads it; None if nothing is derived of it.
        file: where it was read: the number of the file, in the order of the files' paths.
        position: in the file, as a reject gives it.
        part: its number among the statements at that position, such as those of one line.
        due: see `schemas.Record`.
    """

    id: str
    timestamp: int
    stored: int | None
    organisation: str | None
    lrs_id: str | None
    voids: str | None
    text: bytes
    document: bytes | None = None
    activity: bytes | None = None
    file: int = 0
    position: int = 0
    part: int = 0
    due: tuple[str, ...] | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Original).decode


def decode_original(line: bytes) -> Original:
    """The statement on a line that `OriginalDecoder.admit` returned."""
    return _decode(line)


class Onlooker(Protocol):
    """Looks at each statement as it is read, so that it is decoded once."""

    @property
    def paths(self) -> Iterable[Path]:
        """What it looks at in a statement, each as the names on its way."""
        ...

    def look(self, original: Original, statement: dict[str, Any] | None, /) -> None:
        """Look at a statement, and note something in it.

        Args:
            original: the statement.
            statement: its own, to be changed: what `paths` lead to in it, and what else was decoded; None: it has to be
                decoded.
        """
        ...


_HEAD: tuple[Path, ...] = (
    ("id",),
    ("timestamp",),
    ("stored",),
    ("verb", "id"),
    ("object", "objectType"),
    ("actor", "account", "name"),
    ("actor", "account", "homePage"),
    *(("actor", name) for name in _IDENTIFIERS[1:]),
)
"""What is decoded of nearly all statements. What does not fit is looked at more closely."""


class OriginalDecoder:
    """Reads xAPI statements as they are.

    Args:
        organisation: of statements that are in no document with one of its own (`--organisation`).
        lrs_id: the store of such statements (`--lrs_id`).
        leniency: what is read beyond the rules.
        qualify_users: the user id of an account is `homePage|name`, and not `name` (`--qualify_users`).
        include_voided: statements are given on though their document says that they are voided or not active
            (`--include_voided`).
        documents: every statement is in a document of Learning Locker.
        stored_now: a statement without a time counts as of the present (`--stored_as now`).
        derive: reads the statement's activity too; None: nothing is derived.
    """

    def __init__(
        self,
        organisation: str | None = None,
        lrs_id: str | None = None,
        leniency: Leniency = STRICT,
        *,
        qualify_users: bool = False,
        include_voided: bool = False,
        documents: bool = False,
        stored_now: bool = False,
        derive: StatementDecoder | None = None,
    ) -> None:
        self.organisation = organisation
        self.lrs_id = lrs_id
        self.leniency = leniency
        self.qualify_users = qualify_users
        self.include_voided = include_voided
        self.documents = documents
        self.stored_now = stored_now
        self.derive = derive
        self.left_out: Counter[str] = Counter()
        self.voids: set[Void] = set()
        self._onlooker: Onlooker | None = None

    # Of the instance once there is an onlooker. It does not pickle, and the decoder does until then.
    _decode = staticmethod(view_of(_HEAD))

    def show(self, onlooker: Onlooker) -> None:
        """Show each statement to `onlooker` from now on."""
        self._onlooker = onlooker
        self._decode = view_of((*_HEAD, *onlooker.paths))

    def admit(self, line: bytes) -> tuple[str, bytes]:
        """Check a statement.

        Args:
            line: a JSON object, which a byte order mark and blanks may surround: a statement, or something that has one
                in it (see `transforms.reading.statement_exports`).

        Returns:
            The user id, and a line that `decode_original` reads.

        Raises:
            PassedOverError: it is not to be forwarded, and nothing is wrong with it.
            ActivityError: it is no statement.
        """
        user_id, original = self.read(line)
        return user_id, _encode(original)

    def read(self, line: bytes) -> tuple[str, Original]:
        """As `admit`, with the statement as an object."""
        read = self.read_alone(line)
        if self.derive is not None:
            read[1].activity = self._activity(line, self.derive)
        return read

    def admit_row(self, row: Mapping[str, Any]) -> tuple[str, bytes]:
        """Always raises ActivityError: statements are read from JSON alone."""
        raise ActivityError("xAPI statements are read from JSON")

    def expand(self, line: bytes) -> list[bytes] | None:
        """The statements on a line that was refused, as in an LRS's answer; None if it does not hold several."""
        return parts_of(line.removeprefix(BOM))

    def guess(self, content: bytes) -> str | None:
        """What `content`, which was refused, looks like (see `transforms.reading.reasons`)."""
        return guess_of_statement(content)

    def take_left_out(self) -> dict[str, int]:
        """What was left out of activity, and what nothing was derived of, since the last call, by name."""
        left_out, self.left_out = self.left_out, Counter()
        if self.derive is not None:
            left_out.update(self.derive.take_left_out())
        return dict(left_out)

    def take_voids(self) -> frozenset[Void]:
        """The activity that counts as never read, by the statements that were given on since the last call."""
        if not self.voids:
            return NOTHING
        voids, self.voids = frozenset(self.voids), set()
        return voids

    def read_alone(self, line: bytes) -> tuple[str, Original]:
        """As `read`, without the activity."""
        try:
            line.decode()
        except UnicodeDecodeError:
            return self._shown(self._read_closely(line))
        return self.read_utf8(line)

    def read_utf8(self, line: bytes) -> tuple[str, Original]:
        """As `read_alone`, of a line that is known to be UTF-8: decoders do not look into what they pass over."""
        if self.documents or len(line) > MAX_LINE:
            return self._shown(self._read_closely(line))
        try:
            head = self._decode(line)
            id_, timestamp, stored = head["id"], head["timestamp"], head.get("stored")
            user_id, verb_id, thing = self._identifier(head["actor"]), head["verb"]["id"], head["object"]
        except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
            # It is no JSON, or one of these is missing or no object.
            return self._shown(self._read_closely(line))
        if not (
            type(user_id) is type(verb_id) is type(id_) is type(timestamp) is str
            and type(thing) is dict
            and (stored is None or type(stored) is str)
            and user_id
            and id_
            and verb_id
            and timestamp
            and verb_id != VOIDED_VERB
        ):
            return self._shown(self._read_closely(line))
        when = quick_instant(timestamp)
        if when is None:
            when = parse_time(timestamp, "timestamp", naive_utc=self.leniency.naive_utc)
        taken = None
        if stored is not None:
            taken = quick_instant(stored)
            if taken is None:
                taken = parse_time(stored, "stored", naive_utc=self.leniency.naive_utc)
        text = in_one_line(line) if b"\n" in line or line[0] != _BRACE or line[-1] != _CLOSING_BRACE else line
        original = Original(id_.lower(), when, taken, self.organisation, self.lrs_id, None, text)
        if self._onlooker is not None:
            self._onlooker.look(original, head)
        return user_id, original

    def _shown(self, read: tuple[str, Original]) -> tuple[str, Original]:
        if self._onlooker is not None:
            self._onlooker.look(read[1], None)
        return read

    def _identifier(self, actor: dict[str, Any]) -> Any:
        """As `_user`, if it is there as it should be; else what is no string, or an empty one."""
        account = actor.get("account")
        if account is None:
            return actor.get("mbox") or actor.get("mbox_sha1sum") or actor.get("openid")
        name = account["name"]
        if self.qualify_users and (home_page := account.get("homePage")):
            return f"{home_page}|{name}" if name and type(name) is type(home_page) is str else None
        return name

    def _read_closely(self, line: bytes) -> tuple[str, Original]:
        """As `_read`, whatever is on the line. All errors are told from here."""
        line = line.removeprefix(BOM).strip(BLANK)
        value = checked_object(line)
        organisation, lrs_id, document = self.organisation, self.lrs_id, None
        if "verb" not in value and is_bulk_action(value):
            raise PassedOverError(BULK_ACTIONS)
        text, members = opened_text(line)
        if members is not None:
            organisation = _plain(members.get("organisation")) or organisation
            lrs_id = _plain(members.get("lrs_id")) or lrs_id
            self._check_active(members)
            text = plain_statement(text)
            document = _object_of(members)
        elif self.documents:
            raise ActivityError(
                "no document of Learning Locker: no member statement; bare statements are read with --input_format xapi"
            )
        statement = value if text is line else checked_object(text)
        actor = _object(statement, "actor", "an Agent or a Group")
        verb_id = _name(_object(statement, "verb", "an object with an id"), "id", "verb.id")
        thing = _object(statement, "object", "an object")
        id_ = self._id(statement)
        if id_ is None:
            id_ = str(uuid5(NAMESPACE, canonical_text(loads_exactly(text))))
            text = b'{"id":"%b",%b' % (id_.encode(), text[1:].lstrip(BLANK))
        voids = None
        if verb_id == VOIDED_VERB and thing.get("objectType") == "StatementRef" and isinstance(thing.get("id"), str):
            voids = thing["id"].lower()
        stored = self._time(statement, "stored")
        timestamp = self._time(statement, "timestamp")
        if stored is None and members is not None:
            stored = self._time_of_document(members, "stored")
        if timestamp is None and stored is None and members is not None:
            timestamp = self._time_of_document(members, "timestamp")
        if timestamp is None:
            timestamp = stored
        if timestamp is None:
            if not self.stored_now:
                raise ActivityError(
                    "timestamp: missing, and stored too: no time; --stored_as now takes the time at which it is read"
                )
            timestamp = now_ms()
        user_id = self._user(actor)
        return user_id, Original(id_, timestamp, stored, organisation, lrs_id, voids, in_one_line(text), document)

    def _check_active(self, members: Mapping[str, msgspec.Raw]) -> None:
        if self.include_voided:
            return
        if bytes(members.get("voided", b"")) == b"true":
            raise PassedOverError(VOIDED_DOCUMENTS)
        if bytes(members.get("active", b"")) == b"false":
            raise PassedOverError(INACTIVE_DOCUMENTS)

    def _id(self, statement: Mapping[str, Any]) -> str | None:
        if "id" not in statement:
            return None
        return _name(statement, "id", "id").lower()

    def _time(self, statement: Mapping[str, Any], name: str) -> int | None:
        text = statement.get(name)
        if text is None:
            return None
        if not isinstance(text, str):
            raise ActivityError(f"{name}: not a string")
        return parse_time(text, name, naive_utc=self.leniency.naive_utc)

    def _time_of_document(self, members: Mapping[str, msgspec.Raw], name: str) -> int | None:
        text = _plain(members.get(name))
        return None if text is None else parse_time(text, name, naive_utc=self.leniency.naive_utc)

    def _user(self, actor: Mapping[str, Any]) -> str:
        """The identifier of an Agent or a Group; without one a digest of what is there."""
        account = actor.get("account")
        if isinstance(account, dict):
            name, home_page = account.get("name"), account.get("homePage")
            if isinstance(name, int | float) and not isinstance(name, bool) and self.leniency.lenient_numbers:
                name = str(name)
            if isinstance(name, str) and name:
                qualified = self.qualify_users and isinstance(home_page, str) and home_page
                return f"{home_page}|{name}" if qualified else name
        for identifier in _IDENTIFIERS[1:]:
            value = actor.get(identifier)
            if isinstance(value, str) and value:
                return value
        members = actor.get("member")
        if isinstance(members, list) and members:
            spelled = sorted(map(canonical_text, members))
            return "group:" + sha256("\n".join(spelled).encode()).hexdigest()
        return "actor:" + sha256(canonical_text(actor).encode()).hexdigest()

    def _activity(self, line: bytes, derive: StatementDecoder) -> bytes | None:
        """What is derived from; None where there is nothing, and why is counted."""
        try:
            return derive.admit(line)[1]
        except PassedOverError as error:
            self.left_out[error.name] += 1
            if error.voids is not None:
                self.voids.add(error.voids)
        except ActivityError:
            self.left_out[NOT_DERIVED] += 1
        return None


def checked_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Every byte of it is checked, as `parse_object` does.

    A number that no double can hold is JSON, and is not refused.

    Raises:
        ActivityError: it is no such object, or too long.
    """
    try:
        return parse_object(line)
    except ActivityError:
        if len(line) > MAX_LINE or not _is_object(line):
            raise
    try:
        value: dict[str, Any] = loads(line)
    except (ValueError, RecursionError):
        raise ActivityError("nested too deep") from None
    return value


def in_one_line(text: bytes) -> bytes:
    """A JSON text without line ends, which stand between its tokens alone: streams and files of lines may hold it."""
    text = text.strip(BLANK)
    return text.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in text or b"\r" in text else text


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object in UTF-8, with numbers of any size."""
    try:
        line.decode()
        _decode_members(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _object_of(members: Mapping[str, msgspec.Raw]) -> bytes:
    """Members as an object in one line."""
    return in_one_line(msgspec.json.encode(members))


def _plain(member: msgspec.Raw | None) -> str | None:
    """The text of a member: a string, a date or an ObjectId; None for anything else."""
    if member is None:
        return None
    try:
        value = extended_json.plain(loads(bytes(member)))
    except extended_json.ExtendedJsonError:
        return None
    return value if isinstance(value, str) and value else None


def _object(of: Mapping[str, Any], name: str, allowed: str) -> dict[str, Any]:
    part = of.get(name)
    if not isinstance(part, dict):
        raise ActivityError(f"missing or not an object; allowed: {allowed}", name, "missing or not an object")
    return part


def _name(of: Mapping[str, Any], name: str, path: str) -> str:
    value = of.get(name)
    if not isinstance(value, str) or not value:
        reason = "missing, empty or not a string"
        raise ActivityError(f"{reason}; allowed: a string that is not empty", path, reason)
    return value
