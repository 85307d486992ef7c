"""The job delivers statements to a real LRS."""

import json

from pipeline.sample import sample_activities
from tests.support.lrs_server import Lrs
from tests.support.workshop import Workshop


def test_every_statement_is_accepted_and_read_back(workshop: Workshop, lrs: Lrs) -> None:
    workshop.write_lines(json.dumps(activity).encode() for activity in sample_activities(5, seed=3))
    workshop.write_forwarders(
        {
            "_id": "lrs",
            "active": True,
            "payload": "statement",
            "configuration": {
                "protocol": "http",
                "url": lrs.host_and_path,
                "authType": "basic auth",
                "basicUsername": lrs.username,
                "basicPassword": lrs.password,
                "maxRetries": 2,
            },
        }
    )
    assert workshop.run("--write_records=jsonl") == 0
    due = {record["id"] for kind in ("event", "status", "score") for record in workshop.records(kind)}
    assert len(due) > 10
    assert workshop.account("lrs")["delivered"] == len(due)
    found = lrs.statements()
    assert due <= set(found)
    assert all(statement["verb"]["id"].startswith("http://adlnet.gov/") for statement in found.values())
    # A second run finds every statement there already, whatever the LRS answers.
    assert workshop.run("--replay=all") == 0
    assert workshop.account("lrs")["dead_lettered"] == 0
