"""Which Kinesis data stream is read, and from where on. Beam's own source reads it (`transforms.read_kinesis`)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from schemas.times import millis_of
from transforms.forwarders.checks import stream_name

SCHEME = "kinesis://"

_REGION = re.compile(r"[a-z0-9-]+")
_POSITIONS = ("TRIM_HORIZON", "LATEST")
_FORM = "kinesis://STREAM?region=REGION"


class KinesisUrlError(ValueError):
    """A url names no stream in the known form. The text says what is allowed."""


@dataclass(frozen=True)
class KinesisInput:
    """A data stream to read. The fields have the names of Beam's ReadDataFromKinesis.

    It holds no key: workers find their own (the credential chain of AWS).

    Attributes:
        stream_name: of the stream.
        region: of AWS.
        service_endpoint: `http://host:port` of another Kinesis than that of AWS.
        initial_position_in_stream: TRIM_HORIZON or LATEST.
        initial_timestamp_in_stream: epoch ms to read from, instead of the initial position.
    """

    stream_name: str
    region: str
    service_endpoint: str | None = None
    initial_position_in_stream: str = "TRIM_HORIZON"
    initial_timestamp_in_stream: int | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `kinesis://STREAM?region=REGION`. The other fields may be parameters, too.

        Raises:
            KinesisUrlError: it is no such url. The error does not repeat it, since it may hold a key.
        """
        parts = urlsplit(url)
        if not url.startswith(SCHEME) or parts.path or parts.fragment or stream_name(parts.netloc) is not None:
            # The url is not repeated: it may hold a key.
            raise KinesisUrlError(f"is not of the form {_FORM}; keys do not belong in it, workers use AWS's own chain")
        parameters = parse_qsl(parts.query, keep_blank_values=True)
        values = dict(parameters)
        unknown = sorted(set(values) - set(_PARAMETERS))
        if unknown or len(values) < len(parameters):
            problem = f"{unknown[0]} is not known" if unknown else "a parameter is given twice"
            raise KinesisUrlError(f"{problem}; parameters are {', '.join(_PARAMETERS)}")
        if not _REGION.fullmatch(values.get("region", "")):
            raise KinesisUrlError(f"needs its region: {_FORM}")
        position = values.get("initial_position_in_stream", "TRIM_HORIZON")
        if position not in _POSITIONS:
            raise KinesisUrlError(
                f"initial_position_in_stream is one of {', '.join(_POSITIONS)}; give initial_timestamp_in_stream "
                "alone for a time"
            )
        timestamp = values.get("initial_timestamp_in_stream")
        endpoint = values.get("service_endpoint")
        if endpoint is not None:
            _check_endpoint(endpoint)
        return cls(
            parts.netloc,
            values["region"],
            endpoint,
            position,
            None if timestamp is None else _parse_position(timestamp),
        )


_PARAMETERS = ("region", "service_endpoint", "initial_position_in_stream", "initial_timestamp_in_stream")


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise KinesisUrlError("service_endpoint is not of the form http://host:port")


def _parse_position(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise KinesisUrlError(f"initial_timestamp_in_stream: {text!r} is not a time such as 2026-03-01T09:00:00Z")
    return millis_of(moment)
