"""`session-forwarder serve`: the registry."""

from collections.abc import Sequence

from commands.command import PROG
from pipeline.usage import ScreenParser, UsageError
from registry.command import carry_out, serve_parser
from registry.usage import CommandError

_BRIEF = {
    "--store": "sqlite:///path or mongodb://host/database",
    "--host": "address to listen at (127.0.0.1: this machine only)",
    "--port": "to listen at (8380)",
    "--tls_certificate": "serve over TLS with this certificate chain",
    "--tls_key": "its private key",
    "--trusted_proxy": "whose X-Forwarded-For is believed; repeatable",
    "--deliveries": "the job's --output, to show what became of records",
    "--actor_home_page": "as the job's flag",
    "--allow_network": "as the job's flag, for tests of forwarders",
}
_EPILOG = (
    "first a key that seals secrets, and a client:",
    "  export REGISTRY_KEYS=$(python -m registry key)",
    "  python -m registry client add --organisation school-1 --user ann \\",
    "      --scope org/all/statementForwarding/edit",
)


def parser() -> ScreenParser:
    """The flags, which are those of `python -m registry serve`."""
    made = ScreenParser(
        f"{PROG} serve",
        f"{PROG} serve [FLAG ...]",
        "Serves forwarder documents over HTTP (docs/registry.md).",
        _EPILOG,
        _BRIEF,
    )
    serve_parser(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Serve until the process is ended. Returns the exit status."""
    try:
        carry_out(parser().parse_args(argv))
    except CommandError as error:
        raise UsageError(str(error)) from None
    return 0
