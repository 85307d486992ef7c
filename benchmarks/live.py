"""What the fold of arriving activity costs beside the fold of batch: `python -m benchmarks.live`.

The same activity, in the order it happened, on one core and without Beam: one by one on kept state, packed and unpacked
each time as `transforms.live.FoldArriving` does, and all of a user at once. Rounds in turn; the medians are compared.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.workload import sample_file
from transforms.activity import ActivityDecoder, decode_admitted
from transforms.derivation import Derivation
from transforms.state import SessionLines, fold_on

Line = tuple[str, bytes]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[SessionLines]).decode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    lines = arriving(Path(tempfile.gettempdir()), arguments.activities)
    programs: dict[str, Callable[[Sequence[Line]], int]] = {"all of a user at once": in_batch, "as it arrives": live}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    records: dict[str, int] = {}
    for _ in range(arguments.rounds):
        for name, program in programs.items():
            started = time.perf_counter()
            records[name] = program(lines)
            seconds[name].append(time.perf_counter() - started)
    print(f"{len(lines):,} activities\n{'':24}{'us an activity':>16}{'ratio':>8}{'records':>10}")
    base = statistics.median(seconds["all of a user at once"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:24}{median / len(lines) * 1e6:16.1f}{median / base:8.2f}{records[name]:10,}")
    return 0


def arriving(directory: Path, activities: int) -> list[Line]:
    """(user id, admitted line), by time."""
    admit = ActivityDecoder().admit
    lines = map(admit, sample_file(directory, activities).read_bytes().splitlines())
    return sorted(lines, key=lambda line: decode_admitted(line[1]).occurred_at)


def in_batch(lines: Sequence[Line]) -> int:
    """How many records."""
    users: defaultdict[str, list[bytes]] = defaultdict(list)
    for user_id, line in lines:
        users[user_id].append(line)
    derive = Derivation().user
    return sum(len(derive(list(map(decode_admitted, of_user)))) for of_user in users.values())


def live(lines: Sequence[Line]) -> int:
    """How many records, those that are superseded later among them."""
    derivation, before = Derivation(), Derivation()
    kept: dict[str, bytes] = {}
    count = 0
    for now, (user_id, line) in enumerate(lines):
        packed = kept.get(user_id)
        sessions = _decode(packed) if packed else []
        count += len(fold_on(sessions, [line], now, derivation, before))
        kept[user_id] = _encode(sessions)
    return count


if __name__ == "__main__":
    sys.exit(main())
