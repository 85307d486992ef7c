"""Plots as SVG: shapes alone, which stretch with the page. What is to be read beside them is HTML, and does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.page.markup import Markup, element
from transforms.accounting.accounts import Moment, Timeline

_MOST_COLUMNS = 48
_HEIGHT = 100


@dataclass(frozen=True)
class Axis:
    """The time that plots have in common.

    Attributes:
        first: the number of the first moment: epoch ms, divided by the width.
        count: of moments.
        width: of a moment, in ms.
    """

    first: int
    count: int
    width: int

    @property
    def start(self) -> int:
        """Epoch ms."""
        return self.first * self.width

    @property
    def end(self) -> int:
        """Epoch ms."""
        return (self.first + self.count) * self.width

    def moments(self, timelines: Sequence[Timeline]) -> list[Moment]:
        """What was settled in each moment, all timelines added up."""
        moments = [Moment() for _ in range(self.count)]
        for timeline in timelines:
            for number, moment in timeline.moments.items():
                moments[number * timeline.width // self.width - self.first].merge(moment)
        return moments


def axis_of(timelines: Sequence[Timeline]) -> Axis | None:
    """An axis on which all timelines have room; None if nothing was settled."""
    used = [timeline for timeline in timelines if timeline.moments]
    if not used:
        return None
    width = max(timeline.width for timeline in used)
    start = min(min(timeline.moments) * timeline.width for timeline in used)
    end = max((max(timeline.moments) + 1) * timeline.width for timeline in used)
    while (end - 1) // width - start // width + 1 > _MOST_COLUMNS:
        width *= 2
    first = start // width
    return Axis(first, (end - 1) // width - first + 1, width)


def shares(parts: Mapping[str, int], label: str) -> Markup:
    """One bar that is made of parts, as wide as their shares.

    Args:
        parts: counts by the class of their colour.
        label: what the bar says, for those who do not see it.
    """
    whole = sum(parts.values()) or 1
    pieces, at = [], 0.0
    for colour, count in parts.items():
        wide = 1000 * count / whole
        if count:
            # What is there is seen, however little it is.
            pieces.append(
                element("rect", x=_number(at), y=0, width=_number(max(wide, 4)), height=_HEIGHT, class_=colour)
            )
        at += wide
    return _plot(pieces, "bar", label, 1000)


def columns(moments: Sequence[Moment], label: str, *, small: bool = False) -> Markup:
    """What was settled over time: a column for each moment, of what was delivered and, on top, given up."""
    most = max((moment.delivered + moment.dead for moment in moments), default=0) or 1
    delivered, dead = [], []
    for place, moment in enumerate(moments):
        high, top = _HEIGHT * moment.delivered / most, _HEIGHT * (moment.delivered + moment.dead) / most
        if moment.delivered:
            delivered.append(_box(place, 0, max(high, 1)))
        if moment.dead:
            dead.append(_box(place, high, max(top, high + 1)))
    pieces = [
        element("path", d="".join(boxes), class_=colour)
        for boxes, colour in ((delivered, "delivered"), (dead, "dead"))
        if boxes
    ]
    return _plot(pieces, "spark" if small else "chart", label, 10 * len(moments))


def lines(moments: Sequence[Moment], label: str, *, small: bool = False) -> Markup:
    """How long records took over time: the mean of each moment as a line and, where there is room, the slowest."""
    most = max((moment.slowest for moment in moments), default=0) if not small else max(map(mean, moments), default=0)
    slowest = [] if small else _steps([moment.slowest for moment in moments], moments, most or 1)
    middle = _steps([mean(moment) for moment in moments], moments, most or 1)
    pieces = [
        element("path", d=way, class_=colour)
        for ways, colour in ((slowest, "slowest"), (middle, "mean"))
        for way in ways
    ]
    return _plot(pieces, "spark" if small else "chart", label, 10 * len(moments))


def mean(moment: Moment) -> float:
    """Milliseconds that the records of a moment took on average, of those of which an attempt was made."""
    return moment.waited / moment.tried if moment.tried else 0.0


def _steps(values: Sequence[float], moments: Sequence[Moment], most: float) -> list[str]:
    """A line through the middles of the moments in which anything was settled that had been tried."""
    points = [
        (10 * place + 5, _HEIGHT - (_HEIGHT - 2) * value / most)
        for place, (value, moment) in enumerate(zip(values, moments, strict=True))
        if moment.tried
    ]
    if not points:
        return []
    if len(points) == 1:
        (x, y) = points[0]
        points = [(x - 4, y), (x + 4, y)]
    return ["M" + "L".join(f"{x} {_number(y)}" for x, y in points)]


def _box(place: int, low: float, high: float) -> str:
    return f"M{10 * place + 1} {_number(_HEIGHT - low)}V{_number(_HEIGHT - high)}h8V{_number(_HEIGHT - low)}z"


def _plot(pieces: list[Markup], class_: str, label: str, width: int) -> Markup:
    return element(
        "svg",
        pieces,
        class_=class_,
        viewBox=f"0 0 {max(width, 10)} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
