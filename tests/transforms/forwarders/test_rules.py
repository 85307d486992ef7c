"""The rules of docs/spec/forwarders.md section 1, field by field."""

import json
import re
from typing import Any

import pytest

from schemas import DERIVED_KINDS, KINDS
from tests.support.forwarder_documents import ABSENT, EXAMPLE, HTTP, KINESIS, changed, load, read, rules, said
from tests.support.paths import SHARED, needs_shared
from transforms.forwarders import Forwarder, HttpTarget, KinesisTarget, load_forwarders, read_documents
from transforms.forwarders.secrets import References


def http(**changes: Any) -> Forwarder:
    """What the HTTP document becomes with changes (dots written __)."""
    return only(HTTP, {path.replace("__", "."): value for path, value in changes.items()})


def only(document: dict[str, Any], changes: dict[str, Any] | None = None, **options: Any) -> Forwarder:
    loaded = load(changed(document, changes or {}), **options)
    assert not loaded.faults, said(loaded.faults)
    (forwarder,) = loaded.forwarders
    return forwarder


def target_of(forwarder: Forwarder) -> HttpTarget:
    assert isinstance(forwarder.target, HttpTarget)
    return forwarder.target


class TestContract:
    def test_the_example_loads_unchanged(self) -> None:
        loaded = load_forwarders(read_documents({"f": EXAMPLE.encode()}), rules())
        assert (loaded.faults, loaded.warnings) == ((), ())
        (forwarder,) = loaded.forwarders
        target = target_of(forwarder)
        assert (forwarder.id, forwarder.organisation) == ("59c8d14b0d82b3864a450604", "59c209c4ad95fd50960c0362")
        assert (forwarder.query, forwarder.payload, forwarder.max_retries) == ("{}", "statement", 10)
        assert (target.url.reveal(), target.host) == ("https://example.org/endpoint", "example.org")
        assert [(name, value.reveal()) for name, value in target.headers] == [("Test-Header-Key", "Test-Header-Value")]
        assert target.secret is None
        assert loaded.queries == {forwarder.id: ("compiled", "{}")}

    @needs_shared
    def test_is_the_contracts_own(self) -> None:
        contract = (SHARED / "contract" / "learning-locker-statement-forwarding.txt").read_text()
        assert EXAMPLE in contract

    def test_the_kinesis_form(self) -> None:
        forwarder = only(KINESIS)
        target = forwarder.target
        assert isinstance(target, KinesisTarget)
        assert (target.service, target.stream_name, target.region) == ("firehose", "Name", "us-east-1")
        assert target.secret_access_key is not None
        assert (target.access_key_id, target.secret_access_key.reveal()) == ("xxxxxxxxxxxx", "xxxxxxxxxxxx")
        assert (forwarder.max_retries, forwarder.payload) == (10, "statement")

    def test_as_mongoexport_writes_it(self) -> None:
        changes = {
            "_id": {"$oid": "59C8D14B0D82B3864A450604"},
            "organisation": {"$oid": "59c209c4ad95fd50960c0362"},
            "lrs_id": {"$oid": "59c209c4ad95fd50960c0363"},
            "owner": {"$oid": "59198183d8ea540933227030"},
            "createdAt": {"$date": "2017-09-25T09:50:03.880Z"},
            "updatedAt": {"$date": {"$numberLong": "1509977247212"}},
            "configuration.maxRetries": {"$numberInt": "4"},
            "__v": {"$numberInt": "0"},
        }
        forwarder = only(HTTP, changes)
        assert (forwarder.id, forwarder.lrs_id) == ("59c8d14b0d82b3864a450604", "59c209c4ad95fd50960c0363")
        assert forwarder.max_retries == 4

    def test_learning_lockers_other_fields_are_known(self) -> None:
        changes = {
            "sendAttachments": True,
            "oldQuery": "{}",
            "hasBeenMigrated": True,
            "configuration.method": "POST",
            "timezone": "Europe/London",
        }
        assert load(changed(HTTP, changes)).warnings == ()


