"""On the worker: the references that forwarders hold become secrets (docs/spec/forwarders.md section 1)."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from transforms.forwarders.documents import Documents
from transforms.forwarders.fields import FIELDS
from transforms.forwarders.model import Fault, Forwarder, HttpTarget, KinesisTarget, OAuth2, Rules
from transforms.forwarders.rules import load_forwarders
from transforms.forwarders.secrets import References, Secret, SecretError, is_redacted, is_reference
from transforms.forwarders.urls import resolve_query

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resolution:
    """The forwarders that can be sent with, and a fault for each reference that cannot be used."""

    forwarders: tuple[Forwarder, ...]
    faults: tuple[Fault, ...]


def resolve(forwarders: Iterable[Forwarder], references: References) -> Resolution:
    """Read every secret that the forwarders refer to. Call it where records are sent from, and never in a dry run.

    The rules for what is written in a document hold for what a reference leads to, too: a header's value must not
    hold a line break after it was resolved either.
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
            resolved.append(forwarder if done is target else replace(forwarder, target=done))
    return Resolution(tuple(resolved), tuple(faults))


class ForwardersError(Exception):
    """The forwarders of a run cannot be loaded on this worker. The text says why, and holds no secret."""


def load_launched(documents: Documents, rules: Rules, digest: str, ids: Collection[str]) -> tuple[Forwarder, ...]:
    """The forwarders of a run, read again by a worker, with their references unresolved.

    The job graph carries only where the documents are, their digest and the forwarders' ids
    (docs/spec/forwarders.md section 1).

    Args:
        documents: as the worker has read them.
        rules: those that the documents are to be checked by.
        digest: of the documents that the job was launched with.
        ids: of the forwarders that the job was launched with.

    Returns:
        The forwarders with these ids, in the order of the documents.

    Raises:
        ForwardersError: the documents are not the same any more, or one of the forwarders is refused here.
    """
    if documents.digest != digest:
        raise ForwardersError(
            f"the forwarder documents are not those the job was launched with (digest {documents.digest[:12]}, "
            f"not {digest[:12]}): they were edited since, or this worker reads another copy. Launch the job again"
        )
    wanted = set(ids)
    chosen = [forwarder for forwarder in load_forwarders(documents, rules).forwarders if forwarder.id in wanted]
    missing = sorted(wanted - {forwarder.id for forwarder in chosen})
    if missing:
        raise ForwardersError(f"forwarders that are refused here and were not at launch: {', '.join(missing)}")
    return tuple(chosen)


def resolve_on_worker(launched: Iterable[Forwarder], references: References) -> tuple[Forwarder, ...]:
    """What `load_launched` gives, ready to send with.

    Raises:
        ForwardersError: a reference cannot be read on this worker.
    """
    resolution = resolve(launched, references)
    if resolution.faults:
        raise ForwardersError("\n".join(map(str, resolution.faults)))
    return resolution.forwarders


def _has_references(target: HttpTarget) -> bool:
    """Whether any text of the target is, or holds, a reference. Of thousands of forwarders few have one."""
    secrets: list[Secret | None] = [target.url, target.secret, target.basic_password, *target.signing_secrets]
    secrets += [value for _, value in target.headers]
    if target.oauth2 is not None:
        secrets += [target.oauth2.token_url, target.oauth2.client_secret]
    files = (target.ca_file, target.client_certificate, target.client_key)
    return any(secret is not None and secret.pending for secret in secrets) or any(
        file is not None and is_reference(file) for file in files
    )


class _Resolver:
    """Resolves one forwarder's references and collects what is wrong with them."""

    def __init__(self, forwarder_id: str, references: References) -> None:
        self.forwarder_id = forwarder_id
        self.references = references
        self.faults: list[Fault] = []

    def http(self, target: HttpTarget) -> HttpTarget:
        if not _has_references(target):
            return target
        return replace(
            target,
            url=self._try("configuration.url", lambda: target.url.resolved(self._resolve_query), target.url),
            secret=target.secret and self._secret("configuration.secret", target.secret),
            basic_password=target.basic_password and self._secret("configuration.basicPassword", target.basic_password),
            headers=tuple(
                (name, self._secret("configuration.headers", value, f".{name}")) for name, value in target.headers
            ),
            signing_secrets=tuple(
                self._secret("configuration.signingSecret", secret, f"[{index}]")
                for index, secret in enumerate(target.signing_secrets)
            ),
            oauth2=target.oauth2 and self._oauth2(target.oauth2),
            ca_file=self._file("configuration.caFile", target.ca_file),
            client_certificate=self._file("configuration.clientCertificate", target.client_certificate),
            client_key=self._file("configuration.clientKey", target.client_key),
        )

    def _oauth2(self, oauth2: OAuth2) -> OAuth2:
        url = oauth2.token_url
        return replace(
            oauth2,
            token_url=self._try("configuration.tokenUrl", lambda: url.resolved(self._resolve_query), url),
            client_secret=self._secret("configuration.clientSecret", oauth2.client_secret),
        )

    def kinesis(self, target: KinesisTarget) -> KinesisTarget:
        key, secret = target.access_key_id, target.secret_access_key
        if key is not None and is_reference(key):
            key = self._secret("kinesisOptions.awsClientKey", Secret(key, pending=True)).reveal()
        return replace(
            target,
            access_key_id=key,
            secret_access_key=secret and self._secret("kinesisOptions.awsClientSecret", secret),
        )

    def _resolve_query(self, url: str) -> str:
        return resolve_query(url, self.references.resolve)

    def _secret(self, field: str, secret: Secret, part: str = "") -> Secret:
        """The secret of a field, or of a part of it, read and judged by the field's check."""
        if not secret.pending:
            return secret
        path, check = field + part, FIELDS[field].check
        resolved = self._try(path, lambda: secret.resolved(self.references.resolve), Secret(""))
        if not any(fault.field == path for fault in self.faults):
            text = resolved.reveal()
            problem = "is a redaction" if is_redacted(text) else check(text) if check is not None else None
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
