"""An image into the page, and its answer out of it, exit by exit."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from visits import Picture, Visits

from exitkit.bundle import MANIFEST
from exitkit.serve import server

# Notes the state of both rows whenever they are drawn.
WATCH = """() => {
  window.states = [];
  new MutationObserver(() => {
    const state = [...document.querySelectorAll("#exits li")].map((row) => row.className).join();
    if (state !== window.states.at(-1)) window.states.push(state);
  }).observe(document.getElementById("exits"), { childList: true });
}"""
# Hands files to the page as a drop or a paste does.
HAND_OVER = """async ([how, text]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const table = new DataTransfer();
  table.items.add(new File([bytes], "red.png", { type: "image/png" }));
  const event = how === "paste"
    ? new ClipboardEvent("paste", { clipboardData: table, bubbles: true })
    : new DragEvent("drop", { dataTransfer: table, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


def give(page: Page, *files: Picture) -> None:
    expect(page.locator("#state")).to_have_text("ready")
    page.locator("#file").set_input_files(list(files))


def test_an_early_answer_leaves_later_exits_uncomputed(
    url: str, visit: Visits, file: Callable[..., Picture]
) -> None:
    page = visit(url)
    give(page, file("red"))
    first, second = page.locator("#exits li").all()
    expect(second).to_have_class("spared")
    expect(first).to_have_class("taken")
    expect(first).to_contain_text("exit 2red")
    expect(first.locator(".sure")).to_have_text("99.9\u00a0%")
    expect(first.locator(".share")).to_have_text("20\u00a0%")
    expect(first.locator(".why")).to_contain_text("at least the threshold of 60.0\u00a0%")
    expect(second).to_contain_text("not computed")
    expect(page.locator("#headline .label")).to_have_text("red")
    expect(page.locator("#verdict")).to_have_text(
        "One exit was not needed: 80\u00a0% of the compute saved."
    )
    expect(page.locator("#said")).to_contain_text("red, 99.9\u00a0% sure, at exit 2")
    expect(page.locator("#preview")).to_be_visible()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_rows_light_up_from_shallow_to_deep(
    url: str, visit: Visits, file: Callable[..., Picture], motion: Any
) -> None:
    page = visit(url, reduced_motion=motion)
    expect(page.locator("#exits li")).to_have_count(2)
    page.evaluate(WATCH)
    give(page, file("muddy"))
    expect(page.locator("#verdict")).to_contain_text("Went all the way")
    assert page.evaluate("window.states") == ["ahead,ahead", "passed,ahead", "passed,taken"]
    first, second = page.locator("#exits li").all()
    expect(first.locator(".why")).to_contain_text("went on, below the threshold of 60.0\u00a0%")
    expect(second.locator(".why")).to_contain_text("answered; after")
    mark = first.locator(".bar b").evaluate("(line) => line.style.left")
    assert mark == "60%"


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_images_can_be_pasted_and_dropped_anywhere(
    url: str, visit: Visits, file: Callable[..., Picture], how: str
) -> None:
    page = visit(url)
    expect(page.locator("#state")).to_have_text("ready")
    page.evaluate(HAND_OVER, [how, base64.b64encode(file("red")["buffer"]).decode()])
    expect(page.locator("#headline .label")).to_have_text("red")


def test_several_files_become_a_gallery_whose_tiles_show_their_way(
    url: str, visit: Visits, file: Callable[..., Picture]
) -> None:
    page = visit(url)
    give(page, file("red"), file("muddy", "<b>b</b>.png"), {**file("blue"), "buffer": b"no image"})
    tiles = page.locator("#tiles button")
    expect(tiles).to_have_count(3)
    expect(page.locator("#summary")).to_have_text(
        "3 images: 1 at exit 2, 1 at exit 4, 1 without an answer. "
        "40\u00a0% of the compute of the network without exits."
    )
    expect(tiles.nth(0)).to_contain_text("red99.9\u00a0% · exit 2")
    expect(tiles.nth(1)).to_contain_text("· exit 4")
    expect(tiles.nth(2)).to_have_class("bad")
    expect(tiles.nth(2)).to_contain_text("cannot be decoded")
    expect(tiles.nth(1).locator("img")).to_be_visible()
    expect(tiles.nth(2).locator("img")).to_be_hidden()  # and no sign of a broken image
    expect(page.locator("#headline .label")).to_have_text("red")
    tiles.nth(1).click()
    expect(page.locator("#exits li").nth(1)).to_have_class("taken")
    expect(tiles.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#preview")).to_have_attribute("alt", "the image <b>b</b>.png")
    tiles.nth(2).click()
    expect(page.locator("#headline .error")).to_contain_text("cannot be decoded")


def test_names_of_classes_and_files_are_text(
    colours: Path, tmp_path: Path, visit: Visits, file: Callable[..., Picture]
) -> None:
    name = "<img src=x onerror=alert(1)>"
    folder = tmp_path / "<b>bold<b>"
    shutil.copytree(colours, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["classes"][0] = name
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with server(folder, threads=1) as url:
        page = visit(url)
        give(page, file("red", f"{name}.png"), file("blue"))
        expect(page.locator("#headline .label")).to_have_text(name)
        expect(page.locator("#exits .says").first).to_have_text(name)
        expect(page.locator("#tiles .says").first).to_have_text(name)
        expect(page.locator("#name")).to_have_text(folder.name)
        expect(page.locator("#command-serve")).to_have_text(f"exitkit serve '{folder.name}'")
        assert page.locator("#tiles img").count() == 2
        page.close()
