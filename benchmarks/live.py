"""What an activity costs as it arrives, on one core and without Beam: folded on, and refolded as release 0.1 did.

    python -m benchmarks.live [--activities N] [--rounds N] [--plot PATH]
    python -m benchmarks.live --days N

First a sample, activity by activity in the order in which it occurred, and in batch, all of a user at once. Then one
session of more and more activities, and one user of more and more sessions: the cost of the next ten activities, as one
bundle, and as a bundle each. A cost is the least processor time of all rounds, and the bytes that are written.
They are those that `transforms.derive_streaming.FoldStreaming` writes.

With `--days`: how large the state is after so many days, in each of which each of 100 users has one session of 13
activities, and sessions are kept for 30 days. Timers go off as event time gets to them.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import msgspec

from benchmarks.workload import sample_file
from schemas import Activity, Response
from transforms.reading.activity import ActivityDecoder, decode_admitted, encode
from transforms.sessions.derivation import Derivation
from transforms.sessions.kept import KeptSession, SessionFold, fold_on
from transforms.sessions.user_state import UserState

Line = tuple[str, bytes]

LENGTHS = (10, 50, 100, 400, 1000)
SESSIONS = (1, 10, 50, 200)
BUNDLE = 10
_DAY = 86_400_000
TTL = 30 * _DAY
_USERS_OF_DAYS = 100
_QUESTIONS = 40
_OF_A_SESSION = 13
_USERS = 20
"""Of a round: copies of one user, one after the other."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[KeptSession]).decode


class FoldedOn:
    """A user's state as a streaming job keeps it."""

    def __init__(self) -> None:
        self.fold = SessionFold(Derivation(), Derivation())
        self.packed: bytes | None = None
        self.log: list[bytes] = []
        self.written = 0
        self.timer: int | None = None

    def copy(self) -> "FoldedOn":
        other = FoldedOn()
        other.packed, other.log = self.packed, self.log.copy()
        return other

    def bundle(self, lines: Iterable[bytes], now: int = 0) -> int:
        """Fold lines on, as one bundle that arrives `now` (epoch ms). Returns how many records they cause."""
        state = UserState() if self.packed is None else UserState.unpack(self.packed)
        records = sum(len(state.arrive(line, now, TTL, self.fold, self)) for line in lines)
        self.timer = state.set_timer(TTL)
        self.packed = state.pack()
        self.written += len(self.packed)
        self.fold.derivation.start_anew()
        return records

    def forget(self, now: int) -> tuple[int | None, int]:
        """The timer goes off. Returns when the next one does, and how many sessions were forgotten."""
        if self.packed is None:
            return None, 0
        state = UserState.unpack(self.packed)
        timer = state.forget(now, TTL, self)
        self.packed = None if timer is None else state.pack()
        return timer, state.forgotten

    def read(self) -> Iterable[bytes]:
        return self.log

    def add(self, value: bytes) -> None:
        self.log.append(value)
        self.written += len(value)

    def clear(self) -> None:
        self.log = []


class Refolded:
    """A user's state as release 0.1 kept it: every activity unpacks it, folds its session twice, and packs it again."""

    def __init__(self) -> None:
        self.fold = SessionFold(Derivation(), Derivation())
        self.packed = b"\x90"
        self.written = 0

    def copy(self) -> "Refolded":
        other = Refolded()
        other.packed = self.packed
        return other

    def bundle(self, lines: Iterable[bytes]) -> int:
        """As that of `FoldedOn`."""
        records = 0
        for line in lines:
            sessions = _decode(self.packed)
            records += len(fold_on(sessions, [line], 0, self.fold))
            kept = [[*each.key[:3], each.arrived, each.lines, each.home_page, each.voided] for each in sessions]
            self.packed = _encode(kept)
            self.written += len(self.packed)
        return records


WAYS: dict[str, Callable[[], FoldedOn | Refolded]] = {"folded on": FoldedOn, "refolded": Refolded}


