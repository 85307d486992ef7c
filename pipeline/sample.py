"""Seeded, realistic input of any size: `python -m pipeline.sample --sessions 1000 --output sample.jsonl`.

The same seed gives the same activity in every format, in every process and on every machine. Memory does not grow with
the size: sessions start one after the other on the sample's clock, and only what has yet to arrive is held.
"""

import argparse
import bz2
import gzip
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from random import Random
from typing import IO, Any, TypeVar, cast

import fastavro
import orjson
import zstandard

from pipeline import flag_values
from pipeline.sample_arrivals import FIRST_MS, HOUR, MINUTE, SECOND, in_order_of_arrival, random_uuid, starts, user_of
from pipeline.sample_statements import broken_statements, sample_statements
from pipeline.standard_output import ReaderGoneError, printing
from schemas import avro_schema
from transforms.reading.admission import is_object
from transforms.reading.blocks import FILE_FORMATS
from transforms.reading.input_formats import XAPI
from transforms.storage import StorageError

_ORGANISATIONS = ("district-7", "école-lumière", "uni-南京")
_DEVICES = ("chromebook", "ipad", "windows", "android")
_TOPICS = ("algebra", "geometry", "statistics", "lecture", "Grammatik")
_NAMESPACE = uuid.UUID("c1f7a1d2-5d0f-5b1c-8a36-0d6f7a0f4f3e")

Fields = dict[str, Any]
_T = TypeVar("_T")


def sample_activities(sessions: int, seed: int = 0, *, hot_share: float = 0.01) -> Iterator[Fields]:
    """The activity of many sessions, in the order in which it arrives, as JSON objects.

    `occurred_at` is in epoch ms. Some activity is late, by little more than an hour of the sample's clock at most.

    Args:
        sessions: how many.
        seed: of the sample.
        hot_share: the share of the sessions, from 0 to 1, that belongs to a single user.

    Returns objects that must not be changed: a duplicate is the same object.
    """
    return in_order_of_arrival(
        (start, _arrivals(_Session(seed, index, sessions, start, hot_share, chance).play(), chance))
        for index, start, chance in starts(sessions, seed)
    )


def refused_activities(seed: int = 0) -> Iterator[Fields]:
    """Activity, without an end, that any format can hold and that docs/spec/records.md section 1 refuses."""
    faults: tuple[Fields, ...] = (
        {"user_id": ""},
        {"user_id": "u" * 257},
        {"record_id": ""},
        {"occurred_at": 0},
        {"status": "Finished"},
        {"action": "SET_STATUS"},
    )
    chance = Random(f"{seed}/refused")  # noqa: S311
    while True:
        yield {
            "record_id": random_uuid(chance),
            "user_id": "nobody",
            "session_id": random_uuid(chance),
            "activity_id": "activity_none",
            "action": "START",
            "state": "initial",
            "occurred_at": FIRST_MS,
        } | chance.choice(faults)


def broken_lines(seed: int = 0) -> Iterator[bytes]:
    """Lines, without an end, that are no activity: broken JSON, and refused activity."""
    chance = Random(f"{seed}/broken")  # noqa: S311
    refused = refused_activities(seed)
    while True:
        line = orjson.dumps(next(refused))
        yield chance.choice(
            (
                line,
                line[: chance.randrange(1, len(line))],
                line.replace(b"START", b"STOP").replace(b"SET_STATUS", b"STOP"),
                line.replace(b"nobody", b"\xff\xfe"),
                line.replace(b"nobody", b"\\ud800"),
                line[:-1] + b',"num_questions":NaN}',
                line[:-1] + b',"num_questions":1e999}',
                b"not json",
                b'"no object"',
            )
        )


def _arrivals(activities: Iterable[Fields], chance: Random) -> Iterator[tuple[int, Fields]]:
    """(arrival, activity): nearly all in order, some late, some twice, a few twice with different contents."""
    for activity in activities:
        luck = chance.random()
        arrival = activity["occurred_at"] + chance.randrange(2 * SECOND)
        if luck < 0.02:
            arrival += chance.randrange(HOUR - 4 * SECOND)
        yield arrival, activity
        if luck > 0.99:
            yield arrival + chance.randrange(MINUTE), activity
        elif luck > 0.9895:
            yield arrival + SECOND, activity | {"occurred_at": activity["occurred_at"] + 1}


