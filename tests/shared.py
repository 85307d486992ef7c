"""Where the shared material lies; tests that read it are skipped visibly when it is absent."""

import os
from pathlib import Path

import pytest

SHARED: Path = Path(os.environ.get("SHARED_DIR", Path(__file__).resolve().parents[1] / ".." / "shared"))

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared material at {SHARED}")
