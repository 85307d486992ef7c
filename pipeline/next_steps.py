"""The commands that come next, as one can paste them: to look at dead letters, and to send them again."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from pipeline.options import Job

_FEW = 3
"""Forwarders, or reasons, that a command names. With more of them it is for all."""

_SECRET = re.compile(r"(?i)secret|password|token|credential|access_key")


def next_commands(job: Job, dead: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The commands after a run that left dead letters.

    Args:
        job: that was run.
        dead: how many of the records of each forwarder were given up, by its id and the reason; of those alone that had
            any.
    """
    if not dead or job.output is None or job.forwarders is None:
        return []
    chosen = list(_chosen(dead))
    letters = ["session-forwarder", "show", "letters", "--output", job.output, *chosen]
    redrive = ["session-forwarder", "redrive", "--output", job.output, "--forwarders", job.forwarders, *chosen]
    return [shlex.join(letters), shlex.join([*redrive, *_delivery_flags(job)])]


def _chosen(dead: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The flags that name the forwarders and the reasons, if they are few."""
    reasons = sorted({reason for of_forwarder in dead.values() for reason in of_forwarder})
    if len(dead) <= _FEW:
        for forwarder_id in dead:
            yield from ("--forwarder", forwarder_id)
    if len(reasons) <= _FEW:
        for reason in reasons:
            yield from ("--reason", reason)


_REPEATED = {"--allow_network": "allow_networks"}
_VALUES = {
    "--secret_env_prefix": "secret_env_prefix",
    "--secrets_dir": "secrets_dir",
    "--on_failure": "on_failure",
    "--max_backoff": "max_backoff",
    "--outage_budget": "outage_budget",
    "--aws_client": "aws_client",
    "--durability": "durability",
    "--attachments": "attachments",
    "--temp_dir": "temp_dir",
}
_SWITCHES = {
    "--skip_invalid_forwarders": "skip_invalid_forwarders",
    "--require_organisation": "require_organisation",
    "--trust_references": "trust_references",
}


def _delivery_flags(job: Job) -> Iterator[str]:
    """What the run was told of delivery that is not the default, and of where it runs."""
    usual = Job()
    for flag, name in _REPEATED.items():
        for value in getattr(job, name):
            yield from (flag, value)
    for flag, name in _VALUES.items():
        value = getattr(job, name)
        if value != getattr(usual, name):
            yield from (flag, f"{value:g}" if isinstance(value, float) else str(value))
    for flag, name in _SWITCHES.items():
        if getattr(job, name):
            yield flag
    if not job.is_direct:
        yield f"--runner={job.runner}"
    yield from without_secrets(job.beam_args)


def without_secrets(arguments: Sequence[str]) -> Iterator[str]:
    """A command line as it was given, with dots for what may be secret: of Beam's flags, and in an address."""
    before = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if before and not argument.startswith("--"):
            yield _shown(before, argument)
        else:
            yield f"{name}={_shown(name, value)}" if equals and name.startswith("--") else argument
        before = name if name.startswith("--") and not equals else ""


_NAMES_NO_SECRET = frozenset(("--alert_secret", "--secret_env_prefix", "--secrets_dir"))
"""Flags whose values are references or places."""


def _shown(flag: str, value: str) -> str:
    if flag == "--alert_url":
        return shown_address(value)
    return "..." if _SECRET.search(flag) and flag not in _NAMES_NO_SECRET else value


def shown_address(address: str) -> str:
    """An address of webhooks, or a reference to one, as it may be shown: often its path is what lets one in."""
    scheme, separator, rest = address.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return address if not separator or host == rest else f"{scheme}://{host}/..."
