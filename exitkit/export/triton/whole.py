"""From a bundle to a model repository. No torch."""

import dataclasses
import tempfile
from pathlib import Path

from exitkit import bundle as bundles
from exitkit.export import proven, reference
from exitkit.export.forms import cascade, metadata
from exitkit.export.reference import Reference
from exitkit.export.triton.repository import write
from exitkit.policy.policy import Policy


def of_bundle(
    bundle: Path,
    folder: Path,
    name: str | None = None,
    *,
    device: str = "auto",
    max_batch_size: int = 32,
    images: Reference | None = None,
) -> Path:
    """Write the model repository of a bundle and return its folder.

    The cascade in it is made for Triton, with a row of thresholds per image, and has to take the
    exits of the engine on the bundle's own reference images before anything is written.

    Args:
        bundle: folder of the bundle; its files are checked first.
        folder: of the repository; an earlier one that exitkit wrote for `name` is replaced.
        name: of the model; the bundle folder's where None.
        device: "auto", "cpu" or "gpu", of the ONNX models.
        max_batch_size: rows that one call of a model may have.
        images: to prove the cascade with; those in the bundle where None.

    Raises:
        BundleError: the bundle is damaged, or was exported without images.
        ParityError: the cascade decides differently.
        ConfigError, ExportError: as `write` does.
    """
    bundle = Path(bundle).resolve()
    manifest = bundles.read_manifest(bundle)
    policy = Policy.read(bundle / bundles.POLICY)
    policy.require(manifest.network, manifest.exits)
    files = [bundle / segment.file for segment in manifest.segments]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "cascade.onnx"
        about = metadata.describe(manifest, policy)
        cascade.write(files, policy.exits, policy.temperatures, file, about, per_row=True)
        # A form that lies outside the bundle; an absolute path stays itself beside any folder.
        alone = dataclasses.replace(manifest, forms={"cascade": str(file)})
        answers = reference.held(bundle, manifest) if images is None else images
        for form in proven.prove(bundle, alone, policy, answers):
            form.require()
        return write(
            folder,
            manifest,
            policy,
            file,
            files,
            bundle.name if name is None else name,
            device=device,
            max_batch_size=max_batch_size,
        )
