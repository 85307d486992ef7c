#!/usr/bin/env bash
# Ralph's file back end writes the history of all writes again with each write.
#
# Versions:  ralph-malph 5.1.0.
# Behaviour: One would think that to append a statement to a file costs the same for the first as for the last. But each
#            write is an entry in a history, one file of JSON for all, which is written as a whole each time. So the cost
#            of a statement grows with the number that came before: here the second 300 requests write about three times
#            what the first 300 wrote.
# Source:    ralph/backends/data/mixins.py, append_to_history and write_history; ralph/backends/data/fs.py, _write_bytes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check 'ralph-malph[lrs,cli]==5.1.0' requests httpx
cd "$place"
export RALPH_APP_DIR="$place/app" RALPH_RUNSERVER_BACKEND=fs
export RALPH_BACKENDS__LRS__FS__DEFAULT_DIRECTORY_PATH="$place/statements"
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import json
import uuid
from pathlib import Path

from ralph.backends.data.base import BaseOperationType
from ralph.backends.lrs.fs import FSLRSBackend
from ralph.conf import settings


def written():
    """Bytes that this process has written so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


Path("statements").mkdir()
backend = FSLRSBackend()
costs = []
for _ in range(2):
    before = written()
    for _ in range(300):
        statement = {"id": str(uuid.uuid4()), "verb": {"id": "http://adlnet.gov/expapi/verbs/completed"}}
        assert backend.write([statement], operation_type=BaseOperationType.APPEND) == 1
    costs.append(written() - before)
    print("300 statements, bytes written:", f"{costs[-1]:,}")
assert len(json.loads(settings.HISTORY_FILE.read_text())) == 600, "an entry for each write"
assert costs[1] > 2.5 * costs[0]
PYTHON
