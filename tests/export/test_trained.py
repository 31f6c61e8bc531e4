"""The yardstick of the gate: what the trained network says, of the images that are picked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_network import network

from exitkit import images
from exitkit.data import stream
from exitkit.data.split import Tune
from exitkit.data.stream import Stream
from exitkit.export import trained
from exitkit.images import ImageSpec

SPEC = ImageSpec(8, 8, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))


def test_only_the_images_that_are_picked_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    files = tuple(tmp_path / f"{row}.png" for row in range(10))
    for file, image in zip(files, pixels, strict=True):
        file.write_bytes(images.encode_png(image))
    decoded: list[Path] = []
    honest = stream.decode

    def decode(file: Path, spec: ImageSpec) -> Any:
        decoded.append(file)
        return honest(file, spec)

    monkeypatch.setattr(stream, "decode", decode)
    monkeypatch.setattr(trained, "IMAGES", 4)
    split = Tune(
        Stream(files, SPEC, workers=0),
        torch.arange(10),
        torch.arange(10),
        lambda row: files[row].read_bytes(),
    )
    found = trained.reference(network().eval(), (2, 3), split, SPEC)
    picked = [0, 3, 6, 9]
    assert decoded == [files[row] for row in picked]
    assert found.labels.tolist() == picked
    assert found.encoded == tuple(files[row].read_bytes() for row in picked)
    assert found.input_difference == 0.0
    hidden = torch.from_numpy(images.normalise(pixels[picked], SPEC))
    with torch.no_grad():
        wanted = network().eval()(hidden, (2, 3)).answers
    for logits, own in zip(found.logits, wanted, strict=True):
        np.testing.assert_allclose(logits, own.logits, atol=1e-6)
