"""The slider: what another threshold would change, in numbers, for one's own image, as commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from visits import Picture, Visits

from exitkit.serve import server

NOW = """() => [
  document.getElementById("recent").textContent,
  document.querySelector("#chart svg").getAttribute("aria-label"),
  [...document.querySelectorAll("#changes tr")].map((row) => row.lastElementChild.textContent),
  ["compute", "ms"].map((axis) => {
    document.getElementById(`axis-${axis}`).click();
    return document.querySelectorAll("#chart .now").length;
  }),
]"""


def cells(page: Page, row: str) -> list[str]:
    found = page.locator("#changes tr", has_text=row).locator("td").all_inner_texts()
    return [text.replace("\u00a0", " ") for text in found]


def ready(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#threshold")).to_be_enabled()


def test_the_slider_changes_numbers_and_the_answer(
    url: str, visit: Visits, file: Callable[..., Picture]
) -> None:
    page = visit(url)
    ready(page)
    page.locator("#file").set_input_files([file("red")])
    expect(page.locator("#verdict")).to_contain_text("not needed")
    assert cells(page, "accuracy")[:3] == ["93.8 %", "93.8 %", "0.0 pts"]
    slider = page.locator("#threshold")
    slider.focus()
    with page.expect_request("**/predict?stream=1&threshold=1"):
        slider.press("End")
    expect(page.locator("#verdict")).to_contain_text("Went all the way")
    assert cells(page, "accuracy")[:3] == ["93.8 %", "100.0 %", "+6.3 pts"]
    assert cells(page, "compute")[:3] == ["45.0 %", "60.0 %", "+15.0 pts"]
    assert cells(page, "leave at exit 2")[:3] == ["37.5 %", "0.0 %", "−37.5 pts"]
    expect(slider).to_have_attribute(
        "aria-valuetext", "threshold 1: 100.00\u00a0% right at 60\u00a0% of the compute"
    )
    expect(page.locator("#value")).to_have_text("1")
    with page.expect_request(lambda request: request.url.endswith("/predict?stream=1")):
        page.locator("#back").click()
    expect(page.locator("#verdict")).to_contain_text("not needed")
    expect(page.locator("#back")).to_be_disabled()


def test_the_curve_has_two_axes_and_the_point_of_now(
    colours: Path, visit: Visits, file: Callable[..., Picture]
) -> None:
    with server(colours, threads=1) as url:
        page = visit(url)
        ready(page)
        chart = page.locator("#chart svg")
        expect(chart).to_contain_text("share of the network without exits")
        page.locator("label", has_text="Milliseconds").click()
        expect(chart).to_contain_text("predicted from times at batch 1")
        expect(chart).to_contain_text("ms")
        expect(chart.locator(".now")).to_have_count(0)
        expect(page.locator("#recent")).to_contain_text("Nothing was asked in the last seconds")
        page.locator("#file").set_input_files([file("red")])
        expect(chart.locator(".now")).to_have_count(1)
        # Read at once: it is a point of the last ten seconds.
        recent, label, rows, marks = page.evaluate(NOW)
        assert marks == [1, 1]
        assert recent.startswith("Measured now: 1 image of the last 10 s")
        assert "expected accuracy from calibrated confidence" in recent
        assert "Measured now: expected accuracy 99.9\u00a0%" in label
        assert rows[0] == "99.9\u00a0%"
        assert rows[1] == "20.0\u00a0%"
        assert rows[-2:] == ["100.0\u00a0%", "0.0\u00a0%"]
        page.close()


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (0.43872398, "0.4387"), (0.99998321, "0.999983"), (1, "1")]
)
def test_thresholds_close_to_one_are_told_apart(
    url: str, visit: Visits, value: float, text: str
) -> None:
    page = visit(url)
    words = "(value) => import('/page/words.js').then((words) => words.threshold(value))"
    assert page.evaluate(words, value) == text


def test_commands_use_the_threshold_and_can_be_copied(url: str, visit: Visits) -> None:
    page = visit(url, permissions=["clipboard-read", "clipboard-write"])
    ready(page)
    expect(page.locator("#command-serve")).to_have_text("exitkit serve colours")
    page.locator("#threshold").press("Home")
    page.locator("#threshold").press("ArrowRight")
    expect(page.locator("#command-serve")).to_have_text("exitkit serve colours --threshold 0.5")
    page.get_by_role("button", name="Copy the command that asks with it").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"curl -F file=@image.png '{url}/predict?threshold=0.5'"


def test_the_command_names_a_threshold_that_is_not_the_bundles(
    colours: Path, visit: Visits
) -> None:
    with server(colours, threshold=0.5, threads=1) as url:
        page = visit(url)
        ready(page)
        expect(page.locator("#command-serve")).to_have_text("exitkit serve colours --threshold 0.5")
        expect(page.locator("#command-ask")).to_have_text(
            f"curl -F file=@image.png '{url}/predict'"
        )
        page.close()


def test_a_command_that_may_not_be_copied_is_selected(url: str, visit: Visits) -> None:
    page = visit(url)
    ready(page)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy the command that serves with it").click()
    expect(page.locator("#copied")).to_contain_text("copy it with the keyboard")
    assert page.evaluate("getSelection().toString()") == "exitkit serve colours"
