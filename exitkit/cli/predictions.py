"""Answers for image files, in pieces that fit into memory, as rows of a table."""

import csv
from pathlib import Path

import exitkit
from exitkit.atomic import replacing
from exitkit.cli.output import Outcome
from exitkit.errors import DataError
from exitkit.report import tables

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
AT_ONCE = 64
COLUMNS = (
    tables.Column("file", "file"),
    tables.Column("label", "label"),
    tables.Column("probability", "probability", ".4f"),
    tables.Column("exit", "exit"),
    tables.Column("ms", "ms", ".2f"),
)
Answer = dict[str, str | int | float | bool | None]


def files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted, or the one file that was named.

    Raises:
        DataError: there is nothing of that name, or no image below it.
    """
    if folder.is_file():
        return [folder]
    if not folder.exists():
        raise DataError(f"images in {folder}", "there is no such folder", "name another one")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(
            f"images in {folder}",
            "it holds no .png, .jpg, .jpeg or .webp file",
            "name the folder that does",
        )
    return found


def ask(bundle: Path, folder: Path, threshold: float | None, provider: str = "cpu") -> list[Answer]:
    """Classify the images of a folder with a bundle."""
    paths = files(folder)
    model = exitkit.load(bundle, threshold=threshold, provider=provider)
    answers: list[Answer] = []
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        for path, answer in zip(some, model.predict(some), strict=True):
            answers.append(
                {
                    "file": str(path),
                    "label": answer.label,
                    "probability": answer.probability,
                    "exit": answer.exit,
                    "ms": answer.ms,
                }
            )
    return answers


def write_csv(answers: list[Answer], path: Path) -> None:
    """Write the answers as a CSV file, whole or not at all."""
    names = [column.key for column in COLUMNS]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(answers)


def outcome(bundle: str, answers: list[Answer]) -> Outcome:
    """Return the answers for programs and for people."""
    return Outcome({"bundle": bundle, "answers": answers}, tables.text(answers, COLUMNS))
