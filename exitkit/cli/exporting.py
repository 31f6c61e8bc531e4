"""What `exitkit export` says about the bundle that it wrote."""

from exitkit.cli.output import Outcome
from exitkit.cli.proofs import CHANGE
from exitkit.export.package import ExportReport
from exitkit.report import tables
from exitkit.report.tables import Column, Row

SEGMENTS = (
    Column("exit", "exit"),
    Column("file", "file"),
    Column("engine", "TensorRT engine"),
    Column("mmacs", "MACs of the segment, M", ",.2f"),
    Column("share", "leave here", ".1%"),
    Column("accuracy", "of them right", ".1%"),
)


def exported(report: ExportReport) -> Outcome:
    """Describe a bundle that was just written."""
    manifest, chosen = report.manifest, report.chosen
    rows: list[Row] = [
        {
            "exit": segment.exit,
            "file": segment.file,
            "engine": segment.engine.file if segment.engine else "none",
            "macs": segment.macs,
            "mmacs": segment.macs / 1e6,
            "share": share,
            "accuracy": right,
        }
        for segment, share, right in zip(
            manifest.segments, chosen.shares, chosen.exit_accuracy, strict=True
        )
    ]
    parity = report.parity
    change: list[Row] = [] if report.change is None else [*report.change.rows()]
    words = [
        f"bundle {report.folder.name} ({report.folder})",
        "",
        tables.text(rows, SEGMENTS),
        "",
        f"on the tune split, computed: accuracy {chosen.accuracy:.2%} at "
        f"{chosen.mean_macs / 1e6:,.1f} M MACs an image; all images through the last exit "
        f"{chosen.deepest_accuracy:.2%}; without early exits {manifest.plain_macs / 1e6:,.1f} M",
        f"parity: {parity.summary}",
        *(
            f"{form}: {file}, takes the same exits in plain ONNX Runtime"
            for form, file in manifest.forms.items()
        ),
        *(
            ["", f"{manifest.precision} on the tune split:", tables.text(change, CHANGE)]
            * bool(change)
        ),
        *([f"Triton model repository: {report.repository}"] if report.repository else []),
        *report.notes,
        "next: exitkit serve",
    ]
    table = {
        "bundle": report.folder.name,
        "folder": str(report.folder),
        "exits": list(manifest.exits),
        "threshold": chosen.threshold,
        "accuracy": chosen.accuracy,
        "deepest_accuracy": chosen.deepest_accuracy,
        "mean_macs": chosen.mean_macs,
        "plain_macs": manifest.plain_macs,
        "segments": rows,
        "parity": parity.to_json(),
        "forms": [form.to_json() for form in report.forms],
        "change": None if report.change is None else report.change.to_json(),
        "triton": None if report.repository is None else str(report.repository),
        "notes": list(report.notes),
    }
    return Outcome(table, "\n".join(words))
