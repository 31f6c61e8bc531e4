"""What the trained network answered about held-out images: the yardstick of the parity gate.

It travels with the bundle, images as encoded files beside the logits, so that any machine can ask
again whether the bundle still decides like the trained network. No torch, nothing pickled.
"""

import itertools
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from exitkit.atomic import replacing
from exitkit.bundle import REFERENCE, Manifest
from exitkit.errors import BundleError

SCHEMA = "1.0"
# What NumPy raises over files that are truncated, no archives, or hold something else.
_UNREADABLE = (
    OSError, KeyError, ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
MAX_BYTES = 32 << 20  # of images and logits in a bundle; fewer images travel where they are large
MAX_UNPACKED = 4 * MAX_BYTES  # that are read: one image always travels, however large


@dataclass(frozen=True, eq=False)
class Reference:
    """Images and what the trained network said about them.

    Attributes:
        split: name of the split that the images come from.
        exits: numbers of the exits, shallow to deep.
        encoded: N image files, as a client would send them.
        labels: [N] true class numbers.
        logits: [K, N, C] float32 of the trained network, fed as evaluation feeds it.
        input_difference: largest difference between the normalised pixels of the two sides.
    """

    split: str
    exits: tuple[int, ...]
    encoded: tuple[bytes, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    input_difference: float

    def __len__(self) -> int:
        return len(self.encoded)

    def fitting(self, limit: int = MAX_BYTES) -> "Reference":
        """Return as many images, spread over all, as `limit` bytes hold; at least one."""
        each = self.logits[:, :1].nbytes + 16
        size = sum(map(len, self.encoded)) + each * len(self)
        count = max(1, len(self) * limit // size) if size > limit else len(self)
        while True:
            rows = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
            kept = tuple(self.encoded[row] for row in rows)
            if count == 1 or sum(map(len, kept)) + each * count <= limit:
                break
            count = max(1, count * 9 // 10)  # these images were larger than most
        return Reference(
            self.split,
            self.exits,
            kept,
            self.labels[rows],
            self.logits[:, rows],
            self.input_difference,
        )

    def save(self, path: Path) -> None:
        """Write an .npz file: the images' bytes in a row, and where each one ends."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                schema=np.array(SCHEMA),
                split=np.array(self.split),
                exits=np.array(self.exits, dtype=np.int64),
                files=np.frombuffer(b"".join(self.encoded), dtype=np.uint8),
                ends=np.cumsum([len(image) for image in self.encoded], dtype=np.int64),
                labels=self.labels,
                logits=self.logits,
                input_difference=np.array(self.input_difference),
            )


def held(folder: Path, manifest: Manifest) -> Reference:
    """Read what travels in a bundle.

    Args:
        folder: of the bundle.
        manifest: of the same bundle.

    Raises:
        BundleError: it was exported without images, or see `load`.
    """
    if REFERENCE not in manifest.files:
        raise BundleError(
            f"the images that bundle {folder} was proven with",
            "it was exported without them (--no-images)",
            "export it again with them, where they may be",
        )
    return load(folder / REFERENCE)


def load(path: Path) -> Reference:
    """Read what `save` wrote.

    Raises:
        BundleError: the file is missing, damaged, of another schema, larger than any that `save`
            writes, or its parts do not fit together.
    """
    try:
        # Opened here: NumPy leaves a truncated file open.
        with path.open("rb") as file:
            _require_size(file)
            with np.load(file, allow_pickle=False) as table:
                found = _from(table)
    except _UNREADABLE as error:
        raise BundleError(
            str(path), f"holds no images to verify with ({error})", "export it again"
        ) from error
    return found


def _require_size(file: BinaryIO) -> None:
    """Refuse an archive that would fill the memory, before anything of it is unpacked."""
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_UNPACKED:
        raise ValueError(f"{size / 1e6:.0f} MB unpacked, at most {MAX_UNPACKED / 1e6:.0f} are read")
    file.seek(0)


def _from(table: Mapping[str, NDArray[Any]]) -> Reference:  # Any: what the file says
    schema = str(table["schema"])
    if schema != SCHEMA:
        raise ValueError(f"schema {schema}, this exitkit reads {SCHEMA}")
    whole = {name: table[name] for name in ("exits", "ends", "labels")}
    logits, files = table["logits"], table["files"].tobytes()
    integers = all(one.dtype == np.int64 and one.ndim == 1 for one in whole.values())
    n, k = whole["ends"].size, whole["exits"].size
    fits = integers and whole["labels"].size == n > 0
    fits = fits and logits.dtype == np.float32 and logits.shape[:2] == (k, n)
    fits = fits and logits.ndim == 3 and logits.shape[2] > 0
    if not fits or not np.isfinite(logits).all():
        raise ValueError("its parts do not fit together")
    ends = [0, *whole["ends"].tolist()]
    if ends != sorted(ends) or ends[-1] != len(files):
        raise ValueError("its parts do not fit together")
    return Reference(
        str(table["split"]),
        tuple(whole["exits"].tolist()),
        tuple(files[a:b] for a, b in itertools.pairwise(ends)),
        whole["labels"],
        logits,
        float(table["input_difference"]),
    )
