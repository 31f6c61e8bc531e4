"""A bundle's segments in the precision that was asked for, and the scores that go with them."""

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exitkit.bundle import Manifest
from exitkit.errors import unknown
from exitkit.export import fit
from exitkit.export.fit import Fit
from exitkit.export.limits import LIMITS
from exitkit.export.precision import PRECISIONS, change, identity, refit
from exitkit.export.precision.change import Change
from exitkit.export.precision.convert import convert
from exitkit.export.source import Progress, Source


@dataclass(frozen=True)
class Converted:
    """What a bundle decides with.

    Attributes:
        manifest: with the digest of the segments as they are now.
        fitted: temperatures and thresholds, fitted on what these segments answer.
        change: accuracy and exit shares before and after; None in float32.
        notes: what the user should know.
    """

    manifest: Manifest
    fitted: Fit
    change: Change | None
    notes: tuple[str, ...]


def check(precision: str) -> None:
    """Refuse a precision that does not exist.

    Raises:
        ConfigError: with the choices.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)


def write(
    folder: Path,
    manifest: Manifest,
    source: Source,
    precision: str,
    macs: Sequence[int],
    *,
    tensorrt: bool,
    progress: Progress,
) -> Converted:
    """Replace the float32 segments in `folder`, and fit the policy on what they answer now.

    Args:
        folder: of the bundle.
        manifest: of its float32 segments.
        source: the run.
        precision: "float32" (nothing is replaced), "fp16" or "int8".
        macs: multiply-adds of leaving at each kept exit.
        tensorrt: whether engines will be built, for which int8 is another kind.
        progress: told one line per step.

    Raises:
        DataError: too few images to calibrate int8 with.
        ExportError: a segment cannot be converted.
        ParityError: an exit or the policy loses more accuracy than the precision may cost.
    """
    before = fit.fit(source.scores, manifest.exits, macs)
    if precision == "float32":
        return Converted(manifest, before, None, ())
    tune = source.sets.tune
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as drafts:
        notes = convert(
            folder, manifest, Path(drafts), precision, tune, tensorrt=tensorrt, progress=progress
        )
        files = [folder / segment.file for segment in manifest.segments]
        for file in files:
            (Path(drafts) / file.name).replace(file)
    digest = identity.digest(source.digest, precision, files)
    manifest = dataclasses.replace(manifest, precision=precision, network=digest)
    scores = refit.score(folder, manifest, tune, macs)
    after = fit.fit(scores, manifest.exits, macs)
    found = change.compare(source.scores, before.policy, scores, after.policy, LIMITS[precision])
    found.require()
    progress(
        f"{precision} under its own policy: accuracy {found.after.accuracy:.2%} "
        f"(float32 {found.before.accuracy:.2%}) on {found.images} images of the tune split"
    )
    return Converted(manifest, after, found, (*notes, *found.notes(LIMITS[precision])))
