#!/usr/bin/env bash
# Ralph compares `since` and `until` with a statement's `timestamp`, and not with the time at which it was stored.
#
# Versions:  ralph-malph 5.1.0.
# Behaviour: By xAPI, `GET /statements?since=T` gives what was *stored* after T, which is how a client reads on from where
#            it was: it asks for what was stored since. Ralph gives what *happened* after T. A statement that is sent now
#            about yesterday, as an app does that was offline, is in no answer to a client that has read up to today. That
#            is so with its file back end, which is run here, and by the code of the others too. Each statement has its
#            `stored`, so nothing in an answer tells.
# Source:    xAPI 1.0.3, part three, 2.1.3 GET Statements: `since` and `until` are times of storage;
#            ralph/backends/lrs/fs.py, _add_filter_by_timestamp_since; es.py, mongo.py and clickhouse.py beside it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check 'ralph-malph[lrs,cli]==5.1.0' requests httpx
cd "$place"
export RALPH_APP_DIR="$place/app" RALPH_RUNSERVER_BACKEND=fs
export RALPH_BACKENDS__LRS__FS__DEFAULT_DIRECTORY_PATH="$place/statements"
"$place/venv/bin/ralph" auth -u key -p none -s all -N key -A key https://lrs.invalid -w >/dev/null
"$place/venv/bin/python" -W ignore - <<'PYTHON'
from fastapi.testclient import TestClient
from ralph.api import app

statement = {
    "id": "6d4c7b3e-5d5c-4f1c-8f3a-0d8f0c5a0001",
    "actor": {"mbox": "mailto:ann@example.org"},
    "verb": {"id": "http://adlnet.gov/expapi/verbs/completed"},
    "object": {"id": "https://course.example/1"},
    "timestamp": "2020-01-01T09:00:00.000Z",
}
with TestClient(app, headers={"X-Experience-API-Version": "1.0.3"}) as client:
    login = ("key", "none")
    sent = client.post("/xAPI/statements", json=[statement], auth=login)
    print("POST", sent.status_code)
    assert sent.status_code == 200


    def asked(**parameters):
        answer = client.get("/xAPI/statements", params=parameters, auth=login)
        assert answer.status_code == 200, answer.text
        return answer.json()["statements"]


    (held,) = asked()
    print("it happened", held["timestamp"], "and was stored", held["stored"])
    assert held["stored"] > "2024"
    print("since 2021:", len(asked(since="2021-01-01T00:00:00Z")), "statements; by `stored` it would be 1")
    assert asked(since="2021-01-01T00:00:00Z") == []
    print("since 2019:", len(asked(since="2019-01-01T00:00:00Z")), "statement")
    assert len(asked(since="2019-01-01T00:00:00Z")) == 1
    print("until 2021:", len(asked(until="2021-01-01T00:00:00Z")), "statement; by `stored` it would be 0")
    assert len(asked(until="2021-01-01T00:00:00Z")) == 1
PYTHON