class TestDefaults:
    def test_of_http(self) -> None:
        forwarder = only(HTTP, {"configuration.protocol": ABSENT})
        target = target_of(forwarder)
        assert (forwarder.max_retries, forwarder.payload, forwarder.query) == (0, "statement", None)
        assert target.url.reveal() == "http://example.org/in"
        assert (target.auth_type, target.timeout, target.concurrency) == ("no auth", 10.0, 16)

    @pytest.mark.parametrize(
        ("document", "changes", "payload"),
        [
            (HTTP, {}, "statement"),
            (HTTP, {"fullDocument": True}, "document"),
            (HTTP, {"fullDocument": True, "payload": "record"}, "record"),
            (KINESIS, {}, "statement"),
            (KINESIS, {"kinesisOptions.service": "streams"}, "record"),
            (KINESIS, {"kinesisOptions.service": "streams", "fullDocument": True}, "document"),
            (KINESIS, {"kinesisOptions.service": "streams", "payload": "statement"}, "statement"),
        ],
    )
    def test_of_the_payload(self, document: dict[str, Any], changes: dict[str, Any], payload: str) -> None:
        assert only(document, changes).payload == payload

    @pytest.mark.parametrize(("value", "retries"), [(0, 0), (10, 10), ("3", 3), (3.0, 3), (None, 0)])
    def test_of_retries(self, value: Any, retries: int) -> None:
        assert http(configuration__maxRetries=value).max_retries == retries

    @pytest.mark.parametrize("headers", [None, "", "  ", "[]", "{}"])
    def test_no_headers(self, headers: Any) -> None:
        assert target_of(http(configuration__headers=headers)).headers == ()

    def test_no_keys_is_the_default_credential_chain(self) -> None:
        changes = {"kinesisOptions.awsClientKey": "", "kinesisOptions.awsClientSecret": None}
        target = only(KINESIS, changes).target
        assert isinstance(target, KinesisTarget)
        assert (target.access_key_id, target.secret_access_key) == (None, None)


URLS = {
    "example.org": ("http://example.org/", "example.org"),
    "example.org:8080/a": ("http://example.org:8080/a", "example.org"),
    "example.org?x=1": ("http://example.org/?x=1", "example.org"),
    "EXAMPLE.org/A%2fb?q=a+b%20c&d=e/f?g@h": ("http://EXAMPLE.org/A%2fb?q=a+b%20c&d=e/f?g@h", "EXAMPLE.org"),
    "127.0.0.1:1": ("http://127.0.0.1:1/", "127.0.0.1"),
    "[2001:db8::1]:65535/x": ("http://[2001:db8::1]:65535/x", "2001:db8::1"),
    "my_host-1/a@b://c": ("http://my_host-1/a@b://c", "my_host-1"),
    "bücher.example/ü": ("http://bücher.example/%C3%BC", "bücher.example"),
    'h/"<>{}|^`': ("http://h/%22%3C%3E%7B%7D%7C%5E%60", "h"),
}


@pytest.mark.parametrize("url", URLS)
def test_urls(url: str) -> None:
    target = target_of(http(configuration__url=url))
    assert (target.url.reveal(), target.host) == URLS[url]


