"""The example forwarders: documents with what only a run knows filled in, and what each is due, in plain Python."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PayloadKind = Literal["record", "statement", "document"]
Json = dict[str, Any]
Line = Json
"""A derived record as `--write_records jsonl` writes it."""

DOCUMENTS = Path(__file__).parent / "forwarders"
CONTRACT_EXAMPLE = "59c8d14b0d82b3864a450604"
"""The contract's own example document, word for word; `_contract_example` says what is changed for a run."""
CONTRACT_ORGANISATION = "59c209c4ad95fd50960c0362"


@dataclass(frozen=True)
class Example:
    """One forwarder document, `forwarders/<id>.json`.

    Attributes:
        due: whether a record is due to it: the document's query and scope once more, in Python.
        http_path: the part of the url that the receiver sees; None for one that goes to Kinesis.
        headers: what every request must carry besides what all requests carry.
    """

    id: str
    payload: PayloadKind
    due: Callable[[Line], bool]
    http_path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


EXAMPLES = (
    Example(
        CONTRACT_EXAMPLE,
        "statement",
        lambda line: line["organisation"] == CONTRACT_ORGANISATION,
        http_path="/endpoint",
        headers={"Test-Header-Key": "Test-Header-Value"},
    ),
    Example(
        "scores-by-token",
        "record",
        lambda line: (
            line["organisation"] == "district-7"
            and line["kind"] == "score"
            and line["score"] is not None
            and line["score"] >= 5
        ),
        http_path="/scores",
    ),
    Example(
        "visits-by-basic-auth",
        "document",
        lambda line: (
            line.get("event") in ("session-started", "session-resumed")
            or (line["kind"] == "status" and line["num_attempted"] < 3)
        ),
        http_path="/visits",
    ),
    Example("everything-to-a-data-stream", "record", lambda line: True),
    Example(
        "snapshots-to-a-data-stream",
        "document",
        lambda line: (
            line["kind"] in ("status", "score")
            and line["status"] == "Completed"
            and line["metadata"].get("device") in ("ipad", "chromebook")
        ),
    ),
    Example(
        "completions-to-firehose",
        "statement",
        lambda line: line["kind"] == "event" and line["event"] == "session-completed",
    ),
)


@dataclass(frozen=True)
class Credentials:
    """What the receiver asks for: made up for one run, and never written to a file."""

    token: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def random(cls) -> "Credentials":
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24))

    def authorization(self) -> dict[str, str | None]:
        """For each path of the receiver, the Authorization header it asks for; None: it wants none."""
        basic = base64.b64encode(f"visits:{self.password}".encode()).decode()
        return {"/endpoint": None, "/scores": f"Bearer {self.token}", "/visits": f"Basic {basic}"}

    def environment(self) -> dict[str, str]:
        """The variables that the documents' `env:` references name."""
        return {"FORWARDER_LOCAL_TOKEN": self.token, "FORWARDER_LOCAL_PASSWORD": self.password}


@dataclass(frozen=True)
class Places:
    """What only a run knows. `http` and `https` are the receiver's host:port, `run` begins the names of streams."""

    run: str
    http: str
    https: str
    ca_file: Path


def render(example: Example, places: Places) -> Json:
    """The example's document, ready for this run."""
    document: Json = json.loads((DOCUMENTS / f"{example.id}.json").read_text())
    if example.id == CONTRACT_EXAMPLE:
        return _contract_example(document, places)
    configuration = document["configuration"]
    if "url" in configuration:
        configuration["url"] = configuration["url"].replace("@RECEIVER@", places.http)
    options = document.get("kinesisOptions")
    if options:
        options["streamName"] = options["streamName"].replace("@RUN@", places.run)
    return document


def write_documents(documents: list[Json], directory: Path) -> None:
    """One file a document: a directory for `--forwarders`."""
    directory.mkdir(parents=True)
    for document in documents:
        (directory / f"{document['_id']}.json").write_text(json.dumps(document, indent=2) + "\n")


def data_stream(document: Json) -> str | None:
    """The data stream that the document names, if it goes to one."""
    options: Json = document.get("kinesisOptions", {})
    return options["streamName"] if options.get("service") == "streams" else None


def delivery_stream(document: Json) -> str | None:
    """The delivery stream that the document names, if it goes to one."""
    options: Json = document.get("kinesisOptions", {})
    return options["streamName"] if options and options.get("service", "firehose") == "firehose" else None


def _contract_example(document: Json, places: Places) -> Json:
    """The contract's document with two changes, without which it could not be delivered on this machine.

    Its url, example.org, is not ours to send to: the receiver's takes its place. Nobody but the run itself vouches for
    the receiver's certificate: `caFile` is added.
    """
    configuration = {**document["configuration"], "url": f"{places.https}/endpoint", "caFile": str(places.ca_file)}
    return {**document, "configuration": configuration}
