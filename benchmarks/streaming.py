"""Streaming, on one core and without Beam: rounds in turn, of which the medians are compared.

    python -m benchmarks.streaming [--activities N] [--rounds N]
    python -m benchmarks.streaming --neighbours [--rounds N]

The first compares two ways to fold the same activity: streaming, where it comes one by one in the order in which it
occurred, and the state is unpacked and packed again each time, as `transforms.derive_streaming.FoldStreaming` does; and
in batch, where all activity of a user is folded at once. The second measures what a forwarder gets of a worker's
sender, bundle after bundle: alone, and beside another forwarder that is well, down, or slow.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from benchmarks.delivery import receiver
from benchmarks.workload import sample_file
from tests.support.ports import free_port
from tests.support.records import record
from transforms.accounting.progress import Progress
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions, Sender
from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.secrets import Secret
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.reading.activity import ActivityDecoder, decode_admitted
from transforms.receipts.index import HistoryIndex
from transforms.receipts.runs import new_run_id
from transforms.sessions.derivation import Derivation
from transforms.sessions.state import SessionLines, fold_on

Line = tuple[str, bytes]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[SessionLines]).decode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbours", action="store_true")
    arguments = parser.parse_args()
    if arguments.neighbours:
        logging.disable(logging.WARNING)  # that they are down and slow
        return neighbours(arguments.rounds)
    lines = by_time(Path(tempfile.gettempdir()), arguments.activities)
    programs: dict[str, Callable[[Sequence[Line]], int]] = {"in batch": in_batch, "streaming": streaming}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    records: dict[str, int] = {}
    for _ in range(arguments.rounds):
        for name, program in programs.items():
            started = time.perf_counter()
            records[name] = program(lines)
            seconds[name].append(time.perf_counter() - started)
    print(f"{len(lines):,} activities\n{'':24}{'us an activity':>16}{'ratio':>8}{'records':>10}")
    base = statistics.median(seconds["in batch"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:24}{median / len(lines) * 1e6:16.1f}{median / base:8.2f}{records[name]:10,}")
    return 0


def by_time(directory: Path, activities: int) -> list[Line]:
    """(user id, admitted line) of a sample, in the order in which it occurred."""
    admit = ActivityDecoder().admit
    lines = map(admit, sample_file(directory, activities).read_bytes().splitlines())
    return sorted(lines, key=lambda line: decode_admitted(line[1]).occurred_at)


def in_batch(lines: Sequence[Line]) -> int:
    """How many records there are of all lines, folded user by user."""
    users: defaultdict[str, list[bytes]] = defaultdict(list)
    for user_id, line in lines:
        users[user_id].append(line)
    derive = Derivation().user
    return sum(len(derive(list(map(decode_admitted, of_user)))) for of_user in users.values())


def streaming(lines: Sequence[Line]) -> int:
    """How many records there are of all lines, folded one by one; with those that late activity superseded."""
    derivation, before = Derivation(), Derivation()
    kept: dict[str, bytes] = {}
    count = 0
    for now, (user_id, line) in enumerate(lines):
        packed = kept.get(user_id)
        sessions = _decode(packed) if packed else []
        count += len(fold_on(sessions, [line], now, derivation, before))
        kept[user_id] = _encode(sessions)
    return count


BUNDLES = 200
BUNDLE = 100
USERS = 5_000


def neighbours(rounds: int) -> int:
    """Records a second that a forwarder gets, 20,000 in bundles of 100, and how far behind the other is then."""
    rates: defaultdict[str, list[float]] = defaultdict(list)
    behind: dict[str, int] = {}
    # Answers after 20 ms, two requests at a time: at most 100 records/s.
    with receiver("http") as quick, receiver("http", delay=0.02) as slow:
        forwarders = {
            "alone": [],
            "beside one like it": [_http("other", quick.address, 16)],
            "beside one that is down": [_http("other", str(free_port()), 16)],
            "beside one that takes 100 records/s": [_http("other", slow.address, 2)],
        }
        for _ in range(rounds):
            for name, others in forwarders.items():
                rate, behind[name] = _sent((_http("quick", quick.address, 16), *others))
                rates[name].append(rate)
    base = statistics.median(rates["alone"])
    print(f"{'':38}{'records/s':>12}{'ratio':>8}{'the other is behind by':>26}")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"{name:38}{rate:12,.0f}{rate / base:8.2f}{behind[name]:26,}")
    return 0


def _http(name: str, port: str, concurrency: int) -> Forwarder:
    target = HttpTarget(Secret(f"http://127.0.0.1:{port}/in"), "127.0.0.1", concurrency=concurrency)
    return Forwarder(name, None, None, None, "record", 10, target)


def _sent(forwarders: tuple[Forwarder, ...]) -> tuple[float, int]:
    """Records a second that the first of them got, and how many deliveries to the others were not done then."""
    names = tuple(forwarder.id for forwarder in forwarders)
    matches = [[Match(record(f"user-{number % USERS}", number), None, names, ())] for number in range(BUNDLES * BUNDLE)]
    with tempfile.TemporaryDirectory() as output:
        options = DeliverOptions(
            output=output,
            run_id=new_run_id(1),
            history=HistoryIndex(output, ""),
            limits={},
            allow_networks=("127.0.0.0/8",),
            settings=DeliverySettings(linger=0.05),
            streaming=True,
            horizon=600.0,
        )
        with closing(
            Sender(forwarders, StatementBuilder("https://example.org"), options, Progress(output), lambda *_: None)
        ) as sender:
            started = time.perf_counter()
            delivered: Counter[str] = Counter()
            for start in range(0, len(matches), BUNDLE):
                for batch in matches[start : start + BUNDLE]:
                    sender.send(batch)
                for name, account in sender.finish().books.accounts.items():
                    delivered[name] += account.delivered
            seconds = time.perf_counter() - started
    return delivered[names[0]] / seconds, sum(len(matches) - delivered[name] for name in names[1:])


if __name__ == "__main__":
    sys.exit(main())
