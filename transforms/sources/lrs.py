"""An LRS as a source: `GET /statements`, page by page (docs/spec/statement-sources.md section 2)."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

import msgspec

from schemas.reject import CONTENT_LIMIT
from schemas.times import millis_of, rfc3339
from transforms.reading.blocks import Block, Broken
from transforms.reading.instants import TimeRefusedError, read_instant
from transforms.reading.lrs_pages import PageError, StatementPage
from transforms.reading.multipart import MultipartError, Part, boundary_of, parts
from transforms.reading.positions import NOWHERE, OVERLAP_MS, Position
from transforms.sources.attachments import NOT_ITS_HASH, AttachmentStore
from transforms.sources.base import Access, SourceError, SourcePart, StatementSource, StoppedError, Stopping
from transforms.sources.credentials import login
from transforms.sources.lrs_client import Answer, LrsClient
from transforms.sources.lrs_url import KEY, PATH_END, SECRET

logger = logging.getLogger(__name__)

_OLD, _NEW = "1.0.3", "2.0.0"
_EMPTY_PAGES = 1000
"""So many pages in a row without a statement are given up: an LRS that has nothing to say should end."""

# The characters that RFC 3986 allows somewhere in a path or query, and the percent sign of what is encoded already.
_URL_CHARACTERS = "!$%&'()*+,-./:;=?@[]_~"
_NOT_SELECTING = frozenset({"limit", "ascending", "attachments", "format"})
"""Parameters that say how statements are answered, and not which."""


@dataclass(frozen=True, slots=True)
class LrsSource(StatementSource, SourcePart):
    """The statements that a url selects. It is one part: each page tells where the next one is.

    Attributes:
        url: of the statements resource, with the parameters of the query; `url_problem` has nothing against it.
        access: see `Access`.
        since: epoch ms; only what was stored later is new; None: all that the url selects.
        resumes: whether another run is to go on where this one ends.
    """

    url: str
    access: Access = field(default_factory=Access)
    since: int | None = None
    resumes: bool = False

    @property
    def name(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def key(self) -> str:
        selecting = sorted(pair for pair in _parameters(self.url) if pair[0] not in _NOT_SELECTING)
        if not selecting:
            return self.name
        return f"{self.name}?{hashlib.sha256(repr(selecting).encode()).hexdigest()[:16]}"

    @property
    def label(self) -> str:
        return self.name

    @property
    def warning(self) -> str | None:
        parts = urlsplit(self.url)
        if parts.scheme == "https" or _is_loopback(parts.hostname or ""):
            return None
        return "credentials and statements travel unencrypted"

    def going_on_from(self, position: Position | None) -> "LrsSource":
        since = position.stored - OVERLAP_MS if position is not None and position.stored else None
        return replace(self, since=since, resumes=True)

    def split(self, stopping: Stopping) -> Iterator["LrsSource"]:
        yield self

    def reader(self, stopping: Stopping) -> "LrsReader":
        return LrsReader(self, stopping)

    @property
    def has_attachments(self) -> bool:
        """Whether the data of attachments is asked for."""
        return ("attachments", "true") in _parameters(self.url)

    def target(self, since: int | None) -> str:
        """Path and query of the first page of what was stored after `since`, epoch ms; None: of all."""
        parts = urlsplit(self.url)
        pairs = [pair for pair in parts.query.split("&") if pair]
        own = next((value for name, value in _parameters(self.url) if name == "since"), None)
        if since is not None and (own is None or read_instant(own) < since):
            pairs = [pair for pair in pairs if not pair.startswith("since=")]
            pairs.append(f"since={rfc3339(since)}")
        if "ascending" not in dict(_parameters(self.url)):
            pairs.append("ascending=true")
        return quote(f"{parts.path}?{'&'.join(pairs)}", safe=_URL_CHARACTERS)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _parameters(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


class LrsReader:
    """Reads the pages of a query, one after the other. See `PartReader`."""

    def __init__(self, source: LrsSource, stopping: Stopping, environment: Mapping[str, str] = os.environ) -> None:
        self._source = source
        self._stopping = stopping
        self._environment = environment
        self._size = 0
        self._seen: set[bytes] = set()
        """Digests of what may occur once only: the addresses of pages, and the first statement of each."""
        self._count = 0
        self._store = AttachmentStore(source.access.attachments)
        self._through: int | None = None
        """Epoch ms up to which the LRS has said that all statements can be read: the earliest of all its answers."""
        self._latest = 0
        """Epoch ms: the latest time of storage of a statement, as long as the LRS does not say the above."""
        self._oldest: _Times | None = None
        """The times of the statement that was stored the longest after it happened."""
        self._started: int | None = None
        """Epoch ms, by the LRS's clock, of its first answer."""
        self.stopped = False
        self.position: Position | None = None

    def taken(self) -> int:
        size, self._size = self._size, 0
        return size

    def blocks(self) -> Iterator[Block | Broken]:
        source = self._source
        given = login(source.name, source.access.auth, (KEY, SECRET), self._environment)
        client = LrsClient(source.url, source.name, given, source.access, self._stopping)
        try:
            version = self._version(client)
            target: str | None = source.target(source.since)
            empty = 0
            while target is not None:
                before = self._count
                with self._page(client, target, version) as answer:
                    statements, attachments = _parts(answer)
                    page = StatementPage(statements, self._count)
                    yield from self._attachments(answer, attachments)
                    yield from self._statements(page)
                empty = 0 if self._count > before else empty + 1
                if empty > _EMPTY_PAGES:
                    raise SourceError(f"{source.name}: gives one empty page after the other")
                target = self._following(page.more)
            self.position = self._reached()
            if source.resumes and not self._goes_by_stored(client, version):
                self.position = NOWHERE
        except (PageError, MultipartError) as error:
            raise SourceError(f"{source.name}: the answer {error}; is it the statements resource of an LRS?") from None
        except StoppedError:
            self.stopped = True
        finally:
            client.close()

    def _version(self, client: LrsClient) -> str:
        """The version of xAPI to ask in: 2.0.0 where the LRS says at `/about` that it knows it."""
        about = urlsplit(self._source.url).path.removesuffix(PATH_END) + "/about"
        answer = client.get(quote(about, safe=_URL_CHARACTERS), {"Accept": "application/json"}, absent=_NO_ABOUT)
        if answer is None:
            return _OLD
        with answer:
            try:
                told = msgspec.json.decode(answer.content.read(_ABOUT_LIMIT), type=_About)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return _OLD
        return _NEW if any(version.startswith("2.0") for version in told.version) else _OLD

    def _page(self, client: LrsClient, target: str, version: str) -> Answer:
        self._once(target.encode(), "sends from page to page in a circle")
        answer = client.get(target, self._headers(version))
        if answer is None:
            raise SourceError(f"{self._source.name}: gives no answer")
        self._size += answer.size
        through = _instant(answer.headers.get("X-Experience-API-Consistent-Through"))
        if through is not None:
            self._through = through if self._through is None else min(self._through, through)
        if self._started is None:
            self._started = _http_date(answer.headers.get("Date"))
        return answer

    def _statements(self, page: StatementPage) -> Iterator[Block | Broken]:
        first = True
        for block in page:
            if isinstance(block, Block):
                if first:
                    self._once(block.items[0], "gives the same page again and again")
                if self._source.resumes:
                    self._look_at(map(_times, block.items))
            first = False
            self._count += len(block.items) if isinstance(block, Block) else 1
            yield block

    def _following(self, more: str) -> str | None:
        """Path and query of the page that `more` names; None if there is none."""
        if not more:
            return None
        here = urlsplit(self._source.url)
        try:
            there = urlsplit(urljoin(self._source.url, more))
            same = (here.scheme, here.hostname, _port(here.scheme, here.port)) == (
                there.scheme,
                there.hostname,
                _port(there.scheme, there.port),
            )
        except ValueError:
            same = False
        if not same or "@" in there.netloc:
            raise SourceError(f"{self._source.name}: names another host for its next page (`more`), which is not asked")
        query = f"?{there.query}" if there.query else ""
        return quote(f"{there.path or '/'}{query}", safe=_URL_CHARACTERS)

    def _look_at(self, statements: Iterable["_Times"]) -> None:
        for times in statements:
            self._latest = max(self._latest, times.stored)
            if self._oldest is None or times.delay > self._oldest.delay:
                self._oldest = times

    def _goes_by_stored(self, client: LrsClient, version: str) -> bool:
        """Whether `since` is of the time of storage, as it has to be: there are LRSs that go by `timestamp`.

        From those a statement would not come that is about an earlier time. So the LRS is asked for what was stored
        since shortly before a statement was stored that it has just given. A statement that happened before that time
        has to be in the answer.
        """
        oldest = self._oldest
        if oldest is None or oldest.delay <= _PROBE_MARGIN:
            return True
        since = oldest.stored - _PROBE_MARGIN
        answer = client.get(self._source.target(since), self._headers(version))
        if answer is None:
            return True
        with answer:
            blocks = StatementPage(_parts(answer)[0])
            found = [_times(item) for block in blocks if isinstance(block, Block) for item in block.items]
        if any(times.happened <= since for times in found):
            return True
        logger.warning(
            "%s: goes by `timestamp` where `since` is asked for, and not by `stored` as xAPI has it: the next run on "
            "the state reads all of it again",
            self._source.name,
        )
        return False

    def _headers(self, version: str) -> dict[str, str]:
        accepted = "multipart/mixed, application/json" if self._source.has_attachments else "application/json"
        return {"Accept": accepted, "X-Experience-API-Version": version}

    def _attachments(self, answer: Answer, parts: Iterable[Part]) -> Iterator[Broken]:
        """Keep the data of attachments, and give on as refused what does not match its hash."""
        for part in parts:
            if not self._store.keep(part.headers.get(_HASH, ""), partial(part.chunks, answer.content)):
                content = next(part.chunks(answer.content), b"")[:CONTENT_LIMIT]
                yield Broken(self._count, NOT_ITS_HASH, content, part.end - part.start)

    def _once(self, content: bytes, why: str) -> None:
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest in self._seen:
            raise SourceError(f"{self._source.name}: {why}")
        self._seen.add(digest)

    def _reached(self) -> Position | None:
        if self._through is not None:
            return Position(stored=self._through)
        if not self._latest:
            return None
        # A time of storage that lies ahead of the LRS's own clock would hide what is stored until then.
        return Position(stored=self._latest if self._started is None else min(self._latest, self._started))


