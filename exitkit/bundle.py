"""The bundle: everything a server needs and nothing else; data only, nothing pickled.

bundles/<name>/manifest.json   what is here, with the SHA-256 of every file but the policy
               policy.json     temperatures and thresholds, replaceable on their own
               segment_2.onnx  one runnable piece per kept exit
               parity.json     the proof that the export decides like the trained network
               reference.npz   held-out images and what the trained network said of them
               sweep.json      accuracy, cost and exit shares per threshold, on the tune split
               cascade.onnx    and other forms that were asked for, made of the very same pieces
               segment_2.engine  a TensorRT engine per piece, where `--trt` asked for them
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitkit.atomic import sha256, write_text
from exitkit.errors import BundleError
from exitkit.images import ImageSpec

SCHEMA = "1.2"
MANIFEST, POLICY, PARITY, SWEEP = "manifest.json", "policy.json", "parity.json", "sweep.json"
REFERENCE = "reference.npz"
PRECISIONS = ("float32", "fp16", "int8")
BUILDERS = ("tensorrt", "tensorrt_rtx")
# What TensorRT prepares for: the smallest batch, the one that it optimises for, the largest. A
# larger one runs in parts of the largest; 64 rows of float32 end where TensorRT wants the next
# part to begin, at a multiple of 256 bytes.
BATCHES = (1, 8, 64)


@dataclass(frozen=True)
class EngineFile:
    """A segment's TensorRT engine, and all that decides whether it can run.

    Attributes:
        file: its name inside the bundle.
        builder: package that built it and runs it: "tensorrt" or "tensorrt_rtx".
        version: of that package; no other one runs it.
        targets: compute capabilities that it is for, such as "sm89".
        device: name of the GPU that it was built on and for, or "" when built without one.
        batches: smallest, optimised-for and largest batch.
        onnx: SHA-256 of the ONNX file that it was built from.

    Raises:
        ValueError: a value is of another kind.
    """

    file: str
    builder: str
    version: str
    targets: tuple[str, ...]
    device: str
    batches: tuple[int, int, int]
    onnx: str

    def __post_init__(self) -> None:
        words = (self.file, self.version, self.device, self.onnx, *self.targets)
        if not (self.targets and isinstance(self.targets, tuple)):
            raise ValueError(f"targets of an engine: {self.targets!r}")
        if self.builder not in BUILDERS or not all(isinstance(word, str) for word in words):
            raise ValueError(f"an engine by {self.builder!r} with {words!r}")
        if len(self.batches) != 3 or any(type(batch) is not int for batch in self.batches):
            raise ValueError(f"batches of an engine: {self.batches!r}")


@dataclass(frozen=True)
class Segment:
    """One runnable piece: from the exit before (or the images) to this exit.

    Attributes:
        exit: the exit's number.
        file: ONNX file; inputs and outputs are named "hidden" -> "logits", "hidden_out" (the
            deepest has no "hidden_out"); the first axis is the batch and is dynamic.
        input_shape: of the input: images first, then maps (D, h, w) or tokens (N, D).
        macs: multiply-adds per image of this segment alone.
        engine: its TensorRT engine, or None where none was built.
    """

    exit: int
    file: str
    input_shape: tuple[int, ...]
    macs: int
    engine: EngineFile | None = None


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
        origin: versions, commit, run, digests of its weights (exitkit.export.lineage); for people.
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

    def stale(self, segment: Segment) -> bool:
        """Return whether a segment's engine was built from another ONNX file than its own."""
        engine = segment.engine
        return engine is not None and engine.onnx != self.files.get(segment.file)


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
    minor = _readable(folder, schema)
    try:
        manifest = Manifest(
            **{
                **table,
                "classes": _classes(table["classes"]),
                "image": ImageSpec.from_json(table["image"]),
                "files": dict(table["files"]),
                "forms": dict(table.get("forms", {})),
                "segments": tuple(_segment(row, minor) for row in table["segments"]),
            }
        )
        _require_kinds(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(str(path), f"was edited ({error!r})", "export it again") from error
    _agree(path, manifest)
    if verify:
        _verify(Path(folder), manifest)
    return manifest


def _readable(folder: Path, schema: str) -> int:
    """Refuse another major schema, and one that is newer than this exitkit; return the minor."""
    try:
        (major, minor), (own, latest) = ([int(n) for n in s.split(".")] for s in (schema, SCHEMA))
    except ValueError:
        major, minor, own, latest = -1, 0, 0, 0
    if major == own and minor <= latest:
        return minor
    newer = (major, minor) > (own, latest)
    do = "update exitkit, or export it again with this one" if newer else "export it again"
    raise BundleError(str(folder), f"schema {schema}, this exitkit reads {SCHEMA}", do)


def _require_kinds(manifest: Manifest) -> None:
    """Refuse values of another kind than an export writes.

    Raises:
        ValueError: with the names of what holds them.
    """
    image, shapes = manifest.image, [segment.input_shape for segment in manifest.segments]
    numbers = (*image.mean, *image.std)
    right = {
        "name, network, arch or method": all(
            isinstance(word, str)
            for word in (manifest.name, manifest.network, manifest.arch, manifest.method)
        ),
        "mean or std": len(image.mean) == len(image.std) == 3
        and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        and min(image.std) > 0,
        "exits": all(type(number) is int for number in manifest.exits)
        and list(manifest.exits) == sorted(set(manifest.exits)),
        "input_shape": all(
            isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)
            for shape in shapes
        ),
        "origin": isinstance(manifest.origin, dict),
    }
    wrong = [names for names, fits in right.items() if not fits]
    if wrong:
        raise ValueError("; ".join(wrong))


def _classes(value: Any) -> tuple[str, ...]:  # Any: a JSON value
    if not isinstance(value, list) or not value or not all(isinstance(c, str) for c in value):
        raise ValueError("classes")
    return tuple(value)


def _agree(path: Path, manifest: Manifest) -> None:
    """Refuse a manifest whose parts contradict each other; no digest covers it."""
    size = (3, manifest.image.height, manifest.image.width)
    costs = [manifest.plain_macs, *(segment.macs for segment in manifest.segments)]
    if not manifest.segments or manifest.segments[0].input_shape != size:
        found = f"was edited (no segment takes images of {size})"
    elif any(type(macs) is not int or not 0 <= macs < 1 << 63 for macs in costs):
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
    engines = [segment.engine.file for segment in manifest.segments if segment.engine]
    for name in (*needed, *engines, *manifest.forms.values()):
        if not isinstance(name, str) or name not in manifest.files:
            raise BundleError(str(folder), f"does not list {name}", "export it again")


def _segment(row: dict[str, Any], minor: int) -> Segment:  # Any: JSON values
    values = {name: _tuple(value) for name, value in row.items()}
    engine = values.get("engine")
    if minor < 2:  # which named a file and did not say what that file needs
        values["engine"] = None
    elif engine is not None:
        values["engine"] = EngineFile(**{name: _tuple(value) for name, value in engine.items()})
    return Segment(**values)


def _tuple(value: Any) -> Any:  # Any: a JSON value
    return tuple(value) if isinstance(value, list) else value
