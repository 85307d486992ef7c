"""The state of one session: what the fold of its activity remembers."""

from copy import copy

import msgspec

from schemas import Response, SubscoreDefinition, Tag
from schemas.activity import Number, Scalar
from transforms.reading.xapi_session import Resolution


class Answer(msgspec.Struct, array_like=True):
    """What is known of one response at one moment of the session."""

    item_reference: str
    attempted: bool | None = None
    score: Number | None = None
    max_score: Number | None = None
    revision: int | None = None


class Session(msgspec.Struct, array_like=True):
    """The state of one session: all that the fold remembers between two activities. It can be serialised.

    What it knows of its answers altogether is counted as they change: an activity must not cost more, the more answers
    the session has.

    Attributes:
        earliest: epoch ms of the first activity.
        started: epoch ms of the first START.
        submitted: epoch ms of the last SUBMIT that still counts.
        session_duration: in the unit of the player.
        answers: by `response_id`.
        num_attempted: answers that were attempted.
        num_scored: answers that have a score.
        num_unscored: answers that were attempted and have no score.
        items: the references of the items, in the order in which they were met; a dict that serves as an ordered set.
        metadata: what the activities brought along, the latest of each name.
        own_score: the session's own score and its maximum, in place of the sums of the responses.
        sent_score: the body of the last score snapshot.
        scores_touched: whether scores may have changed since that was last looked at.
        rescored: answers that have changed since `ScoreSnapshots` last added them up, by `response_id`: as they were
            then, or None for new ones.
        retagged: items that are new, or whose tags have changed, since then.
    """

    organisation: str | None
    lrs_id: str | None
    session_id: str
    user_id: str
    activity_id: str | None = None
    status: str | None = None
    earliest: int = 0
    started: int | None = None
    submitted: int | None = None
    session_duration: int | None = None
    num_questions: int | None = None
    answers: dict[str, Answer] = {}
    num_attempted: int = 0
    num_scored: int = 0
    num_unscored: int = 0
    items: dict[str, None] = {}
    subscores: list[SubscoreDefinition] = []
    item_tags: dict[str, list[Tag]] = {}
    metadata: dict[str, Scalar] = {}
    own_score: tuple[Number, Number | None] | None = None
    sent_score: bytes | None = None
    scores_touched: bool = False
    rescored: dict[str, Answer | None] = {}
    retagged: dict[str, None] = {}
    _sorted_metadata: dict[str, Scalar] | None = None

    @property
    def scores_known(self) -> bool:
        """Whether the session has a score of its own, or some answer has one."""
        return self.own_score is not None or self.num_scored > 0

    @property
    def all_scored(self) -> bool:
        """Whether no answer that was attempted lacks its score."""
        return not self.num_unscored

    def let_go(self) -> None:
        """Let go of what is made anew when it is needed, before the session is put away.

        A `ScoreSnapshots` of the session is of no use after that.
        """
        self.rescored = {}
        self.retagged = {}
        self._sorted_metadata = None

    def take_response(self, response: Response) -> None:
        """Bring the answer to a question forward. A revision that is older than the one that is known is left out."""
        response_id, item = response.response_id, response.item_reference
        answer = self.answers.get(response_id)
        if answer is None:
            self._take_first(response)
            return
        if response.revision is not None and answer.revision is not None and response.revision < answer.revision:
            return
        if response_id not in self.rescored:
            self.rescored[response_id] = copy(answer)
        self.scores_touched = True
        if item not in self.items:
            self.items[item] = self.retagged[item] = None
        answer.item_reference = item
        if response.revision is not None:
            answer.revision = response.revision
        was_attempted, was_scored = answer.attempted is True, answer.score is not None
        if response.attempted is not None:
            answer.attempted = response.attempted
        if response.score is not None or response.max_score is not None:
            answer.score, answer.max_score = response.score, response.max_score
        is_attempted, is_scored = answer.attempted is True, answer.score is not None
        if is_attempted is not was_attempted or is_scored is not was_scored:
            self.num_attempted += is_attempted - was_attempted
            self.num_scored += is_scored - was_scored
            self.num_unscored += (is_attempted and not is_scored) - (was_attempted and not was_scored)

    def _take_first(self, response: Response) -> None:
        """Take the first answer to a question. Most answers are the first, and need no comparison."""
        response_id, item, score = response.response_id, response.item_reference, response.score
        self.answers[response_id] = Answer(item, response.attempted, score, response.max_score, response.revision)
        self.rescored[response_id] = None
        self.scores_touched = True
        if item not in self.items:
            self.items[item] = self.retagged[item] = None
        if score is not None:
            self.num_scored += 1
        if response.attempted:
            self.num_attempted += 1
            self.num_unscored += score is None

    def take_tags(self, item_tags: dict[str, list[Tag]]) -> None:
        """Give items their tags, in place of those that they had."""
        self.scores_touched = True
        self.item_tags.update(item_tags)
        # Sorted, since copies of one activity may differ in the order of a map, and a record's bytes must not.
        in_order = dict.fromkeys(sorted(item_tags))
        self.items.update(in_order)
        self.retagged.update(in_order)

    def take_metadata(self, metadata: dict[str, Scalar]) -> None:
        """Add what an activity brought along."""
        self.metadata.update(metadata)
        self._sorted_metadata = None

    def sorted_metadata(self) -> dict[str, Scalar]:
        """The metadata by name, in the same order whatever order the activities had it in. It is never changed."""
        if self._sorted_metadata is None:
            self._sorted_metadata = dict(sorted(self.metadata.items()))
        return self._sorted_metadata


class Reached(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where the last activity of a session stands in its order (docs/spec/records.md section 2).

    Attributes:
        occurred_at: its time, epoch ms.
        has_seq: whether all activities of that instant have a `seq`, which then decides.
        seq: its own; 0 if it has none.
        rank: of its action.
        record_id: its own.
    """

    occurred_at: int
    has_seq: bool
    seq: int
    rank: int
    record_id: str


class Folded(msgspec.Struct, array_like=True):
    """A session as far as it has been folded, so that activity which comes after that can be folded on to it.

    It can be serialised.

    Attributes:
        session: its state.
        place: how many activities were folded.
        reached: where the last of them stands.
        resolution: where activity is statements, what they decide about those to come.
    """

    session: Session
    place: int
    reached: Reached
    resolution: Resolution | None = None
