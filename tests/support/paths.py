"""Directories that tests need: the checkout, and the material beside it that is not part of the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: where `python -m pipeline` is started."""

SHARED = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))
"""Real activity and public cases that some tests read; SHARED_DIR names another place."""

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
