"""Ask a bundle again, on any machine and without torch, whether it decides as it was trained to."""

from dataclasses import dataclass
from pathlib import Path

from exitkit import bundle
from exitkit.bundle import Manifest
from exitkit.export import parity, proven, reference
from exitkit.export.forms.check import FormCheck
from exitkit.export.parity import Parity
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


def verify(folder: Path) -> Verified:
    """Repeat the parity gate with the images and the trained network's answers in the bundle.

    Every file's digest is checked first. The images are those that the export compared, or as
    many of them as fit into a bundle.

    Raises:
        BundleError: a file is missing, damaged or edited, the policy is another network's, or
            the bundle is older than its images.
        ParityError: it, or one of its forms, decides differently here.
    """
    manifest = bundle.read_manifest(folder)
    policy = Policy.read(folder / bundle.POLICY)
    policy.require(manifest.network, manifest.exits)
    answers = reference.load(folder / bundle.REFERENCE)
    found = parity.check(folder, manifest, policy, answers)
    found.require()
    forms = []
    for form in proven.prove(folder, manifest, policy, answers):
        form.require()
        forms.append(form)
    return Verified(folder, manifest, found, tuple(forms))
