"""The command line of the service: `python -m registry serve | key | rotate | client`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from registry.access import SCOPES
from registry.keyring import KEY_FILE, KEYS
from registry.usage import CommandError
from transforms.forwarders.secrets import DEFAULT_ENV_PREFIX
from transforms.matching.statement import DEFAULT_HOME_PAGE, is_absolute_iri
from transforms.sessions.derivation import SECONDS_PER_UNIT
from transforms.sinks.addresses import parse_network

DEFAULT_STORE = "sqlite:///forwarders.db"
DEFAULT_JOBS_DIR = "forwarder-jobs"
_EXAMPLES = f"""\
a first start:
  export {KEYS}=$(python -m registry key)
  python -m registry client add --organisation school-1 --user ann --scope org/all/statementForwarding/edit
  python -m registry serve

the client that the job uses:
  python -m registry client add --organisation school-1 --scope org/all/statementForwarding/view \\
      --scope statementForwarding/deliver

another key: put it before the old one in {KEYS} (or in the file that {KEY_FILE} names), restart, then
  python -m registry rotate
and take the old one out
"""


def main(argv: Sequence[str]) -> int:
    """Carry out a command.

    Args:
        argv: the words after the program's name.

    Returns:
        The exit status: 0, or 2 after a message on standard error.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        carry_out(arguments)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def carry_out(arguments: argparse.Namespace) -> None:
    """Do what a command line asks for, with its flags as a parser here has read them.

    Raises:
        CommandError: it cannot be done.
    """
    try:
        # Late: the service takes longer to import than a mistake takes to be told.
        from registry import actions
    except ModuleNotFoundError as error:
        raise CommandError(f"needs the extra: pip install 'session-forwarder[registry]' ({error.name})") from None
    from registry.keyring import KeyringError
    from registry.stores.base import StoreError

    try:
        getattr(actions, arguments.action)(arguments)
    except (StoreError, KeyringError) as error:
        raise CommandError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m registry",
        description="Forwarder documents over HTTP.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    store = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_store(store)

    serve = commands.add_parser("serve", parents=[store], help="serve the interfaces and the page", allow_abbrev=False)
    _add_serve_flags(serve)
    serve.set_defaults(action="serve")

    key = commands.add_parser("key", help="print a new key for sealing secrets", allow_abbrev=False)
    key.set_defaults(action="key")

    rotate = commands.add_parser(
        "rotate", parents=[store], help="seal every secret with the first key", allow_abbrev=False
    )
    rotate.set_defaults(action="rotate")

    client = commands.add_parser("client", help="manage who may use the service", allow_abbrev=False)
    actions = client.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[store], help="add one; prints its secret, once", allow_abbrev=False)
    add.add_argument("--organisation", required=True, metavar="ID")
    add.add_argument("--user", metavar="ID", help="owner of what the client creates")
    add.add_argument("--name", metavar="NAME", help="what the page calls who signs in with it")
    add.add_argument("--organisation_name", metavar="NAME", help="what the page calls the organisation, from now on")
    add.add_argument("--scope", action="append", default=[], choices=SCOPES, dest="scopes", help="repeatable")
    add.set_defaults(action="add_client")
    listed = actions.add_parser("list", parents=[store], help="list them, without secrets", allow_abbrev=False)
    listed.set_defaults(action="list_clients")
    remove = actions.add_parser("remove", parents=[store], help="take one's access away", allow_abbrev=False)
    remove.add_argument("key")
    remove.set_defaults(action="remove_client")
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        default=DEFAULT_STORE,
        metavar="URL",
        help=f"sqlite:///path or mongodb://host/database[.collection] (default {DEFAULT_STORE})",
    )


