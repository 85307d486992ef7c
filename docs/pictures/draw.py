"""Draws the pictures of the documentation: `python docs/pictures/draw.py` writes the .svg files beside this one.

The pictures are this text: boxes and arrows with their places, in pixels. A box has its own background and an arrow a
grey between black and white, so a picture can be read on a light page and on a dark one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent

STEP = ("#dbeafe", "#2563eb")
OUTSIDE = ("#eef2f6", "#7b8794")
KEPT = ("#dcfce7", "#16a34a")
ASKED = ("#fef3c7", "#d97706")
CORE = ("#ede9fe", "#7c3aed")
"""Fill and border: what the job does, what is not the job's, what it leaves on disk, what decides who gets what, what
has never heard of Beam."""

_INK = "#111827"
_GREY = "#76808c"
_LINE = 15


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of smaller text under it."""

    x: int
    y: int
    width: int
    height: int
    colours: tuple[str, str]
    title: str
    lines: Sequence[str] = ()

    def svg(self) -> Iterator[str]:
        fill, border = self.colours
        yield (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="7" '
            f'fill="{fill}" stroke="{border}" stroke-width="1.5"/>'
        )
        middle = self.x + self.width / 2
        first = self.y + self.height / 2 + 5 - len(self.lines) * _LINE / 2
        yield _text(middle, first, self.title, _INK, 14, bold=True)
        for number, line in enumerate(self.lines, start=1):
            yield _text(middle, first + number * _LINE, line, _INK, 11.5)


@dataclass(frozen=True)
class Label:
    """A word beside the boxes."""

    x: int
    y: int
    text: str

    def svg(self) -> Iterator[str]:
        yield _text(self.x, self.y, self.text, _GREY, 12, bold=True)


@dataclass(frozen=True)
class Arrow:
    """A line from point to point with a head at its end. `label` is written at `label_at`, by its middle."""

    points: Sequence[tuple[int, int]]
    label: str = ""
    label_at: tuple[int, int] = (0, 0)
    dashed: bool = False

    def svg(self) -> Iterator[str]:
        path = " ".join(f"{x},{y}" for x, y in self.points)
        dashes = ' stroke-dasharray="5 4"' if self.dashed else ""
        yield (
            f'<polyline points="{path}" fill="none" stroke="{_GREY}" stroke-width="1.8"{dashes} '
            'marker-end="url(#head)"/>'
        )
        if self.label:
            yield _text(*self.label_at, self.label, _GREY, 12, bold=True)


def _text(x: float, y: float, text: str, colour: str, size: float, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size:g}"{weight}>{escape(text)}</text>'


