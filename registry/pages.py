"""The page at `/` and the documentation at `/docs`. No file of theirs comes from elsewhere."""

from importlib import resources

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

from registry.form import form_fields

router = APIRouter(include_in_schema=False)

_PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
_FIELDS = "<!-- fields: registry/form.py -->"
"""Where the form's controls go in `page.html`."""

# A script inside of its page starts Swagger UI, and it sets styles and images of its own.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_DOCS_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


@router.get("/")
def page() -> Response:
    html = _content("page.html").decode().replace(_FIELDS, form_fields())
    return Response(html, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _PAGE_POLICY})


@router.get("/page.js")
def script() -> Response:
    return _file("page.js", "text/javascript")


@router.get("/page.css")
def style() -> Response:
    return _file("page.css", "text/css")


def _file(name: str, media_type: str) -> Response:
    return Response(_content(name), media_type=f"{media_type}; charset=utf-8")


def _content(name: str) -> bytes:
    return resources.files("registry").joinpath("page", name).read_bytes()


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
