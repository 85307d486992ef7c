"""The application: the interfaces, the page, and what is answered when something is wrong."""

import logging
import time
from collections import Counter
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry import connection, pages, rest
from registry.console import forwarders, jobs, operations, session, tester
from registry.console.schemas import CONSOLE_SCHEMAS
from registry.documents import FaultyDocumentError, UnreadableBodyError
from registry.filters import ParameterError
from registry.jobs import JobRefusedError, JobsBusyError, NoSuchJobError
from registry.keyring import KeyringError
from registry.metrics import CONTENT_TYPE, ELSEWHERE, Metrics
from registry.openapi import OPEN, answered, described, ref
from registry.proxies import BehindProxies, TrustedProxies, neighbourhood
from registry.records import TooManyLooksError
from registry.sample_delivery import BusyError, NotReachedError
from registry.service import ChangedError, ForbiddenError
from registry.stores.base import IdTakenError, NoSuchDocumentError, StoreError, StoreFullError
from registry.web import Answer, Registry, RegistryDep, faults_of, is_loopback

logger = logging.getLogger(__name__)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter or body that cannot be read: `message`, and `faults` by parameter"},
    401: {"description": "No client of this key and secret"},
    403: {"description": "The client's scopes do not allow it"},
    404: {"description": "No such forwarder, or none that this client may view"},
    405: {"description": "Not a way to change forwarders"},
    409: {"description": "There is a forwarder of this id, or a job runs already"},
    412: {"description": "The forwarder was changed since it was read (If-Match)"},
    413: {"description": "The body is too large"},
    415: {"description": "The body is not said to be JSON"},
    422: {"description": "A document that breaks rules: `faults`, all of them, by field"},
    408: {"description": "The request did not come whole in time"},
    429: {"description": "Too many failed logins, requests or tests: try again after `Retry-After` seconds"},
    503: {"description": "The store does not answer or is full, or there are too many connections: try again later"},
}


for _problem in _PROBLEMS.values():
    _problem["content"] = {"application/json": {"schema": ref("Problem")}}


class _Application(FastAPI):
    """FastAPI that publishes what documents, requests and answers look like."""

    def openapi(self) -> dict[str, Any]:
        return described(super().openapi(), CONSOLE_SCHEMAS)


def _operation_id(route: APIRoute) -> str:
    """Short, since generated clients call their functions so."""
    name = route.name.lstrip("_")
    return f"console_{name}" if route.path.startswith("/api/console") else name


def build(registry: Registry, proxies: TrustedProxies | None = None, most_of_one: int = 32) -> FastAPI:
    """The application for one registry.

    Args:
        registry: everything that the interfaces need.
        proxies: those whose word is taken on where a request comes from; None: nobody's is.
        most_of_one: requests of one client that are answered at a time.
    """
    app = _Application(
        title="Forwarders",
        description="Who gets which record: statement-forwarding documents, as Learning Locker serves them.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Answer,
        responses=_PROBLEMS,
        # What generated clients call an operation.
        generate_unique_id_function=_operation_id,
    )
    app.state.registry = registry
    _answer_errors(app)
    health = answered(ref("Health"), "It does")
    ill = answered(ref("Health"), "The store does not answer or is full, or there is no key for secrets", 503)
    app.get(
        "/health",
        tags=["service"],
        summary="Whether the service and its store answer",
        responses=health | ill,
        openapi_extra=OPEN,
    )(_health)
    app.get(
        "/metrics",
        tags=["service"],
        summary="How the service does, for Prometheus",
        response_class=PlainTextResponse,
        openapi_extra=OPEN,
    )(_metrics)
    app.include_router(pages.router)
    app.include_router(rest.router)
    app.include_router(connection.router)
    app.include_router(session.router)
    app.include_router(forwarders.router)
    app.include_router(operations.router)
    app.include_router(jobs.router)
    app.include_router(tester.router)
    # The last that is added stands before the others.
    app.add_middleware(_Fair, most=most_of_one)
    app.add_middleware(_Frame, metrics=registry.metrics)
    app.add_middleware(BehindProxies, proxies=proxies or TrustedProxies())
    return app


def _health(registry: RegistryDep) -> Answer:
    try:
        registry.service.store.check()
    except StoreFullError as error:
        _log_problem(error)
        return Answer({"status": "full", "message": str(error)}, 503)
    except StoreError as error:
        _log_problem(error)
        return Answer({"status": "failing", "message": "the store does not answer"}, 503)
    if not registry.service.keyring:
        return Answer({"status": "failing", "message": "there is no key to seal secrets with"}, 503)
    return Answer({"status": "ok"})


def _metrics(request: Request, registry: RegistryDep) -> Response:
    address = request.client.host if request.client else ""
    if not is_loopback(request) and address not in registry.metrics.readers:
        raise HTTPException(403, "metrics are for this machine, and for the networks of --metrics_network")
    jobs = registry.jobs.listed() if registry.jobs is not None else []
    text = registry.metrics.text(registry.service.store, (job.state for job in jobs))
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


