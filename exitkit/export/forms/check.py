"""Does a form decide like the engine on the segments that it was made from?

What the engine answers for every image at several thresholds follows from the logits of its
segments; the form is asked in a process of its own that loads ONNX Runtime and NumPy and no
exitkit, in batches of mixed sizes. The networks are the
same, but the runtime may order sums differently in one graph than in several, so what is near to
a threshold is counted apart, exactly as `agreement.py` does between a network and its export.

Whatever the precision of the segments, the form has the very same ones: so the limits are those
of float32. One large logit makes everything near. Then these still hold: few decisions may differ
near or not, in all and at each setting (`limits.py`), and no probability by more than a point
(`expected.MOST`).
"""

import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit import machine
from exitkit.errors import ExportError, ParityError
from exitkit.export.agreement import ROUNDING
from exitkit.export.forms import alone
from exitkit.export.forms.expected import Expected, shares
from exitkit.export.limits import FLOAT32

SCHEMA = "1.1"
BATCHES = (1, 3, 32, 8)  # sizes in which the form gets the images, taking turns


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
        otherwise: how many images take another exit or get another label at each of the
            settings, near ones counted too.
        confidence_different: of all decisions that take the engine's exit, near ones too, how
            many have a confidence too far off, or one that is not their largest probability.
        probabilities_different: how many of these have any probability too far off.
        logits_different: how many images get logits too far off at some exit and setting, or such
            whose probabilities are; 0 of a form that gives no logits.
        difference: how far the worst confidence of decisions that take the engine's exit is off.
    """

    file: str
    images: int
    batches: tuple[int, ...]
    thresholds: tuple[tuple[float, ...], ...]
    leaving: tuple[int, ...]
    near: int
    exit_different: int
    label_different: int
    otherwise: tuple[int, ...]
    confidence_different: int
    probabilities_different: int
    logits_different: int
    difference: float

    @property
    def decisions(self) -> int:
        """How many decisions there are, near ones too: images times thresholds."""
        return sum(self.leaving)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where the form passes."""
        told, thresholds = self.decisions - self.near, len(self.leaving) - 1
        # One image lies on each threshold that was chosen from the confidences of images.
        most = max(int(FLOAT32.raw * self.decisions), thresholds * len(self.otherwise))
        at_one, off = FLOAT32.at_one_setting(self.images, thresholds), f"{self.difference:.3g}"
        counts = (
            (self.exit_different, told, "decisions take another exit", 0),
            (self.label_different, told, "decisions give another label", 0),
            (
                sum(self.otherwise),
                self.decisions,
                "decisions differ, those near a threshold counted too",
                most,
            ),
            (
                max(self.otherwise),
                self.images,
                "images are decided otherwise at one setting of thresholds",
                at_one,
            ),
            (
                self.confidence_different,
                self.decisions,
                f"decisions have another confidence (off by up to {off})",
                0,
            ),
            (self.probabilities_different, self.decisions, "decisions have other probabilities", 0),
            (self.logits_different, self.images, "images get other logits", 0),
        )
        return tuple(
            f"{count} of {of} {what}" + (f" (limit {limit})" if limit else "")
            for count, of, what, limit in counts
            if count > limit
        )

    def require(self) -> None:
        """Raise ParityError unless the form passes."""
        if self.failures:
            raise ParityError(
                f"{self.file} deciding like the engine on {self.images} images",
                "; ".join(self.failures),
                "do not use it; report the network with the versions of onnx and onnxruntime",
                self.to_json(),
                [self.row()],
            )

    def row(self) -> dict[str, Any]:  # Any: numbers and words of a table
        """Return the table row of this form, for people."""
        return {
            "form": self.file,
            "images": self.images,
            "decisions": self.decisions,
            "near": self.near,
            "exit differs": self.exit_different,
            "label differs": self.label_different,
            "differ, near too": sum(self.otherwise),
            "confidence off by": self.difference,
        }

    def to_json(self) -> dict[str, Any]:  # Any: a JSON value
        """Return the table of one form in parity.json."""
        passed = not self.failures
        return {"schema": SCHEMA, "passed": passed, "decisions": self.decisions, **asdict(self)}


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
    label = answers["probabilities"].argmax(axis=2)
    other_exit, rest = answers["exit"] != expected.exit, ~expected.near
    otherwise = other_exit | (label != expected.label)
    taken = np.searchsorted(expected.exits, expected.exit), np.arange(len(expected.images))
    reach = expected.reach[taken]  # [L, N]
    confidence = answers["confidence"].astype(np.float64)
    off = np.abs(confidence - expected.confidence)
    # Not "greater than": a number that is none is too far off.
    sure = (off <= reach) & (np.abs(answers["probabilities"].max(axis=2) - confidence) <= ROUNDING)
    shifted = np.abs(answers["probabilities"] - expected.probabilities[taken]).max(axis=2)
    return FormCheck(
        form.name,
        len(expected.images),
        BATCHES,
        tuple(tuple(float(t) for t in row) for row in expected.thresholds),
        tuple(int((expected.exit == number).sum()) for number in expected.exits),
        int(expected.near.sum()),
        int((rest & other_exit).sum()),
        int((rest & ~other_exit & otherwise).sum()),
        tuple(int(count) for count in otherwise.sum(axis=1)),
        int((~other_exit & ~sure).sum()),
        int((~other_exit & ~(shifted <= reach)).sum()),
        _other_logits(answers["logits"], expected) if "logits" in answers else 0,
        float(off[~other_exit].max(initial=0.0)),
    )


def _other_logits(answers: NDArray[np.float32], expected: Expected) -> int:
    """Return of how many images logits [L, N, K, C] are too far off, or what they mean is."""
    wrong = np.zeros(len(expected.images), dtype=np.bool_)
    for level in answers:
        logits = level.swapaxes(0, 1)  # [K, N, C]
        off = np.abs(logits.astype(np.float64) - expected.logits).max(axis=2)
        shifted = np.abs(shares(logits, expected.temperatures) - expected.probabilities)
        near = (off <= expected.limit[:, None]) & (shifted.max(axis=2) <= expected.reach)
        wrong |= ~near.all(axis=0)
    return int(wrong.sum())


def run(form: Path, expected: Expected, threads: int) -> dict[str, NDArray[Any]]:
    """Return what the form answers in a process of its own, as `alone.py` says.

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
