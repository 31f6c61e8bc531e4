"""Gather what a report is made from: scores, test images, times; what is missing is measured."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import exitkit
from exitkit import images, machine, scores
from exitkit.bundle import MANIFEST, Segment, read_manifest
from exitkit.cli import benching, output
from exitkit.cli.output import Outcome
from exitkit.data.split import Test
from exitkit.engine import ort, timing
from exitkit.engine.engine import Engine
from exitkit.engine.model import Model
from exitkit.engine.timing import Costs
from exitkit.errors import BundleError, DataError
from exitkit.export import onnx, segments
from exitkit.models import costs
from exitkit.models.exitnet import ExitNet
from exitkit.policy import metrics
from exitkit.policy.policy import Policy
from exitkit.report import collect, frontier, latency, page
from exitkit.report.collect import Evidence, Findings, Static
from exitkit.report.latency import Timing
from exitkit.runs import Run
from exitkit.scores import Scores
from exitkit.train import checkpoint, evaluate, origin

BATCH_SIZES = (1, 8, 32)


@dataclass(frozen=True)
class Source:
    """A run and its bundle, read once."""

    run: Run
    model: Model
    network: ExitNet
    digest: str
    test: Test
    data: str


def report(run: Run, bundle: Path, folder: Path) -> Outcome:
    """Measure what is missing, write the report into `folder`, return what it says."""
    source = read(run, bundle)
    found = collect.findings(gather(source))
    shown = {one.row for one in (*found.first, *found.last)}
    pictures = {row: _png(source, row) for row in shown}
    html, png = page.write(found, pictures, folder)
    return outcome(found, html, png)


def read(run: Run, bundle: Path) -> Source:
    """Read a run and its bundle.

    Raises:
        BundleError: the bundle was exported from another network than the run's.
    """
    model = exitkit.load(bundle)
    network, digest = evaluate.trained(run)
    if model.manifest.network != digest:
        raise BundleError(
            f"a report on run {run.name} with bundle {bundle.name}",
            f"the bundle was exported from other weights (of run {model.manifest.name})",
            f"run exitkit export {run.name}, or name the run and its --bundle",
        )
    sets = origin.load(run)
    return Source(run, model, network, digest, sets.test, sets.name)


def gather(source: Source) -> Evidence:
    """Return scores, costs and times of a run and its bundle; measure on this machine."""
    run, manifest = source.run, source.model.manifest
    tune, test = (_scores(source, split) for split in ("tune", "test"))
    card = run.read_card()
    counted = costs.count(source.network, card.image.height)
    statics = tuple(Static(k, counted.leaving((k,))[0]) for k in card.exits)
    swept, cut = _times(source, collect.kept(tune, manifest), [static.exit for static in statics])
    config = checkpoint.read_config(run)
    return Evidence(
        run=run.name,
        data=source.data,
        card=card,
        # People know a bundle by its folder; the manifest has the name of its run.
        manifest=dataclasses.replace(manifest, name=source.model.folder.name),
        policy=source.model.policy,
        tune=tune,
        test=test,
        statics=tuple(dataclasses.replace(s, timing=cut[s.exit]) for s in statics),
        swept=swept,
        conditions={
            **machine.describe(),
            "exitkit": exitkit.__version__,
            "commit": machine.commit(),
            "seed": config.seed,
        },
        costs=_costs(source),
    )


def outcome(found: Findings, html: Path, png: Path) -> Outcome:
    """Return what the report says, for programs and for people."""
    verdict, reached, timing_ = frontier.verdict(found), found.reached, found.timing
    table = {
        "html": str(html),
        "png": str(png),
        "run": found.evidence.run,
        "bundle": found.evidence.manifest.name,
        "pays": verdict.pays,
        "verdict": verdict.headline,
        "reasons": list(verdict.reasons),
        "threshold": reached.threshold,
        "accuracy": reached.accuracy,
        "mean_macs": reached.mean_macs,
        "shares": dict(zip(map(str, found.evidence.manifest.exits), reached.shares, strict=True)),
        "measured": None if timing_ is None else dataclasses.asdict(timing_),
        "static": [dataclasses.asdict(rival) for rival in found.rivals],
        "exits": [dict(row) for row in found.exits],
        "published": metrics.as_published(found.evidence.test),
    }
    serve = f"exitkit serve {found.evidence.manifest.name}"
    early = len(reached.shares) > 1  # with a single exit there is no threshold to recommend
    words = [
        verdict.headline,
        *(f"  {reason}" for reason in verdict.reasons),
        *([f"recommended: {serve} --threshold {reached.threshold:.4g}"] if early else []),
        "",
        f"report: {html}",
        f"figure: {png}",
    ]
    return Outcome(table, "\n".join(words))


def _scores(source: Source, split: scores.SplitName) -> Scores:
    """Read the scores of exactly these weights, or compute them."""
    path = source.run.scores(split)
    if path.exists():
        table = scores.load(path, split)
        if table.network == source.digest:
            return table
    output.note(f"evaluating the {split} split")
    return evaluate.evaluate(source.run, split)


def _costs(source: Source) -> Costs:
    """Read this machine's table of the bundle, or measure it and leave it there."""
    path = timing.path_of(source.model.folder)
    try:
        table = timing.read(path, source.digest)
        if table.exits == source.model.manifest.exits:
            return table
    except BundleError:
        output.note(f"measuring the segments of bundle {source.model.folder.name}")
    table = benching.cost_table(source.model.engine, BATCH_SIZES)
    timing.write(path, table)
    return table