def _answer_errors(app: FastAPI) -> None:
    def answer(error: type[Exception], status: int, message: str | None = None, retry: str | None = None) -> None:
        def handle(request: Request, raised: Exception) -> Answer:
            headers = {"Retry-After": retry} if retry else None
            return Answer({"message": message or str(raised)}, status, headers)

        app.add_exception_handler(error, handle)

    answer(UnreadableBodyError, 400)
    answer(ForbiddenError, 403)
    answer(NoSuchDocumentError, 404, "there is no such forwarder, or none that this client may view")
    answer(IdTakenError, 409, "there is, or was, another forwarder of this _id: leave it out, or choose another")
    answer(ChangedError, 412, "the forwarder was changed since it was read: read it again")
    answer(NoSuchJobError, 404, "there is no such job, or none that this client may view")
    answer(JobsBusyError, 409)
    answer(JobRefusedError, 422)
    answer(BusyError, 429, retry="5")
    answer(TooManyLooksError, 429, "as many look for records as may at a time: try again", retry="2")
    answer(KeyringError, 503)
    app.add_exception_handler(NotReachedError, _not_reached)
    app.add_exception_handler(StoreError, _store_problem)
    app.add_exception_handler(FaultyDocumentError, _faulty_document)
    app.add_exception_handler(ParameterError, _bad_parameter)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(ClientDisconnect, _gone)


def _store_problem(request: Request, error: Exception) -> Answer:
    request.app.state.registry.metrics.store_failed()
    _log_problem(error)
    return Answer({"message": str(error)}, 503)


def _log_problem(error: Exception) -> None:
    # The client is not told what the store's library says, which may name hosts and paths. The operator is.
    logger.error("%s%s", error, f" ({error.__cause__})" if error.__cause__ else "")


def _not_reached(request: Request, error: Exception) -> Answer:
    return Answer({"message": str(error), "faults": [{"field": "configuration.url", "message": str(error)}]}, 422)


def _faulty_document(request: Request, error: Exception) -> Answer:
    assert isinstance(error, FaultyDocumentError)  # noqa: S101 - what the handler is registered for
    faults, warnings = faults_of(error.faults), faults_of(error.warnings)
    return Answer({"message": "the document breaks rules", "faults": faults, "warnings": warnings}, 422)


def _bad_parameter(request: Request, error: Exception) -> Answer:
    assert isinstance(error, ParameterError)  # noqa: S101
    return Answer({"message": str(error), "faults": [{"field": error.name, "message": error.message}]}, 400)


def _bad_parameters(request: Request, error: Exception) -> Answer:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = [
        {"field": ".".join(map(str, problem["loc"][1:])), "message": problem["msg"]} for problem in error.errors()
    ]
    message = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return Answer({"message": message, "faults": faults}, 400)


def _gone(request: Request, error: Exception) -> Answer:
    # Nobody gets it: the client went away, or was too slow (registry/door.py). The log shows the status.
    return Answer({"message": "the client was gone before its request had come whole"}, 408)


def _refused(request: Request, error: Exception) -> Answer:
    assert isinstance(error, HTTPException)  # noqa: S101
    return Answer({"message": error.detail}, error.status_code, dict(error.headers or {}))


class _Fair:
    """Around the interfaces: no client has so many requests under way that others wait for them."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["client"]:
            await self._app(scope, receive, send)
            return
        who = neighbourhood(scope["client"][0])
        if self._under_way[who] >= self._most:
            message = f"{self._most} requests of this client are under way: wait for one of them"
            await Answer({"message": message}, 429, {"Retry-After": "1"})(scope, receive, send)
            return
        self._under_way[who] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[who] -= 1
            if not self._under_way[who]:
                del self._under_way[who]


class _Frame:
    """Around every request: headers on the answer, metrics, and a line in the log that holds nothing private."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._metrics.begin()
        started = time.perf_counter()
        status = 500
        if len(scope["path"]) > 1 and scope["path"].endswith("/"):
            # The contract writes `GET /` of an interface. Redirected, a request would lose its body or credentials.
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                # No cache is to keep an answer, no frame to show it, and no browser to guess at its type.
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            await send(message)

        try:
            await self._app(scope, receive, framed)
        finally:
            # The path as it was sent is still percent-encoded, so that it cannot forge a line of the log. The query is
            # left out: it may be long, and may hold what is private.
            path = scope.get("raw_path", b"").decode("latin-1")
            seconds = time.perf_counter() - started
            self._metrics.end(scope["method"], getattr(scope.get("route"), "path", ELSEWHERE), status, seconds)
            logger.info("%s %s %d %.1f ms", scope["method"], path, status, seconds * 1000)
