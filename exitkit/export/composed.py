"""Other forms of a bundle, each one ONNX file made of its segments."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from exitkit.bundle import Manifest
from exitkit.errors import unknown
from exitkit.export.forms import metadata
from exitkit.export.forms.table import FORMS
from exitkit.policy.policy import Policy

STAGED = "staged"  # the segments themselves, which every bundle holds


def names(asked: Sequence[str]) -> tuple[str, ...]:
    """Return the forms to write beside the segments, each once, in a fixed order.

    Raises:
        ConfigError: one does not exist.
    """
    for form in asked:
        if form not in (STAGED, *FORMS):
            raise unknown("form", form, (STAGED, *FORMS))
    return tuple(form for form in FORMS if form in asked)


def write(
    folder: Path,
    manifest: Manifest,
    policy: Policy,
    forms: Sequence[str],
    progress: Callable[[str], None],
) -> Manifest:
    """Write each form as FORM.onnx; return the manifest that names them.

    Raises:
        ExportError: the segments do not fit together, or ONNX's checker refuses the graph.
    """
    files = [folder / segment.file for segment in manifest.segments]
    about = metadata.describe(manifest, policy)
    for form in forms:
        path = folder / f"{form}.onnx"
        FORMS[form](files, manifest.exits, policy.temperatures, path, about)
        progress(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, made of the segments")
    made = {form: f"{form}.onnx" for form in forms}
    return dataclasses.replace(manifest, forms=manifest.forms | made)
