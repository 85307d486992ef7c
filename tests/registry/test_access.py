"""The table of scopes in docs/spec/forwarders.md section 5, every cell, through the interfaces."""

import itertools

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER, EDIT_ALL, EDIT_PUBLIC, VIEW_ALL, VIEW_PUBLIC
from registry.connection import PATH as CONNECTION
from registry.rest import PATH
from tests.support.registry_house import House, create, forwarder_body

EVERYTHING = frozenset(("own", "public", "private"))
PUBLIC_AND_OWN = frozenset(("own", "public"))
OWN = frozenset(("own",))
NOTHING: frozenset[str] = frozenset()

# scopes, has a user?, sees, changes. None: 403 for whatever is asked. The rows of the table, each with and without a
# user; what is "own" is nothing without one.
MATRIX = [
    ((ALL,), True, EVERYTHING, EVERYTHING),
    ((ALL,), False, EVERYTHING, EVERYTHING),
    ((EDIT_ALL,), True, EVERYTHING, EVERYTHING),
    ((EDIT_ALL,), False, EVERYTHING, EVERYTHING),
    ((VIEW_ALL,), True, EVERYTHING, OWN),
    ((VIEW_ALL,), False, EVERYTHING, NOTHING),
    ((EDIT_PUBLIC,), True, PUBLIC_AND_OWN, PUBLIC_AND_OWN),
    ((EDIT_PUBLIC,), False, frozenset(("public",)), frozenset(("public",))),
    ((VIEW_PUBLIC,), True, PUBLIC_AND_OWN, OWN),
    ((VIEW_PUBLIC,), False, frozenset(("public",)), NOTHING),
    ((), True, OWN, OWN),
    ((), False, None, None),
    ((DELIVER,), True, OWN, OWN),
    ((DELIVER,), False, None, None),
    ((VIEW_ALL, EDIT_PUBLIC), True, EVERYTHING, PUBLIC_AND_OWN),
    ((VIEW_PUBLIC, EDIT_ALL), False, EVERYTHING, EVERYTHING),
]
DOCUMENTS = ("own", "public", "private", "foreign")
NAMES = [f"{'+'.join(scopes) or 'none'}, {'user' if user else 'no user'}" for scopes, user, _, _ in MATRIX]


@pytest.fixture
def stocked(house: House) -> House:
    """`own` is ann's, `public` and `private` are bob's, `foreign` is another organisation's public one."""
    owner = house.client(ALL)
    create(owner, _id="own", owner="ann")
    create(owner, _id="public", owner="bob", isPublic=True)
    create(owner, _id="private", owner="bob")
    create(house.client(ALL, organisation="other"), _id="foreign", owner="ann", isPublic=True)
    return house


@pytest.mark.parametrize(("scopes", "has_user", "sees", "changes"), MATRIX, ids=NAMES)
def test_a_client_sees_what_the_table_says(
    stocked: House, scopes: tuple[str, ...], has_user: bool, sees: frozenset[str] | None, changes: frozenset[str] | None
) -> None:
    client = stocked.client(*scopes, user="ann" if has_user else None)
    if sees is None:
        for path in (PATH, f"{PATH}/count", f"{PATH}/own", f"{PATH}/deliveries", CONNECTION):
            assert client.get(path).status_code == 403, path
        return
    assert {document["_id"] for document in client.get(PATH).json()} == sees
    assert {edge["node"]["_id"] for edge in client.get(CONNECTION).json()["edges"]} == sees
    assert client.get(f"{PATH}/count").json() == {"count": len(sees)}
    matched = client.post(f"{PATH}/match", json={"user_id": "u", **MESSAGE}).json()["forwarders"]
    assert {answer["_id"] for answer in matched} == sees
    for name in DOCUMENTS:
        assert client.get(f"{PATH}/{name}").status_code == (200 if name in sees else 404), name
        deliveries = client.get(f"{PATH}/{name}/deliveries")
        assert deliveries.status_code == (200 if name in sees else 404), name


MESSAGE = {"event": "session-started", "session_id": "s", "activity_id": "a", "time": "2020-02-17 15:03:23"}


@pytest.mark.parametrize(("scopes", "has_user", "sees", "changes"), MATRIX, ids=NAMES)
def test_a_client_changes_what_the_table_says(
    stocked: House, scopes: tuple[str, ...], has_user: bool, sees: frozenset[str] | None, changes: frozenset[str] | None
) -> None:
    client = stocked.client(*scopes, user="ann" if has_user else None)
    for name, method in itertools.product(DOCUMENTS, ("PUT", "POST", "PATCH", "TEST", "DELETE")):
        if method == "TEST":
            answer = client.post(f"{PATH}/{name}/test", json={"kind": "event"})
            # The sample is not let out of this machine: that the receiver does not resolve is as far as it gets.
            allowed = answer.status_code == 422 and "was not reached" in answer.json()["message"]
        elif method == "DELETE":
            answer = client.delete(f"{PATH}/{name}")
            allowed = answer.status_code == 204
        else:
            answer = client.request(method, f"{PATH}/{name}", json={"description": "x", "active": False})
            allowed = answer.status_code == 200
        may = changes is not None and name in changes
        refused = 403 if sees is None or name in sees else 404
        assert allowed == may, (name, method, answer.text)
        assert may or answer.status_code == refused, (name, method, answer.text)


@pytest.mark.parametrize(("scopes", "has_user", "sees", "changes"), MATRIX, ids=NAMES)
def test_a_client_creates_what_it_could_change(
    stocked: House, scopes: tuple[str, ...], has_user: bool, sees: frozenset[str] | None, changes: frozenset[str] | None
) -> None:
    client = stocked.client(*scopes, user="ann" if has_user else None)
    private = client.post(PATH, json=forwarder_body(owner="bob"))
    public = client.post(PATH, json=forwarder_body(isPublic=True))
    if changes is None or not changes:
        assert (private.status_code, public.status_code) == (403, 403)
        return
    assert public.status_code == 201
    # A private one is the client's own, or another's where the whole organisation is the client's to change.
    assert private.status_code == (201 if "own" in changes else 403)
    if private.status_code == 201:
        assert private.json()["owner"] == ("bob" if "private" in changes else "ann")


def test_a_forwarder_cannot_be_given_to_another_owner_without_the_whole_organisation(stocked: House) -> None:
    client = stocked.client(EDIT_PUBLIC, user="ann")
    assert client.patch(f"{PATH}/public", json={"owner": "ann"}).json()["owner"] == "bob"
    assert stocked.client(EDIT_ALL).patch(f"{PATH}/public", json={"owner": "ann"}).json()["owner"] == "ann"


def test_what_a_user_sees_is_that_users_and_of_now(house: House) -> None:
    ann, bob = (house.client(VIEW_PUBLIC, user=user) for user in ("ann", "bob"))
    create(ann, _id="anns")
    create(bob, _id="bobs")

    def seen(client: TestClient) -> list[str]:
        return [document["_id"] for document in client.get(PATH).json()]

    assert (seen(ann), seen(bob), seen(house.client(user="bob"))) == (["anns"], ["bobs"], ["bobs"])
    assert bob.patch(f"{PATH}/bobs", json={"isPublic": True}).status_code == 200
    assert (seen(ann), seen(bob), seen(house.client(user="ann"))) == (["anns", "bobs"], ["bobs"], ["anns"])
