"""`exitkit report`: one page that says what early exit saves and costs."""

from pathlib import Path

import click

from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit report",
        "exitkit report mate-mobilenetv2-1 --bundle mate-mobilenetv2-1",
        "exitkit report --json",
    ),
)
@click.argument("run", required=False)
@click.option("--bundle", help="bundle of that run  [default: the latest]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="folder for report.html and report.png  [default: the run's]",
)
@output.json_option
def command(run: str | None, bundle: str | None, out: Path | None, as_json: bool) -> None:
    """Write report.html and report.png about RUN (the latest if none is named).

    Accuracy against measured latency and against multiply-adds as the threshold sweeps, the
    networks cut at each exit for comparison, where the images leave, how far each exit's
    confidence can be trusted, and a verdict. What is missing is measured first.
    """
    from exitkit import runs
    from exitkit.cli import evidence

    found = runs.find(run)
    folder = runs.find_bundle(bundle)
    output.note(f"reporting on run {found.name} ({found.folder}) and bundle {folder.name}")
    output.result(evidence.report(found, folder, found.folder if out is None else out), as_json)