class _Session:
    """One session of a learner, played from its start to its end."""

    def __init__(self, seed: int, index: int, sessions: int, begins: int, hot_share: float, chance: Random) -> None:
        self._chance = chance
        self._now = begins
        self._seq = 0
        self._spent = 0
        activity = chance.randrange(200)
        user = user_of(seed, index, sessions, hot_share)
        shared = chance.random() < 0.001  # two users have one session id: a known fault of integrations
        self._common: Fields = {
            "user_id": _user_id(user),
            "session_id": _session_id(seed, index - 1 if shared else index),
            "activity_id": f"activity_{activity:010d}" if activity % 20 else f"géographie/3º-{activity}",
        }
        if user % 20 != 19:  # else it carries neither
            self._common["organisation"] = _ORGANISATIONS[user % 3]
            self._common["lrs_id"] = f"store-{user % 3}-{user // 3 % 2}"
        self._numbered = chance.random() < 0.8  # some players send no seq
        self._timed = chance.random() < 0.5
        self._state = "preview" if chance.random() < 0.02 else "initial"
        questions = chance.randrange(4, 17)
        self._items = [str(290_000_000 + activity * 1000 + number) for number in range(questions)]
        essays = chance.random() < 0.15
        self._responses: list[Fields] = [
            {
                "response_id": f"{self._common['session_id'][:8]}_{item}",
                "item_reference": item,
                "attempted": False,
                "automarkable": not (essays and number >= questions - 2),
                "max_score": chance.choice((1, 1, 1, 2, 0.5)),
            }
            for number, item in enumerate(self._items)
        ]
        self._essays = essays
        self._metadata: Fields = {
            "device": chance.choice(_DEVICES),
            "form": chance.choice(("A", "B", "C")),
            "attempt": chance.randrange(1, 4),
            "accommodated": chance.random() < 0.1,
        }
        self._client: Fields = {"device": self._metadata["device"], "client": "assess-2.104.0", "region": "eu-west-1"}
        if chance.random() < 0.05:
            self._metadata |= {"extra_time": 1.25, "proctor": None}

    def play(self) -> Iterator[Fields]:
        """Its activity, in the order in which it occurs."""
        chance = self._chance
        if chance.random() > 0.02:  # else the start was never seen
            yield self._activity(
                "START", **self._definitions(), num_questions=len(self._items), metadata=self._metadata
            )
        yield from self._answer(self._responses)
        if chance.random() < 0.2:
            yield self._activity("SAVE")
            yield from self._resume(chance.choice((5 * MINUTE, HOUR, 3 * HOUR)))
            yield from self._answer(chance.sample(self._responses, 2))
        ending = chance.random()
        if ending < 0.12:
            return  # unfinished
        if ending < 0.15:
            yield self._activity("DISCARD")
            return
        yield self._submit()
        yield from self._afterwards()

    def _afterwards(self) -> Iterator[Fields]:
        chance = self._chance
        if self._essays:
            essays = [response for response in self._responses if not response["automarkable"]]
            self._wait(HOUR, 4 * HOUR)
            if chance.random() < 0.3:  # marked one by one
                yield self._score("SCORE", essays[:1])
                self._wait(MINUTE, HOUR)
            yield self._score("SCORE", essays)
        if chance.random() < 0.05:
            yield from self._resume(10 * MINUTE)
            yield from self._answer(chance.sample(self._responses, 2))
            yield self._submit()
        if chance.random() < 0.06:
            self._wait(MINUTE, 3 * HOUR)
            yield self._score("RESCORE", chance.sample(self._responses, 1))
        if chance.random() < 0.03:
            self._wait(MINUTE, HOUR)
            status = chance.choice(("Completed", "Completed", "Incomplete", "Pending Scoring", "Discarded"))
            yield self._activity("SET_STATUS", status=status)
        if chance.random() < 0.05:
            self._wait(HOUR, 3 * HOUR)
            self._state = "review"
            yield self._activity("START", metadata={"device": chance.choice(_DEVICES)})

    def _answer(self, responses: Sequence[Fields]) -> Iterator[Fields]:
        chance = self._chance
        for response in responses:
            self._wait(5 * SECOND, 2 * MINUTE)
            if chance.random() < 0.1:
                continue  # skipped
            response["attempted"] = True
            response["revision"] = response.get("revision", 0) + 1
            if response["automarkable"]:
                response["score"] = chance.choice((0, response["max_score"], response["max_score"]))
            yield self._activity("RESPOND", responses=[response.copy()], metadata=self._client)
            aside = chance.random()
            if aside < 0.08:
                yield self._activity("AUTOSAVE")
            elif aside < 0.11:
                yield self._activity("PAUSE")
                self._wait(10 * SECOND, 5 * MINUTE)
                yield self._activity("UNPAUSE")

    def _resume(self, after: int) -> Iterator[Fields]:
        self._wait(after // 2, after)
        if self._state == "initial" and self._chance.random() < 0.3:
            yield self._activity("START", state="resume")
        else:
            yield self._activity("RESUME")

    def _submit(self) -> Fields:
        fields: Fields = {"responses": [response.copy() for response in self._responses]}
        if self._essays:
            fields["pending_scoring"] = True
        if self._chance.random() < 0.001:
            fields["activity_id"] = self._common["activity_id"] + "-moved"
        return self._activity("SUBMIT", **fields)

    def _score(self, action: str, responses: Sequence[Fields]) -> Fields:
        for response in responses:
            response["revision"] = response.get("revision", 0) + 1
            response["score"] = self._chance.randrange(3) * response["max_score"] / 2
        return self._activity(action, responses=[response.copy() for response in responses])

    def _definitions(self) -> Fields:
        chance = self._chance
        kind = chance.random()
        if kind < 0.5:
            return {}
        if kind < 0.8:
            half = len(self._items) // 2
            return {
                "subscores": [
                    {"id": "subscore-1", "title": "Informational Text", "items": self._items[:half]},
                    {"id": "subscore-2", "title": "Écriture", "items": self._items[half:]},
                ]
            }
        topics = chance.sample(_TOPICS, 2)
        return {
            "subscores": [
                {"id": "topic", "title": topic, "tags": [{"type": "topic", "name": topic}]} for topic in topics
            ],
            "item_tags": {item: [{"type": "topic", "name": chance.choice(topics)}] for item in self._items},
        }

    def _wait(self, least: int, most: int) -> None:
        self._now += self._chance.randrange(least, most)
        self._spent += 30

    def _activity(self, action: str, **fields: Any) -> Fields:
        self._now += self._chance.randrange(300, 3000)
        self._seq += 1
        activity: Fields = {
            "record_id": random_uuid(self._chance),
            **self._common,
            "action": action,
            "state": self._state,
            "occurred_at": self._now,
            **fields,
        }
        if self._numbered:
            activity["seq"] = self._seq
        if self._timed:
            activity["session_duration"] = self._spent // 60
        return activity


def _user_id(user: int) -> str:
    if user % 40 == 3:
        return f"学生-{user}"
    if user % 40 == 7:
        return f"élève {user} 🎓"
    return f"learner-{user:08d}-{(user * 2654435761) % 2**32:08x}"


def _session_id(seed: int, index: int) -> str:
    return f"sess:{seed}:{index}" if index % 10 == 9 else str(uuid.uuid5(_NAMESPACE, f"{seed}/{index}"))


def write_jsonl(file: IO[bytes], lines: Iterable[bytes]) -> None:
    """Write one line for each activity."""
    for line in lines:
        file.write(line + b"\n")


def write_json(file: IO[bytes], elements: Iterable[bytes]) -> None:
    """Write one array."""
    before = b"["
    for element in elements:
        file.write(before + element)
        before = b",\n"
    file.write(b"]\n" if before == b",\n" else b"[]\n")


def write_avro(file: IO[bytes], activities: Iterable[Fields], seed: int = 0) -> None:
    """Write rows of `schemas/session_activity.avsc`. The marker between blocks, else random, is made from `seed`."""
    schema = fastavro.parse_schema(avro_schema("session_activity"))
    marker = uuid.uuid5(_NAMESPACE, f"{seed}/avro").bytes
    fastavro.writer(file, schema, activities, codec="deflate", sync_interval=256 * 1024, sync_marker=marker)


def _mixed(good: Iterable[_T], bad: Iterator[_T], ratio: float, seed: int) -> Iterator[_T]:
    """`good`, with so many of `bad` in between that these are the share `ratio` of the whole."""
    chance = Random(f"{seed}/mix")  # noqa: S311
    for item in good:
        while chance.random() < ratio:
            yield next(bad)
        yield item


def write_sample(
    file: IO[bytes], file_format: str, sessions: int, seed: int = 0, *, invalid: float = 0.0, hot_share: float = 0.01
) -> None:
    """Write a sample to a file.

    Args:
        file: open for writing.
        file_format: one of `FILE_FORMATS`.
        sessions: how many.
        seed: of the sample.
        invalid: the share of the input, from 0 to 1, that is to be refused.
        hot_share: see `sample_activities`.
    """
    activities = sample_activities(sessions, seed, hot_share=hot_share)
    if file_format == "jsonl":
        write_jsonl(file, _mixed(map(orjson.dumps, activities), broken_lines(seed), invalid, seed))
        return
    mixed = _mixed(activities, refused_activities(seed), invalid, seed)
    if file_format == "json":
        write_json(file, map(orjson.dumps, mixed))
    elif file_format == "avro":
        write_avro(file, mixed, seed)
    else:
        # Late: a start and its mistakes do without Arrow.
        from pipeline.sample_parquet import write_parquet

        write_parquet(file, mixed)


def write_statements(
    file: IO[bytes], file_format: str, sessions: int, seed: int = 0, *, invalid: float = 0.0, hot_share: float = 0.01
) -> None:
    """As `write_sample`, of xAPI statements. `file_format`: `json` or `jsonl`."""
    statements = sample_statements(sessions, seed, hot_share=hot_share)
    if file_format == "jsonl":
        write_jsonl(file, _mixed(statements, broken_statements(seed), invalid, seed))
        return
    whole = (line for line in broken_statements(seed) if is_object(line))
    write_json(file, _mixed(statements, whole, invalid, seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sample that a command line of `python -m pipeline.sample` asks for. Returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    text = "Makes input of any size that looks real. The same seed gives the same input."
    parser = argparse.ArgumentParser(prog="python -m pipeline.sample", description=text)
    add_sample_flags(parser)
    try:
        return write_what_is_asked(parser, words)
    except ReaderGoneError:
        return 0
    except StorageError as error:
        parser.error(str(error))


def add_sample_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a sample to a parser."""
    parser.add_argument(
        "--sessions",
        type=flag_values.count,
        default=1000,
        metavar="COUNT",
        help="how many sessions, of 12 to 15 activities or statements each (default 1000)",
    )
    parser.add_argument(
        "--input_format",
        choices=("activity", "xapi"),
        default="activity",
        metavar="FORMAT",
        help="activity (default), or xapi: statements",
    )
    parser.add_argument("--seed", type=int, default=0, help="of another sample (default 0)")
    parser.add_argument(
        "--format",
        choices=FILE_FORMATS,
        default="jsonl",
        dest="file_format",
        metavar="NAME",
        help="jsonl (default), json, avro or parquet",
    )
    parser.add_argument("--compress", choices=("gz", "bz2", "zst"), metavar="NAME", help="gz, bz2 or zst")
    parser.add_argument(
        "--invalid", type=_share, default=0.0, metavar="RATIO", help="the share of input that is to be refused"
    )
    parser.add_argument(
        "--hot_share", type=_share, default=0.01, metavar="RATIO", help="the share of sessions of the busiest user"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="a file, whose folder is made if need be, or - for standard output",
    )


def write_what_is_asked(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Write the sample that a command line asks for. The parser ends or raises where that cannot be done.

    Args:
        parser: with the flags of `add_sample_flags`.
        words: the command line.

    Returns:
        The exit status.
    """
    options = parser.parse_args(words)
    if options.compress and options.file_format == "parquet":
        parser.error("--compress: Parquet is compressed inside")
    statements = options.input_format == "xapi"
    if statements and options.file_format not in XAPI.file_formats:
        parser.error(f"--input_format xapi: statements are JSON; --format is one of {', '.join(XAPI.file_formats)}")
    write = write_statements if statements else write_sample
    with printing() if options.output == "-" else nullcontext(), ExitStack() as stack:
        file = sys.stdout.buffer if options.output == "-" else stack.enter_context(_new(parser, options.output))
        if options.compress:
            file = stack.enter_context(_compressing(file, options.compress))
        write(
            file,
            options.file_format,
            options.sessions,
            options.seed,
            invalid=options.invalid,
            hot_share=options.hot_share,
        )
        file.flush()
    return 0


def _new(parser: argparse.ArgumentParser, path: str) -> IO[bytes]:
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("wb")
    except OSError as error:
        parser.error(f"--output {path} cannot be written: {error.strerror}")


def _compressing(file: IO[bytes], compression: str) -> IO[bytes]:
    if compression == "gz":
        # Without a time and a name, the same sample is the same bytes.
        return cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0))
    if compression == "bz2":
        return bz2.BZ2File(file, "wb")
    return zstandard.ZstdCompressor().stream_writer(file, closefd=False)


def _share(text: str) -> float:
    share = flag_values.ratio(text)
    if share == 1:
        raise argparse.ArgumentTypeError("must be below 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
