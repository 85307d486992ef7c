#!/usr/bin/env bash
# TinCanPython does not give back the statement that it read: a duration of a month becomes thirty days.
#
# Versions:  tincan 1.0.0 (the xAPI library for Python of Rustici Software), with aniso8601 10.0.1.
# Behaviour: Statement.from_json(text).to_json() is another statement. A duration is kept as a timedelta, so P1M becomes
#            P30D, P1Y P365D, and PT36H P1DT12H: the first two are another length of time than was said. Scores become
#            floats: 1 is 1.0. A timestamp is cut to microseconds. Who copies statements from one LRS to another with it, by their
#            ids, sends another content under the same id, which an LRS may refuse with 409.
# Source:    tincan/result.py (duration), tincan/score.py, tincan/conversions/iso8601.py;
#            xAPI 1.0.3, part three, 2.1.1: what an LRS answers to an id that it has, with the same content or another.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check tincan==1.0.0 aniso8601==10.0.1
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import json

from tincan import Statement


def read_and_written(duration):
    """The statement with a duration, after TinCanPython has read and written it."""
    said = {
        "id": "6f1d3f9e-6a8d-4c59-9d1e-2f1c2a3b4c5d",
        "actor": {"objectType": "Agent", "account": {"homePage": "https://school.example", "name": "ann"}},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/completed", "display": {"en": "completed"}},
        "object": {"objectType": "Activity", "id": "https://school.example/course/1"},
        "result": {"duration": duration, "score": {"raw": 1, "min": 0, "max": 2}},
        "timestamp": "2026-01-31T12:00:00.123456789Z",
    }
    return json.loads(Statement.from_json(json.dumps(said)).to_json())


print("tincan 1.0.0")
for duration, becomes in {
    "P1M": "P30DT00H00M00S",
    "P1Y": "P365DT00H00M00S",
    "PT36H": "P1DT12H00M00S",
    "PT90S": "PT01M30S",
}.items():
    written = read_and_written(duration)
    print(f"{duration} comes back as {written['result']['duration']}")
    assert written["result"]["duration"] == becomes

raw = written["result"]["score"]["raw"]
print("a raw score of 1 comes back as", json.dumps(raw), "and a time of nanoseconds as", written["timestamp"])
assert isinstance(raw, float)
assert "123456789" not in written["timestamp"]
PYTHON
