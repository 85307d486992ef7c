"""What a run reads of earlier runs, spoilt: it is read rightly, or one error of ours names the file. No traceback."""

import random
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from schemas import Record
from schemas.buckets import BUCKETS
from schemas.record import decode_record
from tests.support.activity import activity
from tests.support.settlements import delivered, given_up
from transforms.matching.matcher import stored_document
from transforms.matching.statement import StatementBuilder
from transforms.reading.activity import encode
from transforms.reading.bucket_blobs import BucketBlobs
from transforms.receipts.history import History
from transforms.receipts.index import index_history
from transforms.receipts.journal import Journal, recover
from transforms.sessions.derivation import Derivation
from transforms.sessions.kept import SessionFold
from transforms.sessions.state import CURRENT, PARTS, BucketFold, StateOptions, commit, read_current
from transforms.storage import StorageError

DAY = 86_400_000
USERS = [f"u-{number}" for number in range(6)]
WAYS_TO_SPOIL = 200


def flipped(content: bytes, chance: random.Random) -> bytes:
    """One to eight bits are not as they were."""
    spoilt = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def zeroed(content: bytes, chance: random.Random) -> bytes:
    """A stretch of zeros, as a file system leaves it whose page was never written."""
    start = chance.randrange(len(content))
    end = min(len(content), start + chance.choice([1, 16, 512, len(content)]))
    return content[:start] + bytes(end - start) + content[end:]


def moved(content: bytes, chance: random.Random) -> bytes:
    """A stretch is missing in the middle."""
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.randint(1, 64) :]


SPOILERS: list[Callable[[bytes, random.Random], bytes]] = [flipped, flipped, cut, zeroed, moved]


def run_on_state(directory: Path, kind: str) -> list[Record]:
    """One run on a state, over an activity of this kind of each user; its records."""
    blobs = BucketBlobs()
    for user in USERS:
        blobs.lines[user].append(encode(activity(kind, 1, user_id=user)))
    current = read_current(str(directory))
    options = StateOptions(str(directory), kind, 0, DAY, tuple(current.parts.items()))
    records: list[Record] = []
    written = {}
    for bucket, blob in blobs.take():
        fold = BucketFold(options, bucket, SessionFold(Derivation(), Derivation()))
        for _, of_user in fold.records([blob]):
            records += of_user
        written[bucket] = fold.close()
    commit(str(directory), current, kind, written, {}, 0, DAY)
    return records


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with receipts and dead letters, a journal that a kill left, and a state."""
    place = tmp_path_factory.mktemp("sound")
    ticks = count(1_700_000_000_000)
    for name in ("a", "b"):
        journal = Journal(str(place / "out"), name, "w", clock=lambda: next(ticks))
        for number in range(4):
            journal.settle([delivered(f"{name}{number}{user}", user=user) for user in USERS])
            journal.settle([given_up(f"{name}{number}{user}-", user=user, kind="score") for user in USERS])
        journal.close()
    left = next((place / "out" / "receipts").glob("b-*"))
    left.rename(left.with_suffix(".journal"))
    run_on_state(place / "state", "START")
    return place


def everything(place: Path) -> Iterator[tuple[str, ...]]:
    """All that a run and a redrive read, with the files that it is from, as rows."""
    output = str(place / "out")
    recover(output)
    history = History(index_history(output, "now", dead_letters=True))
    for bucket in range(BUCKETS):
        for forwarder, ids in history.bucket(bucket).items():
            yield from (("delivered", forwarder, id_) for id_ in ids)
    statements = StatementBuilder("https://school.example")
    for letter in history.undelivered_dead_letters():
        stored_document(letter, decode_record(letter.record), statements)
        yield "letter", letter.forwarder_id, letter.id
    for record in run_on_state(place / "state", "SUBMIT"):
        yield "record", record.user_id, record.id


def attempt(place: Path) -> tuple[set[tuple[str, ...]], str]:
    """What is read, and the error that names a file; whatever else is raised is a fault."""
    try:
        return set(everything(place)), ""
    except StorageError as error:
        return set(), str(error)


def files(place: Path) -> list[Path]:
    state = [place / "state" / CURRENT, *(place / "state" / PARTS).iterdir()]
    return [*sorted((place / "out").rglob("*.*")), *sorted(state)]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_spoilt_is_read_rightly_or_named(sound: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    truth = set(everything(shutil.copytree(sound, tmp_path / "truth")))
    assert {kind for kind, *_ in truth} == {"delivered", "letter", "record"}
    refused = 0
    for number in range(WAYS_TO_SPOIL // 4):
        place = shutil.copytree(sound, tmp_path / str(number))
        victim = chance.choice(files(place))
        spoil = chance.choice(SPOILERS)
        victim.write_bytes(spoil(victim.read_bytes(), chance))
        name = str(victim.relative_to(place))
        found, error = attempt(place)
        if error:
            refused += 1
            # A letter is known by its run, whose name its file begins with; a state by the file that it asks for.
            told = name.removesuffix(".journal").removeprefix("out/")
            if victim.parent.name == "dead_letters":
                told = told.removesuffix("-w-000000.avro")
            elif victim.name == CURRENT and "cannot be read" not in error:
                told = "state/"
            assert told in error, (name, error)
            assert "\n" not in error
        else:
            # A letter of an id may have become another one, which nothing tells. Rows are not made of nothing: there
            # is no more that was never written than bits were turned over.
            assert len(found - truth) <= 8, (name, spoil.__name__)
        shutil.rmtree(place)
    assert refused > WAYS_TO_SPOIL // 4 // 5
