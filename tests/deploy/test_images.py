"""The images, as far as they can be judged without a container engine. `deploy/rehearse.sh` goes further, as root."""

import os
import re
import shutil
import subprocess
import sys
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.deploy.tools import said, tool
from tests.support.paths import ROOT

FILE = ROOT / "deploy/Dockerfile"
DOCKERFILE = FILE.read_text()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build is sent, in a directory: the ignore file refuses everything, then lets some names in."""
    pytest.importorskip("setuptools")
    first, *rest = (ROOT / "deploy/Dockerfile.dockerignore").read_text().split()
    assert first == "*"
    context = tmp_path_factory.mktemp("context")
    for name in (line.removeprefix("!") for line in rest if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (context / name).parent.mkdir(exist_ok=True)
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
    image = re.search(r"^FROM apache/beam_python(\d\.\d+)_sdk:(\S+) AS worker$", DOCKERFILE, re.MULTILINE)
    pinned = re.search(r"^apache-beam==([\d.]+)", (ROOT / "requirements/job.txt").read_text(), re.MULTILINE)
    assert image is not None
    assert pinned is not None
    assert image[2] == pinned[1]
    assert metadata["Requires-Python"] == f">={image[1]}"
    # A launcher and its workers are of one version of Python.
    assert f"ARG PYTHON={image[1]}\n" in DOCKERFILE


def test_its_sets_are_files_of_the_pinned_set_that_a_build_is_sent(context: Path) -> None:
    named = re.findall(r'^ARG (?:WORKER_)?SETS="(.+)"$', DOCKERFILE, re.MULTILINE)
    sets = {name for listed in named for name in listed.split()}
    assert sets == {"job", "otel", "registry"}
    assert all((context / "requirements" / f"{name}.txt").is_file() for name in ("build", *sets))


def test_what_is_copied_is_what_a_build_is_sent(context: Path) -> None:
    copied = re.findall(r"^COPY (?:--chmod=\d+ )?(?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert len(copied) > 5
    assert [name for name in copied if not (context / name).exists()] == []


def test_nobody_is_root_in_the_images_that_are_started() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    bases = {stage.split()[2]: stage for stage in stages}
    assert "USER 10001:10001" in bases["runtime"]
    for name in ("job", "registry"):
        assert bases[name].startswith("runtime ")
        assert "USER" not in bases[name]
        assert "ENTRYPOINT" in bases[name]
    assert "HEALTHCHECK" in bases["registry"]


def test_the_linter_finds_no_fault() -> None:
    assert said(tool("hadolint"), FILE) == ""


def test_the_package_builds_of_what_a_build_is_sent_and_needs_nothing_else(context: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    setup(context, "build", "--build-lib", str(built), "--build-base", str(tmp_path / "base"))
    assert (built / "schemas" / "receipt.avsc").is_file()
    assert (built / "registry" / "page" / "page.html").is_file()
    assert (built / "registry" / "page" / "views" / "tester.js").is_file()
    # What the command `session-forwarder` imports, too.
    load = "import commands.__main__, pipeline.run, registry.command as r; print(pipeline.__file__, r.__file__)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-c", load],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert all(file.startswith(str(built)) for file in done.stdout.split())
