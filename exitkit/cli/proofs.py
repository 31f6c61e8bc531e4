"""What a bundle's parity.json says: of its segments, its other forms and its precision."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitkit import bundle
from exitkit.errors import BundleError
from exitkit.export.precision import change
from exitkit.report.tables import Column, Row

CHANGE = (
    Column("answer", "answer of"),
    Column("accuracy before", "accuracy in float32", ".2%"),
    Column("accuracy after", "now", ".2%"),
    Column("share before", "left here in float32", ".1%"),
    Column("share after", "now", ".1%"),
)

_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Proof:
    """What the export compared.

    Attributes:
        table: of parity.json.
        words: one sentence about the segments against the trained network.
        forms: file of a form -> what it did against the segments.
        change: accuracy and exit shares before and after another precision; empty in float32.
    """

    table: dict[str, Any]  # Any: JSON values
    words: str
    forms: dict[str, Row]
    change: Sequence[Row]


def read(folder: Path) -> Proof:
    """Read the proof of a bundle.

    Raises:
        BundleError: there is none, or it says something else than exports write.
    """
    path = folder / bundle.PARITY
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        forms = {str(row["file"]): _form(row) for row in table.get("forms", ())}
        changed = change.rows(table["change"]) if table.get("change") else []
        return Proof(table, _words(table), forms, changed)
    except _DAMAGED as error:
        raise BundleError(str(path), f"no proof ({error!r})", "export it again") from error


def _words(table: dict[str, Any]) -> str:
    decided, near = (sum(row[key] for row in table["exits"]) for key in ("decisions", "near"))
    verdict = "passed" if table["passed"] else "FAILED"
    return (
        f"parity at export: {verdict}, {int(table['images'])} images of the {table['split']} "
        f"split, {decided - near} decisions compared, {near} too near a threshold to tell; "
        "`exitkit export --verify` repeats it here"
    )


def _form(row: dict[str, Any]) -> Row:
    differ = sum(int(count) for what, count in row.items() if what.endswith("_different"))
    return {
        "images": int(row["images"]),
        "compared": int(row["decisions"]) - int(row["near"]),
        "near": int(row["near"]),
        "differ": differ,
    }
