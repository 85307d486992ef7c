import io
import os
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from itertools import islice
from typing import Any

import orjson
import pytest

from pipeline.sample import main, write_statements
from pipeline.sample_statements import broken_statements, sample_statements
from schemas import Activity
from transforms.reading.activity import ActivityError
from transforms.reading.blocks import Block
from transforms.reading.files import blocks
from transforms.reading.originals import OriginalDecoder, decode_original
from transforms.reading.xapi import PassedOverError, StatementDecoder
from transforms.statements.comparison import equal_statements

SESSIONS = 300


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return list(sample_statements(SESSIONS, seed=3))


@pytest.fixture(scope="module")
def statements(lines: list[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines]


def test_every_line_is_a_statement_that_is_forwarded_as_it_is(lines: list[bytes]) -> None:
    decoder = OriginalDecoder()
    assert [decode_original(decoder.admit(line)[1]).text for line in lines] == lines
    assert 10 < len(lines) / SESSIONS < 20


def test_statements_have_800_to_4000_bytes(lines: list[bytes]) -> None:
    sizes = sorted(map(len, lines))
    assert sizes[0] >= 800
    assert sizes[int(0.999 * len(sizes))] < 4096
    assert sizes[len(sizes) // 10] < 1200
    assert sizes[-len(sizes) // 10] > 2500


def test_sessions_can_be_derived_from_them(lines: list[bytes]) -> None:
    decoder = StatementDecoder()
    derived: list[Activity] = []
    for line in lines:
        with suppress(PassedOverError):  # those that void
            derived.append(decoder.decode(line))
    assert {"START_OR_RESUME", "RESPOND", "COMPLETE", "SCORE"} < {activity.action for activity in derived}
    assert len(derived) > 0.99 * len(lines)


def test_what_is_in_them(lines: list[bytes], statements: list[dict[str, Any]]) -> None:
    verbs = Counter(statement["verb"]["id"].rsplit("/", 1)[1] for statement in statements)
    assert len(verbs) == 15
    assert verbs["answered"] > 0.3 * len(statements)
    identifiers = Counter(name for statement in statements for name in statement["actor"])
    assert {"account", "mbox", "mbox_sha1sum", "openid"} < set(identifiers)
    displays = {language for statement in statements for language in statement["verb"]["display"]}
    assert {"en-US", "fr-FR", "de-DE", "zh-CN"} < displays
    contexts = [statement["context"] for statement in statements]
    for name in ("registration", "contextActivities", "platform", "language", "extensions", "instructor", "team"):
        assert any(name in context for context in contexts), name
    assert any("grouping" in context["contextActivities"] for context in contexts)
    results = [statement["result"] for statement in statements if "result" in statement]
    for name in ("score", "success", "completion", "duration", "response", "extensions"):
        assert any(name in result for result in results), name
    assert any(not statement["timestamp"].endswith("Z") for statement in statements)
    assert 0.1 < sum(line.isascii() for line in lines) / len(lines) < 0.5


def test_some_void_or_mark_a_statement_that_was_stored_before(statements: list[dict[str, Any]]) -> None:
    stored: dict[str, str] = {}
    verbs = Counter[str]()
    for statement in statements:
        thing = statement["object"]
        if thing["objectType"] == "StatementRef" and thing["id"] in stored:
            verbs[statement["verb"]["id"].rsplit("/", 1)[1]] += 1
            assert stored[thing["id"]] <= statement["stored"]
        stored[statement["id"]] = statement["stored"]
    assert verbs["voided"] > 3
    assert verbs["scored"] > 3


def test_they_are_in_the_order_in_which_they_were_stored(statements: list[dict[str, Any]]) -> None:
    first: dict[str, str] = {}
    for statement in statements:
        first.setdefault(statement["id"], statement["stored"])
    assert list(first.values()) == sorted(first.values())
    assert any(statement["timestamp"][:15] < statement["stored"][:15] for statement in statements)


def test_duplicates_and_conflicts() -> None:
    same: defaultdict[str, list[bytes]] = defaultdict(list)
    count = 0
    for line in sample_statements(1000, seed=3):
        same[orjson.loads(line)["id"]].append(line)
        count += 1
    twice = [copies for copies in same.values() if len(copies) > 1]
    conflicts = sum(not equal_statements(*copies) for copies in twice)
    assert 0.005 < len(twice) / count < 0.02
    assert 0 < conflicts < 0.2 * len(twice)


def test_the_same_in_another_process(lines: list[bytes]) -> None:
    command = [sys.executable, "-m", "pipeline.sample", "--input_format", "xapi", "--sessions", "20", "--seed", "3"]
    written = subprocess.run(  # noqa: S603
        [*command, "--output", "-"],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": "5", "PYTHONPATH": "."},
    )
    here = io.BytesIO()
    write_statements(here, "jsonl", 20, 3)
    assert written.stdout == here.getvalue()
    other = io.BytesIO()
    write_statements(other, "jsonl", 20, 4)
    assert other.getvalue() != here.getvalue()


@pytest.mark.parametrize("file_format", ["jsonl", "json"])
def test_what_is_invalid_is_refused_and_all_else_is_there(file_format: Any) -> None:
    file = io.BytesIO()
    write_statements(file, file_format, 40, 3, invalid=0.1)
    file.seek(0)
    accepted, refused = [], 0
    for block in blocks(file, file_format):
        assert isinstance(block, Block)
        for item in block.items:
            try:
                accepted.append(OriginalDecoder().read(item)[1].text)
            except ActivityError:
                refused += 1
    assert accepted == list(sample_statements(40, 3))
    assert 0.05 < refused / (refused + len(accepted)) < 0.15


def test_broken_statements_are_refused() -> None:
    for line in islice(broken_statements(), 100):
        assert b"\n" not in line
        with pytest.raises(ActivityError):
            OriginalDecoder().read(line)


def test_one_learner_is_hot() -> None:
    actors = Counter(
        orjson.dumps(orjson.loads(line)["actor"]) for line in islice(sample_statements(200, hot_share=0.5), 2000)
    )
    assert actors.most_common(1)[0][1] > 700


@pytest.mark.parametrize("file_format", ["avro", "parquet"])
def test_statements_are_json_alone(file_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--input_format", "xapi", "--format", file_format, "--output", os.devnull])
    assert "statements are JSON" in capsys.readouterr().err