def drawing(title: str, width: int, height: int, parts: Sequence[Box | Label | Arrow]) -> str:
    """The picture as SVG. `title` is what a reader hears who does not see it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="system-ui, -apple-system, \'Segoe UI\', Helvetica, Arial, sans-serif" '
        'text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0,0 L10,5 L0,10 z" fill="{_GREY}"/></marker></defs>',
        *(line for part in parts for line in part.svg()),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def the_way_of_the_data() -> str:
    """For the README: what comes in, the four steps, what goes out and what stays."""
    return drawing(
        "The way of the data: files or a data stream are read, sessions are derived to records, records are matched "
        "against the queries of forwarder documents and delivered to Kinesis, Firehose and HTTP. Rejects, records, "
        "receipts, dead letters and a report are kept.",
        880,
        336,
        (
            Box(8, 104, 122, 64, OUTSIDE, "files", ("JSON Lines, JSON,", "Avro, Parquet, xAPI")),
            Box(8, 180, 122, 46, OUTSIDE, "a data stream", ("--streaming",)),
            Box(170, 128, 116, 76, STEP, "read", ("check each one,", "refuse the broken")),
            Box(356, 128, 116, 76, STEP, "derive", ("fold each user's", "sessions")),
            Box(542, 128, 116, 76, STEP, "match", ("each record with", "every query")),
            Box(728, 128, 128, 76, STEP, "deliver", ("in order per user,", "with retries")),
            Box(346, 12, 136, 48, KEPT, "state", ("--state: earlier runs'",)),
            Box(528, 12, 144, 48, ASKED, "forwarders", ("a file, or the registry",)),
            Box(712, 12, 160, 48, OUTSIDE, "receivers", ("Kinesis, Firehose, HTTP",)),
            Box(170, 276, 116, 46, KEPT, "rejects", ("rejects/",)),
            Box(356, 276, 116, 46, KEPT, "records", ("--write_records",)),
            Box(542, 276, 116, 46, KEPT, "dead letters", ("dead_letters/",)),
            Box(674, 276, 98, 46, KEPT, "receipts", ("receipts/",)),
            Box(784, 276, 88, 46, KEPT, "report", ("report.json",)),
            Arrow(((130, 136), (148, 136), (148, 156), (168, 156))),
            Arrow(((130, 203), (148, 203), (148, 176), (168, 176))),
            Arrow(((286, 166), (354, 166)), "activity", (319, 157)),
            Arrow(((472, 166), (540, 166)), "records", (505, 157)),
            Arrow(((658, 166), (726, 166)), "matches", (691, 157)),
            Arrow(((792, 128), (792, 62))),
            Arrow(((600, 60), (600, 126)), "queries", (628, 99)),
            Arrow(((406, 128), (406, 62))),
            Arrow(((422, 60), (422, 126))),
            Arrow(((228, 204), (228, 274))),
            Arrow(((414, 204), (414, 274))),
            Arrow(((738, 204), (738, 240), (622, 240), (622, 274))),
            Arrow(((752, 204), (752, 274))),
            Arrow(((766, 276), (766, 206))),
            Arrow(((828, 204), (828, 274))),
            Arrow(((578, 276), (578, 206)), "--redrive", (544, 246), dashed=True),
        ),
    )


_STEPS = (
    "read · read_statements · read_kinesis · derive · derive_streaming · match · catch_up · preview · deliver · "
    "redrive · write"
)


def who_stands_on_whom() -> str:
    """For the architecture: rooms as layers. Each may import what is below it, and nothing above or beside it."""
    rows: Sequence[tuple[str, Sequence[tuple[str, str, tuple[str, str]]]]] = (
        ("who starts", (("pipeline/", "the job", STEP), ("registry/", "the service that holds forwarders", ASKED))),
        ("steps in Beam", (("transforms/*.py", _STEPS, STEP),)),
        (
            "",
            (
                ("transforms/bundles.py", "what steps share in Beam", STEP),
                ("sources/", "statements where they live", CORE),
            ),
        ),
        (
            "",
            (
                ("delivery/", "order and retries: lanes, engine, sender", CORE),
                ("observing/", "metrics and alerts, by the board", CORE),
            ),
        ),
        (
            "cores in",
            (
                ("receipts/", "what was settled, on disk", CORE),
                ("accounting/", "what was counted", CORE),
                ("telemetry/", "OpenTelemetry, if asked for", CORE),
            ),
        ),
        (
            "transforms/,",
            (("sinks/", "one attempt at a target", CORE), ("matching/", "who is due what, and what is sent", CORE)),
        ),
        (
            "without Beam",
            (
                ("forwarders/", "documents to forwarders", CORE),
                ("sessions/", "the fold to records", CORE),
                ("statements/", "as they are, in order", CORE),
            ),
        ),
        ("", (("query/", "MongoDB's language", CORE), ("reading/", "what is accepted as input", CORE))),
        (
            "files",
            (("transforms/storage.py", "a directory, here or anywhere", KEPT),),
        ),
        (
            "",
            (
                ("transforms/durability.py", "what outlives a power cut", KEPT),
                ("transforms/beam_import.py", "the import of Beam · below it s3_clients", KEPT),
            ),
        ),
        ("words", (("schemas/", "Avro files and their types, times, buckets: imports none of ours", KEPT),)),
    )
    left, width, height, gap = 132, 880, 46, 8
    parts: list[Box | Label | Arrow] = []
    for number, (label, boxes) in enumerate(rows):
        y = 8 + number * (height + gap)
        wide = (width - left - 8 - gap * (len(boxes) - 1)) // len(boxes)
        for place, (title, line, colours) in enumerate(boxes):
            parts.append(Box(left + place * (wide + gap), y, wide, height, colours, title, (line,)))
        if label:
            parts.append(Label(74, y + height // 2 + 4, label))
    bottom = 8 + len(rows) * (height + gap)
    parts.append(Arrow(((12, 30), (12, bottom - 20))))
    return drawing(
        "Who stands on whom, from the top: pipeline and registry; the steps in Beam; bundles and sources; "
        "delivery and observing; receipts, accounting and telemetry; sinks and matching; forwarders, sessions and "
        "statements; query and reading; storage; durability and the import of Beam, with its clients of S3; schemas. "
        "All imports go down.",
        width,
        bottom,
        parts,
    )


PICTURES = {"way.svg": the_way_of_the_data, "layers.svg": who_stands_on_whom}


def main() -> None:
    """Write every picture."""
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
