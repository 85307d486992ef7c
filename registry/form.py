"""The form of the page, as HTML: a control for each field of a forwarder document that the table gives a label."""

import re
from html import escape

from transforms.forwarders import fields
from transforms.forwarders.fields import Field

_SECTIONS = {
    "forwarder": ("Forwarder", "What people call it, and who sees it."),
    "records": ("Which records", "What is forwarded, and in which form."),
    "target": ("Where to", "The receiver, and how the forwarder shows itself to it."),
    "requests": ("Requests", "Headers, signatures, and how often and how long is tried."),
    "batches": ("Batches", "Several records in one request."),
    "rate": ("Rate limit", "How fast the receiver is asked."),
    "tls": ("Certificates", "Files on the worker, for TLS."),
}
"""Each with its title, and a sentence on what is in it."""

_SELDOM = ("requests", "batches", "rate", "tls")
"""Sections that are folded up while nothing in them is set."""

_FIRST = ("query", "kinds", "payload")
"""Fields that come before the others of their section, since most forwarders have them."""

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
    for field in sorted(fields.FIELDS, key=_place):
        if field.label:
            controls[_section(field)].append(_control(field))
    return "\n".join(_framed(section, "\n".join(written)) for section, written in controls.items())


def _place(field: Field) -> int:
    return _FIRST.index(field.path) if field.path in _FIRST else len(_FIRST)


def _framed(section: str, controls: str) -> str:
    title, sentence = _SECTIONS[section]
    head = f'<h2 id="{section}-title">{title}</h2><p class="hint">{sentence}</p>'
    inner = f'<div class="inner">\n{controls}\n</div>'
    if section in _SELDOM:
        return f'<details class="section" id="{section}"><summary>{head}</summary>\n{inner}\n</details>'
    return (
        f'<section class="section" id="{section}" role="group" aria-labelledby="{section}-title">'
        f'<div class="head">{head}</div>\n{inner}\n</section>'
    )


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
    hint = f'<p class="hint" id="{identity}-hint">{_hint(field.description)}</p>'
    if field.kind in ("flag", "active"):
        written = f'<div class="check"><input type="checkbox" {common}> {label}</div>'
        return f'<div class="field"{protocols}{auth}>{written}{hint}</div>'
    return f'<div class="field"{protocols}{auth}>{label}{_written(field, common)}{hint}</div>'


def _hint(description: str) -> str:
    """A description of the table, with its code as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(description))


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
