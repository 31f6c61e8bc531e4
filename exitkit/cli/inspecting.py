"""What `exitkit inspect` says about a bundle."""

import json
from pathlib import Path
from typing import Any

from exitkit import bundle
from exitkit.bundle import Manifest
from exitkit.cli.output import Outcome
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
OTHERS = (Column("kind", "form"), Column("file", "file"), Column("mb", "MB", ",.2f"))
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
        BundleError: no bundle there, a file missing, damaged or edited, another's policy.
    """
    manifest = bundle.read_manifest(folder)
    policy = Policy.read(folder / bundle.POLICY)
    policy.require(manifest.network, manifest.exits)
    segments, engines = _segments(folder, manifest, policy), _engines(folder, manifest)
    forms: list[Row] = [
        {"kind": kind, "file": file, "mb": _megabytes(folder / file)}
        for kind, file in manifest.forms.items()
    ]
    proof = _proof(folder)
    size, image = sum(map(_megabytes, folder.iterdir())), manifest.image
    words = [
        f"bundle {folder.name} ({folder}), {size:,.1f} MB, schema {manifest.schema}",
        f"{manifest.method} on {manifest.arch}, {len(manifest.classes)} classes, images "
        f"{image.height}x{image.width}, precision {manifest.precision}",
        "",
        tables.text(segments, SEGMENTS),
        f"without early exits: {manifest.plain_macs / 1e6:,.2f} M MACs",
    ]
    for rows, columns in ((forms, OTHERS), (engines, ENGINES)):
        words += ["", tables.text(rows, columns)] if rows else []
    words += ["", _told(proof), *_origin(manifest)]
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
        "parity": proof,
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


def _proof(folder: Path) -> dict[str, Any]:  # Any: JSON values
    path = folder / bundle.PARITY
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _told(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(str(path), f"no proof ({error!r})", "export it again") from error
    return table


def _told(proof: dict[str, Any]) -> str:
    decided, near = (sum(row[key] for row in proof["exits"]) for key in ("decisions", "near"))
    verdict = "passed" if proof["passed"] else "FAILED"
    return (
        f"parity at export: {verdict}, {proof['images']} images of the {proof['split']} split, "
        f"{decided - near} decisions compared, {near} too near a threshold to tell; "
        "`exitkit export --verify` repeats it here"
    )


def _origin(manifest: Manifest) -> list[str]:
    """Say where the bundle comes from; its values are for people, so any may be missing."""
    origin = manifest.origin
    machine = origin.get("machine", {})
    pruned = origin.get("pruned")
    less = f"pruned from run {pruned['run']} at ratio {pruned['ratio']:g}, " if pruned else ""
    opsets = ", ".join(sorted({str(opset) for opset in origin.get("opset", {}).values()}))
    return [
        f"{less}from run {origin.get('run', '?')} on {origin.get('data', '?')}, trained exits "
        f"{', '.join(map(str, origin.get('trained_exits', ())))}, weights {manifest.network[:12]}",
        f"exported by exitkit {origin.get('exitkit', '?')} (commit "
        f"{str(origin.get('commit') or 'unknown')[:10]}), torch {machine.get('torch', '?')}, "
        f"opset {opsets or '?'}",
    ]


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
