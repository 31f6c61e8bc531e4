"""A converted network is another network: its digest names weights, precision and files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from exitkit.atomic import sha256


def digest(trained: str, precision: str, files: Sequence[Path]) -> str:
    """Return the digest of a network in one precision, 64 hexadecimal digits.

    Args:
        trained: digest of the trained weights; it is the answer where nothing was converted.
        precision: "float32", "fp16" or "int8".
        files: the segments, shallow to deep.
    """
    if precision == "float32":
        return trained
    parts = [trained, precision, *(sha256(file) for file in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