@dataclass(frozen=True)
class Cost:
    """Of an activity: us of processor time, and bytes written."""

    microseconds: float
    written: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, default=20_000, help="of the sample")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="draw how cost grows, as PNG (needs matplotlib)")
    parser.add_argument("--days", type=int, help="simulate so many days instead")
    arguments = parser.parse_args()
    if arguments.days:
        _days(arguments.days)
        return 0
    _of_a_sample(arguments.activities, arguments.rounds)
    by_length = {length: session(length + BUNDLE) for length in LENGTHS}
    by_sessions = {count: user(count) for count in SESSIONS}
    tables = {
        "activities of the session": _growth(by_length, arguments.rounds),
        "sessions of the user": _growth(by_sessions, arguments.rounds),
    }
    for title, costs in tables.items():
        _print(title, costs)
    if arguments.plot:
        plot(tables, arguments.plot)
    return 0


def session(activities: int, name: str = "session-0", start: int = 1_767_225_600_000) -> list[bytes]:
    """The lines of one session: a start, and then answers to 40 questions, again and again."""
    return [encode(_activity(name, number, start + 1000 * number)) for number in range(activities)]


def user(sessions: int) -> list[bytes]:
    """The lines of one user of so many sessions of 13 activities, one after the other. The last has a bundle more."""
    lines: list[bytes] = []
    for number in range(sessions):
        length = _OF_A_SESSION + (BUNDLE if number == sessions - 1 else 0)
        lines += session(length, f"session-{number}", 1_767_225_600_000 + 3_600_000 * number)
    return lines


def _activity(name: str, number: int, at: int) -> Activity:
    question = f"response-{number % _QUESTIONS:04}"
    answer = Response(question, f"item-{number % _QUESTIONS:04}", True, score=number % 3, max_score=2)
    return Activity(
        record_id=f"{name}-{number:08}-582ddc25-e804-4d44",
        user_id="learner-00018042-91b6645a",
        session_id=f"47d3711a-0b09-5091-86d5-{name}",
        activity_id="activity_0000000177",
        action="RESPOND" if number else "START",
        occurred_at=at,
        organisation="district-7",
        lrs_id="store-0-0",
        seq=number,
        num_questions=_QUESTIONS,
        responses=[answer] if number else [],
        metadata={"device": "chromebook", "form": "B", "attempt": 3, "accommodated": False},
    )


def _growth(cases: Mapping[int, Sequence[bytes]], rounds: int) -> dict[str, dict[int, Cost]]:
    """What the last ten lines of each case cost, by how they are folded."""
    costs: dict[str, dict[int, Cost]] = {}
    for name, way in WAYS.items():
        for size in (BUNDLE, 1):
            costs[f"{name}, {size} in a bundle"] = {
                number: _cost(way, lines[:-BUNDLE], lines[len(lines) - BUNDLE :], size, rounds)
                for number, lines in cases.items()
            }
    return costs


def _cost(
    way: Callable[[], FoldedOn | Refolded], before: Sequence[bytes], lines: Sequence[bytes], size: int, rounds: int
) -> Cost:
    known = way()
    if isinstance(known, Refolded):
        # All at once: activity by activity it takes minutes.
        sessions: list[KeptSession] = []
        fold_on(sessions, before, 0, known.fold)
        known.packed = _encode([[*each.key[:3], each.arrived, each.lines, each.home_page, []] for each in sessions])
    else:
        for start in range(0, len(before), BUNDLE):
            known.bundle(before[start : start + BUNDLE])
    bundles = [lines[start : start + size] for start in range(0, len(lines), size)]
    seconds, written = [], 0
    for _ in range(_USERS * rounds):
        one = known.copy()
        started = process_time()
        for bundle in bundles:
            one.bundle(bundle)
        seconds.append(process_time() - started)
        written = one.written
    return Cost(min(seconds) / len(lines) * 1e6, written / len(lines))


