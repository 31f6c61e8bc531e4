"""A real browser before a real server: Debian's chromium, driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from visits import Picture, Visits

FLAGS = (
    "--no-sandbox",  # there is none for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


# Not of the whole session: while Playwright is there, no other test could run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("the page is looked at in chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    """Return what opens pages; errors, failed and foreign requests fail the test at its end."""
    visits = Visits(browser)
    yield visits
    assert visits.end() == []


@pytest.fixture
def file(paint: Callable[..., bytes]) -> Callable[..., Picture]:
    """Return what makes an image file: red leaves at exit 2, muddy green goes on to exit 4."""
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "muddy": (120, 140, 130)}

    def make(colour: str, name: str = "") -> Picture:
        named = name or f"{colour}.png"
        return {"name": named, "mimeType": "image/png", "buffer": paint(*colours[colour])}

    return make
