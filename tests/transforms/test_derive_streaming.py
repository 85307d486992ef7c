"""Activity as it arrives, through Beam's TestStream, against one batch fold over all of it."""

import random
from collections.abc import Sequence

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_pipeline, test_stream
from apache_beam.transforms.window import TimestampedValue

from pipeline.sample import main as sample
from schemas import Activity, Record
from tests.support.activity import activity
from transforms.derive_streaming import FoldStreaming
from transforms.reading.activity import ActivityDecoder, encode
from transforms.sessions.derivation import Derivation

DAY = 86_400


@pytest.fixture(scope="module")
def activities(tmp_path_factory: pytest.TempPathFactory) -> list[Activity]:
    file = tmp_path_factory.mktemp("streaming") / "sample.jsonl"
    assert not sample(["--sessions=8", "--seed=4", f"--output={file}"])
    decode = ActivityDecoder().decode
    return sorted(map(decode, file.read_bytes().splitlines()), key=lambda each: each.occurred_at)


def live(arriving: Sequence[tuple[Activity, float]], ttl: float = 30 * DAY) -> list[Record]:
    """What the fold emits for activity that arrives at those times (epoch s), in the order of the list."""
    stream = test_stream.TestStream()
    for chunk in (arriving[start : start + 50] for start in range(0, len(arriving), 50)):
        stream = stream.advance_watermark_to(chunk[0][1])
        stream = stream.add_elements([TimestampedValue((each.user_id, encode(each)), at) for each, at in chunk])
    with test_pipeline.TestPipeline(options=PipelineOptions(["--streaming"])) as pipeline:
        records = (
            pipeline
            | stream.advance_watermark_to_infinity()
            | beam.Map(_as_it_is).with_output_types(tuple[str, bytes])
            | beam.ParDo(FoldStreaming(ttl))
        )
        _seen.clear()
        _ = records | beam.Map(_see)
    return list(_seen)


_seen: list[Record] = []


def _see(block: list[Record]) -> None:
    _seen.extend(block)


def _as_it_is(element: tuple[str, bytes]) -> tuple[str, bytes]:
    return element


def one_after_the_other(activities: Sequence[Activity]) -> list[tuple[Activity, float]]:
    return [(each, 1_600_000_000.0 + second) for second, each in enumerate(activities)]


def whole(activities: Sequence[Activity]) -> set[str]:
    users = {each.user_id for each in activities}
    return {
        record.id
        for user in users
        for record in Derivation().user([each for each in activities if each.user_id == user])
    }


def ever_right(arriving: Sequence[Activity]) -> set[str]:
    """The ids of every record that the batch fold of some first part of the activity has."""
    known: dict[str, list[Activity]] = {}
    ids: set[str] = set()
    for arrived in arriving:
        known.setdefault(arrived.user_id, []).append(arrived)
        ids |= {record.id for record in Derivation().user(known[arrived.user_id])}
    return ids


def test_in_order_activity_gives_exactly_the_records_of_batch(activities: list[Activity]) -> None:
    records = live(one_after_the_other(activities))
    assert {record.id for record in records} >= whole(activities)
    by_user = [record.id for record in records if record.user_id == activities[0].user_id]
    expected = Derivation().user([each for each in activities if each.user_id == activities[0].user_id])
    assert [each for each in by_user if each in {record.id for record in expected}] == [e.id for e in expected]


@pytest.mark.parametrize("how", ["shuffled", "late", "duplicated"])
def test_however_it_arrives_all_records_of_batch_are_sent(activities: list[Activity], how: str) -> None:
    chance = random.Random(3)  # noqa: S311
    arriving = list(activities)
    if how == "shuffled":
        chance.shuffle(arriving)
    elif how == "late":
        late = [each for each in arriving if chance.random() < 0.1]
        arriving = [each for each in arriving if each not in late] + late
    else:
        arriving = [each for each in arriving for _ in range(chance.choice([1, 1, 2]))]
    records = live(one_after_the_other(arriving))
    expected = whole(activities)
    ids = {record.id for record in records}
    assert ids >= expected
    assert ids <= ever_right(arriving), "what is not in the batch fold was right when it was sent"
    if how == "duplicated":
        assert len(records) == len({record.id for record in records}), "a duplicate derives nothing"


def test_a_quiet_session_is_forgotten_by_arrival() -> None:
    start, submit = activity("START", 0), activity("SUBMIT", 100)
    (*_, snapshot) = live([(start, 1_600_000_000.0), (submit, 1_600_000_000.0 + 2 * DAY)], ttl=3 * DAY)
    assert snapshot.message["dt_started"] == "2020-02-17T00:00:00Z"
    (*_, snapshot) = live([(start, 1_600_000_000.0), (submit, 1_600_000_000.0 + 4 * DAY)], ttl=3 * DAY)
    assert snapshot.message["dt_started"] == "2020-02-17T00:01:40Z"
