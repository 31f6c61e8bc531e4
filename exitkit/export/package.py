"""From a run to a bundle: cut, export, fit, prove, build engines, publish."""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import exitkit
from exitkit import machine, scores
from exitkit.atomic import write_text
from exitkit.bundle import PARITY, POLICY, SWEEP, Manifest, Segment, read_manifest, write_manifest
from exitkit.data.split import DataSets
from exitkit.errors import ConfigError, DataError, ExportError
from exitkit.export import choices, fit, onnx, parity, segments, tensorrt
from exitkit.export.parity import Parity
from exitkit.export.publish import building
from exitkit.journal import Journal
from exitkit.models import costs
from exitkit.models.exitnet import ExitNet
from exitkit.policy.solvers import Point
from exitkit.runs import BUNDLES, NetworkCard, Run
from exitkit.scores import Scores
from exitkit.train import evaluate, origin

log = logging.getLogger(__name__)

Progress = Callable[[str], None]


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


@dataclass(frozen=True)
class _Source:
    """What a run holds, read once."""

    run: Run
    card: NetworkCard
    network: ExitNet
    digest: str
    costs: costs.Costs
    sets: DataSets
    scores: Scores


def export(
    run: Run,
    *,
    exits: Sequence[int] | None = None,
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
    card = run.read_card()
    kept = choices.exits(card, exits)
    final = root / choices.name(name, run.name)
    source = _read(run, card, progress)
    failure = None
    with building(final) as folder:
        manifest, fitted = _write_network(folder, source, kept, progress)
        proof = _prove(folder, source, manifest, fitted, progress)
        if trt:
            try:
                manifest = _write_engines(folder, manifest, trt_target, progress)
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


def _read(run: Run, card: NetworkCard, progress: Progress) -> _Source:
    network, digest = evaluate.trained(run)
    sets = origin.load(run)
    if len(sets.tune) == 0:
        raise DataError(
            f"export of run {run.name}",
            "no training images were held out, so there is nothing to fit thresholds on",
            "train with --set tune_share=0.1",
        )
    network.to(memory_format=torch.channels_last)  # as evaluation has it
    counted = costs.count(network, card.image.height)
    return _Source(run, card, network, digest, counted, sets, _scores(run, digest, progress))


def _scores(run: Run, digest: str, progress: Progress) -> Scores:
    """Return the tune scores of exactly these weights; an interrupted run has none yet."""
    if run.scores("tune").exists():
        table = scores.load(run.scores("tune"), "tune")
        if table.network == digest:
            return table
    progress(f"scoring the tune split with the weights of {run.name}")
    return evaluate.evaluate(run, "tune")


def _write_network(
    folder: Path, source: _Source, kept: tuple[int, ...], progress: Progress
) -> tuple[Manifest, fit.Fit]:
    """Write one ONNX file per kept exit, policy and sweep; return the manifest so far."""
    card = source.card
    pieces = segments.cut(source.network, kept)
    shapes = segments.input_shapes(pieces, card.image.height, card.image.width)
    macs = source.costs.segments(kept)
    made, opsets = [], {}
    for piece, shape, cost in zip(pieces, shapes, macs, strict=True):
        written = onnx.write(piece, shape, folder / f"segment_{piece.exit}.onnx")
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


def _origin(source: _Source, opsets: dict[str, int]) -> dict[str, Any]:  # Any: JSON values
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
    folder: Path, source: _Source, manifest: Manifest, fitted: fit.Fit, progress: Progress
) -> Parity:
    proof = parity.check(source.network, folder, manifest, fitted.policy, source.sets.tune)
    proof.require()
    write_text(folder / PARITY, json.dumps(proof.to_json(), indent=2) + "\n")
    worst = max(row.difference for row in proof.exits)
    compared, near = (sum(getattr(row, k) for row in proof.exits) for k in ("decisions", "near"))
    progress(
        f"parity: {proof.images} images, logits off by {worst:.1e} at most, {compared - near} "
        f"decisions equal, {near} too near a threshold to tell"
    )
    return proof


def _write_engines(
    folder: Path, manifest: Manifest, targets: Sequence[str] | None, progress: Progress
) -> Manifest:
    """Build an engine per segment; all of them or none."""
    builder = tensorrt.find(targets)
    built: list[tensorrt.EngineFile] = []
    try:
        for segment in manifest.segments:
            file = folder / segment.file
            built.append(tensorrt.build(builder, file, file.with_suffix(".engine")))
            progress(f"{built[-1].file}: {built[-1].builder} for {', '.join(builder.targets)}")
    except ExportError:
        for engine in built:
            (folder / engine.file).unlink()
        raise
    return dataclasses.replace(
        manifest,
        segments=tuple(
            dataclasses.replace(segment, engine=engine.file)
            for segment, engine in zip(manifest.segments, built, strict=True)
        ),
        origin={**manifest.origin, "engines": [dataclasses.asdict(engine) for engine in built]},
    )


def _note(run: Run, final: Path, proof: Parity, fitted: fit.Fit) -> None:
    Journal(run.journal).write(
        "export",
        bundle=str(final),
        exits=list(fitted.policy.exits),
        parity=proof.to_json(),
        chosen=dataclasses.asdict(fitted.chosen),
    )
