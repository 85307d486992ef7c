"""On the worker: the references of forwarders become secrets (forwarders.md section 1)."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from transforms.forwarders import fields
from transforms.forwarders.documents import Documents
from transforms.forwarders.model import Fault, Forwarder, HttpTarget, KinesisTarget
from transforms.forwarders.rules import Rules, load_forwarders
from transforms.forwarders.secrets import References, Secret, SecretError, is_redacted, is_reference

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resolution:
    """The forwarders that can be sent with, and a fault for each reference that cannot be used."""

    forwarders: tuple[Forwarder, ...]
    faults: tuple[Fault, ...]


def resolve(forwarders: Iterable[Forwarder], references: References) -> Resolution:
    """Reads every reference that `forwarders` hold. To be called where records are sent from, never in a dry run.

    Values are judged by the rules that hold for those written in a document: a header must hold no line break
    after it was resolved either.
    """
    resolved: list[Forwarder] = []
    faults: list[Fault] = []
    for forwarder in forwarders:
        resolver = _Resolver(forwarder.id, references)
        target = forwarder.target
        done = resolver.http(target) if isinstance(target, HttpTarget) else resolver.kinesis(target)
        if resolver.faults:
            faults += resolver.faults
        else:
            resolved.append(replace(forwarder, target=done))
    return Resolution(tuple(resolved), tuple(faults))


class ForwardersError(Exception):
    """The forwarders of a run cannot be had on this worker. The text says why, and holds no secret."""


def load_launched(documents: Documents, rules: Rules, digest: str, ids: Collection[str]) -> tuple[Forwarder, ...]:
    """The forwarders `ids` of the documents with `digest`, references unresolved, in the order of the documents.

    The job graph carries only where the documents are, their digest and the ids (section 1): each worker reads them
    again. Raises ForwardersError if they are others by now.
    """
    if documents.digest != digest:
        raise ForwardersError(
            f"the forwarder documents are not those the job was launched with (digest {documents.digest[:12]}, "
            f"not {digest[:12]}): they were edited since, or this worker reads another copy. Launch the job again"
        )
    chosen = [forwarder for forwarder in load_forwarders(documents, rules).forwarders if forwarder.id in ids]
    missing = sorted(set(ids) - {forwarder.id for forwarder in chosen})
    if missing:
        raise ForwardersError(f"forwarders that are refused here and were not at launch: {', '.join(missing)}")
    return tuple(chosen)


def load_on_worker(documents: Documents, rules: Rules, digest: str, ids: Collection[str]) -> tuple[Forwarder, ...]:
    """What `load_launched` gives, ready to send with. ForwardersError also for a reference that cannot be read here."""
    resolution = resolve(load_launched(documents, rules, digest, ids), rules.references)
    if resolution.faults:
        raise ForwardersError("\n".join(map(str, resolution.faults)))
    return resolution.forwarders


class _Resolver:
    """Resolves one forwarder's references and collects what is wrong with them."""

    def __init__(self, forwarder_id: str, references: References) -> None:
        self.forwarder_id = forwarder_id
        self.references = references
        self.faults: list[Fault] = []

    def http(self, target: HttpTarget) -> HttpTarget:
        basic_password = target.basic_password
        return replace(
            target,
            url=self._url(target.url),
            secret=target.secret and self._secret("configuration.secret", target.secret, fields.token),
            basic_password=basic_password
            and self._secret("configuration.basicPassword", basic_password, fields.password),
            headers=tuple(
                (name, self._secret(f"configuration.headers.{name}", value, fields.header_value))
                for name, value in target.headers
            ),
            signing_secrets=tuple(
                self._secret(f"configuration.signingSecret[{index}]", secret, fields.signing_secret)
                for index, secret in enumerate(target.signing_secrets)
            ),
            ca_file=self._file("configuration.caFile", target.ca_file),
            client_certificate=self._file("configuration.clientCertificate", target.client_certificate),
            client_key=self._file("configuration.clientKey", target.client_key),
        )

    def kinesis(self, target: KinesisTarget) -> KinesisTarget:
        key = target.access_key_id
        if key is not None and is_reference(key):
            key = self._secret("kinesisOptions.awsClientKey", Secret(key, pending=True), fields.token).reveal()
        secret = target.secret_access_key
        return replace(
            target,
            access_key_id=key,
            secret_access_key=secret and self._secret("kinesisOptions.awsClientSecret", secret, fields.token),
        )

    def _url(self, url: Secret) -> Secret:
        return self._try("configuration.url", lambda: url.resolved(self._resolve_query), url)

    def _resolve_query(self, url: str) -> str:
        return fields.resolve_query(url, self.references.resolve)

    def _secret(self, path: str, secret: Secret, check: fields.Check) -> Secret:
        if not secret.pending:
            return secret
        resolved = self._try(path, lambda: secret.resolved(self.references.resolve), Secret(""))
        if not self._faulty(path):
            problem = "is a redaction" if is_redacted(resolved.reveal()) else check(resolved.reveal())
            if problem:
                self._fault(path, f"refers to a value that {problem}")
        return resolved

    def _file(self, path: str, file: str | None) -> str | None:
        if file is None or not is_reference(file):
            return file
        return self._try(path, lambda: str(self.references.path(file)), file)

    def _try(self, path: str, resolve: Callable[[], T], otherwise: T) -> T:
        try:
            return resolve()
        except SecretError as error:
            self._fault(path, str(error))
            return otherwise

    def _fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(self.forwarder_id, "on the worker", path, message))

    def _faulty(self, path: str) -> bool:
        return any(fault.field == path for fault in self.faults)
