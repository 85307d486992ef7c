"""Statements that are forwarded as they are, as they arrive."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import orjson
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_pipeline, test_stream
from apache_beam.transforms.window import TimestampedValue

from schemas import KINDS, Kind, Record, Reject
from tests.support.statements import statement
from transforms.accounting.board import Board
from transforms.derive_streaming import AddVoids, DeriveStreaming
from transforms.read_kinesis import AdmitStreaming
from transforms.reading.input_formats import statement_format
from transforms.sessions.window import Window
from transforms.statements.passage import CONFLICT

DAY = 86_400.0
_seen: list[Record] = []
_refused: list[Reject] = []


def live(
    arriving: Iterable[tuple[float, Any]],
    kinds: Sequence[Kind] = ("statement",),
    known_for: float = DAY,
    board: Board | None = None,
) -> list[Record]:
    """The records of messages that arrive at those times, in s."""
    stream = test_stream.TestStream()
    for after, message in arriving:
        at = 1_772_400_000.0 + after
        data = ("shard:1", message if isinstance(message, bytes) else orjson.dumps(message))
        stream = stream.advance_watermark_to(at).add_elements([TimestampedValue(data, at)])
    format_ = statement_format("xapi", kinds)
    with test_pipeline.TestPipeline(options=PipelineOptions(["--streaming"])) as pipeline:
        admitted = (
            pipeline
            | stream.advance_watermark_to_infinity()
            | beam.Map(_as_it_is).with_output_types(tuple[str, bytes])
            | AdmitStreaming("a", format_)
        )
        lines = admitted.lines
        if format_.has_voids:
            lines = lines | AddVoids(admitted.voids, DAY, format_)
        _seen.clear()
        _refused.clear()
        derived = lines | DeriveStreaming(
            DAY,
            input_format=format_,
            window=Window(kinds=tuple(kinds)),
            known_for=known_for,
            place="kinesis://a",
            board=board,
        )
        _ = derived.records | beam.Map(_see)
        _ = derived.rejects | "See rejects" >> beam.Map(_refuse)
    return list(_seen)


def _see(block: list[Record]) -> None:
    _seen.extend(block)


def _refuse(reject: Reject) -> None:
    _refused.append(reject)


def _as_it_is(element: tuple[str, bytes]) -> tuple[str, bytes]:
    return element


def test_statements_leave_as_they_arrive_and_as_they_were() -> None:
    sent = b'{"x": 1.0, ' + orjson.dumps(statement(1))[1:]
    answer = {"statements": [statement(3), statement(2)], "more": ""}
    records = live([(0, sent), (1, answer)])
    assert [record.body for record in records] == [sent, orjson.dumps(statement(3)), orjson.dumps(statement(2))]
    assert {record.kind for record in records} == {"statement"}


def test_one_that_arrives_again_is_dropped_for_as_long_as_it_is_known() -> None:
    again = statement(1, stored="2026-03-02T00:00:00Z")
    other = statement(1, result={"success": True})
    records = live([(0, statement(1)), (1, again), (2, other), (3, statement(2)), (DAY / 2, again)], known_for=DAY / 4)
    assert [record.body for record in records] == [orjson.dumps(each) for each in (statement(1), statement(2), again)]
    (refused,) = _refused
    assert (refused.file, refused.content) == ("kinesis://a", orjson.dumps(other))
    assert statement(1)["id"] in refused.reason


def test_the_board_has_what_was_given_on_and_how_long_after_it_arrived(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    initialized = {"id": "http://adlnet.gov/expapi/verbs/initialized"}
    first = statement(1, verb=initialized, context={"registration": "r"})
    conflict = statement(1, result={"success": True})
    assert len(live([(0, first), (1, first), (2, conflict), (3, statement(2))], ("event",), board=board)) == 1
    assert len(live([(0, first), (1, first), (2, conflict), (3, statement(2))], ("statement",), board=board)) == 2
    job = board.mine().job
    assert (job.folded, job.derived, job.rejected) == (6, 3, {CONFLICT: 1}), "two are passed over"
    assert job.phase == "delivering"
    assert job.lag is not None
    assert abs(job.lag - (time.time() - 1_772_400_000)) < 600, "since the first of a bundle arrived"


@pytest.mark.parametrize("verb", ["initialized", "answered"])
def test_a_statement_comes_before_what_is_derived_of_it(verb: str) -> None:
    def in_session(number: int, verb: str) -> dict[str, Any]:
        of_verb = {"id": f"http://adlnet.gov/expapi/verbs/{verb}"}
        return statement(number, verb=of_verb, context={"registration": "r"})

    sent = [in_session(1, verb), in_session(1, verb), statement(2), in_session(3, "completed")]
    records = live(enumerate(sent), KINDS)
    kinds = ["statement", *(["event"] if verb == "initialized" else []), "statement", "statement", "event", "status"]
    assert [record.kind for record in records] == kinds
