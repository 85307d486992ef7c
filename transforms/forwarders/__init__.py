"""Forwarder documents, which are Learning Locker's of statement forwarding, and the forwarders that they describe.

Where the job is launched, `load_forwarders(read_documents(files), rules)` gives every forwarder and every fault. On a
worker, and never in a dry run, `load_on_worker(read_documents(files), rules, digest, ids)` gives those that the job was
launched with, and their secrets. The rules are in docs/spec/forwarders.md section 1.
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
from transforms.forwarders.resolution import ForwardersError, Resolution, load_launched, load_on_worker, resolve
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
    "load_on_worker",
    "read_documents",
    "resolve",
]
