"""Which statements of an LRS are read: the url that names them, and where its login is."""

import re
from urllib.parse import parse_qsl, urlsplit

from transforms.reading.instants import TimeRefusedError, read_instant

SCHEMES = ("https://", "http://")
PATH_END = "/statements"

KEY = "LRS_SOURCE_KEY"
SECRET = "LRS_SOURCE_SECRET"  # noqa: S105 - a variable's name
"""The environment variables that hold the basic auth of the LRS.

Their names do not begin with `FORWARDER_`, so no document can refer to them and have them sent somewhere.
"""


def url_problem(url: str) -> str | None:
    """What is wrong with the url of an LRS; None if nothing is. The text repeats no credential that may be in it."""
    form = "https://host/xAPI/statements?since=..."
    try:
        parts = urlsplit(url)
        port_is_wrong = parts.port == 0
    except ValueError:
        return f"is not a url: {form}"
    if "@" in parts.netloc:
        return f"holds a user: leave it out, and set {KEY} and {SECRET}, or give --input_auth"
    if not parts.hostname or port_is_wrong or parts.fragment or re.search(r"[\s\\\x00-\x1f]", url):
        return f"is not the address of an LRS: {form}"
    if not parts.path.endswith(PATH_END):
        return f"does not end in {PATH_END}, the statements resource of an LRS: {form}"
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parameters.get("ascending", "true") != "true":
        return "asks for statements in descending order: leave `ascending` out"
    if parameters.get("format", "exact") != "exact":
        return "asks for statements in another form than they have: leave `format` out"
    for name in ("statementId", "voidedStatementId"):
        if name in parameters:
            return f"asks for one statement: leave `{name}` out"
    for name in ("since", "until"):
        if name in parameters:
            try:
                read_instant(parameters[name])
            except TimeRefusedError as error:
                return f"has a time that cannot be read, `{name}`: {error}"
    return None
