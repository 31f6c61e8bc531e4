"""`exitkit predict`: classify a folder of images without a server."""

from pathlib import Path

import click

from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit predict photos",
        "exitkit predict photos --csv answers.csv",
        "exitkit predict one.png --bundle mate-mobilenetv2-1 --threshold 0.8 --json",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--bundle", help="bundle to ask  [default: the latest]")
@click.option("--threshold", type=float, help="confidence at which an image leaves, 0 to 1")
@click.option("--csv", "table", type=click.Path(path_type=Path, dir_okay=False), help="write here")
@output.provider_option
@output.json_option
def command(
    folder: Path,
    bundle: str | None,
    threshold: float | None,
    table: Path | None,
    provider: str,
    as_json: bool,
) -> None:
    """Classify FOLDER, or one image file: label, probability and the exit that answered.

    Takes every PNG, JPEG and WebP file below FOLDER, in the order of their names. One file that
    is no image stops it, with its path.
    """
    from exitkit import runs
    from exitkit.cli import predictions

    found = runs.find_bundle(bundle)
    output.note(f"asking bundle {found.name} ({found})")
    answers = predictions.ask(found, folder, threshold, provider)
    if table is not None:
        predictions.write_csv(answers, table)
        output.note(f"wrote {len(answers)} answers to {table}")
    if table is None or as_json:
        output.result(predictions.outcome(found.name, answers), as_json)
