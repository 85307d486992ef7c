"""Score snapshots of one session: the sums of its responses, kept up with the responses that change.

A session may have 100,000 responses, and be rescored response by response. So a snapshot does not add up all of them
again, but only what has changed since the last one. The rules are in docs/spec/records.md section 3.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from schemas import SubscoreDefinition, Tag
from schemas.activity import Number
from schemas.numbers import spelled, spelled_alike
from transforms.sessions.scores import ScoreSum
from transforms.sessions.session import Answer, Session


class ScoreSnapshots:
    """Makes the score snapshots of one session.

    What they are depends on the session alone: `ScoreSnapshots` that are made anew say the same as old ones. A snapshot
    costs as much as has changed since the last one, and as much as it is long. If the definitions of the subscores
    change, it costs as much as the session is large.

    Args:
        session: `rescored` and `retagged` in it are emptied with each snapshot.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._score = ScoreSum()
        self._max_score = ScoreSum()
        self._subscores: _Subscores | None = None
        self._has_begun = False

    def snapshot(self) -> tuple[dict[str, Any], bytes]:
        """The message as the session stands, and its compact JSON. Of the message nothing may be changed."""
        session = self.session
        self._catch_up()
        if session.own_score is None:
            score, max_score = self._score.total(), self._max_score.total()
        else:
            score, max_score = map(_sum_of_one, session.own_score)
        message: dict[str, Any] = {
            "user_id": session.user_id,
            "activity_id": session.activity_id,
            "session_id": session.session_id,
            "score": score,
            "max_score": max_score,
            "subscores": [],
            "status": session.status,
        }
        if self._subscores is None:
            return message, _encode(message, (score, max_score))
        message["subscores"], bodies = self._subscores.written()
        return message, _encode({**message, "subscores": bodies}, (score, max_score))

    def _catch_up(self) -> None:
        session = self.session
        if self._has_begun:
            now = {response_id: session.answers[response_id] for response_id in session.rescored}
            before = {response_id: answer for response_id, answer in session.rescored.items() if answer is not None}
        else:
            now, before = session.answers, {}
            self._has_begun = True
        self._score.add([answer.score for answer in now.values()])
        self._max_score.add([answer.max_score for answer in now.values()])
        if before:
            self._score.remove([answer.score for answer in before.values()])
            self._max_score.remove([answer.max_score for answer in before.values()])
        if not session.subscores:
            self._subscores = None
        elif self._subscores is None or self._subscores.definitions != session.subscores:
            self._subscores = _Subscores(session.subscores)
            self._subscores.tag(session.items, session.item_tags)
            self._subscores.add(session.answers)
        else:
            self._subscores.remove(before)
            self._subscores.add(now)
            self._subscores.tag(session.retagged, session.item_tags)
        session.rescored = {}
        session.retagged = {}


