"""Cancelling a job on a cluster, at Flink's REST API. On a real cluster: tests/local/test_flink_cluster.py."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from pipeline.flink import cancel_job
from tests.support.ports import free_port


@contextmanager
def job_manager(jobs: list[dict[str, Any]], *, ends: bool = True) -> Iterator[tuple[str, list[str]]]:
    """What of Flink's REST API is used: gives its address, and what was asked to be cancelled."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/jobs/overview"
            self._answer({"jobs": jobs})

        def do_PATCH(self) -> None:
            asked.append(self.path)
            for job in jobs:
                if f"/{job['jid']}?" in self.path and ends:
                    job["state"] = "CANCELED"
            self._answer({})

        def _answer(self, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(202 if self.command == "PATCH" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: not the tests' business."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def job(number: int, name: str, state: str) -> dict[str, Any]:
    return {"jid": f"{number:032x}", "name": name, "state": state}


def test_the_job_of_that_name_is_cancelled_and_no_other() -> None:
    jobs = [job(1, "mine", "RUNNING"), job(2, "other", "RUNNING"), job(3, "mine", "FINISHED")]
    with job_manager(jobs) as (address, asked):
        cancel_job(address, "mine", 5)
        cancel_job(f"http://{address}", "mine", 5)
    assert asked == [f"/jobs/{1:032x}?mode=cancel"]
    assert [each["state"] for each in jobs] == ["CANCELED", "RUNNING", "FINISHED"]


def test_one_that_does_not_end_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with job_manager([job(1, "mine", "RUNNING")], ends=False) as (address, _), caplog.at_level(logging.ERROR):
        cancel_job(address, "mine", 0.3)
    assert f"has not ended the job mine after 0.3 s: see http://{address}" in caplog.text


def test_a_cluster_that_cannot_be_reached_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    address = f"127.0.0.1:{free_port()}"
    with caplog.at_level(logging.ERROR):
        cancel_job(address, "mine", 5)
    assert f"the job mine may run on; cancel it at http://{address}" in caplog.text


def test_an_embedded_cluster_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    cancel_job("[local]", "mine", 5)
    assert not caplog.text
