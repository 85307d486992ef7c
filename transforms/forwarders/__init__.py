"""Forwarder documents: Learning Locker's statement-forwarding documents, validated (forwarders.md section 1).

Where the job is launched: `load_forwarders(read_documents(files), rules)`. On each worker, and never in a dry run:
`load_on_worker(read_documents(files), rules, digest, ids)`, with the digest and ids of what was launched.
"""

from schemas.delivery import PayloadKind
from transforms.forwarders.documents import Document, Documents, documents_from, read_documents
from transforms.forwarders.model import (
    AuthType,
    Fault,
    Forwarder,
    Forwarders,
    HttpTarget,
    KinesisTarget,
    Service,
)
from transforms.forwarders.resolution import ForwardersError, Resolution, load_launched, load_on_worker, resolve
from transforms.forwarders.rules import Checked, CompileQuery, Rules, check_document, load_forwarders

__all__ = [
    "AuthType",
    "Checked",
    "CompileQuery",
    "Document",
    "Documents",
    "Fault",
    "Forwarder",
    "Forwarders",
    "ForwardersError",
    "HttpTarget",
    "KinesisTarget",
    "PayloadKind",
    "Resolution",
    "Rules",
    "Service",
    "check_document",
    "documents_from",
    "load_forwarders",
    "load_launched",
    "load_on_worker",
    "read_documents",
    "resolve",
]