class _Subscores:
    """The subscores of a session.

    Args:
        definitions: in their order.
    """

    def __init__(self, definitions: Sequence[SubscoreDefinition]) -> None:
        self.definitions = definitions
        self._all = [_Subscore(definition) for definition in definitions]
        # As they were written last, and the indices of those that have changed since.
        self._messages: list[dict[str, Any]] = [{}] * len(self._all)
        self._bodies: list[orjson.Fragment | None] = [None] * len(self._all)
        self._changed = set(range(len(self._all)))
        self._by_tag: dict[tuple[str, str], list[int]] = {}
        # By item: the indices of the subscores that it is in.
        self._of_item: dict[str, set[int]] = {}
        # By item, if some subscore is defined by tags: its answers, and its number in the session's order.
        self._answers: dict[str, dict[str, Answer]] = {}
        self._numbers: dict[str, int] = {}
        for index, definition in enumerate(definitions):
            if definition.items:
                for item in definition.items:
                    self._of_item.setdefault(item, set()).add(index)
            else:
                for tag in definition.tags or ():
                    self._by_tag.setdefault((tag.type, tag.name), []).append(index)

    def written(self) -> tuple[list[dict[str, Any]], list[orjson.Fragment | None]]:
        """The messages of the subscores, and their compact JSON. Only what has changed is written anew.

        The messages are never changed. The list of the JSON is good until the next call.
        """
        for index in self._changed:
            self._messages[index], self._bodies[index] = self._all[index].written()
        self._changed.clear()
        return self._messages.copy(), self._bodies

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Count answers, by `response_id`."""
        if self._by_tag:
            for response_id, answer in answers.items():
                self._answers.setdefault(answer.item_reference, {})[response_id] = answer
        for index, counted in self._by_subscore(answers.values()).items():
            self._all[index].add(counted)
            self._changed.add(index)

    def remove(self, answers: Mapping[str, Answer]) -> None:
        """Take away answers, as they were counted."""
        if self._by_tag:
            for response_id, answer in answers.items():
                del self._answers[answer.item_reference][response_id]
        for index, counted in self._by_subscore(answers.values()).items():
            self._all[index].remove(counted)
            self._changed.add(index)

    def _by_subscore(self, answers: Iterable[Answer]) -> dict[int, list[Answer]]:
        found: dict[int, list[Answer]] = {}
        for answer in answers:
            for index in self._of_item.get(answer.item_reference, ()):
                found.setdefault(index, []).append(answer)
        return found

    def tag(self, items: Iterable[str], item_tags: Mapping[str, Iterable[Tag]]) -> None:
        """Take items into the subscores that one of their tags is of, and out of those that none is of any longer.

        Args:
            items: whose tags may have changed, or that are new. New ones are in the session's order.
            item_tags: of all items.
        """
        if not self._by_tag:
            return
        for item in items:
            number = self._numbers.setdefault(item, len(self._numbers))
            tags = item_tags.get(item, ())
            tagged = {index for tag in tags for index in self._by_tag.get((tag.type, tag.name), ())}
            known = self._of_item.setdefault(item, set())
            answers = self._answers.get(item, {}).values()
            for index in tagged - known:
                self._all[index].take_in(number, item, answers)
                self._changed.add(index)
            lost = {index for index in known - tagged if not self.definitions[index].items}
            for index in lost:
                self._all[index].take_out(number, item, answers)
                self._changed.add(index)
            self._of_item[item] = (known | tagged) - lost


class _Subscore:
    """One subscore.

    Attributes:
        definition: as the session has it.
    """

    __slots__ = (
        "_attempted_max_score",
        "_items",
        "_items_body",
        "_max_score",
        "_num_attempted",
        "_num_questions",
        "_score",
        "_tagged",
        "definition",
    )

    def __init__(self, definition: SubscoreDefinition) -> None:
        self.definition = definition
        self._num_questions = 0
        self._num_attempted = 0
        self._score = ScoreSum()
        self._max_score = ScoreSum()
        self._attempted_max_score = ScoreSum()
        # The items that were found by their tags, with their numbers in the session's order.
        self._tagged: list[tuple[int, str]] = []
        self._items: list[str] | None = definition.items or None
        self._items_body: orjson.Fragment | None = None

    def add(self, answers: Collection[Answer]) -> None:
        """Count answers to the items."""
        attempted = [answer.max_score for answer in answers if answer.attempted]
        self._num_questions += len(answers)
        self._num_attempted += len(attempted)
        self._score.add([answer.score for answer in answers])
        self._max_score.add([answer.max_score for answer in answers])
        self._attempted_max_score.add(attempted)

    def remove(self, answers: Collection[Answer]) -> None:
        """Take away answers, as they were counted."""
        attempted = [answer.max_score for answer in answers if answer.attempted]
        self._num_questions -= len(answers)
        self._num_attempted -= len(attempted)
        self._score.remove([answer.score for answer in answers])
        self._max_score.remove([answer.max_score for answer in answers])
        self._attempted_max_score.remove(attempted)

    def take_in(self, number: int, item: str, answers: Collection[Answer]) -> None:
        """Add an item that has come to have a tag of the subscore, with its answers."""
        insort(self._tagged, (number, item))
        self._items = self._items_body = None
        self.add(answers)

    def take_out(self, number: int, item: str, answers: Collection[Answer]) -> None:
        """Remove an item that has lost all tags of the subscore, with its answers."""
        del self._tagged[bisect_left(self._tagged, (number, item))]
        self._items = self._items_body = None
        self.remove(answers)

    def written(self) -> tuple[dict[str, Any], orjson.Fragment]:
        """The subscore as a snapshot has it, and its compact JSON."""
        if self._items is None:
            self._items = [item for _, item in self._tagged]
        if self._items_body is None:
            self._items_body = orjson.Fragment(orjson.dumps(self._items))
        numbers = [total.total() or 0 for total in (self._score, self._max_score, self._attempted_max_score)]
        message = {
            "id": self.definition.id,
            "title": self.definition.title,
            "num_questions": self._num_questions,
            "num_attempted": self._num_attempted,
            "score": numbers[0],
            "max_score": numbers[1],
            "attempted_max_score": numbers[2],
            "items": self._items,
        }
        return message, orjson.Fragment(_encode({**message, "items": self._items_body}, numbers))


def _sum_of_one(value: Number | None) -> Number | None:
    # As messages have it: 16.0 is 16.
    alone = ScoreSum()
    alone.add([value])
    return alone.total()


def _encode(message: dict[str, Any], numbers: Iterable[Number | None]) -> bytes:
    """A message as compact JSON, with its numbers spelled by our rule if not every encoder spells them so."""
    return orjson.dumps(message if all(map(spelled_alike, numbers)) else spelled(message))
