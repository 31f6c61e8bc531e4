"""Opens pages as somebody who was never here, and notes what goes wrong in them."""

import re
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request, expect

PATIENCE_MS = 30_000  # nothing is measured here, and the machine may be busy
expect.set_options(timeout=PATIENCE_MS)

Picture = dict[str, Any]  # Any: name, type and bytes of a file, as Playwright takes it


class Visits:
    """What a browser is asked to open in one test; each page is in a context of its own."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.wrong: list[str] = []
        self.allowed: list[str] = []
        self.posted: list[Request] = []
        self.cut: list[Request] = []
        self.contexts: list[Any] = []

    def __call__(self, url: str, **options: Any) -> Page:
        """Open an address; options are those of Playwright's contexts."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        context.on("request", lambda request: self._requested(request, url))
        context.on("requestfailed", self._failed)
        page = context.new_page()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.goto(url)
        return page

    def allow(self, pattern: str) -> None:
        """Expect something to go wrong in this test: a regular expression of how it is noted."""
        self.allowed.append(pattern)

    def end(self) -> list[str]:
        """Close everything; return what went wrong unexpectedly."""
        # A new question takes the place of the one before, but nothing cuts off the last one.
        self.wrong += [f"cut off: {one.url}" for one in self.cut if one is self.posted[-1]]
        found = [
            text for text in self.wrong if not any(re.search(one, text) for one in self.allowed)
        ]
        for context in self.contexts:
            context.close()
        return found

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A page that is left or closed cuts off what it asks each second.
        cut = request.failure == "net::ERR_ABORTED"
        if cut and request.method == "POST":
            self.cut.append(request)
        elif not cut:
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def _requested(self, request: Request, url: str) -> None:
        if request.method == "POST":
            self.posted.append(request)
        here, there = urlsplit(url), urlsplit(request.url)
        if there.scheme not in ("blob", "data") and there.netloc != here.netloc:
            self.wrong.append(f"foreign: {request.url}")
