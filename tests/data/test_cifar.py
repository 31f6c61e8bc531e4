"""CIFAR's binary archives: small ones of the published form, found, fetched, refused."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exitkit import data, images
from exitkit.config import TrainConfig
from exitkit.data import cifar
from exitkit.data.download import Source, fetch
from exitkit.errors import DataError

CIFAR100, CIFAR10 = "cifar-100-binary.tar.gz", "cifar-10-binary.tar.gz"


def records(labels: list[int], coarse: bool, seed: int) -> tuple[bytes, np.ndarray]:
    """Random images as records, and as [N, 32, 32, 3]."""
    source = np.random.default_rng(seed)
    planes = source.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    parts = [
        bytes([9] * coarse + [label]) + image.tobytes()
        for label, image in zip(labels, planes, strict=True)
    ]
    return b"".join(parts), planes.transpose(0, 2, 3, 1)


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members100(train: bytes, test: bytes) -> dict[str, bytes]:
    return {
        "cifar-100-binary/train.bin": train,
        "cifar-100-binary/test.bin": test,
        "cifar-100-binary/fine_label_names.txt": b"apple\nbear\n",
        "cifar-100-binary/coarse_label_names.txt": b"any\n",
    }


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    train, _ = records([0, 1] * 20, True, 0)
    test, _ = records([0, 1, 1], True, 1)
    return pack(tmp_path / CIFAR100, members100(train, test))


def load(path: Path, **settings: object) -> data.DataSets:
    return data.load(TrainConfig(data=str(path), **settings))


def test_an_archive_given_by_path(archive: Path) -> None:
    found = load(archive)
    assert found.name == "cifar100"
    assert found.classes == ("apple", "bear")
    assert (len(found.train), len(found.tune), len(found.test)) == (36, 4, 3)
    assert found.test.labels.tolist() == [0, 1, 1]
    _, pixels = records([0, 1, 1], True, 1)
    assert np.array_equal(found.test.pixels.permute(0, 2, 3, 1).numpy(), pixels)
    assert found.image.mean == (0.5071, 0.4865, 0.4409)
    assert (found.defaults.epochs, found.defaults.schedule, found.defaults.flip) == (
        200,
        "step",
        True,
    )


def test_encoded_images_decode_to_the_very_pixels(archive: Path) -> None:
    found = load(archive)
    again = images.decode(found.train.encoded(5), found.image)
    assert np.array_equal(again, found.train.pixels[5].permute(1, 2, 0).numpy())


def test_cifar10_joins_its_batches(tmp_path: Path) -> None:
    parts = [records([number, 9], False, number)[0] for number in range(6)]
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    members = dict(zip([*names, "test_batch.bin"], parts, strict=True))
    members = {f"cifar-10-batches-bin/{name}": part for name, part in members.items()}
    members["cifar-10-batches-bin/batches.meta.txt"] = "\n".join("abcdefghij").encode() + b"\n\n"
    # Under any name, and in another order than the one they are joined in.
    found = load(pack(tmp_path / "mine.tgz", dict(reversed(members.items()))), tune_share=0.0)
    assert found.name == "cifar10"
    assert found.classes == tuple("abcdefghij")
    assert found.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert found.test.labels.tolist() == [5, 9]


def test_the_second_time_the_archive_is_not_read(archive: Path) -> None:
    first = load(archive)
    stamp, size = archive.stat().st_mtime_ns, archive.stat().st_size
    archive.write_bytes(bytes(size))
    os.utime(archive, ns=(stamp, stamp))
    again = cifar.load("cifar100", archive, None, None, data.cache.directory())
    assert torch.equal(first.train.pixels, again.train.pixels)


def test_another_size_is_resized_once(archive: Path) -> None:
    found = load(archive, image_size=16)
    assert found.train.pixels.shape[1:] == (3, 16, 16)
    assert found.image.height == 16
    assert found.defaults.shift == 2


def test_a_folder_that_holds_the_archive(archive: Path) -> None:
    assert load(archive.parent).name == "cifar100"


def test_a_name_finds_the_archive_in_the_data_folder(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    archive.rename(tmp_path / "data" / CIFAR100)
    monkeypatch.chdir(tmp_path)
    assert len(load(Path("cifar100")).test) == 3


def test_an_archive_that_is_not_there_is_not_fetched_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        data.load(TrainConfig(data="cifar10"), cache=tmp_path / "kept")
    text = str(error.value)
    assert text.startswith(f"data cifar10: no {CIFAR10} in data, {tmp_path}/kept; add --download")
    assert "170 MB from https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" in text
    assert "archive's path as --data" in text


# Archives that are refused.


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / CIFAR100
    path.write_text("hello")
    with pytest.raises(DataError, match=r"cifar-100-binary\.tar\.gz: cannot be read"):
        load(path)


def test_a_truncated_archive_is_refused(archive: Path) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read.*fetch the archive again"):
        load(archive)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar.gz", {"cifar-100-python/train": b"pickled"})
    with pytest.raises(DataError, match="neither CIFAR-10 nor CIFAR-100; give a binary version"):
        load(path)


def test_missing_members_are_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar.gz", {"train.bin": records([0], True, 0)[0]})
    with pytest.raises(DataError, match=r"has no fine_label_names\.txt, test\.bin"):
        load(path)


@pytest.mark.parametrize("damage", ["short", "label", "empty"])
def test_wrong_records_are_refused(tmp_path: Path, damage: str) -> None:
    train, _ = records([0, 1, 2 if damage == "label" else 1], True, 0)
    train = {"short": train[:-1], "empty": b""}.get(damage, train)
    test, _ = records([0, 1], True, 1)
    path = pack(tmp_path / "x.tar.gz", members100(train, test))
    expected = {
        "short": "no multiple of 3074",
        "label": "has label 2 but names 2 classes",
        "empty": "records have 0 bytes",
    }
    with pytest.raises(DataError, match=expected[damage]):
        load(path)


def test_members_stay_in_the_archive(tmp_path: Path) -> None:
    train, _ = records([0, 1] * 5, True, 0)
    test, _ = records([0, 1], True, 1)
    members = {**members100(train, test), "../escaped.bin": b"x", "/etc/escaped": b"x"}
    inside = tmp_path / "inside"
    inside.mkdir()
    load(pack(inside / "x.tar.gz", members))
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


# Fetching, from a server of our own.


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def served(site: tuple[str, Path], content: bytes) -> Source:
    url, folder = site
    (folder / "x.tar.gz").write_bytes(content)
    return Source(f"{url}/x.tar.gz", hashlib.sha256(content).hexdigest(), len(content))


def test_a_fetched_file_is_kept_under_its_name(site: tuple[str, Path], tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    target = tmp_path / "kept" / "x.tar.gz"
    assert fetch(served(site, content), target) == target
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("content", [b"other", b"far too many bytes", b"few"])
def test_other_bytes_are_refused_and_not_kept(
    site: tuple[str, Path], tmp_path: Path, content: bytes
) -> None:
    wanted = replace(served(site, b"right"), url=served(site, content).url)
    with pytest.raises(DataError, match=r"SHA-256 [0-9a-f]{64} instead of [0-9a-f]{64}"):
        fetch(wanted, tmp_path / "kept" / "x.tar.gz")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_file_that_is_not_there_is_named(site: tuple[str, Path], tmp_path: Path) -> None:
    absent = Source(f"{site[0]}/absent.tar.gz", "0" * 64, 5)
    with pytest.raises(DataError, match=r"absent\.tar\.gz: cannot be fetched.*404.*other means"):
        fetch(absent, tmp_path / "absent.tar.gz")
    assert not (tmp_path / "absent.tar.gz").exists()


def test_a_name_with_download_is_fetched_once(
    site: tuple[str, Path], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = served(site, archive.read_bytes())
    kind = replace(cifar.KINDS["cifar100"], source=source)
    monkeypatch.setitem(cifar.KINDS, "cifar100", kind)
    monkeypatch.chdir(tmp_path / "site")
    kept, config = tmp_path / "kept", TrainConfig(data="cifar100")
    assert len(data.load(config, download=True, cache=kept).test) == 3
    (site[1] / "x.tar.gz").unlink()
    assert len(data.load(config, download=False, cache=kept).test) == 3
