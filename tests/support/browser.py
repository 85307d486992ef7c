"""The page in a real browser: headless Chromium, the one on PATH or the program that CHROMIUM names.

Set SCREENSHOTS to a directory to have a look at the views that tests visit.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A browser that was named and is not there is a mistake, which its start tells.
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

MISSING = (
    "no browser driver: pip install playwright"
    if importlib.util.find_spec("playwright") is None
    else "no browser on PATH: apt-get install chromium, or set CHROMIUM to the program"
    if CHROMIUM is None
    else ""
)
"""Why no page can be opened here; empty if one can."""


_OF_COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe-core that go by colours."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's. As long as it is there, this thread can run no event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def axe_core() -> str:
    """The script of axe-core."""
    source = importlib.util.find_spec("axe_playwright_python")
    assert source is not None, "no axe-core: pip install axe-playwright-python"
    assert source.origin is not None
    return Path(source.origin).with_name("axe.min.js").read_text(encoding="utf-8")


class Visit:
    """A page that is open, and everything that went wrong in it.

    Attributes:
        page: playwright's.
        address: of the service, such as http://127.0.0.1:40001.
        wrong: what the page's scripts raised, and what the browser complained of.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.wrong: list[str] = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if self._is_wrong(message) else None)

    @staticmethod
    def _is_wrong(message: Any) -> bool:
        # The browser itself notes every answer that is not a 2xx.
        return message.type == "error" and "Failed to load resource" not in message.text

    def go(self, path: str) -> None:
        """Load an address of the service, as from a bookmark, and wait until its view is shown."""
        self.page.goto(self.address + path)
        self.settled()

    def follow(self, path: str) -> None:
        """Go to an address of the page as a link in it does, and wait until its view is shown."""
        self.page.evaluate(
            """path => {
                const link = Object.assign(document.createElement("a"), { href: path });
                document.body.append(link);
                link.click();
                link.remove();
            }""",
            path,
        )
        self.page.wait_for_url(self.address + path)
        self.settled()

    def settled(self) -> None:
        """Wait until the view of the page's address is shown."""
        self.page.wait_for_selector("html:not([data-busy]) main > .view")

    def sign_in(self, credentials: tuple[str, str]) -> None:
        """Sign in with key and secret, in the form that is shown."""
        self.page.fill("#sign-in [name=key]", credentials[0])
        self.page.fill("#sign-in [name=secret]", credentials[1])
        self.page.click("#sign-in button")

    def look(self, name: str, *, whole: bool = True) -> None:
        """Keep a picture of the page, or of the window alone, where SCREENSHOTS says."""
        directory = os.environ.get("SCREENSHOTS")
        if directory:
            self.page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=whole)

    def field(self, name: str) -> Any:
        """The control of a forwarder's field, by its path."""
        return self.page.locator(f'[name="{name}"]')

    def fault(self, name: str) -> str:
        """What is said to be wrong with a field."""
        text: str = self.page.locator(f'.field:has([name="{name}"]) .fault').inner_text()
        return text

    def violations(self) -> list[str]:
        """The rules of accessibility that the page breaks as it is now, in light and in dark, by axe-core."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe_core())
        self.page.emulate_media(color_scheme="light")
        found = self.page.evaluate("axe.run(document)")["violations"]
        self.page.emulate_media(color_scheme="dark")
        # What else there is in the page is the same in both.
        found += self.page.evaluate("rules => axe.run(document, { runOnly: rules })", _OF_COLOURS)["violations"]
        self.page.emulate_media(color_scheme="light")
        return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
