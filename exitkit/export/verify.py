"""Ask a bundle again, on any machine and without torch, whether it decides as it was trained to."""

from dataclasses import dataclass
from pathlib import Path

from exitkit import bundle
from exitkit.bundle import Manifest
from exitkit.errors import BundleError
from exitkit.export import parity, proven, reference
from exitkit.export.forms.check import FormCheck
from exitkit.export.parity import Parity
from exitkit.export.precision import identity
from exitkit.policy.policy import Policy


@dataclass(frozen=True)
class Verified:
    """A bundle whose files are whole and which decides like the trained network.

    Attributes:
        folder: of the bundle.
        manifest: what it holds.
        parity: what the gate found here, with this machine's ONNX Runtime.
        forms: what it found of the other forms.
    """

    folder: Path
    manifest: Manifest
    parity: Parity
    forms: tuple[FormCheck, ...]


def verify(folder: Path, provider: str = "cpu") -> Verified:
    """Repeat the parity gate with the images and the trained network's answers in the bundle.

    Every file's digest is checked first. The images are those that the export compared, or as
    many of them as fit into a bundle.

    Args:
        folder: of the bundle.
        provider: what the segments are computed with, see exitkit.engine.backends. Other forms
            are asked on the processor.

    Raises:
        BundleError: a file is missing, damaged or edited, the policy is another network's, or
            the bundle was exported without images.
        ConfigError: a provider that is not there.
        ParityError: it, or one of its forms, decides differently here.
    """
    manifest = bundle.read_manifest(folder)
    policy = Policy.read(folder / bundle.POLICY)
    policy.require(manifest.network, manifest.exits)
    answers = reference.held(folder, manifest)
    _require_precision(folder, manifest)
    found = parity.check(folder, manifest, policy, answers, provider)
    found.require()
    forms = []
    for form in proven.prove(folder, manifest, policy, answers):
        form.require()
        forms.append(form)
    return Verified(folder, manifest, found, tuple(forms))


def _require_precision(folder: Path, manifest: Manifest) -> None:
    """Refuse a precision that is not that of the files: it says how much may differ."""
    weights = manifest.origin.get("weights")
    files = [folder / segment.file for segment in manifest.segments]
    if weights is None or identity.digest(weights, manifest.precision, files) == manifest.network:
        return
    raise BundleError(
        str(folder),
        f"precision {manifest.precision} and the segments make another network than its digest",
        "it was edited; export it again",
    )
