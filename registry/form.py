"""The form of the page, as HTML: a control for each field of a forwarder document that the table gives a label."""

from html import escape

from transforms.forwarders import fields
from transforms.forwarders.fields import Field

_SECTIONS = {"forwarder": "Forwarder", "target": "Target", "http": "HTTP", "kinesis": "Amazon"}
_LINES = {"query": 3, "headers": 2, "secrets": 2}
"""Kinds that are written in a control of several lines, and how many."""


def form_fields() -> str:
    """The form's sections. `page.js` reads and fills the controls by their `name`, which is the field's path."""
    controls: dict[str, list[str]] = {section: [] for section in _SECTIONS}
    for field in fields.FIELDS:
        if field.label:
            controls[_section(field)].append(_control(field))
    return "\n".join(
        f'<fieldset id="{section}"><legend>{legend}</legend>\n' + "\n".join(controls[section]) + "\n</fieldset>"
        for section, legend in _SECTIONS.items()
    )


def _section(field: Field) -> str:
    if field.protocols:
        return "kinesis" if "Kinesis" in field.protocols else "http"
    return "target" if field.parent else "forwarder"


def _control(field: Field) -> str:
    """The field's control in its label, with the description for whoever rests the pointer on it."""
    auth = f' data-auth="{escape(field.auth_type)}"' if field.auth_type is not None else ""
    attributes = f'{auth} title="{escape(field.description)}"'
    common = f'name="{escape(field.path)}" data-kind="{field.kind}"'
    label = escape(field.label)
    if field.kind in ("flag", "active"):
        return f'<label class="check"{attributes}><input type="checkbox" {common}> {label}</label>'
    return f"<label{attributes}>{label} {_written(field, common)}</label>"


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
