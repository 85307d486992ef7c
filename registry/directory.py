"""The page's list of forwarders: found by words, narrowed down, sorted, and given page by page.

A store may hold ten thousand documents, and somebody types into a search field. So what the list says of a document is
worked out once for each of its revisions, and an order once for each state of documents and deliveries.
"""

import base64
import binascii
import bisect
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from registry.filters import ParameterError, filtered
from registry.stores.base import Snapshot, StoredDocument
from schemas.json_values import JsonObject

State = Literal["failing", "ok", "quiet", "inactive"]
"""How a forwarder stands.

- `failing`: it is active, and `registry.health` says so; or its document cannot be given back.
- `ok`: it is active, and gets its records.
- `quiet`: it is active, and nothing is known to have been sent to it of late.
- `inactive`: it forwards nothing.

As long as `registry.health` has not read the output, the latest record that is known decides.
"""

Target = Literal["https", "http", "streams", "firehose"]
"""Where a forwarder sends: to a web server, a Kinesis data stream, or a Firehose."""

Order = Literal["health", "name", "target", "updated", "last"]
"""What the list is sorted by. `health`: what fails first, then what is active, each by name."""

Wanted = Literal["failing", "ok", "quiet", "inactive", "active"]
"""Forwarders that stand so; `active`: all but those that are inactive."""

MOST = 1000
"""Forwarders that a page of the list may have."""

_RANKS: Mapping[State, int] = {"failing": 0, "ok": 1, "quiet": 1, "inactive": 2}

_MOST_CARDS = 50_000
"""Cards that are kept. When there are more all are forgotten, so that memory is bounded."""

_Key = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """What the list says of one document, whoever asks.

    Attributes:
        name: what people call the forwarder; its id, if it has no name.
        target: where it sends.
        address: host and path, or the stream's name; empty if the document has none.
        query: as JSON.
        words: what a search looks in, in lower case: name, id, target, address and query.
        by_name: what it is sorted by in the order of names: the name, and the id.
    """

    stored: StoredDocument
    name: str
    target: Target
    address: str
    query: str
    words: str
    by_name: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to see of the list.

    Attributes:
        text: words that must all occur; or a MongoDB query, if it begins with a brace.
        state: only forwarders that stand so; None: any.
        target: only forwarders that send there; None: any.
        order: what the list is sorted by.
        descends: the last comes first.
    """

    text: str = ""
    state: Wanted | None = None
    target: Target | None = None
    order: Order = "health"
    descends: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the forwarders that were wished for.

    Attributes:
        cards: each with how it stands.
        total: how many were wished for.
        states: of those that match text and target, how many stand so.
        following: the cursor of the next page; None: this is the last.
    """

    cards: Sequence[tuple[Card, State]]
    total: int
    states: Mapping[State, int]
    following: str | None


class Known(NamedTuple):
    """What is known of deliveries.

    Attributes:
        last: the latest receipt of each forwarder that has one, by its id. Another mapping once it has changed.
        states: how each forwarder does that anything was sent to (`registry.health`), by its id. Another mapping once
            it has changed. None as long as nobody knows.
    """

    last: Mapping[str, JsonObject] = {}
    states: Mapping[str, State] | None = None


@dataclass(frozen=True, slots=True)
class _Sorted:
    """All forwarders in an order, ascending.

    Attributes:
        known: the deliveries that it was made of.
        cards: the forwarders.
        standing: how each stands.
        keys: what each is sorted by; no two are the same.
    """

    known: Known
    cards: Sequence[Card]
    standing: Sequence[State]
    keys: Sequence[_Key]


