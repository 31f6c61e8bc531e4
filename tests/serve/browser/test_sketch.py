"""Drawing an image: with the mouse, with a finger, with the arrow keys."""

from playwright.sync_api import Page, expect
from visits import Visits

# Grey value 0..255 in the middle, and in a corner, of the image that was sent.
SENT = """(image) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const at = (x, y) => context.getImageData(x, y, 1, 1).data[0];
  return [at(canvas.width / 2, canvas.height / 2), at(1, 1)];
}"""


def canvas(page: Page) -> dict[str, float]:
    expect(page.locator("#state")).to_have_text("ready")
    page.locator("label", has_text="Draw").first.click()
    box = page.locator("#sketch").bounding_box()
    assert box is not None
    return dict(box)


def cross(page: Page, box: dict[str, float], rise: float) -> None:
    """Draw a line through the middle of the canvas."""

    def place(share: float) -> tuple[float, float]:
        return box["x"] + share * box["width"], box["y"] + (0.5 + rise * (share - 0.5)) * box[
            "height"
        ]

    page.mouse.move(*place(0.2))
    page.mouse.down()
    page.mouse.move(*place(0.8), steps=8)
    page.mouse.up()


def test_a_stroke_is_sent_when_it_ends(url: str, visit: Visits) -> None:
    page = visit(url)
    cross(page, canvas(page), 1)
    expect(page.locator("#verdict")).not_to_be_empty()
    # The training images' mean is 0.5: ink on paper.
    assert page.locator("#sent").evaluate(SENT) == [0, 255]
    with page.expect_request("**/predict**"):
        page.locator("#light").check()
    expect(page.locator("#verdict")).not_to_be_empty()
    assert page.locator("#sent").evaluate(SENT) == [255, 0]


def test_a_drawing_is_moved_and_scaled_to_fill_the_frame(url: str, visit: Visits) -> None:
    page = visit(url)
    box = canvas(page)
    corner = {**box, "width": box["width"] / 3, "height": box["height"] / 3}
    with page.expect_request("**/predict**"):
        cross(page, corner, 1)
    expect(page.locator("#sent")).to_be_visible()
    assert page.locator("#sent").evaluate(SENT)[0] == 0
    with page.expect_request("**/predict**"):
        page.locator("#fit").uncheck()
    assert page.locator("#sent").evaluate(SENT)[0] == 255


def test_undo_takes_one_stroke_back_and_clear_all(url: str, visit: Visits) -> None:
    page = visit(url)
    box = canvas(page)
    expect(page.locator("#invite")).to_be_visible()
    for rise in (1, -1):
        with page.expect_request("**/predict**"):
            cross(page, box, rise)
    expect(page.locator("#invite")).to_be_hidden()
    with page.expect_request("**/predict**"):
        page.locator("#undo").click()
    expect(page.locator("#invite")).to_be_hidden()
    expect(page.locator("#verdict")).not_to_be_empty()
    page.locator("#clear").click()
    expect(page.locator("#invite")).to_be_visible()
    expect(page.locator("#verdict")).to_be_empty()
    expect(page.locator("#sent")).to_be_hidden()


def test_a_finger_draws_too(url: str, visit: Visits) -> None:
    page = visit(url, has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740})
    box = canvas(page)
    with page.expect_request("**/predict**"):
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#verdict")).not_to_be_empty()
    assert page.locator("#sent").evaluate(SENT) == [0, 255]


def test_arrow_keys_draw_while_the_pen_is_down(url: str, visit: Visits) -> None:
    page = visit(url)
    canvas(page)
    page.locator("#sketch").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#invite")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.locator("#pen")).to_have_text("The pen is down: arrow keys draw.")
    with page.expect_request("**/predict**"):
        for _ in range(3):
            page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.locator("#pen")).to_have_text("The pen is up: arrow keys move.")
    expect(page.locator("#verdict")).not_to_be_empty()
    assert page.locator("#sent").evaluate(SENT) == [0, 255]
    page.keyboard.press("Delete")
    expect(page.locator("#invite")).to_be_visible()
