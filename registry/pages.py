"""The page, whose every view is an address of its own, and the documentation at `/docs`.

No file of theirs comes from elsewhere. The page is one document for all of its addresses; `page/app.js` shows the view.
"""

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

from registry.form import form_fields

router = APIRouter(include_in_schema=False)

_VIEWS = (
    "/",
    "/sign-in",
    "/forwarders",
    "/forwarders/new",
    "/forwarders/import",
    "/forwarders/{id}",
    "/forwarders/{id}/{tab}",
    "/tester",
    "/jobs",
    "/jobs/{id}",
)
"""The page's own addresses. `page/app.js` has the view of each."""

_PAGE_HEADERS = {
    # With trusted types for scripts, and none there, a browser refuses to make markup of text at all.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_FIELDS = "<!-- fields: registry/form.py -->"
"""Where the form's controls go in `page.html`."""

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

# A script inside of its page starts Swagger UI, and it sets styles and images of its own.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_DOCS_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


def page() -> Response:
    html = _files()["page.html"].decode().replace(_FIELDS, form_fields())
    return Response(html, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)


for _address in _VIEWS:
    router.add_api_route(_address, page, methods=["GET"])


@router.get("/page/{name:path}")
def file(request: Request, name: str) -> Response:
    """A script, a style or a picture of the page."""
    content, media_type = _files().get(name), _TYPES.get(name.rpartition(".")[2])
    if content is None or media_type is None:
        return Response(status_code=404)
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    # A browser keeps it, and asks each time whether it is still the same: after an update nobody sees half of the old.
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=f"{media_type}; charset=utf-8", headers=headers)


@cache
def _files() -> dict[str, bytes]:
    """The files of the page, by their names below its folder."""
    return dict(_files_below(resources.files("registry").joinpath("page")))


def _files_below(folder: Traversable, place: str = "") -> list[tuple[str, bytes]]:
    files: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            files += _files_below(entry, f"{place}{entry.name}/")
        else:
            files.append((f"{place}{entry.name}", entry.read_bytes()))
    return files


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Forwarders",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    page.headers["Content-Security-Policy"] = _DOCS_POLICY
    return page


@router.get("/docs/{name}")
def docs_file(name: str) -> Response:
    if name not in _DOCS_FILES:
        return Response(status_code=404)
    content = resources.files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(content, media_type=_DOCS_FILES[name], headers={"Cache-Control": "max-age=86400"})
