"""How sure an exit is, and the one comparison that lets an image leave."""

import numpy as np
from jaxtyping import Bool, Float, Float32


def max_probability(
    logits: Float[np.ndarray, "n C"], temperature: float
) -> Float32[np.ndarray, " n"]:
    """Return the largest class probability of every row, softmax(logits / temperature).

    Equal to 1 / sum_c exp((z_c - max z) / temperature), which cannot overflow.
    """
    # Ufuncs and no methods, which are Python around them: between two segments the caches are
    # cold, and each call counts.
    shifted = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    if temperature != 1.0:
        np.divide(shifted, shifted.dtype.type(temperature), out=shifted)
    np.exp(shifted, out=shifted)
    confidence: Float32[np.ndarray, " n"] = np.reciprocal(np.add.reduce(shifted, axis=1))
    return confidence.astype(np.float32, copy=False)


def probabilities(
    logits: Float[np.ndarray, "n C"], temperature: float
) -> Float32[np.ndarray, "n C"]:
    """Return softmax(logits / temperature), row by row."""
    shifted = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    weights = np.exp(shifted / np.float32(temperature))
    share: Float32[np.ndarray, "n C"] = weights / np.add.reduce(weights, axis=1, keepdims=True)
    return share.astype(np.float32, copy=False)


def leaves(
    confidence: Float32[np.ndarray, " n"], threshold: float | Float[np.ndarray, "*n"]
) -> Bool[np.ndarray, " n"]:
    """Tell which rows leave: confidence >= threshold, both float32.

    Every part of exitkit asks here, so that an image on the threshold leaves everywhere or
    nowhere. A confidence that is not a number never leaves.
    """
    limit = np.asarray(threshold, dtype=np.float32)
    leave: Bool[np.ndarray, " n"] = np.greater_equal(confidence, limit)
    return leave