def serve_parser(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `serve` to a parser, for `carry_out`."""
    _add_store(parser)
    _add_serve_flags(parser)
    parser.set_defaults(action="serve")


def _add_serve_flags(serve: argparse.ArgumentParser) -> None:
    listen = serve.add_argument_group("where it listens")
    listen.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to bind (default 127.0.0.1: this machine only)"
    )
    listen.add_argument("--port", type=_port, default=8380, metavar="PORT", help="default 8380")
    listen.add_argument("--tls_certificate", metavar="FILE", help="serve over TLS with this certificate chain")
    listen.add_argument("--tls_key", metavar="FILE", help="its private key")
    listen.add_argument(
        "--trusted_proxy",
        action="append",
        default=[],
        dest="trusted_proxies",
        type=_network,
        metavar="NETWORK",
        help="an address or CIDR of proxies whose X-Forwarded-For (or Forwarded) and X-Forwarded-Proto are believed; "
        "repeatable",
    )
    listen.add_argument(
        "--metrics_network",
        action="append",
        default=[],
        dest="metrics_networks",
        type=_network,
        metavar="CIDR",
        help="an address or network, beside this machine, that may read /metrics; repeatable",
    )
    bounds = serve.add_argument_group("what clients may hold")
    bounds.add_argument(
        "--max_connections",
        type=_above_zero,
        metavar="N",
        help="connections at a time (default 1000, or fewer if the limit of open files is low)",
    )
    bounds.add_argument(
        "--max_connections_per_address",
        type=_above_zero,
        default=32,
        metavar="N",
        help="connections at a time of one address that is no trusted proxy, and requests of one client (default 32)",
    )
    bounds.add_argument(
        "--request_timeout",
        type=_seconds,
        default=20.0,
        metavar="SECONDS",
        help="in which a request has to come whole, and an answer to be taken up (default 20)",
    )
    bounds.add_argument(
        "--session_idle",
        type=_minutes,
        default=120.0,
        metavar="MINUTES",
        help="after so long without a request whoever signed in on the page is signed out (default 120)",
    )

    job = serve.add_argument_group("what it knows of the job; give both the same")
    job.add_argument(
        "--deliveries", metavar="OUTPUT", help="its --output, a directory or a url, to show what became of records"
    )
    job.add_argument(
        "--job_metrics",
        metavar="WHERE",
        help="with --deliveries: the address of its metrics (http://host:9464/metrics), or its --metrics_file, to show "
        "what waits in a job on another machine",
    )
    job.add_argument(
        "--jobs",
        metavar="CONFIG",
        help="let clients with an edit scope redrive and replay to their forwarders, by the job's flags in this TOML "
        "file, as its --config: input, forwarders, output and how it delivers",
    )
    job.add_argument(
        "--jobs_dir",
        default=DEFAULT_JOBS_DIR,
        metavar="DIR",
        help=f"where these jobs and their logs are kept (default {DEFAULT_JOBS_DIR})",
    )
    job.add_argument(
        "--actor_home_page",
        type=_home_page,
        default=DEFAULT_HOME_PAGE,
        metavar="IRI",
        help=f"as the job's flag, for /match and samples (default {DEFAULT_HOME_PAGE})",
    )
    job.add_argument(
        "--session_duration_unit",
        choices=tuple(SECONDS_PER_UNIT),
        default="minutes",
        help="as the job's flag, for /match and samples (default minutes)",
    )
    job.add_argument(
        "--allow_network",
        action="append",
        default=[],
        dest="allow_networks",
        type=_network,
        metavar="CIDR",
        help="as the job's flag: a private network that tests of HTTP forwarders may reach; repeatable",
    )
    job.add_argument(
        "--trust_references",
        action="store_true",
        help="take documents that refer to secrets of the worker, as the job does with the same flag",
    )
    job.add_argument("--secret_env_prefix", default=DEFAULT_ENV_PREFIX, metavar="PREFIX", help="as the job's flag")
    job.add_argument("--secrets_dir", metavar="DIR", help="as the job's flag")


def _home_page(text: str) -> str:
    if not is_absolute_iri(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute IRI such as https://example.org")
    return text


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:6]) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535, 0 is any free one")
    return int(text)


def _above_zero(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to 3600")
    return seconds


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 1 <= minutes <= 1440:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes from 1 to 1440")
    return minutes


def _network(text: str) -> str:
    try:
        return str(parse_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
