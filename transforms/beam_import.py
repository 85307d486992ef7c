"""Imports Beam without the connectors that this project has no use for, which would take a third of its time.

Beam takes connectors of other systems for optional: where a package of theirs is not installed, it goes on without. So
they are made absent for as long as Beam is imported. Its file systems of other clouds come when they are asked for.
"""

import gc
import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_FILE_SYSTEMS = (
    "apache_beam.io.aws.s3filesystem",
    "apache_beam.io.azure.blobstoragefilesystem",
    "apache_beam.io.gcp.gcsfilesystem",
    "apache_beam.io.hadoopfilesystem",
)
_NEVER_USED = ("apache_beam.io.gcp.bigquery", "bson")
"""BigQuery, and the driver of MongoDB: the registry and the sources of statements have their own way to it."""


def import_beam() -> None:
    """Import Beam, if nobody has yet, without its connectors."""
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
    if "apache_beam" not in sys.modules:
        _leave_untold()
        with _absent(*_NEVER_USED):
            importlib.import_module("apache_beam")
    for name in _FILE_SYSTEMS:
        # As Beam does it: of most clouds nothing is installed.
        with suppress(ImportError):
            importlib.import_module(name)
    _share_descriptions_of_aws()


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


def _share_descriptions_of_aws() -> None:
    """Let all sessions of botocore have one reader of the descriptions of AWS's services, which keeps what it has read.

    Beam makes a session and a client for each file that it opens and each directory that it lists. With a reader of its
    own a client takes six times the processor time, and 8 MB for as long as it is not collected.
    """
    with suppress(ImportError):
        session = importlib.import_module("botocore.session")
        vars(session)["create_loader"] = _shared_loader


@cache
def _shared_loader(data_path: str | None = None) -> object:
    """botocore's reader of descriptions. data_path: where else it looks, as `AWS_DATA_PATH` has it."""
    return importlib.import_module("botocore.loaders").create_loader(data_path)


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
