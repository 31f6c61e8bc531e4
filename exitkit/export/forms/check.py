"""Does a form decide like the engine on the segments that it was made from?

The engine answers every image at several thresholds; then the form does, in a process of its own
that loads ONNX Runtime and NumPy and no exitkit, in batches of mixed sizes. The networks are the
same, but the runtime may order sums differently in one graph than in several, so what is near to
a threshold is counted apart, exactly as `agreement.py` does between a network and its export.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit import machine
from exitkit.engine.engine import Engine, all_logits
from exitkit.errors import DataError, ExportError, ParityError
from exitkit.export.agreement import ROUNDING, Comparison
from exitkit.export.forms import alone

SCHEMA = "1.0"
BATCHES = (1, 3, 32, 8)  # sizes in which the form gets the images, taking turns
ENGINE_BATCH = 32

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Expected:
    """What the engine answers, once for all forms of a bundle.

    Attributes:
        images: [N, 3, H, W], normalised.
        thresholds: [L, K-1].
        exit, label: [L, N].
        confidence: [L, N].
        near: [L, N], whether a threshold on the way is too near to tell, or two classes are.
        reach: [L, N], how far a confidence may be off.
        exits: numbers of the kept exits.
    """

    images: Floats
    thresholds: Floats
    exit: Numbers
    label: Numbers
    confidence: Floats
    near: NDArray[np.bool_]
    reach: Floats
    exits: tuple[int, ...]


@dataclass(frozen=True)
class FormCheck:
    """What a form does against the engine.

    Attributes:
        file: name of the form's file.
        images: how many.
        batches: sizes of its batches, taking turns.
        thresholds: the settings at which decisions were compared.
        leaving: per kept exit, how many decisions the engine takes there.
        near: decisions that were too near to a threshold, or between two classes, to compare.
        exit_different: how many of the rest take another exit.
        label_different: how many of the rest take this exit and give another label.
        confidence_different: how many of the rest agree and have a confidence too far off.
        difference: how far the worst confidence of those that agree is off.
    """

    file: str
    images: int
    batches: tuple[int, ...]
    thresholds: tuple[tuple[float, ...], ...]
    leaving: tuple[int, ...]
    near: int
    exit_different: int
    label_different: int
    confidence_different: int
    difference: float

    @property
    def decisions(self) -> int:
        """How many decisions there are, near ones too: images times thresholds."""
        return sum(self.leaving)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where the form passes."""
        told = self.decisions - self.near
        counts = {
            "take another exit": self.exit_different,
            "give another label": self.label_different,
            f"have another confidence (off by up to {self.difference:.3g})": (
                self.confidence_different
            ),
        }
        return tuple(
            f"{count} of {told} decisions {what}" for what, count in counts.items() if count
        )

    def require(self) -> None:
        """Raise ParityError unless the form passes."""
        if self.failures:
            raise ParityError(
                f"{self.file} deciding like the engine on {self.images} images",
                "; ".join(self.failures),
                "do not use it; report the network with the versions of onnx and onnxruntime",
            )

    def to_json(self) -> dict[str, Any]:  # Any: a JSON value
        """Return the table of one form in parity.json."""
        passed = not self.failures
        return {"schema": SCHEMA, "passed": passed, "decisions": self.decisions, **asdict(self)}


def expect(engine: Engine, images: Floats) -> Expected:
    """Let the engine answer images [N, 3, H, W] at the deciles of each exit's confidence.

    Raises:
        DataError: there are no images.
    """
    if len(images) == 0:
        raise DataError("a check of forms", "no images", "give some")
    logits = np.concatenate(
        [all_logits(engine.segments, rows) for rows in _batches(images)], axis=1
    )
    # Both sides are the same here: what is wanted is the deciles, and how near is near.
    same = Comparison(logits, logits, engine.policy)
    thresholds = same.levels()
    answers = [
        [engine.answer(rows, thresholds=level) for rows in _batches(images)] for level in thresholds
    ]
    near = [same.trained(np.broadcast_to(row, (len(images), len(row))))[1] for row in thresholds]
    exit = np.stack([np.concatenate([a.exit for a in level]) for level in answers])
    confidence = np.stack([np.concatenate([a.probability for a in level]) for level in answers])
    scale = 2 * same.limit / np.asarray(engine.policy.temperatures)  # [K], of the log odds
    steep = scale[np.searchsorted(engine.policy.exits, exit)] * confidence * (1 - confidence)
    return Expected(
        images,
        thresholds,
        exit,
        np.stack([np.concatenate([a.label for a in level]) for level in answers]),
        confidence,
        np.stack(near),
        (steep + ROUNDING).astype(np.float32),
        engine.policy.exits,
    )


def check(form: Path, expected: Expected, threads: int | None = None) -> FormCheck:
    """Run a form in a process of its own and compare; `FormCheck.require` is the gate.

    Args:
        form: the ONNX file.
        expected: of the engine on the segments that the form was made from.
        threads: of the process; all cores where None.

    Raises:
        ExportError: plain ONNX Runtime cannot run the file.
    """
    answers = run(form, expected, threads if threads is not None else machine.cores())
    near, rest = expected.near, ~expected.near
    exit_different = rest & (answers["exit"] != expected.exit)
    label_different = rest & ~exit_different & (answers["label"] != expected.label)
    agree = rest & ~exit_different & ~label_different
    off = np.abs(answers["confidence"].astype(np.float64) - expected.confidence)
    # Not "greater than": a confidence that is not a number is too far off.
    far = agree & ~(off <= expected.reach)
    return FormCheck(
        form.name,
        len(expected.images),
        BATCHES,
        tuple(tuple(float(t) for t in row) for row in expected.thresholds),
        tuple(int((expected.exit == number).sum()) for number in expected.exits),
        int(near.sum()),
        int(exit_different.sum()),
        int(label_different.sum()),
        int(far.sum()),
        float(off[agree].max(initial=0.0)),
    )


def run(form: Path, expected: Expected, threads: int) -> dict[str, NDArray[Any]]:
    """Return exit, label and confidence [L, N] that the form answers in a process of its own.

    Raises:
        ExportError: it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        table, answers = Path(folder) / "table.npz", Path(folder) / "answers.npz"
        np.savez(
            table,
            images=expected.images,
            thresholds=expected.thresholds,
            batches=np.array(BATCHES),
            threads=np.array(threads),
        )
        command = [sys.executable, "-P", alone.__file__, str(form), str(table), str(answers)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            # Killed, for want of memory perhaps, a process says nothing.
            said = done.stderr.strip()[-500:] or f"it ended with code {done.returncode}"
            raise ExportError(
                f"{form.name} in plain ONNX Runtime",
                f"it failed ({said})",
                "report the network, or leave the form out",
            )
        with np.load(answers) as found:
            return dict(found)


def _batches(images: Floats) -> Iterator[Floats]:
    for start in range(0, len(images), ENGINE_BATCH):
        yield images[start : start + ENGINE_BATCH]
