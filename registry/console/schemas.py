"""The schemas of what the console asks and is answered, for the OpenAPI."""

from typing import get_args

from registry.directory import State, Target
from registry.openapi import COUNT, FORWARDER, KIND, TEXT, YES_OR_NO, list_of, object_of, or_null, ref, schemas
from registry.query_builder import OPERATORS
from schemas import KINDS
from schemas.json_values import JsonObject

_SOURCE: JsonObject = or_null({"type": "string", "enum": ["records", "dead_letters"]})
_TEXTS: JsonObject = {"type": "array", "items": TEXT}
_KINDS: JsonObject = {"type": "array", "items": {"type": "string", "enum": list(KINDS)}}
_INSTANT: JsonObject = {"type": "string", "format": "date-time"}
_COUNTS: JsonObject = {"type": "object", "additionalProperties": COUNT}
_STATE: JsonObject = {"type": "string", "enum": list(get_args(State))}
_RECEIPT = schemas()["Receipt"]["properties"]
_RECORD: JsonObject = {**_RECEIPT, "place": {**TEXT, "description": "names it for `GET .../record`"}}

CONSOLE_SCHEMAS: JsonObject = {
    "Nothing": {"type": "object", "description": "An empty object."},
    "ForwarderEdit": object_of(
        "A change of a forwarder.",
        {
            "version": {**TEXT, "description": "for `restore`"},
            "action": TEXT,
            "by": {**TEXT, "description": "what people call who did it"},
            "at": _INSTANT,
            "content": or_null(ref(FORWARDER)) | {"description": "the document from then on; null: it is not kept"},
        },
    ),
    "SignIn": object_of("Who signs in.", {"key": TEXT, "secret": {**TEXT, "format": "password"}}),
    "Session": object_of(
        "Who has signed in.",
        {
            "client": {**TEXT, "description": "its key"},
            "user": or_null(TEXT) | {"description": "the owner of what the client creates"},
            "name": {**TEXT, "description": "what people call who has signed in"},
            "organisation": ref("Organisation"),
            "may_create": YES_OR_NO,
        },
    ),
    "Organisation": object_of("An organisation, and what people call it.", {"id": TEXT, "name": TEXT}),
    "ForwarderList": object_of(
        "A page of the list.",
        {
            "forwarders": list_of("ListedForwarder"),
            "total": {**COUNT, "description": "that were wished for"},
            "all": {**COUNT, "description": "that the client may see"},
            "states": {**_COUNTS, "description": "of those that text and target let through, by state"},
            "after": or_null(TEXT) | {"description": "for `after`; null: there are no more"},
            "knows_deliveries": {**YES_OR_NO, "description": "whether the service was told of a job's output"},
        },
    ),
    "ListedForwarder": object_of(
        "What the list says of a forwarder.",
        {
            "id": TEXT,
            "name": {**TEXT, "description": "its description, or its id"},
            "active": YES_OR_NO,
            "target": {"type": "string", "enum": list(get_args(Target))},
            "address": {**TEXT, "description": "address or stream; empty: the document has none"},
            "query": {**TEXT, "description": "its beginning"},
            "updated_at": or_null(_INSTANT),
            "may_edit": YES_OR_NO,
            "problem": or_null(TEXT) | {"description": "why the document cannot be given back"},
            "health": ref("ListedHealth"),
            "last": or_null(ref("LastOutcome")) | {"description": "null: none is known"},
        },
    ),
    "ListedHealth": object_of("How a forwarder does.", {"state": _STATE}),
    "LastOutcome": object_of(
        "The latest record that is known of a forwarder.",
        {name: _RECEIPT[name] for name in ("outcome", "reason", "settled_at")},
    ),
    "Rights": object_of(
        "How a forwarder stands, and what a client may do with it.",
        {
            "may_edit": YES_OR_NO,
            "jobs": {**YES_OR_NO, "description": "plan redrives, and have them carried out"},
            "replays": {**YES_OR_NO, "description": "plan replays, and have them carried out"},
            "state": or_null(_STATE) | {"description": "null if the service was not told of a job's output"},
        },
    ),
    "RestoreRequest": object_of("Which version a forwarder is to be again.", {"version": TEXT}),
    "ForwarderHealth": object_of(
        "How a forwarder does.",
        {
            "state": _STATE,
            "as_of": or_null(_INSTANT) | {"description": "when the output was last read to its end"},
            "hour": ref("HealthOfSpan"),
            "day": ref("HealthOfSpan"),
            "week": ref("HealthOfSpan"),
            "unsent": ref("Unsent"),
        },
    ),
    "HealthOfSpan": object_of(
        "What ended in a stretch of time.",
        {
            "since": _INSTANT,
            "step_seconds": {**COUNT, "description": "of one stretch of the plot"},
            "delivered": COUNT,
            "dead_lettered": COUNT,
            "share": or_null({"type": "number"}) | {"description": "that was delivered; null if nothing ended"},
            "reasons": _COUNTS,
            "plot": {
                "type": "array",
                "items": {"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2},
                "description": "delivered and given up, the earliest stretch first",
            },
        },
    ),
    "Unsent": object_of(
        "What waits, or was given up and not delivered since.",
        {
            "waiting": or_null(COUNT),
            "dead_letters": COUNT,
            "more_dead_letters": {**YES_OR_NO, "description": "whether there are more than were counted"},
            "oldest": or_null(_INSTANT),
            "oldest_age_seconds": or_null(COUNT),
            "failing_since": or_null(_INSTANT),
            "answer": or_null(TEXT) | {"description": "that the forwarder fails with now"},
            "unavailable": YES_OR_NO,
        },
    ),
    "SettledRecords": object_of(
        "What a forwarder got, and what was given up, the latest first.",
        {
            "records": list_of("SettledRecord"),
            "next": or_null(TEXT) | {"description": "for `after`; null: there are no more"},
        },
    ),
    "SettledRecord": object_of("A receipt or a dead letter, and its place.", _RECORD),
    "WholeRecord": object_of(
        "A receipt or a dead letter, with what was sent.",
        {
            **_RECORD,
            "payload": or_null(TEXT) | {"description": "null: there is none here, or it is not for this client"},
            "payload_kind": or_null(TEXT),
            "payload_bytes": or_null(COUNT),
            "payload_cut": {**YES_OR_NO, "description": "whether only its beginning is there"},
            "payload_hidden": {**YES_OR_NO, "description": "whether it is only for those who may change the forwarder"},
        },
    ),
    "BulkRequest": object_of(
        "What is to be done with many forwarders.",
        {
            "action": {"type": "string", "enum": ["enable", "disable", "delete"]},
            "ids": {**_TEXTS, "maxItems": 1000},
        },
    ),
    "ImportRequest": object_of(
        "Forwarders that are to be created.",
        {
            "forwarders": {**list_of(FORWARDER), "maxItems": 1000},
            "new_ids": {**YES_OR_NO, "description": "give each an id of its own instead of the one it has"},
        },
        optional=("new_ids",),
    ),
    "BulkResult": object_of(
        "What came of each of many.", {"done": COUNT, "refused": COUNT, "results": list_of("BulkOutcome")}
    ),
    "BulkOutcome": object_of(
        "What came of one of many.",
        {
            "_id": or_null(TEXT),
            "status": {"type": "integer", "description": "as if it had been asked for alone"},
            "message": TEXT,
            "faults": list_of("Fault"),
        },
        optional=("message", "faults"),
    ),
    "Jobs": object_of(
        "Jobs, the latest first.",
        {
            "enabled": {**YES_OR_NO, "description": "whether the service may start jobs"},
            "replays": {**YES_OR_NO, "description": "whether it has input to replay"},
            "jobs": list_of("Job"),
        },
    ),
    "JobRequest": object_of(
        "What is to be sent again.",
        {
            "what": {"type": "string", "enum": ["redrive", "replay"]},
            "forwarders": {**_TEXTS, "minItems": 1, "description": "ids"},
            "reasons": {**_TEXTS, "description": "of dead letters; none: all"},
            "records": {**_TEXTS, "description": "ids, of a redrive; none: all"},
            "kinds": _KINDS,
            "since": or_null(_INSTANT),
            "until": or_null(_INSTANT),
        },
        optional=("reasons", "records", "kinds", "since", "until"),
    ),
    "JobConfirmation": object_of("Which plan is to be carried out.", {"digest": TEXT}),
    "JobForwarder": object_of("A forwarder of a job.", {"_id": TEXT, "name": TEXT}),
    "Job": object_of(
        "A redrive or a replay.",
        {
            "id": TEXT,
            "by": {**TEXT, "description": "who asked for it"},
            "state": {
                "type": "string",
                "enum": ["planning", "planned", "sending", "done", "stopped", "failed", "killed"],
            },
            "what": {"type": "string", "enum": ["redrive", "replay"]},
            "forwarders": list_of("JobForwarder"),
            "reasons": _TEXTS,
            "records": _TEXTS,
            "kinds": _KINDS,
            "since": or_null(_INSTANT),
            "until": or_null(_INSTANT),
            "run_id": or_null(TEXT),
            "digest": or_null(TEXT) | {"description": "of the plan, for `confirm`"},
            "plan": or_null(ref("JobReport")) | {"description": "what would be sent"},
            "report": or_null(ref("JobReport")) | {"description": "what was sent"},
            "problems": {**_TEXTS, "description": "why it failed"},
            "times": {
                "type": "object",
                "description": "when each state began",
                "additionalProperties": _INSTANT,
            },
            "progress": or_null(ref("JobProgress")),
            "may_edit": YES_OR_NO,
        },
    ),
    "JobReport": object_of(
        "What a run says of the chosen forwarders.",
        {
            "run_id": TEXT,
            "state": TEXT,
            "elapsed_seconds": {"type": "number"},
            "input": object_of("What was read.", {"files": COUNT, "read": COUNT, "rejected": COUNT}),
            "forwarders": list_of("JobAccount"),
            "records": {**COUNT, "description": "that are due, of all of them"},
        },
    ),
    "JobAccount": {
        "type": "object",
        "description": "The counts of one forwarder, as report.json has them.",
        "properties": {"id": TEXT, "matched": COUNT, "dead_letter_reasons": _COUNTS},
        "required": ["id"],
        "additionalProperties": True,
    },
    "JobProgress": object_of(
        "How far a run is, of the chosen forwarders.",
        {
            "phase": or_null(TEXT),
            "read_share": or_null({"type": "number"}),
            "due": COUNT,
            "delivered": COUNT,
            "dead_lettered": COUNT,
            "waiting": COUNT,
            "at": _INSTANT,
        },
    ),
    "TesterSetup": object_of(
        "What a query may ask for, and records to try it on.",
        {
            "fields": list_of("QueryField"),
            "operators": {"type": "array", "items": TEXT, "description": "of `QueryRow`"},
            "samples": list_of("TesterRecord"),
        },
    ),
    "QueryField": object_of(
        "A name that a query may ask for.",
        {
            "name": {**TEXT, "description": "a dotted path"},
            "type": {**TEXT, "description": "of what stands there: id, string, date, number, boolean, ..."},
            "meaning": TEXT,
            "kinds": {"type": "array", "items": TEXT, "description": "of the records that have it"},
            "values": {"type": "array", "items": {}, "description": "all that it can be, where they are few"},
        },
    ),
    "TesterRecord": object_of(
        "A record to try a query on.",
        {"name": TEXT, "kind": KIND, "text": {**TEXT, "description": "a line of `--write_records jsonl`"}},
    ),
    "TesterRecords": object_of(
        "Recent records of the job.",
        {"source": _SOURCE, "message": {**TEXT, "description": "what they are"}, "records": list_of("TesterRecord")},
    ),
    "TesterRequest": object_of(
        "A query to be tried.",
        {
            "query": {"description": "as a forwarder document has it: a text in JSON, or an object"},
            "form": or_null(ref("QueryForm")) | {"description": "instead of `query`"},
            "kinds": {"description": "as a forwarder document has it"},
            "lrs_id": {"description": "as a forwarder document has it"},
            "record": or_null(TEXT) | {"description": "in JSON, as `RecordToMatch` has it"},
        },
        optional=("query", "form", "kinds", "lrs_id", "record"),
    ),
    "QueryForm": object_of(
        "A query as rows of a form.", {"join": {"type": "string", "enum": ["all", "any"]}, "rows": list_of("QueryRow")}
    ),
    "QueryRow": object_of(
        "A row of the form.",
        {
            "field": {**TEXT, "description": "a dotted path"},
            "operator": {"type": "string", "enum": list(OPERATORS)},
            "type": {"type": "string", "enum": ["text", "number", "boolean", "null"], "description": "of the values"},
            "values": {"type": "array", "items": TEXT, "description": "a text as it is, all else as in JSON"},
        },
    ),
    "TesterResult": object_of(
        "What a query says.",
        {
            "query": {"description": "as it was sent, or written of `form`"},
            "form": or_null(ref("QueryForm")) | {"description": "the query as rows; null if none say it"},
            "faults": list_of("Fault"),
            "warnings": list_of("Fault"),
            "record": or_null(ref("JudgedRecord")),
        },
    ),
    "JudgedRecord": object_of(
        "What a query says of a record.",
        {
            "problem": or_null(TEXT) | {"description": "why it is no record"},
            "kind": or_null(KIND),
            "matches": or_null(YES_OR_NO),
            "reason": or_null(TEXT) | {"description": "what decided: the kind, the scope, or a clause"},
            "clauses": or_null(ref("JudgedClause")),
        },
    ),
    "JudgedClause": object_of(
        "A clause of a query, and what it says of a record.",
        {
            "text": TEXT,
            "outcome": {"type": "string", "enum": ["match", "no match", "undecided"]},
            "decides": {**YES_OR_NO, "description": "whether the outcome of the query rests on it"},
            "found": {**TEXT, "description": "what the record holds there"},
            "children": list_of("JudgedClause"),
        },
    ),
    "TesterCount": object_of(
        "How many records a query matches.",
        {
            "source": _SOURCE,
            "message": {**TEXT, "description": "what was counted"},
            "looked_at": COUNT,
            "matched": COUNT,
            "is_complete": {**YES_OR_NO, "description": "whether every record of the source was looked at"},
            "kinds": list_of("TesterCountOfKind"),
        },
    ),
    "TesterCountOfKind": object_of(
        "How many records of one kind a query matches.", {"kind": KIND, "looked_at": COUNT, "matched": COUNT}
    ),
}
