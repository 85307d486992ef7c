"""`session-forwarder show`: what runs left in an output, also while one goes on."""

import argparse
import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from commands.command import PROG
from commands.verb import VerbParser, output_of
from pipeline import flag_values
from pipeline.cells import Column, clean, columns
from pipeline.options import join_relative_times
from pipeline.standard_output import print_lines, width_of_output
from pipeline.usage import UsageError
from schemas import KINDS
from schemas.times import rfc3339
from transforms.forwarders.secrets import References
from transforms.forwarders.service import is_remote
from transforms.forwarders.source import ForwardersUnreadableError, launch_rules, read_forwarders
from transforms.receipts.browsing import (
    Row,
    current_history,
    newest,
    newest_rejects,
    open_letters,
    settled_by_forwarder,
)
from transforms.receipts.journal import DEAD_LETTERS, RECEIPTS
from transforms.receipts.settlement_filter import SettlementFilter
from transforms.storage import Storage, local_path, storage_at

_LIMIT = 20
_LEAST = 13
"""Characters that a text keeps, however narrow the terminal is."""

_MOMENTS = ("settled_at", "begin")
_TITLES = {"forwarder_id": "forwarder", "dead_lettered": "dead", "exit_status": "status"}
_TIMES = frozenset(("first_attempt", "last_attempt", "settled_at"))


@dataclass(frozen=True)
class _What:
    """What `show` can list.

    Attributes:
        name: how it is asked for.
        summary: what it is.
        columns: of the table, each a field of a row.
        first_to_go: those that are left out, in this order, where the terminal is too narrow.
        rows: finds them.
        payload: the field that `--payload` shows; None for none.
        filters: which flags of `_add_filters` it has.
    """

    name: str
    summary: str
    columns: tuple[str, ...]
    first_to_go: tuple[str, ...]
    rows: Callable[[argparse.Namespace], list[dict[str, Any]]]
    payload: str | None = None
    filters: tuple[str, ...] = ()


_CHOOSING = ("forwarder", "reason", "id", "user", "run", "kind", "since", "until")
"""The flags of `_add_filters` that choose rows."""


def main(argv: Sequence[str]) -> int:
    """List what is asked for. Returns the exit status."""
    if not argv or argv[0].startswith("-"):
        _overview().parse_args(argv or ["--help"])
        raise AssertionError("the help ends the process")
    if argv[0] not in WHATS:
        close = difflib.get_close_matches(argv[0], WHATS, n=1)
        hint = f": did you mean {close[0]}?" if close else "."
        raise UsageError(f"show {argv[0]} is nothing{hint} There are {', '.join(WHATS)}")
    return show(argv[0], argv[1:])


def show(name: str, argv: Sequence[str]) -> int:
    """List one of the things to show. Returns the exit status.

    Args:
        name: of it.
        argv: the flags.
    """
    what = WHATS[name]
    arguments = parser(name).read(join_relative_times(argv))
    arguments.limit = _limit(arguments)
    rows = what.rows(arguments)
    print_lines(_lines(what, rows, arguments))
    return 0


def parsers() -> dict[str, VerbParser]:
    """The parser of each of the things to show, by its name."""
    return {name: parser(name) for name in WHATS}


def parser(name: str) -> VerbParser:
    """The flags of one of the things to show."""
    what = WHATS[name]
    made = VerbParser(f"show {name}", what.summary, (f"show {name} --output out/",))
    made.add_argument("--output", metavar="DIR", help="of the runs")
    if "documents" in what.filters:
        made.add_argument("--forwarders", metavar="WHERE", help="the documents, to show where each one sends to")
    _add_filters(made, what.filters)
    if "limit" in what.filters:
        made.add_argument(
            "--limit", type=flag_values.count, metavar="COUNT", help="the newest ones (default 20; with --json all)"
        )
    if what.payload is not None:
        made.add_argument("--payload", action="store_true", help="with what was sent: learners' data")
    made.add_argument("--json", action="store_true", help="an object a line, with every field")
    made.add_config()
    return made


