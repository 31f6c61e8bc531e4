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
    encoded = tuple(split.encoded(int(row)) for row in rows)
    logits, off = _logits(network, exits, split, rows, encoded, spec)
    labels = split.labels.cpu().numpy()[rows].astype(np.int64)
    return Reference(split.name, tuple(exits), encoded, labels, logits, off)


@torch.no_grad()
def _logits(
    network: ExitNet,
    exits: Sequence[int],
    split: Split,
    rows: NDArray[np.int64],
    encoded: Sequence[bytes],
    spec: ImageSpec,
) -> tuple[NDArray[np.float32], float]:
    """Return the network's logits [K, N, C] and how far its input is from a client's."""
    parts, off, first, done = [], 0.0, 0, 0
    for batch, _, _ in split.batches(BATCH, torch.device("cpu"), spec):
        inside = rows[(rows >= first) & (rows < first + len(batch))] - first
        first += len(batch)
        if len(inside) == 0:
            continue
        chosen = batch[torch.from_numpy(inside)]
        files = encoded[done : done + len(inside)]
        sent = images.normalise(np.stack([images.decode(file, spec) for file in files]), spec)
        off, done = max(off, float(np.abs(sent - chosen.numpy()).max())), done + len(inside)
        hidden, answers = chosen, []
        for k in range(1, exits[-1] + 1):
            hidden = network.stage(k, hidden)
            if k in exits:
                answers.append(network.head(k, hidden).logits)
        parts.append(torch.stack(answers).numpy())
    return np.concatenate(parts, axis=1), off
