"""Imports Beam without the connectors that this project has no use for, which would take a third of its time.

Beam takes connectors of other systems for optional: where a package of theirs is not installed, it goes on without. So
they are made absent for as long as Beam is imported. Its file systems of other clouds come when they are asked for.
"""

import gc
import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from transforms.s3_clients import share_s3_clients

_FILE_SYSTEMS = (
    "apache_beam.io.aws.s3filesystem",
    "apache_beam.io.azure.blobstoragefilesystem",
    "apache_beam.io.gcp.gcsfilesystem",
    "apache_beam.io.hadoopfilesystem",
)
_NEVER_USED = ("apache_beam.io.gcp.bigquery", "bson")
"""BigQuery, and the driver of MongoDB: the registry and the sources of statements have their own way to it."""

_importing = threading.RLock()
"""Held while Beam is imported. Its modules import each other in circles: two threads that begin at different ones see
modules half made, and with the extra `gcp` the file systems of the one fail."""


def import_beam() -> None:
    """Import Beam, if nobody has yet, without its connectors."""
    with _importing:
        if "apache_beam" not in sys.modules:
            _leave_untold()
            with _absent(*_FILE_SYSTEMS, *_NEVER_USED):
                importlib.import_module("apache_beam")


@cache
def import_beam_file_systems() -> None:
    """Import Beam, if nobody has yet, and all of its file systems whose packages are installed.

    A file system is registered with Beam by its import. Those that are not installed are looked for once, not
    at each file: a look takes half a millisecond.
    """
    with _importing:
        if "apache_beam" not in sys.modules:
            _leave_untold()
            with _absent(*_NEVER_USED):
                importlib.import_module("apache_beam")
        for name in _FILE_SYSTEMS:
            # As Beam does it: of most clouds nothing is installed.
            with suppress(ImportError):
                importlib.import_module(name)
        share_s3_clients()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keeps the garbage collector from looking, over and over, through what imports make: none of it is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _leave_untold() -> None:
    """Keep Beam from telling that it has no driver of MongoDB.

    That logger alone is told so, and for good: what other threads log meanwhile is their own matter.
    """
    logging.getLogger("apache_beam.io.mongodbio").setLevel(logging.ERROR)


@contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Lets the import of modules fail as that of a package that is not installed. Those that are there stay."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is how Python is told so.
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
