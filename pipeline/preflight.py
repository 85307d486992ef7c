"""Everything about the forwarders that can be known before anything is read: documents, secrets, streams, addresses."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.options import Job, UsageError
from transforms.forwarders import Forwarder, resolve
from transforms.forwarders.secrets import References
from transforms.forwarders.service import is_remote, location_warning
from transforms.forwarders.source import ForwarderSource, ForwardersUnreadableError, launch_rules, read_forwarders
from transforms.matching.statement import DEFAULT_HOME_PAGE
from transforms.sinks.kinesis import StreamLimits
from transforms.sinks.preflight import preflight

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """The forwarders that take part in a run, as documents (references unresolved), and what was noticed.

    `limits` are those of the data streams, by forwarder id. `source` is None in a run without forwarders.
    """

    forwarders: tuple[Forwarder, ...] = ()
    inactive: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    source: ForwarderSource | None = None
    limits: Mapping[str, StreamLimits] = field(default_factory=dict)


@dataclass
class _Findings:
    """Faults by the forwarder they are about (None: of a document without an id), and warnings."""

    faults: list[tuple[str | None, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def choose_forwarders(job: Job, *, on_this_machine: bool) -> Chosen:
    """The forwarders `job` names, checked. on_this_machine: secrets are read and used where the job is launched.

    Logs every warning. Raises UsageError with every fault at once; with `--skip_invalid_forwarders` faulty ones are
    left out instead.
    """
    if job.forwarders is None:
        return Chosen()
    references = References(job.secret_env_prefix, job.secrets_dir)
    trusted = job.trust_references or not is_remote(job.forwarders)
    try:
        found = read_forwarders(
            job.forwarders, launch_rules(references, trusted=trusted, require_organisation=job.require_organisation)
        )
    except ForwardersUnreadableError as error:
        raise UsageError(str(error)) from None
    findings = _Findings(
        [(fault.forwarder_id, str(fault)) for fault in found.faults], [str(warning) for warning in found.warnings]
    )
    if warning := location_warning(job.forwarders):
        findings.warnings.append(warning)
    forwarders = _restricted(job, found.forwarders, found.inactive, findings)
    limits: Mapping[str, StreamLimits] = {}
    if job.delivers:
        limits = _look_ahead(job, forwarders, references, findings, on_this_machine=on_this_machine)
    if job.actor_home_page == DEFAULT_HOME_PAGE and any(forwarder.payload != "record" for forwarder in forwarders):
        findings.warnings.append(
            f"statements name their learners under {DEFAULT_HOME_PAGE}: give --actor_home_page a page of your own"
        )
    for warning in findings.warnings:
        logger.warning("%s", warning)
    if findings.faults and not job.skip_invalid_forwarders:
        raise UsageError("\n".join(text for _, text in findings.faults))
    faulty = {forwarder_id for forwarder_id, _ in findings.faults}
    valid = tuple(forwarder for forwarder in forwarders if forwarder.id not in faulty)
    if not valid:
        skipped = "".join(f"\n{text}" for _, text in findings.faults)
        raise UsageError(f"--forwarders {job.forwarders}: no active, valid forwarder is left{skipped}")
    left_out = [f"left out: {text}" for _, text in findings.faults]
    for text in left_out:
        logger.warning("%s", text)
    source = ForwarderSource(job.forwarders, references, found.digest, tuple(forwarder.id for forwarder in valid))
    return Chosen(valid, found.inactive, (*left_out, *findings.warnings), source, limits)


def _restricted(
    job: Job, forwarders: tuple[Forwarder, ...], inactive: tuple[str, ...], findings: _Findings
) -> tuple[Forwarder, ...]:
    if not job.only_forwarders:
        return forwarders
    ids = [forwarder.id for forwarder in forwarders]
    faulty = [forwarder_id for forwarder_id, _ in findings.faults if forwarder_id is not None]
    for wanted in job.only_forwarders:
        if wanted in inactive:
            raise UsageError(f"--forwarder {wanted}: this forwarder is not active")
        if wanted not in ids and wanted not in faulty:
            nearest = difflib.get_close_matches(wanted, [*ids, *inactive], n=1)
            hint = f"; the nearest id is {nearest[0]}" if nearest else ""
            raise UsageError(f"--forwarder {wanted}: there is no such forwarder{hint}")
    return tuple(forwarder for forwarder in forwarders if forwarder.id in job.only_forwarders)


def _look_ahead(
    job: Job,
    forwarders: tuple[Forwarder, ...],
    references: References,
    findings: _Findings,
    *,
    on_this_machine: bool,
) -> Mapping[str, StreamLimits]:
    """Resolve secrets, describe streams, look up hosts (forwarders.md section 3)."""
    resolution = resolve(forwarders, references)
    for fault in resolution.faults:
        if on_this_machine:
            findings.faults.append((fault.forwarder_id, str(fault)))
        else:
            findings.warnings.append(f"{fault} (could not be checked where the job is launched)")
    checked = preflight(resolution.forwarders, job.allow_networks)
    findings.faults += [(fault.forwarder_id, str(fault)) for fault in checked.faults]
    findings.warnings += [str(warning) for warning in checked.warnings]
    return checked.limits
