"""The page at `/` and the documentation at `/docs`: files of this package, nothing from elsewhere."""

from importlib import resources
from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

_PAGE: Final = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
# Swagger UI is started by a script inside its page, and sets styles and images of its own.
_DOCS: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_DOCS_FILES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


@router.get("/")
def page() -> Response:
    return _file("page.html", "text/html", {"Content-Security-Policy": _PAGE})


@router.get("/page.js")
def script() -> Response:
    return _file("page.js", "text/javascript")


@router.get("/page.css")
def style() -> Response:
    return _file("page.css", "text/css")


def _file(name: str, media_type: str, headers: dict[str, str] | None = None) -> Response:
    content = resources.files("registry").joinpath("page", name).read_bytes()
    return Response(content, media_type=f"{media_type}; charset=utf-8", headers=headers)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Forwarders",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    page.headers["Content-Security-Policy"] = _DOCS
    return page


@router.get("/docs/{name}")
def docs_file(name: str) -> Response:
    if name not in _DOCS_FILES:
        return Response(status_code=404)
    content = resources.files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(content, media_type=_DOCS_FILES[name], headers={"Cache-Control": "max-age=86400"})
