"""The image for workers, as far as it can be judged without a container engine."""

import os
import re
import shutil
import subprocess
import sys
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build is sent, in a directory: `.dockerignore` refuses everything, then lets some names in."""
    pytest.importorskip("setuptools")
    first, *rest = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    context = tmp_path_factory.mktemp("context")
    for name in (line.removeprefix("!") for line in rest if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, context / name)
    return context


def setup(context: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "setup.py", "--quiet", *arguments], cwd=context, check=True)  # noqa: S603


@pytest.fixture(scope="module")
def metadata(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Message:
    """The package's, as an installer reads them."""
    place = tmp_path_factory.mktemp("metadata")
    setup(context, "egg_info", "--egg-base", str(place))
    (found,) = place.glob("*.egg-info/PKG-INFO")
    return Parser().parsestr(found.read_text())


def test_its_beam_and_python_are_those_of_the_pinned_set(metadata: Message) -> None:
    image = re.search(r"^FROM apache/beam_python(\d\.\d+)_sdk:(\S+)$", DOCKERFILE, re.MULTILINE)
    pinned = re.search(r"^apache-beam==([\d.]+)", (ROOT / "requirements/job.txt").read_text(), re.MULTILINE)
    assert image is not None
    assert pinned is not None
    assert image[2] == pinned[1]
    assert metadata["Requires-Python"] == f">={image[1]}"


def test_its_sets_are_files_of_the_pinned_set_that_a_build_is_sent(context: Path) -> None:
    sets = re.search(r'^ARG SETS="(.+)"$', DOCKERFILE, re.MULTILINE)
    assert sets is not None
    assert all((context / "requirements" / f"{name}.txt").is_file() for name in ("build", *sets[1].split()))


def test_the_package_builds_of_what_a_build_is_sent_and_needs_nothing_else(context: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    setup(context, "build", "--build-lib", str(built), "--build-base", str(tmp_path / "base"))
    assert (built / "schemas" / "receipt.avsc").is_file()
    assert (built / "registry" / "page" / "page.html").is_file()
    load = "import pipeline.run, registry.command; print(pipeline.__file__, registry.__file__)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-c", load],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert all(file.startswith(str(built)) for file in done.stdout.split())
