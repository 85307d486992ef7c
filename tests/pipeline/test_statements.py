"""xAPI statements as people have them, derived from by the whole job."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pytest

from pipeline.command import main
from pipeline.options import parse
from pipeline.usage import UsageError
from schemas import DERIVED_KINDS
from tests.support.paths import SHARED, needs_shared

INPUTS = SHARED / "cases" / "inputs"
COURSE = "https://lms.example.org/course/7"


def statement(number: int, verb: str, thing: Any = COURSE, *, name: str = "ann", **more: Any) -> dict[str, Any]:
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "actor": {"account": {"homePage": "https://lms.example.org", "name": name}},
        "verb": {"id": f"http://adlnet.gov/expapi/verbs/{verb}"},
        "object": {"id": thing} if isinstance(thing, str) else thing,
        "context": {"registration": f"registration of {name}"},
        "timestamp": f"2026-03-01T09:{number:02}:00Z",
        **more,
    }


def voiding(number: int, of: dict[str, Any]) -> dict[str, Any]:
    about = {"objectType": "StatementRef", "id": of["id"]}
    return statement(number, "voided", about, actor={"mbox": "mailto:admin@example.org"}, context={})


ATTEMPT = [
    statement(1, "initialized"),
    statement(2, "answered", {"id": f"{COURSE}/q1", "definition": {"interactionType": "choice"}}),
    statement(3, "completed", result={"score": {"raw": 16, "max": 20}}),
]


class Run:
    """One run over a file, and what it left."""

    def __init__(self, file: Path, output: Path, *more: str) -> None:
        arguments = ["--runner=DirectRunner", "--input", str(file), "--input_format=xapi", "--output", str(output)]
        derived = [f"--kind={kind}" for kind in DERIVED_KINDS]
        self.status = main([*arguments, *derived, "--write_records=jsonl", *more])
        self.report = json.loads((output / "report.json").read_text())
        parts = sorted((output / "records").rglob("*.jsonl"))
        self.records = [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]
        self.rejects: list[Any] = []
        for part in (output / "rejects").rglob("*.avro"):
            with part.open("rb") as rows:
                self.rejects += fastavro.reader(rows)

    @property
    def passed_over(self) -> dict[str, int]:
        passed_over: dict[str, int] = self.report["input"]["passed_over"]
        return passed_over

    def events(self, user: str | None = None) -> Counter[str]:
        return Counter(record["event"] for record in self._of("event", user))

    def scores(self, user: str | None = None) -> list[tuple[Any, Any]]:
        return [(record["score"], record["max_score"]) for record in self._of("score", user)]

    def _of(self, kind: str, user: str | None) -> list[Any]:
        """The records of a kind: of one user, or of all."""
        return [record for record in self.records if record["kind"] == kind and user in (None, record["user_id"])]


def written(directory: Path, name: str, statements: Any) -> Path:
    file = directory / "in" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(statements))
    return file


def test_an_lrs_answer_is_its_statements_and_what_is_bad_in_it_costs_itself(tmp_path: Path) -> None:
    answer = {"statements": [*ATTEMPT, {"id": "x"}, voiding(4, ATTEMPT[2])], "more": "/next"}
    file = written(tmp_path, "answer.json", answer)
    run = Run(file, tmp_path / "out", "--max_reject_ratio=0.5")
    assert (run.status, run.report["input"]["read"], run.report["input"]["rejected"]) == (3, 5, 1)
    assert run.passed_over == {"voiding_statements": 1, "voided_statements": 1}
    assert run.events() == {"session-started": 1}
    assert [(reject["position"], reject["content"]) for reject in run.rejects] == [(0, b'{"id": "x"}')]


def test_a_name_on_two_home_pages_is_warned_of_and_told_apart_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account = {"account": {"homePage": "https://other.example.org", "name": "ann"}}
    others = [each | {"id": each["id"][:-1] + "9", "actor": account} for each in ATTEMPT[:1]]
    file = written(tmp_path, "a.json", [*ATTEMPT, *others])
    run = Run(file, tmp_path / "out")
    assert "warning: 1 user ids stand for accounts of several home pages" in capsys.readouterr().out
    assert run.report["users_of_several_home_pages"] == run.report["sessions_of_several_users"] == 1
    assert any("--qualify_users" in warning for warning in run.report["warnings"])
    assert run.events() == {"session-started": 2, "session-completed": 1}
    assert {record["user_id"] for record in run.records} == {"ann"}

    qualified = Run(file, tmp_path / "qualified", "--qualify_users")
    assert qualified.report["users_of_several_home_pages"] == 0
    assert qualified.report["warnings"] == []
    users = {record["user_id"] for record in qualified.records}
    assert users == {"https://lms.example.org|ann", "https://other.example.org|ann"}


def test_qualify_users_is_for_statements() -> None:
    with pytest.raises(UsageError, match="--qualify_users goes with --input_format xapi"):
        parse(["--input=a", "--output=o", "--write_records=jsonl", "--qualify_users"])


@pytest.mark.slow
def test_voids_before_with_and_after_what_they_void_from_run_to_run(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    ben = [each | {"id": f"b{each['id'][1:]}"} for each in (statement(1, "initialized", name="ben"),)]
    late = statement(5, "passed", name="ben", result={"score": {"raw": 1, "max": 2}})
    written(tmp_path, "1.json", [*ATTEMPT, *ben, voiding(6, late)])
    files = tmp_path / "in" / "*.json"
    monday = Run(files, tmp_path / "out", *state)
    assert monday.passed_over == {"voiding_statements": 1}
    assert monday.events() == {"session-started": 2, "session-completed": 1}

    # Nothing but a void: of what the state alone has, in a bucket of which nothing new has come.
    written(tmp_path, "2.json", [voiding(7, ATTEMPT[1])])
    tuesday = Run(files, tmp_path / "out", *state)
    assert tuesday.passed_over == {"voiding_statements": 1, "voided_statements": 1}
    (corrected,) = tuesday.records
    assert (corrected["kind"], corrected["num_attempted"], corrected["user_id"]) == ("status", 0, "ann")

    # What an earlier run's void names comes now, and what was voided comes again.
    written(tmp_path, "3.json", [late, statement(8, "completed", name="ben"), ATTEMPT[1]])
    wednesday = Run(files, tmp_path / "out", *state)
    assert wednesday.passed_over == {"voided_statements": 1}
    assert wednesday.report["duplicates"] == 1
    assert wednesday.events() == {"session-completed": 1}
    assert wednesday.scores() == []

    whole = Run(files, tmp_path / "whole")
    assert whole.passed_over == {"voiding_statements": 2, "voided_statements": 2}
    ids = {record["id"] for run in (monday, tuesday, wednesday) for record in run.records}
    superseded = [record for record in monday.records if record["kind"] == "status"]
    assert {record["id"] for record in whole.records} == ids - {record["id"] for record in superseded}


STARTED_AND_COMPLETED = {"session-started": 1, "session-completed": 1}


EXPECTED: dict[str, tuple[dict[str, int], list[Any], dict[str, int]]] = {
    "04-statement-result.json": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "05-mongoexport-statements.jsonl": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "05-mongoexport-statements-array.json": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "06-source-wrapper.jsonl": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "07-statement-wrapper.json": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "10-batches.jsonl": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "30-attempt.json": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "31-score-in-completed.json": (STARTED_AND_COMPLETED, [(16, 20)], {}),
    "31-score-in-passed.json": (STARTED_AND_COMPLETED, [(16, 20)], {}),
    "31-score-in-scored.json": (STARTED_AND_COMPLETED, [(16, 20)], {}),
    "32-scaled-only.json": (STARTED_AND_COMPLETED, [(0.6, 1)], {}),
    "32-success-only.json": (STARTED_AND_COMPLETED, [], {"successes_without_score": 1}),
    "33-score-in-quotes.json": (STARTED_AND_COMPLETED, [], {"scores_not_a_number": 1}),
    "33-score-null-and-empty.json": (STARTED_AND_COMPLETED, [], {"scores_not_a_number": 1}),
    "34-cmi5-two-aus.json": ({"session-started": 2, "session-completed": 2}, [(9, 10)], {}),
    "35-adapt-components.json": (STARTED_AND_COMPLETED, [], {}),
    "36-voided.json": ({"session-started": 1}, [], {"voided_statements": 1, "voiding_statements": 1}),
    "36-voided-with-registration.json": ({"session-started": 1}, [], {"voided_statements": 1, "voiding_statements": 1}),
    "37-object-kinds.json": (STARTED_AND_COMPLETED, [(3, 5)], {}),
    "39-uuid-case.json": (STARTED_AND_COMPLETED, [(1, 1)], {}),
    "40-same-name-two-homepages.json": ({"session-started": 2, "session-completed": 2}, [], {}),
    "41-session-extension.json": ({"session-started": 7, "session-completed": 2}, [], {}),
    "43-max-zero.json": (STARTED_AND_COMPLETED, [(34, 0)], {}),
}
"""By file: the events, the scores, and what is passed over and counted."""


def of_its_own(text: str, number: int) -> str:
    """A file's text with ids and a learner that no other file has: the files tell the same story in other shapes."""
    text = text.replace("learner-1", f"learner-{number}").replace("11111111-2222", f"{number:08}-2222")
    return text.replace("aaaaaaaa-", f"abcdef{number:02}-").replace("AAAAAAAA-", f"ABCDEF{number:02}-")


