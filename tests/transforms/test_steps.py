"""The steps as Beam sees them: dataclasses that never call PTransform's own __init__."""

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler

from schemas import Record, Reject
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.deliver import DeliverMatches
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions
from transforms.derive import DeriveSettings
from transforms.derive_streaming import DeriveStreaming
from transforms.forwarders.secrets import References
from transforms.forwarders.source import ForwarderSource
from transforms.match import MatchForwarders
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.preview import CountMatches, ExplainRecord
from transforms.read_kinesis import ReadKinesis
from transforms.reading.input_formats import XAPI
from transforms.receipts.index import HistoryIndex
from transforms.redrive import ReadDeadLetters
from transforms.sessions.window import Window
from transforms.sources.kinesis_input import KinesisInput
from transforms.write import WriteRecords, WriteRejects, WriteSummary

SOURCE = ForwarderSource("forwarders.json", References("FORWARDER_", None), "digest", ("a",))
STATEMENTS = StatementBuilder()
OPTIONS = DeliverOptions("out", "run", HistoryIndex("out", ""), {}, (), DeliverySettings())
STEPS: list[tuple[beam.PTransform[Any, Any], Any, Any]] = [
    (MatchForwarders(SOURCE, STATEMENTS), list[Record], list[Match]),
    (CountMatches(SOURCE, STATEMENTS), list[Match], Summary),
    (ExplainRecord("id", SOURCE, STATEMENTS), list[Record], Summary),
    (DeliverMatches(SOURCE, STATEMENTS, OPTIONS, Board("board")), list[Match], Summary),
    (DeriveStreaming(60.0), None, None),
    (WriteRecords("out", "jsonl"), list[Record], None),
    (WriteRejects("out/rejects/run"), Reject, None),
    (WriteSummary("summary"), Summary, None),
    (ReadKinesis(KinesisInput("a", "eu-west-1"), "a.jar"), None, tuple[str, bytes]),
    (ReadDeadLetters(HistoryIndex("out", ""), SOURCE, STATEMENTS, Board("board")), None, None),
]


@pytest.mark.parametrize("step", [step for step, _, _ in STEPS], ids=lambda step: type(step).__name__)
def test_a_step_has_a_label_and_travels(step: beam.PTransform[Any, Any]) -> None:
    assert step.label == type(step).__name__
    assert ("Mine" >> step).label == "Mine"
    again = pickler.loads(pickler.dumps(step))
    assert (type(again), again.label) == (type(step), step.label)
    assert again.__dict__.keys() == step.__dict__.keys()


@pytest.mark.parametrize(
    ("step", "taken", "given"),
    [case for case in STEPS if case[1] and case[2]],
    ids=lambda value: type(value).__name__ if isinstance(value, beam.PTransform) else "",
)
def test_beam_knows_the_types_of_a_step(step: beam.PTransform[Any, Any], taken: Any, given: Any) -> None:
    hints = step.get_type_hints()
    convert: Callable[[Any], Any] = beam.typehints.native_type_compatibility.convert_to_beam_type
    assert hints.simple_output_type("it") == convert(given)
    assert hints.input_types[0][0] == convert(taken)


def test_settings_travel() -> None:
    settings = DeriveSettings(window=Window(since=1), input_format=XAPI)
    assert pickler.loads(pickler.dumps(settings)) == settings
