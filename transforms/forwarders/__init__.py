"""Forwarder documents: Learning Locker's statement-forwarding documents, validated (forwarders.md section 1).

documents = read_documents({"forwarders.json": data})
loaded = load_forwarders(documents, Rules(compile_query))      # where the job is launched, and on each worker
ready = resolve(loaded.forwarders, references)                 # on each worker, never in a dry run
"""

from schemas.delivery import Payload
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
from transforms.forwarders.resolution import Resolution, resolve
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
    "HttpTarget",
    "KinesisTarget",
    "Payload",
    "Resolution",
    "Rules",
    "Service",
    "check_document",
    "documents_from",
    "load_forwarders",
    "read_documents",
    "resolve",
]
