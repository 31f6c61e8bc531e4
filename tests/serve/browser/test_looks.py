"""For everybody: screen readers (axe), keyboard alone, dark screens, narrow phones, /docs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import javascript
import pytest
from playwright.sync_api import Page, expect
from visits import Picture, Visits

# Elements that stand out of their card, but for what scrolls in a frame of its own.
OUTSIDE = """() => [...document.querySelectorAll(".card")].flatMap((card) => {
  const edge = card.getBoundingClientRect().right;
  return [...card.querySelectorAll("*")].filter((one) => !one.closest(".scroll")
    && one.getBoundingClientRect().right > edge).map((one) => one.outerHTML.slice(0, 80));
})"""
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def axe() -> Path:
    return javascript.packages() / "node_modules" / "axe-core" / "axe.min.js"


def complaints(page: Page, axe: Path) -> list[str]:
    """Return what axe finds, each with the element it is about."""
    page.evaluate(axe.read_text())  # as a tag, the page's policy would keep it out
    found = page.evaluate("axe.run(document, { reporter: 'v2' })")
    assert len(found["passes"]) > 10
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_nothing(
    url: str, visit: Visits, axe: Path, file: Callable[..., Picture], scheme: Any, width: int
) -> None:
    size = {"width": width, "height": 900}
    page = visit(url, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    expect(page.locator("#state")).to_have_text("ready")
    assert complaints(page, axe) == []
    page.locator("#file").set_input_files(
        [file("red"), file("muddy"), {**file("blue"), "buffer": b"no image"}]
    )
    expect(page.locator("#summary")).to_contain_text("1 without an answer")
    page.locator("#seconds summary").click()
    page.locator("#threshold").press("End")
    assert complaints(page, axe) == []
    page.locator("label", has_text="Draw").first.click()
    assert complaints(page, axe) == []


def test_axe_finds_nothing_in_the_documentation(url: str, visit: Visits, axe: Path) -> None:
    page = visit(f"{url}/docs")
    expect(page.locator("#routes details").first).to_be_visible()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert complaints(page, axe) == []


def test_everything_can_be_done_with_the_keyboard(
    url: str, visit: Visits, file: Callable[..., Picture]
) -> None:
    page = visit(url)
    expect(page.locator("#threshold")).to_be_enabled()

    def tab_to(id_: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == id_:
                return
        pytest.fail(f"Tab does not come to #{id_}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    tab_to("by-file")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#by-drawing")).to_be_checked()
    tab_to("sketch")
    outline = "getComputedStyle(document.activeElement.parentElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    with page.expect_request("**/predict**"):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#verdict")).not_to_be_empty()
    tab_to("axis-compute")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#chart svg")).to_contain_text("milliseconds")
    tab_to("threshold")
    with page.expect_request("**/predict?**threshold=**"):
        page.keyboard.press("End")
    tab_to("back")
    page.keyboard.press("Enter")
    expect(page.locator("#threshold")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.locator("#by-drawing").press("ArrowLeft")
        tab_to("file")
        page.keyboard.press("Enter")
    chooser.value.set_files([file("red")])
    expect(page.locator("#headline .label")).to_have_text("red")


def test_a_phone_scrolls_down_only(url: str, visit: Visits, file: Callable[..., Picture]) -> None:
    page = visit(url, viewport=PHONE)
    expect(page.locator("#state")).to_have_text("ready")
    beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(beyond) == 0
    page.locator("#file").set_input_files([file("red", "w" * 80 + ".png"), file("muddy")])
    expect(page.locator("#summary")).to_contain_text("2 images:")
    page.locator("#seconds summary").click()
    with page.expect_request_finished(lambda request: "threshold=1" in request.url):
        page.locator("#threshold").press("End")
    assert page.evaluate(beyond) == 0
    assert page.evaluate(OUTSIDE) == []
    page.locator("label", has_text="Draw").first.click()
    assert page.evaluate(OUTSIDE) == []
    page.goto(f"{url}/docs")
    expect(page.locator("#routes details").first).to_be_visible()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate(beyond) == 0


def test_a_dark_screen_stays_dark(url: str, visit: Visits) -> None:
    def brightness(scheme: Any) -> list[int]:
        page = visit(url, color_scheme=scheme)
        expect(page.locator("#state")).to_have_text("ready")
        colours = page.evaluate(
            """["body", ".card"].map((name) =>
                getComputedStyle(document.querySelector(name)).backgroundColor)"""
        )
        return [int(colour.split("(")[1].split(",")[0]) for colour in colours]

    assert max(brightness("dark")) < 40
    assert min(brightness("light")) > 240


def test_the_documentation_folds_out_every_route(url: str, visit: Visits) -> None:
    page = visit(f"{url}/docs")
    expect(page.locator("#routes summary", has_text="/predict")).to_be_visible()
    routes = page.evaluate("fetch('/openapi.json').then((r) => r.json()).then((t) => t.paths)")
    count = sum(len(verbs) for verbs in routes.values())
    expect(page.locator("#routes details")).to_have_count(count)
    shown = page.locator("#routes").inner_text()
    assert "undefined" not in shown
    assert "[object" not in shown
