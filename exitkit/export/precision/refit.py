"""Temperatures and thresholds belong to the numbers that they were fitted on.

So the converted segments score the tune split themselves, and they are another network: the
policy that was fitted on the float32 scores is refused for them by its digest.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from exitkit.bundle import Manifest
from exitkit.data.split import Split
from exitkit.engine import ort
from exitkit.engine.engine import all_logits
from exitkit.scores import Scores

BATCH = 64


def score(folder: Path, manifest: Manifest, split: Split, macs: Sequence[int]) -> Scores:
    """Return what the segments in `folder` say about every image of a split.

    Args:
        folder: of the segments.
        manifest: names them, with the digest that the scores will carry.
        split: of the run's data.
        macs: multiply-adds of leaving at each kept exit, as `fit.fit` takes them.

    Raises:
        EngineError: a segment cannot be loaded or run.
    """
    segments = ort.load(folder, manifest, pool="private")
    parts, labels, index = [], [], []
    for images, truth, rows in split.batches(BATCH, torch.device("cpu"), manifest.image):
        parts.append(all_logits(segments, images.contiguous().numpy()))
        labels.append(truth.numpy())
        index.append(rows.numpy())
    return Scores(
        split=split.name,
        network=manifest.network,
        exits=manifest.exits,
        macs=np.asarray(macs, dtype=np.float64),
        logits=np.concatenate(parts, axis=1),
        labels=np.concatenate(labels),
        index=np.concatenate(index),
    )
