"""A tiny exported network: files, manifest, policy, engine, and images for it."""

import dataclasses
from pathlib import Path

import numpy as np
from tiny_network import network

from exitkit.bundle import Manifest, Segment
from exitkit.engine import ort
from exitkit.engine.engine import Engine
from exitkit.export import onnx, segments, triton
from exitkit.export.forms import cascade, metadata
from exitkit.images import ImageSpec
from exitkit.policy import criteria
from exitkit.policy.policy import Policy

NETWORK = "7" * 64
TEMPERATURES = (0.05, 0.07, 1.0)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """What an export has when it comes to writing the repository.

    Attributes:
        folder: of the files.
        manifest, policy: of the bundle; each threshold lets about half of `images` leave.
        files: segments.
        images: [24, 3, 8, 8].
    """

    folder: Path
    manifest: Manifest
    policy: Policy
    files: tuple[Path, ...]
    images: np.ndarray

    @property
    def cascade(self) -> Path:
        return self.folder / "cascade.onnx"

    @property
    def engine(self) -> Engine:
        return Engine(ort.load(self.folder, self.manifest, threads=1), self.policy)

    def write(self, folder: Path, name: str = "tiny", **options: object) -> Path:
        return triton.write(
            folder, self.manifest, self.policy, self.cascade, self.files, name, **options
        )  # type: ignore[arg-type]


def export(folder: Path, kept: tuple[int, ...]) -> Tiny:
    pieces = segments.cut(network(), kept)
    shapes = segments.input_shapes(pieces, 8, 8)
    files = tuple(
        onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx").path
        for piece, shape in zip(pieces, shapes, strict=True)
    )
    manifest = Manifest(
        name="tiny", network=NETWORK, arch="tiny", method="deep", classes=tuple("abcde"),
        image=ImageSpec(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        segments=tuple(
            Segment(piece.exit, file.name, shape, 1)
            for piece, file, shape in zip(pieces, files, shapes, strict=True)
        ),
        plain_macs=1, files={}, origin={},
    )  # fmt: skip
    images = np.random.default_rng(5).normal(1, 2, (24, 3, 8, 8)).astype(np.float32)
    temperatures = TEMPERATURES[: len(kept)]
    thresholds, hidden = [], images
    for segment, temperature in zip(
        ort.load(folder, manifest, threads=1), temperatures, strict=True
    ):
        logits, onward = segment.run(hidden)
        if onward is not None:
            sure = np.sort(criteria.max_probability(logits, temperature))
            thresholds.append(float((sure[11] + sure[12]) / 2))
            hidden = onward
    policy = Policy(NETWORK, kept, tuple(thresholds), temperatures)
    tiny = Tiny(folder, manifest, policy, files, images)
    said = metadata.describe(manifest, policy)
    cascade.write(files, kept, temperatures, tiny.cascade, said, per_row=True)
    return tiny
