"""A Learning Locker's database for a run: statements of three stores, and forwarders as its users write them.

The shapes are those of the collections `statements` and `statementForwarding` of Learning Locker 2, as its public
models describe them. A document of `statements` has the statement with `&46;` for each dot in a name, and beside it
what Learning Locker looks statements up by.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from bson import ObjectId

from local.check import Due
from local.examples import Example, Json

ORGANISATION = ObjectId("59c209c4ad95fd50960c0362")
STORES: Mapping[str, ObjectId] = {
    "school": ObjectId("5a1f00000000000000000001"),
    "college": ObjectId("5a1f00000000000000000002"),
    "library": ObjectId("5a1f00000000000000000003"),
}
VERBS = "http://adlnet.gov/expapi/verbs/"
ACTIVITIES = "http://adlnet.gov/expapi/activities/"
TERM = "https://lms.example/x/term"
COURSES = ("algebra", "biology", "chemistry", "drama")
BEGINNING = datetime(2026, 1, 5, 8, tzinfo=UTC)
PERSON = ObjectId("5b0000000000000000000007")
"""The person that a forwarder is about."""

_VERBS = (
    "answered",
    "answered",
    "answered",
    "experienced",
    "experienced",
    "initialized",
    "completed",
    "passed",
    "failed",
)
_TYPES = ("assessment", "question", "lesson", "media")
_LEARNERS = 100


@dataclass(frozen=True)
class LockerForwarder:
    """A document of `statementForwarding`, and what it is due, in plain Python.

    Attributes:
        name: the path of its url.
        query: as its user wrote it.
        due: whether a document of `statements` is due to it: the query once more.
        store: the name of the store that it is for; None for all of the organisation's.
        configuration: besides where to.
    """

    name: str
    query: Json
    due: Callable[[Json], bool]
    store: str | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> ObjectId:
        return ObjectId(sha256(self.name.encode()).hexdigest()[:24])

    def document(self, receiver: str) -> Json:
        """The document, for a receiver at host:port."""
        scope = {} if self.store is None else {"lrs_id": STORES[self.store]}
        return {
            "_id": self.id,
            "owner": ObjectId("59198183d8ea540933227030"),
            "organisation": ORGANISATION,
            **scope,
            "description": self.name,
            "query": json.dumps(self.query),
            "active": True,
            "isPublic": False,
            "createdAt": BEGINNING,
            "updatedAt": BEGINNING,
            "__v": 0,
            "configuration": {
                "protocol": "http",
                "url": f"{receiver}/{self.name}",
                "authType": "no auth",
                "maxRetries": 10,
                "headers": "{}",
                **self.configuration,
            },
        }

    def example(self) -> Example:
        """How it is checked."""
        return Example(str(self.id), "statement", self.is_due, http_path=f"/{self.name}")

    def is_due(self, document: Json) -> bool:
        """Whether a document is due to it, with its scope, and what is forwarded at all."""
        in_scope = self.store is None or document["lrs_id"] == STORES[self.store]
        return in_scope and document["active"] and not document["voided"] and self.due(document)


def _verb(document: Json) -> str:
    return str(document["statement"]["verb"]["id"]).removeprefix(VERBS)


def _ids(document: Json, relation: str) -> list[str]:
    activities = document["statement"].get("context", {}).get("contextActivities", {})
    return [activity["id"] for activity in activities.get(relation, [])]


def _of_person_or_accounts(document: Json) -> bool:
    account = document["statement"]["actor"].get("account", {})
    by_account = account.get("homePage") == "https://lms.school.example" and account.get("name") in _SOME_ACCOUNTS
    return by_account or document.get("person", {}).get("_id") == PERSON


def _is_of_college(document: Json) -> bool:
    return str(document["statement"]["actor"].get("mbox", "")).lower().endswith("@college.example")


def _is_algebra_assessment(document: Json) -> bool:
    definition = document["statement"]["object"].get("definition", {})
    return definition.get("type") == ACTIVITIES + "assessment" and _course("algebra") in _ids(document, "parent")


def _is_of_spring_term(document: Json) -> bool:
    extensions = document["statement"].get("context", {}).get("extensions", {})
    groups = {"https://lms.example/year/7", "https://lms.example/year/8"}
    return extensions.get(TERM.replace(".", "&46;")) == "spring" and bool(
        groups.intersection(_ids(document, "grouping"))
    )


def _is_of_february(document: Json) -> bool:
    when = document["timestamp"]
    return (
        datetime(2026, 2, 1, tzinfo=UTC) <= when < datetime(2026, 3, 1, tzinfo=UTC) and _verb(document) != "experienced"
    )


def _is_a_success(document: Json) -> bool:
    result = document["statement"].get("result", {})
    scaled = result.get("score", {}).get("scaled")
    by_score = scaled is not None and scaled >= 0.8
    return by_score or (result.get("success") is True and _verb(document) in ("passed", "completed"))


def _course(name: str) -> str:
    return f"https://lms.school.example/course/{name}"


_SOME_ACCOUNTS = ("learner-3", "learner-6", "learner-9")

FORWARDERS = (
    LockerForwarder("all-of-the-school", {}, lambda document: True, store="school"),
    LockerForwarder(
        "answers", {"statement.verb.id": VERBS + "answered"}, lambda document: _verb(document) == "answered"
    ),
    LockerForwarder(
        "a-person-and-accounts",
        {
            "$or": [
                {"person._id": {"$oid": str(PERSON)}},
                {
                    "statement.actor.account.homePage": "https://lms.school.example",
                    "statement.actor.account.name": {"$in": list(_SOME_ACCOUNTS)},
                },
            ]
        },
        _of_person_or_accounts,
    ),
    LockerForwarder(
        "addresses-of-the-college",
        {"statement.actor.mbox": {"$regex": r"@college\.example$", "$options": "i"}},
        _is_of_college,
        configuration={"authType": "token", "secret": "locker-token"},
    ),
    LockerForwarder(
        "algebra-assessments",
        {
            "statement.object.definition.type": ACTIVITIES + "assessment",
            "statement.context.contextActivities.parent.id": _course("algebra"),
        },
        _is_algebra_assessment,
        configuration={"authType": "basic auth", "basicUsername": "locker", "basicPassword": "locker-password"},
    ),
    LockerForwarder(
        "spring-term",
        {
            "$and": [
                {"statement.context.extensions." + TERM.replace(".", "&46;"): "spring"},
                {
                    "statement.context.contextActivities.grouping.id": {
                        "$in": ["https://lms.example/year/7", "https://lms.example/year/8"]
                    }
                },
            ]
        },
        _is_of_spring_term,
    ),
    LockerForwarder(
        "february",
        {
            "timestamp": {"$gte": {"$dte": "2026-02-01T00:00Z"}, "$lt": {"$dte": "2026-03-01T00:00Z"}},
            "statement.verb.id": {"$ne": VERBS + "experienced"},
        },
        _is_of_february,
    ),
    LockerForwarder(
        "successes",
        {
            "$or": [
                {"statement.result.score.scaled": {"$gte": 0.8}},
                {
                    "statement.result.success": True,
                    "statement.verb.id": {"$in": [VERBS + "passed", VERBS + "completed"]},
                },
            ]
        },
        _is_a_success,
    ),
)
"""Eight, by the ways in which Learning Locker's users write queries."""


