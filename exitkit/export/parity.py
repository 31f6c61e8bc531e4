"""The parity gate: does the bundle decide like the trained network?

It starts where a client starts, from encoded image files, and does what a server does: decode,
normalise, ONNX Runtime, policy. Against it stands what the trained network said about the same
images, fed from the split's own pixels as evaluation feeds it (`Reference`).

Every image goes through every exit once, so the decisions at all thresholds follow from its
logits. Then the engine itself answers every image, each with the thresholds of another decile
than its neighbours, so that rows leave and go on in every mixture.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit import images
from exitkit.bundle import Manifest
from exitkit.engine import backends
from exitkit.engine.engine import Engine, all_logits
from exitkit.errors import BundleError, ParityError
from exitkit.export.agreement import Comparison, Decisions, ExitAgreement
from exitkit.export.limits import LIMITS
from exitkit.export.precision import change
from exitkit.export.precision.change import ExitChange
from exitkit.export.reference import Reference
from exitkit.images import ImageSpec
from exitkit.policy.policy import Policy

SCHEMA = "1.2"
BATCH = 64
# At export two are allowed on the whole split. These are often some of its images: with two again,
# chance would now and then refuse what passed there.
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Parity:
    """What the gate found.

    Attributes:
        split: name of the split that the images come from.
        images: how many.
        input_difference: largest difference between the two sides' normalised pixels.
        thresholds: the settings at which decisions were compared, each early exit's at one
            decile of its confidences; one empty setting where there is a single exit.
        otherwise: how many images are decided otherwise, near a threshold or not, at each of
            these settings, and last by the engine, where images of all settings share batches.
        exits: one row per kept exit, shallow to deep.
        accuracy: what each of them answers rightly, the trained network's and the bundle's.
    """

    split: str
    images: int
    input_difference: float
    thresholds: tuple[tuple[float, ...], ...]
    otherwise: tuple[int, ...]
    exits: tuple[ExitAgreement, ...]
    accuracy: tuple[ExitChange, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where the bundle passes."""
        limits, of = self.exits[0].limits, max(self.decisions, 1)
        found = [text for row in self.exits for text in row.failures]
        for count, limit, what in (
            (
                self.near,
                limits.near,
                "are too near a threshold to tell, as where exits say much the same of every image",
            ),
            (self.raw_different, limits.raw, "differ, those near a threshold counted too"),
        ):
            if count > limit * of:
                found.append(f"{count / of:.1%} of {of} decisions {what} (limit {limit:.0%})")
        worst, most = max(self.otherwise), limits.at_one_setting(self.images, len(self.exits) - 1)
        if worst > most:
            found.append(
                f"{worst} of {self.images} images are decided otherwise at one setting of "
                f"thresholds, those near it counted too (limit {most})"
            )
        found += [row.failure for row in self.accuracy if row.failure]
        return tuple(found)

    @property
    def decisions(self) -> int:
        """How many decisions there are, near ones too."""
        return sum(row.decisions for row in self.exits)

    @property
    def near(self) -> int:
        """How many of them were too near to a threshold, or a tie."""
        return sum(row.near for row in self.exits)

    @property
    def different(self) -> int:
        """How many of the others take another exit or give another label."""
        return sum(row.exit_different + row.label_different for row in self.exits)

    @property
    def raw_different(self) -> int:
        """How many of all decisions do so."""
        return sum(row.raw_different for row in self.exits)

    @property
    def summary(self) -> str:
        """One sentence."""
        worst = max(row.difference for row in self.exits)
        told = self.decisions - self.near
        return (
            f"{self.images} images, logits off by {worst:.1e} at most, {self.different} of "
            f"{told:,} decisions differ ({self.near:,} more were too near a threshold to tell)"
        )

    def require(self) -> None:
        """Raise ParityError unless every exit passes."""
        if self.failures:
            raise ParityError(
                f"an export that decides like the trained network on {self.images} images "
                f"of the {self.split} split",
                "; ".join(self.failures),
                "do not use it; report the network with the versions of torch and onnxruntime"
                if self.exits[0].limits.precision == "float32"
                else "do not use it; export it with --precision float32",
                self.to_json(),
                self.rows(),
            )

    def rows(self) -> list[dict[str, Any]]:  # Any: numbers and words of a table
        """Return one table row per exit, for people."""
        return [
            {
                "exit": row.exit,
                "images": row.images,
                "logit off by": row.difference if row.limits.noise is None else row.noise,
                "limit": row.limit if row.limits.noise is None else row.limits.noise,
                "top-1 differs": row.top1_different,
                "decisions": row.decisions,
                "near": row.near,
                "exit differs": row.exit_different,
                "label differs": row.label_different,
                "accuracy before": right.before,
                "accuracy after": right.after,
            }
            for row, right in zip(self.exits, self.accuracy, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:  # Any: a JSON value
        """Return the table of parity.json."""
        failures = self.failures
        return {
            "schema": SCHEMA,
            "passed": not failures,
            "failures": list(failures),
            **asdict(self),
        }


def check(
    folder: Path,
    manifest: Manifest,
    policy: Policy,
    reference: Reference,
    provider: str = "cpu",
) -> Parity:
    """Compare the segments in `folder` with what the trained network said about the same images.

    This only measures; `Parity.require` is the gate. Needs no torch.

    Args:
        folder: of the bundle.
        manifest: of the same bundle; its precision says what the limits are.
        policy: of the same bundle.
        reference: the images, and what the trained network said.
        provider: what computes: "cpu" or another of exitkit.engine.backends.

    Raises:
        BundleError: the reference has other exits or classes than the bundle.
        EngineError: a segment cannot be loaded or run.
    """
    found = (reference.exits, reference.logits.shape[2])
    if found != (manifest.exits, len(manifest.classes)):
        raise BundleError(
            f"parity of exits {manifest.exits} with {len(manifest.classes)} classes",
            f"the trained network's answers are those of exits {found[0]} with {found[1]} classes",
            "export it again",
        )
    spec = manifest.image
    segments = backends.load(folder, manifest, provider=provider)
    pixels = np.stack([images.decode(file, spec) for file in reference.encoded])
    batches = _batches(pixels, spec)
    exported = np.concatenate([all_logits(segments, batch) for batch in batches], axis=1)
    limits = LIMITS[manifest.precision]
    comparison = Comparison(reference.logits, exported, policy, limits)
    levels = comparison.levels()
    mixed = levels[np.arange(len(reference)) % len(levels)]
    served = _served(Engine(segments, policy), pixels, spec, mixed)
    decisions = [*(comparison.by_logits(level) for level in levels), served]
    return Parity(
        reference.split,
        len(reference),
        reference.input_difference,
        tuple(tuple(float(t) for t in level) for level in levels),
        tuple(comparison.different(made) for made in decisions),
        comparison.rows(decisions),
        change.by_exit(
            reference.exits, reference.logits, exported, reference.labels, limits, STANDARD_ERRORS
        ),
    )


def _batches(pixels: NDArray[np.uint8], spec: ImageSpec) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(pixels), BATCH):
        yield images.normalise(pixels[start : start + BATCH], spec)


def _served(
    engine: Engine, pixels: NDArray[np.uint8], spec: ImageSpec, thresholds: NDArray[np.float32]
) -> Decisions:
    """Return what the engine answers with each image's own thresholds [N, K-1]."""
    batches = enumerate(_batches(pixels, spec))
    answers = [
        engine.answer(batch, thresholds=thresholds[BATCH * i : BATCH * (i + 1)])
        for i, batch in batches
    ]
    return Decisions(
        thresholds,
        np.concatenate([answer.exit for answer in answers]),
        np.concatenate([answer.label for answer in answers]),
    )
