"""How forwarders stand in the job that runs now: from its board, or, of one on another machine, from its metrics."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from transforms.accounting.board import Board, is_alive
from transforms.accounting.holder import named_holder
from transforms.observing.metrics import PREFIX

_TIMEOUT = 5.0
"""Seconds that the job's metrics may take to be answered."""

_MOST_BYTES = 64 * 1024 * 1024
"""Bytes of metrics that are read: far above those of a job with a thousand forwarders."""

_STALE = 60.0
"""Seconds after which a metrics file is of a job that no longer writes it. It does so every 10 s."""


class UnreadableMetricsError(Exception):
    """The job's metrics cannot be read. The text says why."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a forwarder stands in the running job.

    Attributes:
        waiting: records that are not settled.
        oldest_unsent: when the oldest of these began to wait, in unix seconds; None if none waits.
        failing_since: since when it has taken nothing, in unix seconds; None if it takes records.
        answer: its last bad answer, a status or a word; None where nobody knows.
        unavailable: whether records are given up unsent.
    """

    waiting: int = 0
    oldest_unsent: float | None = None
    failing_since: float | None = None
    answer: str | None = None
    unavailable: bool = False


Standings = Mapping[str, Standing]
"""By the forwarder's id."""


def standings_of_run(output: str) -> Standings | None:
    """How forwarders stand in the run that holds an output.

    Args:
        output: of the job, a path or a url.

    Returns:
        None if no run holds it, or one on another machine.
    """
    holder = named_holder(output)
    if holder is None or holder.board is None or holder.host != socket.gethostname():
        return None
    if not Path(holder.board).is_dir() or not is_alive(holder.pid):
        return None
    found = {}
    for forwarder_id, posted in Board(holder.board).read().forwarders.items():
        failing = posted.failing
        found[forwarder_id] = Standing(
            waiting=posted.waiting + posted.in_flight,
            oldest_unsent=posted.oldest_unsent,
            failing_since=None if failing is None else failing.since,
            answer=None if failing is None else failing.answer,
            unavailable=posted.unavailable,
        )
    return found


def standings_in_metrics(where: str) -> Standings | None:
    """How forwarders stand by what the job tells Prometheus.

    Args:
        where: an address with `/metrics`, or the path of the job's `--metrics_file`.

    Returns:
        None if the job has ended, or no longer writes the file.

    Raises:
        UnreadableMetricsError: it does not answer, or that is not in Prometheus' format.
    """
    is_address = where.startswith(("http://", "https://"))
    try:
        text = _answer(where) if is_address else _file(where)
        return None if text is None else _standings(text, time.time())
    except urllib.error.URLError as error:
        reason = error.reason
        raise UnreadableMetricsError(getattr(reason, "strerror", None) or str(reason)) from None
    except OSError as error:
        raise UnreadableMetricsError(error.strerror or str(error)) from None
    except (ValueError, KeyError, IndexError) as error:
        raise UnreadableMetricsError(f"it is not in Prometheus' format ({type(error).__name__})") from None


def _answer(address: str) -> str:
    # The operator has named the address, on the command line of the service.
    with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:  # noqa: S310 - http or https, as checked
        data: bytes = response.read(_MOST_BYTES)
    return data.decode()


def _file(path: str) -> str | None:
    file = Path(path)
    if time.time() - file.stat().st_mtime > _STALE:
        return None
    return file.read_text(encoding="utf-8")


def _standings(text: str, now: float) -> Standings | None:
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        if family.name == f"{PREFIX}run_end_time_seconds" and family.samples:
            return None
        name = family.name.removeprefix(PREFIX)
        if name not in _READ:
            continue
        for sample in family.samples:
            values.setdefault(sample.labels["forwarder"], {})[name] = sample.value
    return {forwarder_id: _standing(of_forwarder, now) for forwarder_id, of_forwarder in values.items()}


_READ = frozenset(
    ("records_waiting", "records_in_flight", "oldest_unsent_age_seconds", "failing_seconds", "unavailable")
)


def _standing(values: Mapping[str, float], now: float) -> Standing:
    waiting = int(values.get("records_waiting", 0) + values.get("records_in_flight", 0))
    age, failing = values.get("oldest_unsent_age_seconds", 0), values.get("failing_seconds", 0)
    return Standing(
        waiting=waiting,
        oldest_unsent=now - age if age > 0 else None,
        failing_since=now - failing if failing > 0 else None,
        unavailable=values.get("unavailable", 0) > 0,
    )
