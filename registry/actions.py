"""What the commands of the service do. Each takes the flags that `registry.command` has read."""

import argparse
import logging
import ssl
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import uvicorn

from registry.access import Client
from registry.credentials import StoredClient, hash_secret, new_client_key, new_secret
from registry.deliveries import RecentDeliveries
from registry.door import OTHER_FILES, Limits, most_connections, usual_limits
from registry.health import Health
from registry.jobs import Jobs, JobsConfig
from registry.keyring import KEY_FILE, KEYS, new_key, read_keyring
from registry.matching import MatchPreview
from registry.metrics import Metrics
from registry.proxies import TrustedProxies
from registry.query_tests import QueryTests
from registry.recent_records import RecentRecords
from registry.records import Records
from registry.sample_delivery import SampleDelivery
from registry.server import configured
from registry.service import Service
from registry.stores.base import reseal
from registry.stores.open import open_store
from registry.usage import CommandError
from registry.web import Registry
from transforms.forwarders import Rules
from transforms.forwarders.secrets import References
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query

logger = logging.getLogger(__name__)


def serve(arguments: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    if (arguments.tls_certificate is None) != (arguments.tls_key is None):
        raise CommandError("--tls_certificate and --tls_key go together")
    if not arguments.secret_env_prefix:
        raise CommandError("--secret_env_prefix is empty: it would open the whole environment to the documents")
    for flag in ("job_metrics", "jobs"):
        if getattr(arguments, flag) is not None and not arguments.deliveries:
            raise CommandError(f"--{flag} is of the job that writes to --deliveries: name that, too")
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
    matcher = MatchPreview(service.rules, statements)
    tests = QueryTests(service.rules, statements, matcher)
    idle = timedelta(minutes=arguments.session_idle)
    metrics = Metrics(tuple(arguments.metrics_networks))
    registry = Registry(service, samples, matcher, tests, metrics=metrics, session_idle=idle)
    if not arguments.deliveries:
        return registry
    output, hides_inside = arguments.deliveries, bool(arguments.allow_networks)
    return replace(
        registry,
        deliveries=RecentDeliveries(output, hides_inside=hides_inside),
        recent=RecentRecords(output),
        records=Records(output, hides_inside=hides_inside),
        health=Health(output, metrics=arguments.job_metrics, hides_inside=hides_inside),
        jobs=_jobs(arguments, hides_inside),
    )


def _jobs(arguments: argparse.Namespace, hides_inside: bool) -> Jobs | None:
    if arguments.jobs is None:
        return None
    config = JobsConfig.read(arguments.jobs, arguments.deliveries)
    return Jobs(config, Path(arguments.jobs_dir), hides_inside=hides_inside)


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
    if registry.health is not None:
        registry.health.start()
    try:
        uvicorn.Server(config).run()
    finally:
        if registry.health is not None:
            registry.health.stop()
        if registry.jobs is not None:
            registry.jobs.close()


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


def key(_: argparse.Namespace) -> None:
    """Print a new key for sealing secrets."""
    print(new_key())


def rotate(arguments: argparse.Namespace) -> None:
    """Seal every secret with the first key."""
    keyring = read_keyring()
    if not keyring:
        raise CommandError(f"there is no key: set {KEYS} or {KEY_FILE}, the new key first")
    store = open_store(arguments.store)
    try:
        print(f"sealed {reseal(store, keyring, 'python -m registry rotate')} documents anew")
    finally:
        store.close()


def add_client(arguments: argparse.Namespace) -> None:
    """Make a client, and print its key and secret."""
    for name in ("organisation", "user", "name", "organisation_name"):
        if getattr(arguments, name) == "":
            raise CommandError(f"--{name} is empty")
    secret = new_secret()
    client = Client(new_client_key(), arguments.organisation, arguments.user, frozenset(arguments.scopes))
    store = open_store(arguments.store)
    try:
        store.add_client(StoredClient(client, hash_secret(secret), name=arguments.name or ""))
        if arguments.organisation_name is not None:
            store.name_organisation(client.organisation, arguments.organisation_name)
    finally:
        store.close()
    print(f"key     {client.key}\nsecret  {secret}\nThe secret is not kept and will not be shown again.")


def list_clients(arguments: argparse.Namespace) -> None:
    """Print the clients, without secrets."""
    store = open_store(arguments.store)
    try:
        for stored in store.clients():
            client = stored.client
            scopes = ", ".join(sorted(client.scopes)) or "no scope"
            known = client.key, client.organisation, client.user or "-", stored.created_at, scopes, stored.name
            print("  ".join(known).rstrip())
    finally:
        store.close()


def remove_client(arguments: argparse.Namespace) -> None:
    """Take a client's access away."""
    store = open_store(arguments.store)
    try:
        if not store.remove_client(arguments.key):
            raise CommandError(f"there is no client {arguments.key}")
    finally:
        store.close()
