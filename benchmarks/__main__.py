"""Everything side by side, in one run:

    python -m benchmarks [NAME ...] [--sizes 100000,1000000,5000000] [--json PATH] [--plot PATH]

NAMEs select comparisons; `python -m benchmarks --help` lists them. All programs work on the same seeded activity and
the run ends with status 1 if they did not deliver the same. Peers need a Python of their own in which they and this
project's dependencies are installed (`--peers_python`), Quix Streams a Kafka broker's jars besides (`--kafka`): what
is not there is left out.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import growth, report
from benchmarks.sinks import running_sinks
from benchmarks.suite import COMPARISONS, DifferentError, Row, Suite
from transforms.beam_import import import_beam

OTHERS = {
    "match": "match only, against 10 to 10,000 forwarders",
    "memory": "end to end on a handful, and with a user who has 100,000 activities",
    "batches": "many records in one call, over HTTP and to Kinesis (at its own sizes; see benchmarks/batches.py)",
    "growth": "derive + match + encode at sizes between the others'",
}
GROWTH_SIZES = (10_000, 30_000, 300_000)
SIZES = (100_000, 1_000_000, 5_000_000)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    known = [*(comparison.name for comparison in COMPARISONS), *OTHERS]
    names = options.names or known
    if unknown := set(names).difference(known):
        parser.error(f"no comparison is called {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if "batches" in names and not options.from_json:
        import_beam()  # which `batches` would else import with all of its connectors, and a warning of one
        from benchmarks import batches

        batches.measure(batches.STATEMENTS, options.rounds, batches.RECORDS)
        if names == ["batches"]:
            return 0
    rows: list[Row] = [row for earlier in options.from_json for row in report.read_json(earlier)]
    if not options.from_json and not _measured(options, names, rows):
        return 1
    slopes = growth.slopes(rows)
    promises = report.promises(rows)
    print(f"\n{report.table(rows)}\n\n{report.promises_text(promises)}\n")
    for name, slope in slopes.items():
        print(f"{name}: slope {slope['all']:.2f}, between the last two {slope['last']:.2f}")
    for count, matches in growth.hits(rows).items():
        print(f"{count} forwarders: {matches:.2f} matches a record")
    if options.json:
        report.write_json(options.json, rows, promises, slopes)
    if options.plot:
        growth.plot(rows, options.plot)
    return 0


def _measured(options: argparse.Namespace, names: list[str], rows: list[Row]) -> bool:
    """Adds to `rows`; False if programs did not deliver the same."""
    options.directory.mkdir(parents=True, exist_ok=True)
    with running_sinks() as sinks:
        suite = Suite(
            options.directory, sinks, options.rounds, options.rounds_of_large, options.peers_python, options.kafka, _log
        )
        try:
            _measure(suite, names, options.sizes, rows, options.json)
        except DifferentError as error:
            _log(str(error))
            return False
    return True


def _measure(suite: Suite, names: list[str], sizes: tuple[int, ...], rows: list[Row], json: Path | None) -> None:
    """Adds to `rows`; the JSON is written after each comparison, since all of them take hours."""

    def add(more: list[Row]) -> None:
        rows.extend(more)
        rows.sort(key=lambda row: (order.index(row.comparison), row.activities))
        if json:
            report.write_json(json, rows, report.promises(rows), growth.slopes(rows))

    order = [*(comparison.name for comparison in COMPARISONS), *OTHERS]
    if "match" in names:
        _log("match")
        add(suite.matching())
    if "memory" in names:
        _log("memory")
        add(suite.memory(sizes))
    between = [size for size in GROWTH_SIZES if size < max(sizes)] if "growth" in names else []
    for size in sorted({*sizes, *between}):
        for comparison in COMPARISONS:
            wanted = comparison.name in names and size in sizes and comparison.only(size)
            if wanted or (comparison.name == "encode" and size in between):
                _log(f"{comparison.name}, {size:,} activities")
                add(suite.compare(comparison, size))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    named = "".join(f"\n  {name:12} {title}" for name, title in OTHERS.items())
    named = "".join(f"\n  {comparison.name:12} {comparison.title}" for comparison in COMPARISONS) + named
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.split("\n")[0],
        epilog="comparisons:" + named,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="activities, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (default 3)")
    parser.add_argument(
        "--rounds_of_large", type=int, default=1, help="of those of 1 M activities and more (default 1)"
    )
    parser.add_argument("--directory", type=Path, default=Path("/tmp/session-forwarder-benchmarks"), help="for samples")  # noqa: S108
    parser.add_argument("--json", type=Path, help="write every run here")
    parser.add_argument(
        "--from_json",
        type=Path,
        action="append",
        default=[],
        help="measure nothing: tell and draw what an earlier run wrote; repeatable",
    )
    parser.add_argument("--plot", type=Path, help="draw how cost grows, as PNG")
    parser.add_argument("--peers_python", help="the Python that Bytewax and Quix Streams are installed in")
    parser.add_argument("--kafka", type=Path, help="a directory of Kafka's jars, for Quix Streams")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size.replace("_", "")) for size in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
