"""The page of a run, `report.html`: what `report.json` says, to be read by people. One file, which asks for nothing.

It is made of HTML, a style sheet and SVG, without a script. Its size does not grow with the run: of all lists the
top is shown, and the rest is counted.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.page import sections
from pipeline.page.examples import letters_of, rejects_of, without_failure
from pipeline.page.markup import element, joined, raw
from pipeline.page.sections import Contents
from pipeline.report import Report
from transforms.storage import Storage


def page_of(report: Report, facts: Mapping[str, Any], before: Mapping[str, Any] | None, storage: Storage) -> bytes:
    """The page of a run that has ended.

    Args:
        report: of the run.
        facts: the same as `report.json` has it.
        before: the `report.json` of the run that it is compared with.
        storage: the output, where examples of dead letters and rejects are looked for.

    Returns:
        HTML in UTF-8.
    """
    reasons = report.summary.read.reasons.commonest()
    letters = without_failure(lambda: letters_of(storage, report.run_id, report.summary))
    rejects = without_failure(lambda: rejects_of(storage, report.rejects, reasons[: sections.REASONS]))
    return rendered(Contents(report, facts, before, letters, rejects))


def rendered(contents: Contents) -> bytes:
    """A page as HTML in UTF-8."""
    main = [
        part
        for part in (
            sections.next_steps(contents),
            sections.books(contents),
            sections.over_time(contents),
            sections.forwarders(contents),
            sections.dead(contents),
            sections.rejects(contents),
            sections.people(contents),
            sections.told(contents),
            sections.configured(contents),
        )
        if part is not None
    ]
    document = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", f"{sections.verdict(contents)} \u2013 {contents.report.run_id}"),
            element("style", raw(_style())),
        ),
        element("body", sections.head(contents), element("main", main), sections.foot(contents)),
        lang="en",
    )
    return joined(raw("<!doctype html>\n"), document, "\n").encode("utf-8", "replace")


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")