@pytest.fixture(scope="module")
def of_people(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run over all files."""
    directory = tmp_path_factory.mktemp("people")
    (directory / "in").mkdir()
    for number, name in enumerate(EXPECTED):
        (directory / "in" / name).write_text(of_its_own((INPUTS / name).read_text(), number))
    return Run(directory / "in" / "*", directory / "out")


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("name", EXPECTED)
def test_inputs_as_people_have_them(of_people: Run, name: str) -> None:
    events, scores, _ = EXPECTED[name]
    user = "5" if name == "40-same-name-two-homepages.json" else f"learner-{list(EXPECTED).index(name)}"
    assert of_people.events(user) == events
    assert of_people.scores(user) == scores


@pytest.mark.slow
@needs_shared
def test_inputs_as_people_have_them_are_whole_and_what_is_passed_over_is_counted(of_people: Run) -> None:
    assert of_people.status == 0
    assert of_people.report["input"]["rejected"] == 0
    assert of_people.passed_over == sum((Counter(passed_over) for *_, passed_over in EXPECTED.values()), Counter())


@needs_shared
def test_actors_that_are_refused_are_rejects_that_name_the_form(tmp_path: Path) -> None:
    run = Run(INPUTS / "42-actor-forms.json", tmp_path / "out", "--max_reject_ratio=1")
    assert {record["user_id"] for record in run.records} == {"ann", "ann@example.org", "MAILTO:Ann@Example.org"}
    assert [(reject["position"], reject["reason"].partition(";")[0]) for reject in run.rejects] == [
        (3, "actor.account.name: missing or not a string (a number)"),
        (4, "actor: a Group is not one learner"),
        (5, "actor.account.name: missing or not a string"),
        (6, "actor.account: not an object (an array)"),
        (7, "actor.mbox: missing or not a string (an array)"),
    ]
