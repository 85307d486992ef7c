"""Forwarders as the sending side gets them: read, resolved, with a target."""

from transforms.forwarders import Forwarder, HttpTarget, KinesisTarget
from transforms.forwarders.secrets import Secret

SECRET_KEY = "wJalrXUtnFEMI/do-not-show"


def http_forwarder(id_: str = "f", max_retries: int = 3, concurrency: int = 16) -> Forwarder:
    target = HttpTarget(Secret("http://example.org"), "example.org", concurrency=concurrency)
    return Forwarder(id_, None, None, None, "statement", max_retries, target)


def aws_forwarder(
    id_: str = "f",
    service: str = "streams",
    stream_name: str = "stream",
    region: str | None = "us-east-1",
    max_retries: int = 10,
) -> Forwarder:
    assert service in ("streams", "firehose")
    target = KinesisTarget(
        "streams" if service == "streams" else "firehose", stream_name, region, "AKIDEXAMPLE", Secret(SECRET_KEY)
    )
    return Forwarder(id_, None, None, None, "record", max_retries, target)
