"""How this project names itself to receivers (docs/spec/forwarders.md section 2)."""

from importlib import metadata


def installed_version() -> str:
    """The version of this project; 0 where it runs from a checkout that is not installed."""
    try:
        return metadata.version("session-forwarder")
    except metadata.PackageNotFoundError:
        return "0"


USER_AGENT = f"session-forwarder/{installed_version()}"
"""The value of the User-Agent header."""
