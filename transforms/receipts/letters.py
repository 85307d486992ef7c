"""Which dead letters are sent again, and why others stay where they are (docs/spec/forwarders.md section 4)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas import DeadLetter, Record
from schemas.record import decode_record
from transforms.forwarders import Forwarder
from transforms.matching.matcher import stored_document
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.query import MatchResult, compile_query
from transforms.receipts.settlement_filter import SettlementFilter
from transforms.sinks.outages import BLOCKED_BY_EARLIER

NOT_SELECTED = "not_selected"
"""Why a letter stays that the filter does not choose."""


class Decision(NamedTuple):
    """What becomes of one dead letter.

    Attributes:
        letter: the letter.
        record: of the letter.
        kept: why it stays where it is; None if it is sent.
        ahead: whether it is sent though an earlier letter of its user and forwarder stays, which is still due.
    """

    letter: DeadLetter
    record: Record
    kept: str | None
    ahead: bool


class PresentDocuments:
    """Asks the present documents about the records of dead letters.

    Args:
        forwarders: active and valid.
        statements: builds the statements that queries see.
    """

    def __init__(self, forwarders: Iterable[Forwarder], statements: StatementBuilder) -> None:
        self._forwarders = {forwarder.id: forwarder for forwarder in forwarders}
        self._statements = statements
        self._queries = {id_: compile_query(forwarder.query) for id_, forwarder in self._forwarders.items()}

    def why_not(self, letter: DeadLetter, record: Record) -> str | None:
        """Why the record is no longer due to the forwarder of its letter; None when it is.

        Raises:
            StorageError: the letter is not as it was written.
        """
        forwarder = self._forwarders.get(letter.forwarder_id)
        if forwarder is None:
            return "no_active_forwarder"
        if not_wanted(record, forwarder):
            return "out_of_scope"
        result = self._queries[forwarder.id].evaluate(stored_document(letter, record, self._statements))
        if result is MatchResult.MATCH:
            return None
        return "no_longer_matches" if result is MatchResult.NO_MATCH else "undecided"


def decide(
    letters: Iterable[DeadLetter], documents: PresentDocuments, chosen: SettlementFilter, *, block_user: bool
) -> Iterator[Decision]:
    """What becomes of each letter of some users in a redrive.

    What is sent is in order. What stays and is still due cannot be: if it is sent one day, it comes after what is sent
    now. With `block_user` nothing is sent past it. Without it letters are, as the run that gave it up went on past it,
    and each of them is marked.

    Args:
        letters: each user's in their order. Those to forwarders that do not concern `chosen` are left out.
        documents: what the letters are due to now.
        chosen: which of them are to be sent.
        block_user: whether a letter stays behind an earlier one of its user that stays and is still due
            (`--on_failure`).

    Yields:
        One decision for each letter that is looked at, in order. Memory holds the users with a letter that stays.
    """
    waiting: set[tuple[str, str]] = set()
    for letter in letters:
        if not chosen.concerns(letter.forwarder_id):
            continue
        record = decode_record(letter.record)
        due = (letter.forwarder_id, record.user_id)
        is_behind = due in waiting
        kept = documents.why_not(letter, record)
        is_due = kept in (None, "undecided")
        if not chosen.selects(letter):
            kept = NOT_SELECTED
        elif is_behind and block_user and is_due:
            kept = BLOCKED_BY_EARLIER
        if kept is not None and is_due:
            waiting.add(due)
        yield Decision(letter, record, kept, is_behind and kept is None)
