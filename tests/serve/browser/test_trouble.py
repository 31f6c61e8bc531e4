"""What the page says where it gets no answer, and that it goes on when there is one again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from gates import held
from playwright.sync_api import Page, expect
from visits import Picture, Visits

from exitkit.serve import server
from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
File = Callable[..., Picture]


def give(page: Page, *files: Picture) -> None:
    expect(page.locator("#state")).to_have_text("ready")
    page.locator("#file").set_input_files(list(files))


def test_the_server_s_refusal_is_shown_in_words(url: str, visit: Visits, file: File) -> None:
    visit.allow("status of 400")
    page = visit(url)
    give(page, {**file("red"), "buffer": b"no image"})
    expect(page.locator("#headline .error")).to_contain_text("cannot be decoded")
    expect(page.locator("#said")).to_contain_text("cannot be decoded")
    give(page, file("blue"))
    expect(page.locator("#headline .label")).to_have_text("blue")


def test_a_refusal_of_all_images_is_shown_for_each(
    colours: Path, visit: Visits, file: File
) -> None:
    visit.allow("status of 413")
    with server(colours, threads=1, limits=Limits(samples=2, batch=2)) as url:
        page = visit(url)
        give(page, *[file("red")] * 3)
        says = "files: the limit is 2 a request; send fewer"
        for place in ("#headline .error", "#summary", "#said"):
            expect(page.locator(place)).to_have_text(says)
        expect(page.locator("#tiles .bad")).to_have_count(3)
        page.locator("#tiles button").nth(2).click()
        expect(page.locator("#tiles button").nth(2)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#headline .error")).to_have_text(says)
        page.close()


def test_a_full_queue_is_shown_in_words(
    colours: Path, visit: Visits, file: File, paint: Paint
) -> None:
    visit.allow("status of 429")
    with (
        held(colours, Limits(samples=1, batch=1, queue=1)) as made,
        ThreadPoolExecutor(2) as pool,
    ):
        page = visit(made.url)
        expect(page.locator("#state")).to_have_text("ready")
        made.gates[0].close()
        form = {"file": paint(250, 5, 5)}
        running = pool.submit(httpx.post, f"{made.url}/predict", files=form, timeout=60)
        made.gates[0].wait()
        waiting = pool.submit(httpx.post, f"{made.url}/predict", files=form, timeout=60)
        made.wait_for_queue(1)
        give(page, file("red"))
        expect(page.locator("#headline .error")).to_contain_text("the queue holds 1")
        made.open()
        assert [one.result().status_code for one in (running, waiting)] == [200, 200]
        give(page, file("blue"))
        expect(page.locator("#headline .label")).to_have_text("blue")
        page.close()


def test_a_server_that_stops_amid_an_answer_says_so(slow: Path, visit: Visits, file: File) -> None:
    visit.allow("ERR_CONNECTION|ERR_EMPTY_RESPONSE|status of 503")
    with server(slow, threads=1, limits=Limits(batch=1, drain_s=0.1)) as url:
        page = visit(url)
        give(page, *[file("red")] * 100)
        expect(page.locator("#tiles .done").first).to_be_visible()
    expect(page.locator("#headline .error")).to_contain_text("the server stopped")
    expect(page.locator("#summary")).to_contain_text("the server stopped")
    expect(page.locator("#state")).to_have_text("no connection, trying again")
    page.close()


def test_the_page_works_again_after_the_server_was_restarted(
    colours: Path, visit: Visits, file: File
) -> None:
    visit.allow("ERR_CONNECTION|ERR_EMPTY_RESPONSE|status of 503")
    with server(colours, threads=1) as url:
        page = visit(url)
        expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#state")).to_have_text("no connection, trying again")
    page.locator("#file").set_input_files([file("red")])
    expect(page.locator("#headline .error")).to_have_text("The server cannot be reached.")
    with server(colours, threads=1, threshold=1.0, port=urlsplit(url).port or 0):
        expect(page.locator("#state")).to_have_text("ready")
        # The image that had no answer is asked about again, with the threshold of this server.
        expect(page.locator("#headline .label")).to_have_text("red")
        expect(page.locator("#exits li").nth(1)).to_have_class("taken")
        page.locator("#file").set_input_files([file("blue")])
        expect(page.locator("#headline .label")).to_have_text("blue")
        page.close()


def test_a_model_that_was_unloaded_is_waited_for_and_others_can_be_chosen(
    colours: Path, tmp_path: Path, visit: Visits, bundle_at: Callable[[Path], Path]
) -> None:
    visit.allow("status of 503")
    with server(colours, bundle_at(tmp_path / "other"), threads=1) as url:
        page = visit(url)
        expect(page.locator("#state")).to_have_text("ready")

        def tell(verb: str) -> None:
            place = f"{url}/v2/repository/models/colours/{verb}"
            httpx.post(place, timeout=60).raise_for_status()

        tell("unload")
        expect(page.locator("#state")).to_have_text(
            "model 'colours': unloaded; load it, or ask later"
        )
        page.locator("#model").select_option("other")
        expect(page.locator("#state")).to_have_text("ready")
        expect(page).to_have_title("other · exitkit")
        tell("load")
        expect(page.locator("#model option")).to_have_text(["colours", "other"])
        page.locator("#model").select_option("colours")
        expect(page).to_have_title("colours · exitkit")
        expect(page.locator("#state")).to_have_text("ready")
        page.close()


def test_a_documentation_that_does_not_come_is_said(colours: Path, visit: Visits) -> None:
    visit.allow("status of 401|ERR_CONNECTION|Failed to fetch")
    with server(colours, threads=1, token="open-sesame") as url:
        page = visit(f"{url}/docs")
        field = page.get_by_label("Token", exact=True)
        expect(field).to_be_visible()
    field.fill("open-sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("description did not come (Failed to fetch)")
