"""The tools that judge what is in deploy/. `deploy/check.sh --tools` puts them into .deploy-tools."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
TOOLS = ROOT / ".deploy-tools"
SCHEMAS = TOOLS / "schemas"


def tool(name: str) -> str:
    """The path of a tool, from .deploy-tools or the PATH. The test is skipped where there is none."""
    found = shutil.which(name, path=f"{TOOLS / 'bin'}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is absent: deploy/check.sh --tools")
    return found


def said(*command: str | Path, text: str | None = None, status: int = 0, cwd: Path | None = None) -> str:
    """What a command says. The test fails if it ends with another status."""
    done = subprocess.run(  # noqa: S603
        command, input=text, capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