@dataclass
class Directory:
    """The lists of a service. Safe to use from several threads."""

    _cards: dict[str, Card] = field(default_factory=dict)

    def page(
        self,
        snapshot: Snapshot,
        known: Known,
        wish: Wish,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        """A page of a list.

        Args:
            snapshot: the documents that whoever asks may see.
            known: of deliveries.
            after: the cursor that the page before gave; None: the first page.
            limit: how many forwarders.

        Raises:
            ParameterError: the query in `text` cannot be used, or `after` is no cursor of this order.
        """
        every = self._in_order(snapshot, known, wish.order)
        chosen = _found(snapshot, every.cards, wish.text)
        if wish.target:
            chosen = [place for place in chosen if every.cards[place].target == wish.target]
        states = Counter(every.standing[place] for place in chosen)
        if wish.state == "active":
            chosen = [place for place in chosen if every.standing[place] != "inactive"]
        elif wish.state:
            chosen = [place for place in chosen if every.standing[place] == wish.state]
        if wish.descends:
            chosen = chosen[::-1]
        start = 0 if after is None else _start(chosen, every.keys, _read_cursor(after, wish), wish.descends)
        end = start + limit
        following = _cursor(every.keys[chosen[end - 1]], wish) if end < len(chosen) else None
        shown = [(every.cards[place], every.standing[place]) for place in chosen[start:end]]
        return Page(shown, len(chosen), states, following)

    def card(self, stored: StoredDocument) -> Card:
        """What the list says of a document."""
        known = self._cards.get(stored.id)
        if known is None or known.stored.revision != stored.revision or known.stored.problem != stored.problem:
            if len(self._cards) >= _MOST_CARDS:
                self._cards.clear()
            known = self._cards[stored.id] = _card(stored)
        return known

    def _in_order(self, snapshot: Snapshot, known: Known, order: Order) -> _Sorted:
        made: _Sorted | None = snapshot.orders.get(order)
        if made is None or made.known.last is not known.last or made.known.states is not known.states:
            made = snapshot.orders[order] = self._sorted(snapshot, known, order)
        return made

    def _sorted(self, snapshot: Snapshot, known: Known, order: Order) -> _Sorted:
        key_of, cards = _KEYS[order], [self.card(stored) for stored in snapshot.documents]
        states = [state_of(card.stored, known) for card in cards]
        keys = [key_of(card, state, known.last) for card, state in zip(cards, states, strict=True)]
        places = sorted(range(len(keys)), key=keys.__getitem__)
        return _Sorted(known, [cards[at] for at in places], [states[at] for at in places], [keys[at] for at in places])


def state_of(stored: StoredDocument, known: Known) -> State:
    """How a forwarder stands, by its document and what is known of deliveries."""
    if stored.content.get("active") is not True:
        return "inactive"
    if stored.problem is not None:
        return "failing"
    if known.states is not None:
        return known.states.get(stored.id, "quiet")
    last = known.last.get(stored.id)
    if last is None:
        return "quiet"
    return "ok" if last["outcome"] == "delivered" else "failing"


def _card(stored: StoredDocument) -> Card:
    content = stored.content
    name, query = content.get("description"), content.get("query", "")
    name = name if isinstance(name, str) and name.strip() else stored.id
    query = query if isinstance(query, str) else _text(query)
    target, address = _target(content)
    words = "\n".join((name, stored.id, target, address, query)).lower()
    return Card(stored, name, target, address, query, words, (name.casefold(), stored.id))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _target(content: JsonObject) -> tuple[Target, str]:
    configuration, options = content.get("configuration"), content.get("kinesisOptions")
    configuration = configuration if isinstance(configuration, dict) else {}
    options = options if isinstance(options, dict) else {}
    if configuration.get("protocol") == "Kinesis":
        stream = options.get("streamName")
        return "streams" if options.get("service") == "streams" else "firehose", stream if isinstance(
            stream, str
        ) else ""
    url = configuration.get("url")
    return "https" if configuration.get("protocol") == "https" else "http", url if isinstance(url, str) else ""


# Orders and cursors


def _by_health(card: Card, state: State, last: Mapping[str, JsonObject]) -> _Key:
    return _RANKS[state], *card.by_name


def _by_name(card: Card, state: State, last: Mapping[str, JsonObject]) -> _Key:
    return card.by_name


def _by_target(card: Card, state: State, last: Mapping[str, JsonObject]) -> _Key:
    return card.target, card.address, *card.by_name


def _by_update(card: Card, state: State, last: Mapping[str, JsonObject]) -> _Key:
    updated = card.stored.content.get("updatedAt")
    return updated if isinstance(updated, str) else "", card.stored.id


def _by_last(card: Card, state: State, last: Mapping[str, JsonObject]) -> _Key:
    receipt = last.get(card.stored.id)
    return "" if receipt is None else str(receipt["settled_at"]), card.stored.id


_KEYS: Mapping[Order, Callable[[Card, State, Mapping[str, JsonObject]], _Key]] = {
    "health": _by_health,
    "name": _by_name,
    "target": _by_target,
    "updated": _by_update,
    "last": _by_last,
}
_SHAPES: Mapping[Order, list[type]] = {
    "health": [int, str, str],
    "name": [str, str],
    "target": [str, str, str, str],
    "updated": [str, str],
    "last": [str, str],
}
"""The types in the keys of each order."""


def read_sort(text: str) -> tuple[Order, bool]:
    """The order that the parameter `sort` names, and whether it descends: `name`, `-updated`. Raises ParameterError."""
    name = text.removeprefix("-")
    for order in get_args(Order):
        if order == name:
            return order, name != text
    raise ParameterError("sort", f"is none of {', '.join(get_args(Order))}, with a - before it or not")


def _start(chosen: Sequence[int], keys: Sequence[_Key], key: _Key, descends: bool) -> int:
    """Where in `chosen` what comes after a key begins."""
    if descends:
        place = bisect.bisect_left(keys, key)
        return bisect.bisect_right(chosen, -place, key=lambda at: -at)
    return bisect.bisect_left(chosen, bisect.bisect_right(keys, key))


def _cursor(key: _Key, wish: Wish) -> str:
    text = json.dumps([wish.order, wish.descends, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str, wish: Wish) -> _Key:
    try:
        given = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        given = None
    if (
        not isinstance(given, list)
        or given[:2] != [wish.order, wish.descends]
        or [type(value) for value in given[2:]] != _SHAPES[wish.order]
    ):
        raise ParameterError("after", "is not a cursor that this service gave for this sort")
    return tuple(given[2:])


def _found(snapshot: Snapshot, cards: Sequence[Card], text: str) -> Sequence[int]:
    """The places among the cards that a search finds. Raises ParameterError if it is a query that cannot be used."""
    if text.lstrip().startswith("{"):
        ids = {stored.id for stored in filtered(snapshot.documents, text, "text")}
        return [place for place, card in enumerate(cards) if card.by_name[1] in ids]
    found: Sequence[int] = range(len(cards))
    for word in text.lower().split():
        found = [place for place in found if word in cards[place].words]
    return found
