"""A headless Chromium, and what a page does in it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")

#: It asks nobody for anything by itself; as root, it runs without a sandbox only.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Far more than a page takes.
DEADLINE_MS = 60_000

DRAWN = "document.documentElement.dataset.charts === 'drawn'"


@contextlib.contextmanager
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_ARGUMENTS, timeout=DEADLINE_MS
        )
        yield browser
        browser.close()


class Look:
    """A look at a page that is a file; what it says and asks for is kept."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(DEADLINE_MS)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(DRAWN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def box(self, selector: str) -> dict[str, float]:
        found = self.page.locator(selector).first.bounding_box()
        assert found is not None, selector
        return dict(found)

    def style(self, selector: str, name: str) -> str:
        """Return a style as it is computed."""
        return str(
            self.page.locator(selector).first.evaluate(
                "(element, name) => getComputedStyle(element)[name]", name
            )
        )
