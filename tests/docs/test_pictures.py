"""The pictures of the documentation are what their text says, and a page shows each."""

import importlib.util
from collections.abc import Callable
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.support.paths import ROOT

PLACE = ROOT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"
WIDEST, WIDEST_BOLD = 0.52, 0.58
"""A letter's width as a part of its size, on average, in the widest of the fonts that a reader may have."""


def _drawer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", PLACE / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PICTURES: dict[str, Callable[[], str]] = _drawer().PICTURES


def test_every_picture_is_drawn() -> None:
    assert {path.name for path in PLACE.glob("*.svg")} == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_its_text_draws_it(name: str) -> None:
    assert (PLACE / name).read_text(encoding="utf-8") == PICTURES[name](), "run: python docs/pictures/draw.py"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_says_what_it_shows_and_its_text_fits(name: str) -> None:
    root = ElementTree.fromstring(PICTURES[name]())  # noqa: S314 - our own
    assert root.findtext(f"{SVG}title")
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [
        tuple(float(box.attrib[side]) for side in ("x", "y", "width", "height")) for box in root.iter(f"{SVG}rect")
    ]
    assert boxes
    assert all(x >= 0 and y >= 0 and x + wide <= width and y + high <= height for x, y, wide, high in boxes)
    for text in root.iter(f"{SVG}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        letter = float(text.attrib["font-size"]) * (WIDEST_BOLD if "font-weight" in text.attrib else WIDEST)
        half = len(text.text or "") * letter / 2
        around = [(left, wide) for left, top, wide, high in boxes if left < x < left + wide and top < y < top + high]
        left, wide = around[0] if around else (0.0, width)
        assert left <= x - half, text.text
        assert x + half <= left + wide, text.text


@pytest.mark.parametrize("name", PICTURES)
def test_a_page_shows_the_picture(name: str) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"pictures/{name})" in page.read_text(encoding="utf-8") for page in pages)
