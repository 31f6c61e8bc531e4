"""POST /predict with JSON, and the wishes that an image may have."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from exitkit.serve import server

Paint = Callable[..., bytes]
CLEAR, DULL, FAINT = (255, 0, 0), (120, 140, 130), (150, 120, 120)


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(url: str, body: object, **query: object) -> httpx.Response:
    return httpx.post(f"{url}/predict", json=body, params=query)


def test_an_image_in_base64_is_answered_like_the_file(url: str, paint: Paint) -> None:
    answer = ask(url, {"image": encode(paint(*CLEAR))}).json()
    file = httpx.post(f"{url}/predict", files={"file": paint(*CLEAR)}).json()
    for name in ("label", "confidence", "exit", "compute", "deadline_hit"):
        assert answer[name] == file[name]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_json_example_with_curl(url: str, paint: Paint, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(paint(*DULL))
    command = (
        f'echo "{{\\"image\\": \\"$(base64 -w0 x.png)\\", \\"max_exit\\": 2}}" |'
        f" curl -sS -H 'Content-Type: application/json' -d @- {url}/predict"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["exit"] == 2


def test_images_give_a_list_also_where_there_is_one(url: str, paint: Paint) -> None:
    rows = ask(url, {"images": [encode(paint(*CLEAR))]}).json()
    assert [row["label"] for row in rows] == ["red"]
    assert "file" not in rows[0]


def test_what_is_no_image_in_base64_fails_alone(url: str, paint: Paint) -> None:
    good = encode(paint(*CLEAR))
    bad = ["#", good[:-1], good[:40] + "\n" + good[40:], "data:image/png;base64," + good, 7, "aGk="]
    rows = ask(url, {"images": [good, *bad, good]}).json()
    assert [row.get("label") for row in rows] == ["red", *[None] * len(bad), "red"]
    assert [row.get("status") for row in rows] == [None, *[400] * len(bad), None]
    assert rows[1]["error"].startswith("image 1: '#' is no base64")
    assert rows[5]["error"].startswith("image 5: is int")
    assert rows[6]["error"].startswith("image of 2 bytes: cannot be decoded")
    single = ask(url, {"image": "#"})
    assert single.status_code == 400
    assert single.json() == {"error": rows[1]["error"].replace("image 1", "image 0")}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "request body: is no JSON"),
        ("[]", "request body: is no JSON object"),
        ("{}", "image or images: neither is there"),
        ('{"image": "aGk=", "images": []}', "image or images: both are there"),
        ('{"images": []}', "images: is no list of images"),
        ('{"images": "aGk="}', "images: is no list of images"),
        ('{"image": "aGk=", "model": "x"}', "field 'model': no such field; choose from: threshold"),
        ('{"image": "aGk=", "max_exit": [2]}', "max_exit [2]: no such exit"),
        ('{"image": "aGk=", "max_exit": true}', "max_exit True: no such exit"),
        ('{"image": "aGk=", "threshold": [0.1, 2]}', "threshold 2: is no number from 0 to 1"),
        ('{"image": "aGk=", "threshold": [0.1, 0.2]}', "2 thresholds: there are 1 images"),
        ('{"image": "aGk=", "threshold": []}', "0 thresholds: there are 1 images"),
        ('{"image": "aGk=", "top": 4}', "top 4: there are 3 classes"),
        ('{"image": "aGk=", "top": 1.5}', "top 1.5: is no number of classes"),
    ],
)
def test_json_that_cannot_be_understood(url: str, body: str, says: str) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = httpx.post(f"{url}/predict", content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"].startswith(says)


def test_more_images_than_the_limit_are_refused(url: str) -> None:
    response = ask(url, {"images": ["aGk="] * 257})
    assert response.status_code == 413
    assert response.json() == {"error": "257 images: the limit is 256 a request; send fewer"}


def test_thresholds_of_images_are_those_of_separate_requests(url: str, paint: Paint) -> None:
    random = np.random.default_rng(5)
    files = [encode(paint(*random.integers(90, 170, 3).tolist())) for _ in range(20)]
    thresholds = [0.0, 1.0, *random.uniform(0.33, 0.9, 18).round(3).tolist()]
    together = ask(url, {"images": files, "threshold": thresholds}).json()
    alone = [
        ask(url, {"image": file, "threshold": threshold}).json()
        for file, threshold in zip(files, thresholds, strict=True)
    ]
    for one, many in zip(alone, together, strict=True):
        assert (one["label"], one["exit"]) == (many["label"], many["exit"])
        assert one["confidence"] == pytest.approx(many["confidence"], abs=1e-6)
    assert [row["exit"] for row in together[:2]] == [2, 4]
    assert {row["exit"] for row in together[2:]} == {2, 4}


def test_thresholds_stay_with_their_images_beside_a_broken_one(url: str, paint: Paint) -> None:
    parts = [("file", paint(*FAINT)), ("file", b"broken"), ("file", paint(*FAINT))]
    wishes = {"threshold": ["1", "1", "0"]}
    rows = httpx.post(f"{url}/predict", files=parts, data=wishes).json()
    assert [row.get("exit") for row in rows] == [4, None, 2]
    rows = httpx.post(f"{url}/predict", files=parts, params=wishes).json()
    assert [row.get("exit") for row in rows] == [4, None, 2]


def test_the_best_classes_come_with_their_probabilities(url: str, paint: Paint) -> None:
    answer = ask(url, {"image": encode(paint(*FAINT)), "top": 2}).json()
    first, second = answer["top"]
    assert first == {"label": answer["label"], "probability": answer["confidence"]}
    # Means (0.35, -0.12, -0.12) by 8, over the temperature 0.5 of exit 4.
    means = (np.asarray(FAINT) / 255 - 0.5) / 0.25
    odds = np.exp(8 * means / 0.5)
    assert second["label"] in ("green", "blue")
    assert second["probability"] == pytest.approx(odds[1] / odds.sum(), abs=1e-4)
    rows = ask(url, {"images": [encode(paint(*CLEAR))] * 2}, top=3).json()
    assert all(sum(one["probability"] for one in row["top"]) == pytest.approx(1) for row in rows)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("top=0", "top '0': is no number of classes"),
        ("top=-1", "top '-1': is no number of classes"),
        ("top=1&top=2", "top ['1', '2']: is no number of classes"),
        ("stream=yes", "stream 'yes': is neither 1 nor 0"),
        ("model=a&model=b", "model: 2 are named; name one"),
        ("max_exit=2&max_exit=4", "max_exit ['2', '4']: no such exit"),
        ("threshold=0.5&threshold=0.6", "2 thresholds: there are 1 images"),
    ],
)
def test_wishes_that_say_nothing_are_refused(url: str, paint: Paint, query: str, says: str) -> None:
    response = httpx.post(f"{url}/predict?{query}", files={"file": paint(*CLEAR)})
    assert response.status_code == 400
    assert response.json()["error"].startswith(says)


def test_a_wish_is_given_once(url: str, paint: Paint) -> None:
    body = {"image": encode(paint(*CLEAR)), "threshold": 0.5}
    response = ask(url, body, threshold=0.5)
    assert response.status_code == 400
    assert response.json()["error"] == (
        "threshold: stands in the query and in the body; give it once"
    )


def test_the_query_chooses_the_model(
    paint: Paint, tmp_path: Path, bundle_at: Callable[[Path], Path]
) -> None:
    body = {"image": encode(paint(*CLEAR))}
    folders = [bundle_at(tmp_path / name) for name in ("first", "second")]
    with server(*folders, threads=1) as url:
        for query in ({}, {"model": "second"}, {"model": "second", "stream": 1}):
            assert ask(url, body, **query).status_code == 200
        images = [httpx.get(f"{url}/stats?model={f.name}").json()["images"] for f in folders]
        assert images == [1, 2]
        missing = ask(url, body, model="third")
    assert missing.status_code == 404
    assert missing.json()["error"] == "model 'third': not here; these are: first, second"
