"""Forwarder documents, which are Learning Locker's of statement forwarding, and the forwarders that they describe.

Where the job is launched, `load_forwarders(read_documents(files), rules)` gives every forwarder and every fault. On a
worker `load_launched(read_documents(files), rules, digest, ids)` gives those that the job was launched with, and
`resolve_on_worker` their secrets, never in a dry run. The rules are in docs/spec/forwarders.md section 1.
"""

from schemas.delivery import PayloadKind
from transforms.forwarders.documents import Document, Documents, documents_from, read_documents
from transforms.forwarders.model import (
    AuthType,
    CompileQuery,
    Fault,
    Forwarder,
    Forwarders,
    HttpTarget,
    KinesisTarget,
    Rules,
    Service,
)
from transforms.forwarders.resolution import ForwardersError, Resolution, load_launched, resolve, resolve_on_worker
from transforms.forwarders.rules import Checked, check_document, load_forwarders

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
    "read_documents",
    "resolve",
    "resolve_on_worker",
]
