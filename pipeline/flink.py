"""Flink's REST API, for what Beam's job server leaves undone.

When Beam cancels a job, the job server stops waiting for it. On an embedded cluster that ends the job. On any other
cluster the job runs on, though Beam calls it cancelled (seen with the job server of Beam 2.62 and with Flink 1.19).
"""

import json
import logging
import time
from http.client import HTTPException
from urllib.request import Request, urlopen

logger = logging.getLogger(__name__)
_EMBEDDED = ("[local]", "[auto]", "[collection]")
_ENDED = ("CANCELED", "FAILED", "FINISHED")
_TIMEOUT = 10.0
_POLL = 0.2


def cancel_job(master: str, name: str, within: float) -> None:
    """Cancel the jobs of a name, and wait until they have ended. Nothing happens on an embedded cluster.

    What cannot be done is logged, with what to do by hand.

    Args:
        master: of the cluster (`--flink_master`).
        name: of the job.
        within: seconds to wait.
    """
    if master in _EMBEDDED:
        return
    address = master if "://" in master else f"http://{master}"
    deadline = time.monotonic() + within
    try:
        for job in _under_way(address, name):
            _request(f"{address}/jobs/{job}?mode=cancel", "PATCH")
        while _under_way(address, name):
            if time.monotonic() > deadline:
                logger.error("Flink has not ended the job %s after %g s: see %s", name, within, address)
                return
            time.sleep(_POLL)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        logger.error("the job %s may run on; cancel it at %s: %s", name, address, error)


def _under_way(address: str, name: str) -> list[str]:
    """The ids of the jobs of that name that have not ended."""
    jobs = json.loads(_request(f"{address}/jobs/overview", "GET"))["jobs"]
    return [job["jid"] for job in jobs if job["name"] == name and job["state"] not in _ENDED]


def _request(url: str, method: str) -> bytes:
    with urlopen(Request(url, method=method), timeout=_TIMEOUT) as response:  # noqa: S310 - it is http
        body: bytes = response.read()
    return body