def _times(
    source: Source, tune: Scores, exits: Sequence[int]
) -> tuple[dict[float, Timing], dict[int, Timing]]:
    """Time the engine over the sweep, and the network cut at each exit, in the same rounds."""
    thresholds = collect.thresholds_to_measure(tune, source.model.policy)
    output.note(f"measuring {len(thresholds)} thresholds and {len(exits)} networks cut at one exit")
    engines: dict[str, Engine] = {
        f"threshold {t!r}": source.model.engine.with_policy(source.model.policy.with_threshold(t))
        for t in thresholds
    }
    with tempfile.TemporaryDirectory() as name:
        engines |= {f"cut {k}": _cut(source, k, Path(name)) for k in exits}
    answers: dict[str, Callable[[latency.Images], object]] = {
        name: engine.answer for name, engine in engines.items()
    }
    found = latency.measure(answers, _images(source))
    swept = {t: found[f"threshold {t!r}"] for t in thresholds}
    return swept, {k: found[f"cut {k}"] for k in exits}


def _cut(source: Source, number: int, folder: Path) -> Engine:
    """Return the network cut at one exit, in the same runtime as the bundle.

    Exporting takes seconds, so a bundle of just this exit that lies beside is taken first, and
    the bundle's own first segment, which is the same network.
    """
    alone = Policy(source.digest, (number,), (), (1.0,))
    beside = _bundle_beside(source, number)
    if beside is not None:
        return exitkit.load(beside).engine.with_policy(alone)
    manifest = source.model.manifest
    if number == manifest.exits[0]:
        return Engine(source.model.engine.segments[:1], alone)
    (piece,) = segments.cut(source.network, (number,))
    shape = (3, manifest.image.height, manifest.image.width)
    file = f"cut_{number}.onnx"
    onnx.write(piece, shape, folder / file)
    single = (Segment(number, file, shape, 0),)
    loaded = ort.load(folder, dataclasses.replace(manifest, segments=single))
    return Engine(loaded, alone)


def _bundle_beside(source: Source, number: int) -> Path | None:
    """Return a bundle of the same weights that has this one exit."""
    for path in sorted(source.model.folder.parent.glob(f"*/{MANIFEST}")):
        try:
            found = read_manifest(path.parent)
        except BundleError:
            continue  # another bundle may be damaged, it is not the one that was asked about
        if (found.network, found.exits) == (source.digest, (number,)):
            return path.parent
    return None


def _images(source: Source) -> NDArray[np.float32]:
    """Return some test images, evenly spread, as the network takes them."""
    if len(source.test) == 0:
        raise DataError(f"test images of run {source.run.name}", "there are none", "add some")
    count = min(len(source.test), latency.MOST_IMAGES)
    rows = np.linspace(0, len(source.test) - 1, count).round().astype(int)
    spec = source.model.manifest.image
    pixels = np.stack([images.decode(source.test.encoded(int(row)), spec) for row in rows])
    return images.normalise(pixels, spec)


def _png(source: Source, row: int) -> bytes:
    """Return a test image as the network sees it, as a PNG file."""
    return images.encode_png(images.decode(source.test.encoded(row), source.model.manifest.image))
