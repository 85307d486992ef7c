"""The parts of the page, from the top to the bottom."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from heapq import nlargest
from typing import Any

from pipeline.next_steps import next_commands, shown_address
from pipeline.options import Job
from pipeline.page.charts import axis_of, columns, lines, mean, shares
from pipeline.page.examples import Letter
from pipeline.page.markup import Child, Markup, element, joined, short
from pipeline.report import Report
from schemas.times import rfc3339
from transforms.accounting.accounts import Account, Moment
from transforms.reading.reasons import field_and_rule

_FORWARDERS = 10
REASONS = 6
_USERS = 8
_LINES = 5
"""How many of each are shown. The others are counted: the page keeps its size, whatever the run was."""

MINUS = "\u2212"
NONE = "\u2013"

_NAMED = 64
_TOLD = 160


@dataclass(frozen=True)
class Contents:
    """All that a page shows.

    Attributes:
        report: of the run.
        facts: the same as `report.json` has it.
        before: the `report.json` of the run that it is compared with; None if there is none.
        letters: an example of each reason of dead letters, as far as one was found.
        rejects: how rejected content begins, by file and position.
    """

    report: Report
    facts: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    letters: Mapping[str, Letter] = field(default_factory=dict)
    rejects: Mapping[tuple[str, int], bytes] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        return self.report.job

    @property
    def dead(self) -> dict[str, int]:
        """Dead letters by reason."""
        return dead_letters(self.facts)


def total(facts: Mapping[str, Any], name: str) -> int:
    """A count of `report.json` that each forwarder has, added up over all of them."""
    return sum(_whole(forwarder.get(name)) for forwarder in facts.get("forwarders", ()))


def dead_letters(facts: Mapping[str, Any]) -> dict[str, int]:
    """Dead letters of all forwarders by reason, the most first."""
    counts: dict[str, int] = {}
    for forwarder in facts.get("forwarders", ()):
        for reason, count in (forwarder.get("dead_letter_reasons") or {}).items():
            counts[reason] = counts.get(reason, 0) + count
    return dict(sorted(counts.items(), key=lambda reason: (-reason[1], reason[0])))


def head(page: Contents) -> Markup:
    """How the run ended, in a sentence, and its figures."""
    facts, good = page.facts, page.report.exit_status == 0
    return element(
        "header",
        element("p", "Run ", element("b", page.report.run_id), class_="eyebrow"),
        element("h1", verdict(page)),
        element(
            "p",
            element("span", "exit status ", facts["exit_status"], class_="status good" if good else "status bad"),
            f" {_moment(page.report.started)} to {_clock(page.report)}, {_seconds(page.report.elapsed)}, "
            f"{_MODES[page.job.mode]} on {facts['runner']}",
            class_="facts",
        ),
        _compared(page),
        element("dl", [_tile(page, *tile) for tile in _tiles(page)], class_="tiles"),
    )


_MODES = {
    "run": "a run",
    "replay": "a replay",
    "redrive": "a redrive",
    "dry_run": "a dry run",
    "explain": "an explanation",
}


def verdict(page: Contents) -> str:
    """How the run ended."""
    report, facts = page.report, page.facts
    dead, rejected = total(facts, "dead_lettered"), report.summary.rejected
    if report.state == "failed":
        return "The run failed"
    if report.state == "too_many_rejects":
        return "Too much of the input was rejected, and nothing was delivered"
    if report.state == "source_unread":
        return "A source could not be read to its end, and nothing was delivered"
    if facts["state"] == "stopped":
        return "The run was stopped before its end"
    if facts["balanced"] is False:
        return "The books do not balance"
    left = " and ".join(_many(count, what) for count, what in ((dead, "dead letter"), (rejected, "reject")) if count)
    if page.job.dry_run:
        return f"Nothing was sent: {_many(total(facts, 'matched'), 'record')} would be due"
    if left:
        return f"Finished, with {left}"
    if report.summary.kept:
        return "Finished, and some dead letters were left as they were"
    if total(facts, "delivered"):
        return "Everything that was due was delivered"
    return "There was nothing to deliver"


def _compared(page: Contents) -> Markup | None:
    if page.before is None:
        return None
    before = page.before
    return element(
        "p",
        "Compared with the run before, ",
        short(str(before.get("run_id")), _NAMED),
        f" of {_moment_text(before.get('started'))}, which took {_seconds(_real(before.get('elapsed_seconds')))}.",
        class_="facts",
    )


def _tiles(page: Contents) -> list[tuple[str, str, float, float | None, str]]:
    """Name, shown value, value, value before, and whether more of it is good (+), bad (-) or neither."""
    facts, before = page.facts, page.before
    tiles = []
    if not page.job.redrive:
        tiles += [("read", facts["input"]["read"], _read(before, "read"), "")]
        tiles += [("rejected", facts["input"]["rejected"], _read(before, "rejected"), "-")]
        records = sum(facts["records"].values())
        tiles += [("records", records, None if before is None else _sum(before.get("records")), "")]
    names = (("due", "matched", ""), ("delivered", "delivered", ""), ("dead letters", "dead_lettered", "-"))
    for name, key, good in names[:1] if page.job.dry_run else names:
        tiles.append((name, total(facts, key), None if before is None else total(before, key), good))
    shown = [(name, f"{count:,}", count, known, good) for name, count, known, good in tiles]
    took = None if before is None else _real(before.get("elapsed_seconds"))
    return [*shown, ("took", _seconds(page.report.elapsed), page.report.elapsed, took, "s")]


def _tile(page: Contents, name: str, text: str, value: float, before: float | None, good: str) -> Markup:
    bad = good == "-" and value > 0
    return element(
        "div",
        element("dt", name),
        element("dd", text, class_="bad" if bad else None),
        None if before is None else element("dd", _change(value, before, good == "s"), class_="change"),
    )


def _change(value: float, before: float, seconds: bool = False) -> str:
    change = value - before
    if seconds:
        return "as before" if abs(change) < 0.05 else f"{'+' if change > 0 else MINUS}{_seconds(abs(change))}"
    return "as before" if not change else f"{'+' if change > 0 else MINUS}{abs(change):,.0f}"


def next_steps(page: Contents) -> Markup | None:
    """What is to be done, with commands to copy."""
    steps = [step for step in _steps(page) if step is not None]
    return _section("What to do next", "next", steps) if steps else None


def told(page: Contents) -> Markup | None:
    """Hints and warnings."""
    lines = [*page.facts["hints"], *page.facts["warnings"]]
    if not lines:
        return None
    items = [element("li", short(line, _TOLD)) for line in lines[:_LINES]]
    more = _more(len(lines) - _LINES, "hints and warnings", "report.json has all of them")
    return _section("Hints and warnings", "told", element("ul", items, class_="told"), more)


def _steps(page: Contents) -> Iterable[Markup | None]:
    report, job = page.report, page.job
    if report.state == "source_unread":
        for failure in page.facts["input"]["failures"][:_LINES]:
            yield element("p", short(failure, _TOLD))
    if report.state == "too_many_rejects":
        yield element(
            "p",
            "Do what the reasons of the rejects say, then run again. Or, if these may be left out, allow "
            "more of them with --max_reject_ratio.",
        )
    elif not report.complete and not job.looks_only:
        yield element(
            "p",
            "Run the same command again. It goes on where this run ended: what was delivered is in the "
            "receipts, and is not sent again.",
        )
    dead = {entry["id"]: entry.get("dead_letter_reasons") or {} for entry in page.facts["forwarders"]}
    commands = next_commands(job, {id_: reasons for id_, reasons in dead.items() if reasons})
    if commands and not job.looks_only:
        yield element("p", "Look at the dead letters; mend what they tell of; then send them again:")
        yield _commands(*commands)
    if report.summary.rejected and job.output and not job.looks_only:
        yield element("p", "Look at what was rejected:")
        words = ["session-forwarder", "show", "rejects", "--output", job.output, "--run", report.run_id]
        yield _commands(shlex.join(words))


def _commands(*lines: str) -> Markup:
    return element("pre", element("code", "\n".join(lines)), tabindex="0")


def books(page: Contents) -> Markup:
    """The books: what came in and what became of it, which add up, beside those of the run before."""
    facts = page.facts
    sides = []
    if not page.job.redrive:
        sides.append(_input_books(page))
    if page.report.state == "failed":
        told = "The workers of a run that fails do not hand over their counts. What was settled is in the receipts."
        sides.append(element("p", told))
    elif page.job.forwarders is not None and facts["forwarders"]:
        sides.append(_delivery_books(page))
    return _section("The books", "books", element("div", sides, class_="two"))


def _input_books(page: Contents) -> Markup:
    facts, before, derivation = page.facts, page.before, page.report.summary.derivation
    read, rejected = facts["input"]["read"], facts["input"]["rejected"]
    was_read, was_rejected = _read(before, "read"), _read(before, "rejected")
    accepted_before = None if was_read is None else was_read - (was_rejected or 0)
    rows: list[Sequence[Any]] = [
        ("Read", read, was_read),
        ("Rejected", rejected, was_rejected, "part"),
        ("Accepted", read - rejected, accepted_before, "part"),
        ("Sessions", derivation.sessions, _known(before, "sessions")),
        ("Duplicates", facts["duplicates"] + facts["duplicate_statements"], _duplicates(before)),
    ]
    for kind, count in facts["records"].items():
        was = None if before is None else _whole((before.get("records") or {}).get(kind))
        rows.append((f"Records: {kind}", count, was))
    return _table_of_books("What came in", rows, before is not None)


def _delivery_books(page: Contents) -> Markup:
    facts, before = page.facts, page.before
    if page.job.dry_run:
        rows: list[Sequence[Any]] = [("Would be due", total(facts, "matched"), _known_total(before, "matched"))]
        return _table_of_books("What would go out", rows, before is not None)
    names = (
        ("Due to forwarders", "matched", ""),
        ("Delivered", "delivered", "part delivered"),
        ("Delivered before", "already_delivered", "part already"),
        ("Dead letters", "dead_lettered", "part dead"),
        ("Pending", "pending", "part pending"),
        ("Attempts", "attempts", ""),
        ("Calls", "calls", ""),
    )
    rows = [(name, total(facts, key), _known_total(before, key), class_) for name, key, class_ in names]
    parts = {class_.split()[1]: count for _, count, _, class_ in rows if class_}
    told = ", ".join(f"{count:,} {name.lower()}" for name, count, _, class_ in rows if class_)
    unbalanced = page.report.unbalanced
    verdict_ = (
        "The parts add up to what was due."
        if not unbalanced
        else "The parts do not add up for " + short(", ".join(unbalanced), _TOLD)
    )
    return element(
        "div",
        _table_of_books("What went out", rows, before is not None),
        shares(parts, f"Of what was due: {told}") if any(parts.values()) else None,
        element("p", verdict_, class_="facts" if not unbalanced else "bad"),
        _letter_books(page),
    )


def _letter_books(page: Contents) -> Markup | None:
    """What became of dead letters of earlier runs. They are no part of what was due; calls alone count both."""
    tried = _total_of_letters(page.facts, "tried")
    if not tried:
        return None
    names = (("Tried again", "tried"), ("Delivered", "delivered"), ("Still dead", "still_dead"), ("Pending", "pending"))
    rows = [
        (
            name,
            _total_of_letters(page.facts, key),
            None if page.before is None else _total_of_letters(page.before, key),
            "part" if key != "tried" else "",
        )
        for name, key in names
    ]
    return _table_of_books("Dead letters of earlier runs", rows, page.before is not None)


def _total_of_letters(facts: Mapping[str, Any], name: str) -> int:
    """As `total`, of what a run caught up with."""
    return sum(_whole((entry.get("caught_up") or {}).get(name)) for entry in facts.get("forwarders", ()))


def _table_of_books(title: str, rows: Iterable[Sequence[Any]], compares: bool) -> Markup:
    body = []
    for name, count, before, *class_ in rows:
        cells = [element("th", element("span", class_="key"), name, scope="row"), _figure(count)]
        if compares:
            cells += [_figure(before), element("td", "" if before is None else _change(count, before), class_="change")]
        body.append(element("tr", cells, class_=class_[0] if class_ else None))
    heads = (title, "this run", "before", "change") if compares else (title, "this run")
    return _table(heads, body, "books")


def over_time(page: Contents) -> Markup | None:
    """How fast records were settled, and how long they took, in moments of one width."""
    timelines = [account.timeline for account in page.report.summary.books.accounts.values()]
    axis = axis_of(timelines)
    if axis is None:
        return None
    moments = axis.moments(timelines)
    most = max(moment.delivered + moment.dead for moment in moments) * 1000 / axis.width
    slowest = max(moment.slowest for moment in moments)
    ends = (f"after {_since(page.report.started, axis.start)}", _since(page.report.started, axis.end))
    average = sum(moment.waited for moment in moments) / max(sum(moment.tried for moment in moments), 1)
    return _section(
        "Over time",
        "time",
        element(
            "div",
            _plotted(
                "Records settled a second",
                f"at most {_rate(most)}/s",
                columns(moments, f"Records settled over time, at most {_rate(most)} a second"),
                ends,
                [("delivered", "delivered"), ("dead", "given up")],
            ),
            _plotted(
                "Latency of a record",
                f"mean {_millis(average)}, slowest {_millis(slowest)}",
                lines(moments, f"Latency over time: on average {_millis(average)}, at most {_millis(slowest)}"),
                ends,
                [("mean", "mean"), ("slowest", "slowest")],
            ),
            class_="two",
        ),
    )


def _plotted(title: str, most: str, plot: Markup, ends: tuple[str, str], keys: Iterable[tuple[str, str]]) -> Markup:
    legend = [joined(element("span", class_=f"key {class_}"), name, " ") for class_, name in keys]
    return element(
        "figure",
        element("figcaption", element("b", title), element("span", most)),
        plot,
        element("p", element("span", ends[0]), element("span", legend), element("span", ends[1]), class_="axis"),
    )


def forwarders(page: Contents) -> Markup | None:
    """The forwarders with the most dead letters, then those that were due the most."""
    entries = page.facts["forwarders"]
    if not entries or page.job.explain is not None:
        return None
    shown = nlargest(_FORWARDERS, enumerate(entries), key=lambda entry: (*_weight(entry[1]), -entry[0]))
    accounts = page.report.summary.books.accounts
    timelines = [accounts[entry["id"]].timeline for _, entry in shown if entry["id"] in accounts]
    axis = axis_of(timelines)
    rows = []
    for _, entry in shown:
        account = accounts.get(entry["id"], Account())
        moments = axis.moments([account.timeline]) if axis is not None else []
        rows.append(element("tr", _forwarder_cells(page, entry, moments, 0 if axis is None else axis.width)))
    heads = ["Forwarder", "due"]
    if not page.job.dry_run:
        heads += ["delivered", "before", "dead", "pending", "p50 ms", "p99 ms", "records/s", "latency"]
    return _section(
        "Forwarders",
        "forwarders",
        [_table(heads, rows, "cards"), _more(len(entries) - len(shown), "forwarders", "report.json has all of them")],
    )


def _weight(entry: Mapping[str, Any]) -> tuple[int, int, int]:
    return _whole(entry.get("dead_lettered")), _whole(entry.get("pending")), _whole(entry.get("matched"))


def _forwarder_cells(
    page: Contents, entry: Mapping[str, Any], moments: Sequence[Moment], width: int
) -> Iterable[Markup]:
    description, to = entry.get("description"), short(entry["target"], _NAMED)
    yield element(
        "th",
        element("b", short(description or entry["id"], _NAMED)),
        element("span", f"{short(entry['id'], _NAMED)}, " if description else "", to, class_="under"),
        scope="row",
    )
    yield _figure(entry["matched"], "due")
    if page.job.dry_run:
        return
    for key, name in (("delivered", "delivered"), ("already_delivered", "before")):
        yield _figure(entry[key], name)
    yield _figure(entry["dead_lettered"], "dead", "bad" if entry["dead_lettered"] else None)
    yield _figure(entry["pending"], "pending")
    yield _figure(entry["p50_ms"], "p50 ms")
    yield _figure(entry["p99_ms"], "p99 ms")
    if not any(moment.delivered + moment.dead for moment in moments):
        yield element("td", "", class_="plot")
        yield element("td", "", class_="plot")
        return
    most = max(moment.delivered + moment.dead for moment in moments) * 1000 / width
    slowest = max(mean(moment) for moment in moments)
    told = f"Records settled over time, at most {_rate(most)} a second"
    yield _plot(columns(moments, told, small=True), _rate(most), "records/s")
    told = f"Mean latency over time, at most {_millis(slowest)}"
    yield _plot(lines(moments, told, small=True), _millis(slowest), "latency")


def _plot(plot: Markup, most: str, name: str) -> Markup:
    """A cell with a small plot and its greatest value."""
    return element("td", plot, element("span", most, class_="most"), class_="plot", data_label=name)


def dead(page: Contents) -> Markup | None:
    """Dead letters by reason, each with an example."""
    counts = page.dead
    if not counts:
        return None
    of = {reason: [] for reason in counts}  # type: dict[str, list[str]]
    for entry in page.facts["forwarders"]:
        for reason in entry.get("dead_letter_reasons") or {}:
            of[reason].append(entry["id"])
    before = None if page.before is None else dead_letters(page.before)
    rows = []
    for reason in list(counts)[:REASONS]:
        letter = page.letters.get(reason)
        rows.append(
            element(
                "tr",
                element("th", element("code", short(reason, _NAMED)), scope="row"),
                _counted(counts[reason], None if before is None else before.get(reason, 0), "records"),
                element("td", _listed(of[reason]), data_label="forwarders", class_="names"),
                element("td", None if letter is None else _letter(letter), data_label="for example", class_="told"),
            )
        )
    more = sum(count for reason, count in list(counts.items())[REASONS:])
    return _section(
        "Dead letters by reason",
        "dead",
        [
            _table(("Reason", "records", "forwarders", "for example"), rows, "cards reasons many"),
            _more(more, "dead letters of other reasons", "report.json has all of them"),
            element("p", "What each reason means, and what to do: docs/operations.md.", class_="facts"),
        ],
    )


def _letter(letter: Letter) -> Markup:
    said = f"after {_many(letter.attempts, 'attempt')}"
    if letter.status is not None:
        said = f"HTTP status {letter.status} {said}"
    return joined(
        element("span", f"{said}, user ", element("bdi", short(letter.user_id, _NAMED))),
        element("code", short(letter.id, _NAMED), class_="under"),
        element("q", short(letter.response, _TOLD)) if letter.response else None,
    )


def rejects(page: Contents) -> Markup | None:
    """Rejects by reason: where the first is, and how it begins."""
    summary = page.report.summary
    if not summary.rejected:
        return None
    before = (
        {} if page.before is None else {_kind(entry): _whole(entry.get("count")) for entry in _reasons(page.before)}
    )
    rows = []
    reasons = summary.read.reasons.commonest()
    for reason, entry in list(zip(reasons, _reasons(page.facts), strict=True))[:REASONS]:
        unit = next((unit for unit in ("line", "row", "element") if unit in entry), None)
        content = page.rejects.get((reason.first.file, reason.first.position))
        place = "" if unit is None else f", {unit} {entry[unit]:,}"
        rows.append(
            element(
                "tr",
                element("th", element("span", short(entry["reason"], _TOLD), class_="why"), scope="row"),
                _counted(entry["count"], None if page.before is None else before.get(_kind(entry), 0), "rejects"),
                element(
                    "td",
                    element("span", f"first in {short(entry['file'], 120)}{place}"),
                    element("span", f"it looks like {entry['guess']}", class_="under") if entry["guess"] else None,
                    element("code", short(content.decode("utf-8", "replace"), _TOLD)) if content else None,
                    class_="told",
                    data_label="for example",
                ),
            )
        )
    more = summary.read.reasons.others + sum(reason.count for reason in reasons[REASONS:])
    conflicts = summary.statements.conflicts
    return _section(
        "Rejects by reason",
        "rejects",
        [
            _table(("Reason", "rejects", "for example"), rows, "cards reasons") if rows else None,
            _more(more, "rejects of other reasons"),
            element("p", f"{conflicts:,} statements have the id of another one, which is forwarded.")
            if conflicts
            else None,
        ],
    )


def _reasons(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((facts.get("input") or {}).get("reject_reasons") or ())


def _kind(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two reasons of two runs the same: without the values in them."""
    return entry.get("guess") or (entry.get("field"), field_and_rule(str(entry.get("reason")))[1])


