"""What `write` refuses, and that a repository is whole or not there."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from backend import Server
from tiny_export import Tiny

from exitkit.errors import BundleError, ConfigError, ExportError
from exitkit.export.forms import cascade, metadata
from exitkit.export.triton import repository as repositories
from exitkit.export.triton.place import MARK, placing
from exitkit.policy.policy import Policy


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_holds_both_variants_and_nothing_else(tiny: Tiny, repository: Path) -> None:
    found = tree(repository)
    configs = {f"{model}/config.pbtxt" for model in json.loads(found["exitkit.json"])["models"]}
    files = {
        "tiny/1/model.onnx": tiny.cascade,
        "tiny_bls/1/model.py": Path(repositories.__file__).with_name("model.py"),
        **{f"tiny_stage{k}/1/model.onnx": tiny.files[k - 1] for k in (1, 2, 3)},
    }
    assert set(found) - configs - set(files) == {
        "exitkit.json",
        "tiny/labels.txt",
        "tiny/warmup/never_leave",
        "tiny_bls/labels.txt",
    }
    for name, source in files.items():
        assert found[name] == source.read_bytes()


def test_everybody_may_read_it(repository: Path) -> None:
    for path in (repository, *repository.rglob("*")):
        assert path.stat().st_mode & 0o444 == 0o444, path


def test_an_earlier_one_is_replaced(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "some" / "models"
    assert tiny.write(folder) == folder
    (folder / "tiny_bls" / "1" / "__pycache__").mkdir()
    policy = dataclasses.replace(tiny.policy, thresholds=(0.25, 0.75))
    dataclasses.replace(tiny, policy=policy).write(folder)
    assert 'string_value: "0.25,0.75"' in (folder / "tiny_bls" / "config.pbtxt").read_text()
    assert not (folder / "tiny_bls" / "1" / "__pycache__").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["models"]


def test_an_interrupt_while_repositories_change_places_keeps_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = json.dumps({"name": "one", "models": [], "network": "a"})
    with placing(tmp_path / "models", "one", ("a",)) as folder:
        (folder / MARK).write_text(mark)
    honest, calls = os.rename, []

    def interrupted(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        honest(source, target)

    monkeypatch.setattr(os, "rename", interrupted)

    def replace() -> None:
        with placing(tmp_path / "models", "one", ("a",)) as folder:
            (folder / MARK).write_text("new")

    with pytest.raises(KeyboardInterrupt):
        replace()
    assert (tmp_path / "models" / MARK).read_text() == mark
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_an_empty_folder_is_taken(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny.write(tmp_path / "models")
    assert (tmp_path / "models" / "tiny").is_dir()


def test_what_exitkit_did_not_write_stays(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something else lies there; name a folder that does"):
        tiny.write(folder)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="something else lies there"):
        tiny.write(file)
    assert tree(tmp_path) == {"models/notes.txt": b"mine", "file": b"mine"}


def test_models_of_others_beside_ours_stay(tiny: Tiny, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "models")
    (folder / "detector").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="it holds detector, which exitkit did not write"):
        tiny.write(folder)
    assert tree(tmp_path) == before


def test_a_link_is_not_replaced(tiny: Tiny, tmp_path: Path) -> None:
    tiny.write(tmp_path / "models")
    (tmp_path / "link").symlink_to("models")
    with pytest.raises(ConfigError, match="it is a link"):
        tiny.write(tmp_path / "link")


def test_another_models_repository_stays(tiny: Tiny, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "models", "first")
    with pytest.raises(ConfigError, match="first lies there; give second another folder"):
        tiny.write(folder, "second")


def test_only_a_network_of_the_same_run_is_replaced(tiny: Tiny, tmp_path: Path) -> None:
    def of(weights: str, network: str, *before: str) -> Tiny:
        origin = {"weights": weights, "earlier": list(before)}
        manifest = dataclasses.replace(tiny.manifest, network=network, origin=origin)
        policy = dataclasses.replace(tiny.policy, network=network)
        file = tmp_path / network
        file.mkdir()
        said = metadata.describe(manifest, policy)
        made = dataclasses.replace(tiny, folder=file, manifest=manifest, policy=policy)
        cascade.write(
            tiny.files, policy.exits, policy.temperatures, made.cascade, said, per_row=True
        )
        return made

    first = of("first", "first")
    folder = first.write(tmp_path / "models")
    of("first", "int8 of first").write(folder)  # another precision of the same weights
    of("second", "second", "first").write(folder)  # the run went on training
    before = tree(folder)
    with pytest.raises(ConfigError, match="another network lies there, also named tiny; name"):
        first.write(folder)
    assert tree(folder) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    folder = tmp_path / "models"
    if earlier:
        tiny.write(folder)
    before, copy, left = tree(tmp_path), shutil.copyfile, iter(range(3))

    def copyfile(source: Path, target: Path) -> object:
        if next(left) == 2:
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(OSError, match="No space left"):
        tiny.write(folder)
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["models"] if earlier else [])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", 'a"b', "two words", "new\nline"])
def test_a_name_that_is_no_plain_one_is_refused(tiny: Tiny, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no plain name"):
        tiny.write(tmp_path / "models", name)
    assert not list(tmp_path.iterdir())


def test_unknown_devices_and_sizes_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of: auto, cpu, gpu"):
        tiny.write(tmp_path / "models", device="tpu")
    with pytest.raises(ConfigError, match="holds no image"):
        tiny.write(tmp_path / "models", max_batch_size=0)


@pytest.mark.parametrize("label", ["two\nlines", "two\r", "nothing\0"])
def test_a_label_that_ends_a_line_is_refused(tiny: Tiny, tmp_path: Path, label: str) -> None:
    manifest = dataclasses.replace(tiny.manifest, classes=("a", label, "c", "d", "e"))
    with pytest.raises(ConfigError, match="end of line in its name; rename it"):
        dataclasses.replace(tiny, manifest=manifest).write(tmp_path / "models")


def test_odd_labels_are_written_as_they_are(tiny: Tiny, tmp_path: Path) -> None:
    odd = ('say "a"', "back\\slash", "a:b", "Käfer 甲虫", "tab\there")
    manifest = dataclasses.replace(tiny.manifest, classes=odd)
    folder = dataclasses.replace(tiny, manifest=manifest).write(tmp_path / "models")
    assert (folder / "tiny" / "labels.txt").read_text(encoding="utf-8").split("\n") == [*odd, ""]
    assert Server(folder).infer("tiny_bls", [{"images": tiny.images[:2]}])


def test_a_policy_of_another_network_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    policy = dataclasses.replace(tiny.policy, network="8" * 64)
    with pytest.raises(BundleError, match="policy for network 7777"):
        dataclasses.replace(tiny, policy=policy).write(tmp_path / "models")


def test_a_cascade_with_other_temperatures_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    policy = dataclasses.replace(tiny.policy, temperatures=(1.0, 1.0, 1.0))
    with pytest.raises(BundleError, match="temperatures"):
        dataclasses.replace(tiny, policy=policy).write(tmp_path / "models")


def test_a_cascade_whose_thresholds_all_rows_share_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    """Triton batches every input of a model or none."""
    shared = dataclasses.replace(tiny, folder=tmp_path)
    said = metadata.describe(tiny.manifest, tiny.policy)
    policy = tiny.policy
    cascade.write(tiny.files, policy.exits, policy.temperatures, shared.cascade, said)
    with pytest.raises(ExportError, match=r"thresholds is FLOAT \[2\]; its first axis must be"):
        shared.write(tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_files_that_are_not_the_manifests_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    first, second, third = tiny.files
    with pytest.raises(ExportError, match="2 segment files; give one per kept exit"):
        dataclasses.replace(tiny, files=(first, second)).write(tmp_path / "models")
    with pytest.raises(ExportError, match=r"segment_2.onnx with a row of hidden \[3, 8, 8\]"):
        dataclasses.replace(tiny, files=(second, first, third)).write(tmp_path / "models")
    classes = dataclasses.replace(tiny.manifest, classes=("a", "b"))
    with pytest.raises(ExportError, match=r"it has .*probabilities \[5\]"):
        dataclasses.replace(tiny, manifest=classes).write(tmp_path / "models")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(ExportError, match=r"broken.onnx: cannot be read"):
        dataclasses.replace(tiny, files=(first, second, broken)).write(tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_thresholds_that_float32_cannot_hold_decide_like_the_engine(
    tiny: Tiny, tmp_path: Path
) -> None:
    policy = Policy(tiny.policy.network, (1, 2, 3), (1 / 3, 0.1), tiny.policy.temperatures)
    other = dataclasses.replace(tiny, policy=policy)
    (answer,) = Server(other.write(tmp_path / "models")).infer(
        "tiny_bls", [{"images": tiny.images}]
    )
    wanted = other.engine.answer(tiny.images)
    assert answer["exit"].ravel().tolist() == wanted.exit.tolist()
    np.testing.assert_allclose(answer["confidence"].ravel(), wanted.probability, rtol=1e-5)
