"""The query engine beside other libraries, and the index beside brute force, in one run:

    python -m benchmarks.query [--json PATH] [--node_modules DIR] [--quick]

Needs nothing but the project; mongomock, mongoquery and montydb (PyPI), sift and mingo (npm, under Node) are
measured where they are installed, and named where they are not. Every figure is CPU time (Node: wall clock)
and the least of several rounds, the rounds of all candidates interleaved, so that a busy machine strikes them
alike.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.query import ForwarderIndex, compile_query, from_extended_json
from transforms.query.codegen import compiled_maker, compiled_shape
from transforms.query.regex import compile_search

Match = Callable[[Any], bool]
Document = dict[str, Any]

VERB = "http://adlnet.gov/expapi/verbs/"
VERBS = ("initialized", "resumed", "completed", "progressed", "scored")
CATEGORY = "https://w3id.org/xapi/cmi5/context/categories/"

# What operators of forwarders write: most ask for a verb, a kind or a tenant, some for scores, times or
# arrays.
QUERIES: tuple[dict[str, Any], ...] = (
    {"statement.verb.id": VERB + "completed"},
    {"organisation": "org1", "statement.verb.id": VERB + "scored"},
    {"statement.verb.id": {"$in": [VERB + "completed", VERB + "scored", VERB + "passed"]}},
    {"kind": "status", "status": "Completed"},
    {"score": {"$gte": 5}},
    {"statement.result.score.scaled": {"$gte": 0.5, "$lt": 0.9}},
    {"kind": {"$ne": "event"}},
    {"$or": [{"event": "session-started"}, {"statement.verb.id": VERB + "scored"}]},
    {"statement.context.contextActivities.grouping.id": "https://example.org/courses/7"},
    {"statement.context.contextActivities.category": {"$elemMatch": {"id": CATEGORY + "moveon"}}},
    {"subscores": {"$elemMatch": {"id": "subscore-1", "score": {"$gte": 3}}}},
    {"subscores.items": "293475858"},
    {"metadata.country": {"$exists": True}},
    {"statement.result": {"$exists": False}, "kind": "event"},
    {"timestamp": {"$gte": {"$date": "2020-02-17T12:00:00Z"}}},
    {"$and": [{"organisation": "org2"}, {"lrs_id": "lrs1"}, {"metadata.cohort": {"$nin": [1, 2, 3]}}]},
    {"$nor": [{"status": "Discarded"}, {"metadata.country": "FR"}]},
    {"user_id": {"$in": [f"user-{number}" for number in range(0, 200, 10)]}},
    {"statement.object.id": {"$regex": "^https://example\\.org/activities/"}},
    {"statement.actor.account.name": {"$regex": "-(1|2)[0-9]$"}},
)


def document(rng: random.Random, organisations: int) -> Document:
    """A query document (docs/spec/records.md section 4)."""
    kind = rng.choice(("event", "event", "status", "score"))
    activity, user = f"activity-{rng.randrange(500)}", f"user-{rng.randrange(1000)}"
    stamp = {"$date": f"2020-02-{rng.randrange(10, 25)}T{rng.randrange(10, 24)}:15:03.250Z"}
    base = {"user_id": user, "activity_id": activity, "session_id": f"{rng.getrandbits(64):016x}"}
    verb, message = _message(rng, kind, base)
    statement = _statement(rng, verb, user, activity, stamp)
    if kind == "score":
        raw = message["score"]
        statement["result"] = {"score": {"raw": raw, "max": 10, "min": 0, "scaled": raw / 10}}
    metadata = {"cohort": rng.randrange(50), "country": rng.choice(("DE", "FR", "US"))}
    return {
        "_id": f"{rng.getrandbits(128):032x}",
        "kind": kind,
        "organisation": f"org{rng.randrange(organisations)}",
        "lrs_id": f"lrs{rng.randrange(3)}",
        "timestamp": stamp,
        "metadata": metadata if rng.random() < 0.7 else {},
        **message,
        "statement": statement,
    }


def _message(rng: random.Random, kind: str, base: Document) -> tuple[str, Document]:
    """The verb of a record, and its message."""
    if kind == "event":
        name = rng.choice(("started", "resumed", "completed"))
        message = {"event": f"session-{name}", **base, "time": "2020-02-17 15:03:23"}
        return {"started": "initialized"}.get(name, name), message
    if kind == "status":
        return "progressed", {
            **base,
            "num_attempted": rng.randrange(11),
            "num_questions": 10,
            "session_duration": 8,
            "status": "Completed",
            "dt_started": "2020-02-17T15:03:23Z",
            "dt_completed": "2020-02-17T15:11:43Z",
        }
    subscores = [
        {"id": f"subscore-{number}", "title": "Text", "num_questions": 5, "score": rng.randrange(6),
         "max_score": 5, "items": ["293486384", "293481468", "293475858"]}
        for number in range(3)
    ]  # fmt: skip
    score = {"score": rng.randrange(11), "max_score": 10, "subscores": subscores, "status": "Completed"}
    return "scored", {**base, **score}


def _statement(rng: random.Random, verb: str, user: str, activity: str, stamp: Document) -> Document:
    return {
        "id": f"{rng.getrandbits(128):032x}",
        "actor": {"objectType": "Agent", "account": {"name": user, "homePage": "https://learner.invalid"}},
        "verb": {"id": VERB + verb, "display": {"en": verb}},
        "object": {"id": f"https://example.org/activities/{activity}", "definition": {"type": "assessment"}},
        "context": {
            "registration": "f4e854f4-3324-4395-beec-1650b522007a",
            "contextActivities": {
                "grouping": [{"id": f"https://example.org/courses/{rng.randrange(20)}"}],
                "category": [{"id": CATEGORY + "moveon"}, {"id": CATEGORY + "cmi5"}],
            },
        },
        "timestamp": stamp,
        "stored": stamp,
        "version": "1.0.3",
    }


def documents(seed: int, count: int, organisations: int) -> list[Document]:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    return [document(rng, organisations) for _ in range(count)]


# -- other libraries
# ---------------------------------------------------------------------------------------------------


def _mongomock(query: Any) -> Match:
    from mongomock.filtering import filter_applies

    return lambda document: bool(filter_applies(query, document))


def _mongoquery(query: Any) -> Match:
    from mongoquery import Query

    return Query(query).match  # type: ignore[no-any-return]


def _montydb(query: Any) -> Match:
    from montydb.engine.queries import QueryFilter

    return QueryFilter(query)  # type: ignore[no-any-return]


PEERS: dict[str, Callable[[Any], Match]] = {
    "mongomock": _mongomock,
    "mongoquery": _mongoquery,
    "montydb": _montydb,
}

NODE_SCRIPT = """
const fs = require('fs');
const input = JSON.parse(fs.readFileSync(0, 'utf8'), (key, value) =>
  value && typeof value === 'object' && value.$date ? new Date(value.$date) : value);