def people(page: Contents) -> Markup | None:
    """Sessions by what became of them, and the users with the most records."""
    summary = page.report.summary
    outcomes, users = summary.derivation.outcomes, summary.busiest
    sides = []
    if outcomes:
        rows = [
            _bar(_OUTCOMES.get(name, name), count, summary.derivation.sessions)
            for name, count in sorted(outcomes.items(), key=lambda outcome: -outcome[1])
        ]
        sides.append(_table(("Sessions by outcome", "sessions", "share"), rows, "bars"))
    if users:
        busiest = sorted(users.items(), key=lambda user: (-user[1], user[0]))[:_USERS]
        rows = [_bar(element("bdi", short(user, _NAMED)), count, busiest[0][1]) for user, count in busiest]
        sides.append(_table(("Busiest users", "records", "share of the first"), rows, "bars"))
    return _section("Sessions and users", "people", element("div", sides, class_="two")) if sides else None


_OUTCOMES = {
    "Completed": "Completed",
    "PendingScoring": "Pending scoring",
    "Incomplete": "Incomplete",
    "Discarded": "Discarded",
    "none": "Without a status",
}


def _bar(name: Child, count: int, most: int) -> Markup:
    plot = shares({"delivered": count, "rest": max(most - count, 0)}, f"{100 * count / max(most, 1):.0f} %")
    return element("tr", element("th", name, scope="row"), _figure(count), element("td", plot, class_="plot"))