def documents(count: int, seed: int) -> list[Json]:
    """Documents of `statements`, in no order; every statement has its own `stored`.

    One in a hundred voids an earlier one, which every other time its document says already; and one in a hundred is not
    active.
    """
    chance = random.Random(seed)  # noqa: S311 - a sample
    made: list[Json] = []
    for number in range(count):
        when = BEGINNING + timedelta(seconds=number * 86_400 * 80 // count, milliseconds=number % 1000)
        statement = _statement(chance, number, when)
        if number % 100 == 99:
            target = made[number - chance.randrange(1, 90)]
            target["voided"] = number % 200 == 99
            statement["verb"] = {"id": VERBS + "voided", "display": {"en": "voided"}}
            statement["object"] = {"objectType": "StatementRef", "id": target["statement"]["id"]}
            statement.pop("result", None)
        made.append(_document(chance, number, statement, when))
    chance.shuffle(made)
    return made


def due_to(forwarder: LockerForwarder, made: Iterable[Json]) -> list[Due]:
    """What is due to a forwarder, in the order in which it is to arrive: by `stored`, voiding statements last."""
    due = sorted(filter(forwarder.is_due, made), key=lambda document: (_verb(document) == "voided", document["stored"]))
    return [Due(content(original(document)), _user(document)) for document in due]


def original(document: Json) -> Json:
    """The statement of a document, as Learning Locker was sent it."""
    statement: Json = _renamed(document["statement"], "&46;", ".")
    return statement


def content(statement: Any) -> str:
    """A statement as a text: the same for the same value, names in their order, numbers in their spelling."""
    return json.dumps(statement, ensure_ascii=False)


def database_query(forwarder: LockerForwarder) -> Json:
    """The query as MongoDB itself takes it, with the scope, and what is forwarded at all."""
    scope = {} if forwarder.store is None else {"lrs_id": STORES[forwarder.store]}
    query: Json = _for_database(forwarder.query)
    return {"$and": [query, scope, {"active": True, "voided": {"$ne": True}}]}


def _for_database(value: Any) -> Any:
    if isinstance(value, dict):
        if "$dte" in value:
            return datetime.fromisoformat(value["$dte"])
        if "$oid" in value:
            return ObjectId(value["$oid"])
        return {name: _for_database(inner) for name, inner in value.items()}
    return [_for_database(each) for each in value] if isinstance(value, list) else value


def _user(document: Json) -> str:
    actor = document["statement"]["actor"]
    return str(actor["account"]["name"] if "account" in actor else actor["mbox"])


def _statement(chance: random.Random, number: int, when: datetime) -> Json:
    learner = chance.randrange(_LEARNERS)
    store = tuple(STORES)[learner % 3]
    course = chance.choice(COURSES)
    verb = chance.choice(_VERBS)
    kind = chance.choice(_TYPES)
    statement: Json = {
        "id": str(UUID(int=chance.getrandbits(128), version=4)),
        "actor": {"objectType": "Agent", "name": f"Learner {learner}", **_identifier(learner, store)},
        "verb": {"id": VERBS + verb, "display": {"en": verb}},
        "object": {
            "objectType": "Activity",
            "id": f"https://lms.{store}.example/{kind}/{chance.randrange(50)}",
            "definition": {
                "type": ACTIVITIES + kind,
                "name": {"en": f"{kind} of {course}", "de": f"{kind} \u2013 {course}"},
            },
        },
        "context": {
            "registration": str(UUID(int=chance.getrandbits(128), version=4)),
            "contextActivities": {
                "parent": [{"objectType": "Activity", "id": _course(course)}],
                "grouping": [{"objectType": "Activity", "id": f"https://lms.example/year/{chance.randrange(5, 12)}"}],
            },
            "extensions": {TERM: chance.choice(("autumn", "spring")), "https://lms.example/x/weight": 1.5},
        },
        "authority": {"objectType": "Agent", "account": {"homePage": "https://locker.example", "name": store}},
        "version": "1.0.0",
        "timestamp": _text(when - timedelta(minutes=chance.randrange(10))),
        "stored": _text(when),
    }
    if verb in ("answered", "completed", "passed", "failed"):
        raw = chance.randrange(0, 11)
        statement["result"] = {
            "score": {"scaled": raw / 10, "raw": raw, "min": 0, "max": 10},
            "success": verb != "failed" and raw >= 5,
            "duration": f"PT{chance.randrange(1, 3600)}S",
        }
    return statement


def _identifier(learner: int, store: str) -> Json:
    if learner % 2:
        return {"mbox": f"mailto:learner-{learner}@{store if learner % 5 else store.upper()}.example"}
    return {"account": {"homePage": f"https://lms.{store}.example", "name": f"learner-{learner}"}}


def _document(chance: random.Random, number: int, statement: Json, when: datetime) -> Json:
    actor, verb, thing = statement["actor"], statement["verb"]["id"], statement["object"]["id"]
    learner = int(actor["name"].removeprefix("Learner "))
    activities = statement["context"]["contextActivities"]
    return {
        "_id": ObjectId(int(when.timestamp()).to_bytes(4, "big") + chance.randbytes(8)),
        "organisation": ORGANISATION,
        "lrs_id": STORES[statement["authority"]["account"]["name"]],
        "client": ObjectId("5a2f00000000000000000001"),
        "statement": _renamed(statement, ".", "&46;"),
        "hash": sha256(statement["id"].encode()).hexdigest(),
        "active": number % 100 != 50,
        "voided": False,
        "timestamp": datetime.fromisoformat(statement["timestamp"]),
        "stored": when,
        "agents": [actor.get("mbox") or actor["account"]["homePage"] + "|" + actor["account"]["name"]],
        "relatedAgents": [],
        "registrations": [statement["context"]["registration"]],
        "verbs": [verb],
        "activities": [thing],
        "relatedActivities": [thing, *(each["id"] for related in activities.values() for each in related)],
        "refs": [],
        "person": {"_id": ObjectId(f"5b{learner:022}"), "display": actor["name"]},
        "personaIdentifier": ObjectId(f"5c{learner:022}"),
        "processingQueues": [],
        "completedQueues": [],
        "completedForwardingQueue": [],
        "pendingForwardingQueue": [],
        "failedForwardingLog": [],
    }


def _text(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _renamed(value: Any, old: str, new: str) -> Any:
    """The value with `new` for `old` in every name of every object."""
    if isinstance(value, dict):
        return {name.replace(old, new): _renamed(inner, old, new) for name, inner in value.items()}
    return [_renamed(each, old, new) for each in value] if isinstance(value, list) else value


def in_batches(items: Sequence[Json], size: int) -> Iterator[Sequence[Json]]:
    """`items` in pieces of `size`."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
