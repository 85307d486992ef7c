"""Letters go in front of what is new of their users, or nothing of these goes at all."""

import apache_beam as beam
import pytest
from apache_beam.testing import test_pipeline, util

from schemas.buckets import bucket_of
from tests.support.forwarder_documents import http_document
from tests.support.receiver import Receiver
from tests.support.settlements import documented_record, given_up
from tests.support.workshop import Workshop
from transforms.accounting.board import Board
from transforms.bundles import BATCH_SIZE
from transforms.catch_up import MatchBehindLetters
from transforms.forwarders.secrets import References
from transforms.forwarders.source import ForwarderSource, launch_rules, read_forwarders
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.index import index_history
from transforms.receipts.journal import Journal
from transforms.receipts.outage_letters import OutageLetters

LETTERS = BATCH_SIZE + 10


def numbers(matches: list[Match]) -> list[int]:
    return [match.record.place for match in matches]


@pytest.mark.parametrize("stops", [False, True])
def test_a_run_that_is_told_to_stop_among_the_letters_gives_nothing_behind_them(
    workshop: Workshop, receiver: Receiver, stops: bool
) -> None:
    workshop.write_forwarders({**http_document(receiver), "_id": "f"})
    rules = launch_rules(References(), trusted=True, require_organisation=False)
    location = str(workshop.path / "forwarders.json")
    found = read_forwarders(location, rules)
    source = ForwarderSource(location, rules.references, found.digest, ("f",))
    journal = Journal(str(workshop.output), "r000001-20260101T000000Z-abcdef", "w")
    journal.settle([given_up(f"{number}", "f", "http_503", user="ann", place=number) for number in range(LETTERS)])
    journal.close()
    letters = OutageLetters(1, block_user=False)
    history = index_history(str(workshop.output), "r000002-20260101T000000Z-abcdef", catch_up=letters)
    board = Board(str(workshop.path))
    if stops:
        board.stop()
    with test_pipeline.TestPipeline() as pipeline:
        new = pipeline | beam.Create([(bucket_of("ann"), [documented_record("new", user="ann", place=LETTERS)])])
        caught_up = new | MatchBehindLetters(history, source, StatementBuilder("https://example.org"), board)
        given = [] if stops else [[*range(BATCH_SIZE)], [*range(BATCH_SIZE, LETTERS)], [LETTERS]]
        util.assert_that(caught_up.matches | beam.Map(numbers), util.equal_to(given))