const makers = {
  sift: () => { const sift = require('sift').default || require('sift'); return q => sift(q); },
  mingo: () => {
    const { Query } = require('mingo');
    return q => { const c = new Query(q); return d => c.test(d); };
  },
};
const result = {};
for (const name of Object.keys(makers)) {
  let make;
  try { make = makers[name](); } catch (error) {
    result[name] = { missing: String(error.code || error) };
    continue;
  }
  const tests = input.queries.map(make), times = [], hits = [];
  for (const test of tests) {
    let best = Infinity, hit = 0;
    for (let round = 0; round < input.rounds; round++) {
      hit = 0;
      const start = process.hrtime.bigint();
      for (const found of input.documents) if (test(found)) hit++;
      best = Math.min(best, Number(process.hrtime.bigint() - start));
    }
    times.push(best / 1000 / input.documents.length);
    hits.push(hit);
  }
  result[name] = { times, hits };
}
process.stdout.write(JSON.stringify(result));
"""


def node_peers(documents: list[Document], rounds: int, node_modules: Path | None) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        return {name: {"missing": "no node"} for name in ("sift", "mingo")}
    where = node_modules or Path.cwd() / "node_modules"
    message = json.dumps({"queries": QUERIES, "documents": documents, "rounds": rounds})
    done = subprocess.run(  # noqa: S603 - a constant script
        [node, "-e", NODE_SCRIPT],
        input=message, capture_output=True, text=True, check=True,
        env={**os.environ, "NODE_PATH": str(where)},
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# -- measuring
# ---------------------------------------------------------------------------------------------------------


def timed(match: Callable[[Document], object], documents: Iterable[Document]) -> float:
    start = time.thread_time()
    for document in documents:
        match(document)
    return time.thread_time() - start


def measure_matching(rounds: int, node_modules: Path | None) -> dict[str, Any]:
    """Mean microseconds a match, by library and query, and answers that differ from ours."""
    plain = documents(1, 200, 5)
    inputs = [from_extended_json(document) for document in plain]
    ours: list[Match] = [compile_query(json.dumps(query)).matches for query in QUERIES]
    candidates: dict[str, list[Match]] = {"ours": ours}
    missing: dict[str, str] = {}
    for name, make in PEERS.items():
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing[name] = "not installed"
            continue
        candidates[name] = [make(from_extended_json(query)) for query in QUERIES]
    times = {name: [float("inf")] * len(QUERIES) for name in candidates}
    for _ in range(rounds):
        for name, matches in candidates.items():
            for number, match in enumerate(matches):
                # Twice: the first brings the documents back into the processor's cache.
                seconds = min(timed(match, inputs), timed(match, inputs))
                times[name][number] = min(times[name][number], seconds * 1e6 / len(inputs))
    differing = {
        name: sum(
            bool(match(document)) is not ours[number](document)
            for number, match in enumerate(matches)
            for document in inputs
        )
        for name, matches in candidates.items()
    }
    for name, result in node_peers(plain, rounds, node_modules).items():
        if "missing" in result:
            missing[name] = result["missing"]
            continue
        times[name] = result["times"]
        hits = [sum(map(match, inputs)) for match in ours]
        differing[name] = sum(abs(a - b) for a, b in zip(hits, result["hits"], strict=True))
    return {"times": times, "missing": missing, "differing": differing}


def measure_compiling(rounds: int) -> dict[str, float]:
    """Mean microseconds of compile_query with nothing cached, and of the first match after it."""
    texts = [json.dumps(query) for query in QUERIES]
    best = {
        "compile": float("inf"),
        "first match, new shape": float("inf"),
        "first match, known shape": float("inf"),
    }
    for _ in range(rounds):
        compile_search.cache_clear()
        start = time.thread_time()
        compiled = [compile_query(text) for text in texts]
        best["compile"] = min(best["compile"], time.thread_time() - start)
        compiled_shape.cache_clear()
        compiled_maker.cache_clear()
        for name in ("first match, new shape", "first match, known shape"):
            start = time.thread_time()
            for query in compiled:
                query.matches({})
            best[name] = min(best[name], time.thread_time() - start)
            compiled = [compile_query(text) for text in texts]
    return {name: seconds * 1e6 / len(texts) for name, seconds in best.items()}


@dataclass(frozen=True)
class Forwarder:
    id: str
    query: str
    scope: Mapping[str, str] = field(default_factory=dict)


def equality_forwarders(count: int, rng: random.Random) -> list[Forwarder]:
    """One tenant each, asking for a verb."""
    return [
        Forwarder(
            str(number),
            json.dumps({"organisation": f"org{number}", "statement.verb.id": VERB + rng.choice(VERBS)}),
        )
        for number in range(count)
    ]


def scoped_forwarders(count: int, rng: random.Random) -> list[Forwarder]:
    """Five to a tenant, one a verb, the tenant as their scope."""
    return [
        Forwarder(
            str(number),
            json.dumps({"statement.verb.id": VERB + VERBS[number % 5]}),
            {"organisation": f"org{number // 5}"},
        )
        for number in range(count)
    ]


def mixed_forwarders(count: int, rng: random.Random) -> list[Forwarder]:
    """45 % organisation and verb, then `$in`, ranges, `$exists`, patterns, `$or`, and 7 % that cannot be
    indexed.
    """
    return [Forwarder(str(number), json.dumps(_mixed(count, rng))) for number in range(count)]


def _mixed(count: int, rng: random.Random) -> dict[str, Any]:
    organisation = f"org{rng.randrange(max(1, count // 5))}"
    draw = rng.random()
    if draw < 0.45:
        return {"organisation": organisation, "statement.verb.id": VERB + rng.choice(VERBS)}
    if draw < 0.55:
        return {"activity_id": {"$in": [f"activity-{rng.randrange(500)}" for _ in range(4)]}}
    if draw < 0.60:
        return {"organisation": organisation, "score": {"$gte": rng.randrange(11)}}
    if draw < 0.65:
        return {"statement.result.score.scaled": {"$gte": rng.random(), "$lt": 1}}
    if draw < 0.70:
        return {f"metadata.key{rng.randrange(20)}": {"$exists": True}}
    if draw < 0.80:
        patterns = ("^https://example\\.org/activities/activity-%d$", "activity-%d[0-9]", "(?i)ACTIVITY-%d$")
        return {"statement.object.id": {"$regex": rng.choice(patterns) % rng.randrange(500)}}
    if draw < 0.93:
        return {
            "$or": [
                {"user_id": f"user-{rng.randrange(1000)}"},
                {"activity_id": f"activity-{rng.randrange(500)}"},
            ]
        }
    return rng.choice(
        (
            {"status": {"$ne": "Completed"}, "user_id": {"$nin": [f"user-{rng.randrange(1000)}"]}},
            {"metadata.cohort": {"$not": {"$lt": rng.randrange(50)}}},
            {"$nor": [{"kind": "event"}, {"organisation": organisation}]},
        )
    )


SETS: dict[str, tuple[Callable[[int, random.Random], list[Forwarder]], int]] = {
    "equality": (equality_forwarders, 1),
    "scope and verb": (scoped_forwarders, 5),
    "mixed": (mixed_forwarders, 5),
}
SIZES = (10, 100, 1_000, 10_000)


def measure_index(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, (make, to_a_tenant) in SETS.items():
        prepared = []
        for size in SIZES:
            forwarders = make(size, random.Random(size))  # noqa: S311
            inputs = [from_extended_json(document) for document in documents(size, 1_000, max(1, size // to_a_tenant))]
            start = time.thread_time()
            index = ForwarderIndex(forwarders)
            build = time.thread_time() - start
            queries = [
                (forwarder.scope.get("organisation"), compile_query(forwarder.query)) for forwarder in forwarders
            ]
            some = inputs[: max(5, 20_000 // size)]
            row: dict[str, Any] = {"set": name, "forwarders": size, "build s": build, "index us": float("inf")}
            row |= {
                "brute us": float("inf"),
                "hits": sum(len(index.matching(document)) for document in inputs) / len(inputs),
            }
            prepared.append((row, index, queries, inputs if name != "mixed" else inputs[:200], some))
        gc.collect()
        gc.freeze()
        for turn in range(rounds):
            for row, index, queries, inputs, some in prepared:
                row["index us"] = min(row["index us"], timed(index.matching, inputs) * 1e6 / len(inputs))
                if turn < 3:
                    row["brute us"] = min(row["brute us"], timed(_brute(queries), some) * 1e6 / len(some))
        gc.unfreeze()
        rows += [row for row, *_ in prepared]
    return rows


def _brute(queries: list[tuple[str | None, Any]]) -> Match:
    def match(document: Document) -> bool:
        organisation = document["organisation"]
        return bool([1 for scope, query in queries if scope in (None, organisation) and query.matches(document)])

    return match


# -- report
# ------------------------------------------------------------------------------------------------------------


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def report(results: dict[str, Any]) -> str:
    matching = results["matching"]
    times: dict[str, list[float]] = matching["times"]
    lines = ["Microseconds a match"]
    names = list(times)
    lines.append(f"{'query':58}" + "".join(f"{name:>12}" for name in names))
    for number, query in enumerate(QUERIES):
        shown = json.dumps(query).replace(VERB, "")[:56]
        lines.append(f"{shown:58}" + "".join(f"{times[name][number]:12.2f}" for name in names))
    lines.append(f"{'mean':58}" + "".join(f"{mean(times[name]):12.2f}" for name in names))
    ratios = (f"{mean(times[name]) / mean(times['ours']):11.1f}x" for name in names)
    lines.append(f"{'times ours':58}" + "".join(ratios))
    differing = (f"{matching['differing'][name]:12}" for name in names)
    lines.append(f"{'answers that differ from ours':58}" + "".join(differing))
    lines += [f"not measured: {name} ({why})" for name, why in matching["missing"].items()]
    lines += ["", "Microseconds a query"]
    lines += [f"{name:58}{value:12.1f}" for name, value in results["compiling"].items()]
    lines += ["", f"{'forwarders':16}{'N':>8}{'build s':>10}{'index us':>10}{'brute us':>12}{'hits':>8}"]
    for row in results["index"]:
        lines.append(
            f"{row['set']:16}{row['forwarders']:8}{row['build s']:10.3f}{row['index us']:10.2f}"
            f"{row['brute us']:12.1f}{row['hits']:8.2f}"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.query", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--node_modules", type=Path, help="where sift and mingo are installed")
    parser.add_argument("--quick", action="store_true", help="few rounds: for a look, not for a figure")
    options = parser.parse_args(arguments)
    rounds = 3 if options.quick else 12
    results = {
        "python": platform.python_version(),
        "matching": measure_matching(rounds, options.node_modules),
        "compiling": measure_compiling(rounds),
        "index": measure_index(rounds * 2),
    }
    sys.stdout.write(report(results) + "\n")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