# One document each; field and message of its one fault.
FAULTY: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (HTTP, {"_id": ABSENT}, "_id", "is absent or not a non-empty string"),
    (HTTP, {"_id": ""}, "_id", "is absent or not"),
    (HTTP, {"_id": 7}, "_id", "is absent or not"),
    (HTTP, {"_id": "a\nb"}, "_id", "is absent or not"),
    (HTTP, {"_id": {"$oid": "xyz"}}, "_id", "is absent or not"),
    (HTTP, {"organisation": ""}, "organisation", "is not a non-empty string"),
    (HTTP, {"lrs_id": 5}, "lrs_id", "is not a non-empty string"),
    (HTTP, {"query": 5}, "query", "is neither a string nor an object"),
    (HTTP, {"query": ["a"]}, "query", "is neither a string nor an object"),
    (HTTP, {"query": '{"a": {"$bad": 1}}'}, "query", "is refused: unknown operator: $bad"),
    (HTTP, {"fullDocument": "yes"}, "fullDocument", "is neither true nor false"),
    (HTTP, {"isPublic": 1}, "isPublic", "is neither true nor false"),
    (HTTP, {"payload": "Statement"}, "payload", 'is "Statement": it must be one of statement, record, document'),
    (HTTP, {"configuration": []}, "configuration", "is not an object"),
    (HTTP, {"configuration": ABSENT}, "configuration.url", "is absent"),
    (HTTP, {"configuration.protocol": "kinesis"}, "configuration.protocol", "must be one of http, https, Kinesis"),
    (HTTP, {"configuration.protocol": "HTTPS"}, "configuration.protocol", "must be one of"),
    (HTTP, {"configuration.url": 5}, "configuration.url", "is not a string"),
    (HTTP, {"configuration.url": ""}, "configuration.url", "is empty"),
    (HTTP, {"configuration.url": "http://a.example"}, "configuration.url", "starts with a scheme"),
    (HTTP, {"configuration.url": "HTTPS://a.example"}, "configuration.url", "starts with a scheme"),
    (HTTP, {"configuration.url": "gopher+x://a"}, "configuration.url", "starts with a scheme"),
    (HTTP, {"configuration.url": "//a.example"}, "configuration.url", "starts with a scheme"),
    (HTTP, {"configuration.url": "u:p@a.example/x"}, "configuration.url", "user information"),
    (HTTP, {"configuration.url": "a.example@b.example?c"}, "configuration.url", "user information"),
    (HTTP, {"configuration.url": "a.example/#x"}, "configuration.url", "fragment"),
    (HTTP, {"configuration.url": "a.example/a b"}, "configuration.url", "white space"),
    (HTTP, {"configuration.url": " a.example"}, "configuration.url", "white space"),
    (HTTP, {"configuration.url": "a.example/\r\nX: y"}, "configuration.url", "white space"),
    (HTTP, {"configuration.url": "a.example/\x00"}, "configuration.url", "control character"),
    (HTTP, {"configuration.url": "a.example\\b"}, "configuration.url", "backslash"),
    (HTTP, {"configuration.url": "/path"}, "configuration.url", "has no host"),
    (HTTP, {"configuration.url": ":80"}, "configuration.url", "has no host"),
    (HTTP, {"configuration.url": "a.example:"}, "configuration.url", "port"),
    (HTTP, {"configuration.url": "a.example:0"}, "configuration.url", "port"),
    (HTTP, {"configuration.url": "a.example:65536"}, "configuration.url", "port"),
    (HTTP, {"configuration.url": "http:a.example"}, "configuration.url", "port"),
    (HTTP, {"configuration.url": "::1"}, "configuration.url", "has no host"),
    (HTTP, {"configuration.url": "[::1"}, "configuration.url", "IPv6"),
    (HTTP, {"configuration.url": "[fe80::1%eth0]"}, "configuration.url", "IPv6"),
    (HTTP, {"configuration.url": "[::1]x"}, "configuration.url", "IPv6"),
    (HTTP, {"configuration.url": "a%2fb.example"}, "configuration.url", "no valid host name"),
    (HTTP, {"configuration.url": "a\uff0fb.example"}, "configuration.url", "no valid host name"),
    (HTTP, {"configuration.url": "a\uff20b.example"}, "configuration.url", "no valid host name"),
    (HTTP, {"configuration.authType": "bearer"}, "configuration.authType", "must be one of no auth, token, basic auth"),
    (HTTP, {"configuration.authType": "token"}, "configuration.secret", "is absent: authType token needs it"),
    (HTTP, {"configuration.authType": "token", "configuration.secret": ""}, "configuration.secret", "is empty"),
    (HTTP, {"configuration.authType": "token", "configuration.secret": 5}, "configuration.secret", "is not a string"),
    (HTTP, {"configuration.authType": "token", "configuration.secret": "a\r\nb"}, "configuration.secret", "line break"),
    (HTTP, {"configuration.maxRetries": -1}, "configuration.maxRetries", "from 0 to 10"),
    (HTTP, {"configuration.maxRetries": 11}, "configuration.maxRetries", "from 0 to 10"),
    (HTTP, {"configuration.maxRetries": 1.5}, "configuration.maxRetries", "from 0 to 10"),
    (HTTP, {"configuration.maxRetries": True}, "configuration.maxRetries", "from 0 to 10"),
    (HTTP, {"configuration.maxRetries": "many"}, "configuration.maxRetries", "from 0 to 10"),
    (HTTP, {"configuration.maxRetries": "12"}, "configuration.maxRetries", "from 0 to 10"),
    (HTTP, {"configuration.timeout": 0}, "configuration.timeout", "above 0"),
    (HTTP, {"configuration.timeout": "5"}, "configuration.timeout", "above 0"),
    (HTTP, {"configuration.timeout": 1e999}, "configuration.timeout", "beyond the range of a double"),
    (HTTP, {"configuration.concurrency": 0}, "configuration.concurrency", "above 0"),
    (HTTP, {"configuration.concurrency": 1.5}, "configuration.concurrency", "whole number"),
    (HTTP, {"configuration.signingSecret": []}, "configuration.signingSecret", "empty list"),
    (HTTP, {"configuration.signingSecret": 5}, "configuration.signingSecret", "is not a string"),
    (HTTP, {"configuration.signingSecret": "whsec_"}, "configuration.signingSecret", "holds no key"),
    (
        HTTP,
        {"configuration.signingSecret": ["whsec_QUJD", "ABC"]},
        "configuration.signingSecret[1]",
        "start with whsec_",
    ),
    (HTTP, {"configuration.signingSecret": "whsec_a"}, "configuration.signingSecret", "is not base64"),
    (
        HTTP,
        {"configuration.signingSecret": "whsec_QUI"},
        "configuration.signingSecret",
        "its padding after whsec_: write =",
    ),
    (
        HTTP,
        {"configuration.signingSecret": "whsec_QQ"},
        "configuration.signingSecret",
        "its padding after whsec_: write ==",
    ),
    (HTTP, {"configuration.signingSecret": "whsec_Q-"}, "configuration.signingSecret", "is not base64 after"),
    (
        HTTP,
        {"configuration.clientKey": "k.pem", "configuration.protocol": "https"},
        "configuration.clientKey",
        "without",
    ),
    (HTTP, {"configuration.caFile": "", "configuration.protocol": "https"}, "configuration.caFile", "is not the path"),
    (
        HTTP,
        {"configuration.caFile": "env:FORWARDER_CA", "configuration.protocol": "https"},
        "configuration.caFile",
        "path",
    ),
    (HTTP, {"kinesisOptions": "x"}, "kinesisOptions", "is not an object"),
    (KINESIS, {"kinesisOptions.streamName": ABSENT}, "kinesisOptions.streamName", "is absent"),
    (KINESIS, {"kinesisOptions.streamName": "a b"}, "kinesisOptions.streamName", "is not a stream's name"),
    (KINESIS, {"kinesisOptions.streamName": 5}, "kinesisOptions.streamName", "is not a string"),
    (KINESIS, {"kinesisOptions.service": "kinesis"}, "kinesisOptions.service", "must be one of firehose, streams"),
    (KINESIS, {"kinesisOptions.awsClientKey": ABSENT}, "kinesisOptions.awsClientKey", "is absent"),
    (KINESIS, {"kinesisOptions.awsClientSecret": ABSENT}, "kinesisOptions.awsClientSecret", "is absent"),
    (KINESIS, {"kinesisOptions.awsRegion": 1}, "kinesisOptions.awsRegion", "is not a string"),
]


