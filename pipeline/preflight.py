"""The checks of forwarders before anything is read: their documents, secrets, streams and addresses."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.options import Job
from pipeline.usage import UsageError
from transforms.forwarders import Forwarder, Forwarders, HttpTarget, resolve
from transforms.forwarders.documents import digest_of
from transforms.forwarders.secrets import References
from transforms.forwarders.service import is_remote, location_warning
from transforms.forwarders.source import ForwarderSource, ForwardersUnreadableError, launch_rules, read_forwarders
from transforms.matching.statement import DEFAULT_HOME_PAGE
from transforms.sinks.data_streams import StreamLimits
from transforms.storage import local_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """The forwarders that take part in a run, and what was noticed about them.

    Attributes:
        forwarders: those that take part. Their secrets may still be references.
        inactive: the ids of documents that are not active.
        warnings: all that was logged, with the faults of forwarders that were left out.
        source: where workers read these forwarders; None in a run without forwarders.
        limits: what each data stream takes, by forwarder id.
        digest: of their documents; None without forwarders.
    """

    forwarders: tuple[Forwarder, ...] = ()
    inactive: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    source: ForwarderSource | None = None
    limits: Mapping[str, StreamLimits] = field(default_factory=dict)
    digest: str | None = None


@dataclass
class _Findings:
    """What the checks have come to so far.

    Attributes:
        faults: for each fault the forwarder's id, None if its document has no usable one, and the text.
        warnings: their texts.
        usage: what the command line has wrong about forwarders.
    """

    faults: list[tuple[str | None, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    usage: list[str] = field(default_factory=list)


def choose_forwarders(job: Job, *, on_this_machine: bool) -> Chosen:
    """Read and check the forwarders that a job names. Every warning is logged.

    Args:
        job: what to run.
        on_this_machine: whether the workers run where the job is launched, so that secrets must be there.

    Raises:
        UsageError: with all faults at once. With `--skip_invalid_forwarders` the faulty ones are left out instead,
            unless none would be left.
    """
    if job.forwarders is None:
        return Chosen()
    references = References(job.secret_env_prefix, job.secrets_dir)
    trusted = job.trust_references or not is_remote(job.forwarders)
    try:
        documents = read_forwarders(
            job.forwarders,
            launch_rules(
                references,
                trusted=trusted,
                require_organisation=job.require_organisation,
                kinds=job.window.kinds,
            ),
        )
    except ForwardersUnreadableError as error:
        raise UsageError(str(error)) from None
    digest = _digest(job, documents)
    if job.forwarder_documents not in (None, digest):
        raise UsageError(
            f"--forwarder_documents {job.forwarder_documents}: the documents are others by now ({digest}): "
            "look at a new plan first"
        )
    findings = _Findings(
        [(fault.forwarder_id, str(fault)) for fault in documents.faults],
        [str(warning) for warning in documents.warnings],
    )
    if warning := location_warning(job.forwarders):
        findings.warnings.append(warning)
    forwarders = _restricted(job, documents.forwarders, documents.inactive, findings)
    limits: Mapping[str, StreamLimits] = {}
    if job.delivers:
        limits = _look_ahead(job, forwarders, references, findings, on_this_machine=on_this_machine)
    builds_statements = job.window.kinds != ("statement",) and any(each.payload != "record" for each in forwarders)
    if builds_statements and job.actor_home_page == DEFAULT_HOME_PAGE:
        findings.warnings.append(
            f"statements name their learners under {DEFAULT_HOME_PAGE}: give --actor_home_page a page of your own"
        )
    _look_at_attachments(job, forwarders, findings, on_this_machine=on_this_machine)
    for warning in findings.warnings:
        logger.warning("%s", warning)
    refused = [text for _, text in findings.faults] if not job.skip_invalid_forwarders else []
    if refused or findings.usage:
        raise UsageError("\n".join([*findings.usage, *refused]))
    faulty = {forwarder_id for forwarder_id, _ in findings.faults}
    valid = tuple(forwarder for forwarder in forwarders if forwarder.id not in faulty)
    if not valid:
        skipped = "".join(f"\n{text}" for _, text in findings.faults)
        raise UsageError(f"--forwarders {job.forwarders}: no active, valid forwarder is left{skipped}")
    left_out = [f"left out: {text}" for _, text in findings.faults]
    for text in left_out:
        logger.warning("%s", text)
    source = ForwarderSource(job.forwarders, references, documents.digest, tuple(forwarder.id for forwarder in valid))
    source.keep(valid, documents.queries.values())
    return Chosen(valid, documents.inactive, (*left_out, *findings.warnings), source, limits, digest)


def _digest(job: Job, documents: Forwarders) -> str:
    """The digest of the documents that a run goes by. An edit of others than those of `--forwarder` does not count."""
    if not job.only_forwarders:
        return documents.digest
    return digest_of(digest for id_, digest in documents.digests.items() if id_ in job.only_forwarders)


def _look_at_attachments(
    job: Job, forwarders: tuple[Forwarder, ...], findings: _Findings, *, on_this_machine: bool
) -> None:
    """Find a directory that is not there, and forwarders that send attachments in a run that knows of no data."""
    if job.attachments is not None:
        directory = local_path(job.attachments)
        if on_this_machine and directory is not None and not directory.is_dir():
            findings.usage.append(f"--attachments {job.attachments}: there is no such directory")
        return
    if not job.delivers or "statement" not in job.window.kinds or any("attachments=true" in url for url in job.inputs):
        return
    findings.warnings += [
        f"forwarder {forwarder.id}: sendAttachments is set, and no --attachments says where data is: a "
        "statement with an attachment that has no fileUrl becomes a dead letter (attachment_missing)"
        for forwarder in forwarders
        if isinstance(forwarder.target, HttpTarget) and forwarder.target.send_attachments
    ]


def _restricted(
    job: Job, forwarders: tuple[Forwarder, ...], inactive: tuple[str, ...], findings: _Findings
) -> tuple[Forwarder, ...]:
    if not job.only_forwarders:
        return forwarders
    ids = [forwarder.id for forwarder in forwarders]
    faulty = [forwarder_id for forwarder_id, _ in findings.faults if forwarder_id is not None]
    for wanted in job.only_forwarders:
        if wanted in inactive:
            findings.usage.append(f"--forwarder {wanted}: this forwarder is not active")
        elif wanted not in ids and wanted not in faulty:
            nearest = difflib.get_close_matches(wanted, [*ids, *inactive], n=1)
            hint = f"; the nearest id is {nearest[0]}" if nearest else ""
            findings.usage.append(f"--forwarder {wanted}: there is no such forwarder{hint}")
    return tuple(forwarder for forwarder in forwarders if forwarder.id in job.only_forwarders)


def _look_ahead(
    job: Job,
    forwarders: tuple[Forwarder, ...],
    references: References,
    findings: _Findings,
    *,
    on_this_machine: bool,
) -> Mapping[str, StreamLimits]:
    """Resolve secrets and check the targets (docs/spec/forwarders.md section 3); returns the streams' limits."""
    resolution = resolve(forwarders, references)
    for fault in resolution.faults:
        if on_this_machine:
            findings.faults.append((fault.forwarder_id, str(fault)))
        else:
            findings.warnings.append(f"{fault} (could not be checked where the job is launched)")
    # Late, because it brings the clients of AWS and of HTTP: what is wrong in a document is told before.
    from transforms.sinks.preflight import preflight

    checked = preflight(resolution.forwarders, job.allow_networks)
    findings.faults += [(fault.forwarder_id, str(fault)) for fault in checked.faults]
    findings.warnings += [str(warning) for warning in checked.warnings]
    return checked.limits
