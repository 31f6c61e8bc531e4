"""Float32 segments of the tiny network, and images for them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from exitkit import images
from exitkit.bundle import Manifest, Segment
from exitkit.data.split import Tune
from exitkit.export.onnx import OnnxFile
from exitkit.images import ImageSpec

SPEC = ImageSpec(8, 8, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))


@pytest.fixture(scope="session")
def tiny(tiny_files: list[OnnxFile]) -> tuple[Path, Manifest]:
    """Folder and manifest of exits 2 and 3; read-only for its users."""
    shapes = ((3, 8, 8), (6, 4, 4))
    rows = tuple(Segment(k, f"segment_{k}.onnx", s, 1) for k, s in zip((2, 3), shapes, strict=True))
    manifest = Manifest("m", "n" * 64, "tiny", "deep", tuple("abcde"), SPEC, rows, 1, {}, {})
    return tiny_files[0].path.parent, manifest


@pytest.fixture(scope="session")
def tune() -> Tune:
    """Eighty random images whose labels say nothing."""
    random = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (80, 3, 8, 8), generator=random).to(torch.uint8)

    def encoded(row: int) -> bytes:
        return images.encode_png(np.ascontiguousarray(pixels[row].numpy().transpose(1, 2, 0)))

    return Tune(pixels, torch.arange(80) % 5, torch.arange(80), encoded)
