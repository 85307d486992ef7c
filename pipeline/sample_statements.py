"""Seeded, realistic xAPI statements of any size: `python -m pipeline.sample --input_format xapi`.

A session is one learner's attempt at a course as a learning record store has it afterwards: questions answered, videos
played, pages read, posts commented on, marks given by a teacher. Each statement has 0.8 to 4 kB.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha1
from random import Random
from typing import Any

import orjson

from pipeline.sample_arrivals import HOUR, MINUTE, SECOND, in_order_of_arrival, random_uuid, starts, user_of

Fields = dict[str, Any]

_VERBS = "http://adlnet.gov/expapi/verbs"
_ACTIVITIES = "http://adlnet.gov/expapi/activities"
_VIDEO = "https://w3id.org/xapi/video"
_EXTENSIONS = "https://courses.example.org/xapi/extensions"
_HOME_PAGE = "https://courses.example.org"

_DISPLAYS: dict[str, dict[str, str]] = {
    f"{_VERBS}/initialized": {"en-US": "initialized", "fr-FR": "a commencé", "de-DE": "begann"},
    f"{_VERBS}/answered": {"en-US": "answered", "fr-FR": "a répondu", "de-DE": "beantwortete", "zh-CN": "回答了"},
    f"{_VERBS}/experienced": {"en-US": "experienced", "fr-FR": "a consulté", "es-ES": "experimentó"},
    f"{_VERBS}/commented": {"en-US": "commented", "fr-FR": "a commenté", "es-ES": "comentó"},
    f"{_VERBS}/completed": {"en-US": "completed", "fr-FR": "a terminé", "de-DE": "beendete", "zh-CN": "完成了"},
    f"{_VERBS}/passed": {"en-US": "passed", "fr-FR": "a réussi", "de-DE": "bestand", "zh-CN": "通过了"},
    f"{_VERBS}/failed": {"en-US": "failed", "fr-FR": "a échoué", "de-DE": "scheiterte an"},
    f"{_VERBS}/scored": {"en-US": "scored", "fr-FR": "a noté"},
    f"{_VERBS}/suspended": {"en-US": "suspended", "fr-FR": "a suspendu"},
    f"{_VERBS}/resumed": {"en-US": "resumed", "fr-FR": "a repris"},
    f"{_VERBS}/terminated": {"en-US": "terminated", "fr-FR": "a quitté"},
    f"{_VERBS}/voided": {"en-US": "voided"},
    f"{_VIDEO}/verbs/played": {"en-US": "played", "fr-FR": "a lu"},
    f"{_VIDEO}/verbs/paused": {"en-US": "paused", "fr-FR": "a mis en pause"},
    f"{_VIDEO}/verbs/seeked": {"en-US": "seeked", "es-ES": "buscó"},
}
_LANGUAGES = ("en-US", "fr-FR", "de-DE", "es-ES", "zh-CN")
_TITLES: dict[str, tuple[str, ...]] = {
    "en-US": ("Linear equations", "The water cycle", "Reading a map", "Cells and tissue", "First aid at work"),
    "fr-FR": ("Équations linéaires", "Le cycle de l'eau", "Lire une carte", "Cellules et tissus", "Premiers secours"),
    "de-DE": ("Lineare Gleichungen", "Der Wasserkreislauf", "Karten lesen", "Zellen und Gewebe", "Erste Hilfe"),
    "es-ES": ("Ecuaciones lineales", "El ciclo del agua", "Leer un mapa", "Células y tejidos", "Primeros auxilios"),
    "zh-CN": ("线性方程", "水循环", "阅读地图", "细胞与组织", "工作急救"),
}
_SENTENCES = (
    "Explain in your own words how the result follows from what was given, and name the step that you are unsure of.",
    "Choose the statement that fits the figure best; there may be more than one, and the order does not matter.",
    "Décrivez les étapes principales, puis comparez votre réponse avec celle d'un autre participant du groupe.",
    "Lies den Abschnitt noch einmal und begründe, warum die zweite Lösung für kleine Werte nicht ausreicht.",
    "Watch the part from 02:10 on and note what changes when the temperature rises by ten degrees.",
    "Vuelva a leer el párrafo anterior y marque las palabras que no conoce antes de seguir con la actividad.",
)
_PLATFORMS = ("Moodle 4.3", "Open edX Palm", "Articulate Storyline 360", "H5P 1.26")
_BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36",
)
_AUTHORITY: Fields = {
    "objectType": "Agent",
    "name": "Course player",
    "account": {"homePage": "https://lrs.example.org", "name": "client-7b0f"},
}


def sample_statements(sessions: int, seed: int = 0, *, hot_share: float = 0.01) -> Iterator[bytes]:
    """The statements of many sessions, each one line of JSON without its end, in the order in which they were stored.

    Some are there twice, a very few twice with different contents, some void another, and some are about another.

    Args:
        sessions: how many; about 15 statements each.
        seed: of the sample.
        hot_share: the share of the sessions, from 0 to 1, that belongs to a single learner.
    """
    return in_order_of_arrival(
        (start, _arrivals(_Attempt(seed, index, sessions, start, hot_share, chance).play(), chance))
        for index, start, chance in starts(sessions, seed)
    )


def broken_statements(seed: int = 0) -> Iterator[bytes]:
    """Lines, without an end, that are no statement: broken JSON, no actor, no verb, no object, no time."""
    chance = Random(f"{seed}/broken")  # noqa: S311
    for number in range(1 << 62):
        attempt = _Attempt(seed, number, 1000, 1_704_693_600_000, 0.0, chance)
        statement = next(attempt.play())
        fault = chance.randrange(5)
        if fault == 4:
            line = orjson.dumps(statement)
            yield line[: chance.randrange(1, len(line))]
            continue
        for name in (("actor",), ("verb",), ("object",), ("timestamp", "stored"))[fault]:
            statement.pop(name, None)
        yield orjson.dumps(statement)


def _arrivals(statements: Iterable[Fields], chance: Random) -> Iterator[tuple[int, bytes]]:
    """(arrival, line). `stored` is when a statement arrives: late, where it was made without a network."""
    for statement in statements:
        arrival = statement.pop("stored")
        luck = chance.random()
        if luck < 0.02:
            arrival += chance.randrange(HOUR)
        as_stored = {**statement, "stored": _time(arrival), "authority": _AUTHORITY, "version": "1.0.0"}
        line = orjson.dumps(as_stored)
        yield arrival, line
        if luck > 0.99:
            yield arrival + chance.randrange(MINUTE), line
        elif luck > 0.9895:
            other = {"stored": _time(arrival + SECOND), "result": {"response": "sent twice, and changed in between"}}
            yield arrival + SECOND, orjson.dumps(as_stored | other)


def _time(time: int, zone: timezone = UTC) -> str:
    """RFC 3339 with milliseconds."""
    moment = datetime.fromtimestamp(time / 1000, zone)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Attempt:
    """One learner's attempt at a course."""

    def __init__(self, seed: int, index: int, sessions: int, begins: int, hot_share: float, chance: Random) -> None:
        self._chance = chance
        self._now = begins
        user = user_of(seed, index, sessions, hot_share)
        self._actor = _actor(user)
        self._number = chance.randrange(200)
        self._course = f"{_HOME_PAGE}/courses/{self._number}"
        self._language = _LANGUAGES[self._number % 5]
        self._title = _TITLES[self._language][self._number // 5 % 5]
        self._registration = random_uuid(chance)
        self._zone = timezone(timedelta(hours=chance.choice((-5, 1, 2)))) if chance.random() < 0.15 else UTC
        self._brief = chance.random() < 0.4  # what a simple player says
        self._context: Fields = {
            "registration": self._registration,
            "contextActivities": {
                "parent": [_activity(self._course, f"{_ACTIVITIES}/course", {} if self._brief else self._names())]
            },
            "platform": chance.choice(_PLATFORMS),
            "language": self._language,
        }
        self._extensions: Fields = {}
        if not self._brief:
            self._add_details(user, sessions)
        self._answers: list[tuple[str, bool]] = []

    def _add_details(self, user: int, sessions: int) -> None:
        chance = self._chance
        programme = _activity(f"{_HOME_PAGE}/programmes/{self._number % 7}", f"{_ACTIVITIES}/course", {})
        category = {"objectType": "Activity", "id": "https://w3id.org/xapi/cmi5/context/categories/moveon"}
        self._context["contextActivities"] |= {"grouping": [programme], "category": [category]}
        if chance.random() < 0.4:
            self._context["instructor"] = _teacher(self._number)
        if chance.random() < 0.15:
            team = [_actor(1 + (user + other) % max(1, sessions)) for other in range(3)]
            self._context["team"] = {"objectType": "Group", "name": f"Team {user % 30}", "member": team}
        self._extensions |= {
            f"{_EXTENSIONS}/browser": chance.choice(_BROWSERS),
            f"{_EXTENSIONS}/client": {"version": f"4.{chance.randrange(9)}.{chance.randrange(20)}", "beta": False},
            f"{_EXTENSIONS}/screen": [chance.choice((1280, 1366, 1920)), chance.choice((720, 768, 1080))],
        }

    def play(self) -> Iterator[Fields]:
        """Its statements in the order in which they occur. `stored` is in epoch ms."""
        chance = self._chance
        course = self._context["contextActivities"]["parent"][0]
        if chance.random() > 0.02:  # else the start was lost
            yield self._statement(f"{_VERBS}/initialized", course)
        steps: tuple[Callable[[int], Fields], ...] = (self._answer, self._answer, self._answer, self._watch, self._read)
        for number in range(chance.randrange(6, 18)):
            self._now += chance.randrange(5 * SECOND, 3 * MINUTE)
            yield chance.choice(steps)(number)
        if chance.random() < 0.15:
            yield self._statement(f"{_VERBS}/suspended", course)
            self._now += chance.randrange(10 * MINUTE, 3 * HOUR)
            yield self._statement(f"{_VERBS}/resumed", course)
        if self._answers and chance.random() < 0.1:
            yield self._about_another()
        if chance.random() < 0.85:
            yield from self._end(course)
        if self._answers and chance.random() < 0.03:
            self._now += chance.randrange(MINUTE, HOUR)
            voided: Fields = {"objectType": "StatementRef", "id": chance.choice(self._answers)[0]}
            yield self._statement(f"{_VERBS}/voided", voided, actor=_teacher(self._number))

    def _end(self, course: Fields) -> Iterator[Fields]:
        right = sum(correct for _, correct in self._answers)
        total = max(1, len(self._answers))
        result: Fields = {"completion": True, "duration": f"PT{self._chance.randrange(3, 90)}M{right}.50S"}
        yield self._statement(f"{_VERBS}/completed", course, result)
        score: Fields = {"scaled": right / total, "raw": right, "min": 0, "max": total}
        if self._chance.random() < 0.7:
            passed = right >= 0.6 * total
            verb = f"{_VERBS}/{'passed' if passed else 'failed'}"
            yield self._statement(verb, course, {"score": score, "success": passed})
        yield self._statement(f"{_VERBS}/terminated", course)

    def _answer(self, number: int) -> Fields:
        chance = self._chance
        correct = chance.random() < 0.7
        choices = [f"choice_{letter}" for letter in "abcd"]
        definition: Fields = {
            **self._names(f" {number + 1}"),
            "description": {self._language: chance.choice(_SENTENCES)},
            "type": f"{_ACTIVITIES}/cmi.interaction",
        }
        kind = chance.random()
        if kind < 0.7:
            definition["interactionType"] = "choice"
            definition["choices"] = [
                {"id": choice, "description": {self._language: chance.choice(_SENTENCES)[: chance.randrange(20, 80)]}}
                for choice in choices
            ]
            definition["correctResponsesPattern"] = ["choice_b"]
            response = "choice_b" if correct else chance.choice(("choice_a", "choice_c", "choice_d"))
        elif kind < 0.85:
            definition["interactionType"] = "numeric"
            definition["correctResponsesPattern"] = ["41[:]43"]
            response = "42" if correct else str(chance.randrange(100))
        else:
            definition["interactionType"] = "long-fill-in"
            response = " ".join(chance.choice(_SENTENCES) for _ in range(chance.randrange(1, 13)))
        raw = chance.choice((0.5, 1.0)) if correct else 0
        result: Fields = {
            "score": {"scaled": float(raw), "raw": raw, "min": 0, "max": 1},
            "success": correct,
            "response": response,
            "duration": f"PT{chance.randrange(4, 180)}.{chance.randrange(10, 100)}S",
            "extensions": {f"{_EXTENSIONS}/attempt": chance.randrange(1, 4)},
        }
        thing = {"objectType": "Activity", "id": f"{self._course}/questions/{number}", "definition": definition}
        statement = self._statement(f"{_VERBS}/answered", thing, result)
        self._answers.append((statement["id"], correct))
        return statement

    def _watch(self, number: int) -> Fields:
        chance = self._chance
        length = 60.0 + 17 * (self._number % 30)
        at = round(chance.random() * length, 3)
        verb = chance.choice(("played", "paused", "seeked"))
        extensions: Fields = {f"{_VIDEO}/extensions/time": at}
        if verb == "paused":
            extensions[f"{_VIDEO}/extensions/played-segments"] = f"0[.]{at}"
            extensions[f"{_VIDEO}/extensions/progress"] = round(at / length, 3)
        video = _activity(f"{self._course}/videos/{number % 4}", f"{_VIDEO}/activity-type/video", self._names())
        statement = self._statement(f"{_VIDEO}/verbs/{verb}", video, {"extensions": extensions})
        statement["context"]["extensions"] = self._extensions | {
            f"{_VIDEO}/extensions/length": length,
            f"{_VIDEO}/extensions/session-id": self._registration,
            f"{_VIDEO}/extensions/quality": "960x400",
            f"{_VIDEO}/extensions/speed": "1x",
            f"{_VIDEO}/extensions/volume": 0.8,
        }
        return statement

    def _read(self, number: int) -> Fields:
        chance = self._chance
        names = self._names(f" {number}") | {"description": {self._language: chance.choice(_SENTENCES)}}
        page = _activity(f"{self._course}/pages/{number}#top", f"{_ACTIVITIES}/lesson", names)
        if chance.random() < 0.8:
            return self._statement(f"{_VERBS}/experienced", page)
        post = " ".join(chance.choice(_SENTENCES) for _ in range(chance.randrange(1, 17)))
        return self._statement(f"{_VERBS}/commented", page, {"response": f"{post} 🙂"})

    def _about_another(self) -> Fields:
        """A teacher's mark, about the statement of an answer."""
        answer, correct = self._chance.choice(self._answers)
        self._now += self._chance.randrange(MINUTE, HOUR)
        result: Fields = {"score": {"scaled": 1.0 if correct else 0.25, "raw": 12345678901234567890}}
        thing: Fields = {"objectType": "StatementRef", "id": answer}
        statement = self._statement(f"{_VERBS}/scored", thing, result, _teacher(self._number))
        statement["context"]["statement"] = thing
        return statement

    def _names(self, suffix: str = "") -> Fields:
        """The course's name in its own language, and in English."""
        title = self._title + suffix
        if self._brief:
            return {"name": {self._language: title}}
        return {"name": {self._language: title, "en-GB": f"{_TITLES['en-US'][self._number // 5 % 5]} ({self._number})"}}

    def _statement(self, verb: str, thing: Fields, result: Fields | None = None, actor: Fields | None = None) -> Fields:
        self._now += self._chance.randrange(300, 3000)
        display = _DISPLAYS[verb]
        statement: Fields = {
            "id": random_uuid(self._chance),
            "actor": actor or self._actor,
            "verb": {"id": verb, "display": {"en-US": display["en-US"]} if self._brief else display},
            "object": thing,
        }
        if result:
            statement["result"] = result
        statement["context"] = self._context.copy()
        if self._extensions:
            statement["context"]["extensions"] = self._extensions
        statement["timestamp"] = _time(self._now, self._zone)
        statement["stored"] = self._now + self._chance.randrange(100, 2 * SECOND)
        return statement


def _activity(id_: str, kind: str, definition: Fields) -> Fields:
    return {"objectType": "Activity", "id": id_, "definition": {**definition, "type": kind}}


def _teacher(number: int) -> Fields:
    mail = f"mailto:teacher-{number % 20}@courses.example.org"
    return {"objectType": "Agent", "name": f"Señora Núñez {number % 20}", "mbox": mail}


def _actor(user: int) -> Fields:
    """A learner: most have an account, some an address or its hash."""
    kind = user % 10
    name = f"学生 {user}" if user % 40 == 3 else f"Learner {user}"
    mail = f"mailto:learner-{user}@mail.example.org"
    if kind < 6:
        identified: Fields = {"account": {"homePage": _HOME_PAGE, "name": f"learner-{user:08d}"}}
    elif kind < 8:
        identified = {"mbox": mail}
    elif kind == 8:
        identified = {"mbox_sha1sum": sha1(mail.encode(), usedforsecurity=False).hexdigest()}
    else:
        identified = {"openid": f"https://learner-{user}.id.example.org/"}
    return {"objectType": "Agent", "name": name, **identified}
