"""What an alert says: the body of a webhook, with what to do next."""

import platform
import shlex
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from pipeline.next_steps import next_commands, without_secrets
from pipeline.options import Job
from schemas.times import rfc3339
from transforms.accounting.board import ForwarderName
from transforms.observing.alerts import Alert
from transforms.sinks.outages import is_of_outage

_VERBS = ("session-forwarder",)

_MOST_TOLD = 2_000
"""Characters of why a run failed. Many documents may be at fault."""


def message_id(run_id: str, alert: Alert) -> str:
    """The `webhook-id`: the same for the same alert of a run, whichever worker sends it and however often."""
    name = "\0".join((run_id, alert.type, alert.forwarder_id or "", str(alert.number)))
    return f"msg_{blake2b(name.encode(), digest_size=16).hexdigest()}"


class AlertTexts:
    """Puts alerts into words.

    Args:
        job: of the run.
        command_line: with which a run that failed is run again; empty where that is not known.
        names: what the forwarders are called, by id.
    """

    def __init__(
        self, job: Job, command_line: Iterable[str] = (), names: Mapping[str, ForwarderName] | None = None
    ) -> None:
        self._job = job
        self._command_line = tuple(command_line)
        self.names = names or {}

    def body(self, run_id: str | None, alert: Alert) -> bytes:
        """The body of the webhook (docs/monitoring.md#alerts)."""
        text, todo, commands = self._told(alert)
        data: dict[str, Any] = {
            "run_id": run_id,
            "host": platform.node(),
            "output": self._job.output,
            "text": text,
            "what_to_do": todo,
            "commands": commands,
        }
        if alert.forwarder_id is not None:
            name = self.names.get(alert.forwarder_id)
            data |= {
                "forwarder": {
                    "id": alert.forwarder_id,
                    "description": name.description if name else "",
                    "target": name.target if name else "",
                },
                "since": None if alert.since is None else rfc3339(int(alert.since * 1000)),
                "last_answer": alert.answer or None,
                "waiting": alert.waiting,
                "dead_letters": alert.dead_letters,
            }
        if alert.share is not None:
            data["reject_ratio"] = round(alert.share, 6)
        return msgspec.json.encode({"type": alert.type, "timestamp": rfc3339(int(alert.at * 1000)), "data": data})

    def _told(self, alert: Alert) -> tuple[str, str, list[str]]:
        """What has happened, what to do, and the commands for it."""
        who = self._who(alert.forwarder_id)
        last = f" (last answer: {alert.answer})" if alert.answer else ""
        waits = f"{alert.waiting:,} of its records wait"
        dead = ", ".join(f"{count:,} {reason}" for reason, count in sorted(alert.dead_letters.items()))
        if alert.type == "forwarder.failing":
            seconds = 0 if alert.since is None else alert.at - alert.since
            return (
                f"{who} has taken nothing for {seconds:.0f} s{last}; {waits}",
                "See to its receiver, or to the document's address and credentials. Records are tried again by "
                f"themselves; {self._job.outage_budget:g} s after it began, what is left becomes dead letters.",
                self._of_output("top"),
            )
        if alert.type == "forwarder.unavailable":
            return (
                f"{who} has taken nothing for the outage budget{last}; what is left of it becomes dead letters",
                "See to its receiver. When it is back and the run has ended, send the dead letters again."
                if not self._job.catches_up
                else "See to its receiver. When it is back, the next run tries the dead letters first.",
                self._next(alert),
            )
        if alert.type == "forwarder.dead_letters":
            return (
                f"records of {who} are given up: {dead}{last}",
                "Look at why, and mend that. " + self._of_letters(alert),
                self._next(alert),
            )
        if alert.type == "forwarder.recovered":
            return (
                f"{who} takes records again; {waits}",
                f"There are dead letters ({dead}). {self._of_letters(alert)}"
                if dead
                else "Nothing: what waits is sent by itself.",
                self._next(alert)[1:] if dead else [],
            )
        if alert.type == "run.rejects":
            return (
                f"{alert.share or 0:.1%} of the input was refused; above {self._job.max_reject_ratio:.1%} "
                "(--max_reject_ratio) nothing is delivered",
                "Look at the reasons, and mend what writes the input.",
                self._of_output("show", "rejects"),
            )
        return (
            f"the run failed: {alert.reason[:_MOST_TOLD]}",
            "See to that, then run the same command again: what was delivered is not sent twice.",
            [shlex.join(without_secrets(self._command_line))] if self._command_line else [],
        )

    def _of_letters(self, alert: Alert) -> str:
        """Who sends dead letters again: the next run those that an outage left, if it catches up; else nobody."""
        if not self._job.catches_up:
            return "They are not sent again by themselves: do so when the run has ended."
        others = [reason for reason in sorted(alert.dead_letters) if not is_of_outage(reason)]
        if not others:
            return "The next run tries them first."
        return (
            f"The next run tries those first that an outage left. Those of {', '.join(others)} are not sent again by "
            "themselves: do so when the run has ended."
        )

    def _who(self, forwarder_id: str | None) -> str:
        name = self.names.get(forwarder_id or "")
        return f"forwarder {forwarder_id}" + (f" ({name.description})" if name and name.description else "")

    def _of_output(self, *verb: str) -> list[str]:
        return [] if self._job.output is None else [shlex.join([*_VERBS, *verb, "--output", self._job.output])]

    def _next(self, alert: Alert) -> list[str]:
        """The commands that show the forwarder's dead letters, and send them again."""
        return next_commands(self._job, {alert.forwarder_id or "": {}})
