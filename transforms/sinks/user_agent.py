"""How this project names itself to receivers (docs/spec/forwarders.md section 2)."""

from importlib import metadata


def _version() -> str:
    try:
        return metadata.version("session-forwarder")
    except metadata.PackageNotFoundError:
        # It runs from a checkout that is not installed.
        return "0"


USER_AGENT = f"session-forwarder/{_version()}"
"""The value of the User-Agent header."""
