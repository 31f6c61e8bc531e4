"""From a run to a bundle: cut, export, fit, prove, build engines, publish."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exitkit.atomic import write_text
from exitkit.bundle import (
    PARITY,
    POLICY,
    REFERENCE,
    SWEEP,
    Manifest,
    read_manifest,
    write_manifest,
)
from exitkit.errors import ConfigError, ExportError
from exitkit.export import (
    choices,
    composed,
    converted,
    earlier,
    engines,
    fit,
    onnx,
    parity,
    proven,
    staged,
    tensorrt,
    trained,
)
from exitkit.export.converted import Converted
from exitkit.export.forms.check import FormCheck
from exitkit.export.parity import Parity
from exitkit.export.precision.change import Change
from exitkit.export.publish import building
from exitkit.export.reference import Reference
from exitkit.export.source import Progress, Source, read
from exitkit.export.triton import place, repository, whole
from exitkit.journal import Journal
from exitkit.models import costs
from exitkit.policy.solvers import Point
from exitkit.runs import BUNDLES, Run

log = logging.getLogger(__name__)

NO_IMAGES = "no images travel with the bundle, so --verify cannot repeat the gate"


@dataclass(frozen=True)
class ExportReport:
    """What an export gave.

    Attributes:
        folder: the bundle.
        parity: what the gate found.
        forms: what it found of the other forms.
        change: what another precision changed; None in float32.
        manifest: as it was written.
        chosen: the operating point of the bundle's policy on the tune split.
        repository: Triton's, where one was asked for.
        notes: what the user should know.
    """

    folder: Path
    parity: Parity
    forms: tuple[FormCheck, ...]
    change: Change | None
    manifest: Manifest
    chosen: Point
    repository: Path | None
    notes: tuple[str, ...]


def export(
    run: Run,
    *,
    exits: Sequence[int] | None = None,
    what: str = "network",
    precision: str = "float32",
    forms: Sequence[str] = (),
    opset: int | None = None,
    trt: bool = False,
    trt_target: Sequence[str] | None = None,
    triton: Path | None = None,
    name: str | None = None,
    images: bool = True,
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
        precision: "float32", "fp16" (float16 inside the segments) or "int8" (calibrated with
            images of the tune split). Temperatures and thresholds are fitted again.
        forms: others than the staged one, which is always there: "cascade" (one file that exits
            by itself, row by row), "chain" (the whole batch at once) or "all" (every exit).
        opset: version of ONNX's operator set; the exporter's own choice where not given.
        trt: whether to build a TensorRT engine per segment as well.
        trt_target: compute capabilities to build for ahead of time, such as "sm89".
        triton: folder for a model repository of NVIDIA's Triton, made of the finished bundle.
        name: of the bundle; the run's where not given, with `what` behind it for a part.
        images: whether those that the gate compared travel in the bundle, with which any machine
            can repeat it.
        root: folder of bundles.
        progress: told one line per step.

    Raises:
        ConfigError: unknown exits, targets or names, or a bundle of another run's network has
            this one's name; nothing is written.
        ParityError: the export decides differently; nothing is written, an older bundle stays.
        ExportError: the ONNX exporter refuses the network (nothing is written), or TensorRT
            cannot build, or Triton cannot take it: then the bundle is written, complete, and
            what would come after that is not.
    """
    if trt_target is not None and not trt:
        raise ConfigError("TensorRT targets", "no engines are asked for", "add --trt")
    tensorrt.check(trt_target)
    onnx.check_opset(opset)
    converted.check(precision)
    others = composed.names(forms)
    card = run.read_card()
    kept = choices.exits(card, exits, what)
    final = root / choices.name(name, run.name, what)
    if triton is not None:
        repository.labels(card.classes)  # refuses those that Triton cannot take
    failure = engines.missing(trt_target) if trt else None
    building_engines = trt and failure is None
    if failure is not None:
        progress(f"{failure.asked}: {failure.found}; the bundle will be written without engines")
    source = read(run, card, progress)
    networks = (source.digest, *source.earlier)
    earlier.require_own(final, networks)
    if triton is not None:
        place.check(triton, final.name, networks)
    if final.exists():
        progress(earlier.told(final, engines=building_engines))
    with building(final) as folder:
        manifest = staged.write(folder, source, kept, opset, progress)
        reference = trained.reference(source.network, kept, source.sets.tune, card.image)
        if images:
            reference.fitting().save(folder / REFERENCE)
        macs = source.costs.leaving(kept)
        made = converted.write(
            folder, manifest, source, precision, macs, tensorrt=building_engines, progress=progress
        )
        manifest, fitted = made.manifest, made.fitted
        fitted.policy.require(manifest.network, manifest.exits)
        fitted.policy.write(folder / POLICY)
        fit.write_sweep(folder / SWEEP, fitted)
        manifest = composed.write(folder, manifest, fitted.policy, others, progress)
        proof, checks = _prove(folder, manifest, made, reference, progress)
        if building_engines:
            try:
                manifest = engines.write(folder, manifest, trt_target, progress)
            except ExportError as error:  # the bundle without engines is still worth having
                failure = error
        write_manifest(folder, manifest)
        manifest = read_manifest(folder)
    told = _note(source, final, proof, fitted)
    warning = costs.warning(source.costs, card.heads, kept)
    carried = _carried(reference) if images else NO_IMAGES
    notes = (carried, *made.notes, *filter(None, (warning, told)))
    if failure is not None:
        for note in notes:
            progress(note)
        left = "" if triton is None else f", and no Triton model repository in {triton}"
        do = f"{failure.do}; {final} was written without engines{left}"
        raise ExportError(failure.asked, failure.found, do) from failure
    if triton is not None:
        whole.of_bundle(final, triton, images=reference.fitting())
        progress(f"Triton model repository: {triton}")
    return ExportReport(final, proof, checks, made.change, manifest, fitted.chosen, triton, notes)


def _prove(
    folder: Path,
    manifest: Manifest,
    made: Converted,
    reference: Reference,
    progress: Progress,
) -> tuple[Parity, tuple[FormCheck, ...]]:
    """Ask the gate about the segments and every other form; nothing that fails is kept."""
    policy = made.fitted.policy
    proof = parity.check(folder, manifest, policy, reference)
    proof.require()
    progress(f"parity: {proof.summary}")
    forms = []
    for form in proven.prove(folder, manifest, policy, reference):
        form.require()
        forms.append(form)
        progress(
            f"parity of {form.file}: {form.images} images, {form.decisions - form.near} decisions "
            f"equal to the segments', {form.near} too near a threshold to tell"
        )
    table = proof.to_json() | {"forms": [form.to_json() for form in forms]}
    if made.change is not None:
        table["change"] = made.change.to_json()
    write_text(folder / PARITY, json.dumps(table, indent=2) + "\n")
    return proof, tuple(forms)


def _carried(reference: Reference) -> str:
    return f"{REFERENCE} holds {len(reference.fitting())} images of the tune split"


def _note(source: Source, final: Path, proof: Parity, fitted: fit.Fit) -> str | None:
    """Write the export into the run's journal; return what to say where that is not allowed."""
    try:
        Journal(source.run.journal).write(
            "export",
            network=source.digest,
            bundle=str(final),
            exits=list(fitted.policy.exits),
            parity=proof.to_json(),
            chosen=dataclasses.asdict(fitted.chosen),
        )
    except OSError as error:  # the bundle is there and complete: another's run, or a full disk
        return f"the journal of run {source.run.name} does not tell of this export ({error})"
    return None
