"""What a forwarder gets of a worker's sender in a streaming job, bundle after bundle, without Beam:

    python -m benchmarks.neighbours [--rounds N]

Alone, and beside another forwarder that is well, down, or slow. Rounds in turn, of which the medians are compared.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import closing

from benchmarks.delivery import receiver
from tests.support.ports import free_port
from tests.support.records import record
from transforms.accounting.board import Board
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions, Sender
from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.secrets import Secret
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.index import HistoryIndex
from transforms.receipts.runs import new_run_id

BUNDLES = 200
BUNDLE = 100
USERS = 5_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    logging.disable(logging.WARNING)  # that they are down and slow
    return neighbours(parser.parse_args().rounds)


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
            Sender(forwarders, StatementBuilder("https://example.org"), options, Board(output), lambda *_: None)
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
