"""What one more activity of a session costs in the fold, by how many responses the session has, in one run:

    python -m benchmarks.rescoring [--sizes 1000,10000,100000] [--activities 200]

Prints microseconds of processor time for each activity. A line that grows from left to right tells that something is
done again for all responses. The subscores have ten items each, so that a snapshot with 100 of them is one of 20 kB.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator

from schemas import Activity, Record, Response, SubscoreDefinition, Tag
from transforms.sessions.derivation import Derivation
from transforms.sessions.session import Session

ITEMS = 1000
SUBSCORES = 100

Next = Callable[[int, int], Activity]
"""Makes the activity that is measured, of its number and how many responses there are."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rescoring", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000", help="responses of the session")
    parser.add_argument("--activities", type=int, default=200, help="that are measured")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    print(f"{'microseconds for each':36}" + "".join(f"{size:>14,}" for size in sizes) + "  responses")
    for name, (submitted, later) in CASES.items():
        cells = [measured(size, submitted, later, options.activities) for size in sizes]
        print(f"{name:36}" + "".join(f"{cell:>14.1f}" for cell in cells), flush=True)


def measured(size: int, submitted: Activity, later: Next, count: int) -> float:
    """Microseconds of processor time for each of `count` activities that come after a session of `size` responses."""
    derivation = Derivation()
    session = Session(None, None, "s", "u")
    records: list[Record] = []
    before = [*answering(size), submitted]
    for place, activity in enumerate(before):
        derivation.fold(session, activity, place, records)
    activities = [later(number, size) for number in range(count)]
    derivation.fold(session, later(count, size), len(before), records)  # the first one may begin something anew
    gc.collect()
    start = time.process_time()
    for number, activity in enumerate(activities):
        derivation.fold(session, activity, len(before) + 1 + number, records)
    return (time.process_time() - start) / count * 1e6


def answering(size: int) -> Iterator[Activity]:
    yield of_session("START", 0)
    for first in range(0, size, ITEMS):
        answers = [response(number, 1) for number in range(first, min(size, first + ITEMS))]
        yield of_session("RESPOND", 1 + first, responses=answers)


def of_session(action: str, at: int, **given: object) -> Activity:
    return Activity(f"{action}{at}", "u", "s", "a", action, 1_581_897_600_000 + at, **given)  # type: ignore[arg-type]


def response(number: int, score: float | None) -> Response:
    return Response(f"r{number}", f"i{number % ITEMS}", attempted=True, score=score, max_score=2)


def rescore(number: int, size: int) -> Activity:
    changed = response(number * 37 % size, number % 7 / 4)
    return of_session("RESCORE", 1_000_000 + number, responses=[changed])


def repush(number: int, size: int) -> Activity:
    return of_session("SET_STATUS", 1_000_000 + number, status="Completed")


def with_tags(number: int, size: int) -> Activity:
    tags = [Tag("topic", str(number % SUBSCORES))]
    return of_session("RESCORE", 1_000_000 + number, item_tags={f"new{number}": tags})


def with_metadata(number: int, size: int) -> Activity:
    return of_session("PAUSE", 1_000_000 + number, metadata={f"name{number}": number})


def submit(**given: object) -> Activity:
    return of_session("SUBMIT", 999_999, **given)


PER_SUBSCORE = ITEMS // SUBSCORES
BY_ITEMS = [
    SubscoreDefinition(f"d{index}", "Subscore", items=[f"i{index * PER_SUBSCORE + n}" for n in range(PER_SUBSCORE)])
    for index in range(SUBSCORES)
]
BY_TAGS = [SubscoreDefinition(f"d{index}", "Subscore", tags=[Tag("topic", str(index))]) for index in range(SUBSCORES)]
TAGS = {f"i{item}": [Tag("topic", str(item // PER_SUBSCORE))] for item in range(ITEMS)}
MANY_NAMES: dict[str, str | bool | int | float | None] = {f"known{number}": number for number in range(1000)}
UNSCORED = Response("missing", "i0", attempted=True)

CASES: dict[str, tuple[Activity, Next]] = {
    "rescore": (submit(), rescore),
    "rescore, 100 subscores by items": (submit(subscores=BY_ITEMS), rescore),
    "rescore, 100 subscores by tags": (submit(subscores=BY_TAGS, item_tags=TAGS), rescore),
    "new item with tags, 100 subscores": (submit(subscores=BY_TAGS, item_tags=TAGS), with_tags),
    "SET_STATUS Completed again": (submit(), repush),
    "SCORE while one is missing": (submit(pending_scoring=True, responses=[UNSCORED]), rescore),
    "metadata, beside 1,000 names": (submit(metadata=MANY_NAMES), with_metadata),
}

if __name__ == "__main__":
    main()
