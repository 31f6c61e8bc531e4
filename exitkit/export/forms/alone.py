"""Run a form with nothing but NumPy and ONNX Runtime: a program that imports no exitkit.

    python -P alone.py FORM.onnx TABLE.npz ANSWERS.npz

TABLE has images [N, 3, H, W], thresholds [L, K-1], batches [any] (sizes that take turns) and
threads []. ANSWERS gets exit and confidence, [L, N], and probabilities, [L, N, C]: row l is for
thresholds l. Of a form that gives logits it gets logits, [L, N, K, C]. A form with thresholds per
row gets those of every l in each batch.
"""

import itertools
import sys
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def turns(levels: int, images: int, per_row: bool) -> NDArray[np.int64]:
    """Return [L, N]: which row of thresholds each image gets in each turn; in the end, all."""
    turn = np.repeat(np.arange(levels)[:, None], images, axis=1)
    return (turn + np.arange(images)) % levels if per_row else turn


def main(form: str, table: str, answers: str) -> None:
    """Answer all images at all thresholds."""
    with np.load(table) as given:
        images, levels = given["images"], given["thresholds"]
        sizes, threads = given["batches"].tolist(), int(given["threads"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(form, options, providers=["CPUExecutionProvider"])
    ranks = {entry.name: len(entry.shape) for entry in session.get_inputs()}
    per_row = ranks.get("thresholds") == 2
    whose = turns(len(levels), len(images), per_row)
    names = ["probabilities", "confidence", "exit"]
    names += [entry.name for entry in session.get_outputs() if entry.name == "logits"]
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in names}  # Any: of several types
    for level, own in zip(levels, whose, strict=True):
        start, steps = 0, itertools.cycle(sizes)
        while start < len(images):
            rows = slice(start, start + next(steps))
            start = rows.stop
            feed = {"images": images[rows]}
            if "thresholds" in ranks:
                feed["thresholds"] = levels[own[rows]] if per_row else level
            for name, values in zip(names, session.run(names, feed), strict=True):
                # logits come as [K, rows, C]
                found[name].append(values.swapaxes(0, 1) if name == "logits" else values)
    table_of = {name: by_level(np.concatenate(rows), whose) for name, rows in found.items()}
    np.savez(answers, allow_pickle=False, **table_of)


def by_level(values: NDArray[Any], whose: NDArray[np.int64]) -> NDArray[Any]:
    """Return values [L x N, ...], in the order of turns, as [L, N, ...] in that of thresholds."""
    shape = (*whose.shape, *values.shape[1:])
    table = np.empty(shape, dtype=values.dtype)
    table[whose, np.arange(whose.shape[1])] = values.reshape(shape)
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
