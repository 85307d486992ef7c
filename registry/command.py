"""The command line of the service: `python -m registry serve | key | rotate | client`."""

import argparse
import logging
import ssl
import sys
from collections.abc import Sequence

import uvicorn

from registry.access import SCOPES, Client
from registry.credentials import StoredClient, hash_secret, new_client_key, new_secret
from registry.deliveries import RecentDeliveries
from registry.door import OTHER_FILES, Limits, most_connections, usual_limits
from registry.keyring import KEY_FILE, KEYS, KeyringError, new_key, read_keyring
from registry.matching import MatchPreview
from registry.proxies import TrustedProxies
from registry.sample_delivery import SampleDelivery
from registry.server import configured
from registry.service import Service
from registry.stores.base import StoreError, reseal
from registry.stores.open import open_store
from registry.web import Registry
from transforms.forwarders import Rules
from transforms.forwarders.secrets import DEFAULT_ENV_PREFIX, References
from transforms.matching.statement import DEFAULT_HOME_PAGE, StatementBuilder, is_absolute_iri
from transforms.query import compile_query
from transforms.sessions.derivation import SECONDS_PER_UNIT
from transforms.sinks.addresses import parse_network

logger = logging.getLogger(__name__)

DEFAULT_STORE = "sqlite:///forwarders.db"
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


class CommandError(Exception):
    """A command cannot be carried out. The text says why and what to do."""


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
        arguments.run(arguments)
    except (CommandError, StoreError, KeyringError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


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
    store.add_argument(
        "--store",
        default=DEFAULT_STORE,
        metavar="URL",
        help=f"sqlite:///path or mongodb://host/database[.collection] (default {DEFAULT_STORE})",
    )

    serve = commands.add_parser("serve", parents=[store], help="serve the interfaces and the page", allow_abbrev=False)
    _add_serve_flags(serve)
    serve.set_defaults(run=_serve)

    key = commands.add_parser("key", help="print a new key for sealing secrets", allow_abbrev=False)
    key.set_defaults(run=lambda arguments: print(new_key()))

    rotate = commands.add_parser(
        "rotate", parents=[store], help="seal every secret with the first key", allow_abbrev=False
    )
    rotate.set_defaults(run=_rotate)

    client = commands.add_parser("client", help="manage who may use the service", allow_abbrev=False)
    actions = client.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[store], help="add one; prints its secret, once", allow_abbrev=False)
    add.add_argument("--organisation", required=True, metavar="ID")
    add.add_argument("--user", metavar="ID", help="owner of what the client creates")
    add.add_argument("--scope", action="append", default=[], choices=SCOPES, dest="scopes", help="repeatable")
    add.set_defaults(run=_add_client)
    listed = actions.add_parser("list", parents=[store], help="list them, without secrets", allow_abbrev=False)
    listed.set_defaults(run=_list_clients)
    remove = actions.add_parser("remove", parents=[store], help="take one's access away", allow_abbrev=False)
    remove.add_argument("key")
    remove.set_defaults(run=_remove_client)
    return parser


