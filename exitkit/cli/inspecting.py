"""What `exitkit inspect` says about a bundle."""

from pathlib import Path

from exitkit import bundle
from exitkit.bundle import Manifest
from exitkit.cli import proofs
from exitkit.cli.output import Outcome
from exitkit.cli.proofs import Proof
from exitkit.errors import BundleError
from exitkit.policy.policy import Policy
from exitkit.report import tables
from exitkit.report.tables import Column, Row

SEGMENTS = (
    Column("exit", "exit"),
    Column("takes", "takes"),
    Column("mmacs", "MACs of the segment, M", ",.2f"),
    Column("total", "up to here, M", ",.2f"),
    Column("file", "file"),
    Column("mb", "MB", ",.2f"),
    Column("threshold", "leaves from", ".4g"),
    Column("temperature", "temperature", ".3f"),
)
FORMS = (
    Column("kind", "form"),
    Column("file", "file"),
    Column("mb", "MB", ",.2f"),
    Column("compared", "decisions compared"),
    Column("near", "too near to tell"),
    Column("differ", "differ from the segments'"),
)
ENGINES = (
    Column("file", "engine"),
    Column("mb", "MB", ",.2f"),
    Column("builder", "built by"),
    Column("for", "for"),
    Column("state", "state"),
)


def inspected(folder: Path) -> Outcome:
    """Describe a bundle; every file's digest is checked.

    Raises:
        BundleError: no bundle there, a file missing, damaged or edited, another's policy, or a
            manifest or proof that no export wrote.
    """
    manifest = bundle.read_manifest(folder)
    policy = Policy.read(folder / bundle.POLICY)
    policy.require(manifest.network, manifest.exits)
    segments, engines = _segments(folder, manifest, policy), _engines(folder, manifest)
    proof = proofs.read(folder)
    forms = _forms(folder, manifest, proof)
    listed = (bundle.MANIFEST, bundle.POLICY, *manifest.files)
    size, image = sum(_megabytes(folder / name) for name in listed), manifest.image
    lines = [
        f"bundle {folder.name} ({folder}), {size:,.1f} MB, schema {manifest.schema}",
        f"{manifest.method} on {manifest.arch}, {len(manifest.classes)} classes, images "
        f"{image.height}x{image.width}, precision {manifest.precision}",
    ]
    words = [
        *map(tables.plain, lines),
        "",
        tables.text(segments, SEGMENTS),
        f"without early exits: {manifest.plain_macs / 1e6:,.2f} M MACs",
    ]
    for rows, columns in ((forms, FORMS), (engines, ENGINES)):
        words += ["", tables.text(rows, columns)] if rows else []
    if proof.change:
        heading = f"{manifest.precision} against float32, at export on the tune split:"
        words += ["", heading, tables.text(proof.change, proofs.CHANGE)]
    words += ["", *map(tables.plain, (proof.words, *_origin(folder, manifest)))]
    table = {
        "bundle": folder.name,
        "folder": str(folder),
        "schema": manifest.schema,
        "arch": manifest.arch,
        "method": manifest.method,
        "classes": list(manifest.classes),
        "precision": manifest.precision,
        "plain_macs": manifest.plain_macs,
        "segments": segments,
        "forms": forms,
        "engines": engines,
        "policy": policy.to_json(),
        "parity": proof.table,
        "origin": manifest.origin,
    }
    return Outcome(table, "\n".join(words))


def _segments(folder: Path, manifest: Manifest, policy: Policy) -> list[Row]:
    rows: list[Row] = []
    total = 0
    for position, piece in enumerate(manifest.segments):
        total += piece.macs
        rows.append(
            {
                "exit": piece.exit,
                "takes": "x".join(map(str, piece.input_shape)),
                "macs": piece.macs,
                "mmacs": piece.macs / 1e6,
                "total": total / 1e6,
                "file": piece.file,
                "mb": _megabytes(folder / piece.file),
                "threshold": (*policy.thresholds, None)[position],
                "temperature": policy.temperatures[position],
            }
        )
    return rows


def _engines(folder: Path, manifest: Manifest) -> list[Row]:
    """Return one row per engine; one that was built from another ONNX file is stale."""
    return [
        {
            "file": engine.file,
            "mb": _megabytes(folder / engine.file),
            "builder": f"{engine.builder} {engine.version}",
            "for": ", ".join(engine.targets) + (f" ({engine.device})" if engine.device else ""),
            "state": f"stale: not from this {piece.file}"
            if manifest.stale(piece)
            else f"from {piece.file}",
        }
        for piece in manifest.segments
        if (engine := piece.engine) is not None
    ]


def _forms(folder: Path, manifest: Manifest, proof: Proof) -> list[Row]:
    return [
        {"kind": kind, "file": file, "mb": _megabytes(folder / file), **proof.forms.get(file, {})}
        for kind, file in manifest.forms.items()
    ]


def _origin(folder: Path, manifest: Manifest) -> list[str]:
    """Say where the bundle comes from; its values are for people, so any may be missing."""
    origin = manifest.origin
    try:
        machine, pruned = origin.get("machine", {}), origin.get("pruned")
        less = f"pruned from run {pruned['run']} at ratio {pruned['ratio']:g}, " if pruned else ""
        opsets = ", ".join(sorted({str(opset) for opset in origin.get("opset", {}).values()}))
        return [
            f"{less}from run {origin.get('run', '?')} on {origin.get('data', '?')}, trained exits "
            f"{', '.join(map(str, origin.get('trained_exits', ())))}, weights "
            f"{manifest.network[:12]}",
            f"exported by exitkit {origin.get('exitkit', '?')} (commit "
            f"{str(origin.get('commit') or 'unknown')[:10]}), torch {machine.get('torch', '?')}, "
            f"opset {opsets or '?'}",
        ]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        path = folder / bundle.MANIFEST
        raise BundleError(
            str(path), f"was edited (its origin: {error!r})", "export it again"
        ) from error


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
