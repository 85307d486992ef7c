"""xAPI statements and what they give rise to, by no code of the project: read from the rules alone, slowly."""

from collections import Counter
from typing import Any

from hypothesis import strategies as st

VERBS = "http://adlnet.gov/expapi/verbs/"
HOME_PAGES = ("https://a.example.org", "https://b.example.org")
COUNTS = ("voided", "part_scores", "users_of_several_home_pages")
"""The counts of `Counts` that only statements reach."""

_VERBS = (
    *("initialized", "initialized", "launched", "resumed", "terminated", "completed", "completed"),
    *("passed", "answered", "asked", "voided"),
)
_COURSE = {"id": "https://x/course"}
_PART = {"id": "https://x/course/1"}
_OTHER = {"id": "https://x/other"}
_QUESTION = {"id": "https://x/q1", "definition": {"interactionType": "choice"}}
_GRADED = {"id": "https://x/p1", "definition": {"type": "http://adlnet.gov/expapi/activities/question"}}
_AGENT = {"objectType": "Agent", "mbox": "mailto:teacher@example.org"}

_RESULTS = (
    None,
    {"score": {"raw": 3, "max": 4}},
    {"score": {"raw": 1, "max": 4, "scaled": 0.25}},
    {"score": {"scaled": 0.5}},
    {"score": {"raw": "3", "max": 4}},
    {"success": True},
)


