"""The bundle: everything a server needs and nothing else; data only, nothing pickled.

bundles/<name>/manifest.json   what is here, with the SHA-256 of every file but the policy
               policy.json     temperatures and thresholds, replaceable on their own
               segment_2.onnx  one runnable piece per kept exit
               parity.json     the proof that the export decides like the trained network
               reference.npz   held-out images and what the trained network said of them
               sweep.json      accuracy, cost and exit shares per threshold, on the tune split
               cascade.onnx    and other forms that were asked for, made of the very same pieces
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitkit.atomic import sha256, write_text
from exitkit.errors import BundleError
from exitkit.images import ImageSpec

SCHEMA = "1.1"
MANIFEST, POLICY, PARITY, SWEEP = "manifest.json", "policy.json", "parity.json", "sweep.json"
REFERENCE = "reference.npz"
PRECISIONS = ("float32", "fp16", "int8")


@dataclass(frozen=True)
class Segment:
    """One runnable piece: from the exit before (or the images) to this exit.

    Attributes:
        exit: the exit's number.
        file: ONNX file; inputs and outputs are named "hidden" -> "logits", "hidden_out" (the
            deepest has no "hidden_out"); the first axis is the batch and is dynamic.
        input_shape: of the input: images first, then maps (D, h, w) or tokens (N, D).
        macs: multiply-adds per image of this segment alone.
        engine: TensorRT engine file, or "" where none was built.
    """

    exit: int
    file: str
    input_shape: tuple[int, ...]
    macs: int
    engine: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    Attributes:
        name: of the run it came from.
        network: digest of the weights as they lie here; the policy carries it too.
        arch, method: how the network was made.
        classes: labels, in the order of the logits.
        image: what the network wants to see.
        segments: shallow to deep.
        plain_macs: multiply-adds per image of the same network without exits.
        files: file name -> SHA-256, of every file but manifest and policy.
        origin: versions, run, commit, target of engines: for people, nothing reads it.
        precision: of the segments' arithmetic: "float32", "fp16" or "int8".
        forms: other forms of the network, such as "cascade" -> its file.
    """

    name: str
    network: str
    arch: str
    method: str
    classes: tuple[str, ...]
    image: ImageSpec
    segments: tuple[Segment, ...]
    plain_macs: int
    files: dict[str, str]
    origin: dict[str, Any]  # Any: whatever JSON can hold
    precision: str = "float32"
    forms: dict[str, str] = dataclasses.field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def exits(self) -> tuple[int, ...]:
        """The numbers of the kept exits, shallow to deep."""
        return tuple(segment.exit for segment in self.segments)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the digests of the files that lie in `folder` now."""
    files = {
        path.name: sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST, POLICY) and not path.name.startswith(".")
    }
    table = dataclasses.asdict(dataclasses.replace(manifest, files=files))
    write_text(folder / MANIFEST, json.dumps(table, indent=2) + "\n")


def read_manifest(folder: Path, verify: bool = True) -> Manifest:
    """Read a bundle's manifest; check its schema and, unless told not to, every file's digest.

    Raises:
        BundleError: no bundle there, another schema, a file missing, truncated or edited.
    """
    path = Path(folder) / MANIFEST
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        schema = str(table["schema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(str(folder), f"no bundle ({error})", "run exitkit export") from error
    _readable(folder, schema)
    try:
        manifest = Manifest(
            **{
                **table,
                "classes": tuple(table["classes"]),
                "image": ImageSpec.from_json(table["image"]),
                "files": dict(table["files"]),
                "forms": dict(table.get("forms", {})),
                "segments": tuple(
                    Segment(**{k: _tuple(v) for k, v in row.items()}) for row in table["segments"]
                ),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(str(path), f"was edited ({error!r})", "export it again") from error
    _agree(path, manifest)
    if verify:
        _verify(Path(folder), manifest)
    return manifest


def _readable(folder: Path, schema: str) -> None:
    """Refuse another major schema, and one that is newer than this exitkit."""
    try:
        (major, minor), (own, latest) = ([int(n) for n in s.split(".")] for s in (schema, SCHEMA))
    except ValueError:
        major, minor, own, latest = -1, 0, 0, 0
    if major == own and minor <= latest:
        return
    newer = (major, minor) > (own, latest)
    do = "update exitkit, or export it again with this one" if newer else "export it again"
    raise BundleError(str(folder), f"schema {schema}, this exitkit reads {SCHEMA}", do)


def _agree(path: Path, manifest: Manifest) -> None:
    """Refuse a manifest whose parts contradict each other; no digest covers it."""
    size = (3, manifest.image.height, manifest.image.width)
    costs = [manifest.plain_macs, *(segment.macs for segment in manifest.segments)]
    if not manifest.segments or manifest.segments[0].input_shape != size:
        found = f"was edited (no segment takes images of {size})"
    elif any(type(macs) is not int or macs < 0 for macs in costs):
        found = f"was edited (multiply-adds {costs})"
    elif manifest.precision not in PRECISIONS:
        found = f"was edited (precision {manifest.precision!r})"
    else:
        return
    raise BundleError(str(path), found, "export it again")


def _verify(folder: Path, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        if "/" in name or name in ("", ".", ".."):
            raise BundleError(
                str(folder), f"lists a file outside itself ({name!r})", "export again"
            )
        path = folder / name
        if not path.is_file():
            raise BundleError(str(path), "is missing from the bundle", "export it again")
        if sha256(path) != digest:
            raise BundleError(str(path), "is truncated or was edited", "export it again")
    needed = [segment.file for segment in manifest.segments]
    engines = [segment.engine for segment in manifest.segments if segment.engine]
    for name in (*needed, *engines, *manifest.forms.values()):
        if not isinstance(name, str) or name not in manifest.files:
            raise BundleError(str(folder), f"does not list {name}", "export it again")


def _tuple(value: Any) -> Any:  # Any: a JSON value
    return tuple(value) if isinstance(value, list) else value
