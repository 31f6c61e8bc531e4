import json
import os
import stat
from pathlib import Path

import pytest

from exitkit.bundle import MANIFEST
from exitkit.errors import ConfigError, ParityError
from exitkit.export.publish import building


def put(root: Path, name: str, text: str) -> None:
    with building(root / name) as folder:
        (folder / MANIFEST).write_text(text)


def test_a_bundle_appears_whole_and_becomes_the_latest(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    with building(root / "one") as folder:
        (folder / MANIFEST).write_text("1")
        assert not (root / "one").exists()
    assert (root / "one" / MANIFEST).read_text() == "1"
    assert os.readlink(root / "latest") == "one"
    assert stat.S_IMODE((root / "one").stat().st_mode) & 0o055 == 0o055 & ~_umask()
    put(root, "two", "2")
    assert os.readlink(root / "latest") == "two"
    assert sorted(p.name for p in root.iterdir()) == ["latest", "one", "two"]


def test_a_failure_leaves_nothing_and_keeps_the_older_bundle(tmp_path: Path) -> None:
    put(tmp_path, "one", "old")
    put(tmp_path, "two", "other")

    def fail() -> None:
        with building(tmp_path / "one") as folder:
            (folder / MANIFEST).write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "one" / MANIFEST).read_text() == "old"
    assert os.readlink(tmp_path / "latest") == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "one", "two"]


def test_what_a_gate_compared_stays_until_a_bundle_of_that_name_succeeds(tmp_path: Path) -> None:
    put(tmp_path, "one", "old")

    def refuse() -> None:
        with building(tmp_path / "one"):
            raise ParityError("asked", "found", "do not use it", {"off": 0.5}, [{"exit": 2}])

    kept = tmp_path / "one.parity-failed.json"
    with pytest.raises(ParityError) as caught:
        refuse()
    assert caught.value.do == f"do not use it; {kept} says what was compared"
    assert caught.value.rows == [{"exit": 2}]
    table = json.loads(kept.read_text())
    assert table == {"asked": "asked", "found": "found", "compared": {"off": 0.5}}
    assert (tmp_path / "one" / MANIFEST).read_text() == "old"
    put(tmp_path, "two", "other")
    assert kept.exists()
    put(tmp_path, "one", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "one", "two"]


@pytest.mark.parametrize("rename", [1, 2])
def test_an_interrupt_while_bundles_change_places_keeps_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    put(tmp_path, "one", "old")
    honest, calls = os.rename, []

    def interrupted(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == rename:
            raise KeyboardInterrupt
        honest(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, "one", "new")
    assert (tmp_path / "one" / MANIFEST).read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "one"]


def test_an_older_bundle_of_that_name_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, "one", "old")
    (tmp_path / "one" / "segment_3.onnx").write_text("left over")
    put(tmp_path, "one", "new")
    assert [p.name for p in (tmp_path / "one").iterdir()] == [MANIFEST]
    assert (tmp_path / "one" / MANIFEST).read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "one"]


def test_something_else_of_that_name_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="something else lies there"):
        put(tmp_path, "mine", "new")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