@pytest.mark.parametrize(("document", "changes", "field", "message"), FAULTY)
def test_is_refused(document: dict[str, Any], changes: dict[str, Any], field: str, message: str) -> None:
    text = json.dumps(changed(document, changes)).replace("Infinity", "1e999")
    loaded = load_forwarders(read_documents({"f.json": text.encode()}), rules())
    (fault,) = loaded.faults
    assert fault.field == field
    assert message in fault.message
    assert not loaded.forwarders
    assert "\n" not in str(fault)


@pytest.mark.parametrize(("document", "changes", "field", "message"), FAULTY)
def test_of_an_inactive_document_only_the_id_counts(
    document: dict[str, Any], changes: dict[str, Any], field: str, message: str
) -> None:
    text = json.dumps(changed(document, changes | {"active": False})).replace("Infinity", "1e999")
    loaded = load_forwarders(read_documents({"f.json": text.encode()}), rules())
    assert [fault.field for fault in loaded.faults] == (["_id"] if field == "_id" else [])
    needed = field in ("_id", "configuration.url", "kinesisOptions.streamName") and "is absent" in message
    assert needed or field in [warning.field for warning in loaded.warnings]
    assert not loaded.forwarders


class TestBasicAuth:
    def faults(self, **values: Any) -> list[tuple[str, str]]:
        values = {"authType": "basic auth", "basicUsername": "u", "basicPassword": "p"} | values
        return said(load(changed(HTTP, {f"configuration.{name}": value for name, value in values.items()})).faults)

    def test_rules(self) -> None:
        assert self.faults() == []
        assert self.faults(basicPassword="") == []
        assert self.faults(basicUsername="", basicPassword=None) == [
            ("configuration.basicUsername", "is empty"),
            ("configuration.basicPassword", "is absent: authType basic auth needs it"),
        ]
        assert "colon" in self.faults(basicUsername="a:b")[0][1]
        assert "control character" in self.faults(basicUsername="a\n")[0][1]
        assert "control character" in self.faults(basicPassword="a\x00")[0][1]


