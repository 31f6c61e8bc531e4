"""Hold a bundle's other forms against the engine on the very same segments. No torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exitkit import images
from exitkit.bundle import Manifest
from exitkit.engine import ort
from exitkit.engine.engine import Engine
from exitkit.export.forms import check, metadata
from exitkit.export.forms.check import FormCheck
from exitkit.export.forms.expected import expect
from exitkit.export.reference import Reference
from exitkit.policy.policy import Policy

IMAGES = 256  # of those that the gate compares: each form answers them in a process of its own


def prove(
    folder: Path, manifest: Manifest, policy: Policy, reference: Reference
) -> Iterator[FormCheck]:
    """Hold every form of a bundle against the engine on its segments, one after the other.

    Raises:
        BundleError: a form was made for another network, or for other temperatures.
        ExportError: plain ONNX Runtime cannot run a form.
    """
    if not manifest.forms:
        return
    segments = ort.load(folder, manifest, pool="private")
    rows = np.linspace(0, len(reference) - 1, min(IMAGES, len(reference))).round().astype(int)
    pixels = [images.decode(reference.encoded[row], manifest.image) for row in rows]
    expected = expect(Engine(segments, policy), images.normalise(np.stack(pixels), manifest.image))
    for file in manifest.forms.values():
        metadata.require(metadata.read(folder / file), policy)
        yield check.check(folder / file, expected)
