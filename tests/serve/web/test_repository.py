"""Models of a running server: listed, loaded, loaded anew and unloaded."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from exitkit.errors import BundleError
from exitkit.serve import server, warmup

INDEX = "/v2/repository/index"
BROKEN = "cannot be served"


@pytest.fixture(scope="module")
def shelf(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three bundles, one of which is damaged."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("first", "second", "broken"):
        shutil.copytree(colours, folder / name)
    (folder / "broken" / "segment_4.onnx").write_bytes(b"no network")
    (folder / "notes.txt").write_text("no bundle")
    return folder


@pytest.fixture(scope="module")
def many(shelf: Path) -> Iterator[str]:
    with server(shelf / "first", threads=1) as address:
        yield address


def states(url: str, body: dict | None = None) -> dict[str, str]:
    response = httpx.post(url + INDEX, json=body) if body else httpx.post(url + INDEX)
    assert response.status_code == 200
    assert all(set(row) == {"name", "version", "state", "reason"} for row in response.json())
    return {row["name"]: row["state"] for row in response.json()}


def control(url: str, name: str, verb: str, body: dict | None = None) -> httpx.Response:
    return httpx.post(f"{url}/v2/repository/models/{name}/{verb}", json=body, timeout=30)


def test_a_model_is_loaded_and_unloaded(many: str, paint) -> None:
    assert states(many) == {"broken": "UNAVAILABLE", "first": "READY", "second": "UNAVAILABLE"}
    assert httpx.get(f"{many}/v2/models/second/ready").status_code == 404

    loaded = control(many, "second", "load")
    assert (loaded.status_code, loaded.json()) == (200, {})
    assert states(many, {"ready": True}) == {"first": "READY", "second": "READY"}
    assert httpx.get(f"{many}/v2/models/second/ready").json() == {"name": "second", "ready": True}
    statistics = httpx.get(f"{many}/v2/models/stats").json()["model_stats"]
    assert {row["name"] for row in statistics} >= {"first", "second", "second/stage4"}

    unloaded = control(many, "second", "unload", {"parameters": {"unload_dependents": False}})
    assert (unloaded.status_code, unloaded.json()) == (200, {})
    assert states(many, {"ready": False})["second"] == "UNAVAILABLE"
    response = httpx.get(f"{many}/v2/models/second/ready")
    assert response.status_code == 503
    assert response.json()["ready"] is False
    assert response.json()["error"] == "model 'second': unloaded; load it, or ask later"
    assert httpx.get(f"{many}/v2/models/second").status_code == 503


def test_a_bundle_that_cannot_be_served_is_refused_and_the_old_one_goes_on(
    many: str, shelf: Path, paint
) -> None:
    response = control(many, "broken", "load")
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert BROKEN in response.json()["error"]

    damaged = shelf / "first" / "segment_4.onnx"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no network")
    assert control(many, "first", "load").status_code == 400
    (row,) = [one for one in httpx.post(many + INDEX).json() if one["name"] == "first"]
    assert row["state"] == "READY"
    assert "last load failed" in row["reason"]
    assert httpx.post(f"{many}/predict", files={"file": paint(255, 0, 0)}).status_code == 200
    damaged.write_bytes(whole)
    assert control(many, "first", "load").status_code == 200
    assert httpx.post(f"{many}/predict", files={"file": paint(255, 0, 0)}).status_code == 200


def test_loads_that_wait_for_each_other_hold_up_nothing_else(
    many: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def prepare(*arguments: object) -> None:
        began.set()
        assert go_on.wait(30)
        raise BundleError("a bundle", "is none", "export it")

    monkeypatch.setattr(warmup, "prepare", prepare)
    loads = 40  # more than asyncio has threads, on any machine
    with ThreadPoolExecutor(loads) as clients:
        asked = [clients.submit(control, many, "first", "load") for _ in range(loads)]
        try:
            assert began.wait(10)
            for path in ("/metrics", "/stats", "/v2/models/stats"):
                assert httpx.get(many + path, timeout=5).status_code == 200
        finally:
            go_on.set()
        assert {one.result().status_code for one in asked} == {400}


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize("name", ["nothing", "notes.txt", "..", "%2e%2e", "first%2f..%2ffirst"])
def test_what_is_no_model_is_404(many: str, name: str, verb: str) -> None:
    response = control(many, name, verb)
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (INDEX, b"{", "request body: is no JSON"),
        (INDEX, b"[]", "is no JSON object"),
        (INDEX, b'{"ready": 1}', r"field 'ready': is not offered here; known are: ready (bool)"),
        (INDEX, b'{"unready": true}', "field 'unready'"),
        ("/v2/repository/models/first/load", b'{"parameters": []}', "field 'parameters'"),
        (
            "/v2/repository/models/first/load",
            b'{"parameters": {"config": "{}"}}',
            "parameter 'config': is not offered here: a model is loaded as its bundle says",
        ),
        (
            "/v2/repository/models/first/load",
            b'{"parameters": {"file:1/model.onnx": "AAAA"}}',
            "parameter 'file:1/model.onnx'",
        ),
        ("/v2/repository/models/first/unload", b'{"parameters": {"now": true}}', "'now'"),
    ],
)
def test_other_wishes_are_refused(many: str, path: str, body: bytes, says: str) -> None:
    response = httpx.post(many + path, content=body)
    assert response.status_code == 400
    assert says in response.json()["error"]
    assert httpx.get(f"{many}/v2/models/first/ready").status_code == 200