RESERVED = (
    "content-type content-length transfer-encoding host connection accept accept-encoding user-agent via te expect "
    "proxy-authorization x-request-id x-request-start connect-time total-route-time x-forwarded-for X-Forwarded-Proto "
    "cf-ray CF-Connecting-IP idempotency-key webhook-id Webhook-Signature x-forward-hops Content-Type HOST"
)


class TestHeaders:
    def faults(self, headers: Any, **configuration: Any) -> list[tuple[str, str]]:
        text = headers if isinstance(headers, str) else json.dumps(headers)
        changes = {"configuration.headers": text} | {f"configuration.{n}": v for n, v in configuration.items()}
        return said(load(changed(HTTP, changes)).faults)

    @pytest.mark.parametrize("name", RESERVED.split())
    def test_reserved(self, name: str) -> None:
        ((field, message),) = self.faults({name: "x"})
        assert field == f"configuration.headers.{name}"
        assert "reserved" in message

    @pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\nb", "(a)"])
    def test_names_that_are_not_valid(self, name: str) -> None:
        ((_, message),) = self.faults({name: "x"})
        assert message == "is not a valid header name"

    @pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\x00b", "a\x7fb"])
    def test_values_that_are_not_valid(self, value: str) -> None:
        ((field, message),) = self.faults({"X-A": value})
        assert field == "configuration.headers.X-A"
        assert re.search("line break|control character", message)

    @pytest.mark.parametrize("value", ["", "a b", "a\tb", "naïve", "✓"])
    def test_values_that_are(self, value: str) -> None:
        assert self.faults({"X-A": value}) == []

    @pytest.mark.parametrize("value", [1, None, True, ["x"], {"a": "b"}])
    def test_values_that_are_no_strings(self, value: Any) -> None:
        ((_, message),) = self.faults({"X-A": value})
        assert "is not a string" in message

    @pytest.mark.parametrize("text", ["{", "x", '["X-A: b"]', "5", "null", '{"X-A": NaN}', "[" * 100_000])
    def test_what_is_no_object(self, text: str) -> None:
        ((field, message),) = self.faults(text)
        assert field == "configuration.headers"
        assert "does not hold" in message

    def test_an_object_in_place_of_the_string(self) -> None:
        loaded = load(changed(HTTP, {"configuration.headers": {"A": "b"}}))
        assert "write a string that holds a JSON object" in loaded.faults[0].message

    def test_twice(self) -> None:
        assert self.faults('{"X-A": "1", "X-A": "2"}') == [("configuration.headers.X-A", "occurs twice")]
        assert "in any case" in self.faults({"X-A": "1", "x-a": "2"})[0][1]

    def test_authorization(self) -> None:
        assert self.faults({"Authorization": "x"}) == []
        ((_, message),) = self.faults({"AUTHORIZATION": "x"}, authType="token", secret="s")
        assert "leave one of the two out" in message

    def test_all_faults_at_once(self) -> None:
        assert len(self.faults({"Host": "x", "a b": "y", "X-A": 1, "X-B": "\n"})) == 4


