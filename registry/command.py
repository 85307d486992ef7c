"""The command line of the service: `python -m registry serve | key | rotate | client`."""

import argparse
import logging
import sys
from collections.abc import Sequence

import uvicorn

from registry.access import SCOPES, Client
from registry.app import build
from registry.credentials import StoredClient, hash_secret, new_client_key, new_secret
from registry.deliveries import RecentDeliveries
from registry.keyring import KEY_FILE, KEYS, KeyringError, new_key, read_keyring
from registry.matching import MatchPreview
from registry.sample_delivery import SampleDelivery
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
        metavar="ADDRESS",
        help="a proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; it must set them itself",
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
        help="a private network that samples of HTTP forwarders may reach; repeatable",
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
    deliveries = RecentDeliveries(arguments.deliveries) if arguments.deliveries else None
    return Registry(service, samples, MatchPreview(service.rules, statements), deliveries)


def _run(arguments: argparse.Namespace, registry: Registry) -> None:
    # A thread that computes, such as for a filter or a match against every query, gives way to other requests after
    # half a millisecond. Python's own interval is 5 ms, and a request waits for several: p99 of a read beside a match
    # was 70 ms with it, and is 20 ms with this.
    sys.setswitchinterval(0.0005)
    uvicorn.run(
        build(registry),
        host=arguments.host,
        port=arguments.port,
        ssl_certfile=arguments.tls_certificate,
        ssl_keyfile=arguments.tls_key,
        # Uvicorn would believe such headers from this machine. Here only a proxy that was named is believed.
        proxy_headers=arguments.trusted_proxy is not None,
        forwarded_allow_ips=arguments.trusted_proxy or "",
        server_header=False,
        # The application logs a line of its own for each request, without the query.
        access_log=False,
        log_config=None,
    )


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


def _network(text: str) -> str:
    try:
        return str(parse_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
