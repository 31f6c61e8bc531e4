"""What the trained network answered about held-out images: the yardstick of the parity gate.

It travels with the bundle, images as encoded files beside the logits, so that any machine can ask
again whether the bundle still decides like the trained network. No torch, nothing pickled.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exitkit.atomic import replacing
from exitkit.errors import BundleError

SCHEMA = "1.0"
# What NumPy raises over files that are truncated or no archives.
_UNREADABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
MAX_BYTES = 32 << 20  # of images and logits in a bundle; fewer images travel where they are large


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


def load(path: Path) -> Reference:
    """Read what `save` wrote.

    Raises:
        BundleError: the file is missing, damaged, or its parts do not fit together.
    """
    try:
        # Opened here: NumPy leaves a truncated file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as table:
            ends = table["ends"].tolist()
            files = table["files"].tobytes()
            found = Reference(
                str(table["split"]),
                tuple(table["exits"].tolist()),
                tuple(files[a:b] for a, b in zip([0, *ends], ends, strict=False)),
                table["labels"],
                table["logits"],
                float(table["input_difference"]),
            )
        fits = found.logits.ndim == 3 and found.labels.shape == (len(found),)
        fits = fits and found.logits.shape[:2] == (len(found.exits), len(found))
        if not fits or len(found) == 0 or ends[-1] != len(files):
            raise ValueError("its parts do not fit together")
    except _UNREADABLE as error:
        raise BundleError(
            str(path), f"holds no images to verify with ({error})", "export it again"
        ) from error
    return found
