"""What the project is to those who install it: the wheel, the pinned set, the version, the import contracts."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.paths import ROOT

REQUIREMENTS = ROOT / "requirements"
PACKAGES = ("commands", "pipeline", "transforms", "schemas", "registry")
# The file of requirements/ that each extra of setup.py is pinned by. What bench-peers needs does not fit the others.
PINNED_BY = {
    None: "job.txt",
    "aws": "job.txt",
    "gcp": "gcp.txt",
    "local": "local.txt",
    "bench": "bench.txt",
    "mongodb": "registry.txt",
    "otel": "otel.txt",
    "registry": "registry.txt",
    "test": "test.txt",
}
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The wheel of this tree, built without a network."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(output), str(source)], check=True)  # noqa: S603
    (path,) = output.glob("*.whl")
    with ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel: ZipFile) -> None:
    files = {path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()}
    expected = {str(path.relative_to(ROOT)) for path in files if path.parent.name != "__pycache__"}
    assert {f"{name}/py.typed" for name in PACKAGES} <= expected
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_the_command_is_installed(wheel: ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "session-forwarder = commands.__main__:console" in wheel.read(name).decode().splitlines()


def test_an_index_can_show_what_the_wheel_says_of_itself(wheel: ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


def test_the_changelog_has_a_chapter_for_the_version(metadata: Message) -> None:
    version = Version(metadata["Version"])
    chapters = re.findall(r"^## \[?(Unreleased|[0-9.]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (chapters[0] == "Unreleased") == version.is_devrelease
    released = [Version(chapter) for chapter in chapters if chapter != "Unreleased"]
    assert released == sorted(released, reverse=True)
    assert released[0] < version if version.is_devrelease else released[0] == version


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.name)
def test_every_pin_has_hashes_and_nothing_else(path: Path) -> None:
    """Nothing else: no option that would name the index, or a directory, of the machine that wrote the file."""
    lines = [line for line in _logical_lines(path) if not line.startswith("-r ")]
    assert lines
    for line in lines:
        requirement, *hashes = re.split(r"\s+(?=--)", line)
        assert [clause.operator for clause in Requirement(requirement).specifier] == ["=="], line
        assert hashes, line
        assert all(map(_HASH.fullmatch, hashes)), line


def test_files_that_pin_the_same_package_agree() -> None:
    pins: dict[str, dict[str, set[str]]] = {}
    for path in REQUIREMENTS.glob("*.txt"):
        for line in _logical_lines(path):
            if not line.startswith("-r "):
                pins.setdefault(canonicalize_name(Requirement(line.split(" --")[0]).name), {}).setdefault(
                    path.name, set()
                ).add(line)
    assert len(pins) > 100
    for name, by_file in pins.items():
        assert len(set(map(frozenset, by_file.values()))) == 1, name


@pytest.mark.parametrize("extra", PINNED_BY)
def test_each_extra_is_pinned(extra: str | None, metadata: Message) -> None:
    pinned = _pinned_versions(PINNED_BY[extra])
    due = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    due = [one for one in due if one.marker is None or (extra and one.marker.evaluate({"extra": extra}))]
    assert due
    for requirement in due:
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_no_extra_is_forgotten(metadata: Message) -> None:
    assert {*metadata.get_all("Provides-Extra", [])} == {*filter(None, PINNED_BY), "bench-peers"}


def test_the_build_tools_are_pinned() -> None:
    pinned = _pinned_versions("build.txt")
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]:
        assert pinned[canonicalize_name(Requirement(text).name)] in Requirement(text).specifier


def test_the_contract_about_beam_names_every_folder_of_transforms() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (cores,) = (contract for contract in contracts if contract["id"] == "cores")
    folders = {f"transforms.{path.parent.name}" for path in (ROOT / "transforms").glob("*/__init__.py")}
    assert {*cores["source_modules"]} == folders


def _logical_lines(path: Path) -> list[str]:
    text = path.read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _pinned_versions(name: str) -> dict[str, Version]:
    """The versions that a file pins, with the files it includes, for the Python that runs this."""
    versions: dict[str, Version] = {}
    environment = {**{name: str(value) for name, value in default_environment().items()}, "extra": ""}
    for line in _logical_lines(REQUIREMENTS / name):
        if line.startswith("-r "):
            versions |= _pinned_versions(line.removeprefix("-r "))
            continue
        requirement = Requirement(line.split(" --")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            versions[canonicalize_name(requirement.name)] = Version(pin.version)
    return versions
