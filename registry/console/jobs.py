"""Jobs over HTTP: plan what is sent again, look at the plan, have it carried out, look how far it is."""

from typing import Any

import msgspec
from fastapi import APIRouter, HTTPException

from registry.access import Client, Reach
from registry.console.operations import PATH, instant, read_body, who
from registry.jobs import Job, Jobs, NoSuchJobError, Selection, What
from registry.service import ForbiddenError
from registry.stores.base import NoSuchDocumentError
from registry.web import Answer, BodyDep, ClientDep, Registry, RegistryDep
from schemas import KINDS, Kind
from schemas.json_values import JsonObject
from schemas.times import rfc3339

router = APIRouter(prefix=f"{PATH}/jobs", include_in_schema=False)


class _Asked(msgspec.Struct):
    what: What
    forwarders: list[str]
    reasons: list[str] = []
    records: list[str] = []
    kinds: list[Kind] = []
    since: str | None = None
    until: str | None = None


class _Confirmed(msgspec.Struct):
    digest: str


@router.get("")
def list_jobs(registry: RegistryDep, client: ClientDep) -> Answer:
    """`enabled`: whether the service may start jobs (`--jobs`); `replays`: whether it has input to replay."""
    if registry.jobs is None:
        return Answer({"enabled": False, "replays": False, "jobs": []})
    jobs = [job for job in registry.jobs.listed() if _may_view(registry, client, job)]
    shown = [_shown(registry, client, job) for job in jobs]
    return Answer({"enabled": True, "replays": registry.jobs.config.has_input, "jobs": shown})


@router.post("", status_code=202)
def plan(registry: RegistryDep, client: ClientDep, body: BodyDep) -> Answer:
    """Nothing is sent. The job is `planned` once its `plan` says what would be; `POST .../confirm` sends it."""
    jobs, asked = _jobs(registry), read_body(body, _Asked)
    selection = Selection(
        what=asked.what,
        forwarders=tuple(dict.fromkeys(asked.forwarders)),
        reasons=tuple(dict.fromkeys(asked.reasons)),
        records=tuple(dict.fromkeys(record.lower() for record in asked.records)),
        kinds=tuple(kind for kind in KINDS if kind in asked.kinds),
        since=instant("since", asked.since),
        until=instant("until", asked.until),
    )
    _check_may_send(registry, client, selection)
    job = jobs.plan(selection, client.organisation, who(registry, client.key, {}))
    return Answer(_shown(registry, client, job), 202)


@router.get("/{id}")
def get_job(registry: RegistryDep, client: ClientDep, id: str) -> Answer:
    return Answer(_shown(registry, client, _job(registry, client, id)))


@router.post("/{id}/confirm", status_code=202)
def confirm(registry: RegistryDep, client: ClientDep, id: str, body: BodyDep) -> Answer:
    """`digest`: of the plan that was shown. If documents were changed since it was made, nothing is sent."""
    digest = read_body(body, _Confirmed).digest
    job = _job(registry, client, id)
    _check_may_send(registry, client, job.selection)
    return Answer(_shown(registry, client, _jobs(registry).confirm(id, digest)), 202)


@router.post("/{id}/stop", status_code=202)
def stop(registry: RegistryDep, client: ClientDep, id: str, body: BodyDep) -> Answer:
    """What is in flight is finished. The body is `{}`."""
    read_body(body, dict[str, Any])
    job = _job(registry, client, id)
    _check_may_edit(registry, client, job.selection)
    _jobs(registry).stop(id)
    return Answer(_shown(registry, client, job), 202)


def _jobs(registry: Registry) -> Jobs:
    if registry.jobs is None:
        raise HTTPException(404, "this service starts no jobs: whoever runs it allows that with --jobs CONFIG.toml")
    return registry.jobs


def _job(registry: Registry, client: Client, job_id: str) -> Job:
    """A job that the client may see. Raises NoSuchJobError."""
    job = _jobs(registry).get(job_id)
    if not _may_view(registry, client, job):
        raise NoSuchJobError
    return job


def _may_view(registry: Registry, client: Client, job: Job) -> bool:
    if job.organisation != client.organisation:
        return False
    if client.view is Reach.ORGANISATION:
        return True
    try:
        for forwarder_id in job.selection.forwarders:
            registry.service.get(client, forwarder_id)
    except (NoSuchDocumentError, ForbiddenError):
        return False
    return True


def _check_may_edit(registry: Registry, client: Client, selection: Selection) -> None:
    for forwarder_id in selection.forwarders:
        registry.service.to_edit(client, forwarder_id)


def _check_may_send(registry: Registry, client: Client, selection: Selection) -> None:
    """Raises NoSuchDocumentError, ForbiddenError, or HTTPException where a forwarder is not active."""
    for forwarder_id in selection.forwarders:
        stored = registry.service.to_edit(client, forwarder_id)
        if stored.content.get("active") is not True:
            raise HTTPException(
                422, f"forwarder {_name(registry, client, forwarder_id)} is not active: make it so first"
            )


def _name(registry: Registry, client: Client, forwarder_id: str) -> str:
    """What people call a forwarder."""
    try:
        name = registry.service.get(client, forwarder_id).content.get("description")
    except (NoSuchDocumentError, ForbiddenError):
        return forwarder_id
    return name if isinstance(name, str) and name else forwarder_id


def _shown(registry: Registry, client: Client, job: Job) -> JsonObject:
    """A job as it is answered. Samples of what would be sent are for those who may change the forwarders."""
    try:
        _check_may_edit(registry, client, job.selection)
        may_edit = True
    except (NoSuchDocumentError, ForbiddenError):
        may_edit = False
    selection = job.selection
    return {
        "id": job.id,
        "by": job.by,
        "state": job.state,
        "what": selection.what,
        "forwarders": [{"_id": id_, "name": _name(registry, client, id_)} for id_ in selection.forwarders],
        "reasons": list(selection.reasons),
        "records": list(selection.records),
        "kinds": list(selection.kinds),
        "since": None if selection.since is None else rfc3339(selection.since),
        "until": None if selection.until is None else rfc3339(selection.until),
        "run_id": job.run_id,
        "digest": job.digest if job.state == "planned" else None,
        "plan": job.plan if may_edit or job.plan is None else _without_samples(job.plan),
        "report": job.report,
        "problems": job.problems,
        "times": job.times,
        "progress": None if registry.jobs is None else registry.jobs.progress(job.id),
        "may_edit": may_edit,
    }


def _without_samples(plan: JsonObject) -> JsonObject:
    accounts = [{name: value for name, value in each.items() if name != "sample"} for each in plan["forwarders"]]
    return {**plan, "forwarders": accounts}