def _add_filters(made: argparse.ArgumentParser, filters: Sequence[str]) -> None:
    repeatable: Mapping[str, tuple[str, str]] = {
        "forwarder": ("ID", "only of this forwarder; repeatable"),
        "reason": ("REASON", "only for this reason; repeatable"),
        "id": ("ID", "only of this record; repeatable"),
        "user": ("ID", "only of this user; repeatable"),
        "run": ("ID", "only of this run; repeatable"),
    }
    for name, (metavar, text) in repeatable.items():
        if name in filters:
            made.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    if "kind" in filters:
        made.add_argument(
            "--kind",
            action="append",
            default=[],
            choices=KINDS,
            metavar="KIND",
            help="only of this kind of record; repeatable",
        )
    if "since" in filters:
        made.add_argument(
            "--since", type=flag_values.instant, metavar="TIME", help="only of then or later: 2026-03-01, -24h"
        )
        made.add_argument("--until", type=flag_values.instant, metavar="TIME", help="only before then")
    if "all" in filters:
        made.add_argument("--all", action="store_true", help="also those whose record was delivered since")


def _overview() -> VerbParser:
    made = VerbParser(
        "show WHAT",
        "Lists what runs left in an output, also while one goes on. WHAT is one of\n\n"
        + "\n".join(f"  {what.name:<10}  {what.summary}" for what in WHATS.values()),
        ("show letters --output out/ --reason unavailable", "show receipts --output out/ --json"),
    )
    made.epilog = f"{made.epilog}\n\n{PROG} show WHAT --help says more."
    return made


def _limit(arguments: argparse.Namespace) -> int | None:
    limit: int | None = getattr(arguments, "limit", None)
    return limit if limit is not None or arguments.json else _LIMIT


def _chooses(arguments: argparse.Namespace) -> bool:
    """Whether a flag leaves some of the rows out."""
    return any(getattr(arguments, name, None) for name in _CHOOSING)


def _lines(what: _What, rows: list[dict[str, Any]], arguments: argparse.Namespace) -> Iterator[str]:
    with_payload = what.payload is not None and arguments.payload
    if arguments.json:
        for row in rows:
            shown = {name: value for name, value in row.items() if with_payload or name != what.payload}
            yield json.dumps(shown, ensure_ascii=False)
        return
    if not rows:
        yield (
            f"no {what.name}"
            + (f" in {arguments.output}" if arguments.output else "")
            + (" that these flags choose" if _chooses(arguments) else "")
        )
        return
    cells = [[clean(_cell(row.get(name), name)) for name in what.columns] for row in rows]
    header = [_column(what, name, [row[number] for row in cells]) for number, name in enumerate(what.columns)]
    lines = columns(header, cells, width_of_output())
    yield lines[0]
    for line, row in zip(lines[1:], rows, strict=True):
        yield line
        if with_payload and what.payload is not None:
            yield f"    {clean(str(row[what.payload]))}"
    if arguments.limit is not None and len(rows) == arguments.limit:
        yield f"(the newest {arguments.limit}: --limit shows more)"


def _column(what: _What, name: str, cells: Sequence[str]) -> Column:
    """How a column stands in the table: what is there to be copied is not cut."""
    return Column(
        "time (UTC)" if name in _MOMENTS else _TITLES.get(name, name.replace("_", " ")),
        rank=len(what.first_to_go) - what.first_to_go.index(name) if name in what.first_to_go else 0,
        right=all(cell.replace(",", "").replace(".", "").isdecimal() for cell in cells),
        least=None if name == "id" or name in _MOMENTS else _LEAST,
    )


def _cell(value: Any, column: str) -> str:
    if column in _MOMENTS:
        return str(value)[5:19].replace("T", " ")  # The year is in `--json`.
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# Where rows come from.


def _storage(arguments: argparse.Namespace) -> Storage:
    output = output_of(arguments, "name the directory of the runs")
    path = local_path(output)
    if path is not None and not path.is_dir():
        raise UsageError(f"--output {output}: there is no such directory")
    return storage_at(output)


def _wanted(arguments: argparse.Namespace) -> SettlementFilter:
    given = vars(arguments)
    return SettlementFilter(
        forwarders=tuple(given.get("forwarder") or ()),
        reasons=tuple(given.get("reason") or ()),
        record_ids=tuple(id_.lower() for id_ in given.get("id") or ()),
        users=tuple(given.get("user") or ()),
        kinds=tuple(given.get("kind") or ()),
        runs=tuple(given.get("run") or ()),
        since=given.get("since"),
        until=given.get("until"),
    )


