"""What the pages about the code say is there: files, tests, versions, and words that stand once."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ARCHITECTURE, GLOSSARY, PINNED = (
    ROOT / "docs" / f"{name}.md" for name in ("architecture", "glossary", "pinned-insides")
)

CONTRIBUTING = ROOT / "CONTRIBUTING.md"

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:\.\./)?(?:[\w.-]+/)+(?:[\w-]+\.\w+)?|\./[\w.]+|[\w-]+\.(?:py|md|toml|sh|xml)")
_VERSION = re.compile(r"([A-Za-z][\w.-]*) (\d+(?:\.\d+)*)")
_OURS = (
    "commands",
    "pipeline",
    "transforms",
    "schemas",
    "registry",
    "local",
    "benchmarks",
    "tests",
    "docs",
    "examples",
)


def named_paths(page: Path) -> list[str]:
    """What stands in code on `page` and is a path of ours, as it is written."""
    words = (word.split(" ")[0] for word in _CODE.findall(page.read_text(encoding="utf-8")))
    paths = [word for word in words if _PATH.fullmatch(word)]
    return [path for path in paths if path.startswith("./") or path.split("/")[0] in _OURS or "/" not in path]


@pytest.mark.parametrize("page", [ARCHITECTURE, GLOSSARY, PINNED, CONTRIBUTING], ids=lambda page: page.stem)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    paths = named_paths(page)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def rows(page: Path) -> list[list[str]]:
    """The rows of the tables of `page`, without heads and rules."""
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rules = {number for number, line in enumerate(lines) if set(line) <= set("|- ")}
    return [row for number, row in enumerate(cells) if not rules & {number, number + 1}]


def test_every_word_of_the_glossary_stands_once_with_its_home() -> None:
    words = [word for row in rows(GLOSSARY) for word in row[0].split(", ")]
    assert len(words) > 60
    assert sorted(set(words)) == sorted(words)
    assert all(len(row) == 3 and _CODE.search(row[2]) for row in rows(GLOSSARY))


def test_each_room_of_the_transforms_is_in_the_picture_and_each_step_too() -> None:
    picture = (ROOT / "docs" / "pictures" / "layers.svg").read_text(encoding="utf-8")
    transforms = ROOT / "transforms"
    rooms = [path.name for path in transforms.iterdir() if (path / "__init__.py").exists()]
    steps = [path.stem for path in transforms.glob("*.py") if path.stem != "__init__"]
    assert [room for room in rooms if f">{room}/<" not in picture] == []
    assert [step for step in steps if not re.search(rf"[> ]{step}[ <]|>transforms/{step}\.py<", picture)] == []


def test_every_pinned_inside_has_its_version_and_a_test_that_is_there() -> None:
    for what, where, versions, breaks, tells in rows(PINNED):
        assert what
        assert _CODE.search(where)
        assert breaks
        assert _VERSION.search(versions), what
        file = ""
        for word in _CODE.findall(tells):
            file = word if word.startswith("tests/") else file
            if word.startswith("test_"):
                assert f"def {word}(" in (ROOT / file).read_text(encoding="utf-8"), word


def test_the_versions_of_the_pinned_insides_are_those_in_use() -> None:
    """A version that moves is a reason to look at its rows again, and then to write the new one there."""
    pom = (ROOT / "local" / "flink" / "pom.xml").read_text(encoding="utf-8")
    in_use = {
        "CPython": re.findall(r'target-version = "py3(\d+)"', (ROOT / "pyproject.toml").read_text())[0],
        "Java": re.findall(r"<maven.compiler.source>(\d+)<", pom)[0],
        "beam.version": re.findall(r"<beam.version>([\d.]+)<", pom)[0],
    }
    in_use["CPython"] = f"3.{in_use['CPython']}"
    said = {pair for row in rows(PINNED) for pair in _VERSION.findall(row[2])}
    assert len(said) > 10
    assert {(name, in_use.get(name) or version(name)) for name, _ in said} == said
