"""Images whose answers are known beforehand: the offline engine gave them, one by one."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exitkit import images
from exitkit.engine import model as models

# None is the bundle's own policy; the others are asked for by requests.
THRESHOLDS = (None, 0.4, 0.62, 0.9, 1.0)
COUNT = 48
# Float32 sums depend on the batch in their last bits; images differ by far more.
CLOSE = 1e-5


@dataclass(frozen=True)
class Answer:
    """What the engine says of one image."""

    label: str
    confidence: float
    exit: int

    def is_said(self, row: dict[str, Any]) -> bool:
        """Return whether a row of an answer says the same."""
        return (
            row["label"] == self.label
            and row["exit"] == self.exit
            and abs(row["confidence"] - self.confidence) < CLOSE
        )


@dataclass(frozen=True)
class Known:
    """Images of one bundle and their answers.

    Attributes:
        model: its name.
        files: encoded, [n].
        inputs: the same images as the network takes them, [n,3,H,W].
        answers: by threshold asked for and greatest exit (None: the deepest), [n] each.
        exits: of the bundle.
    """

    model: str
    files: list[bytes]
    inputs: NDArray[np.float32]
    answers: dict[tuple[float | None, int | None], list[Answer]]
    exits: tuple[int, ...]

    @classmethod
    def of(cls, bundle: Path, seed: int) -> "Known":
        """Draw noise of many colours, PNG and JPEG, and ask the engine about each image alone."""
        generator = np.random.default_rng(seed)
        files = [_noise(generator, "PNG" if k % 2 else "JPEG") for k in range(COUNT)]
        answers, exits, spec = {}, (), None
        for threshold in THRESHOLDS:
            model = models.load(str(bundle), threshold, threads=1)
            exits, spec = model.manifest.exits, model.manifest.image
            for deepest in (None, *exits):
                rows = model.predict(files, batch_size=1, max_exit=deepest)
                answers[threshold, deepest] = [
                    Answer(row.label, row.probability, row.exit) for row in rows
                ]
        assert spec is not None
        pixels = np.stack([images.decode(file, spec) for file in files])
        return cls(bundle.name, files, images.normalise(pixels, spec), answers, exits)


def _noise(generator: np.random.Generator, kind: str) -> bytes:
    colour = generator.integers(60, 196, 3)
    pixels = np.clip(colour + generator.integers(-40, 40, (32, 32, 3)), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()