class TestTogether:
    def test_every_fault_of_every_document(self) -> None:
        first = changed(
            HTTP, {"_id": "1", "payload": "x", "configuration.url": "http://x", "configuration.maxRetries": 99}
        )
        second = changed(KINESIS, {"_id": "2", "kinesisOptions": ABSENT})
        fine = changed(HTTP, {"_id": "3"})
        loaded = load(first, second, fine, {"active": True})
        assert [str(fault).partition(" is ")[0].partition(" starts")[0] for fault in loaded.faults] == [
            "forwarder 1 (f.json[0]): configuration.url",
            "forwarder 1 (f.json[0]): payload",
            "forwarder 1 (f.json[0]): configuration.maxRetries",
            "forwarder 2 (f.json[1]): kinesisOptions.streamName",
            "f.json[3]: _id",
            "f.json[3]: configuration.url",
        ]
        assert [forwarder.id for forwarder in loaded.forwarders] == ["3"]

    def test_two_equal_ids_refuse_both(self) -> None:
        as_string = changed(HTTP, {"_id": "59c8d14b0d82b3864a450604"})
        as_object_id = changed(KINESIS, {"_id": {"$oid": "59c8d14b0d82b3864a450604"}})
        loaded = load(as_string, HTTP, as_object_id, changed(HTTP, {"_id": "x", "active": False}))
        assert [(fault.where, fault.field) for fault in loaded.faults] == [("f.json[0]", "_id"), ("f.json[2]", "_id")]
        assert [forwarder.id for forwarder in loaded.forwarders] == ["h"]
        assert loaded.inactive == ("x",)
        assert list(loaded.queries) == ["h"]

    @pytest.mark.parametrize("active", [False, None, "true", 1, ABSENT])
    def test_only_true_is_active(self, active: Any) -> None:
        loaded = load(changed(HTTP, {"active": active}))
        assert (loaded.forwarders, loaded.faults, loaded.inactive) == ((), (), ("h",))
        assert ("active" in [warning.field for warning in loaded.warnings]) == (active is not False)

    def test_the_organisation(self) -> None:
        without = changed(HTTP, {"organisation": None})
        loaded = load(without)
        assert said(loaded.warnings) == [("organisation", "is absent: records of every organisation are forwarded")]
        assert loaded.forwarders[0].organisation is None
        assert said(load(without, require_organisation=True).faults) == [
            ("organisation", "is absent, and --require_organisation is given: set it")
        ]


class TestWarnings:
    def test_unknown_fields_with_the_nearest_known(self) -> None:
        changes = {"configuration.maxRetires": 3, "querry": "{}", "zzz": 1, "kinesisOptions.stream_name": "x"}
        warnings = [str(warning) for warning in load(changed(KINESIS, changes)).warnings]
        assert warnings == [
            "forwarder k (f.json[0]): querry is not a known field and has no effect; did you mean query?",
            "forwarder k (f.json[0]): zzz is not a known field and has no effect",
            "forwarder k (f.json[0]): configuration.maxRetires is not a known field and has no effect; "
            "did you mean maxRetries?",
            "forwarder k (f.json[0]): kinesisOptions.stream_name is not a known field and has no effect; "
            "did you mean streamName?",
        ]

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ('{"voided": false, "person.display": "x", "statement.verb.id": "y"}', ["person", "voided"]),
            (
                '{"$and": [{"voided": 1}, {"$or": [{"kind": "event"}, {"a": {"$elemMatch": {"b": 1}}}]}]}',
                ["a", "voided"],
            ),
            ('{"$match": {"voided": 1}}', ["voided"]),
            ({"activity": 1, "metadata.x": 2}, ["activity"]),
            ('{"event": 1, "session_id": 1, "dt_started": 1, "subscores.0.id": 1, "_id": 1, "lrs_id": 1}', []),
            ("", []),
            (None, []),
        ],
    )
    def test_names_that_no_query_document_has(self, query: Any, names: list[str]) -> None:
        warnings = load(changed(HTTP, {"query": query}), kinds=DERIVED_KINDS).warnings
        assert [warning.field for warning in warnings] == ["query"] * len(names)
        for warning, name in zip(warnings, names, strict=True):
            assert f'asks for "{name}", which no record has' in warning.message

    def test_of_many_such_names_twenty_are_told(self) -> None:
        query = json.dumps({f"x{number}": 1 for number in range(500)})
        warnings = load(changed(HTTP, {"query": query}), kinds=DERIVED_KINDS).warnings
        assert len(warnings) == 21
        assert "asks for 480 more names that no record has" in warnings[-1].message

    def test_names_that_a_statement_may_have_are_warned_of_where_there_are_none(self) -> None:
        query = '{"voided": false, "person._id": 1}'
        of_statements = changed(HTTP, {"query": query, "kinds": ["statement", "score"]})
        assert load(of_statements, kinds=KINDS).warnings == ()
        assert load(changed(HTTP, {"query": query}), kinds=KINDS).warnings == ()
        derived = changed(HTTP, {"query": query, "kinds": ["score"]})
        assert [warning.field for warning in load(derived, kinds=KINDS).warnings] == ["query"] * 2

    def test_kinds_are_a_list_of_kinds(self) -> None:
        assert only(HTTP, {"kinds": ["statement", "event", "event"]}).kinds == ("event", "statement")
        assert only(HTTP).kinds is None
        faults = load(changed(HTTP, {"kinds": ["statements", "score"]})).faults
        allowed = "event, status, score, statement"
        assert said(faults) == [("kinds[0]", f'is "statements": it must be one of {allowed}')]
        for wrong in ("statement", 5):
            faults = load(changed(HTTP, {"kinds": wrong})).faults
            assert said(faults) == [("kinds", f"is not a list of one or more of {allowed}")]

    def test_what_has_no_effect(self) -> None:
        warnings = load(
            changed(HTTP, {"configuration.caFile": "ca.pem", "kinesisOptions": {"streamName": "x"}})
        ).warnings
        assert [warning.field for warning in warnings] == ["configuration.caFile", "kinesisOptions"]

    def test_a_query_as_an_object_is_kept_as_text(self) -> None:
        assert only(HTTP, {"query": {"kind": "é"}}).query == '{"kind": "é"}'


