"""POST /predict of a real server, asked by real clients."""

import base64
import gzip
import json
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import exitkit

Paint = Callable[..., bytes]
# With the fixture's network: a saturated colour is sure at exit 2, a dull one is not.
CLEAR, DULL = (255, 0, 0), (120, 140, 130)
TIMES = {"queue_ms", "compute_ms", "ms"}
ANSWER = {"label", "confidence", "exit", "compute", "deadline_hit", "threshold_used"} | TIMES


def send(url: str, *files: bytes, **more: object) -> httpx.Response:
    parts = [("file", (f"{k}.png", data)) for k, data in enumerate(files)]
    return httpx.post(f"{url}/predict", files=parts, **more)


def test_one_image_gives_one_answer(url: str, paint: Paint) -> None:
    answer = send(url, paint(*CLEAR)).json()
    assert set(answer) == ANSWER
    # (255 / 255 - 0.5) / 0.25 = 2, the others -2: logits 4, -4, -4; softmax 1 / (1 + 2 e^-8)
    assert (answer["label"], answer["exit"]) == ("red", 2)
    assert answer["confidence"] == pytest.approx(1 / (1 + 2 * np.exp(-8)), abs=1e-6)
    assert (answer["deadline_hit"], answer["threshold_used"]) == (False, 0.6)
    assert 0 < answer["compute_ms"] <= answer["compute_ms"] + answer["queue_ms"] < answer["ms"]
    dull = send(url, paint(*DULL)).json()
    # 1,000 and 3,000 multiply-adds; the network without exits has 5,000
    assert (answer["compute"], dull["exit"], dull["compute"]) == (0.2, 4, 0.6)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_command_of_the_readme(url: str, paint: Paint, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(paint(*CLEAR))
    command = ["curl", "-sS", "-F", "file=@x.png", f"{url}/predict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["label"] == "red"


def test_answers_equal_those_of_the_library(
    url: str, paint: Paint, colours: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(3)
    files = []
    for k in range(24):
        path = tmp_path / f"{k}.png"
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        tint = generator.integers(0, 90, 3)
        Image.fromarray(np.clip(pixels // 2 + tint, 0, 255).astype(np.uint8)).save(path)
        files.append(path)
    expected = exitkit.load(colours, threads=1).predict(files)
    together = send(url, *[path.read_bytes() for path in files]).json()
    alone = [send(url, path.read_bytes()).json() for path in files]
    for want, one, many in zip(expected, alone, together, strict=True):
        assert (one["label"], one["exit"]) == (many["label"], many["exit"])
        assert (one["label"], one["exit"]) == (want.label, want.exit)
        assert one["confidence"] == pytest.approx(want.probability, abs=1e-6)
        assert many["confidence"] == pytest.approx(want.probability, abs=1e-6)
    assert {row.exit for row in expected} == {2, 4}


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "octet-stream"])
def test_the_file_itself_may_be_the_body(url: str, paint: Paint, kind: str) -> None:
    encoded = paint(0, 0, 250, "PNG" if kind == "octet-stream" else kind)
    media = "application/octet-stream" if kind == "octet-stream" else f"image/{kind}"
    answer = httpx.post(f"{url}/predict", content=encoded, headers={"Content-Type": media}).json()
    assert answer["label"] == "blue"


def test_a_bad_file_among_several_fails_alone(url: str, paint: Paint) -> None:
    response = send(url, paint(*CLEAR), b"no image", paint(0, 255, 0))
    assert response.status_code == 200
    first, second, third = response.json()
    assert (first["file"], first["label"]) == ("0.png", "red")
    assert (second["file"], second["status"]) == ("1.png", 400)
    assert second["error"].startswith("image of 8 bytes: cannot be decoded")
    assert (third["file"], third["label"]) == ("2.png", "green")


@pytest.mark.parametrize(
    "charset", ["raw_unicode_escape", "utf-7", "punycode", "undefined", "idna"]
)
def test_a_form_cannot_choose_any_codec_of_python(url: str, paint: Paint, charset: str) -> None:
    """Some make texts that no JSON can hold, some fail in ways of their own."""
    response = post_form(url, charset, b"\\ud800+2AA-\xff", paint(*CLEAR))
    assert response.status_code == 415
    assert response.json()["error"] == f"a form in charset '{charset}': not read here; use utf-8"


@pytest.mark.parametrize(("charset", "name"), [("UTF-8", "é"), ("iso-8859-1", "Ã©")])
def test_a_form_may_name_its_charset(url: str, paint: Paint, charset: str, name: str) -> None:
    response = post_form(url, charset, "é".encode(), paint(*CLEAR))
    assert [row["file"] for row in response.json()] == [name, name]


def post_form(url: str, charset: str, name: bytes, file: bytes) -> httpx.Response:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
    headers = {"Content-Type": f"multipart/form-data; charset={charset}; boundary=x"}
    return httpx.post(f"{url}/predict", content=part % (name, file) * 2 + b"--x--", headers=headers)


def test_several_bad_files_are_a_list_too(url: str) -> None:
    assert [row["status"] for row in send(url, b"a", b"b").json()] == [400, 400]


def test_threshold_and_exit_are_taken_from_query_or_form(url: str, paint: Paint) -> None:
    assert send(url, paint(*CLEAR), params={"threshold": 1}).json()["exit"] == 4
    assert send(url, paint(*DULL), params={"threshold": 0}).json()["exit"] == 2
    assert send(url, paint(*DULL), data={"max_exit": "2"}).json()["exit"] == 2


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("threshold=2", "threshold '2': is no number from 0 to 1"),
        ("max_exit=3", "max_exit '3': no such exit; choose one of: 2, 4"),
        ("treshold=0.9", "parameter 'treshold': no such parameter; choose from: threshold"),
    ],
)
def test_wrong_wishes_are_refused(url: str, paint: Paint, query: str, says: str) -> None:
    response = send(f"{url}", paint(*CLEAR), params=query)
    assert response.status_code == 400
    assert response.json()["error"].startswith(says)


def encode(image: Image.Image, folder: Path) -> bytes:
    image.save(folder / "x.png")
    return (folder / "x.png").read_bytes()


def test_images_that_are_none_have_alpha_or_are_huge(
    url: str, paint: Paint, tmp_path: Path
) -> None:
    whole = paint(*CLEAR, side=64)
    cases = {
        b"hello": (400, "image of 5 bytes: cannot be decoded"),
        whole[: len(whole) // 2]: (400, "cannot be decoded"),
        encode(Image.new("RGBA", (32, 32), (255, 0, 0, 128)), tmp_path): (400, "alpha channel"),
        encode(Image.new("1", (8000, 5000)), tmp_path): (413, "8000x5000 pixels, the limit is"),
    }
    for encoded, (status, says) in cases.items():
        response = send(url, encoded)
        assert response.status_code == status
        assert says in response.json()["error"]
    grey = encode(Image.new("L", (32, 32), 200), tmp_path)  # one channel: three equal ones
    assert send(url, grey).status_code == 200


@pytest.mark.parametrize(
    ("content", "media", "status", "says"),
    [
        (b"", "image/png", 400, "the body is empty"),
        (b"x", "text/plain", 415, "content-type 'text/plain': no image; send -F file=@x.png"),
        (b"x", "application/x-www-form-urlencoded", 415, "no image"),
        (b"x", "multipart/form-data", 400, "boundary in multipart; send -F file=@x.png"),
        (b"x", "multipart/form-data; boundary=y", 400, "multipart"),
        (b"--y--\r\n", "multipart/form-data; boundary=y", 400, "the form holds no file"),
    ],
)
def test_bodies_that_hold_no_image(
    url: str, content: bytes, media: str, status: int, says: str
) -> None:
    response = httpx.post(f"{url}/predict", content=content, headers={"Content-Type": media})
    assert response.status_code == status
    assert says in response.json()["error"]
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_a_compressed_body_is_unpacked(url: str, paint: Paint, kind: str) -> None:
    pack = gzip.compress if kind == "gzip" else zlib.compress
    form = httpx.Request("POST", url, files={"file": ("x.png", paint(*CLEAR))})
    form.read()
    for body, media in (
        (paint(*CLEAR), "image/png"),
        (form.content, form.headers["Content-Type"]),
        (json.dumps({"image": base64.b64encode(paint(*CLEAR)).decode()}), "application/json"),
    ):
        packed = pack(body.encode() if isinstance(body, str) else body)
        headers = {"Content-Type": media, "Content-Encoding": kind}
        answer = httpx.post(f"{url}/predict", content=packed, headers=headers)
        assert answer.json()["label"] == "red"


def test_a_body_in_another_encoding_is_refused(url: str, paint: Paint) -> None:
    headers = {"Content-Type": "image/png", "Content-Encoding": "br"}
    response = httpx.post(f"{url}/predict", content=paint(*CLEAR), headers=headers)
    assert response.status_code == 415
    assert response.json()["error"].startswith("content-encoding")
