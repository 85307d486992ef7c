"""What a fault laboratory asks of an experiment: nothing lost, nothing out of order, every duplicate explained."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from transforms.sinks.base import Settlement


@dataclass
class Findings:
    """Record ids, by what is wrong with them; `exempt` were given up after an ambiguous attempt."""

    arrived: int = 0
    lost: list[str] = field(default_factory=list)
    inverted: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    exempt: list[str] = field(default_factory=list)
    never_settled: list[str] = field(default_factory=list)
    settled_twice: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether `assert_clean` has nothing to say."""
        return not (
            self.lost or self.inverted or self.unexplained or self.never_settled or self.settled_twice or self.unknown
        )

    def assert_clean(self) -> None:
        assert not self.lost, f"lost: {self.lost[:5]}"
        assert not self.inverted, f"out of order: {self.inverted[:5]}"
        assert not self.unexplained, f"twice without a cause: {self.unexplained[:5]}"
        assert not self.never_settled, f"never settled: {self.never_settled[:5]}"
        assert not self.settled_twice, f"settled twice: {self.settled_twice[:5]}"
        assert not self.unknown, f"arrived, and nobody sent it: {self.unknown[:5]}"


@dataclass(frozen=True)
class End:
    """How one record was settled; `ambiguous` is the sender's own word."""

    id: str
    delivered: bool
    ambiguous: bool


def check(
    due: Iterable[tuple[str, str]],
    arrivals: Sequence[str],
    settlements: Sequence[Settlement],
    ambiguous: Mapping[str, bool],
) -> Findings:
    """Judge one forwarder's experiment with the engine; in: see `check_ends`."""
    ends = [End(each.item.record.id, each.delivered, each.item.ambiguous) for each in settlements]
    return check_ends(due, arrivals, ends, ambiguous)


def check_ends(
    due: Iterable[tuple[str, str]], arrivals: Sequence[str], ends: Sequence[End], ambiguous: Mapping[str, bool]
) -> Findings:
    """Judge one forwarder's experiment.

    `due`: (user, record id) in the order each user's records were handed in. `arrivals`: ids in the order the receiver
    stored them. `ambiguous`: whether the receiver's log has an answer, or a missing one, that left the sender in doubt.
    """
    findings = Findings()
    places: dict[str, tuple[str, int]] = {}
    counts: Counter[str] = Counter()
    for user, id_ in due:
        places[id_] = (user, counts[user])
        counts[user] += 1
    settled = Counter(end.id for end in ends)
    findings.settled_twice = [id_ for id_, times in settled.items() if times > 1]
    findings.never_settled = [id_ for id_ in places if id_ not in settled]

    times = Counter(arrivals)
    findings.arrived = len(times)
    findings.unknown = [id_ for id_ in times if id_ not in places]
    findings.duplicated = [id_ for id_, count in times.items() if count > 1]
    findings.unexplained = [id_ for id_ in findings.duplicated if not ambiguous.get(id_, False)]
    findings.lost = [end.id for end in ends if end.delivered and end.id not in times]
    in_doubt = {end.id for end in ends if not end.delivered and end.ambiguous}

    furthest: dict[str, int] = {}
    for id_ in dict.fromkeys(arrivals):
        if id_ in findings.unknown:
            continue
        user, place = places[id_]
        if place < furthest.get(user, -1):
            (findings.exempt if id_ in in_doubt else findings.inverted).append(id_)
        elif id_ not in in_doubt:
            furthest[user] = place
    return findings
