import json
from pathlib import Path

from exitkit.bundle import MANIFEST
from exitkit.export import earlier


def put(folder: Path, engine: object) -> Path:
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps({"segments": [{"exit": 1, "engine": engine}]}))
    return folder


def test_engines_that_go_are_named(tmp_path: Path) -> None:
    without = put(tmp_path / "without", None)
    assert earlier.told(without, engines=False) == f"{without} is there and will be replaced"
    words = "will be replaced, and its TensorRT engines with it"
    for name, engine in (("told", {"file": "segment_1.engine"}), ("of 1.1", "segment_1.engine")):
        folder = put(tmp_path / name, engine)
        assert earlier.told(folder, engines=False).endswith(words)
        assert earlier.told(folder, engines=True).endswith("will be replaced")
    (without / MANIFEST).write_text("{")
    assert earlier.told(without, engines=False).endswith("will be replaced")
