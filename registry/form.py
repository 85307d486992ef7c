"""The form of the page, as HTML: a control for each field of a forwarder document that the table gives a label."""

from html import escape

from transforms.forwarders import fields
from transforms.forwarders.fields import Field

_SECTIONS = {
    "forwarder": "Forwarder",
    "records": "Which records",
    "target": "Where to",
    "requests": "Requests",
    "batches": "Batches",
    "rate": "Rate limit",
    "tls": "Certificates",
}
_SELDOM = ("requests", "batches", "rate", "tls")
"""Sections that are folded up while nothing in them is set."""

_SECTION_OF = {
    "query": "records",
    "kinds": "records",
    "lrs_id": "records",
    "payload": "records",
    "fullDocument": "records",
    "sendAttachments": "records",
    "configuration.protocol": "target",
    "configuration.url": "target",
    "configuration.authType": "target",
    "configuration.batch": "batches",
    "configuration.rateLimit": "rate",
    "configuration": "requests",
    "kinesisOptions": "target",
}
"""The section of a field, by its path or by that of an object it stands in."""

_LINES = {"query": 3, "headers": 2, "secrets": 2}
"""Kinds that are written in a control of several lines, and how many."""


def form_fields() -> str:
    """The form's sections. `page/forwarder_form.js` reads and fills the controls by their `name`, the field's path."""
    controls: dict[str, list[str]] = {section: [] for section in _SECTIONS}
    for field in fields.FIELDS:
        if field.label:
            controls[_section(field)].append(_control(field))
    return "\n".join(_framed(section, "\n".join(written)) for section, written in controls.items())


def _framed(section: str, controls: str) -> str:
    title = f"<h2>{_SECTIONS[section]}</h2>"
    if section in _SELDOM:
        return f'<details class="section" id="{section}"><summary>{title}</summary>\n{controls}\n</details>'
    return f'<fieldset class="section" id="{section}"><legend>{title}</legend>\n{controls}\n</fieldset>'


def _section(field: Field) -> str:
    if field.auth_type is not None:
        return "target"
    if field.kind == "file" or field.path == "configuration.clientKey":
        return "tls"
    path = field.path
    while path:
        if path in _SECTION_OF:
            return _SECTION_OF[path]
        path = path.rpartition(".")[0]
    return "forwarder"


def _control(field: Field) -> str:
    """The field's control, with its label, and its description as a hint."""
    name = escape(field.path)
    identity = "field-" + name.replace(".", "-")
    protocols = f' data-protocols="{escape(" ".join(field.protocols))}"' if field.protocols else ""
    auth = f' data-auth="{escape(field.auth_type)}"' if field.auth_type is not None else ""
    common = f'id="{identity}" name="{name}" data-kind="{field.kind}" aria-describedby="{identity}-hint"'
    label = f'<label for="{identity}">{escape(field.label)}</label>'
    hint = f'<p class="hint" id="{identity}-hint">{escape(field.description)}</p>'
    if field.kind in ("flag", "active"):
        written = f'<div class="check"><input type="checkbox" {common}> {label}</div>'
        return f'<div class="field"{protocols}{auth}>{written}{hint}</div>'
    return f'<div class="field"{protocols}{auth}>{label}{_written(field, common)}{hint}</div>'


def _written(field: Field, common: str) -> str:
    """The control of a field that is chosen or written."""
    if field.kind == "choice":
        usual = f'<option value="">{escape(f"as usual: {field.without_it}")}</option>'
        options = [f"<option>{escape(value)}</option>" for value in field.allowed]
        return f"<select {common}>{usual}{''.join(options)}</select>"
    common += f' placeholder="{escape(field.example or field.without_it)}" autocomplete="off"'
    if field.kind != "any":
        common += ' spellcheck="false"'
    if field.kind in _LINES:
        return f'<textarea rows="{_LINES[field.kind]}" {common}></textarea>'
    if field.kind in ("number", "count"):
        common += ' inputmode="decimal"'
    return f"<input {common}>"