def _readable(row: Row) -> dict[str, Any]:
    """A row with times as RFC 3339, and bytes as text."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name in _TIMES and value is not None:
            value = rfc3339(value)
        elif isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        shown[name] = value
    return shown


def _letters(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    storage, wanted, limit = _storage(arguments), _wanted(arguments), arguments.limit
    if arguments.all:
        rows: Sequence[Row] = newest(storage, DEAD_LETTERS, wanted, limit)
    else:
        with current_history(storage) as history:
            letters = open_letters(history, wanted, limit)
        rows = [{name: getattr(letter, name) for name in letter.__struct_fields__} for letter in letters]
    # `record` is for a redrive: what it says is in the payload.
    return [_readable({name: value for name, value in row.items() if name != "record"}) for row in rows]


def _receipts(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [_readable(row) for row in newest(_storage(arguments), RECEIPTS, _wanted(arguments), arguments.limit)]


def _rejects(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [_readable(row) for row in newest_rejects(_storage(arguments), _wanted(arguments), arguments.limit)]


def _forwarders(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    if arguments.forwarders is not None:
        rows = {row["forwarder"]: row for row in _documents(arguments.forwarders)}
    if arguments.output is not None or not rows:
        with current_history(_storage(arguments)) as history:
            for forwarder_id, (delivered, letters) in settled_by_forwarder(history).items():
                row = rows.setdefault(forwarder_id, {"forwarder": forwarder_id, "to": None, "state": None})
                row["delivered"] = delivered
                row["letters"] = letters.total()
                row["reasons"] = dict(letters) if arguments.json else ", ".join(sorted(letters)) or None
    wanted = _wanted(arguments).forwarders
    return [row for row in rows.values() if not wanted or row["forwarder"] in wanted]


def _runs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    # Late: beside the list of runs it has their page.
    from pipeline.runs import kept_runs

    since, until = arguments.since, arguments.until
    runs = [
        asdict(run)
        for run in islice(
            (
                run
                for run in kept_runs(_storage(arguments))
                if (since is None or run.begin >= rfc3339(since)) and (until is None or run.begin < rfc3339(until))
            ),
            arguments.limit,
        )
    ]
    return runs[::-1]


def _documents(location: str) -> Iterator[dict[str, Any]]:
    # Late: it names what a forwarder sends to as the report does.
    from pipeline.report import target

    try:
        documents = read_forwarders(
            location, launch_rules(References(), trusted=not is_remote(location), require_organisation=False)
        )
    except ForwardersUnreadableError as error:
        raise UsageError(str(error)) from None
    empty = {"delivered": 0, "letters": 0, "reasons": None}
    for forwarder in documents.forwarders:
        yield {"forwarder": forwarder.id, "to": target(forwarder), "state": "active", **empty}
    for forwarder_id in documents.inactive:
        yield {"forwarder": forwarder_id, "to": None, "state": "not active", **empty}
    for fault in documents.faults:
        if fault.forwarder_id is not None:
            yield {"forwarder": fault.forwarder_id, "to": None, "state": "refused", **empty}


_SETTLED = ("forwarder", "id", "user", "kind", "run", "since", "limit")

WHATS = {
    what.name: what
    for what in (
        _What(
            "letters",
            "dead letters that a redrive would look at: not delivered since",
            ("settled_at", "forwarder_id", "reason", "status", "kind", "user_id", "id", "response"),
            ("response", "kind", "user_id", "status"),
            _letters,
            "payload",
            ("reason", "all", *_SETTLED),
        ),
        _What(
            "receipts",
            "how each record was settled with each forwarder",
            ("settled_at", "forwarder_id", "outcome", "attempts", "status", "kind", "user_id", "id"),
            ("kind", "attempts", "user_id", "status"),
            _receipts,
            None,
            _SETTLED,
        ),
        _What(
            "rejects",
            "input that was refused, and why",
            ("file", "position", "reason"),
            (),
            _rejects,
            "content",
            ("reason", "run", "limit"),
        ),
        _What(
            "runs",
            "each run: when, how it ended, and how many records",
            (
                "id",
                "mode",
                "begin",
                "elapsed",
                "state",
                "exit_status",
                "read",
                "rejected",
                "delivered",
                "dead_lettered",
            ),
            ("mode", "exit_status", "elapsed", "read", "rejected"),
            _runs,
            None,
            ("since", "limit"),
        ),
        _What(
            "forwarders",
            "each forwarder: what it has got in all runs, and its dead letters",
            ("forwarder", "to", "state", "delivered", "letters", "reasons"),
            ("reasons", "state", "to"),
            _forwarders,
            None,
            ("forwarder", "documents"),
        ),
    )
}
