"""Real test images as encoded files: CIFAR-100 from its folder or zip files, or digits."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exitkit import images
from exitkit.bundle import read_manifest

INPUTS = "inputs.npy"
# Images that are sent again and again.
SENT = 2000


@dataclass(frozen=True)
class Pictures:
    """Encoded files and the names of their classes."""

    files: list[bytes]
    truth: list[str]


def cifar100(source: Path) -> Pictures:
    """Return all test images of a folder with test/, or with zip files of it."""
    held: dict[str, bytes] = {}
    for archive in source.glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            held |= {name: file.read(name) for name in file.namelist() if _is_test(name)}
    for path in source.glob("test/*/*"):
        held[path.relative_to(source).as_posix()] = path.read_bytes()
    if not held:
        raise SystemExit(f"{source}: neither test/ nor zip files of it; set EXITKIT_CIFAR100")
    names = sorted(held)
    return Pictures([held[name] for name in names], [name.split("/")[1] for name in names])


def digits(cache: Path) -> Pictures:
    """Return the whole test split of the digits, as PNG files; `cache` keeps what is decoded."""
    from exitkit.data import digits as data  # loads torch, which nothing else here needs

    test = data.load(None, None, cache).test
    rows = range(len(test.labels))
    return Pictures([test.encoded(row) for row in rows], [str(int(k)) for k in test.labels])


def drawn(count: int, seed: int) -> list[int]:
    """Return the numbers of the images that are sent, in the order in which they are."""
    return np.random.default_rng(seed).permutation(count)[:SENT].tolist()


def write(folder: Path, pictures: Pictures, bundle: Path) -> Path:
    """Keep images for the load's process, also decoded as the bundle wants to see them."""
    folder.mkdir(parents=True)
    np.save(folder / INPUTS, decode(pictures.files, bundle))
    sizes = [len(file) for file in pictures.files]
    (folder / "files.bin").write_bytes(b"".join(pictures.files))
    (folder / "files.json").write_text(json.dumps({"sizes": sizes, "truth": pictures.truth}))
    return folder


def read(folder: Path) -> Pictures:
    """Return what `write` kept."""
    table = json.loads((folder / "files.json").read_text())
    raw, ends = (folder / "files.bin").read_bytes(), np.cumsum(table["sizes"]).tolist()
    starts = [0, *ends[:-1]]
    return Pictures([raw[a:b] for a, b in zip(starts, ends, strict=True)], table["truth"])


def decode(files: list[bytes], bundle: Path) -> NDArray[np.float32]:
    """Return [N, 3, H, W] as a bundle wants to see images."""
    spec = read_manifest(bundle).image
    return images.normalise(np.stack([images.decode(file, spec) for file in files]), spec)


def _is_test(name: str) -> bool:
    return name.startswith("test/") and name.count("/") == 2 and not name.endswith("/")
