"""A server with a token: the page asks for it, and keeps it in its tab."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from visits import Picture, Visits

from exitkit.serve import server

TOKEN = "open-sesame"


@pytest.fixture(scope="module")
def locked(colours: Path) -> Iterator[str]:
    with server(colours, threads=1, token=TOKEN) as url:
        yield url


def test_the_page_asks_for_the_token_and_says_when_it_is_wrong(
    locked: str, visit: Visits, file: Callable[..., Picture]
) -> None:
    visit.allow("status of 401")
    page = visit(locked)
    field = page.get_by_label("Token", exact=True)
    expect(field).to_be_focused()
    expect(page.locator("main")).to_be_hidden()
    expect(page.locator("#gate-error")).to_be_hidden()
    for typed, says in (
        ("“open-sesame”", "of ASCII characters"),
        ("open barley", "without spaces"),
    ):
        field.fill(typed)
        page.keyboard.press("Enter")
        expect(page.locator("#gate-error")).to_contain_text(says)
    field.fill("open-barley")
    page.keyboard.press("Enter")
    expect(page.locator("#gate-error")).to_have_text(
        "The server did not accept this token. Try another one."
    )
    expect(field).to_have_value("")
    field.fill(TOKEN)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#gate")).to_be_hidden()
    page.locator("#file").set_input_files([file("red")])
    expect(page.locator("#headline .label")).to_have_text("red")
    expect(page.locator("#command-ask")).to_contain_text('-H "Authorization: Bearer $TOKEN"')
    assert TOKEN not in page.content()
    page.reload()
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#gate")).to_be_hidden()


def test_another_visitor_is_asked_again(locked: str, visit: Visits) -> None:
    visit.allow("status of 401")
    expect(visit(locked).get_by_label("Token", exact=True)).to_be_visible()


def test_the_documentation_asks_for_the_token_too(locked: str, visit: Visits) -> None:
    visit.allow("status of 401")
    page = visit(f"{locked}/docs")
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#routes details").first).to_be_visible()
    expect(page.locator("#routes")).to_contain_text("/predict")