@st.composite
def statements_of_one_name(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Statements of accounts of one name on two home pages, in any order, some of which void others."""
    statements = []
    for number in range(draw(st.integers(0, 14))):
        verb = draw(st.sampled_from(_VERBS))
        thing = draw(st.sampled_from([_COURSE, _COURSE, _COURSE, _PART, _OTHER, _QUESTION, _GRADED, _AGENT]))
        context: dict[str, Any] = {"registration": draw(st.sampled_from(["REG-1", "reg-1", "reg-1", "reg-2"]))}
        if verb == "voided":
            thing = {"objectType": "StatementRef", "id": f"Statement-{draw(st.integers(0, 14)):02}"}
            context = draw(st.sampled_from([{}, context]))
        statement = {
            "id": f"statement-{number:02}",
            "actor": {"account": {"homePage": draw(st.sampled_from([HOME_PAGES[0], *HOME_PAGES])), "name": "5"}},
            "verb": {"id": VERBS + verb},
            "object": thing,
            "context": context,
            "timestamp": f"2026-03-01T09:00:{draw(st.integers(0, 6)):02}Z",
        }
        if (result := draw(st.sampled_from(_RESULTS))) is not None:
            statement["result"] = result
        statements.append(statement)
    return statements


Line = tuple[str, str, Any]
"""The id of the statement that caused it, the name of the record, and of a score snapshot its score and maximum, of a
status snapshot how many questions were attempted."""


def derive(
    statements: list[dict[str, Any]],
) -> tuple[dict[tuple[str, str], list[Line]], Counter[str], Counter[str]]:
    """The records by (registration, home page), in order; what was counted on the way; and sessions by their status."""
    counts: Counter[str] = Counter()
    voided = {each["object"]["id"].lower() for each in statements if _verb(each) == "voided"}
    sessions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in statements:
        if _verb(each) == "voided":
            continue
        if each["id"].lower() in voided:
            counts["voided"] += 1
            continue
        key = each["context"]["registration"].lower(), each["actor"]["account"]["homePage"]
        sessions.setdefault(key, []).append(each)
    if len({home_page for _, home_page in sessions}) == 2:
        counts["users_of_several_home_pages"] += 1
    lines = {key: _session(each, counts) for key, each in sessions.items()}
    return lines, counts, Counter(_status(sessions[key], lines[key]) for key in sessions)


def _status(statements: list[dict[str, Any]], lines: list[Line]) -> str:
    """What a session is left with. Nothing but a score says nothing of it, and nothing comes after a completion."""
    if any(name == "session-completed" for _, name, _ in lines):
        return "Completed"
    return "none" if all(_rank(each, part=False) == 4 for each in statements) else "Incomplete"


def _verb(statement: dict[str, Any]) -> str:
    return str(statement["verb"]["id"].removeprefix(VERBS))


def _is_activity(statement: dict[str, Any]) -> bool:
    return statement["object"] is not _AGENT and statement["object"] != _AGENT


def _carries_response(statement: dict[str, Any]) -> bool:
    if statement["object"] == _GRADED:
        return "score" in statement.get("result", {})
    return bool(statement["object"] == _QUESTION)


def _score(statement: dict[str, Any]) -> tuple[Any, Any] | None:
    score = statement.get("result", {}).get("score", {})
    if "raw" in score:
        return None if isinstance(score["raw"], str) else (score["raw"], score["max"])
    return (score["scaled"], 1) if "scaled" in score else None


def _rank(statement: dict[str, Any], part: bool) -> float:
    verb = _verb(statement)
    if not _is_activity(statement):
        return 2
    if verb == "passed" and "score" in statement.get("result", {}) and not _carries_response(statement):
        return 4
    if verb == "completed" and part:
        return 2
    return {"launched": -1, "initialized": 0, "resumed": 1, "completed": 3}.get(verb, 2)


def _session(statements: list[dict[str, Any]], counts: Counter[str]) -> list[Line]:
    order = sorted(statements, key=lambda each: (each["timestamp"], _rank(each, part=False), each["id"]))
    about = [each for each in order if _is_activity(each)]
    if not about:
        return []
    openings = [each for each in about if _verb(each) in ("launched", "initialized", "resumed")]
    own = (openings or about)[0]["object"]["id"]

    # Which completions are of the whole: by what has been opened when nothing was open.
    whole, opened, current, parts = {own}, False, None, set()
    for each in about:
        thing = each["object"]["id"]
        if each in openings:
            opened = True
            if current is None:
                current = thing
                whole.add(thing)
        elif _verb(each) == "terminated" and thing == current:
            current = None
        elif _verb(each) == "completed":
            is_first = not opened and thing == about[0]["object"]["id"]
            if thing not in whole and not is_first:
                parts.add(each["id"])
    order = sorted(order, key=lambda each: (each["timestamp"], _final(each, parts), _place(each, parts), each["id"]))
    return _folded(order, own, parts, counts)


def _final(statement: dict[str, Any], parts: set[str]) -> bool:
    return _rank(statement, statement["id"] in parts) >= 3


def _place(statement: dict[str, Any], parts: set[str]) -> float:
    return _rank(statement, statement["id"] in parts)


def _folded(order: list[dict[str, Any]], own: str, parts: set[str], counts: Counter[str]) -> list[Line]:
    lines: list[Line] = []
    answers: dict[str, tuple[Any, Any]] = {}
    attempted: set[str] = set()
    own_score: tuple[Any, Any] | None = None
    sent: Any = None
    started = launched = completed = False
    for each in order:
        verb, thing, score = _verb(each), each["object"].get("id"), _score(each)
        about = _is_activity(each)
        if about and _carries_response(each):
            answers.setdefault(thing, (None, None))
            if verb not in ("initialized", "launched", "resumed", "terminated"):
                attempted.add(thing)
            if score is not None:
                answers[thing] = score
        elif about and score is not None:
            if thing == own:
                own_score = score
            else:
                counts["part_scores"] += 1
        said = verb if about else "asked"
        if said == "launched" or (said == "initialized" and not launched):
            lines.append((each["id"], "session-resumed" if started else "session-started", None))
            started = True
        if said == "resumed":
            lines.append((each["id"], "session-resumed", None))
        if said in ("launched", "initialized", "resumed"):
            opening_alone = said == "initialized" and launched
            launched = said == "launched"
            if not opening_alone:
                continue
        if said == "completed" and each["id"] not in parts:
            completed = True
            lines.append((each["id"], "session-completed", None))
            lines.append((each["id"], "status", len(attempted)))
        if completed:
            now = own_score or _sums(answers)
            if now is not None and now != sent:
                sent = now
                lines.append((each["id"], "score", now))
    return lines


def _sums(answers: dict[str, tuple[Any, Any]]) -> tuple[Any, Any] | None:
    known = [score for score in answers.values() if score != (None, None)]
    return (sum(raw for raw, _ in known), sum(highest for _, highest in known)) if known else None