def _add_serve_flags(serve: argparse.ArgumentParser) -> None:
    listen = serve.add_argument_group("where it listens")
    listen.add_argument("--host", default="127.0.0.1", help="address to bind (default 127.0.0.1: this machine only)")
    listen.add_argument("--port", type=int, default=8380, help="default 8380")
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

    job = serve.add_argument_group("what it knows of the job; give both the same")
    job.add_argument(
        "--deliveries", metavar="OUTPUT", help="its --output, a directory or a url, to show what became of records"
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


def _serve(arguments: argparse.Namespace) -> None:
    if (arguments.tls_certificate is None) != (arguments.tls_key is None):
        raise CommandError("--tls_certificate and --tls_key go together")
    if not arguments.secret_env_prefix:
        raise CommandError("--secret_env_prefix is empty: it would open the whole environment to the documents")
    keyring = read_keyring()
    if not keyring:
        raise CommandError(f"there is no key to seal secrets with: set {KEYS} or {KEY_FILE}; see --help")
    store = open_store(arguments.store)
    try:
        # Now, so that a store that does not answer stops the start, and the first request need not wait for a read.
        store.check()
        _run(arguments, _registry(arguments, Service(store, keyring, _rules(arguments))))
    finally:
        store.close()


def _rules(arguments: argparse.Namespace) -> Rules:
    """The job's rules for documents from a service. Each has an organisation here: that of the client who made it."""
    references = References(arguments.secret_env_prefix, arguments.secrets_dir)
    return Rules(compile_query, references, trusted=arguments.trust_references, require_organisation=True)


def _registry(arguments: argparse.Namespace, service: Service) -> Registry:
    statements = StatementBuilder(arguments.actor_home_page, arguments.session_duration_unit)
    samples = SampleDelivery(service.rules, statements, tuple(arguments.allow_networks))
    deliveries = None
    if arguments.deliveries:
        deliveries = RecentDeliveries(arguments.deliveries, hides_inside=bool(arguments.allow_networks))
    return Registry(service, samples, MatchPreview(service.rules, statements), deliveries)


def _run(arguments: argparse.Namespace, registry: Registry) -> None:
    # A thread that computes, such as for a filter or a match against every query, gives way to other requests after
    # half a millisecond. Python's own interval is 5 ms, and a request waits for several: p99 of a read beside a match
    # was 70 ms with it, and is 20 ms with this.
    sys.setswitchinterval(0.0005)
    tls = _tls(arguments.tls_certificate, arguments.tls_key)
    proxies = TrustedProxies(arguments.trusted_proxies)
    config = configured(registry, _limits(arguments), proxies, arguments.host, arguments.port, tls)
    # What uvicorn says at its start knows nothing of our TLS.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logger.info("serving %s://%s:%d", "http" if tls is None else "https", arguments.host, arguments.port)
    uvicorn.Server(config).run()


def _limits(arguments: argparse.Namespace) -> Limits:
    most, asked = most_connections(), arguments.max_connections
    if asked is not None and asked > most:
        raise CommandError(
            f"--max_connections {asked} is more than the {most} that this process can hold: raise its limit of open "
            f"files (ulimit -n) to {asked + OTHER_FILES} or more, or give a lower number"
        )
    connections = asked if asked is not None else usual_limits().connections
    return Limits(connections, arguments.max_connections_per_address, arguments.request_timeout)


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask for that of an encrypted key at the terminal, and wait.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise CommandError(
            f"--tls_certificate {certificate} and --tls_key {key} do not load: {reason or type(error).__name__}"
        ) from None
    return context


def _rotate(arguments: argparse.Namespace) -> None:
    keyring = read_keyring()
    if not keyring:
        raise CommandError(f"there is no key: set {KEYS} or {KEY_FILE}, the new key first")
    store = open_store(arguments.store)
    try:
        print(f"sealed {reseal(store, keyring, 'python -m registry rotate')} documents anew")
    finally:
        store.close()


def _add_client(arguments: argparse.Namespace) -> None:
    for name in ("organisation", "user"):
        if getattr(arguments, name) == "":
            raise CommandError(f"--{name} is empty")
    secret = new_secret()
    client = Client(new_client_key(), arguments.organisation, arguments.user, frozenset(arguments.scopes))
    store = open_store(arguments.store)
    try:
        store.add_client(StoredClient(client, hash_secret(secret)))
    finally:
        store.close()
    print(f"key     {client.key}\nsecret  {secret}\nThe secret is not kept and will not be shown again.")


def _list_clients(arguments: argparse.Namespace) -> None:
    store = open_store(arguments.store)
    try:
        for stored in store.clients():
            client = stored.client
            scopes = ", ".join(sorted(client.scopes)) or "no scope"
            print(f"{client.key}  {client.organisation}  {client.user or '-'}  {stored.created_at}  {scopes}")
    finally:
        store.close()


def _remove_client(arguments: argparse.Namespace) -> None:
    store = open_store(arguments.store)
    try:
        if not store.remove_client(arguments.key):
            raise CommandError(f"there is no client {arguments.key}")
    finally:
        store.close()


def _home_page(text: str) -> str:
    if not is_absolute_iri(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute IRI such as https://example.org")
    return text


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


def _network(text: str) -> str:
    try:
        return str(parse_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
