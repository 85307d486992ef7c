"""What is shown of a job's output: the ends of its newest parts, read beside the requests, without what is inside."""

import io
import threading
from pathlib import Path
from typing import Any, BinaryIO

import fastavro
import pytest

from registry.access import EDIT_ALL
from registry.deliveries import KEPT, NOT_REACHED, RecentDeliveries
from registry.rest import PATH
from schemas import avro_schema
from tests.support.memory_storage import MemoryStorage
from tests.support.registry_house import House, create
from tests.support.waiting import until
from transforms.receipts.avro_container import block, header
from transforms.receipts.tail import LARGEST_WINDOW, WINDOW, last_rows

SYNC = bytes(range(16))


def letter(number: int, forwarder_id: str = "a", **given: Any) -> dict[str, Any]:
    return {
        "forwarder_id": forwarder_id,
        "id": f"id-{number}",
        "user_id": "u",
        "kind": "score",
        "outcome": "dead_lettered",
        "attempts": 1,
        "status": None,
        "shard": None,
        "sequence_number": None,
        "ambiguous": False,
        "first_attempt": 1,
        "last_attempt": 2,
        "settled_at": 1_700_000_000_000 + number,
        "run_id": "run",
        "reason": "http_404",
        "response": None,
        "payload_kind": "record",
        "payload": b"",
        "record": b"",
        **given,
    }


def encoded(rows: list[dict[str, Any]], shape: str = "dead_letter") -> bytes:
    schema = fastavro.parse_schema(avro_schema(shape))
    stream = io.BytesIO()
    for row in rows:
        fastavro.schemaless_writer(stream, schema, row)
    return stream.getvalue()


def part(*blocks: list[dict[str, Any]], shape: str = "dead_letter") -> bytes:
    """A part of these blocks."""
    start = header(avro_schema(shape), SYNC)
    return start + b"".join(block(len(rows), encoded(rows, shape), SYNC) for rows in blocks)


def put(output: Path, name: str, data: bytes) -> None:
    path = output / "dead_letters" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def numbers(data: bytes) -> list[int]:
    rows = last_rows(io.BytesIO(data), "part", "dead_letter")
    return [int(row["id"].removeprefix("id-")) for row in rows]


# The end of a part


def test_a_small_part_is_read_from_its_beginning() -> None:
    assert numbers(part([letter(1), letter(2)], [letter(3)])) == [1, 2, 3]
    assert numbers(part()) == []


def test_of_a_large_part_only_the_last_blocks_are_read() -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    blocks = [[letter(number, payload=b"x" * 100_000)] for number in range(60)]
    stream = Counted(part(*blocks))
    rows = [row["id"] for row in last_rows(stream, "part", "dead_letter")]
    assert 0 < len(rows) < 12
    assert rows == [f"id-{number}" for number in range(60 - len(rows), 60)]
    assert stream.taken < WINDOW + 20_000


def test_a_block_that_is_longer_than_the_window_is_read_as_far_as_that_is_bounded() -> None:
    large = [letter(2, payload=b"x" * 3 * WINDOW)]
    assert numbers(part([letter(1)], large)) == [1, 2]
    larger = [letter(2, payload=b"x" * (LARGEST_WINDOW + 1))]
    assert numbers(part([letter(1)], larger)) == []


@pytest.mark.parametrize("cut", [1, 16, 17])
def test_of_a_part_that_was_cut_short_what_is_whole_is_read(cut: int) -> None:
    whole = part([letter(1, payload=b"x" * 2 * WINDOW)], *([letter(number)] for number in range(2, 8)))
    assert numbers(whole[:-cut]) == [2, 3, 4, 5, 6]


# What is shown


def looked(output: Path, **given: Any) -> RecentDeliveries:
    recent = RecentDeliveries(str(output), **given)
    recent.look().result(20)
    return recent