_HASH = "x-experience-api-hash"


def _parts(answer: Answer) -> tuple[Iterator[bytes], Iterator[Part]]:
    """The statements in an answer, as JSON, and the parts with the data of attachments. Raises MultipartError.

    The parts come one by one, and raise it, too: there may be more of them than memory holds.
    """
    boundary = boundary_of(answer.headers.get("Content-Type", ""))
    if boundary is None:
        return answer.chunks(), iter(())
    found = parts(answer.content, boundary)
    return next(found).chunks(answer.content), found


_NO_ABOUT = frozenset({400, 401, 403, 404, 405, 406, 410, 501})
_ABOUT_LIMIT = 64 * 1024


class _About(msgspec.Struct):
    version: list[str] = []


class _Times(NamedTuple):
    """When a statement happened and when it was stored, in epoch ms; 0 where it does not say."""

    happened: int
    stored: int

    @property
    def delay(self) -> int:
        """Milliseconds from the one to the other; 0 where that is not known."""
        return self.stored - self.happened if self.happened and self.stored else 0


class _Head(msgspec.Struct):
    timestamp: str | None = None
    stored: str | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_PROBE_MARGIN = 2
"""Milliseconds: LRSs keep times to the millisecond, cut off or rounded."""


def _times(statement: bytes) -> _Times:
    try:
        head = _decode_head(statement)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Times(0, 0)
    return _Times(_instant(head.timestamp) or 0, _instant(head.stored) or 0)


def _instant(text: str | None) -> int | None:
    try:
        return read_instant(text.strip()) if text else None
    except TimeRefusedError:
        return None


def _http_date(text: str | None) -> int | None:
    try:
        return millis_of(parsedate_to_datetime(text)) if text else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _port(scheme: str, port: int | None) -> int | None:
    return port or {"https": 443, "http": 80}.get(scheme)
