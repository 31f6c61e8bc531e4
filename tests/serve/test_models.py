"""Several models in one server, swapped, refused and unloaded while requests run."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from asking import asked
from onnx import numpy_helper
from waiting import wait_for

from exitkit import bundle
from exitkit.errors import BundleError
from exitkit.policy.policy import Policy
from exitkit.serve import server, shelf, warmup
from exitkit.serve.limits import Limits
from exitkit.serve.models import LoadFailed, Models, NotLoaded, UnknownModel
from exitkit.serve.settings import Settings

Paint = Callable[..., bytes]
Write = Callable[[Path], Path]
CLASSES = ("red", "green", "blue")


def write_other(folder: Path, bundle_at: Write) -> Path:
    """Write a bundle that names the same colours, by other weights, to the deepest exit.

    Its classes stand in the other order, so its network with the first one's classes would call
    red blue.
    """
    bundle_at(folder)
    for exit_ in (2, 4):
        file = folder / f"segment_{exit_}.onnx"
        model = onnx.load(file)
        (weights,) = model.graph.initializer
        weights.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(weights)[:, ::-1], "weights")
        )
        file.write_bytes(model.SerializeToString())
    Policy("cd" * 32, (2, 4), (1.0,), (1.0, 0.5)).write(folder / bundle.POLICY)
    found = bundle.read_manifest(folder, verify=False)
    changed = {**vars(found), "classes": CLASSES[::-1], "network": "cd" * 32}
    bundle.write_manifest(folder, bundle.Manifest(**changed))
    return folder


@pytest.fixture
def models(tmp_path: Path, bundle_at: Write) -> Iterator[Models]:
    """Return the models of a server with bundle `first`, and `second` beside it."""
    bundle_at(tmp_path / "first")
    write_other(tmp_path / "second", bundle_at)
    made = shelf.collect(Settings((tmp_path / "first",), pool="private", threads=1))
    made.start()
    yield made
    made.stop()


def states(models: Models) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.state, entry.reason) for entry in models.index()}


def colours(paint: Paint) -> dict[str, bytes]:
    return {"red": paint(250, 5, 5), "green": paint(5, 250, 5), "blue": paint(5, 5, 250)}


def swap(place: Path, aside: Path) -> None:
    """Let two folders change their names, as an export that replaces a bundle does."""
    place.rename(place.with_name("third"))
    aside.rename(place)
    place.with_name("third").rename(aside)


def test_reloads_under_load_drop_and_mix_nothing(
    tmp_path: Path, bundle_at: Write, paint: Paint
) -> None:
    place = bundle_at(tmp_path / "colours")
    aside = write_other(tmp_path / "aside" / "colours", bundle_at)
    with server(place, threads=1) as url, asked(url, **colours(paint)) as found:
        for exit_ in (4, 2, 4, 2):
            before = found.came.total()
            swap(place, aside)
            httpx.post(f"{url}/v2/repository/models/colours/load", timeout=60).raise_for_status()
            answer = httpx.post(f"{url}/predict", files={"file": paint(250, 5, 5)}).json()
            assert (answer["label"], answer["exit"]) == ("red", exit_)
            assert found.came.total() > before
        beside = httpx.get(f"{url}/tradeoff").json()["measured"]["beside"]
        assert beside > 0
    assert set(found.came) == {"200 red", "200 green", "200 blue"}
    assert found.exits == {2, 4}


@pytest.mark.parametrize("damage", ["cut", "edited", "gone", "no manifest", "another policy"])
def test_a_bad_bundle_is_refused_and_the_one_before_goes_on(models: Models, damage: str) -> None:
    place = models.get("first").model.folder
    if damage == "cut":
        (place / "segment_4.onnx").write_bytes(b"")
    elif damage == "edited":
        with (place / "segment_2.onnx").open("ab") as file:
            file.write(b"\0")
    elif damage == "gone":
        shutil.rmtree(place)
    elif damage == "no manifest":
        (place / bundle.MANIFEST).write_text("{}")
    else:
        Policy("ef" * 32, (2, 4), (1.0,), (1.0, 0.5)).write(place / bundle.POLICY)
    before = models.get("first")
    with pytest.raises(LoadFailed, match=r"model 'first': cannot be served \(.*what served before"):
        models.load("first")
    assert models.get("first") is before
    assert models.ready
    state, reason = states(models)["first"]
    assert state == "READY"
    assert reason.startswith("the last load failed: ")
    (said,) = models.reload()
    assert said.startswith("not reloaded: model 'first': cannot be served")
    images = np.ones((2, 3, 32, 32), np.float32)
    with models.use("first") as service:
        assert len(service.scheduler.submit(images).result(10).answers.exit) == 2


def test_files_that_change_on_disk_change_no_answer(
    tmp_path: Path, bundle_at: Write, paint: Paint
) -> None:
    place = bundle_at(tmp_path / "colours")
    with server(place, threads=1) as url, asked(url, **colours(paint)) as found:
        for file in sorted(place.iterdir()):
            file.write_bytes(b"\xff" * 1000)
            time.sleep(0.05)
        shutil.rmtree(place)
        found.wait_for(50)
        assert httpx.get(f"{url}/tradeoff").status_code == 200
        assert httpx.get(f"{url}/v2/models/colours").status_code == 200
    assert set(found.came) == {"200 red", "200 green", "200 blue"}


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_refused(
    tmp_path: Path, bundle_at: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, aside = bundle_at(tmp_path / "first"), write_other(tmp_path / "aside", bundle_at)
    measure = warmup.measure_stages

    def swapping(*arguments: object) -> object:
        swap(place, aside)
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(warmup, "measure_stages", swapping)
    with pytest.raises(BundleError, match="was replaced while it was loaded; load it again"):
        warmup.prepare(place, Settings((place,), threads=1), "private")


def test_what_runs_is_answered_before_its_model_is_gone(slow: Path, paint: Paint) -> None:
    parts = [("file", ("x.png", paint(255, 0, 0)))] * 8
    with server(slow, threads=1, limits=Limits(batch=1)) as url, ThreadPoolExecutor(2) as pool:
        running = pool.submit(httpx.post, f"{url}/predict", files=parts, timeout=60)
        wait_for(lambda: httpx.get(f"{url}/stats").json()["queue"] > 0)
        unloading = pool.submit(
            httpx.post, f"{url}/v2/repository/models/colours/unload", timeout=60
        )
        wait_for(lambda: httpx.get(f"{url}/v2/models/colours/ready").status_code == 503)
        refused = httpx.post(f"{url}/predict", files=parts[:1])
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert unloading.result().status_code == 200
        assert running.done()
        assert [row["label"] for row in running.result().json()] == ["red"] * 8


def test_bundles_beside_those_that_serve_can_be_loaded_by_name(models: Models) -> None:
    assert states(models) == {"first": ("READY", ""), "second": ("UNAVAILABLE", "not loaded")}
    with pytest.raises(UnknownModel, match="model 'second': not here; these are: first"):
        models.get("second")
    models.load("second")
    assert states(models)["second"] == ("READY", "")
    assert models.get("second").manifest.classes == CLASSES[::-1]
    assert models.get().manifest.name == "first"
    models.unload("second")
    assert states(models)["second"] == ("UNAVAILABLE", "unloaded")
    with pytest.raises(NotLoaded, match="model 'second': unloaded; load it, or ask later"):
        models.get("second")
    with pytest.raises(UnknownModel, match="model 'third': not here"):
        models.load("third")


@pytest.mark.parametrize("name", ["..", "../first", "/etc", "first/../second", "", "."])
def test_a_name_is_no_path(models: Models, name: str) -> None:
    with pytest.raises(UnknownModel):
        models.load(name)
    with pytest.raises(UnknownModel):
        models.unload(name)


def test_no_more_models_than_the_limit(tmp_path: Path, bundle_at: Write) -> None:
    first, second = bundle_at(tmp_path / "first"), bundle_at(tmp_path / "second")
    limits = Limits(models=1)
    made = shelf.collect(Settings((first,), pool="private", threads=1, limits=limits))
    made.start()
    with pytest.raises(LoadFailed, match="1 models are loaded, the limit is 1; unload one first"):
        made.load("second")
    made.load("first")
    made.unload("first")
    made.load("second")
    assert made.get("second").model.folder == second
    made.stop()
