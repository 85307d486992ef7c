#!/usr/bin/env bash
# Ralph answers 409 when a statement that it holds is sent again with the same time in another zone.
#
# Versions:  ralph-malph 5.1.0.
# Behaviour: By xAPI a statement that was sent may be sent again: two statements of one id are the same if they mean the
#            same, and 409 says that the store holds *another* statement. Ralph compares the text of `timestamp`. The
#            statement as it was is taken again with 204. The same with 09:00+00:00 for 09:00Z, or with 10:00+01:00, is a
#            conflict, though its own answers give the time only as it was first written. So a client that writes times
#            anew, as most libraries do, cannot take a 409 of it for a difference: it has to look up and compare.
# Source:    xAPI 1.0.3, part two, 2.3.1 (what stores may differ in) and 4.5 (times are points in time, in any zone);
#            ralph/utils.py, statements_are_equivalent, which ralph/api/routers/statements.py asks.
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
    "timestamp": "2020-01-01T09:00:00Z",
}
with TestClient(app, headers={"X-Experience-API-Version": "1.0.3"}) as client:

    def status(**changed):
        answer = client.post("/xAPI/statements", json=[statement | changed], auth=("key", "none"))
        return answer.status_code

    found = {
        "first": status(),
        "as it was": status(),
        "09:00:00+00:00": status(timestamp="2020-01-01T09:00:00+00:00"),
        "10:00:00+01:00": status(timestamp="2020-01-01T10:00:00+01:00"),
        "another verb": status(verb={"id": "http://adlnet.gov/expapi/verbs/failed"}),
    }
for what, code in found.items():
    print(f"{code}  {what}")
codes = list(found.values())
assert codes[0] == 200 and codes[1] < 300 and codes[2:] == [409, 409, 409]
PYTHON