def _days(days: int) -> None:
    users = [FoldedOn() for _ in range(_USERS_OF_DAYS)]
    timers: dict[FoldedOn, int] = {}
    print(f"{'day':>6}{'KB of heads':>14}{'KB of logs':>14}{'sessions forgotten':>20}{'us an activity':>16}")
    for day in range(days):
        started, forgotten = process_time(), 0
        for number, each in enumerate(users):
            now = day * _DAY + number
            while each in timers and timers[each] <= now:
                timer, count = each.forget(timers.pop(each))
                forgotten += count
                if timer is not None:
                    timers[each] = timer
            lines = session(_OF_A_SESSION, f"session-{day}", now + 1_767_225_600_000)
            for start in range(0, _OF_A_SESSION, BUNDLE):
                each.bundle(lines[start : start + BUNDLE], now)
                if each.timer is not None:
                    timers[each] = each.timer
        seconds = process_time() - started
        if (day + 1) % 5 == 0:
            heads = sum(len(each.packed or b"") for each in users) / 1000
            logs = sum(sum(map(len, each.log)) for each in users) / 1000
            cost = seconds / (len(users) * _OF_A_SESSION) * 1e6
            print(f"{day + 1:6}{heads:14,.0f}{logs:14,.0f}{forgotten:20,}{cost:16.0f}", flush=True)


def _print(title: str, costs: Mapping[str, Mapping[int, Cost]]) -> None:
    numbers = list(next(iter(costs.values())))
    print(f"\n{title:32}" + "".join(f"{number:>16,}" for number in numbers) + f"{'last / first':>14}")
    for name, row in costs.items():
        cells = "".join(f"{f'{c.microseconds:,.0f} us {c.written / 1000:,.1f} KB':>16}" for c in row.values())
        print(f"{name:32}{cells}{row[numbers[-1]].microseconds / row[numbers[0]].microseconds:14.2f}")


def _of_a_sample(activities: int, rounds: int) -> None:
    lines = by_time(Path(tempfile.gettempdir()), activities)
    programs: dict[str, Callable[[Sequence[Line]], int]] = {
        "in batch": in_batch,
        "folded on, 1 in a bundle": lambda lines: streaming(lines, FoldedOn),
        "refolded": lambda lines: streaming(lines, Refolded),
    }
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    records: dict[str, int] = {}
    for _ in range(rounds):
        for name, program in programs.items():
            started = process_time()
            records[name] = program(lines)
            seconds[name].append(process_time() - started)
    print(f"{len(lines):,} activities\n{'':32}{'us an activity':>16}{'ratio':>8}{'records':>10}")
    base = min(seconds["in batch"])
    for name, times in seconds.items():
        print(f"{name:32}{min(times) / len(lines) * 1e6:16.1f}{min(times) / base:8.2f}{records[name]:10,}")


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


def streaming(lines: Sequence[Line], way: Callable[[], FoldedOn | Refolded]) -> int:
    """How many records there are of all lines, folded one by one; with those that late activity superseded."""
    users: defaultdict[str, FoldedOn | Refolded] = defaultdict(way)
    return sum(users[user_id].bundle([line]) for user_id, line in lines)


def plot(tables: Mapping[str, Mapping[str, Mapping[int, Cost]]], path: Path) -> None:
    """A panel for each table, and of each for time and bytes. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2 * len(tables), figsize=(16, 4))
    columns = [(title, measure) for title in tables for measure in ("us an activity", "bytes written an activity")]
    for panel, (title, measure) in zip(panels, columns, strict=True):
        for name, row in tables[title].items():
            ys = [cost.microseconds if measure.startswith("us") else cost.written for cost in row.values()]
            panel.plot(list(row), ys, marker="o", markersize=3, linewidth=1, label=name)
        panel.set(xscale="log", yscale="log", title=measure, xlabel=title)
        panel.grid(visible=True, which="major", linewidth=0.3)
        panel.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
