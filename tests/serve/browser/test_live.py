"""Live numbers: charts of the last minute, of the model that was chosen."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect
from visits import Picture, Visits

from exitkit import bundle
from exitkit.policy.policy import Policy
from exitkit.serve import server


def test_charts_and_numbers_follow_real_requests(
    colours: Path, visit: Visits, paint: Callable[..., bytes]
) -> None:
    with server(colours, threads=1) as url:
        page = visit(url)
        expect(page.locator("#chart-requests")).to_contain_text("no requests in the last minute")
        expect(page.locator("#live-p50")).to_have_text("–")
        for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0), (120, 140, 130)):
            httpx.post(f"{url}/predict", files={"file": paint(*colour)}).raise_for_status()
        expect(page.locator("#live-answered")).to_have_text("4")
        expect(page.locator("#live-p50")).to_contain_text("ms")
        expect(page.locator("#live-saved")).to_have_text("70.0\u00a0%")
        stages = page.locator("#stages li")
        expect(stages.nth(0)).to_contain_text("75.0\u00a0% · 3")
        expect(stages.nth(1)).to_contain_text("25.0\u00a0% · 1")
        expect(stages.nth(0)).to_contain_text("0 waiting")
        for chart in ("requests", "latency", "exits"):
            expect(page.locator(f"#chart-{chart} svg")).not_to_contain_text("no requests")
        label = page.locator("#chart-exits svg").get_attribute("aria-label")
        assert label is not None
        assert label.endswith("exit 2 75\u00a0%, exit 4 25\u00a0%.")
        page.locator("#seconds summary").click()
        rows = page.locator("#seconds-rows tr")
        expect(rows).to_have_count(60)
        column = page.locator("#seconds-rows td:nth-child(3)").all_inner_texts()
        assert sum(map(int, column)) == 4
        page.close()


def test_nothing_is_asked_while_nobody_looks(url: str, visit: Visits) -> None:
    page = visit(url)
    expect(page.locator("#state")).to_have_text("ready")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()  # from here on, time passes when it is told to
    page.reload()
    expect(page.locator("#state")).to_have_text("ready")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })"
    )
    page.clock.run_for(1500)
    asked.clear()
    page.clock.run_for(10_000)
    assert asked == []
    with page.expect_request("**/stats"):
        page.evaluate(
            "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
        )


def test_another_model_can_be_chosen(
    colours: Path, tmp_path: Path, visit: Visits, file: Callable[..., Picture]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(colours, other)
    with server(colours, other, threads=1) as url:
        page = visit(url)
        expect(page.locator("#model")).to_have_value("colours")
        page.locator("#file").set_input_files([file("red")])
        expect(page.locator("#headline .label")).to_have_text("red")
        with page.expect_request_finished(lambda request: "model=other" in request.url):
            page.locator("#model").select_option("other")
        expect(page.locator("#headline .label")).to_have_text("red")
        expect(page).to_have_title("other · exitkit")
        expect(page.locator("#command-serve")).to_have_text("exitkit serve other")
        expect(page.locator("#live-answered")).to_have_text("1")
        page.close()


def number(folder: Path, *exits: int) -> None:
    """Give the exits of a bundle other numbers."""
    manifest = bundle.read_manifest(folder)
    segments = [
        replace(one, exit=exit_) for one, exit_ in zip(manifest.segments, exits, strict=True)
    ]
    Policy(manifest.network, exits, (0.6,), (1.0, 0.5)).write(folder / bundle.POLICY)
    bundle.write_manifest(folder, replace(manifest, segments=tuple(segments)))


def shows(page: Page, *exits: int) -> None:
    """Expect these exits wherever the page names them."""
    names = [f"exit {exit_}" for exit_ in exits]
    for place in ("#exits .name", "#stages .name", "#key-exits > span"):
        expect(page.locator(place)).to_have_text(names)
    expect(page.locator("#seconds-head th")).to_contain_text(["p99", *names])
    expect(page.locator("#changes th")).to_contain_text([f"leave at {name}" for name in names])
    expect(page.locator("#about")).to_contain_text(f"exits {', '.join(map(str, exits))}")


def test_exits_are_those_of_the_model_that_was_chosen_or_loaded_anew(
    colours: Path, tmp_path: Path, visit: Visits
) -> None:
    other = shutil.copytree(colours, tmp_path / "other")
    number(other, 1, 3)
    with server(colours, other, threads=1) as url:
        page = visit(url)
        expect(page.locator("#state")).to_have_text("ready")
        page.locator("#seconds summary").click()
        shows(page, 2, 4)
        page.locator("#model").select_option("other")
        shows(page, 1, 3)
        number(other, 5, 6)
        load = httpx.post(f"{url}/v2/repository/models/other/load", timeout=60)
        load.raise_for_status()
        shows(page, 5, 6)
        page.close()