def configured(page: Contents) -> Markup:
    """The flags of the run that are not at their defaults. None of them is secret; of Beam's the names are shown."""
    rows = [(name, value) for name, value in _flags(page)]
    rows += [("forwarder documents", (page.report.digest or "")[:16])] if page.report.digest else []
    inactive = len(page.facts["inactive_forwarders"])
    if page.facts["forwarders"] or inactive:
        rows.append(("forwarders", f"{len(page.facts['forwarders']):,} took part, {inactive:,} not active"))
    items = [element("div", element("dt", name), element("dd", short(value, _TOLD))) for name, value in rows]
    return _section("What was configured", "configured", element("dl", items, class_="flags"))


_NOT_SHOWN = frozenset(("beam_args", "window", "checkpointing_interval", "job_server_jar"))
_NAMES = {"inputs": "input", "only_forwarders": "forwarder", "allow_networks": "allow_network"}


def _flags(page: Contents) -> Iterable[tuple[str, str]]:
    job, usual = page.job, Job()
    for each in fields(Job):
        value = getattr(job, each.name)
        if each.name in _NOT_SHOWN or (value == getattr(usual, each.name) and each.name != "runner"):
            continue
        if each.name == "inputs" and page.report.sources:
            value = page.report.sources  # Without what an address may hold.
        if each.name == "alert_url":
            value = shown_address(value)
        yield f"--{_NAMES.get(each.name, each.name)}", _value(value)
    window = job.window
    for name, when in (("--since", window.since), ("--until", window.until)):
        if when is not None:
            yield name, rfc3339(when)
    yield "--kind", ", ".join(window.kinds)
    names = [argument.partition("=")[0] for argument in job.beam_args if argument.startswith("--")]
    if names:
        yield "flags of Beam", ", ".join(dict.fromkeys(names))


