"""Write a whole model repository, or nothing.

DIR/exitkit.json            what exitkit wrote here, so that it may be replaced
    <name>/                 variant A: one file that exits by itself
    <name>_bls/             variant B: business logic in Python over the staged models,
    <name>_stage<k>/        one for each kept exit k
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import exitkit
from exitkit.bundle import Manifest
from exitkit.errors import ConfigError, ExportError, unknown
from exitkit.export import lineage
from exitkit.export.forms import metadata
from exitkit.export.triton import configs, tensors
from exitkit.export.triton.configs import Placement
from exitkit.export.triton.place import MARK, placing
from exitkit.export.triton.tensors import Graph
from exitkit.policy.policy import Policy

DEVICES = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}
LOGIC = Path(__file__).with_name("model.py")
# Above every confidence: warm-up calls run all stages.
ABOVE_ALL = 2.0


@dataclass(frozen=True)
class _Part:
    """One model of the repository.

    Attributes:
        name: of the model, and of its folder.
        config: text of its config.pbtxt.
        file: what becomes its version 1.
        extras: file name -> content beside the configuration.
    """

    name: str
    config: str
    file: Path
    extras: dict[str, bytes]


def write(
    folder: Path,
    manifest: Manifest,
    policy: Policy,
    cascade_file: Path,
    segment_files: Sequence[Path],
    name: str,
    *,
    device: str = "auto",
    max_batch_size: int = 32,
) -> Path:
    """Write a model repository for Triton and return its folder.

    Args:
        folder: of the repository; an earlier one that exitkit wrote for `name`, of the same run,
            is replaced.
        manifest: of the bundle.
        policy: of the same bundle; its thresholds are the business logic's own.
        cascade_file: the bundle's cascade, with a row of thresholds per image.
        segment_files: the bundle's segments, shallow to deep.
        name: of the model; the others' names begin with it.
        device: "auto" (GPUs where the server has some), "cpu" or "gpu", of the ONNX models.
        max_batch_size: rows that one call of a model may have.

    Raises:
        ConfigError: a name or label that Triton cannot take, an unknown device, a batch size
            below 1, or something else than an earlier repository lies at `folder`.
        BundleError: policy, bundle and cascade do not belong together.
        ExportError: a file is not what the manifest says, or has tensors that cannot be batched.
    """
    policy.require(manifest.network, manifest.exits)
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if max_batch_size < 1:
        raise ConfigError(f"max_batch_size {max_batch_size}", "holds no image", "give 1 or more")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise ConfigError(
            f"model name {name!r}", "is no plain name", "use letters, digits, . _ + -"
        )
    metadata.require(metadata.read(Path(cascade_file)), policy)
    placement = Placement(DEVICES[device], max_batch_size)
    parts = _parts(manifest, policy, Path(cascade_file), segment_files, name, placement)
    networks = lineage.of(manifest)
    mark = {
        "exitkit": exitkit.__version__,
        "name": name,
        "network": manifest.network,
        "weights": networks[0],
        "models": [part.name for part in parts],
    }
    with placing(Path(folder), name, networks) as new:
        for part in parts:
            _put(new / part.name, part)
        (new / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
    return Path(folder)


def _parts(
    manifest: Manifest,
    policy: Policy,
    cascade_file: Path,
    segment_files: Sequence[Path],
    name: str,
    placement: Placement,
) -> list[_Part]:
    if len(segment_files) != len(manifest.segments):
        raise ExportError(
            f"a repository for exits {manifest.exits}",
            f"{len(segment_files)} segment files",
            "give one per kept exit, shallow to deep",
        )
    classes, early = len(manifest.classes), len(manifest.exits) - 1
    images = manifest.segments[0].input_shape
    whole = tensors.read(cascade_file)
    rows = {"thresholds": (early,)} if early else {}
    answers = {"probabilities": (classes,), "confidence": (), "exit": ()}
    _require(cascade_file, whole, {"images": images, **rows, **answers})
    lines = labels(manifest.classes)
    warmup = {f"warmup/{configs.NEVER}": np.full(early, ABOVE_ALL, "<f4").tobytes()}
    stages = [f"{name}_stage{k}" for k in manifest.exits]
    config = configs.cascade(name, whole, manifest, policy, placement)
    parts = [_Part(name, config, cascade_file, {**lines, **(warmup if early else {})})]
    config = configs.logic(f"{name}_bls", whole, stages, manifest, policy, placement)
    parts.append(_Part(f"{name}_bls", config, LOGIC, lines))
    shapes = [segment.input_shape for segment in manifest.segments]
    for stage, file, takes, onward in zip(
        stages, segment_files, shapes, [*shapes[1:], None], strict=True
    ):
        graph = tensors.read(Path(file))
        hidden = {} if onward is None else {"hidden_out": onward}
        _require(Path(file), graph, {"hidden": takes, "logits": (classes,), **hidden})
        parts.append(_Part(stage, configs.stage(stage, graph, placement), Path(file), {}))
    return parts


def _require(file: Path, graph: Graph, wanted: dict[str, tuple[int, ...]]) -> None:
    found = graph.shapes()
    if found != wanted:
        raise ExportError(
            f"{file.name} with a row of {_words(wanted)}", f"it has {_words(found)}", "export again"
        )


def _words(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def labels(classes: Sequence[str]) -> dict[str, bytes]:
    """Return the file of labels: a line for each class.

    Raises:
        ConfigError: a label holds an end of line.
    """
    broken = next((label for label in classes if re.search(r"[\r\n\0]", label)), None)
    if broken is not None:
        raise ConfigError(
            f"class {broken!r} in labels.txt", "it has an end of line in its name", "rename it"
        )
    return {configs.LABELS: "".join(f"{label}\n" for label in classes).encode()}


def _put(model: Path, part: _Part) -> None:
    version = model / "1"
    version.mkdir(parents=True)
    shutil.copyfile(part.file, version / f"model{part.file.suffix}")
    (model / "config.pbtxt").write_text(part.config, encoding="utf-8")
    for file, content in part.extras.items():
        (model / file).parent.mkdir(exist_ok=True)
        (model / file).write_bytes(content)