REFERENCES = {
    "configuration.authType": "token",
    "configuration.secret": "env:FORWARDER_A",
    "configuration.headers": '{"X-A": "file:a"}',
    "configuration.signingSecret": ["env:FORWARDER_B"],
    "configuration.url": "a.example/?t=env:FORWARDER_C",
}


class TestSecretsInDocuments:
    @pytest.mark.parametrize("marker", ["[redacted]", "[REDACTED]", "<redacted>", "********", "••••••"])
    @pytest.mark.parametrize(
        ("document", "path"),
        [
            (HTTP, "configuration.secret"),
            (HTTP, "configuration.basicPassword"),
            (HTTP, "configuration.signingSecret"),
            (HTTP, "configuration.headers"),
            (HTTP, "configuration.clientKey"),
            (KINESIS, "kinesisOptions.awsClientSecret"),
            (KINESIS, "configuration.secret"),
            (KINESIS, "configuration.signingSecret"),
            (KINESIS, "configuration.clientKey"),
        ],
    )
    def test_a_redaction_is_refused_used_or_not(self, document: dict[str, Any], path: str, marker: str) -> None:
        ((field, message),) = said(load(changed(document, {path: marker})).faults)
        assert field == path
        assert "is a redaction" in message

    def test_a_redaction_in_a_header_or_the_urls_query(self) -> None:
        changes = {
            "configuration.headers": '{"X-A": "[redacted]"}',
            "configuration.url": "a.example/?t=%5Bredacted%5D",
        }
        fields = [field for field, _ in said(load(changed(HTTP, changes)).faults)]
        assert fields == ["configuration.url", "configuration.headers.X-A"]

    def test_references_are_kept_as_they_are(self) -> None:
        target = target_of(only(HTTP, REFERENCES, references=References(directory="/nowhere")))
        assert target.secret is not None
        secrets = (target.secret, target.headers[0][1], target.signing_secrets[0], target.url)
        assert all(secret.pending for secret in secrets)

    def test_references_that_the_rules_forbid(self) -> None:
        changes = REFERENCES | {"configuration.secret": "env:HOME", "configuration.signingSecret": "env:"}
        assert said(load(changed(HTTP, changes)).faults) == [
            (
                "configuration.secret",
                "refers to a variable whose name does not start with FORWARDER_ (--secret_env_prefix)",
            ),
            ("configuration.headers.X-A", "refers to a file, and no --secrets_dir is given"),
            ("configuration.signingSecret", "is not a reference of the form env:NAME"),
        ]

    def test_a_tenants_document_may_use_nothing_of_the_worker(self) -> None:
        changes = REFERENCES | {"configuration.caFile": "/etc/ssl/ca.pem", "configuration.protocol": "https"}
        loaded = load(changed(HTTP, changes), references=References(directory="/nowhere"), trusted=False)
        assert [field for field, _ in said(loaded.faults)] == [
            "configuration.url",
            "configuration.secret",
            "configuration.headers.X-A",
            "configuration.signingSecret[0]",
            "configuration.caFile",
        ]
        assert all("--trust_references" in fault.message for fault in loaded.faults)
        default_chain = changed(KINESIS, {"kinesisOptions.awsClientKey": None, "kinesisOptions.awsClientSecret": None})
        assert [field for field, _ in said(load(default_chain, trusted=False).faults)] == [
            "kinesisOptions.awsClientKey"
        ]
        assert load(KINESIS, trusted=False).faults == ()


def test_no_document_at_all() -> None:
    loaded = load_forwarders(read(), rules())
    assert (loaded.forwarders, loaded.faults) == ((), ())