def test_the_newest_are_shown_the_latest_first_from_whatever_part(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-02-b.avro", part([letter(number) for number in range(100, 160)]))
    put(tmp_path, "2026-01-01-a.avro", part([letter(number) for number in range(90)]))
    recent = looked(tmp_path)
    shown = [entry["id"] for entry in recent.of("a")]
    assert shown == [f"id-{number}" for number in [*range(159, 99, -1), *range(89, 49, -1)]]
    assert len(shown) == KEPT
    assert recent.last_of()["a"]["id"] == "id-159"
    # A part that was taken away is forgotten, and a new one is seen.
    (tmp_path / "dead_letters" / "2026-01-02-b.avro").unlink()
    put(tmp_path, "2026-01-03-c.avro", part([letter(500, "b")]))
    recent.look().result(20)
    assert recent.of("a")[0]["id"] == "id-89"
    assert recent.of("b")[0]["id"] == "id-500"


def test_damage_takes_nothing_else_with_it(tmp_path: Path) -> None:
    good = part([letter(1)])
    put(tmp_path, "a.avro", good)
    put(tmp_path, "b.avro", b"no part")
    put(tmp_path, "c.avro", b"")
    put(tmp_path, "d.avro", header(avro_schema("dead_letter"), SYNC) + block(9, b"\xff" * 40, SYNC))
    assert [entry["id"] for entry in looked(tmp_path).of("a")] == ["id-1"]


def test_a_look_that_takes_long_is_gone_on_with_by_the_next(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"{number}.avro", part([letter(number)]))
    times = iter(range(0, 10_000, 100))
    recent = RecentDeliveries(str(tmp_path), clock=lambda: float(next(times)))
    seen = []
    for _ in range(3):
        recent.look().result(20)
        seen.append([entry["id"] for entry in recent.of("a")])
    # The newest part first.
    assert seen == [["id-2"], ["id-2", "id-1"], ["id-2", "id-1", "id-0"]]


REASONS = ["dns", "address_refused", "connection_refused", "timeout", "tls", "http_404", "oversize", "unavailable"]


@pytest.mark.parametrize(
    ("hides_inside", "shown"),
    [
        (
            False,
            [NOT_REACHED, NOT_REACHED, "connection_refused", "timeout", "tls", "http_404", "oversize", "unavailable"],
        ),
        (True, [NOT_REACHED] * 5 + ["http_404", "oversize", "unavailable"]),
    ],
)
def test_what_is_inside_is_not_shown(tmp_path: Path, hides_inside: bool, shown: list[str]) -> None:
    last = "the receiver's last failure: address_refused"
    letters = [letter(number, reason=reason) for number, reason in enumerate(REASONS)]
    letters[-1]["response"] = last
    put(tmp_path, "a.avro", part(letters))
    entries = looked(tmp_path, hides_inside=hides_inside).of("a")[::-1]
    assert [entry["reason"] for entry in entries] == shown
    assert entries[-1]["response"] == f"the receiver's last failure: {NOT_REACHED}"


class Hanging(MemoryStorage):
    """A file system that answers for one part only when it is told to."""

    def __init__(self, hung: str) -> None:
        super().__init__()
        self.hung = hung
        self.free = threading.Event()

    def open(self, name: str) -> BinaryIO:
        if name == self.hung:
            self.free.wait(20)
        return super().open(name)


def test_an_output_that_does_not_answer_holds_up_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Hanging("dead_letters/1.avro")
    storage.files["dead_letters/0.avro"] = part([letter(7)])
    monkeypatch.setattr("registry.deliveries.storage_at", lambda output: storage)
    monkeypatch.setattr("registry.deliveries.WAIT", 0.05)
    recent = RecentDeliveries("memory://out")
    object.__setattr__(house.registry, "deliveries", recent)
    client = house.client(EDIT_ALL)
    create(client, _id="a")

    def shown() -> list[str]:
        return [entry["id"] for entry in client.get(f"{PATH}/a/deliveries").json()]

    assert shown() == ["id-7"]
    storage.files["dead_letters/1.avro"] = part([letter(8)])
    # What was known before is answered, however often it is asked for.
    assert [shown() for _ in range(3)] == [["id-7"]] * 3
    assert client.get(f"{PATH}/deliveries").json()["a"]["id"] == "id-7"
    storage.free.set()
    until(lambda: shown() == ["id-8", "id-7"])
