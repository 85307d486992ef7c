"""xAPI statements as they arrive, through Beam's TestStream: what is voided, whoever says so and whenever it comes."""

import random
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import orjson
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_pipeline, test_stream
from apache_beam.transforms.window import TimestampedValue

from schemas import Record
from transforms.derive_streaming import AddVoids, DeriveStreaming
from transforms.read_kinesis import AdmitStreaming
from transforms.reading.input_formats import XAPI
from transforms.reading.voids import without_voided
from transforms.reading.xapi import PassedOverError, StatementDecoder
from transforms.reading.xapi_session import resolve_session
from transforms.sessions.derivation import Derivation

DAY = 86_400
LEARNER = {"account": {"homePage": "https://lms.example.org", "name": "ann"}}
ADMIN = {"mbox": "mailto:admin@example.org"}


def statement(number: int, verb: str, thing: Any = "https://x/course", **more: Any) -> dict[str, Any]:
    return {
        "id": f"statement-{number}",
        "actor": LEARNER,
        "verb": {"id": f"http://adlnet.gov/expapi/verbs/{verb}"},
        "object": {"id": thing} if isinstance(thing, str) else thing,
        "context": {"registration": "r"},
        "timestamp": f"2026-03-01T09:00:{number:02}Z",
        **more,
    }


def voiding(number: int, *, of: int) -> dict[str, Any]:
    about = {"objectType": "StatementRef", "id": f"STATEMENT-{of}"}
    return statement(number, "voided", about, actor=ADMIN, context={})


STATEMENTS = [
    statement(1, "initialized"),
    statement(2, "answered", {"id": "https://x/q1", "definition": {"interactionType": "choice"}}),
    statement(3, "completed", result={"score": {"raw": 16, "max": 20}}),
    statement(4, "passed", result={"score": {"raw": 17, "max": 20}}),
]
VOIDS = [voiding(5, of=4), voiding(6, of=2)]

_seen: list[Record] = []


def live(
    arriving: Sequence[dict[str, Any]], ttl: float = 30 * DAY, seconds: Sequence[float] | None = None
) -> list[Record]:
    """What is emitted for statements that arrive one after the other, at these `seconds` of a day."""
    stream = test_stream.TestStream()
    for number, each in enumerate(arriving):
        at = 1_772_000_000.0 + (seconds[number] if seconds else number)
        data = ("shard:1", orjson.dumps(each))
        stream = stream.advance_watermark_to(at).add_elements([TimestampedValue(data, at)])
    with test_pipeline.TestPipeline(options=PipelineOptions(["--streaming"])) as pipeline:
        admitted = (
            pipeline
            | stream.advance_watermark_to_infinity()
            | beam.Map(_as_it_is).with_output_types(tuple[str, bytes])
            | AdmitStreaming("a", XAPI)
        )
        lines = admitted.lines | AddVoids(admitted.voids, ttl, XAPI)
        _seen.clear()
        _ = (lines | DeriveStreaming(ttl, input_format=XAPI)).records | beam.Map(_see)
    return list(_seen)


def _see(block: list[Record]) -> None:
    _seen.extend(block)


def _as_it_is(element: tuple[str, bytes]) -> tuple[str, bytes]:
    return element


def whole(statements: Sequence[dict[str, Any]]) -> list[Record]:
    activities, voids = [], set()
    for each in statements:
        try:
            activities.append(StatementDecoder().decode(orjson.dumps(each)))
        except PassedOverError as passed_over:
            voids.add(passed_over.voids)
    kept, _ = without_voided(activities, [void for void in voids if void is not None])
    return Derivation(resolve_session=resolve_session).user(kept)


def ids(records: Sequence[Record]) -> list[str]:
    return [record.id for record in records]


def test_in_order_the_records_are_those_of_batch() -> None:
    assert ids(live(STATEMENTS)) == ids(whole(STATEMENTS))


@pytest.mark.parametrize("seed", range(4))
def test_whenever_a_void_comes_what_it_makes_new_is_sent_and_all_else_was_right(seed: int) -> None:
    arriving = [*STATEMENTS, *VOIDS, STATEMENTS[3], STATEMENTS[1]]
    random.Random(seed).shuffle(arriving)  # noqa: S311
    # A statement that comes after its void may be folded before the void has found it.
    known = [arriving[: count + 1] for count in range(len(arriving))]
    known += [[each for each in part if each not in VOIDS[:1]] for part in known]
    known += [[each for each in part if each not in VOIDS[1:]] for part in known]
    ever_right = {record.id for part in known for record in whole(part)}
    arrived = ids(live(arriving))
    assert set(ids(whole(arriving))) <= set(arrived) <= ever_right
    assert len(arrived) == len(set(arrived))


def test_a_void_is_known_for_as_long_as_a_session() -> None:
    def attempted(ttl: float) -> list[int]:
        records = live([VOIDS[1], *STATEMENTS[:3]], ttl, [0, DAY, DAY + 30, DAY + 60])
        return [record.message["num_attempted"] for record in records if record.kind == "status"]

    assert attempted(2 * DAY) == [0]
    assert attempted(DAY / 2) == [1]


def test_an_answer_of_an_lrs_in_one_message_is_all_its_statements() -> None:
    arrived = live([{"statements": [*STATEMENTS, *VOIDS], "more": ""}])
    assert set(ids(whole([*STATEMENTS, *VOIDS]))) <= set(ids(arrived))
