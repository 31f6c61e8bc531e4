"""From a run to a bundle: cut, export, fit, prove, build engines, publish."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exitkit
from exitkit import machine
from exitkit.atomic import write_text
from exitkit.bundle import (
    PARITY,
    POLICY,
    REFERENCE,
    SWEEP,
    Manifest,
    Segment,
    read_manifest,
    write_manifest,
)
from exitkit.errors import ConfigError, ExportError
from exitkit.export import choices, engines, fit, onnx, parity, segments, tensorrt, trained
from exitkit.export.parity import Parity
from exitkit.export.publish import building
from exitkit.export.source import Progress, Source, read
from exitkit.journal import Journal
from exitkit.models import costs
from exitkit.policy.solvers import Point
from exitkit.runs import BUNDLES, Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What an export gave.

    Attributes:
        folder: the bundle.
        parity: what the gate found.
        manifest: as it was written.
        chosen: the operating point of the bundle's policy on the tune split.
        notes: what the user should know.
    """

    folder: Path
    parity: Parity
    manifest: Manifest
    chosen: Point
    notes: tuple[str, ...]


def export(
    run: Run,
    *,
    exits: Sequence[int] | None = None,
    what: str = "network",
    opset: int | None = None,
    trt: bool = False,
    trt_target: Sequence[str] | None = None,
    name: str | None = None,
    root: Path = BUNDLES,
    progress: Progress = log.info,
) -> ExportReport:
    """Write a bundle of a run's selected network and return what was measured on the way.

    Args:
        run: with a finished epoch.
        exits: numbers of the exits to keep; all that the method teaches where not given. The
            deepest of them always answers; a single one is a static network cut there.
        what: "network", "leader" (FFSD's, which such a run ships) or "backbone" (the plain
            network without its early exits).
        opset: version of ONNX's operator set; the exporter's own choice where not given.
        trt: whether to build a TensorRT engine per segment as well.
        trt_target: compute capabilities to build for ahead of time, such as "sm89".
        name: of the bundle; the run's where not given.
        root: folder of bundles.
        progress: told one line per step.

    Raises:
        ConfigError: unknown exits, targets or names; nothing is written.
        ParityError: the export decides differently; nothing is written, an older bundle stays.
        ExportError: the ONNX exporter refuses the network (nothing is written), or TensorRT
            cannot build: then the bundle is written, complete, without engines.
    """
    if trt_target is not None and not trt:
        raise ConfigError("TensorRT targets", "no engines are asked for", "add --trt")
    tensorrt.check(trt_target or ())
    onnx.check_opset(opset)
    card = run.read_card()
    kept = choices.exits(card, exits, what)
    final = root / choices.name(name, run.name)
    source = read(run, card, progress)
    failure = None
    with building(final) as folder:
        manifest, fitted = _write_network(folder, source, kept, opset, progress)
        proof = _prove(folder, source, manifest, fitted, progress)
        if trt:
            try:
                manifest = engines.write(folder, manifest, trt_target, progress)
            except ExportError as error:  # the bundle without engines is still worth having
                failure = error
        write_manifest(folder, manifest)
        manifest = read_manifest(folder)
    _note(run, final, proof, fitted)
    if failure is not None:
        do = f"{failure.do}; {final} was written without engines"
        raise ExportError(failure.asked, failure.found, do) from failure
    warning = costs.warning(source.costs, card.heads, kept)
    notes = () if warning is None else (warning,)
    return ExportReport(final, proof, manifest, fitted.chosen, notes)


def _write_network(
    folder: Path, source: Source, kept: tuple[int, ...], opset: int | None, progress: Progress
) -> tuple[Manifest, fit.Fit]:
    """Write one ONNX file per kept exit, policy and sweep; return the manifest so far."""
    card = source.card
    pieces = segments.cut(source.network, kept)
    shapes = segments.input_shapes(pieces, card.image.height, card.image.width)
    macs = source.costs.segments(kept)
    made, opsets = [], {}
    for piece, shape, cost in zip(pieces, shapes, macs, strict=True):
        written = onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx", opset)
        made.append(Segment(piece.exit, written.path.name, shape, cost))
        opsets[written.path.name] = written.opset
        size = written.path.stat().st_size / 1e6
        progress(f"{written.path.name}: exit {piece.exit}, {size:.1f} MB, opset {written.opset}")
    fitted = fit.fit(source.scores, kept, source.costs.leaving(kept))
    fitted.policy.write(folder / POLICY)
    fit.write_sweep(folder / SWEEP, fitted)
    manifest = Manifest(
        name=source.run.name,
        network=source.digest,
        arch=card.arch,
        method=card.method,
        classes=card.classes,
        image=card.image,
        segments=tuple(made),
        plain_macs=source.costs.plain,
        files={},
        origin=_origin(source, opsets),
    )
    return manifest, fitted


def _origin(source: Source, opsets: dict[str, int]) -> dict[str, Any]:  # Any: JSON values
    return {
        "exitkit": exitkit.__version__,
        "commit": machine.commit(),
        "machine": machine.describe(),
        "run": source.run.name,
        "data": source.sets.name,
        "trained_exits": list(source.card.exits),
        "opset": opsets,
        "engines": [],
    }


def _prove(
    folder: Path, source: Source, manifest: Manifest, fitted: fit.Fit, progress: Progress
) -> Parity:
    reference = trained.reference(source.network, manifest.exits, source.sets.tune, manifest.image)
    proof = parity.check(folder, manifest, fitted.policy, reference)
    proof.require()
    reference.fitting().save(folder / REFERENCE)
    write_text(folder / PARITY, json.dumps(proof.to_json(), indent=2) + "\n")
    worst = max(row.difference for row in proof.exits)
    compared, near = (sum(getattr(row, k) for row in proof.exits) for k in ("decisions", "near"))
    progress(
        f"parity: {proof.images} images, logits off by {worst:.1e} at most, {compared - near} "
        f"decisions equal, {near} too near a threshold to tell"
    )
    return proof


def _note(run: Run, final: Path, proof: Parity, fitted: fit.Fit) -> None:
    Journal(run.journal).write(
        "export",
        bundle=str(final),
        exits=list(fitted.policy.exits),
        parity=proof.to_json(),
        chosen=dataclasses.asdict(fitted.chosen),
    )