def _value(value: Any) -> str:
    if type(value) is tuple:
        return ", ".join(map(str, value[:_LINES])) + (
            f" and {len(value) - _LINES:,} more" if len(value) > _LINES else ""
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def foot(page: Contents) -> Markup:
    """Where the figures are from."""
    output = page.job.output or ""
    return element(
        "footer",
        f"All figures are those of report.json beside this page; every record is in {short(output, 120)}/receipts. "
        "Counts are of records, times are in UTC.",
    )


def _section(title: str, name: str, *children: Child) -> Markup:
    return element("section", element("h2", title, id=name), children, aria_labelledby=name)


def _table(heads: Sequence[str], rows: Iterable[Markup], class_: str) -> Markup:
    cells = [element("th", name, scope="col") for name in heads]
    return element("table", element("thead", element("tr", cells)), element("tbody", rows), class_=class_)


def _figure(count: int | None, label: str | None = None, class_: str | None = None) -> Markup:
    text = NONE if count is None else f"{count:,}"
    return element("td", text, class_="figure" if class_ is None else f"figure {class_}", data_label=label)


def _counted(count: int, before: int | None, what: str) -> Markup:
    change = None if before is None or before == count else element("span", _change(count, before), class_="under")
    return element("td", f"{count:,}", change, class_="figure", data_label=what)


def _listed(names: Sequence[str]) -> Markup:
    shown: list[Child] = [element("span", short(name, _NAMED), class_="item") for name in names[:3]]
    return joined(shown, f"and {len(names) - 3:,} more" if len(names) > 3 else None)


def _more(count: int, what: str, where: str | None = None) -> Markup | None:
    if count <= 0:
        return None
    return element("p", f"And {count:,} more {what}" + (f": {where}." if where else "."), class_="facts")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _real(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _sum(counts: Any) -> int:
    return sum(map(_whole, counts.values())) if isinstance(counts, dict) else 0


def _read(facts: Mapping[str, Any] | None, name: str) -> int | None:
    return None if facts is None else _whole((facts.get("input") or {}).get(name))


def _known(facts: Mapping[str, Any] | None, name: str) -> int | None:
    return None if facts is None else _whole(facts.get(name))


def _known_total(facts: Mapping[str, Any] | None, name: str) -> int | None:
    return None if facts is None else total(facts, name)


def _duplicates(facts: Mapping[str, Any] | None) -> int | None:
    return None if facts is None else _whole(facts.get("duplicates")) + _whole(facts.get("duplicate_statements"))


def _moment(millis: int) -> str:
    return _moment_text(rfc3339(millis))


def _moment_text(text: Any) -> str:
    return f"{str(text)[:10]} {str(text)[11:19]}"


def _clock(report: Report) -> str:
    end = rfc3339(report.started + round(report.elapsed * 1000))
    return end[11:19] if end[:10] == rfc3339(report.started)[:10] else _moment_text(end)


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _since(start: int, at: int) -> str:
    return _seconds(max(at - start, 0) / 1000)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _millis(millis: float) -> str:
    return f"{millis:,.0f} ms" if millis < 1_000 else _seconds(millis / 1000)
