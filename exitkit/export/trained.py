"""Ask the trained network about held-out images: torch, fed from the split's own pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from exitkit import images
from exitkit.data.split import Split
from exitkit.errors import DataError
from exitkit.export.reference import Reference
from exitkit.images import ImageSpec
from exitkit.models.exitnet import ExitNet

IMAGES = 1000
BATCH = 64


def reference(network: ExitNet, exits: Sequence[int], split: Split, spec: ImageSpec) -> Reference:
    """Return what `network` says about up to 1,000 images spread over `split`.

    Args:
        network: on the processor, in float32 and in evaluation mode.
        exits: numbers of the kept exits, ascending.
        split: whose images; their encoded files are kept beside the answers.
        spec: what the network wants to see.

    Raises:
        DataError: the split has no images.
    """
    if len(split) == 0:
        raise DataError(f"parity on the {split.name} split", "it has no images", "hold some out")
    count = min(IMAGES, len(split))
    rows = np.linspace(0, len(split) - 1, count).round().astype(np.int64)
    chosen = split.rows(rows.tolist())  # no other image is decoded
    encoded = tuple(chosen.encoded(row) for row in range(count))
    logits, off = _logits(network, exits, chosen, encoded, spec)
    labels = chosen.labels.cpu().numpy().astype(np.int64)
    return Reference(split.name, tuple(exits), encoded, labels, logits, off)


@torch.no_grad()
def _logits(
    network: ExitNet,
    exits: Sequence[int],
    split: Split,
    encoded: Sequence[bytes],
    spec: ImageSpec,
) -> tuple[NDArray[np.float32], float]:
    """Return the network's logits [K, N, C] and how far its input is from a client's."""
    parts, off, done = [], 0.0, 0
    for batch, _, _ in split.batches(BATCH, torch.device("cpu"), spec):
        files = encoded[done : done + len(batch)]
        sent = images.normalise(np.stack([images.decode(file, spec) for file in files]), spec)
        off, done = max(off, float(np.abs(sent - batch.numpy()).max())), done + len(batch)
        hidden, answers = batch, []
        for k in range(1, exits[-1] + 1):
            hidden = network.stage(k, hidden)
            if k in exits:
                answers.append(network.head(k, hidden).logits)
        parts.append(torch.stack(answers).numpy())
    return np.concatenate(parts, axis=1), off
