import json
from pathlib import Path

import pytest

from exitkit.bundle import MANIFEST
from exitkit.errors import ConfigError
from exitkit.export import earlier


def put(folder: Path, engine: object = None, **origin: str) -> Path:
    folder.mkdir()
    segments = [{"exit": 1, "engine": engine}]
    table = {"name": "net-1", "network": "int8 of a", "origin": origin, "segments": segments}
    (folder / MANIFEST).write_text(json.dumps(table))
    return folder


def test_only_a_network_of_the_same_run_is_replaced(tmp_path: Path) -> None:
    folder = put(tmp_path / "net-1", run="net-1", weights="a")
    earlier.require_own(folder, ("a",))
    earlier.require_own(folder, ("b", "a"))  # the run went on training
    earlier.require_own(tmp_path / "not there", ("b",))
    with pytest.raises(ConfigError, match="another network, of a run 'net-1' that is not this one"):
        earlier.require_own(folder, ("b",))
    earlier.require_own(put(tmp_path / "without origin"), ("int8 of a",))


def test_what_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (put(tmp_path / "edited") / MANIFEST).write_text("{")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(put(tmp_path / "net-1", run="net-1", weights="a"))
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("edited", "other", "link", "nowhere"):
        with pytest.raises(ConfigError, match="something else lies there; choose another --name"):
            earlier.require_own(tmp_path / name, ("a",))


def test_engines_that_go_are_named(tmp_path: Path) -> None:
    without = put(tmp_path / "without")
    assert earlier.told(without, engines=False) == f"{without} is there and will be replaced"
    words = "will be replaced, and its TensorRT engines with it"
    for name, engine in (("told", {"file": "segment_1.engine"}), ("of 1.1", "segment_1.engine")):
        folder = put(tmp_path / name, engine)
        assert earlier.told(folder, engines=False).endswith(words)
        assert earlier.told(folder, engines=True).endswith("will be replaced")
    (without / MANIFEST).write_text("{")
    assert earlier.told(without, engines=False).endswith("will be replaced")
