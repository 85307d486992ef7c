"""The job itself: `python -m pipeline`'s own run, or its graph with ends that count.

The counting graphs are the job's steps as they are, up to a point, on Beam's FnApiRunner.
"""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from benchmarks.encoding import encoded
from benchmarks.workload import Tally, sum_of
from pipeline.beam_options import beam_options
from pipeline.beam_signatures import remember_signatures
from pipeline.command import main
from pipeline.options import parse
from pipeline.preflight import choose_forwarders
from schemas import DERIVED_KINDS, Kind, Record
from transforms.accounting.summary import RejectLimit, Summary, total
from transforms.derive import DeriveRecords, DeriveSettings
from transforms.forwarders.source import ForwarderSource
from transforms.match import MatchForwarders
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.read import ReadActivity, match_files
from transforms.reading.blob_files import BlobFiles
from transforms.reading.bucket_blobs import ReadCounts
from transforms.reading.input_formats import ACTIVITY, InputFormat, statement_format

Stage = Literal["derive", "encode"]
Input = Literal["activity", "statements", "derived-statements"]
"""What is read: activity, statements that are forwarded as they are, or statements that records are derived of."""


def deliver(path: Path, forwarders: Path, output: Path, flags: Sequence[str] = ()) -> None:
    """What `python -m pipeline` does with these arguments."""
    status = main(
        [
            "--runner=DirectRunner",
            f"--input={path}",
            f"--forwarders={forwarders}",
            f"--output={output}",
            "--allow_network=127.0.0.0/8",
            *flags,
        ]
    )
    if status != 0:
        raise SystemExit(f"the job ended with exit status {status}")


def count(
    path: Path,
    forwarders: Path,
    output: Path,
    stage: Stage,
    beam_args: Sequence[str] = (),
    what: Input = "activity",
) -> dict[str, Any]:
    """Derive; or derive, match and encode. Counts only."""
    asked = ["--runner=DirectRunner", f"--input={path}", f"--forwarders={forwarders}", "--dry_run"]
    job = parse([*asked, *beam_args])
    source = choose_forwarders(job, on_this_machine=True).source
    assert source is not None
    statements = StatementBuilder()
    input_format = _input_format(what)
    output.mkdir(parents=True, exist_ok=True)
    remember_signatures()
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=beam_options(job))
    blobs = BlobFiles(output)
    reading = ReadActivity(
        match_files([str(path)]), input_format, blobs=blobs, forwarders=source if stage == "encode" else None
    )
    read = pipeline | "Read" >> reading
    all_read = read.counts | "Read summaries" >> beam.Map(_summary) | "All read" >> beam.CombineGlobally(total)
    settings = DeriveSettings(input_format=input_format, reject_limit=RejectLimit(0.05, 10), blobs=blobs)
    records = (read.blobs | "Derive" >> DeriveRecords(settings, all_read)).records
    if stage == "derive":
        _ = records | "Count" >> beam.ParDo(_CountRecords(str(output)))
    else:
        matches = records | "Match" >> MatchForwarders(source, statements)
        _ = matches | "Encode" >> beam.ParDo(_EncodeMatches(source, statements, str(output)))
    pipeline.run().wait_until_finish()
    return sum_of(json.loads(part.read_text()) for part in output.glob("*.tally"))


def _input_format(what: Input) -> InputFormat:
    if what == "activity":
        return ACTIVITY
    kinds: tuple[Kind, ...] = ("statement",) if what == "statements" else DERIVED_KINDS
    return statement_format("xapi", kinds)


def _summary(counts: ReadCounts) -> Summary:
    return Summary(read=counts)


class _Tallying(beam.DoFn):
    """Leaves what each bundle counted in a file."""

    def __init__(self, output: str) -> None:
        self._output = output

    def start_bundle(self) -> None:
        self._tally = Tally()

    def finish_bundle(self) -> None:
        path = Path(self._output) / f"{uuid.uuid4()}.tally"
        path.write_text(json.dumps(self._tally.as_json()))


class _CountRecords(_Tallying):
    def process(self, records: list[Record]) -> None:
        self._tally.count += len(records)


class _EncodeMatches(_Tallying):
    def __init__(self, forwarders: ForwarderSource, statements: StatementBuilder, output: str) -> None:
        super().__init__(output)
        self._source = forwarders
        self._statements = statements

    def setup(self) -> None:
        self._kinds = {forwarder.id: forwarder.payload for forwarder in self._source.load()}

    def process(self, matches: list[Match]) -> None:
        kinds, tally = self._kinds, self._tally
        for match in matches:
            due = [(forwarder_id, kinds[forwarder_id]) for forwarder_id in match.forwarders]
            for forwarder_id, payload in encoded(match.record, match.statement, due, self._statements):
                tally.add(forwarder_id, payload)
